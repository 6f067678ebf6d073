//! The loop of a launch: phase after phase, each run by an engine, until all is done or somebody asks for an end.
//!
//! What happens meanwhile is [`Recorder`]'s to write down and show; here is only what comes next.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::adapters::process;
use crate::adapters::signals::{Asked, Signals};
use crate::diagnostic::Diagnostic;
use crate::engine::recorder::{Audience, Recorder};
use crate::engine::{AnyEngine, Channels, Engine, HandedOver, PhaseEnd, ready};
use crate::exit::Exit;
use crate::model::event::{Event, Stop, Task};
use crate::model::numbers::ItemIndex;
use crate::output::text;
use crate::state::format::{Plan, WorkItem};
use crate::state::journal::{self, Journaled};
use crate::state::paths::RunDir;
use crate::state::run_lock::RunLock;

/// How often is looked whether the heartbeat is due.
const TICK: Duration = Duration::from_millis(500);
/// How long an engine may take for what is left to do after the last phase.
const FINISH_LIMIT: Duration = Duration::from_mins(1);

/// What a launch runs.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub run: &'a RunDir,
    pub plan: &'a Plan,
    pub items: &'a [WorkItem],
    pub phases: &'a [usize],
    /// How long work items took in earlier runs, in seconds, by id.
    pub expected: &'a HashMap<String, f64>,
}

/// How a launch ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launched {
    pub exit: Exit,
    /// Whether no more was started since too many work items have failed.
    pub gave_up: bool,
    /// Whether somebody wanted nothing more to begin, and what ran has come to its end.
    pub is_drained: bool,
}

/// Runs the work items of some phases that have no good result yet, but for those whose failure stands.
pub(crate) fn launch(work: Work<'_>, audience: Audience, engine: &mut AnyEngine) -> Result<Launched, Diagnostic> {
    let total = work.phases.iter().map(|phase| work.plan.phases[*phase].count).sum();
    let mut launch = Launch {
        work,
        recorder: Recorder::new(work.run, work.items, audience, total, !matches!(engine, AnyEngine::Local(_)))?,
        exit: Exit::Success,
        hopeless: HashSet::new(),
        asked: None,
        stop: watch::Sender::new(Stop::No),
    };
    block_on(launch.drive(engine))
}

/// Runs what is asynchronous to its end, on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Diagnostic>>) -> Result<T, Diagnostic> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Diagnostic::tool("cannot start the async runtime").source(&error))?;
    LocalSet::new().block_on(&runtime, future)
}

/// The error where requests to end could not be heard.
pub(crate) fn cannot_listen(error: &std::io::Error) -> Diagnostic {
    Diagnostic::tool("cannot listen to signals").source(error)
}

/// What `launch --dry-run` prints: what an engine would make of phases.
pub(crate) fn dry_run(work: Work<'_>, engine: &mut AnyEngine) -> Result<Vec<String>, Diagnostic> {
    let mut printed = vec![];
    for &phase in work.phases {
        let tasks =
            ready::of_phase(work.run, work.plan, work.items, &work.plan.phases[phase], &engine.unsettled()?)?.tasks;
        printed.extend(block_on(engine.manifests(phase, tasks))?);
    }
    Ok(printed)
}

/// Leaves phases to an engine's cluster, where it has that; else returns the lock.
pub(crate) fn hand_over(work: Work<'_>, engine: &mut AnyEngine, lock: RunLock) -> Result<HandedOver, Diagnostic> {
    let phases = ready::in_advance(work.run, work.plan, work.items, work.phases)?;
    block_on(engine.hand_over(phases, lock))
}

/// A launch under way.
struct Launch<'a> {
    work: Work<'a>,
    recorder: Recorder<'a>,
    exit: Exit,
    /// The work items that have failed for good, or are skipped.
    hopeless: HashSet<ItemIndex>,
    /// The signal that ends this launch, or stands for what ends it.
    asked: Option<u8>,
    stop: watch::Sender<Stop>,
}

