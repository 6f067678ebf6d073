//! Start, watch and cancel the work items of a phase and report events.
//!
//! Every engine starts the same `dvc-fanout work`. What counts is what workers published; an engine only says how
//! attempts ended, and never looks into results.

pub(crate) mod local;

use tokio::sync::{mpsc, watch};

use crate::diagnostic::Diagnostic;
use crate::model::event::{Event, Stop, Task};

/// What an engine works with while a phase runs.
pub(crate) struct Channels {
    /// Takes events; what is sent is journaled before anything else happens to it.
    pub events: mpsc::UnboundedSender<Event>,
    /// How far to stop; may change at any time, only upwards.
    pub stop: watch::Receiver<Stop>,
}

/// A way to run work items that do not need one another.
pub(crate) trait Engine {
    /// Runs the tasks of a phase until each has ended for good or the engine was stopped.
    ///
    /// Fails only where the engine itself cannot go on; work items that fail are events.
    async fn run_phase(&mut self, phase: usize, tasks: Vec<Task>, channels: Channels) -> Result<(), Diagnostic>;
}
