//! Commands within a mount namespace (`adapters::mounts`), which are children of this process as others are.
//!
//! | this process | who enters the namespace |
//! |---|---|
//! | is root | a thread, which starts all commands of an attempt |
//! | is not | `dvc-fanout inside`, once for each command, which becomes the command: a user namespace wants a process of its own |
//!
//! Root without the right to mount gets no user namespace: there is but one user in it, and root's commands expect
//! others.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Program, Running, SELF, become_nice, direct, output, priority, spawn_nicely, user};
use crate::adapters::fs;
use crate::adapters::mounts::{self, Bind};
use crate::model::nice::Nice;

/// The hidden subcommand that enters a namespace and becomes a program.
pub(crate) const INSIDE: &str = "inside";
/// How long trying it out may take.
const LIMIT: Duration = Duration::from_secs(10);

type Order = Box<dyn FnOnce() + Send>;

/// Where the commands of an attempt are started.
#[derive(Debug)]
pub(crate) enum Namespace {
    /// A thread that is in it.
    Entered(Sender<Order>),
    /// One for each command.
    Each { binds: Vec<Bind>, failure: PathBuf },
}

impl Namespace {
    /// Makes a namespace with these binds; that of a user is only tried out. `failure` is a file for the reason why a
    /// command's could not be made.
    pub(crate) fn make(binds: Vec<Bind>, failure: PathBuf) -> io::Result<Namespace> {
        if user().0 != 0 {
            return Ok(Namespace::Each { binds, failure });
        }
        let (orders, ordered) = mpsc::channel::<Order>();
        let (tell, told) = mpsc::channel();
        let enter = move || {
            let entered = mounts::enter(&binds);
            let is_in = entered.is_ok();
            drop(tell.send(entered));
            if is_in {
                ordered.into_iter().for_each(|order| order());
            }
        };
        std::thread::Builder::new().name("namespace".to_owned()).spawn(enter)?;
        told.recv().map_err(io::Error::other)??;
        Ok(Namespace::Entered(orders))
    }

    /// Starts a command as `start_directly` does, in a directory as it is seen within.
    pub(crate) fn start(
        &self,
        program: &Program,
        directory: &Path,
        log: &File,
        nice: Option<Nice>,
    ) -> io::Result<Running> {
        let child = match self {
            Namespace::Entered(orders) => {
                let mut command = direct(program, directory, log)?;
                let (tell, told) = mpsc::channel();
                let (runtime, priority) = (Handle::current(), priority(nice)?);
                let order = move || {
                    let _entered = runtime.enter();
                    // All commands of a worker are as nice, so the thread may stay so.
                    priority.into_iter().for_each(become_nice);
                    drop(tell.send(command.spawn()));
                };
                orders.send(Box::new(order)).map_err(|_| io::Error::other("its thread has ended"))?;
                told.recv().map_err(io::Error::other)??
            }
            Namespace::Each { binds, failure } => {
                fs::remove(failure).map_err(io::Error::other)?;
                spawn_nicely(direct(&wrapped(program, binds, directory, failure), Path::new("/"), log)?, nice)?
            }
        };
        Ok(Running::Started(Box::new(child)))
    }

    /// Why the namespace of the last command could not be made, so that it did not run.
    pub(crate) fn failure(&self) -> Option<String> {
        let Namespace::Each { failure, .. } = self else { return None };
        fs::read_text_if_any(failure).ok().flatten()
    }
}

/// Whether namespaces with these binds can be made here.
pub(crate) fn try_out(binds: &[Bind]) -> io::Result<()> {
    if user().0 == 0 {
        return Namespace::make(binds.to_vec(), PathBuf::new()).map(drop);
    }
    let program = wrapped(&Program::new(""), binds, Path::new("/"), Path::new("")).limit(LIMIT);
    let ran = output(&program, None)?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(io::Error::other(said.lines().last().unwrap_or("it was ended").to_owned()))
}

/// The call that enters a namespace and becomes a program; one without a name is none.
fn wrapped(program: &Program, binds: &[Bind], directory: &Path, failure: &Path) -> Program {
    let mut call = Program { path: SELF.into(), arguments: vec![INSIDE.into()], ..program.clone() };
    for Bind { from, to } in binds {
        call = call.arg("--bind").arg(from).arg(to);
    }
    if !failure.as_os_str().is_empty() {
        call = call.arg("--failure").arg(failure);
    }
    call = call.arg("--directory").arg(directory).arg("--");
    if !program.path.is_empty() {
        call.arguments.push(program.path.clone());
        call.arguments.extend(program.arguments.iter().cloned());
    }
    call
}

/// Enters a user's namespace and becomes a program; without one, only sees whether it can. Returns only on failure, or
/// where there is none.
pub(crate) fn become_inside(binds: &[Bind], directory: &Path, command: &[OsString]) -> Result<io::Error, io::Error> {
    mounts::enter_as_user(binds)?;
    let Some((program, arguments)) = command.split_first() else { return Ok(io::Error::other("no program was named")) };
    #[expect(clippy::disallowed_methods, reason = "the room that starts programs")]
    let mut command = std::process::Command::new(program);
    Ok(command.args(arguments).current_dir(directory).exec())
}
