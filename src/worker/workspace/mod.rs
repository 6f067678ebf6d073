//! A slot's workspace: a git work tree that holds the snapshot without outs, made once and reset between work items.
//!
//! The file `clean` names the tree that the workspace holds. It is removed before anything is put in and written after
//! everything has been taken out again, so a workspace that a worker left in a hurry is made anew. So is one of before the
//! machine was started: nothing there was ever synced. One that holds another tree, of an earlier run, is brought up to date.

mod carried;
mod changes;
mod copied_links;
mod fill;
mod leftovers;
mod look;
pub(crate) mod projection;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::adapters::dvc::place::{PlaceError, Placing};
use crate::adapters::fs::{self, Found, FsError};
use crate::adapters::git::{self, Beginning, Git, GitError, ManifestFile, Store};
use crate::adapters::mounts::Aside;
use crate::adapters::process::keep::keepers;
use crate::adapters::{clock, machine};
use crate::diagnostic::Diagnostic;
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::path::lock_path;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::format::{Plan, ResultFile, WorkItem};
use crate::state::paths::{RunDir, SlotDir};
use crate::state::slots;
use crate::worker::mounted::{self, Mounting};
use carried::Carried;
pub(crate) use copied_links::CopiedLinks;
pub(crate) use look::Watching;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("work item {index} has no good result, but its `{path}` is needed")]
    NoResult { index: ItemIndex, path: String },
    #[error("`{path}` has disappeared from the project since the plan was made")]
    Gone { path: String },
    #[error("the lock entries of `{path}` do not fit together")]
    Lock { path: String },
}

impl From<WorkspaceError> for Diagnostic {
    fn from(error: WorkspaceError) -> Self {
        match error {
            WorkspaceError::Fs(error) => error.into(),
            WorkspaceError::Git(error) => error.into(),
            WorkspaceError::Place(error) => error.into(),
            WorkspaceError::NoResult { .. } => Diagnostic::project(error.to_string()).hint("run that work item first"),
            WorkspaceError::Gone { .. } => Diagnostic::project(error.to_string()).hint("run `dvc-fanout plan` again"),
            WorkspaceError::Lock { .. } => Diagnostic::internal(error.to_string()),
        }
    }
}

/// Where the things come from that a workspace is filled with.
pub(crate) struct Sources<'a> {
    pub plan: &'a Plan,
    pub run: &'a RunDir,
    pub git: &'a Git,
    /// The snapshot.
    pub store: &'a Store,
    /// The project's root.
    pub project: &'a Path,
    pub placing: Placing<'a>,
    /// Whether somebody asks for links of other types than the project's.
    pub is_linked_otherwise: bool,
    /// The text of `.dvc/config` and that of `.dvc/config.local`.
    pub config: (&'a str, &'a str),
}

/// A workspace that is ready to be filled.
pub(crate) struct Workspace {
    slot: SlotDir,
    /// The work tree's top.
    top: PathBuf,
    /// The project's folder in it, `""` for the top.
    prefix: String,
    /// The folders in it that have a repository of their own.
    nested: Vec<String>,
    /// Where the project's files that are linked lie: the top of its work tree, as commands find it.
    project: PathBuf,
    /// The project's second name, where commands see the workspace in the project's place.
    aside: Option<Aside>,
    /// The folder that commands find the cache in, if that is mounted there.
    mount_point: Option<String>,
    /// The snapshot.
    store: Store,
    /// The files of the snapshot that are in it, sorted by path.
    manifest: Vec<ManifestFile>,
    /// The links to what no snapshot holds.
    carried: Rc<Carried>,
    /// Whether files were seen in it that no list names, since their names are not UTF-8.
    has_odd_names: Cell<bool>,
    /// What was found in it after the commands had ended, until the reset: looking again would take as long.
    found: Option<Vec<Found>>,
    watching: Rc<Watching>,
    /// What something happened to since the workspace was clean; `None` for anything.
    touched: Option<HashSet<String>>,
    /// Whether the manifest tells of all files how they were written last: another process may have reset it before.
    is_exact: bool,
    /// The files that no stage declares and that earlier work items have left in it, relative to the project's root.
    given: HashMap<String, ResultFile>,
    /// The files that earlier work items have deleted, relative to the project's root.
    gone: HashSet<String>,
    /// The project's stage files and lock files in it, relative to the project's root.
    stage_files: Rc<[String]>,
    /// The repository in it with the inode of its folder, once it was asked for.
    opened: RefCell<Option<(u64, Rc<Git>)>>,
}

