//! Watches a child of a worker to its end, whatever it is: under signals, a timeout, and with nothing of it left behind.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use tokio::runtime::Runtime;

use crate::adapters::process::keep::keepers;
use crate::adapters::process::{self, Ending, Running, descendants};
use crate::adapters::signals::{Asked, Signals};
use crate::diagnostic::Diagnostic;

/// How long a stopped child gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// How long processes that a command left behind are chased.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// How a child came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Ended(Ending),
    /// After this many seconds.
    TimedOut(u64),
    /// This process was asked to end by a signal.
    Signalled(u8),
}

impl Stopped {
    pub(crate) fn is_success(&self) -> bool {
        *self == Stopped::Ended(Ending::Exited(0))
    }
}

/// A child that was begun, and the process that it came from, which outlives it.
pub(crate) type Begun = (Running, Option<Pid>);

/// Comes with the next request to end this process.
pub(crate) type NextRequest<'w> = std::pin::Pin<Box<dyn Future<Output = Asked> + 'w>>;

/// What watches one child after another, and takes requests to end.
pub(crate) struct Watch {
    runtime: Runtime,
    signals: Signals,
    /// The folder of keepers, which stay.
    kept: PathBuf,
    /// The commands that were ended since somebody asked for them.
    ended: Vec<String>,
    /// How long a child gets between TERM and KILL where the time of a batch system is nearly over.
    last_grace: Duration,
}

impl Watch {
    /// From now on requests to end do not end this process; `watch`, `wait_for` and `asked` tell of them.
    pub(crate) fn new(kept: PathBuf) -> Result<Watch, Diagnostic> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Diagnostic::tool("cannot start the async runtime").source(&error))?;
        let signals = Signals::listen().map_err(|error| Diagnostic::tool("cannot listen to signals").source(&error))?;
        descendants::adopt_orphans().map_err(|error| Diagnostic::tool("cannot adopt orphans").source(&error))?;
        Ok(Watch { runtime, signals, kept, ended: vec![], last_grace: GRACE })
    }

    /// The same with so long for a child that has to end since the time of a batch system is nearly over.
    pub(crate) fn with_last_grace(self, grace: Option<Duration>) -> Watch {
        Watch { last_grace: grace.unwrap_or(self.last_grace), ..self }
    }

    /// Waits for something else, unless this process is asked to end.
    pub(crate) fn wait_for<T>(&mut self, something: impl Future<Output = T>) -> Result<T, Asked> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                asked = self.signals.next() => Err(asked),
                thing = something => Ok(thing),
            }
        })
    }

    /// Runs something that is given what tells of the next request to end this process.
    pub(crate) fn unless_asked<'w, T, F: Future<Output = T>>(
        &'w mut self,
        something: impl FnOnce(NextRequest<'w>) -> F,
    ) -> T {
        let Watch { runtime, signals, .. } = self;
        runtime.block_on(something(Box::pin(signals.next())))
    }

    /// Waits for something that takes no time.
    pub(crate) fn finish<T>(&self, something: impl Future<Output = T>) -> T {
        self.runtime.block_on(something)
    }

    /// The request to end that has come meanwhile.
    pub(crate) fn asked(&mut self) -> Option<Asked> {
        self.signals.came()
    }

    /// Makes something that belongs to the runtime.
    pub(crate) fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        make()
    }

    /// The commands that children left running and that were ended since the last time.
    pub(crate) fn take_ended(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ended)
    }

    /// Begins a child and watches it to its end, or to the timeout, or to a request to end; then ends what it left behind.
    ///
    /// Of this process's other descendants only `spared` lives on where a request comes before the child is there.
    pub(crate) fn watch(
        &mut self,
        begin: impl Future<Output = io::Result<Begun>>,
        spared: Option<Pid>,
        timeout_seconds: Option<u64>,
    ) -> io::Result<Stopped> {
        self.runtime.block_on(async {
            let begun = tokio::select! {
                biased;
                asked = self.signals.next() => Err(asked),
                begun = begin => Ok(begun?),
            };
            let (mut child, spared) = match begun {
                Ok(begun) => begun,
                Err(asked) => {
                    let spared: Vec<Pid> = keepers(&self.kept).into_iter().chain(spared).collect();
                    descendants::end_orphans(None, &spared, ORPHAN_GRACE).await;
                    return Ok(Stopped::Signalled(asked.signal()));
                }
            };
            let group = child.id();
            let limit = Duration::from_secs(timeout_seconds.unwrap_or(u64::MAX / 4));
            let stopped = tokio::select! {
                ending = process::wait(&mut child) => Stopped::Ended(ending),
                () = tokio::time::sleep(limit), if timeout_seconds.is_some() => {
                    process::stop(&mut child, GRACE).await;
                    Stopped::TimedOut(limit.as_secs())
                }
                asked = self.signals.next() => {
                    let grace = if asked == Asked::TimeIsUp { self.last_grace } else { GRACE };
                    process::stop(&mut child, grace).await;
                    Stopped::Signalled(asked.signal())
                }
            };
            let keepers = keepers(&self.kept);
            let stays = group.filter(|group| keepers.contains(group));
            let spared: Vec<Pid> = keepers.into_iter().chain(spared).collect();
            let mut left = descendants::children();
            left.retain(|child| !spared.contains(child) && Some(*child) != group);
            self.ended.extend(descendants::command_lines(&left));
            // A keeper's group is that of what it keeps.
            descendants::end_orphans(group.filter(|_| stays.is_none()), &spared, ORPHAN_GRACE).await;
            Ok(stopped)
        })
    }
}
