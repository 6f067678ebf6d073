//! Which files of a tree something happened to, as the kernel tells it (inotify).
//!
//! What cannot be told for sure is not told at all: then whoever asks has to look for himself.
//!
//! | happened | told |
//! |---|---|
//! | a file was made, written, moved, removed, or got another mode or time | its path |
//! | a directory was made | its path; what is below it has to be looked at |
//! | a new name was written to and is gone | nothing: it may have been a second name of another file |
//! | something with a name that is not UTF-8 | nothing |
//! | a watched directory was moved or removed, or too much happened | nothing, and nothing from then on |

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::adapters::fs::{Found, FoundKind};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;

/// What ends a watch.
const LOST: ReadFlags = ReadFlags::IGNORED
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::QUEUE_OVERFLOW)
    .union(ReadFlags::DELETE_SELF)
    .union(ReadFlags::MOVE_SELF);

/// What is told of a file. One that is written to through memory is open for writing as long as that lasts.
const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// A tree under watch.
pub(crate) struct Watch {
    inotify: OwnedFd,
    /// The watched directories, relative to the top of the tree.
    directories: HashMap<i32, String>,
    seen: Seen,
    is_over: bool,
}

/// What happened since somebody asked for the last time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Something happened to these paths, relative to the top, and to no other.
    Paths(HashSet<String>),
    /// Something may have happened to any file.
    Unsure,
    /// As well; and this watch will not tell what happens from now on.
    Over,
}

impl Watch {
    /// Watches a directory and all below it, which `fs::walk` has just `found`; `None` where the system does not allow
    /// as much. Nobody changes anything there meanwhile.
    pub(crate) fn begin(top: &Path, found: &[Found]) -> Option<Watch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let mut directories = HashMap::new();
        directories.insert(inotify::add_watch(&inotify, top, WANTED).ok()?, String::new());
        for found in found.iter().filter(|found| found.kind == FoundKind::Directory) {
            let number = inotify::add_watch(&inotify, top.join(&found.path), WANTED).ok()?;
            directories.insert(number, found.path.clone());
        }
        Some(Watch { inotify, directories, seen: Seen::default(), is_over: false })
    }

    /// Whether it tells what happens right in a directory.
    pub(crate) fn covers(&self, directory: &str) -> bool {
        self.directories.values().any(|watched| watched == directory)
    }

    /// What happened since the last call.
    pub(crate) fn ask(&mut self) -> Told {
        self.read();
        let seen = std::mem::take(&mut self.seen);
        if self.is_over { Told::Over } else { seen.told() }
    }

    /// The new names that were written to and are there. Whoever has looked at them may remove or replace them without
    /// being asked about it.
    pub(crate) fn written(&mut self) -> Vec<String> {
        self.read();
        let written = self.seen.names.iter_mut().filter(|(_, name)| **name == Name::Written);
        written.map(|(path, name)| (path.clone(), std::mem::replace(name, Name::New)).0).collect()
    }

    /// Takes note of what the kernel has told.
    fn read(&mut self) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        while !self.is_over {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            if event.events().intersects(LOST) {
                break;
            }
            // The directory itself, of which only its entries matter.
            let Some(name) = event.file_name() else { continue };
            let Ok(name) = name.to_str() else {
                self.seen.has_lost = true;
                continue;
            };
            let Some(directory) = self.directories.get(&event.wd()) else { break };
            let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
            // While somebody is in it, a directory that was removed does not say so itself.
            let is_gone = event.events().intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
            if is_gone && event.events().contains(ReadFlags::ISDIR) && self.covers(&path) {
                break;
            }
            self.seen.happened(path, event.events(), event.cookie());
        }
        self.is_over = true;
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Seen {
    names: HashMap<String, Name>,
    /// What was moved away and did not arrive yet, by the number of the move.
    moving: HashMap<u32, Name>,
    /// Whether a file is gone that may have been another one under a second name, or something has no name here.
    has_lost: bool,
}

/// What is there under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// What was there before, or nothing.
    Known,
    /// A file that came under this name, or a second name of one that was there.
    New,
    /// One of these that was written to.
    Written,
}

impl Seen {
    fn happened(&mut self, path: String, what: ReadFlags, cookie: u32) {
        let name = self.names.entry(path).or_insert(Name::Known);
        if what.contains(ReadFlags::CREATE) {
            *name = if what.contains(ReadFlags::ISDIR) { Name::Known } else { Name::New };
        } else if what.contains(ReadFlags::DELETE) {
            self.has_lost |= std::mem::replace(name, Name::Known) == Name::Written;
        } else if what.contains(ReadFlags::MOVED_FROM) {
            self.moving.insert(cookie, std::mem::replace(name, Name::Known));
        } else if what.contains(ReadFlags::MOVED_TO) {
            let moved = self.moving.remove(&cookie).unwrap_or(Name::New);
            self.has_lost |= std::mem::replace(name, moved) == Name::Written;
        } else if *name == Name::New {
            *name = Name::Written;
        }
    }

