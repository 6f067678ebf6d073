//! DVC itself: finding it, its version, and the `dvc repro` of a worker; its files: cache, config, lock.

pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod facts;
pub(crate) mod files;
pub(crate) mod hash;
pub(crate) mod links;
pub(crate) mod lock;
pub(crate) mod script;
pub(crate) mod warm;

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::adapters::dvc::script::DvcScript;
use crate::adapters::process::{self, Program};
use crate::diagnostic::Diagnostic;
use crate::env;

/// The oldest DVC that works: lock entries with `hash: md5` and the cache below `files/md5` came with 3.0.
pub(crate) const MINIMUM_VERSION: (u32, u32, u32) = (3, 0, 0);

/// How long DVC may take to say its version: Python starts slowly from a network's file system.
const VERSION_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub(crate) enum DvcError {
    #[error("no `dvc` on the PATH")]
    NotFound,
    #[error("`{program}` does not work")]
    Broken { program: String, output: String },
    #[error("DVC {found} is too old: at least {} is needed", version_text(MINIMUM_VERSION))]
    TooOld { found: String },
}

impl From<DvcError> for Diagnostic {
    fn from(error: DvcError) -> Self {
        let diagnostic = Diagnostic::project(error.to_string());
        match error {
            DvcError::NotFound => diagnostic
                .hint("install it with `pip install 'dvc>=3'`, or activate the environment that has it")
                .hint(format!("or set {} to its path", env::DVC_FANOUT_DVC)),
            DvcError::Broken { output, .. } => {
                output.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().fold(diagnostic, Diagnostic::detail)
            }
            DvcError::TooOld { .. } => diagnostic.hint("upgrade it with `pip install --upgrade 'dvc>=3'`"),
        }
    }
}

fn version_text((major, minor, patch): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{patch}")
}

/// A `dvc` program that was found.
#[derive(Clone, Debug)]
pub(crate) struct Dvc {
    path: PathBuf,
}

/// How a worker's `dvc repro` differs from the plain one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReproOptions {
    pub force: bool,
    pub no_run_cache: bool,
    pub pull: bool,
}

impl Dvc {
    /// Finds the program: what the environment names, else the first on the `PATH`.
    pub(crate) fn find() -> Result<Dvc, DvcError> {
        if let Some(path) = env::read(env::DVC_FANOUT_DVC) {
            let path = PathBuf::from(path);
            return if is_program(&path) { Ok(Dvc { path }) } else { Err(DvcError::NotFound) };
        }
        let path = env::read(env::PATH).unwrap_or_default();
        let found = std::env::split_paths(&path).map(|directory| directory.join("dvc")).find(|path| is_program(path));
        found.map(|path| Dvc { path }).ok_or(DvcError::NotFound)
    }

    /// Where the program lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The program as a script that only starts DVC; `None` where it is something else.
    pub(crate) fn script(&self) -> Option<DvcScript> {
        DvcScript::read(&self.path)
    }

    /// Asks for the version and refuses one below the minimum.
    pub(crate) fn version(&self) -> Result<String, DvcError> {
        self.version_within(VERSION_LIMIT)
    }

    /// Like `version`, of a DVC that may not take longer than this.
    pub(crate) fn version_within(&self, limit: Duration) -> Result<String, DvcError> {
        let limit = limit.min(VERSION_LIMIT);
        let program = self.program().arg("--version").limit(limit);
        let broken = |output: String| DvcError::Broken { program: program.shown(), output };
        let output = process::output(&program, None).map_err(|error| broken(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let Some(version) = parse_version(&text).filter(|_| output.status.success()) else {
            return Err(broken(format!("{text}\n{}", String::from_utf8_lossy(&output.stderr))));
        };
        if version < MINIMUM_VERSION { Err(DvcError::TooOld { found: text }) } else { Ok(text) }
    }

    /// Tells this program from another one, and from itself after an upgrade, where a file can tell: the script's path,
    /// and when it and the packages beside it were changed.
    pub(crate) fn stamp(&self) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        let script = self.script()?;
        let modified = |path: &Path| {
            let metadata = path.metadata().ok()?;
            Some(format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()))
        };
        let packages = site_packages(&script.path)?;
        Some(format!("{} {} {}", script.path.display(), modified(&script.path)?, modified(&packages)?))
    }

