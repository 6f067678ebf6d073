//! The process between a worker and a command whose background processes are to stay: a keeper.
//!
//! It inherits what the command leaves behind, so that all of it can be found and ended, whatever it calls itself. How the
//! command ended is said on the keeper's standard output, a socket: `n` for an exit with `n`, `-n` for signal `n`, 4 bytes.
//! Where a command succeeds and leaves something running, the keeper stays with it until it is over or not wanted any more,
//! and holds the lock of a file of its number in a folder meanwhile: who ends orphans spares the keepers of that folder. In
//! all other cases it ends with the command, and whatever came of it ends as well.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Command;

use super::{Ending, Running, descendants, stop, tie_to, wait};
use crate::adapters::fs;
use crate::adapters::signals::{Asked, Signals};

/// The hidden subcommand that is a keeper.
pub(crate) const KEEP: &str = "keep";
/// How long what was kept gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// How long what resists is chased.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// How often a keeper looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(200);

/// The keepers of a folder that stay with something.
pub(crate) fn keepers(folder: &Path) -> Vec<Pid> {
    let names = fs::names(folder).unwrap_or_default();
    let ids = names.iter().filter_map(|name| Pid::from_raw(name.parse().ok()?));
    ids.filter(|id| fs::is_locked(&folder.join(id.as_raw_nonzero().to_string())).unwrap_or(true)).collect()
}

/// Runs a command, tells how it ended, and stays with what it left running for as long as that is wanted.
pub(crate) fn keep(
    parent: u32,
    folder: &Path,
    is_wanted: impl Fn() -> bool,
    command: &[OsString],
) -> io::Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        descendants::adopt_orphans()?;
        tie_to(parent)?;
        let Some((program, arguments)) = command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program was named"));
        };
        let log = || Ok::<_, io::Error>(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
        let mut child = Running::Started(Box::new(Command::new(program).args(arguments).stdout(log()?).spawn()?));
        let ending = loop {
            tokio::select! {
                ending = wait(&mut child) => break ending,
                asked = signals.next() => if let Asked::Signal(signal) = asked {
                    stop(&mut child, GRACE).await;
                    break Ending::Signalled(i32::from(signal));
                },
            }
        };
        descendants::bury_orphans(None);
        if ending != Ending::Exited(0) || descendants::children().is_empty() {
            descendants::end_orphans(None, &[], ORPHAN_GRACE).await;
            return tell(&ending).map(|()| ending);
        }
        let own = rustix::process::getpid().as_raw_nonzero();
        let locked = fs::try_lock(&folder.join(own.to_string())).map_err(io::Error::other)?;
        rustix::process::set_parent_process_death_signal(None)?;
        tell(&ending)?;
        stay(&mut signals, is_wanted).await;
        drop(fs::remove(&folder.join(own.to_string())));
        drop(locked);
        Ok(ending)
    })
}

/// Tells the worker how the command ended. There is nothing more to say to it.
fn tell(ending: &Ending) -> io::Result<()> {
    let code = match ending {
        Ending::Exited(code) => *code,
        Ending::Signalled(signal) => -signal,
        Ending::NotStarted(why) => return Err(io::Error::other(why.clone())),
    };
    rustix::io::write(io::stdout(), &code.to_be_bytes())?;
    Ok(rustix::stdio::dup2_stdout(io::stderr())?)
}

/// Stays until nothing is left, or it is not wanted any more; then ends what is left.
async fn stay(signals: &mut Signals, is_wanted: impl Fn() -> bool) {
    while is_wanted() {
        tokio::select! {
            asked = signals.next() => if let Asked::Signal(_) = asked { break },
            () = tokio::time::sleep(POLL) => {}
        }
        descendants::bury_orphans(None);
        if descendants::children().is_empty() {
            return;
        }
    }
    let own = rustix::process::getpid();
    for process in descendants::tree(own).into_iter().filter(|process| *process != own) {
        let _gone_is_fine = rustix::process::kill_process(process, Signal::TERM);
    }
    let gone = async {
        while !descendants::children().is_empty() {
            descendants::bury_orphans(None);
            tokio::time::sleep(POLL / 10).await;
        }
    };
    if tokio::time::timeout(GRACE, gone).await.is_err() {
        descendants::end_orphans(None, &[], ORPHAN_GRACE).await;
    }
}
