//! DVC's own locks, so that a `dvc repro` in another terminal is safe.
//!
//! | file under `.dvc/tmp` | what |
//! |---|---|
//! | `lock` | the repository lock: an exclusive `flock`, the holder's process id as text (`dvc/lock.py`) |
//! | `rwlock` | JSON: which paths a running stage reads and writes (`dvc/rwlock.py`) |
//!
//! `dvc repro` gives the repository lock away while a command runs and then fails after three seconds without it, so
//! it is never held for long. A running command's paths stand in `rwlock`; nobody adds any without the repository lock.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::fs::{self, FsError, Locked};

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
                .hint("run the command again when that process is done, or wait longer with `--lock-timeout SECONDS`"),
            DvcLockError::Files(error) => error.into(),
            DvcLockError::Corrupt(error) => {
                diagnostic.source(&error).hint("remove `.dvc/tmp/rwlock` if no `dvc` is running")
            }
        }
    }
}

/// DVC's repository lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct RepositoryLock {
    _locked: Locked,
}

impl RepositoryLock {
    /// Takes the lock of the project at `root`; while somebody else has it, tells `waiting` once who, up to `limit`.
    pub(crate) fn acquire(root: &Path, limit: Duration, waiting: &dyn Fn(&str)) -> Result<Self, DvcLockError> {
        let path = root.join(".dvc/tmp/lock");
        let start = Instant::now();
        let mut told = false;
        loop {
            if let Some(locked) = fs::try_lock(&path)? {
                return Ok(RepositoryLock { _locked: locked });
            }
            let holder = fs::lock_holder(&path).map_or_else(|| "another process".to_owned(), process);
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
        let held = RepositoryLock::acquire(dir.path(), Duration::ZERO, &|_| {}).expect("free");
        let told = Cell::new(0);
        let error = RepositoryLock::acquire(dir.path(), Duration::from_millis(150), &|_| told.set(told.get() + 1));
        let text = error.expect_err("held").to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert_eq!(told.get(), 1);
        drop(held);
        assert!(RepositoryLock::acquire(dir.path(), Duration::ZERO, &|_| {}).is_ok());
    }

    #[test]
    fn paths_of_dead_processes_do_not_count() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let lock = RepositoryLock::acquire(dir.path(), Duration::ZERO, &|_| {}).expect("free");
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
