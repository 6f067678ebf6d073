//! Mount namespaces: what a program, and all that comes of it, sees at a path, and nobody else does.
//!
//! A workspace that stands at the project's path hides the project, and some of it has to be there all the same: what no
//! snapshot holds, git's objects. So the project has a second name, *aside*, under which it is found within such a
//! namespace and outside of it:
//!
//! | `/tmp/dvc-fanout-USER/DIGEST/project` | is |
//! |---|---|
//! | outside | a symlink to the project |
//! | within | the project, mounted |
//!
//! Nothing is ever mounted outside. A namespace ends, and its mounts with it, when the last process in it does.
//!
//! A second name goes when its project is gone and no worker uses it: who shares `/tmp` (containers, say) need not see the
//! same projects.

#![expect(clippy::disallowed_methods, reason = "an adapter that writes what the kernel reads")]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use rustix::fs::FlockOperation;

use crate::adapters::fs::{self, At as _, FsError};

/// Where the second names of projects are: the same place for all workers of a user, whatever their environment says, so
/// that a command which writes it down leaves the same each time.
const PLACE: &str = "/tmp";
/// The digits that tell projects apart.
const DIGITS: usize = 12;
/// The mode of the folders on the way to a second name.
const THROUGH: u32 = 0o711;
/// How long is waited for others who make and remove second names.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// How many second names are looked at for those of projects that are gone.
const MAX_LOOKS: usize = 1000;

/// A project under its second name.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    project: PathBuf,
    folder: PathBuf,
    name: PathBuf,
    /// The folder, locked together with others who use it.
    _in_use: Arc<File>,
}

/// Something that is to be seen at another path as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub from: PathBuf,
    pub to: PathBuf,
}

impl Bind {
    /// One of two paths.
    pub(crate) fn of(paths: &[PathBuf]) -> Option<Bind> {
        let [from, to] = paths else { return None };
        Some(Bind { from: from.clone(), to: to.clone() })
    }
}

impl Aside {
    /// Gives a project, by its real path, a second name.
    pub(crate) fn prepare(project: &Path) -> Result<Aside, FsError> {
        let user = rustix::process::geteuid().as_raw();
        let place = Path::new(PLACE).join(format!("dvc-fanout-{user}"));
        let refused = |why: &str| Err(io::Error::other(why.to_owned())).at("use", &place);
        if place.starts_with(project) {
            return refused("it lies in the project");
        }
        fs::create_private_dir(&place)?;
        let found = place.symlink_metadata().at("look at", &place)?;
        if !found.is_dir() || found.uid() != user || found.mode() & 0o022 != 0 {
            return refused("somebody else may write to it");
        }
        // Others must not make and remove second names now: a project that is gone may be there again, as one on a node that
        // does task after task in the same folder.
        let _lock = fs::lock_within(&place.join("names.lock"), LOCK_LIMIT)?;
        let digest = fs::digest_bytes(project.as_os_str().as_encoded_bytes());
        let folder = place.join(&digest[..DIGITS]);
        if !fs::exists(&folder) {
            forget_gone(&place)?;
        }
        fs::create_dir(&folder)?;
        fs::create_dir(&stand_in(&folder).join("project"))?;
        let in_use = File::open(&folder).at("open", &folder)?;
        // Where locks are not to be had, nobody removes anything either.
        let _none_is_fine = rustix::fs::flock(&in_use, FlockOperation::NonBlockingLockShared);
        let name = folder.join("project");
        let aside = Aside { project: project.to_owned(), folder, name, _in_use: Arc::new(in_use) };
        // Root's commands may become somebody else, who finds what lies in the project as well.
        for folder in [&place, &aside.folder, &aside.stand_in()] {
            if fs::mode(folder)? != THROUGH {
                fs::set_mode(folder, THROUGH)?;
            }
        }
        if !fs::exists(&aside.name) {
            // Another worker may be as far, if the lock could not be had.
            drop(fs::symlink(project, &aside.name));
        }
        let target = std::fs::read_link(&aside.name).at("look at", &aside.name)?;
        if target == project { Ok(aside) } else { refused("it is another project's") }
    }

    /// The second name of a path in the project; any other path is itself.
    pub(crate) fn of(&self, path: &Path) -> PathBuf {
        moved(path, &self.project, &self.name)
    }

