//! Start, watch and cancel the work items of a phase and report events.
//!
//! Every engine starts the same `dvc-fanout work`. What counts is what workers published; an engine only says how
//! attempts ended, and never looks into results.

#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
pub(crate) mod local;

use std::cell::Cell;

use tokio::sync::{mpsc, watch};

use crate::diagnostic::Diagnostic;
use crate::model::event::{Event, Stop, Task};

/// What an engine works with while a phase runs.
#[derive(Clone)]
pub(crate) struct Channels {
    /// Takes events; what is sent is journaled before anything else happens to it.
    pub events: mpsc::UnboundedSender<Event>,
    /// How far to stop; may change at any time, only upwards.
    pub stop: watch::Receiver<Stop>,
}

#[cfg(feature = "kubernetes")]
impl Channels {
    /// Sends an event; nobody listens where the launch is over already.
    pub(crate) fn send(&self, event: Event) {
        drop(self.events.send(event));
    }

    /// Says something that a person should know.
    pub(crate) fn notice(&self, message: String) {
        self.send(Event::Noticed { message });
    }
}

/// Counts the work items that have failed for good, in all phases of a launch.
#[derive(Debug)]
pub(crate) struct Failures {
    limit: Option<usize>,
    count: Cell<usize>,
}

impl Failures {
    /// No more is to be started once as many work items have failed as the limit says.
    pub(crate) fn up_to(limit: Option<usize>) -> Self {
        Failures { limit, count: Cell::new(0) }
    }

    pub(crate) fn take(&self, event: &Event) {
        self.count.set(self.count.get() + usize::from(event.is_failure()));
    }

    pub(crate) fn are_too_many(&self) -> bool {
        self.limit_is_reached(self.count.get())
    }

    /// Whether that many would be too many by themselves.
    fn limit_is_reached(&self, count: usize) -> bool {
        self.limit.is_some_and(|limit| count >= limit)
    }
}

/// How a phase came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseEnd {
    /// Each task has ended for good, or the engine was stopped.
    Done,
    /// So many work items have failed that no more were started.
    GaveUp,
    /// The work items go on without the launcher.
    #[cfg(feature = "kubernetes")]
    Detached,
}

/// A way to run work items that do not need one another.
pub(crate) trait Engine {
    /// What journal and status call it.
    const NAME: &'static str;
    /// What the first Ctrl-C does, and what a second one would.
    const DRAINING: &'static str;

    /// The image that workers run in, where they run in one.
    fn image(&self) -> Option<&str> {
        None
    }

    /// Runs the tasks of a phase until each has ended for good or the engine was stopped.
    ///
    /// Fails only where the engine itself cannot go on; work items that fail are events.
    async fn run_phase(&mut self, phase: usize, tasks: Vec<Task>, channels: Channels) -> Result<PhaseEnd, Diagnostic>;

    /// Does what is left to do when no phase is left.
    async fn finish(&mut self) -> Result<(), Diagnostic> {
        Ok(())
    }
}
