//! DVC's own locks, so that a `dvc repro` in another terminal is safe.
//!
//! | file under `.dvc/tmp` | what |
//! |---|---|
//! | `lock` | the repository lock: an exclusive `flock`, the holder's process id as text (`dvc/lock.py`); with `core.hardlink_lock` a hard link to the holder's claim, valid until its time of modification (`flufl.lock` 9) |
//! | `rwlock` | JSON: which paths a running stage reads and writes (`dvc/rwlock.py`) |
//!
//! `dvc repro` gives the repository lock away while a command runs and then fails after three seconds without it, so
//! it is never held for long. A running command's paths stand in `rwlock`; nobody adds any without the repository lock.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;

use crate::adapters::fs::{self, At as _, FsError, Locked};
use crate::adapters::process;

/// How often a lock that is held is tried again.
const POLL: Duration = Duration::from_millis(100);

/// Somebody holds the repository lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DvcLockError {
    #[error("DVC's repository lock is held by {holder}")]
    Held { holder: String, waited: Duration },
    #[error(transparent)]
    Files(#[from] FsError),
    #[error("`.dvc/tmp/rwlock` is not readable")]
    Corrupt(#[source] serde_json::Error),
}

impl From<DvcLockError> for crate::diagnostic::Diagnostic {
    fn from(error: DvcLockError) -> Self {
        let diagnostic = crate::diagnostic::Diagnostic::tool(error.to_string());
        match error {
            DvcLockError::Held { waited, .. } => diagnostic
                .detail(format!("waited {} seconds for `.dvc/tmp/lock`", waited.as_secs()))
                .hint("run the command again when that process is done, or wait longer with `--lock-timeout DURATION`"),
            DvcLockError::Files(error) => error.into(),
            DvcLockError::Corrupt(error) => {
                diagnostic.source(&error).hint("remove `.dvc/tmp/rwlock` if no `dvc` is running")
            }
        }
    }
}

/// DVC's repository lock, held until it is dropped.
#[derive(Debug)]
pub(crate) enum RepositoryLock {
    Flock(#[expect(dead_code, reason = "held, not read")] Locked),
    Link { lock: PathBuf, claim: PathBuf },
}

/// How long a hard link is valid whose holder was killed; far longer than a `collect` holds it.
const LIFETIME: Duration = Duration::from_mins(10);
/// How much later than its end `flufl.lock` breaks a lock.
const CLOCK_SLOP: Duration = Duration::from_secs(10);

impl RepositoryLock {
    /// Takes the lock of the project at `root`; while somebody else has it, tells `waiting` once who, up to `limit`.
    pub(crate) fn acquire(
        root: &Path,
        hardlink: bool,
        limit: Duration,
        waiting: &dyn Fn(&str),
    ) -> Result<Self, DvcLockError> {
        let path = root.join(".dvc/tmp/lock");
        let start = Instant::now();
        let mut told = false;
        loop {
            let lock = if hardlink { try_link(&path)? } else { fs::try_lock(&path)?.map(RepositoryLock::Flock) };
            if let Some(lock) = lock {
                return Ok(lock);
            }
            let holder = holder(&path);
            let waited = start.elapsed();
            if waited >= limit {
                return Err(DvcLockError::Held { holder, waited });
            }
            if !told {
                waiting(&holder);
                told = true;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for RepositoryLock {
    fn drop(&mut self) {
        if let RepositoryLock::Link { lock, claim } = self {
            drop(fs::remove(lock).and_then(|()| fs::remove(claim)));
        }
    }
}

/// Tries to make the lock a hard link to a claim of this process; breaks one whose time is over.
#[expect(clippy::disallowed_methods, reason = "an adapter reads the clock and makes links")]
fn try_link(lock: &Path) -> Result<Option<RepositoryLock>, FsError> {
    let now = SystemTime::now();
    let number = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let name = format!("{}|{}|{}|{number}", lock.display(), process::host(), std::process::id());
    let claim = PathBuf::from(&name);
    fs::write_plain(&claim, name.as_bytes())?;
    fs::set_modified(&claim, now + LIFETIME)?;
    match std::fs::hard_link(&claim, lock) {
        Ok(()) => return Ok(Some(RepositoryLock::Link { lock: lock.to_owned(), claim })),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).at("link", lock),
    }
    fs::remove(&claim)?;
    let end = std::fs::metadata(lock).and_then(|metadata| metadata.modified());
    if end.is_ok_and(|end| end + CLOCK_SLOP < now) && held_by_link(lock).is_some() {
        fs::remove(lock)?;
    }
    Ok(None)
}

/// The host and process id that a claim names: `LOCK|HOST|PID|NUMBER`.
fn held_by_link(lock: &Path) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(lock).ok()?;
    let mut parts = text.rsplit('|').skip(1);
    let pid = parts.next()?.parse().ok()?;
    Some((parts.next()?.to_owned(), pid))
}

/// Who holds the lock, as far as its file says.
fn holder(lock: &Path) -> String {
    match held_by_link(lock) {
        Some((host, pid)) if host == process::host() => process(pid),
        Some((host, pid)) => format!("process {pid} on {host}"),
        None => fs::lock_holder(lock).map_or_else(|| "another process".to_owned(), process),
    }
}

/// A process by its id and command line.
fn process(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let words = words.join(" ");
    if words.trim().is_empty() { format!("process {pid}") } else { format!("process {pid} (`{}`)", words.trim()) }
}

/// A path that a running stage uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    /// Absolute.
    pub path: String,
    pub is_written: bool,
    pub pid: u32,
    pub command: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RwLock {
    write: HashMap<String, Holder>,
    read: HashMap<String, Vec<Holder>>,
}

#[derive(Deserialize)]
struct Holder {
    pid: u32,
    cmd: String,
}

/// Lists the paths that stages run by living processes of this machine use.
pub(crate) fn busy_paths(root: &Path, _lock: &RepositoryLock) -> Result<Vec<Busy>, DvcLockError> {
    let Some(text) = fs::read_text_if_any(&root.join(".dvc/tmp/rwlock"))? else { return Ok(vec![]) };
    let locks: RwLock = serde_json::from_str(&text).map_err(DvcLockError::Corrupt)?;
    let written = locks.write.into_iter().map(|(path, holder)| (path, true, holder));
    let read = locks
        .read
        .into_iter()
        .flat_map(|(path, holders)| holders.into_iter().map(move |holder| (path.clone(), false, holder)));
    Ok(written
        .chain(read)
        .filter(|(_, _, holder)| Path::new(&format!("/proc/{}", holder.pid)).exists())
        .map(|(path, is_written, holder)| Busy { path, is_written, pid: holder.pid, command: holder.cmd })
        .collect())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write files by themselves")]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn waiting_says_who_holds_the_lock_and_has_a_limit() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = RepositoryLock::acquire(dir.path(), false, Duration::ZERO, &|_| {}).expect("free");
        let told = Cell::new(0);
        let error =
            RepositoryLock::acquire(dir.path(), false, Duration::from_millis(150), &|_| told.set(told.get() + 1));
        let text = error.expect_err("held").to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert_eq!(told.get(), 1);
        drop(held);
        assert!(RepositoryLock::acquire(dir.path(), false, Duration::ZERO, &|_| {}).is_ok());
    }

    #[test]
    fn a_hard_link_is_a_lock_until_its_time_is_over() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let acquire = || RepositoryLock::acquire(dir.path(), true, Duration::ZERO, &|_| {});
        let held = acquire().expect("free");
        let text = acquire().expect_err("held").to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(held);
        assert_eq!(fs::names(&dir.path().join(".dvc/tmp")).expect("listed"), Vec::<String>::new());
        std::mem::forget(acquire().expect("free again"));
        fs::set_modified(&dir.path().join(".dvc/tmp/lock"), SystemTime::UNIX_EPOCH).expect("set");
        assert!(acquire().is_err(), "broken, and free the next time");
        assert!(acquire().is_ok());
    }

    #[test]
    fn paths_of_dead_processes_do_not_count() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let lock = RepositoryLock::acquire(dir.path(), false, Duration::ZERO, &|_| {}).expect("free");
        assert_eq!(busy_paths(dir.path(), &lock).expect("no file"), []);
        let pid = std::process::id();
        let text = format!(
            r#"{{"write": {{"/p/s": {{"pid": {pid}, "cmd": "dvc repro"}}, "/p/t": {{"pid": 4194305, "cmd": "x"}}}}, "read": {{}}}}"#
        );
        std::fs::write(dir.path().join(".dvc/tmp/rwlock"), text).expect("written");
        let busy = busy_paths(dir.path(), &lock).expect("read");
        assert_eq!(busy, [Busy { path: "/p/s".into(), is_written: true, pid, command: "dvc repro".into() }]);
    }
}