impl Workspace {
    /// Opens a slot's workspace, made anew if it holds another tree or is not clean. The slot's lock is held.
    ///
    /// `last` is the workspace as this process left it, if it had the slot all the time. With `mounting`, commands are to
    /// see it in the project's place.
    pub(crate) fn open(
        slot: SlotDir,
        sources: &Sources<'_>,
        last: Option<Workspace>,
        mounting: Option<&Mounting>,
    ) -> Result<Workspace, WorkspaceError> {
        let aside = mounting.map(Mounting::aside);
        let marker = marker(sources, aside)?;
        let top = slot.workspace();
        let left = fs::read_text_if_any(&slot.clean())?;
        let is_clean = left.as_deref() == Some(&marker) && fs::exists(&slot.manifest());
        if let Some(mut last) = last.filter(|_| is_clean) {
            last.make_mount_points()?;
            last.watch()?;
            fs::remove(&slot.clean())?;
            Rc::make_mut(&mut last.carried).place(sources.run)?;
            return Ok(last);
        }
        if !is_clean {
            fs::remove(&slot.clean())?;
            if left.is_none_or(|left| !is_since_start(&left)) {
                if fs::exists(&top) {
                    slots::end_leftovers(&slot);
                }
                fs::remove(&top)?;
            }
            let begin = Beginning {
                tree: sources.plan.workspace.as_deref().unwrap_or_default(),
                head: sources.plan.head.as_deref(),
                snapshot: sources.plan.snapshot.as_deref(),
                store: sources.store,
                nested: &sources.plan.nested,
                aside,
            };
            sources.git.check_out(begin, &top, &slot.manifest())?;
            slot.site_cache().map_or(Ok(()), |folder| fs::create_dir(&folder))?;
        }
        let manifest = git::read_manifest(&slot.manifest())?;
        fs::remove(&slot.clean())?;
        let store = Store::open(&sources.run.snapshot())?;
        let (prefix, nested) = (sources.plan.prefix.clone(), sources.plan.nested.clone());
        let top_of_project = sources.plan.top(sources.project);
        let project = aside.map_or_else(|| sources.git.workdir().to_owned(), |aside| aside.of(top_of_project));
        let mut carried = Carried::new(sources.plan, sources.project, &top, aside);
        carried.place(sources.run)?;
        let watching = Rc::new(Watching::new(top.clone()));
        let stage_files = projection::stage_files(&manifest, &prefix);
        let mut workspace = Workspace {
            slot,
            top,
            prefix,
            nested,
            project,
            aside: aside.cloned(),
            mount_point: mounting.and_then(Mounting::mount_point).map(str::to_owned),
            store,
            manifest,
            carried: Rc::new(carried),
            has_odd_names: Cell::new(false),
            found: None,
            watching,
            touched: None,
            is_exact: !is_clean,
            given: HashMap::new(),
            gone: HashSet::new(),
            stage_files,
            opened: RefCell::default(),
        };
        workspace.make_mount_points()?;
        workspace.watch()?;
        Ok(workspace)
    }

    /// Makes the folders that only commands in a namespace need.
    fn make_mount_points(&self) -> Result<(), FsError> {
        let own = self.aside.as_ref().map(|_| mounted::site_cache_in(&self.prefix));
        let points = self.mount_point.iter().chain(&own);
        points.map(|point| self.top.join(point)).try_for_each(|point| fs::create_dir(&point))
    }

    /// Looks for what other workers have put in the project.
    pub(crate) fn refresh(&mut self, sources: &Sources<'_>) -> Result<(), WorkspaceError> {
        Ok(Rc::make_mut(&mut self.carried).place(sources.run)?)
    }

    /// The project's root in the workspace.
    pub(crate) fn root(&self) -> PathBuf {
        self.top.join(&self.prefix)
    }

    /// What an earlier work item left at a path that no stage declares, as it was put in.
    pub(crate) fn given(&self, path: &str) -> Option<&ResultFile> {
        self.given.get(path)
    }

    /// Whether an earlier work item had deleted a file.
    pub(crate) fn is_gone(&self, path: &str) -> bool {
        self.gone.contains(path)
    }

    /// The watch on it.
    pub(crate) fn watching(&self) -> Rc<Watching> {
        Rc::clone(&self.watching)
    }

