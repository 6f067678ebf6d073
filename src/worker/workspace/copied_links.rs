//! Links to what lies in the project, as commands copy them (`cp -r` of a folder with such a link in it): under `dvc repro`
//! they would have copied what these lead to, so that takes their place.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Workspace;
use super::carried::Carried;
use crate::adapters::fs::{self, Found, FoundKind, FsError};
use crate::dvc::pipeline::path::{file_name, join};
use crate::state::format::{Input, WorkItem};

/// The links that the commands of a work item find.
pub(crate) struct CopiedLinks {
    carried: Rc<Carried>,
    /// Those among its inputs, relative to the top of the git work tree.
    inputs: Vec<String>,
}

impl CopiedLinks {
    /// Puts what links lead to in the place of their copies at a path and below it.
    pub(crate) fn replace(&self, at: &Path) -> Result<(), FsError> {
        for (copy, original) in self.copies(at)? {
            fs::remove(&copy)?;
            fs::copy_exactly(&self.carried.project().join(original), &copy)?;
        }
        Ok(())
    }

    /// The copies at a path and below it, each with what it leads to, relative to the top of the git work tree.
    pub(crate) fn copies(&self, at: &Path) -> Result<Vec<(PathBuf, String)>, FsError> {
        if self.carried.is_empty() && self.inputs.is_empty() {
            return Ok(vec![]);
        }
        let mut paths = vec![at.to_owned()];
        match at.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let inside = fs::walk(at, &|_| false)?;
                let links = inside.into_iter().filter(|found| found.kind == FoundKind::Symlink);
                paths.extend(links.map(|found| at.join(found.path)));
            }
            Ok(metadata) if metadata.is_symlink() => {}
            Ok(_) | Err(_) => return Ok(vec![]),
        }
        Ok(paths.into_iter().filter_map(|path| self.original(&path).map(|original| (path, original))).collect())
    }

    /// What a copy of a link leads to, if the path is one.
    fn original(&self, path: &Path) -> Option<String> {
        let target = std::fs::read_link(path).ok()?;
        let to = self.carried.leads_to(&target)?;
        let is_known = self.carried.has(to) || self.inputs.iter().any(|input| input == to);
        let is_copy = is_known && !self.carried.is_at(to, path) && fs::exists(&self.carried.project().join(to));
        is_copy.then(|| to.to_owned())
    }
}

impl Workspace {
    /// The links that the commands of a work item find in it.
    pub(crate) fn links(&self, item: &WorkItem) -> CopiedLinks {
        let linked = item.inputs.iter().filter(|input| matches!(input, Input::Link { .. }));
        let inputs = linked.map(|input| join(&self.prefix, input.path())).collect();
        CopiedLinks { carried: Rc::clone(&self.carried), inputs }
    }

    /// Puts what links lead to in the place of their copies among what was found, as far as they have the link's name: one
    /// with a name of its own is rather a link that the command made. Returns whether there were any.
    pub(super) fn replace_copied_links(&self, found: &[Found]) -> Result<bool, FsError> {
        let links = CopiedLinks { carried: Rc::clone(&self.carried), inputs: vec![] };
        let mut has_any = false;
        for found in found.iter().filter(|found| found.kind == FoundKind::Symlink) {
            let path = self.top.join(&found.path);
            if links.original(&path).is_some_and(|original| file_name(&original) == file_name(&found.path)) {
                links.replace(&path)?;
                has_any = true;
            }
        }
        Ok(has_any)
    }
}
