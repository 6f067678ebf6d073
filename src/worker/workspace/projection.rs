//! The stages that a real DVC sees in a workspace: the work item's alone, since it reads all there are for each command.
//!
//! Commands see the project's own stage files. A DVC that is to do a stage gets the projected ones in their place, with the
//! lock entries that are there by then, for as long as the attempt lasts. The entries themselves lie beside the workspace,
//! in the slot: there they cost the same however many others the project has.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Workspace, WorkspaceError, make_parent};
use crate::adapters::fs;
use crate::adapters::git::ManifestFile;
use crate::dvc::pipeline::path::{file_name, inside, is_within, lock_path};
use crate::state::format::{Input, WorkItem};
use crate::state::paths::SlotDir;
use crate::state::vetting::has_dvc_extension;

/// Where the lock entries of an attempt are, and what DVC finds when it is called.
pub(crate) struct Projection<'a> {
    item: &'a WorkItem,
    /// The project's root in the workspace.
    root: PathBuf,
    /// The folder of the lock files, which lie there as in the project.
    locks: PathBuf,
    /// The project's stage files and lock files that are in the workspace.
    all: Rc<[String]>,
    has_entered: Cell<bool>,
}

impl<'a> Projection<'a> {
    /// That of a workspace which is being filled for the work item.
    pub(crate) fn of(workspace: &Workspace, item: &'a WorkItem) -> Self {
        let (root, locks, all) = (workspace.root(), workspace.slot.locks(), Rc::clone(&workspace.stage_files));
        Projection { item, root, locks, all, has_entered: Cell::new(false) }
    }

    /// None, where stages run in the project itself.
    pub(crate) fn none(root: &Path, item: &'a WorkItem) -> Self {
        Projection {
            item,
            root: root.to_owned(),
            locks: root.to_owned(),
            all: Rc::new([]),
            has_entered: Cell::new(false),
        }
    }

    /// Whether the stages run in the project itself.
    pub(crate) fn is_none(&self) -> bool {
        self.locks == self.root
    }

    pub(crate) fn locks(&self) -> &Path {
        &self.locks
    }

    /// Whether a DVC was called, and stage files in the workspace are not what they are in the project.
    pub(crate) fn has_entered(&self) -> bool {
        self.has_entered.get()
    }

    /// Puts projected files and lock entries where DVC reads them.
    pub(crate) fn enter(&self) -> Result<(), WorkspaceError> {
        if self.is_none() {
            return Ok(());
        }
        if !self.has_entered.replace(true) {
            let written = |path: &str| self.item.files.iter().any(|file| file.path == path);
            let read = |path: &str| self.item.inputs.iter().map(Input::path).any(|input| is_within(path, input));
            for path in self.all.iter().filter(|path| !written(path) && !read(path)) {
                fs::remove(&self.root.join(path))?;
            }
            for file in &self.item.files {
                write(&self.root.join(&file.path), &file.text)?;
            }
        }
        // One that is a dep stays what the dep says, and has these entries as well.
        let is_input = |path: &String| self.item.inputs.iter().any(|input| input.path() == path);
        self.lock_files().filter(|path| !is_input(path)).try_for_each(|path| copy(&self.locks, &self.root, &path))
    }

    /// Takes the lock entries that DVC has written.
    pub(crate) fn leave(&self) -> Result<(), WorkspaceError> {
        if self.is_none() {
            return Ok(());
        }
        self.lock_files().try_for_each(|path| copy(&self.root, &self.locks, &path))
    }

    /// The lock files that entries are kept in.
    fn lock_files(&self) -> impl Iterator<Item = String> {
        let files = self.item.files.iter().filter(|file| file_name(&file.path) == "dvc.yaml");
        files.map(|file| lock_path(&file.path))
    }
}

/// The files of the snapshot that DVC reads stages and their entries from, relative to the project's root.
pub(super) fn stage_files(manifest: &[ManifestFile], prefix: &str) -> Rc<[String]> {
    let all = manifest.iter().filter_map(|file| inside(prefix, &file.path));
    all.filter(|path| is_stage_file(path)).map(str::to_owned).collect()
}

/// Whether DVC would read stages or their entries from a file of this name.
pub(crate) fn is_stage_file(path: &str) -> bool {
    let name = file_name(path);
    name == "dvc.yaml" || name == "dvc.lock" || has_dvc_extension(name)
}

/// Begins the lock files of an attempt with the entries that its stages had at plan time.
pub(super) fn begin(slot: &SlotDir, locks: &[(String, String)]) -> Result<(), WorkspaceError> {
    let folder = slot.locks();
    fs::remove(&folder)?;
    locks.iter().try_for_each(|(path, text)| write(&folder.join(path), text))
}

/// Writes a file anew: what is a link to the project's is none afterwards.
fn write(to: &Path, text: &str) -> Result<(), WorkspaceError> {
    make_parent(to)?;
    fs::remove(to)?;
    Ok(fs::write_plain(to, text.as_bytes())?)
}

/// Has a file look as it does in another folder.
fn copy(from: &Path, to: &Path, path: &str) -> Result<(), WorkspaceError> {
    let to = to.join(path);
    match fs::read_text_if_any(&from.join(path))? {
        Some(text) => write(&to, &text),
        None => Ok(fs::remove(&to)?),
    }
}
