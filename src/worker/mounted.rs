//! Workspaces that commands see at the project's own path, where this machine allows mounts.
//!
//! What is done without commands, by this program or by DVC, is done in the workspace by its own path; links in it lead
//! through the project's second name, which both find.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::adapters::fs;
use crate::adapters::mounts::{Aside, Bind, moved};
use crate::adapters::process;
use crate::adapters::process::inside::{self, Namespace};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path::join;
use crate::model::workspace_kind::WorkspaceKind;
use crate::output::text;
use crate::state::format::{Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::{RunDir, SlotDir};

/// What commands say where a mount is in their way: files cannot be moved or linked over it, nor can it be removed.
const AT_A_MOUNT: [&str; 3] = ["cross-device link", "device or resource busy", "resource busy or locked"];
/// What programs say where files of root seem to be somebody else's, as in a user namespace.
const AS_A_USER: [&str; 4] = ["bad owner or permissions", "effective uid is not 0", "owned by uid 0", "newuidmap"];

/// Programs that have others started by a daemon, or in a namespace that was there before: these find the project itself at
/// its path, and a workspace only at a path of its own.
const STARTED_ELSEWHERE: [&str; 6] = ["docker", "docker-compose", "podman", "buildah", "nerdctl", "systemd-run"];

/// What a worker needs to mount workspaces over the project.
pub(crate) struct Mounting {
    aside: Aside,
    /// The cache, if it lies in the project: relative to the top of its git work tree.
    cache: Option<String>,
    is_required: bool,
    is_off: Cell<bool>,
    /// Whether the cache was made for the mount alone.
    made_cache: Cell<bool>,
    /// The namespace of the attempt before.
    kept: RefCell<Option<Kept>>,
}

/// A namespace, which serves until other things are to be seen in it.
struct Kept {
    binds: Vec<Bind>,
    /// The folders that are seen, which exist as long as the namespace does: no other can get the number of one.
    inodes: Vec<u64>,
    namespace: Rc<Namespace>,
}

impl Drop for Mounting {
    /// Where nothing came into it, there is no cache afterwards, as after `dvc repro`.
    fn drop(&mut self) {
        if let Some(cache) = self.cache.as_ref().filter(|_| self.made_cache.get()) {
            drop(fs::remove_if_empty(&self.aside.project().join(cache)));
        }
    }
}

impl Mounting {
    /// Finds out what a worker does: `None` is a workspace at a path of its own.
    pub(crate) fn find(kind: WorkspaceKind, home: &ProjectHome, prefix: &str) -> Result<Option<Mounting>, Diagnostic> {
        match kind {
            WorkspaceKind::Linked => Ok(None),
            WorkspaceKind::Auto => Ok(Self::possible(home, prefix, false).ok()),
            WorkspaceKind::Mounted => Self::possible(home, prefix, true).map(Some).map_err(refused),
        }
    }

    /// Tries it out; `Err` says why it cannot be.
    pub(crate) fn possible(home: &ProjectHome, prefix: &str, is_required: bool) -> Result<Mounting, String> {
        let top = Plan::top_of(&home.root, prefix);
        let odd = || "DVC's settings cannot name its path".to_owned();
        if home.worker_config(&home.root).ok() != home.worker_config(&home.fanout().slots()).ok() {
            return Err(odd());
        }
        let aside = Aside::prepare(top).map_err(|error| Diagnostic::from(error).one_line())?;
        inside::try_out(&aside.binds()).map_err(|error| error.to_string())?;
        let cache = Path::new(&home.config.cache_dir).strip_prefix(top).ok();
        let cache = cache.map(|cache| cache.to_str().map(str::to_owned).ok_or_else(odd)).transpose()?;
        let (is_off, made_cache, kept) = (Cell::new(false), Cell::new(false), RefCell::new(None));
        Ok(Mounting { aside, cache, is_required, is_off, made_cache, kept })
    }

    pub(crate) fn aside(&self) -> &Aside {
        &self.aside
    }

    /// The folder of a workspace that the cache is mounted on.
    pub(crate) fn mount_point(&self) -> Option<&str> {
        self.cache.as_deref()
    }

    /// Whether commands of this run are not to see workspaces in the project's place any more.
    pub(crate) fn is_off(&self, run: &RunDir) -> bool {
        if !self.is_required && !self.is_off.get() && fs::exists(&run.linked_only()) {
            self.is_off.set(true);
        }
        self.is_off.get()
    }

    /// Whether a work item's commands seem to have programs started that would not see a mount.
    pub(crate) fn would_mislead(&self, item: &WorkItem) -> bool {
        let is_of_word = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
        let mut words = item.files.iter().flat_map(|file| file.text.split(|letter| !is_of_word(letter)));
        !self.is_required && words.any(|word| STARTED_ELSEWHERE.contains(&word))
    }

    /// Gives an attempt in a slot whose workspace is there its namespace, that of the attempt before where it shows the
    /// same; `None` where that fails for once.
    pub(crate) fn enter(&self, slot: &SlotDir) -> Result<Option<Rc<Namespace>>, Diagnostic> {
        let (project, bind) = (self.aside.project(), |from: PathBuf, to: PathBuf| Bind { from, to });
        let mut binds = self.aside.binds();
        binds.push(bind(slot.workspace(), project.to_owned()));
        if let Some(cache) = &self.cache {
            if !fs::exists(&project.join(cache)) {
                fs::create_dir(&project.join(cache))?;
                self.made_cache.set(true);
            }
            binds.push(bind(self.aside.name().join(cache), project.join(cache)));
        }
        let inodes = binds.iter().map(|bind| fs::inode(&bind.from)).collect::<Result<Vec<_>, _>>()?;
        let mut kept = self.kept.borrow_mut();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.binds == binds && kept.inodes == inodes) {
            return Ok(Some(Rc::clone(&kept.namespace)));
        }
        *kept = None;
        match Namespace::make(binds.clone(), slot.no_namespace()) {
            Ok(namespace) => {
                let namespace = Rc::new(namespace);
                *kept = Some(Kept { binds, inodes, namespace: Rc::clone(&namespace) });
                Ok(Some(namespace))
            }
            Err(error) if self.is_required => Err(refused(error.to_string())),
            Err(error) => {
                self.is_off.set(true);
                text::note(&format!("commands see workspaces beside the project from now on: {error}"));
                Ok(None)
            }
        }
    }

    /// What follows where a command failed in its namespace, given its last words: `None` if that is not the reason.
    pub(crate) fn blame(&self, words: &str) -> Option<Blame> {
        let words = words.to_lowercase();
        let is_said = |all: &[&str]| all.iter().any(|said| words.contains(said));
        let what = if is_said(&AT_A_MOUNT) {
            "the project is mounted where it runs, and files cannot be moved or linked over that"
        } else if is_said(&AS_A_USER) {
            "it runs in a user namespace, where files of root are nobody's and programs do not become root"
        } else {
            return None;
        };
        Some(Blame { what, is_tried_again: !self.is_required })
    }
}

