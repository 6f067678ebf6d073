//! DVC itself: finding it, its version, and the `dvc repro` of a worker; its files: cache, config, lock.

pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod facts;
pub(crate) mod files;
pub(crate) mod hash;
pub(crate) mod links;
pub(crate) mod lock;
pub(crate) mod place;
pub(crate) mod remote;
pub(crate) mod script;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod warm;

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
    #[error("{} is no program: `{}`", env::DVC_FANOUT_DVC, .0.display())]
    NoProgram(PathBuf),
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
            DvcError::NoProgram(_) => diagnostic.hint(format!(
                "set {} to the path of a `dvc`, or unset it for the one on the PATH",
                env::DVC_FANOUT_DVC
            )),
            DvcError::Broken { output, .. } => {
                output.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().fold(diagnostic, Diagnostic::detail)
            }
            DvcError::TooOld { .. } => diagnostic.hint("upgrade it with `pip install --upgrade 'dvc>=3'`"),
        }
    }
}

impl DvcError {
    /// Why there is no `dvc`.
    pub(crate) fn missing() -> DvcError {
        env::read(env::DVC_FANOUT_DVC).map_or(DvcError::NotFound, |path| DvcError::NoProgram(path.into()))
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
    pub allow_missing: bool,
}

impl Dvc {
    /// Finds the program: what the environment names, else the first on the `PATH`.
    pub(crate) fn find() -> Result<Dvc, DvcError> {
        if let Some(path) = env::read(env::DVC_FANOUT_DVC) {
            let path = PathBuf::from(path);
            return if is_program(&path) { Ok(Dvc { path }) } else { Err(DvcError::missing()) };
        }
        let path = env::read(env::PATH).unwrap_or_default();
        let found = std::env::split_paths(&path).map(|directory| directory.join("dvc")).find(|path| is_program(path));
        found.map(|path| Dvc { path }).ok_or_else(DvcError::missing)
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
    pub(crate) fn repro(
        &self,
        site_cache: Option<&Path>,
        options: ReproOptions,
        one_by_one: Option<&[&str]>,
    ) -> Program {
        let mut program = self.program().arg("--wait-for-lock").arg("repro");
        if let Some(site_cache) = site_cache {
            program = program.env(env::DVC_SITE_CACHE_DIR, site_cache);
        }
        for (flag, on) in [
            ("--all-pipelines", one_by_one.is_none()),
            ("--keep-going", one_by_one.is_none()),
            ("--single-item", one_by_one.is_some()),
            ("--force", options.force),
            ("--no-run-cache", options.no_run_cache),
            ("--pull", options.pull),
            ("--allow-missing", options.allow_missing),
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
}
