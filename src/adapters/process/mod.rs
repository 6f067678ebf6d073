//! Child processes: the only place that starts programs.
//!
//! | started by | between this process and the program | for |
//! |---|---|---|
//! | `output`, `output_unless` | `oversee` | short steps: DVC's version, git, transfers; what a person waits for |
//! | `start_overseen` | `oversee`, which stays; a process group of its own | workers |
//! | `start` | `guard`, which becomes the program; a process group of its own | the `dvc` of a worker, and what loads it |
//! | `start_directly` | nothing; a process group of its own | the commands of stages |
//! | `inside` | nothing, but a mount namespace around it; a process group of its own | the same, at the project's path |
//! | any of the last three, for `kept` | `keep`, which stays with what the program leaves running | stages whose services stay |
//! | `adopted` | nothing: it was left to this process by what loads DVC | the `dvc` of a worker |
//!
//! All but the commands of stages end with this process, however it ends; those are ended by whoever takes care of it,
//! or when their slot is used again. They are stopped TERM first and KILL after a grace period. Those that read what this
//! process would read (`input`) have no process group of their own.

pub(crate) mod descendants;
mod input;
pub(crate) mod inside;
pub(crate) mod keep;
pub(crate) mod oversee;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::env;
use crate::model::nice::Nice;

pub(crate) use input::Input;

/// The hidden subcommand that ties a program's life to its parent's.
pub(crate) const GUARD: &str = "guard";
/// The hidden subcommand that stays with a program, and ends whatever came of it.
pub(crate) const OVERSEE: &str = "oversee";
/// This program, also after another one was installed in its place.
pub(crate) const SELF: &str = "/proc/self/exe";
/// What it is called in lists of processes.
const SELF_NAME: &str = env!("CARGO_PKG_NAME");
/// How long a program that was told to stop gets before KILL, unless somebody says otherwise.
const GRACE: Duration = Duration::from_secs(10);

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
            Ending::Signalled(signal) if *signal == Signal::KILL.as_raw() => {
                write!(f, "was ended by signal {signal} (KILL, perhaps because memory ran out)")
            }
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
    /// Variables that it does not get.
    pub removed: Vec<OsString>,
    /// How long it may take, where `output` runs it.
    pub limit: Option<Duration>,
    /// What it reads, where `start` and its like run it.
    pub input: Input,
    /// What it has as standard output instead of the log.
    pub line: Option<Arc<OwnedFd>>,
}