    /// The `dvc repro` that runs all stages of a slot's workspace, or only some, one by one.
    ///
    /// `--keep-going` records the good stages of a work item whose other stages fail; `--wait-for-lock` since a
    /// command that starts DVC itself may hold the slot's lock when a stage ends. One by one, DVC reads nothing but the
    /// files of the stages that are named, and does not know which of them need which: it stops at the first failure.
    pub(crate) fn repro(&self, site_cache: &Path, options: ReproOptions, one_by_one: Option<&[&str]>) -> Program {
        let mut program = self.program().arg("--wait-for-lock").arg("repro").env(env::DVC_SITE_CACHE_DIR, site_cache);
        for (flag, on) in [
            ("--all-pipelines", one_by_one.is_none()),
            ("--keep-going", one_by_one.is_none()),
            ("--single-item", one_by_one.is_some()),
            ("--force", options.force),
            ("--no-run-cache", options.no_run_cache),
            ("--pull", options.pull),
        ] {
            if on {
                program = program.arg(flag);
            }
        }
        one_by_one.unwrap_or_default().iter().fold(program, |program, target| program.arg(*target))
    }

    /// Any other command.
    pub(crate) fn command(&self, arguments: &[&str]) -> Program {
        arguments.iter().fold(self.program(), |program, argument| program.arg(*argument))
    }

    fn program(&self) -> Program {
        // Statistics would start a process per call. The locale stays the user's, since commands inherit it; DVC's
        // messages are not translated.
        Program::new(OsString::from(&self.path)).env(env::DVC_NO_ANALYTICS, "1")
    }
}

/// Returns where the Python installation of a program keeps its packages.
pub(crate) fn site_packages(program: &Path) -> Option<PathBuf> {
    let library = program.canonicalize().ok()?.parent()?.parent()?.join("lib");
    let pythons = std::fs::read_dir(library).ok()?.flatten().map(|entry| entry.path().join("site-packages"));
    pythons.into_iter().find(|packages| packages.join("dvc").is_dir())
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Reads `3.67.1`, also with a suffix like `3.67.2.dev3+g123`; a missing part is 0.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.trim().split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    let major = parts.next()??;
    Some((major, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)))
}

/// What the output of `dvc repro --keep-going` says of stages, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReproLog {
    pub running: HashSet<String>,
    pub restored: HashSet<String>,
    pub unchanged: HashSet<String>,
    /// The failed stages as DVC lists them in its last lines, still quoted.
    failed: String,
    /// DVC's warnings about commands and files, by the stage that ran last before.
    reasons: Vec<(String, String)>,
    /// The last error that is not about stages.
    pub error: Option<String>,
}

impl ReproLog {
    /// Picks DVC's lines out of the log of one `dvc repro`, which commands write to as well, be it half a line before one
    /// of DVC's.
    ///
    /// DVC lists what failed in its last words. A list with anything of DVC's behind it was a command's, which may have run
    /// a DVC of its own.
    pub(crate) fn read(log: &str) -> ReproLog {
        let mut said = ReproLog::default();
        let mut current = String::new();
        let mut own_words = 0;
        for line in log.lines() {
            if let Some(stage) = between(line, "Running stage '", "':") {
                said.take_back_failures(&mut own_words);
                stage.clone_into(&mut current);
                said.running.insert(stage.to_owned());
            } else if let Some(stage) = between(line, "Stage '", "' didn't change, skipping") {
                said.unchanged.insert(stage.to_owned());
            } else if let Some(stage) = between(line, "Stage '", "' is cached - skipping run, checking out outputs") {
                said.restored.insert(stage.to_owned());
            } else if let Some((_, command)) = line.split_once("WARNING: failed to run: ") {
                said.take_back_failures(&mut own_words);
                said.reasons.push((current.clone(), format!("failed to run: {command}")));
            } else if let Some(reason) = line.strip_prefix("WARNING: ") {
                said.take_back_failures(&mut own_words);
                if !reason.ends_with("due to this failure") {
                    said.reasons.push((current.clone(), reason.to_owned()));
                }
            } else if let Some((_, stages)) = line.split_once("ERROR: failed to reproduce ") {
                said.fail(stages, &mut own_words);
            } else if let Some(error) = line.strip_prefix("ERROR: ") {
                said.take_back_failures(&mut own_words);
                said.error = Some(error.to_owned());
            }
        }
        said
    }