    /// The repository that commands see in it, if they see one.
    pub(crate) fn git(&self) -> Result<Rc<Git>, WorkspaceError> {
        use std::os::unix::fs::MetadataExt as _;
        let root = self.root();
        let Ok(found) = self.top.join(".git").symlink_metadata() else { return Ok(Rc::new(Git::none(&root))) };
        let mut opened = self.opened.borrow_mut();
        match &*opened {
            // A command may put another one in its place.
            Some((inode, git)) if *inode == found.ino() => Ok(Rc::clone(git)),
            Some(_) | None => {
                let git = Rc::new(Git::discover(&root)?);
                *opened = Some((found.ino(), Rc::clone(&git)));
                Ok(git)
            }
        }
    }

    /// Leaves the workspace to what a command has left running in it and stays, if there is anything; the next work item makes
    /// another one.
    pub(crate) fn leave(&self, run: &RunDir, attempt: AttemptNumber) -> bool {
        let folder = run.kept();
        let name = self.slot.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        !keepers(&folder).is_empty()
            && fs::rename(&self.top, &folder.join(format!("workspace-{name}-{attempt}-{}", clock::nanoseconds())))
                .is_ok()
    }

    /// Removes the workspace, which gives its room back; the next work item makes it anew.
    pub(crate) fn discard(&self) -> Result<(), WorkspaceError> {
        Ok(fs::remove(&self.top)?)
    }

    /// Marks a workspace that was reset as ready for the next work item. One with files that a reset does not see is made
    /// anew instead.
    pub(crate) fn mark_clean(&self, sources: &Sources<'_>) -> Result<(), WorkspaceError> {
        // Where somebody has removed the run, what describes the workspace may be gone as well.
        if self.has_odd_names.get() || !fs::exists(&sources.run.plan()) {
            return Ok(());
        }
        let marker = marker(sources, self.aside.as_ref())?;
        Ok(fs::write_plain(&self.slot.clean(), marker.as_bytes())?)
    }
}

/// What the file `clean` holds: since when the machine runs, and what the workspace was made from.
fn marker(sources: &Sources<'_>, aside: Option<&Aside>) -> Result<String, FsError> {
    let plan = sources.plan;
    let tree = plan.workspace.as_deref().unwrap_or_default();
    let brought = fs::read_text_if_any(&sources.run.brought())?.unwrap_or_default();
    let carried = fs::digest_bytes(format!("{}\n{brought}", plan.carry.linked.join("\n")).as_bytes());
    let head = plan.head.as_deref().unwrap_or("-");
    let seen = aside.map_or_else(String::new, |aside| format!(" {}", aside.name().display()));
    Ok(format!("{} {tree} {head} {} {carried}{seen}\n", machine::boot(), plan.setting))
}

/// Whether that was written since the machine was started.
fn is_since_start(marker: &str) -> bool {
    marker.split(' ').next().is_some_and(|boot| !boot.is_empty() && boot == machine::boot())
}

/// The entries that a work item's stages have in lock files below a folder, in its order.
pub(crate) fn entries(root: &Path, item: &WorkItem) -> Result<Vec<Option<String>>, WorkspaceError> {
    let mut files: HashMap<&str, HashMap<String, String>> = HashMap::new();
    for stage in item.stages.iter().filter(|stage| stage.name.is_some()) {
        if !files.contains_key(stage.file.as_str()) {
            files.insert(&stage.file, read_entries(root, &stage.file)?);
        }
    }
    let entry = |file: &str, name: &str| files.get(file)?.get(name).cloned();
    Ok(item.stages.iter().map(|stage| entry(&stage.file, stage.name.as_deref()?)).collect())
}

/// The lock entries beside a `dvc.yaml`, as `(stage name, bytes)`.
fn read_entries(root: &Path, file: &str) -> Result<HashMap<String, String>, WorkspaceError> {
    let path = lock_path(file);
    let Some(text) = fs::read_text_if_any(&root.join(&path))? else { return Ok(HashMap::new()) };
    let lock = Lockfile::parse(&text).map_err(|_| WorkspaceError::Lock { path })?;
    Ok(lock.names().filter_map(|name| Some((name.to_owned(), lock.entry(name)?.text().to_owned()))).collect())
}

fn make_parent(path: &Path) -> Result<(), FsError> {
    path.parent().map_or(Ok(()), fs::create_dir)
}
