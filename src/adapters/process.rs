//! Child processes: the only place that starts programs.
//!
//! A child gets a process group of its own, is stopped TERM first and KILL after a grace period, and dies with this
//! process: `guard` asks the kernel for that and then becomes the program.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use crate::env;

/// The hidden subcommand that ties a program's life to its parent's.
pub(crate) const GUARD: &str = "guard";

/// The number of the signal that Ctrl-C sends.
pub(crate) const INTERRUPT: i32 = Signal::INT.as_raw();

/// How often a group that was told to stop is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Signalled(i32),
    NotStarted(String),
}

impl From<io::Result<ExitStatus>> for Ending {
    fn from(status: io::Result<ExitStatus>) -> Self {
        match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => Ending::Exited(code),
                (None, signal) => Ending::Signalled(signal.unwrap_or_default()),
            },
            Err(error) => Ending::NotStarted(error.to_string()),
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "exited with {code}"),
            Ending::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            Ending::NotStarted(why) => write!(f, "could not be started: {why}"),
        }
    }
}

/// A program to start: what, where and with which changes to the environment.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub path: OsString,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
}

impl Program {
    pub(crate) fn new(path: impl Into<OsString>) -> Self {
        Program { path: path.into(), arguments: vec![], environment: vec![] }
    }

    #[must_use]
    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The command line as a person would type it.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(&self.path).chain(&self.arguments);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// Runs a program to its end and returns how it ended and what it wrote to stdout and stderr.
pub(crate) fn output(program: &Program, directory: Option<&Path>) -> io::Result<std::process::Output> {
    #[expect(clippy::disallowed_methods, reason = "the room that starts programs")]
    let mut command = std::process::Command::new(&program.path);
    command.args(&program.arguments).envs(program.environment.iter().cloned()).stdin(Stdio::null());
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.output()
}

/// Starts a program in a process group of its own that dies with this process, stdout and stderr into a file.
pub(crate) fn start(program: &Program, directory: &Path, log: &File, nice: Option<i32>) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(GUARD);
    if let Some(nice) = nice {
        command.arg("--nice").arg(nice.to_string());
    }
    command.arg("--parent").arg(std::process::id().to_string()).arg("--").arg(&program.path).args(&program.arguments);
    for name in env::GIT_LOCAL {
        command.env_remove(name);
    }
    command
        .envs(program.environment.iter().cloned())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Becomes another program that is killed when the process with the id `parent` ends; returns only on failure.
pub(crate) fn become_guarded(parent: u32, nice: Option<i32>, command: &[OsString]) -> io::Error {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        return error.into();
    }
    // The parent may have ended before the line above took effect.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != i32::try_from(parent).ok() {
        return io::Error::other("the process that started it has ended");
    }
    if let Some(nice) = nice
        && let Err(error) = rustix::process::nice(nice)
    {
        return error.into();
    }
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program was named");
    };
    #[expect(clippy::disallowed_methods, reason = "the room that starts programs")]
    std::process::Command::new(program).args(arguments).exec()
}

/// Waits for a child's end.
pub(crate) async fn wait(child: &mut Child) -> Ending {
    Ending::from(child.wait().await)
}

/// Stops a child: TERM to its process group, KILL after the grace period. Returns how it ended.
pub(crate) async fn stop(child: &mut Child, grace: Duration) -> Ending {
    signal_group(child, Signal::TERM);
    if let Ok(ending) = tokio::time::timeout(grace, wait(child)).await {
        return ending;
    }
    signal_group(child, Signal::KILL);
    wait(child).await
}

/// Sends a signal to the process group that a child leads; a group that is gone is fine.
pub(crate) fn signal_group(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _gone_is_fine = rustix::process::kill_process_group(pid, signal);
    }
}

/// The signals that ask this process to end.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one and returns its number.
    pub(crate) async fn next(&mut self) -> i32 {
        let signal = tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        };
        signal.as_raw()
    }
}

/// Makes this process inherit the orphans of its descendants, so that it can end them.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Ends whatever a finished child left behind: its group, and processes that were handed to this one.
///
/// Processes that resist are given up after the grace period; KILL cannot be resisted but may take a moment.
pub(crate) async fn end_orphans(group: Option<u32>, grace: Duration) {
    if let Some(pid) = group.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _gone_is_fine = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    let end = tokio::time::Instant::now() + grace;
    while tokio::time::Instant::now() < end {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _gone_is_fine = rustix::process::kill_process(child, Signal::KILL);
            let _gone_is_fine = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::NOHANG);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The children of this process, by all of its threads.
fn children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

/// The ids of the user and the group that this process runs as.
#[cfg(feature = "kubernetes")]
pub(crate) fn user() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
