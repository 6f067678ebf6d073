//! Processes that outlive the program that started them: daemons, and the shells of a killed `dvc`.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

/// How often processes that are to end are looked at.
const POLL: Duration = Duration::from_millis(20);

/// Makes this process inherit the orphans of its descendants, so that it can end them.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Ends whatever a finished child left behind: its group, and processes that were handed to this one. Children that
/// are not orphans, and keepers, are `spared`.
///
/// Processes that resist are given up after the grace period; KILL cannot be resisted but may take a moment.
pub(crate) async fn end_orphans(group: Option<Pid>, spared: &[Pid], grace: Duration) {
    if let Some(group) = group {
        let _gone_is_fine = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let end = tokio::time::Instant::now() + grace;
    while tokio::time::Instant::now() < end {
        // Those of a process that ends become children of this one, and get their turn.
        let mut children = children();
        children.retain(|child| !spared.contains(child));
        if children.is_empty() {
            return;
        }
        for child in children {
            let _gone_is_fine = rustix::process::kill_process(child, Signal::KILL);
            let _gone_is_fine = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Takes note of the ends of processes that were handed to this one; those that nobody waits for stay in the kernel.
pub(super) fn bury_orphans(own: Option<Pid>) {
    for child in children().into_iter().filter(|child| Some(*child) != own) {
        let _running_is_fine = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
    }
}

/// The children of this process, by all of its threads.
pub(crate) fn children() -> Vec<Pid> {
    // The kernel tells by one call that there are none, as between two commands.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if rustix::process::waitid(WaitId::All, options).is_err_and(|error| error == rustix::io::Errno::CHILD) {
        return vec![];
    }
    children_of("self")
}

/// What processes are called that still run: their command lines.
pub(crate) fn command_lines(processes: &[Pid]) -> Vec<String> {
    let read = |id: &Pid| std::fs::read(format!("/proc/{}/cmdline", id.as_raw_nonzero())).unwrap_or_default();
    // That of one that has ended is empty.
    let lines = processes.iter().map(read).filter(|line| !line.is_empty());
    lines.map(|line| String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ")).collect()
}

/// A process and all that came of it and has not been orphaned.
pub(super) fn tree(process: Pid) -> Vec<Pid> {
    let mut tree = vec![process];
    let mut seen = 0;
    while let Some(process) = tree.get(seen) {
        tree.extend(children_of(&process.as_raw_nonzero().to_string()));
        seen += 1;
    }
    tree
}

/// The children of a process, as `/proc` calls it.
fn children_of(process: &str) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

/// Ends all processes that were started with this in their environment, wherever they are by now.
///
/// What is left of a tree whose every guardian was killed is found by nothing else. Processes of other users cannot be
/// looked at, and a command that clears its environment is not found. Given up after the grace period.
pub(crate) fn end_marked(name: &str, value: &Path, grace: Duration) {
    let mark = [name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat();
    let end = std::time::Instant::now() + grace;
    loop {
        let marked = marked(&mark);
        if marked.is_empty() || std::time::Instant::now() >= end {
            return;
        }
        for process in marked {
            let _gone_is_fine = rustix::process::kill_process(process, Signal::KILL);
        }
        std::thread::sleep(POLL);
    }
}

/// The processes beside this one that have a variable in the environment that they were started with.
fn marked(mark: &[u8]) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    ids.filter(|id| *id != own)
        .filter(|id| {
            // A process that has ended but is not buried has an empty one.
            let environment = std::fs::read(format!("/proc/{}/environ", id.as_raw_nonzero())).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark)
        })
        .collect()
}
