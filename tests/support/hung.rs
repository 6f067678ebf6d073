//! A test that hangs in CI is named there: after a while it is said what its processes do, and they are killed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a project may live; many times what the longest test takes.
const LIMIT: Duration = Duration::from_mins(12);
/// How long it may take a test to fail once all its processes are gone.
const GRACE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_secs(15);

static WATCHED: LazyLock<Mutex<Vec<Watched>>> = LazyLock::new(|| {
    std::thread::spawn(watch);
    Mutex::default()
});

struct Watched {
    folder: Weak<TempDir>,
    home: PathBuf,
    test: String,
    since: Instant,
    is_killed: bool,
}

/// Who sets it has tests that take long on purpose (`contrib/soak`).
const LONG: &str = "DVC_FANOUT_TEST_LONG";

/// Watches the test that made this project. Without `CI` none is: somebody may be looking at a test that is held up.
pub(super) fn notice(folder: &Arc<TempDir>, home: &Path) {
    if std::env::var_os("CI").is_none() || std::env::var_os(LONG).is_some() {
        return;
    }
    let test = std::thread::current().name().unwrap_or("a thread of a test").to_owned();
    let (folder, home, since) = (Arc::downgrade(folder), home.to_owned(), Instant::now());
    let watched = Watched { folder, home, test, since, is_killed: false };
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
}

#[expect(clippy::exit, reason = "a thread that waits for something in this process cannot be ended")]
fn watch() {
    loop {
        std::thread::sleep(POLL);
        let mut all = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|watched| watched.folder.strong_count() > 0);
        for watched in all.iter_mut().filter(|watched| watched.since.elapsed() > LIMIT) {
            let test = &watched.test;
            if watched.since.elapsed() > LIMIT + GRACE {
                say(&format!("`{test}` hangs by itself, so all tests end here"));
                std::process::exit(101);
            }
            if !std::mem::replace(&mut watched.is_killed, true) {
                say(&format!("`{test}` has taken {} minutes; its processes are killed:", LIMIT.as_secs() / 60));
                super::processes_of(&watched.home).iter().for_each(|(id, line)| {
                    say(&format!("{id} {line}: {}", doing(*id)));
                    if let Some(process) = Pid::from_raw(*id) {
                        let _gone = kill_process(process, Signal::KILL);
                    }
                });
            }
        }
    }
}

/// What the threads of a process wait for, as far as the kernel tells this user.
fn doing(id: i32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let of_thread = |folder: PathBuf| {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let state =
            read("status").lines().find_map(|line| line.strip_prefix("State:").map(|state| state.trim().to_owned()));
        format!("{} {} {}", state.unwrap_or_default(), read("wchan"), read("syscall").trim())
    };
    threads.map(|thread| of_thread(thread.path())).collect::<Vec<_>>().join("; ")
}

/// Past what the test harness keeps back of tests that are not through.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