impl Launch<'_> {
    async fn drive(&mut self, engine: &mut AnyEngine) -> Result<Launched, Diagnostic> {
        let mut signals = Signals::listen().map_err(|error| cannot_listen(&error))?;
        let (host, process) = (process::host(), std::process::id());
        let image = engine.image().map(str::to_owned);
        self.recorder.record(Journaled::Launched { engine: engine.name().into(), image, host, process })?;
        let mut end = PhaseEnd::Done;
        for &number in self.work.phases {
            let tasks = self.begin(number, &engine.unsettled()?)?;
            // Later phases are begun all the same: what they skip has to be said.
            if tasks.is_empty() || self.is_stopping() {
                continue;
            }
            end = self.run_phase(engine, number, tasks, &mut signals).await?;
            if end != PhaseEnd::Done {
                break;
            }
        }
        // A request may have come with the end of the last phase; it decides about the exit code.
        while let Some(asked) = signals.came() {
            self.on_request(asked, engine)?;
        }
        match end {
            PhaseEnd::Done => {}
            PhaseEnd::GaveUp => self.recorder.advise("too many work items have failed: starting no more"),
            PhaseEnd::Detached => {
                let (run, name) = (&self.work.plan.run, engine.name());
                self.recorder.advise(&format!("watch the run again with `dvc-fanout launch {run} --engine {name}`"));
                self.recorder.advise(&format!("or end it with `dvc-fanout cancel {run}`"));
            }
        }
        // What was left to a cluster, or is being cancelled, is still in use there.
        if end != PhaseEnd::Detached && !self.is_stopping() {
            let finished = tokio::time::timeout(FINISH_LIMIT, engine.finish()).await;
            if let Ok(Err(diagnostic)) = finished {
                self.recorder.advise(&format!("could not clean up in the cluster: {diagnostic}"));
            }
        }
        self.recorder.finish();
        let exit = self.asked.map_or(self.exit, Exit::Signal);
        let is_drained = *self.stop.borrow() == Stop::NothingNew;
        Ok(Launched { exit, gave_up: end == PhaseEnd::GaveUp, is_drained })
    }

    /// Says what a phase begins with; returns what is to run.
    fn begin(&mut self, number: usize, unsettled: &HashSet<ItemIndex>) -> Result<Vec<Task>, Diagnostic> {
        let Work { run, plan, items, expected, .. } = self.work;
        let phase = &plan.phases[number];
        let mut ready = ready::of_phase(run, plan, items, phase, unsettled)?;
        for task in &mut ready.tasks {
            task.expected_seconds = expected.get(&task.id).copied();
        }
        if !ready.given_up.is_empty() {
            let what = text::count(ready.given_up.len(), "work item");
            let command = if journal::has_ended(run)? { "run` plans them anew" } else { "retry` has them run again" };
            self.recorder.advise(&format!("{what} failed before and will not run again (`dvc-fanout {command})"));
            self.exit = Exit::WorkItemsFailed;
            self.hopeless.extend(ready.given_up);
        }
        if phase.count > 0 {
            self.recorder.record(Journaled::PhaseStarted { phase: number, work_items: ready.tasks.len() })?;
        }
        for (index, because) in ready.skipped {
            // Where somebody wants an end, what a work item needs may only not have begun.
            if self.is_stopping() && because.iter().all(|need| !self.hopeless.contains(need)) {
                continue;
            }
            self.hopeless.insert(index);
            self.recorder.skip(index, because)?;
            self.exit = Exit::WorkItemsFailed;
        }
        Ok(ready.tasks)
    }

    /// Has an engine run a phase, and takes in what it says meanwhile.
    async fn run_phase(
        &mut self,
        engine: &mut AnyEngine,
        number: usize,
        tasks: Vec<Task>,
        signals: &mut Signals,
    ) -> Result<PhaseEnd, Diagnostic> {
        let draining = engine.draining();
        let (sender, mut events) = mpsc::unbounded_channel();
        let channels = Channels { events: sender, stop: self.stop.subscribe() };
        let mut running = std::pin::pin!(engine.run_phase(number, tasks, channels));
        let mut tick = tokio::time::interval(TICK);
        let mut ended = None;
        loop {
            tokio::select! {
                // Events before the end: those that an engine sent last are still to be taken in when it has returned.
                biased;
                event = events.recv() => match event {
                    Some(event) => self.take(event)?,
                    // Closed below, and empty now.
                    None => break,
                },
                result = &mut running, if ended.is_none() => {
                    ended = Some(result);
                    events.close();
                }
                asked = signals.next() => self.stop_for(asked, draining)?,
                _ = tick.tick() => self.recorder.heartbeat(),
            }
        }
        Ok(ended.transpose()?.unwrap_or(PhaseEnd::Done))
    }

    fn take(&mut self, event: Event) -> Result<(), Diagnostic> {
        if let Some(index) = event.failed() {
            self.exit = Exit::WorkItemsFailed;
            self.hopeless.insert(index);
        }
        self.recorder.take(event)
    }

    fn on_request(&mut self, asked: Asked, engine: &AnyEngine) -> Result<(), Diagnostic> {
        self.stop_for(asked, engine.draining())
    }

    /// Takes in that somebody wants this launch to end; `draining` says what the engine does at the first Ctrl-C.
    fn stop_for(&mut self, asked: Asked, draining: &str) -> Result<(), Diagnostic> {
        self.asked = Some(asked.signal());
        // The first Ctrl-C lets what runs come to its end; a second one, or TERM, does not.
        let (how, what) = match asked {
            Asked::Interrupt if !self.is_stopping() => (Stop::Draining, draining),
            Asked::Drain if *self.stop.borrow() >= Stop::NothingNew => return Ok(()),
            Asked::Drain => (Stop::NothingNew, "drained from another terminal: starting no more work items"),
            Asked::Interrupt | Asked::Signal(_) | Asked::TimeIsUp => (Stop::Now, "stopping what is running"),
            Asked::Cancel => (Stop::Now, "cancelled from another terminal: stopping what is running"),
        };
        // The engine stops at once; that it was asked to is written down before it is said.
        self.stop.send_replace(how);
        self.recorder.record(Journaled::Stopping { now: how == Stop::Now })?;
        self.recorder.advise(what);
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }
}