    fn told(self) -> Told {
        let has_lost = self.has_lost || self.moving.values().any(|name| *name == Name::Written);
        if has_lost { Told::Unsure } else { Told::Paths(self.names.into_keys().collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fs;
    use crate::dvc::config::LinkType;

    /// What is told after something was done in a tree with the files `a` and `d/b`.
    fn told(act: impl FnOnce(&Path)) -> Told {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let top = dir.path();
        // By a process of its own: one that another test starts meanwhile keeps the files of this one open for a moment.
        #[expect(clippy::disallowed_methods, reason = "a test's own process")]
        let made = std::process::Command::new("sh")
            .args(["-c", "mkdir d && printf a > a && printf b > d/b"])
            .current_dir(top)
            .status();
        assert!(made.is_ok_and(|made| made.success()));
        let found = fs::walk(top, &|_| false).expect("listed");
        let mut watch = Watch::begin(top, &found).expect("inotify is there");
        assert_eq!(watch.ask(), paths(&[]));
        act(top);
        let told = watch.ask();
        // While another test starts a process, that has the files open for a moment longer.
        if let Told::Paths(paths) = &told {
            assert!(matches!(watch.ask(), Told::Paths(again) if again.is_subset(paths)), "nothing else is told");
        }
        told
    }

    fn paths(paths: &[&str]) -> Told {
        Told::Paths(paths.iter().map(|path| (*path).to_owned()).collect())
    }

    fn plain(path: &Path) {
        fs::write_plain(path, b"new").expect("written");
    }

    #[test]
    fn what_is_written_made_moved_and_removed_is_told() {
        assert_eq!(told(|top| drop(fs::read(&top.join("a")))), paths(&[]));
        assert_eq!(told(|top| plain(&top.join("a"))), paths(&["a"]));
        assert_eq!(told(|top| plain(&top.join("d/c"))), paths(&["d/c"]));
        assert_eq!(told(|top| fs::rename(&top.join("a"), &top.join("d/e")).expect("moved")), paths(&["a", "d/e"]));
        assert_eq!(told(|top| fs::remove(&top.join("d/b")).expect("removed")), paths(&["d/b"]));
        assert_eq!(told(|top| fs::set_mode(&top.join("a"), 0o600).expect("set")), paths(&["a"]));
        assert_eq!(told(|top| plain(&top.join("new/below"))), paths(&["new"]));
    }

    #[test]
    fn a_file_that_takes_the_place_of_another_at_once_is_told() {
        let act = |top: &Path| {
            plain(&top.join("d/tmp"));
            fs::rename(&top.join("d/tmp"), &top.join("a")).expect("moved");
        };
        assert_eq!(told(act), paths(&["a", "d/tmp"]));
    }

    #[test]
    fn what_may_have_happened_to_another_name_is_not_known() {
        // The first name is told nothing of it.
        let by_a_second_name = |top: &Path| {
            fs::link(&top.join("a"), &top.join("d/second"), &[LinkType::Hardlink]).expect("linked");
            plain(&top.join("d/second"));
            fs::remove(&top.join("d/second")).expect("removed");
        };
        assert_eq!(told(by_a_second_name), Told::Unsure);
        let moved_out_of_sight = |top: &Path| {
            fs::create_dir(&top.join("new")).expect("made");
            plain(&top.join("d/c"));
            fs::rename(&top.join("d/c"), &top.join("new/c")).expect("moved");
        };
        assert_eq!(told(moved_out_of_sight), Told::Unsure);
    }

    #[test]
    fn what_was_looked_at_may_be_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let top = dir.path();
        let mut watch = Watch::begin(top, &[]).expect("inotify is there");
        let replace = || {
            plain(&top.join("tmp"));
            fs::rename(&top.join("tmp"), &top.join("a")).expect("moved");
        };
        plain(&top.join("a"));
        assert_eq!(watch.written(), ["a"]);
        assert_eq!(watch.written(), [""; 0]);
        replace();
        assert_eq!(watch.ask(), paths(&["a", "tmp"]));
        replace();
        plain(&top.join("a"));
        assert_eq!(watch.written(), ["a"]);
        plain(&top.join("a"));
        fs::remove(&top.join("a")).expect("removed");
        assert_eq!(watch.ask(), Told::Unsure);
    }

    #[test]
    fn a_watched_directory_that_goes_ends_the_watch_though_somebody_is_in_it() {
        let in_it = |top: &Path| {
            let open = std::fs::File::open(top.join("d")).expect("opened");
            fs::remove(&top.join("d")).expect("removed");
            plain(&top.join("d/new"));
            open
        };
        let mut open = None;
        assert_eq!(told(|top| open = Some(in_it(top))), Told::Over);
        drop(open);
    }

    #[test]
    fn a_watched_directory_that_goes_ends_the_watch() {
        assert_eq!(told(|top| fs::remove(&top.join("d")).expect("removed")), Told::Over);
        assert_eq!(told(|top| fs::rename(&top.join("d"), &top.join("e")).expect("moved")), Told::Over);
    }
}
