//! Claims: files that keep others out also where a lock of the kernel holds on one machine only, as it does on many shared
//! file systems.
//!
//! A claim appears whole under its name, and says who holds it; the holder writes it anew now and then. One whose holder is
//! known to be gone, or that nobody has written for long, is taken over: it is moved away first, so that of several who want
//! it only one does that.
//!
//! `HOST PROCESS LIFE NONCE`: the life stands for the kernel and the process on it.

#![expect(clippy::disallowed_methods, reason = "an adapter that makes, moves and removes files of its own")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::adapters::beat::Beat;
use crate::adapters::fs::FsError;
use crate::adapters::{clock, process};

/// How often a claim is tried for that others take over at the same time.
const TRIES: u32 = 20;

/// How alive a holder has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    /// How often the holder writes.
    pub beat: Duration,
    /// After how long without that it counts as gone.
    pub limit: Duration,
}

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub host: String,
    pub process: u32,
}

/// A claim of this process, which ends with this value.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    text: String,
    beat: Beat,
}

/// Takes a claim without waiting; returns its holder if somebody else has it.
pub(crate) fn take(path: &Path, pulse: Pulse) -> Result<Result<Claim, Holder>, FsError> {
    let error = |source| FsError { action: "claim", path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        super::fs::create_dir(parent)?;
    }
    let id = std::process::id();
    let text = format!("{} {id} {} {:x}\n", process::host(), life(id).unwrap_or_default(), clock::nanoseconds());
    for _ in 0..TRIES {
        match make(path, &text) {
            Ok(()) => return Ok(Ok(Claim::keep(path, text, pulse))),
            Err(there) if there.kind() == io::ErrorKind::AlreadyExists => {}
            Err(other) => return Err(error(other)),
        }
        let Some((seen, holder)) = read(path) else { continue };
        if !is_over(path, &seen, pulse) {
            return Ok(Err(holder));
        }
        set_aside(path, &seen).map_err(error)?;
    }
    Ok(Err(Holder { host: "?".to_owned(), process: 0 }))
}

/// Makes a claim unless there is one. It is never there without its text: if its holder were killed in between, nobody could
/// tell that it is gone.
fn make(path: &Path, text: &str) -> io::Result<()> {
    let write = |mut file: &fs::File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut hidden = tempfile::Builder::new();
    let hidden = hidden.prefix(".claim-").permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)?;
    write(hidden.as_file())?;
    match fs::hard_link(hidden.path(), path) {
        // Not every file system has second names.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            write(&OpenOptions::new().write(true).create_new(true).open(path)?)
        }
        linked => linked,
    }
}

/// Who holds a claim; `None` where nobody does any more.
pub(crate) fn holder(path: &Path, pulse: Pulse) -> Option<Holder> {
    let (text, holder) = read(path)?;
    (!is_over(path, &text, pulse)).then_some(holder)
}