impl Program {
    pub(crate) fn new(path: impl Into<OsString>) -> Self {
        Program {
            path: path.into(),
            arguments: vec![],
            environment: vec![],
            removed: vec![],
            limit: None,
            input: Input::Nothing,
            line: None,
        }
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

    #[must_use]
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The command line as a person would type it.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(&self.path).chain(&self.arguments);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A child under way, which leads a process group of its own.
#[derive(Debug)]
pub(crate) enum Running {
    Started(Box<Child>),
    /// Left to this process by one that it started.
    Adopted(Pid),
    /// A keeper, which says on a socket how its command ended, and may stay.
    Keeper(Box<Child>, tokio::net::UnixStream),
}

impl Running {
    /// Its id, and that of its group; `None` once it was waited for.
    pub(crate) fn id(&self) -> Option<Pid> {
        match self {
            Running::Started(child) | Running::Keeper(child, _) => Pid::from_raw(i32::try_from(child.id()?).ok()?),
            Running::Adopted(id) => Some(*id),
        }
    }

    /// The same as a keeper that was started with the other end of a socket pair as its standard output.
    pub(crate) fn into_keeper(self, line: UnixStream) -> io::Result<Running> {
        let Running::Started(child) = self else { return Ok(self) };
        line.set_nonblocking(true)?;
        Ok(Running::Keeper(child, tokio::net::UnixStream::from_std(line)?))
    }
}

/// The call of a keeper that runs a program, and the socket on which it says how that ended. It finds the folder of keepers at
/// `seen`.
pub(crate) fn kept(program: &Program, folder: &Path, seen: &Path) -> io::Result<(Program, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut call = Program { path: SELF.into(), arguments: vec![keep::KEEP.into()], ..program.clone() };
    call = call.arg("--parent").arg(std::process::id().to_string()).arg("--kept").arg(seen).arg("--");
    call.arguments.push(program.path.clone());
    call.arguments.extend(program.arguments.iter().cloned());
    // What it leaves is no leftover of a slot, and found where even its keeper was killed.
    call.environment.retain(|(name, _)| name != env::DVC_FANOUT_SLOT);
    call = call.env(env::DVC_FANOUT_KEPT, folder);
    call.line = Some(Arc::new(theirs.into()));
    Ok((call, ours))
}

/// Runs a program to its end and returns how it ended and what it wrote to stdout and stderr.
///
/// A program that takes longer than its limit fails.
pub(crate) fn output(program: &Program, directory: Option<&Path>) -> io::Result<std::process::Output> {
    let mut command = overseen(program, GRACE, None);
    command.stdin(Stdio::null());
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.output()
}

/// Like `output`, unless something else comes first: then the program is ended, with all that it started.
pub(crate) async fn output_unless<T>(
    program: &Program,
    directory: &Path,
    other: impl Future<Output = T>,
) -> io::Result<Result<std::process::Output, T>> {
    let mut command = Command::from(overseen(program, GRACE, None));
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut output = std::pin::pin!(child.wait_with_output());
    tokio::select! {
        output = &mut output => output.map(Ok),
        other = other => {
            if let Some(id) = id {
                let _gone_is_fine = rustix::process::kill_process(id, Signal::TERM);
            }
            // The overseer takes a moment longer than the grace period.
            drop(tokio::time::timeout(2 * GRACE, output).await);
            Ok(Err(other))
        }
    }
}

/// Runs a program to its end as a part of this one: with its standard streams, in its process group.
pub(crate) fn run_here(program: &Program, directory: &Path) -> Ending {
    #[expect(clippy::disallowed_methods, reason = "the room that starts programs")]
    let mut command = std::process::Command::new(&program.path);
    command.args(&program.arguments).envs(program.environment.iter().cloned()).current_dir(directory);
    Ending::from(command.status())
}

/// Starts a command of this program in a process group of its own with an overseer, stdout and stderr into a file.
///
/// The child is the overseer: to be stopped by TERM, when it gives the program the grace period. The program is told
/// to tie itself to the overseer, with `--parent ID`. Its standard input, or its standard output where it is to read what
/// this process would read, is one end of a socket pair; also returns the other. The keepers of the folder `kept` outlive
/// it.
pub(crate) fn start_overseen(
    program: &Program,
    directory: &Path,
    log: &File,
    grace: Duration,
    kept: &Path,
) -> io::Result<(Running, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::from(overseen(program, grace, Some(kept)));
    command.current_dir(directory).stderr(log.try_clone()?);
    if program.input.is_own() {
        command.stdin(Stdio::inherit()).stdout(OwnedFd::from(theirs));
    } else {
        command.stdin(OwnedFd::from(theirs)).stdout(log.try_clone()?).process_group(0);
    }
    Ok((Running::Started(Box::new(command.spawn()?)), ours))
}

/// The command line of an overseer; of a worker's, with the folder of keepers.
fn overseen(program: &Program, grace: Duration, kept: Option<&Path>) -> std::process::Command {
    #[expect(clippy::disallowed_methods, reason = "the room that starts programs")]
    let mut command = std::process::Command::new(SELF);
    command.arg0(SELF_NAME).arg(OVERSEE);
    command.arg("--parent").arg(std::process::id().to_string());
    command.arg("--grace-seconds").arg(grace.as_secs().to_string());
    if let Some(kept) = kept {
        command.arg("--tied").arg("--kept").arg(kept);
    }
    if let Some(limit) = program.limit {
        command.arg("--limit-seconds").arg(limit.as_secs().to_string());
    }
    command.arg("--").arg(&program.path).args(&program.arguments);
    for name in &program.removed {
        command.env_remove(name);
    }
    command.envs(program.environment.iter().cloned());
    command
}

/// Starts a program in a process group of its own that dies with this process, stdout and stderr into a file.
pub(crate) fn start(program: &Program, directory: &Path, log: &File, nice: Option<Nice>) -> io::Result<Running> {
    spawn(program, directory, program.input.stdio()?, log, nice)
}

/// Starts a program without anything between it and this process, in a process group of its own, stdout and stderr into a
/// file. Its end is up to this process.
pub(crate) fn start_directly(
    program: &Program,
    directory: &Path,
    log: &File,
    nice: Option<Nice>,
) -> io::Result<Running> {
    Ok(Running::Started(Box::new(spawn_nicely(direct(program, directory, log)?, nice)?)))
}

/// Starts a program that is as nice from its first moment on: a thread of its own is made so nice, which starts it and ends.
fn spawn_nicely(mut command: Command, nice: Option<Nice>) -> io::Result<Child> {
    let Some(priority) = priority(nice)? else { return command.spawn() };
    let runtime = Handle::current();
    let start = || {
        let _entered = runtime.enter();
        become_nice(priority);
        command.spawn()
    };
    std::thread::scope(|scope| scope.spawn(start).join()).map_err(|_| io::Error::other("a thread broke"))?
}

/// The priority of a program that is so much nicer than this one.
fn priority(nice: Option<Nice>) -> io::Result<Option<i32>> {
    Ok(nice.map(|nice| Ok::<_, Errno>(nice.below(rustix::process::getpriority_process(None)?))).transpose()?)
}

/// Gives this thread, and all that it starts, a priority, if that is allowed.
fn become_nice(priority: i32) {
    let _refused_is_fine = rustix::process::setpriority_process(None, priority);
}

/// What starts a program directly.
fn direct(program: &Program, directory: &Path, log: &File) -> io::Result<Command> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments);
    for name in env::GIT_LOCAL {
        command.env_remove(name);
    }
    command
        .envs(program.environment.iter().cloned())
        .current_dir(directory)
        .stdin(program.input.stdio()?)
        .stdout(output_of(program, log)?)
        .stderr(log.try_clone()?)
        .kill_on_drop(program.line.is_none());
    if !program.input.is_own() {
        command.process_group(0);
    }
    Ok(command)
}

