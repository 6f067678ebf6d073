//! The process between this program and a child: it ends the child, and all that came of it, when it is told to or
//! when its parent ends.
//!
//! Killing a process does not reach those below it. So each child that may start others has an overseer as its parent,
//! which inherits what is orphaned below. Where the child ends, be it by KILL, the overseer ends what is left; where the
//! overseer ends, the child is told by the kernel, if it asked for that (`tie_to`).

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::keep::keepers;
use super::{Ending, Running, descendants, signal_process, tie_to, wait};
use crate::adapters::signals::{Asked, Signals};

/// How long what is left below a child that has ended is chased.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// How an overseer works.
#[derive(Clone, Debug)]
pub(crate) struct Oversight {
    /// The process whose end ends everything.
    pub parent: u32,
    /// Whether the child ties itself to this process where it is told to whom.
    pub is_tied: bool,
    /// How long a child that was told to end may take.
    pub grace: Duration,
    /// How long the child may take at all.
    pub limit: Option<Duration>,
    /// The folder of keepers that outlive it.
    pub kept: Option<PathBuf>,
}

/// How what was overseen came to its end.
#[derive(Debug)]
pub(crate) enum Overseen {
    Ended(Ending),
    TookTooLong,
}

/// Runs a program to its end, and ends all that it started and left.
pub(crate) fn oversee(oversight: &Oversight, command: &[OsString]) -> io::Result<Overseen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let mut ends = signal(SignalKind::child())?;
        descendants::adopt_orphans()?;
        tie_to(oversight.parent)?;
        let Some((program, arguments)) = command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program was named"));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if oversight.is_tied {
            command.arg("--parent").arg(std::process::id().to_string());
        }
        let mut child = Running::Started(Box::new(command.spawn()?));
        let id = child.id();
        let no_limit = Duration::from_secs(u64::MAX / 4);
        let limit = tokio::time::sleep(oversight.limit.unwrap_or(no_limit));
        tokio::pin!(limit);
        let overseen = loop {
            tokio::select! {
                ending = wait(&mut child) => break Overseen::Ended(ending),
                // Ctrl-C reaches the child by itself, or is none of its business.
                asked = signals.next() => if let Asked::Signal(_) = asked {
                    signal_process(&child, Signal::TERM);
                    let ending = tokio::time::timeout(oversight.grace, wait(&mut child)).await;
                    break Overseen::Ended(ending.unwrap_or(Ending::Signalled(Signal::KILL.as_raw())));
                },
                () = &mut limit => break Overseen::TookTooLong,
                _ = ends.recv() => descendants::bury_orphans(id),
            }
        };
        let keepers = oversight.kept.as_deref().map(keepers).unwrap_or_default();
        descendants::end_orphans(None, &keepers, ORPHAN_GRACE).await;
        Ok(overseen)
    })
}
