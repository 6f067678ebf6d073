//! Objects moved by `dvc fetch` and `dvc push`.
//!
//! DVC moves what its files name. So a DVC project is made for the purpose, with the cache and the remotes of the
//! project at hand and one `.dvc` file that names the objects; nothing of the project itself is loaded.

use std::fmt::Write as _;
use std::path::Path;

use super::Object;
use crate::adapters::dvc::Dvc;
use crate::adapters::{fs, process};
use crate::diagnostic::Diagnostic;
use crate::state::home::ProjectHome;

/// The last lines of DVC's output that an error shows.
const SHOWN_LINES: usize = 10;

/// DVC, and where a project is made for it.
pub(super) struct ByDvc<'a> {
    pub project: &'a ProjectHome,
    pub scratch: &'a Path,
}

impl ByDvc<'_> {
    /// Has DVC fetch or push objects.
    pub(super) fn run(&self, verb: &[&str], objects: &[Object]) -> Result<(), Diagnostic> {
        if objects.is_empty() {
            return Ok(());
        }
        let depot = self.scratch.join(format!("transfer-{}-{}", process::host(), std::process::id()));
        let (config, local) = self.project.worker_config(&depot)?;
        fs::create_dir(&depot.join(".dvc"))?;
        fs::write_plain(&depot.join(".dvc/config"), config.as_bytes())?;
        // `local` ends with the section `core`.
        fs::write_plain(&depot.join(".dvc/config.local"), format!("{local}    no_scm = true\n").as_bytes())?;
        fs::write_plain(&depot.join("objects.dvc"), listing(objects).as_bytes())?;
        let program = Dvc::find()?.command(&[verb, &["objects.dvc"]].concat());
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
