//! Moves cache objects from and to the project's remote, by their digests alone.
//!
//! DVC moves what its files name. So a DVC project is made for the purpose, with the cache and the remotes of the
//! project at hand and one `.dvc` file that names the objects; nothing of the project itself is loaded.

use std::fmt::Write as _;
use std::path::Path;

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::place::object_path;
use crate::adapters::{fs, process};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::stage::Recorded;
use crate::state::home::ProjectHome;

/// The last lines of DVC's output that an error shows.
const SHOWN_LINES: usize = 10;

/// A cache object: a file, or a directory with all its files where the digest ends in `.dir`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    pub md5: String,
    /// Of DVC 2.
    pub legacy: bool,
}

impl Object {
    /// The object of an out as a lock entry has it; `None` for one that is not in the cache by its MD5.
    pub(crate) fn recorded(recorded: &Recorded) -> Option<Self> {
        Some(Object { md5: recorded.md5.clone()?, legacy: recorded.hash.is_none() })
    }

    pub(crate) fn is_in(&self, cache: &Path) -> bool {
        object_path(cache, &self.md5, self.legacy).is_some_and(|object| fs::exists(&object))
    }
}

/// A way between the cache and the remote.
pub(crate) struct Transfer<'a> {
    pub dvc: &'a Dvc,
    pub project: &'a ProjectHome,
    /// Where the project for the purpose is made.
    pub scratch: &'a Path,
}

impl Transfer<'_> {
    /// Brings those objects into the cache that it does not have.
    pub(crate) fn fetch(&self, mut objects: Vec<Object>) -> Result<(), Diagnostic> {
        let cache = Path::new(&self.project.config.cache_dir);
        objects.retain(|object| !object.is_in(cache));
        self.run(&["fetch"], objects)
    }

    /// The same, and all of the remote's run cache, as far as the remote can hold one.
    pub(crate) fn fetch_with_runs(&self, objects: Vec<Object>) -> Result<(), Diagnostic> {
        self.run(&["fetch", "--run-cache"], objects)
    }

    /// Takes objects to the remote, and the run cache, which names the outs of stages that DVC does not cache.
    pub(crate) fn push(&self, objects: Vec<Object>) -> Result<(), Diagnostic> {
        self.run(&["push", "--run-cache"], objects)
    }

    fn run(&self, verb: &[&str], mut objects: Vec<Object>) -> Result<(), Diagnostic> {
        objects.sort_unstable();
        objects.dedup();
        if objects.is_empty() {
            return Ok(());
        }
        let depot = self.scratch.join(format!("transfer-{}-{}", process::host(), std::process::id()));
        let (config, local) = self.project.worker_config(&depot)?;
        fs::create_dir(&depot.join(".dvc"))?;
        fs::write_plain(&depot.join(".dvc/config"), config.as_bytes())?;
        // `local` ends with the section `core`.
        fs::write_plain(&depot.join(".dvc/config.local"), format!("{local}    no_scm = true\n").as_bytes())?;
        fs::write_plain(&depot.join("objects.dvc"), listing(&objects).as_bytes())?;
        let program = self.dvc.command(&[verb, &["objects.dvc"]].concat());
        let ran = process::output(&program, Some(&depot));
        let ran = ran.map_err(|error| Diagnostic::tool(format!("cannot run `{}`", program.shown())).source(&error))?;
        fs::remove(&depot)?;
        if ran.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        let shown: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let failed = Diagnostic::tool(format!("`{}` of {} cache objects failed", program.shown(), objects.len()));
        let last = shown.iter().skip(shown.len().saturating_sub(SHOWN_LINES));
        Err(last.fold(failed, |failed, line| failed.detail(*line)).hint("see `dvc remote list`, and try `dvc fetch`"))
    }
}

/// A `.dvc` file that names objects.
fn listing(objects: &[Object]) -> String {
    objects.iter().enumerate().fold("outs:\n".to_owned(), |mut text, (number, object)| {
        let hash = if object.legacy { "" } else { "  hash: md5\n" };
        let md5 = &object.md5;
        write!(text, "- md5: {md5}\n{hash}  path: object-{number}\n").expect("a String takes every text");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_listed_as_outs() {
        let object = |md5: &str, legacy| Object { md5: md5.to_owned(), legacy };
        let expected = "outs:\n- md5: aa\n  hash: md5\n  path: object-0\n- md5: bb.dir\n  path: object-1\n";
        assert_eq!(listing(&[object("aa", false), object("bb.dir", true)]), expected);
    }
}
