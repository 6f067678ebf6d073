//! Real DVC in one long-lived process (`oracle.py`), so that a test can ask it hundreds of times.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

/// What `dvc repro` did with a stage: `skipped`, `restored`, `run`, `saved` or `failed`, and the stage's address.
pub(crate) type Event = (String, String);

#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub changed: Option<BTreeMap<String, bool>>,
    pub events: Option<Vec<Event>>,
    pub error: Option<String>,
}

pub(crate) struct Oracle {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// DVC's databases, which end with the process.
    _site_cache: tempfile::TempDir,
}

impl Oracle {
    /// Starts the Python of the `dvc` on the `PATH`; `None` where there is no DVC.
    ///
    /// # Panics
    ///
    /// Where there is no DVC though `CI` is set.
    pub(crate) fn start() -> Option<Oracle> {
        let Some(python) = python_of_dvc() else {
            assert!(std::env::var_os("CI").is_none(), "the tests need `dvc` on the PATH");
            return None;
        };
        let site_cache = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/oracle.py"))
            .envs([("DVC_NO_ANALYTICS", "1"), ("PYTHONHASHSEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1")])
            .env("DVC_SITE_CACHE_DIR", site_cache.path())
            .env("DVC_GLOBAL_CONFIG_DIR", site_cache.path())
            .env("DVC_SYSTEM_CONFIG_DIR", site_cache.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python starts");
        let questions = process.stdin.take().expect("it is piped");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        Some(Oracle { process, questions, answers, _site_cache: site_cache })
    }

    /// Runs `dvc add data`.
    pub(crate) fn add(&mut self, root: &Path) {
        let answer = self.ask(root, "add");
        assert!(answer.error.is_none(), "{answer:?}");
    }

    /// Says what `dvc repro` would decide about each stage before anything runs; may delete damaged cache objects.
    pub(crate) fn changed(&mut self, root: &Path) -> Answer {
        self.ask(root, "changed")
    }

    /// Runs `dvc repro -P`.
    pub(crate) fn repro(&mut self, root: &Path) -> Answer {
        self.ask(root, "repro")
    }

    /// Runs `dvc repro -P --keep-going`.
    pub(crate) fn keep_going(&mut self, root: &Path) -> Answer {
        self.ask(root, "keep_going")
    }

    /// Runs `dvc import-url SOURCE OUT`.
    pub(crate) fn import(&mut self, root: &Path, source: &Path, out: &str) {
        let answer = self.put(&serde_json::json!({"root": root, "do": "import", "source": source, "out": out}));
        assert!(answer.error.is_none(), "{answer:?}");
    }

    fn ask(&mut self, root: &Path, what: &str) -> Answer {
        self.put(&serde_json::json!({"root": root, "do": what}))
    }

    fn put(&mut self, question: &serde_json::Value) -> Answer {
        writeln!(self.questions, "{question}").expect("Python listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("Python answers");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The interpreter in the first line of the program `dvc`.
pub(super) fn python_of_dvc() -> Option<PathBuf> {
    let dvc = std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join("dvc")).find(|dvc| dvc.is_file())?;
    let text = std::fs::read_to_string(dvc).ok()?;
    Some(PathBuf::from(text.lines().next()?.strip_prefix("#!")?.trim()))
}