    /// The second name itself.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    pub(crate) fn project(&self) -> &Path {
        &self.project
    }

    /// What gives the second name within a namespace, where a symlink would lead to the workspace.
    pub(crate) fn binds(&self) -> Vec<Bind> {
        let bind = |from: PathBuf, to: &Path| Bind { from, to: to.to_owned() };
        vec![bind(self.stand_in(), &self.folder), bind(self.project.clone(), &self.name)]
    }

    fn stand_in(&self) -> PathBuf {
        stand_in(&self.folder)
    }
}

/// Where a path is found once a folder is seen at another place; one outside of the folder is itself.
pub(crate) fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Removes the second names of projects that are gone, as far as that works.
fn forget_gone(place: &Path) -> Result<(), FsError> {
    for name in fs::names(place)?.iter().filter(|name| !name.contains('.')).take(MAX_LOOKS) {
        let folder = place.join(name);
        let project = std::fs::read_link(folder.join("project"));
        let is_gone = project.is_ok_and(|project| project.symlink_metadata().is_err_and(|error| is_gone(&error)));
        if is_gone && !is_in_use(&folder) {
            drop(fs::remove(&folder).and_then(|()| fs::remove(&stand_in(&folder))));
        }
    }
    Ok(())
}

/// Whether a worker uses a second name, or that cannot be told.
fn is_in_use(folder: &Path) -> bool {
    let lock = |folder| rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive);
    File::open(folder).map_or(true, |folder| lock(folder).is_err())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// A folder like one with a second name, in which that one is a folder.
fn stand_in(folder: &Path) -> PathBuf {
    folder.with_extension("within")
}

/// Puts this thread into a namespace of its own with these binds, made in their order.
///
/// Processes that it starts from now on are in there; other threads are not.
pub(crate) fn enter(binds: &[Bind]) -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(|error| failed("no namespace", error))?;
    let none = None::<&Path>;
    // Nothing of what follows may get out.
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(none, Path::new("/"), none, flags, none).map_err(|error| failed("mounts are shared", error))?;
    for Bind { from, to } in binds {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        nix::mount::mount(Some(from.as_path()), to.as_path(), none, flags, none)
            .map_err(|error| failed(&format!("`{}` cannot be mounted", from.display()), error))?;
    }
    Ok(())
}

/// The same for a process that is not root: it becomes a user namespace's, where it is still the same user. It must have
/// one thread.
pub(crate) fn enter_as_user(binds: &[Bind]) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| failed("no user namespace", error))?;
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{user} {user} 1")),
        ("gid_map", format!("{group} {group} 1")),
    ];
    for (name, text) in maps {
        std::fs::write(Path::new("/proc/self").join(name), text)?;
    }
    enter(binds)
}

fn failed(what: &str, error: nix::Error) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_stays_though_others_remove_those_of_projects_that_are_gone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let root = dir.path();
                scope.spawn(move || {
                    for turn in 0..100 {
                        // Two come back to one folder after the other, and two have others.
                        let folder = if worker < 2 { worker.to_string() } else { format!("{worker}-{turn}") };
                        let project = root.join(folder);
                        fs::create_dir(&project).expect("made");
                        let aside = Aside::prepare(&project).expect("prepared");
                        std::thread::sleep(Duration::from_micros(500));
                        assert!(aside.stand_in().join("project").is_dir() && aside.name.is_symlink());
                        fs::remove(&project).expect("removed");
                    }
                });
            }
        });
    }

    #[test]
    fn a_second_name_that_is_in_use_stays_though_its_project_seems_to_be_gone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let prepared = |name: &str| {
            fs::create_dir(&dir.path().join(name)).expect("made");
            Aside::prepare(&dir.path().join(name)).expect("prepared")
        };
        let aside = prepared("one");
        // Another container does not see it.
        fs::remove(aside.project()).expect("removed");
        drop(prepared("two"));
        assert!(aside.stand_in().is_dir() && aside.name.is_symlink());
        let (stand_in, name) = (aside.stand_in(), aside.name.clone());
        drop(aside);
        drop(prepared("three"));
        assert!(!stand_in.exists() && !name.is_symlink());
    }
}
