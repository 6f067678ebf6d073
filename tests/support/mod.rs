//! What the tests share: projects in temporary folders and the three real programs.

#[cfg(feature = "kubernetes")]
pub(crate) mod apiserver;
#[cfg(feature = "kubernetes")]
pub(crate) mod cluster;
pub(crate) mod dvc;
mod hung;
pub(crate) mod oracle;
#[cfg(feature = "store")]
pub(crate) mod s3;
pub(crate) mod same;
pub(crate) mod slurm;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};

/// What `git init` and `dvc init` make, committed: made once in a process, since it takes a second.
static INITIALIZED: LazyLock<PathBuf> = LazyLock::new(|| {
    let project = Project::bare();
    project.git(["init", "--quiet", "--initial-branch=main", "--template="]);
    project.dvc(["init", "--quiet"]);
    project.commit("dvc init");
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("initialized");
    std::fs::create_dir_all(&kept).expect("made");
    for other in std::fs::read_dir(&kept).expect("listed").flatten() {
        let process = Path::new("/proc").join(other.file_name());
        if !process.exists() {
            drop(std::fs::remove_dir_all(other.path()));
        }
    }
    let own = kept.join(std::process::id().to_string());
    copy_tree(&project.root, &own);
    own
});

/// A project in a folder of its own, with a git and a DVC repository, out of reach of the user's settings.
pub(crate) struct Project {
    /// Also holds the home directory, so that it goes with the project.
    folder: Arc<tempfile::TempDir>,
    home: PathBuf,
    root: PathBuf,
}

impl Project {
    /// Copies `fixtures/NAME` and commits it.
    pub(crate) fn from_fixture(name: &str) -> Self {
        let project = Self::empty();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        copy_tree(&fixture, &project.root);
        project.commit("fixture");
        project
    }

    /// A git and DVC repository with nothing in it.
    pub(crate) fn empty() -> Self {
        let project = Self::bare();
        copy_tree(&INITIALIZED, &project.root);
        project
    }

    /// An empty folder.
    pub(crate) fn bare() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let home = folder.path().join("home");
        let root = folder.path().join("project");
        std::fs::create_dir_all(&home).expect("made");
        std::fs::create_dir_all(&root).expect("made");
        let folder = Arc::new(folder);
        hung::notice(&folder, &home);
        Project { folder, home, root }
    }

    /// What `dvc init` makes in a folder of that name, which holds nothing else.
    pub(crate) fn in_folder(name: &OsStr) -> Self {
        let mut project = Self::bare();
        project.root = project.root.join(name).join("project");
        std::fs::create_dir_all(&project.root).expect("made");
        project.initialized()
    }

    /// What `dvc init` makes, without the second that it takes.
    pub(crate) fn without_init() -> Self {
        Self::bare().initialized()
    }

    fn initialized(self) -> Self {
        self.git(["init", "--quiet", "--initial-branch=main"]);
        self.write(".dvc/config", "");
        self.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n");
        self.write(".dvcignore", "");
        self
    }

    /// Another machine's clone of what is committed, in the same folder; it goes with this project.
    pub(crate) fn clone_beside(&self, name: &str) -> Project {
        let root = self.root.with_file_name(name);
        let from = self.root.to_str().expect("it is UTF-8");
        self.git(["clone", "--quiet", from, root.to_str().expect("it is UTF-8")]);
        Project { folder: Arc::clone(&self.folder), home: self.home.clone(), root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// Replaces text in a file that has it.
    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "`{path}` has no `{from}`:\n{text}");
        self.write(path, &text.replace(from, to));
    }

    /// A program in the project's root with a clean environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.home).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        for (name, value) in [("NAME", "Test"), ("EMAIL", "test@example.com"), ("DATE", "2024-01-01T00:00:00Z")] {
            command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        for folder in ["DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR"] {
            command.env(folder, self.home.join(folder));
        }
        command.env("DVC_NO_ANALYTICS", "1");
        command
    }

    /// Runs `dvc-fanout` and returns how it ended.
    pub(crate) fn fanout<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
        Ran::of(self.command(env!("CARGO_BIN_EXE_dvc-fanout")).args(arguments))
    }

    /// The processes that belong to this project, each with its command line: all that were started in it, and theirs.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        processes_of(&self.home)
    }

    /// Runs `git`, which must succeed, and returns its stdout.
    pub(crate) fn git<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        Ran::of(self.command("git").args(arguments)).succeeded()
    }

    /// Runs `dvc`, which must succeed, and returns its stdout.
    #[track_caller]
    pub(crate) fn dvc<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        self.try_dvc(arguments).succeeded()
    }

    /// Runs `dvc` and returns how it ended.
    pub(crate) fn try_dvc<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
        dvc::run(self.command("dvc").args(arguments))
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--allow-empty", "--message", message]);
    }
}

/// The processes with this home directory.
fn processes_of(home: &Path) -> Vec<(i32, String)> {
    let home = [b"HOME=", home.as_os_str().as_encoded_bytes()].concat();
    let read = |id: i32, name: &str| std::fs::read(format!("/proc/{id}/{name}")).unwrap_or_default();
    let entries = std::fs::read_dir("/proc").expect("listed").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| read(*id, "environ").split(|byte| *byte == 0).any(|variable| variable == home))
        .map(|id| (id, String::from_utf8_lossy(&read(id, "cmdline")).replace('\0', " ")))
        .collect()
}

/// How a program ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } =
            command.output().unwrap_or_else(|error| panic!("{command:?} must be on the PATH: {error}"));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: status.code(), stdout: text(&stdout), stderr: text(&stderr) }
    }

    /// Returns stdout of a program that must have succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }
}

/// Finds a program that some tests need besides git and DVC. Where it is missing the test has nothing to say, except
/// with `CI` set, where that is a failure.
#[track_caller]
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "`{name}` must be on the PATH (contrib/setup-tools installs it)");
        say(&format!("skipped: no `{name}` on the PATH"));
    }
    found
}

/// Says something in the test's output.
#[expect(clippy::print_stdout, reason = "what cargo shows of a test")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("looked at").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// The folder of the latest run.
pub(crate) fn run_folder(project: &Project) -> std::path::PathBuf {
    let runs = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("there are runs");
    runs.map(|run| run.expect("listed").path()).max().expect("one")
}

/// How many attempts at each work item have begun.
pub(crate) fn attempts(project: &Project) -> Vec<usize> {
    let results = run_folder(project).join("results");
    let mut folders: Vec<_> = std::fs::read_dir(results).expect("results").map(|f| f.expect("listed").path()).collect();
    folders.sort();
    let is_log = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".log");
    let count = |folder: &std::path::PathBuf| {
        std::fs::read_dir(folder).expect("listed").filter(|f| is_log(f.as_ref().expect("listed").file_name())).count()
    };
    folders.iter().map(count).collect()
}