impl Claim {
    fn keep(path: &Path, text: String, pulse: Pulse) -> Claim {
        let (kept, own) = (path.to_owned(), text.clone());
        let beat = Beat::every(pulse.beat, move || {
            // The time of the file is the server's, whatever this machine's clock says.
            if fs::read_to_string(&kept).is_ok_and(|text| text == own)
                && let Ok(mut file) = OpenOptions::new().write(true).open(&kept)
            {
                drop(file.write_all(own.as_bytes()));
            }
        });
        Claim { path: path.to_owned(), text, beat }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.beat.stop();
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// What a claim says; one that is just being written says nothing yet.
fn read(path: &Path) -> Option<(String, Holder)> {
    let text = fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let host = words.next().unwrap_or("?").to_owned();
    let process = words.next().and_then(|id| id.parse().ok()).unwrap_or_default();
    Some((text, Holder { host, process }))
}

/// Whether the holder of a claim is gone.
fn is_over(path: &Path, text: &str, pulse: Pulse) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    if let [_, id, theirs, _] = words.as_slice()
        && let (Some((kernel, _)), Some(own)) = (theirs.rsplit_once('.'), life(std::process::id()))
        && own.rsplit_once('.').is_some_and(|(ours, _)| ours == kernel)
    {
        // It is one of this kernel's processes: nobody has to guess.
        return id.parse().ok().and_then(life).is_none_or(|now| now != *theirs);
    }
    // One without its text is about to get it.
    let limit = if words.is_empty() { pulse.beat } else { pulse.limit };
    age(path).is_some_and(|age| age > limit)
}

/// How long ago a file was written, by the clock of whoever keeps it.
fn age(path: &Path) -> Option<Duration> {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    let now = path.parent().and_then(|folder| {
        let beside = tempfile::NamedTempFile::with_prefix_in(".now-", folder).ok()?;
        beside.as_file().metadata().and_then(|metadata| metadata.modified()).ok()
    });
    // The folder may be one to read only.
    let now = now.unwrap_or_else(SystemTime::now);
    now.duration_since(written).ok()
}

/// Moves a claim away that says this, unless another has come in its place meanwhile.
fn set_aside(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension(format!("over-{}-{:x}", std::process::id(), clock::nanoseconds()));
    match fs::rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    if fs::read_to_string(&aside).is_ok_and(|there| there != text) {
        // It is somebody's who was quicker: back to its place, unless yet another is there.
        drop(fs::hard_link(&aside, path));
    }
    fs::remove_file(&aside)
}

/// Stands for a process on this kernel and for no other one that may get its id; `None` where there is none.
fn life(id: u32) -> Option<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of a program may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    let begun = fields.nth(18)?;
    Some(format!("{}.{space}.{begun}", kernel.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULSE: Pulse = Pulse { beat: Duration::from_millis(20), limit: Duration::from_secs(60) };

    fn try_take(path: &Path) -> Option<Claim> {
        take(path, PULSE).expect("tried").ok()
    }

    #[test]
    fn a_claim_keeps_others_out_until_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/launch.claim");
        let claim = try_take(&path).expect("free");
        assert_eq!(holder(&path, PULSE).map(|holder| holder.process), Some(std::process::id()));
        assert!(try_take(&path).is_none());
        drop(claim);
        assert!(!path.exists() && holder(&path, PULSE).is_none());
        assert!(try_take(&path).is_some());
    }

    #[test]
    fn a_claim_of_a_process_that_is_gone_is_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("launch.claim");
        let own = life(std::process::id()).expect("it lives");
        fs::write(&path, format!("here {} {own}9 x\n", std::process::id())).expect("written");
        let claim = try_take(&path).expect("another process had this id");
        assert!(try_take(&path).is_none());
        drop(claim);
    }

    #[test]
    fn a_claim_of_another_machine_is_free_once_nobody_has_written_it_for_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("launch.claim");
        fs::write(&path, "far 7 another.1.5 x\n").expect("written");
        assert!(try_take(&path).is_none());
        let long_ago = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("read") - PULSE.limit * 2;
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_modified(long_ago)).expect("set");
        let claim = try_take(&path).expect("nobody holds it");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing is left of the old one");
        drop(claim);
    }

    #[test]
    fn a_claim_whose_holder_was_killed_before_it_wrote_is_free_soon() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("launch.claim");
        let pulse = Pulse { beat: Duration::from_secs(60), limit: Duration::from_secs(3600) };
        fs::write(&path, "").expect("written");
        assert!(take(&path, pulse).expect("tried").is_err(), "it may be written right now");
        let then = SystemTime::now() - pulse.beat * 2;
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_modified(then)).expect("set");
        assert!(take(&path, pulse).expect("tried").is_ok());
    }

    #[test]
    fn a_claim_is_never_seen_without_its_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("launch.claim");
        let seen = std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let (begun, mut seen) = (std::time::Instant::now(), vec![]);
                while begun.elapsed() < Duration::from_millis(300) {
                    seen.extend(fs::read_to_string(&path));
                }
                seen
            });
            while !looking.is_finished() {
                drop(try_take(&path));
            }
            looking.join().expect("looked")
        });
        assert!(!seen.is_empty() && seen.iter().all(|text| text.ends_with('\n')), "{seen:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0, "nothing is left");
    }

    #[test]
    fn a_claim_is_written_anew_while_it_is_held() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("launch.claim");
        let claim = try_take(&path).expect("free");
        let written = || fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("read");
        let first = written();
        let begun = std::time::Instant::now();
        while written() == first {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody writes it");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(claim);
    }
}