/// What a program has as standard output.
fn output_of(program: &Program, log: &File) -> io::Result<Stdio> {
    Ok(match &program.line {
        Some(line) => line.try_clone()?.into(),
        None => log.try_clone()?.into(),
    })
}

/// Starts a program like `start`, with one end of a socket pair as its standard input; also returns the other.
pub(crate) fn start_on_line(
    program: &Program,
    directory: &Path,
    log: &File,
    nice: Option<Nice>,
) -> io::Result<(Running, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = spawn(program, directory, OwnedFd::from(theirs).into(), log, nice)?;
    Ok((child, ours))
}

fn spawn(program: &Program, directory: &Path, stdin: Stdio, log: &File, nice: Option<Nice>) -> io::Result<Running> {
    let mut command = Command::new(SELF);
    command.arg0(SELF_NAME).arg(GUARD);
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
        .stdin(stdin)
        .stdout(output_of(program, log)?)
        .stderr(log.try_clone()?)
        .kill_on_drop(program.line.is_none());
    if !program.input.is_own() {
        command.process_group(0);
    }
    Ok(Running::Started(Box::new(command.spawn()?)))
}

/// Takes over a process that one which this process started has left to it; `None` for what is no child.
pub(crate) fn adopted(id: Pid) -> Option<Running> {
    let is_child = matches!(rustix::process::waitpid(Some(id), WaitOptions::NOHANG), Ok(None));
    is_child.then_some(Running::Adopted(id))
}

/// Becomes another program that is killed when the process with the id `parent` ends; returns only on failure.
pub(crate) fn become_guarded(parent: u32, nice: Option<Nice>, command: &[OsString]) -> io::Error {
    if let Err(error) = tie_to(parent) {
        return error;
    }
    match priority(nice) {
        Ok(priority) => priority.into_iter().for_each(become_nice),
        Err(error) => return error,
    }
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program was named");
    };
    #[expect(clippy::disallowed_methods, reason = "the room that starts programs")]
    std::process::Command::new(program).args(arguments).exec()
}