/// By what right mounts are made.
pub(crate) fn means() -> &'static str {
    if process::user().0 == 0 { "as root may mount" } else { "in user namespaces" }
}

/// A limit of mounts that a command has met.
pub(crate) struct Blame {
    pub what: &'static str,
    /// Whether it is tried again in a workspace beside the project.
    pub is_tried_again: bool,
}

/// A namespace in which commands find the workspace at the project's root.
pub(crate) struct Mounted<'a> {
    pub namespace: Rc<Namespace>,
    pub mounting: &'a Mounting,
    pub root: &'a Path,
}

impl Mounted<'_> {
    /// Where commands find a directory of the workspace, whose project has this root.
    pub(crate) fn seen(&self, directory: &Path, workspace: &Path) -> PathBuf {
        moved(directory, workspace, self.root)
    }

    /// Where commands find a path of the project itself.
    pub(crate) fn aside(&self, path: &Path) -> PathBuf {
        self.mounting.aside.of(path)
    }

    /// Why the last command could not even begin; the next attempt does without.
    pub(crate) fn failure(&self) -> Option<String> {
        let failure = self.namespace.failure()?;
        self.mounting.is_off.set(!self.mounting.is_required);
        Some(failure)
    }

    /// The folder for databases of DVC's that commands start, which cannot see the slot.
    pub(crate) fn site_cache(&self) -> Option<PathBuf> {
        let folder = self.root.join(SITE_CACHE);
        (!folder.as_os_str().as_encoded_bytes().contains(&b'$')).then_some(folder)
    }
}

/// Where that is, from the project's root.
const SITE_CACHE: &str = ".dvc/tmp/site-cache";

/// The same from the top of the work tree.
pub(crate) fn site_cache_in(prefix: &str) -> String {
    join(prefix, SITE_CACHE)
}

fn refused(why: String) -> Diagnostic {
    Diagnostic::project("workspaces cannot be mounted over the project here")
        .cause(why)
        .hint("`--workspace auto` mounts them where it can, `--workspace linked` never does")
}