    /// Takes the list of stages that failed; `own_words` counts the reasons that came with it.
    fn fail(&mut self, stages: &str, own_words: &mut usize) {
        self.take_back_failures(own_words);
        // With `--keep-going` all stages that failed, else the first and why.
        match stages.strip_prefix('\'').and_then(|rest| rest.split_once("': ")) {
            Some((stage, reason)) => {
                self.failed = format!("'{stage}'");
                self.reasons.push((stage.to_owned(), reason.to_owned()));
                *own_words = 1;
            }
            None => stages.clone_into(&mut self.failed),
        }
    }

    /// Forgets a list of stages that failed: it was not DVC's.
    fn take_back_failures(&mut self, own_words: &mut usize) {
        self.failed.clear();
        self.reasons.truncate(self.reasons.len() - *own_words);
        *own_words = 0;
    }

    /// Adds what another `dvc repro`, which came later, said.
    pub(crate) fn extend(&mut self, later: ReproLog) {
        self.running.extend(later.running);
        self.restored.extend(later.restored);
        self.unchanged.extend(later.unchanged);
        self.failed = [self.failed.as_str(), later.failed.as_str()].join(" ");
        self.reasons.extend(later.reasons);
        self.error = later.error.or_else(|| self.error.take());
    }

    /// Whether DVC came to its end and listed the stages that failed.
    pub(crate) fn has_failures(&self) -> bool {
        !self.failed.trim().is_empty()
    }

    /// Whether DVC names the stage as failed.
    pub(crate) fn has_failed(&self, address: &str) -> bool {
        self.failed.contains(&format!("'{address}'"))
    }

    /// What DVC says where it does not start for want of a home directory or a name of the user: neither is there for
    /// a user id that only a container knows.
    pub(crate) fn nameless_user(&self) -> Option<&str> {
        let error = self.error.as_deref().filter(|_| self.running.is_empty())?;
        let lower = error.to_lowercase();
        let is_it = lower.contains("getpwuid()") || lower.contains("determine the home dir");
        (is_it || lower.contains("determine home dir")).then_some(error)
    }

    /// Why a stage failed, in DVC's words.
    pub(crate) fn reason(&self, address: &str) -> String {
        let own = self.reasons.iter().rfind(|(stage, _)| stage == address);
        let any = own.or_else(|| self.reasons.last()).map(|(_, reason)| reason.clone());
        let reason = any.unwrap_or_else(|| "DVC gave no reason".to_owned());
        // 137 is what a shell says of a command that was killed.
        let is_killed = reason.ends_with("exited with -9") || reason.ends_with("exited with 137");
        if is_killed { format!("{reason} (killed, perhaps since memory ran out)") } else { reason }
    }

    /// Whether DVC itself failed at a stage, not the stage's command.
    ///
    /// The system refused something to DVC: a full disk, say. Or DVC did not find in the cache what it had just put there,
    /// since another one was putting the same there.
    pub(crate) fn is_own_failure(&self, address: &str) -> bool {
        let reason = self.reason(address);
        reason.starts_with("[Errno ") || reason.contains("without a confirmation")
    }
}