/// Lets the kernel send TERM to this process when the one with the id `parent`, which started it, ends.
pub(crate) fn tie_to(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // The parent may have ended before the line above took effect.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != i32::try_from(parent).ok() {
        return Err(io::Error::other("the process that started it has ended"));
    }
    Ok(())
}

/// Sends what this process prints as messages to a file from now on.
pub(crate) fn print_into(log: &File) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(log)?)
}

/// Waits for a child's end.
pub(crate) async fn wait(child: &mut Running) -> Ending {
    match child {
        Running::Started(child) => Ending::from(child.wait().await),
        Running::Adopted(id) => Ending::from(wait_for(*id).await),
        Running::Keeper(child, line) => match line.read_i32().await {
            Ok(code) if code >= 0 => Ending::Exited(code),
            Ok(signal) => Ending::Signalled(-signal),
            // It has said why in the log, or was killed.
            Err(_) => Ending::from(child.wait().await),
        },
    }
}

/// Waits for a child that the runtime does not know.
async fn wait_for(id: Pid) -> io::Result<ExitStatus> {
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
    loop {
        match rustix::process::waitpid(Some(id), WaitOptions::NOHANG)? {
            Some((_, status)) => return Ok(ExitStatus::from_raw(status.as_raw())),
            None => ended.recv().await,
        };
    }
}

/// Stops a child and its process group, or all below it where it leads none: TERM, and KILL for what is left after the
/// grace period.
///
/// `dvc` ends at once and leaves its commands behind; they get the grace period as well.
pub(crate) async fn stop(child: &mut Running, grace: Duration) {
    let Some(group) = child.id() else { return };
    let leads = rustix::process::kill_process_group(group, Signal::TERM).is_ok();
    let below = if leads { vec![] } else { descendants::tree(group) };
    for process in &below {
        let _gone_is_fine = rustix::process::kill_process(*process, Signal::TERM);
    }
    let is_there = || {
        rustix::process::test_kill_process_group(group).is_ok()
            || below.iter().any(|process| rustix::process::test_kill_process(*process).is_ok())
    };
    let gone = async {
        wait(child).await;
        while is_there() {
            descendants::bury_orphans(None);
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(grace, gone).await.is_err() {
        end(child, group).await;
    }
}

/// Ends a child and its process group, if it leads one.
async fn end(child: &mut Running, group: Pid) {
    let _gone_is_fine = rustix::process::kill_process_group(group, Signal::KILL);
    signal_process(child, Signal::KILL);
    wait(child).await;
}

/// Lets an overseer stop its program; it takes a moment longer than the grace period that it was given.
pub(crate) async fn stop_overseen(child: &mut Running, grace: Duration) {
    let Some(group) = child.id() else { return };
    signal_process(child, Signal::TERM);
    if tokio::time::timeout(2 * grace, wait(child)).await.is_err() {
        end(child, group).await;
    }
}

/// Sends a signal to a child alone; one that is gone is fine.
fn signal_process(child: &Running, signal: Signal) {
    if let Some(pid) = child.id() {
        let _gone_is_fine = rustix::process::kill_process(pid, signal);
    }
}

/// Where the program of this process lies.
pub(crate) fn own_path() -> io::Result<std::path::PathBuf> {
    std::fs::read_link(SELF)
}

/// The ids of the user and the group that this process runs as.
pub(crate) fn user() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The name of a user.
pub(crate) fn name_of(user: u32) -> Option<String> {
    nix::unistd::User::from_uid(user.into()).ok().flatten().map(|user| user.name)
}

/// The home that a user has by name, `None` for the user that this process runs as.
pub(crate) fn home_of(name: Option<&str>) -> Option<String> {
    let found = match name {
        Some(name) => nix::unistd::User::from_name(name),
        None => nix::unistd::User::from_uid(user().0.into()),
    };
    found.ok().flatten()?.dir.into_os_string().into_string().ok()
}

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
