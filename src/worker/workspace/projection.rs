//! The stages that a real DVC sees in a workspace: the work item's alone, since it reads all there are for each command.
//!
//! Commands see the project's own stage files. A DVC that is to do a stage gets the projected ones in their place, with the
//! lock entries that are there by then, until it ends; the program that runs it (`adapters/dvc/process.py`) puts the
//! project's own back for as long as a command runs. Where DVC is no Python script, commands see what it sees. The entries
//! themselves lie beside the workspace, in the slot: there they cost the same however many others the project has.
//!
//! | in the slot's folder for stage files | is |
//! |---|---|
//! | `paths` | what takes turns, each path ended by a NUL |
//! | `whole` | the project's own while DVC sees the projected ones |
//! | `own` | the projected ones while a command sees the project's own |

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Workspace, WorkspaceError, make_parent};
use crate::adapters::fs;
use crate::adapters::git::ManifestFile;
use crate::dvc::pipeline::path::{file_name, inside, is_within, lock_path};
use crate::state::format::{Input, WorkItem};
use crate::state::paths::SlotDir;
use crate::state::vetting::has_dvc_extension;

/// The files and folders in the slot's folder for stage files.
const PATHS: &str = "paths";
const WHOLE: &str = "whole";
const OWN: &str = "own";

/// Where the lock entries of an attempt are, and what DVC finds when it is called.
pub(crate) struct Projection<'a> {
    item: &'a WorkItem,
    /// The project's root in the workspace.
    root: PathBuf,
    /// The folder of the lock files, which lie there as in the project.
    locks: PathBuf,
    /// The folder of the stage files that are not to be seen.
    aside: PathBuf,
    /// The project's stage files and lock files that are in the workspace.
    all: Rc<[String]>,
    /// Whether DVC's stage files are in the workspace.
    is_shown: Cell<bool>,
    has_entered: Cell<bool>,
}

impl<'a> Projection<'a> {
    /// That of a workspace which is being filled for the work item.
    pub(crate) fn of(workspace: &Workspace, item: &'a WorkItem) -> Self {
        let slot = &workspace.slot;
        let (root, locks, aside) = (workspace.root(), slot.locks(), slot.stage_files());
        let (is_shown, has_entered) = (Cell::new(false), Cell::new(false));
        Projection { item, root, locks, aside, all: Rc::clone(&workspace.stage_files), is_shown, has_entered }
    }

    /// None, where stages run in the project itself.
    pub(crate) fn none(root: &Path, item: &'a WorkItem) -> Self {
        Projection {
            item,
            root: root.to_owned(),
            locks: root.to_owned(),
            aside: root.to_owned(),
            all: Rc::new([]),
            is_shown: Cell::new(false),
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

    /// The folder of the stage files that are not to be seen; `None` where stages run in the project itself.
    pub(crate) fn aside(&self) -> Option<&Path> {
        (!self.is_none()).then_some(&*self.aside)
    }

    /// Whether stage files in the workspace are still not what they are in the project: a command has changed those that
    /// DVC was shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.is_shown.get()
    }

    /// Puts projected files and lock entries where DVC reads them.
    pub(crate) fn enter(&self) -> Result<(), WorkspaceError> {
        if self.is_none() {
            return Ok(());
        }
        if !self.is_shown.replace(true) {
            fs::remove(&self.aside)?;
            let turns = self.turns();
            let paths: String = turns.iter().flat_map(|path| [path.as_str(), "\0"]).collect();
            write(&self.aside.join(PATHS), &paths)?;
            let whole = self.aside.join(WHOLE);
            turns.iter().try_for_each(|path| move_if_any(path, &self.root, &whole))?;
            // A `.dvc` file stays what DVC makes of it.
            let is_first = !self.has_entered.replace(true);
            for file in self.item.files.iter().filter(|file| is_first || is_pipeline(&file.path)) {
                write(&self.root.join(&file.path), &file.text)?;
            }
        }
        self.lock_files().try_for_each(|path| copy(&self.locks, &self.root, &path))
    }

    /// Takes the lock entries that DVC has written, and puts the project's own files back.
    pub(crate) fn leave(&self) -> Result<(), WorkspaceError> {
        // A command may have removed the workspace.
        if self.is_none() || !self.root.is_dir() {
            return Ok(());
        }
        let (turns, whole, own) = (self.turns(), self.aside.join(WHOLE), self.aside.join(OWN));
        // DVC was killed while a command ran.
        for path in turns.iter().filter(|path| fs::exists(&own.join(path))) {
            move_if_any(path, &self.root, &whole)?;
            move_if_any(path, &own, &self.root)?;
        }
        self.pipelines().map(lock_path).try_for_each(|path| copy(&self.root, &self.locks, &path))?;
        for file in self.item.files.iter().filter(|file| is_pipeline(&file.path)) {
            if fs::read_text_if_any(&self.root.join(&file.path))?.is_none_or(|now| now != file.text) {
                return Ok(());
            }
        }
        let shown: Vec<String> = self.pipelines().map(str::to_owned).chain(self.lock_files()).collect();
        for path in &turns {
            if shown.contains(path) || fs::exists(&whole.join(path)) {
                fs::remove(&self.root.join(path))?;
            }
            move_if_any(path, &whole, &self.root)?;
        }
        self.is_shown.set(false);
        Ok(())
    }

    /// The files that look otherwise for DVC: the pipelines of the work item, and what other stages are read from. What is
    /// a dep of its stages stays.
    fn turns(&self) -> Vec<String> {
        let written = |path: &str| self.item.files.iter().any(|file| file.path == path);
        let read = |path: &str| self.item.inputs.iter().map(Input::path).any(|input| is_within(path, input));
        let others = self.all.iter().filter(|path| !written(path) && !read(path)).cloned();
        let shown = self.pipelines().map(str::to_owned).chain(self.lock_files());
        others.chain(shown).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.item.files.iter().map(|file| file.path.as_str()).filter(|path| is_pipeline(path))
    }

    /// The lock files that DVC is shown; one that is a dep stays what the dep says.
    fn lock_files(&self) -> impl Iterator<Item = String> {
        let is_input = |path: &String| self.item.inputs.iter().any(|input| input.path() == path);
        self.pipelines().map(lock_path).filter(move |path| !is_input(path))
    }
}

fn is_pipeline(path: &str) -> bool {
    file_name(path) == "dvc.yaml"
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

/// Moves what has this path in a folder, if anything has, to where it has it in another.
fn move_if_any(path: &str, from: &Path, to: &Path) -> Result<(), WorkspaceError> {
    let (from, to) = (from.join(path), to.join(path));
    if fs::exists(&from) {
        make_parent(&to)?;
        fs::rename(&from, &to)?;
    }
    Ok(())
}

/// Has a file look as it does in another folder.
fn copy(from: &Path, to: &Path, path: &str) -> Result<(), WorkspaceError> {
    let to = to.join(path);
    match fs::read_text_if_any(&from.join(path))? {
        Some(text) => write(&to, &text),
        None => Ok(fs::remove(&to)?),
    }
}