/// What stands between a phrase and the end of a line.
fn between<'l>(line: &'l str, phrase: &str, end: &str) -> Option<&'l str> {
    let rest = line.strip_suffix(end)?;
    Some(&rest[rest.rfind(phrase)? + phrase.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(parse_version("3.67.1"), Some((3, 67, 1)));
        assert_eq!(parse_version("3.67.2.dev3+g12"), Some((3, 67, 2)));
        assert_eq!(parse_version("4"), Some((4, 0, 0)));
        assert_eq!(parse_version("dvc"), None);
        assert!((2, 58, 2) < MINIMUM_VERSION && (3, 10, 0) > (3, 9, 9));
    }

    #[test]
    fn a_command_that_leaves_a_line_unfinished_hides_nothing() {
        let said = ReproLog::read(
            "Running stage 'a':\n> printf x\nxRunning stage 'b':\n> printf y; exit 137\nyWARNING: failed to run: printf y; \
             exit 137, exited with 137\nERROR: failed to reproduce 'b'\n",
        );
        assert!(said.running.contains("a") && said.running.contains("b") && said.has_failed("b"));
        assert_eq!(
            said.reason("b"),
            "failed to run: printf y; exit 137, exited with 137 (killed, perhaps since memory ran out)"
        );
    }

    #[test]
    fn the_log_tells_which_stages_failed_and_why() {
        let log = "Running stage 'a@k1':\n> false\nRunning stage 'p/dvc.yaml:a@k2':\n> x\nWARNING: failed to run: x, exited \
                   with 1\nWARNING: Stage 'b@k2' will be skipped due to this failure\nStage 'c' didn't change, \
                   skipping\nStage 'd' is cached - skipping run, checking out outputs\nERROR: failed to reproduce \
                   stages: 'p/dvc.yaml:a@k2' and 'nodep'\n";
        let said = ReproLog::read(log);
        assert!(said.has_failed("p/dvc.yaml:a@k2") && said.has_failed("nodep") && !said.has_failed("a@k1"));
        assert_eq!(said.reason("p/dvc.yaml:a@k2"), "failed to run: x, exited with 1");
        assert!(said.unchanged.contains("c") && said.restored.contains("d") && said.running.contains("a@k1"));
        let said = ReproLog::read("ERROR: failed to reproduce 'a@k': failed to run: echo 'b@k', exited with 1\n");
        assert!(said.has_failed("a@k") && !said.has_failed("b@k"));
        assert_eq!(said.reason("a@k"), "failed to run: echo 'b@k', exited with 1");
        assert!(!said.is_own_failure("a@k"));
        let said = ReproLog::read("ERROR: unexpected error - 'getpwuid(): uid not found: 12345'\n");
        assert_eq!(said.nameless_user(), Some("unexpected error - 'getpwuid(): uid not found: 12345'"));
        // A command that says so is none of DVC's.
        let said = ReproLog::read("Running stage 'a':\n> x\nERROR: getpwuid(): uid not found: 12345\n");
        assert_eq!(said.nameless_user(), None);
        let said = ReproLog::read("ERROR: failed to reproduce 'a': [Errno 28] No space left on device\n");
        assert!(said.is_own_failure("a"));
    }

    #[test]
    fn a_command_that_runs_a_dvc_of_its_own_fails_nothing_but_itself() {
        let inner = "Running stage 'a':\n> dvc repro || true\nERROR: failed to reproduce 'a': failed to run: x, exited with 1\n";
        for end in
            ["", "Running stage 'b':\n> y\n", "ERROR: unexpected error\n", "WARNING: failed to run: y, exited with 2\n"]
        {
            let said = ReproLog::read(&format!("{inner}{end}"));
            assert_eq!(said.has_failures(), end.is_empty(), "{end}");
        }
        let end = "Running stage 'b':\n> y\nWARNING: failed to run: y, exited with 2\nERROR: failed to reproduce 'b'\n";
        let mut said = ReproLog::read(&format!("{inner}{end}"));
        assert!(said.has_failed("b") && !said.has_failed("a"));
        assert_eq!(said.reason("b"), "failed to run: y, exited with 2");
        said.extend(ReproLog::read("Running stage 'c':\nERROR: failed to reproduce 'c'\n"));
        assert!(said.has_failed("b") && said.has_failed("c") && !said.has_failed("a"));
    }
}
