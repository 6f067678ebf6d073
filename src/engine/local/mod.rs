//! The local engine: `dvc-fanout work` processes on this machine, one per slot.
//!
//! A worker does one work item after another, as `work --serve` says, so that it is started once and DVC loaded
//! once. It has an overseer and a process group of its own, and ends with this process. Work items start longest first
//! where their durations are known; one that needs more than is free waits while smaller ones go ahead, but not for ever.

mod resolve;
mod room;
mod settling;
mod worker;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::adapters::process::{self, Input, Program};
use crate::diagnostic::Diagnostic;
pub(crate) use crate::engine::local::resolve::Args;
use crate::engine::local::resolve::{Files, make_sites, remove_sites};
use crate::engine::local::room::{Held, Room, Waiting};
use crate::engine::local::settling::Settling;
use crate::engine::local::worker::Worker;
use crate::engine::{Channels, Engine, Failures, Flags as _, HandedOver, PhaseEnd, until_asked};
use crate::model::event::{Event, Stop, Task};
use crate::model::nice::Nice;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::{Ending, Resources};
use crate::model::stdin::Stdin;
use crate::model::workspace_kind::WorkspaceKind;
use crate::state::mailbox::{Mailbox, Receiving};
use crate::state::paths::RunDir;
use crate::state::results::{self, Durability};
use crate::state::run_lock::RunLock;

/// The longest wait before another attempt.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Tries after the first where a tool failed, unless somebody says otherwise.
const DEFAULT_RETRIES: u32 = 2;
/// How many attempts at a work item may be lost to the machine before that counts as a failure.
const MAX_LOST: u32 = 3;

/// What the engine is asked to keep to.
#[derive(Clone, Debug)]
pub(crate) struct LocalConfig {
    /// Whether stages run in the project itself; then `jobs` is 1.
    pub in_project: bool,
    /// The number of slots, and of CPUs that work items share.
    pub jobs: usize,
    /// MiB that work items share.
    pub memory_mib: u64,
    /// The GPUs that work items share, as `CUDA_VISIBLE_DEVICES` names them.
    pub gpus: Vec<String>,
    /// Whether work items see no GPU that they did not ask for.
    pub hides_gpus: bool,
    /// The number of work items of a group that may run at the same time.
    pub groups: BTreeMap<String, usize>,
    /// Tries after the first, whatever work items say; a failed command is tried again as well.
    pub retries: Option<u32>,
    /// The first wait before another attempt; it doubles.
    pub backoff: Duration,
    /// Whatever work items say.
    pub timeout: Option<Duration>,
    pub nice: Option<Nice>,
    pub workspace: WorkspaceKind,
    /// What commands read; with what this process would read, `jobs` is 1.
    pub stdin: Option<Stdin>,
    /// Start no more after this many work items have failed.
    pub max_failed: Option<usize>,
    /// Where workers start: the project's root, or the folder of those that see nothing of it.
    pub project: PathBuf,
    pub run: String,
}

pub(crate) struct LocalEngine {
    config: LocalConfig,
    files: Files,
    failures: Failures,
    /// What takes results here from workers that do not see the run's folder.
    mailbox: Option<Arc<Mailbox>>,
}

impl LocalEngine {
    fn new(config: LocalConfig, files: Files, mailbox: Option<Arc<Mailbox>>) -> Self {
        LocalEngine { failures: Failures::up_to(config.max_failed), config, files, mailbox }
    }

    /// The worker process of a slot.
    fn program(&self, slot: usize) -> Program {
        let program = Program::new(process::SELF).arg("work").arg("--serve").arg("--run").arg(&self.config.run);
        let mut program =
            program.arg("--slot-from").arg(slot.to_string()).arg("--workspace").arg(self.config.workspace.name());
        if let Some(stdin) = &self.config.stdin {
            program = program.arg("--stdin").arg(stdin.to_string());
        }
        if self.config.stdin == Some(Stdin::Inherit) {
            program.input = Input::Own;
        }
        self.mailbox.iter().fold(program, |program, mailbox| program.arg("--store").arg(mailbox.url()))
    }

    /// What a worker is asked to do: the command line of a `work` for this attempt.
    fn order(&self, task: &Task, gpus: &[String]) -> Vec<String> {
        let mut words = vec![task.index.to_string(), "--attempt".into(), task.attempt.to_string()];
        if let Some(timeout) = self.config.timeout.or(task.resources.timeout) {
            words.extend(["--timeout".into(), timeout.as_secs().to_string()]);
        }
        if let Some(nice) = self.config.nice {
            words.extend(["--nice".into(), nice.to_string()]);
        }
        if self.config.in_project {
            words.push("--in-project".into());
        }
        if self.config.hides_gpus || !gpus.is_empty() {
            words.extend(["--env".into(), format!("CUDA_VISIBLE_DEVICES={}", gpus.join(","))]);
        }
        words
    }
}

/// What became of a task: it ended, or its wait for another attempt is over.
enum Step {
    Ended(Waiting, Held, Ending, Option<Worker>),
    Rested(Waiting),
}

impl Engine for LocalEngine {
    fn name(&self) -> &'static str {
        Args::NAME
    }

    fn draining(&self) -> &'static str {
        "interrupted: starting no more work items (Ctrl-C again stops those that are running)"
    }

    async fn run_phase(
        &mut self,
        _phase: usize,
        mut tasks: Vec<Task>,
        channels: Channels,
    ) -> Result<PhaseEnd, Diagnostic> {
        for message in self.excesses(&tasks) {
            channels.notice(message);
        }
        if self.mailbox.is_some() {
            make_sites(&self.config.project)?;
        }
        // Who types answers expects to be asked in an order that stays.
        if !self.config.in_project && self.config.stdin != Some(Stdin::Inherit) {
            sort_longest_first(&mut tasks);
        }
        let mut phase = Phase {
            engine: self,
            queue: tasks.into_iter().map(Waiting::new).collect(),
            room: Room::new(&self.config),
            idle: HashMap::new(),
            steps: JoinSet::new(),
            settling: Settling::new(self.files.results()),
            unsettled: HashMap::new(),
            channels: channels.clone(),
        };
        let mut stop = channels.stop;
        loop {
            // Before each wait: a step may have made room, and a request to stop may have come while it was taken in.
            phase.start_what_fits();
            tokio::select! {
                step = phase.steps.join_next() => match step {
                    // Whatever is queued has room once nothing runs and all is settled; so nothing is left.
                    None if phase.settling.is_empty() => break,
                    None => {
                        let settled = phase.settling.next().await;
                        phase.settle(settled);
                    }
                    Some(step) => phase.take(step.map_err(|error| broken(&error))?),
                },
                settled = phase.settling.next() => phase.settle(settled),
                changed = stop.changed() => {
                    changed.map_err(|_| Diagnostic::internal("the engine's stop channel was closed"))?;
                }
            }
        }
        while !phase.settling.is_empty() {
            phase.channels.send_all(phase.settling.next().await);
        }
        // Idle workers are told only now: the next work item may always have been for one of them.
        let mut ends: JoinSet<()> = phase.idle.into_values().map(Worker::end).collect();
        while ends.join_next().await.is_some() {}
        Ok(if self.failures.are_too_many() { PhaseEnd::GaveUp } else { PhaseEnd::Done })
    }

    async fn finish(&mut self) -> Result<(), Diagnostic> {
        if self.mailbox.is_some() { remove_sites(&self.config.project) } else { Ok(()) }
    }

    async fn hand_over(&mut self, _phases: Vec<(usize, Vec<Task>)>, lock: RunLock) -> Result<HandedOver, Diagnostic> {
        let (Some(mailbox), run) = (&self.mailbox, &self.config.run) else { return Ok(HandedOver::Here(lock)) };
        let url = mailbox.url();
        Ok(HandedOver::There(vec![
            format!("run {run} is in `{url}`"),
            format!("have a part done anywhere with `dvc-fanout work --store {url} --run {run} --shards M INDEX`"),
            format!("and go on here with `dvc-fanout launch {run} --store {url}`"),
        ]))
    }
}

fn broken(error: &JoinError) -> Diagnostic {
    Diagnostic::internal("a worker's task broke").source(error)
}

/// A phase under way.
struct Phase<'a> {
    engine: &'a LocalEngine,
    queue: VecDeque<Waiting>,
    room: Room,
    /// The workers of slots that do nothing just now.
    idle: HashMap<usize, Worker>,
    steps: JoinSet<Step>,
    settling: Settling,
    /// What work items hold that asked for something scarce, until their end is told: nobody sees more of it in use than
    /// there is.
    unsettled: HashMap<ItemIndex, Held>,
    channels: Channels,
}

impl Phase<'_> {
    fn is_stopping(&self) -> bool {
        *self.channels.stop.borrow() != Stop::No
    }

    /// Starts waiting tasks while there is room for one; forgets them all when no more is to be started.
    fn start_what_fits(&mut self) {
        if self.is_stopping() || self.engine.failures.are_too_many() {
            self.queue.clear();
            return;
        }
        let whole = Room::new(&self.engine.config);
        loop {
            // A slot whose worker is idle looks taken, and is: by us.
            let is_taken = |slot: usize| !self.idle.contains_key(&slot) && self.engine.files.is_taken(slot);
            let Some((waiting, held)) = room::next(&mut self.queue, &mut self.room, &whole, &is_taken) else { return };
            self.start(waiting, held);
        }
    }

    fn start(&mut self, waiting: Waiting, held: Held) {
        let (index, attempt) = (waiting.task.index, waiting.task.attempt);
        // Told before the worker can begin, so that no end is told before its beginning.
        self.channels.send(Event::AttemptStarted { index, attempt, place: format!("slot {}", held.slot) });
        let worker = match self.idle.remove(&held.slot) {
            Some(worker) => Ok(worker),
            None => {
                let log = self.engine.files.open_log(index, attempt).map_err(|error| error.one_line());
                let kept = self.engine.files.run().kept();
                let (program, project) = (self.engine.program(held.slot), &self.engine.config.project);
                log.and_then(|log| Worker::start(&program, project, &log, &kept))
            }
        };
        let order = self.engine.order(&waiting.task, &held.gpus);
        let stop = self.channels.stop.clone();
        let (mailbox, run) = (self.engine.mailbox.clone(), self.engine.files.run().clone());
        self.steps.spawn_local(async move {
            let (mut ending, worker) = match worker {
                Ok(worker) => worker.work(&order, stop).await,
                Err(message) => (Ending::ToolFailed { message }, None),
            };
            if let Some(mailbox) = mailbox {
                ending = receive(mailbox, run, index, attempt, ending).await;
            }
            Step::Ended(waiting, held, ending, worker)
        });
    }

    /// Tells of ends whose results are on the disk now.
    fn settle(&mut self, events: Vec<Event>) {
        for event in &events {
            if let Event::AttemptFinished { index, .. } = event
                && let Some(held) = self.unsettled.remove(index)
            {
                self.room.give_back(held);
            }
        }
        self.channels.send_all(events);
    }

    fn take(&mut self, step: Step) {
        let (mut waiting, held, ending, worker) = match step {
            // It has waited long enough already.
            Step::Rested(waiting) => return self.queue.push_front(waiting),
            Step::Ended(waiting, held, ending, worker) => (waiting, held, ending, worker),
        };
        self.idle.extend(worker.map(|worker| (held.slot, worker)));
        if matches!(ending, Ending::Lost { .. }) {
            // A killed worker cannot have ended its stages; they would write into the next one's workspace.
            self.engine.files.clear(held.slot);
        }
        let retry_after = self.engine.retry_after(&mut waiting, &ending).filter(|_| !self.is_stopping());
        let (index, attempt) = (waiting.task.index, waiting.task.attempt);
        let is_success = ending == Ending::Succeeded;
        let event = Event::AttemptFinished { index, attempt, ending, retry_after };
        self.engine.failures.take(&event);
        if is_success {
            self.settling.add(event);
            if waiting.task.resources == Resources::default() {
                self.room.give_back(held);
            } else {
                self.unsettled.insert(index, held);
            }
        } else {
            self.channels.send(event);
            self.room.give_back(held);
        }
        if let Some(delay) = retry_after {
            waiting.task.attempt = waiting.task.attempt.next();
            self.steps.spawn_local(rest(waiting, delay, self.channels.stop.clone()));
        }
    }
}

/// Brings what an attempt has put into the object store, which its end is told by from then on.
async fn receive(
    mailbox: Arc<Mailbox>,
    run: RunDir,
    index: ItemIndex,
    attempt: AttemptNumber,
    ending: Ending,
) -> Ending {
    let succeeded = ending == Ending::Succeeded;
    let brought = tokio::task::spawn_blocking(move || {
        let receiving = Receiving { run: &run, durability: Durability::Later };
        // A worker elsewhere may have taken its number, or done its work item.
        let is_here = mailbox.receive(&receiving, index, attempt)?;
        if !is_here {
            mailbox.receive_item(&receiving, index)?;
        }
        Ok::<_, Diagnostic>(is_here || results::is_done(&run, index)?)
    });
    match brought.await {
        Ok(Ok(is_here)) if is_here || !succeeded => ending,
        Ok(Ok(_)) => {
            let message = "the worker ended well, but its result is not in the object store".to_owned();
            Ending::ToolFailed { message }
        }
        Ok(Err(error)) if succeeded => Ending::ToolFailed { message: error.one_line() },
        Ok(Err(_)) => ending,
        Err(error) => Ending::ToolFailed { message: error.to_string() },
    }
}

/// Waits before another attempt, but not while everything is to end.
async fn rest(waiting: Waiting, delay: Duration, mut stopping: watch::Receiver<Stop>) -> Step {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        _ = until_asked(&mut stopping, |stop| stop != Stop::No) => {}
    }
    Step::Rested(waiting)
}

impl LocalEngine {
    /// What work items ask for beyond what there is here: they run alone, with what there is.
    fn excesses(&self, tasks: &[Task]) -> Vec<String> {
        let cpus = |task: &Task| task.resources.cpus.is_some_and(|cpus| cpus > Room::new(&self.config).cpus);
        let memory = |task: &Task| task.resources.memory_mib.is_some_and(|mib| mib > self.config.memory_mib);
        let gpus = |task: &Task| task.resources.gpus.is_some_and(|gpus| gpus as usize > self.config.gpus.len());
        let said = |what: String, asks: &dyn Fn(&Task) -> bool| {
            let mut asking = tasks.iter().filter(|task| asks(task));
            let first = asking.next()?;
            Some(match asking.count() {
                0 => format!("{} asks for more {what}: it gets what there is", first.id),
                others => format!("{} and {others} more ask for more {what}: they get what there is", first.id),
            })
        };
        [
            said(format!("CPUs than the {} that `--jobs` shares", self.config.jobs), &cpus),
            said(format!("memory than the {} MiB here", self.config.memory_mib), &memory),
            said(format!("GPUs than the {} here", self.config.gpus.len()), &gpus),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// How long to wait before another attempt, if there is to be one.
    fn retry_after(&self, waiting: &mut Waiting, ending: &Ending) -> Option<Duration> {
        let asked = self.config.retries.or(waiting.task.resources.retries);
        let allowed = asked.unwrap_or(DEFAULT_RETRIES);
        let again = match ending {
            Ending::Succeeded | Ending::Stopped => false,
            Ending::Failed { .. } => {
                waiting.failures += 1;
                asked.is_some() && waiting.failures <= allowed
            }
            Ending::ToolFailed { .. } => {
                waiting.failures += 1;
                waiting.failures <= allowed
            }
            Ending::Lost { .. } => {
                waiting.lost += 1;
                waiting.lost <= MAX_LOST
            }
        };
        let exponent = (waiting.failures + waiting.lost).saturating_sub(1).min(16);
        again.then(|| self.config.backoff.saturating_mul(1 << exponent).min(MAX_BACKOFF))
    }
}

/// Sorts by expected duration, the longest first; those that are unknown come before all, since they may be long.
fn sort_longest_first(tasks: &mut [Task]) {
    tasks.sort_by(|a, b| {
        let expected = |task: &Task| task.expected_seconds.unwrap_or(f64::INFINITY);
        expected(b).total_cmp(&expected(a)).then(a.index.cmp(&b.index))
    });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::state::paths::FanoutDir;

    pub(super) fn task(index: usize, resources: Resources, expected_seconds: Option<f64>) -> Task {
        Task {
            index: ItemIndex::new(index),
            id: index.to_string(),
            attempt: AttemptNumber::FIRST,
            resources,
            expected_seconds,
        }
    }

    pub(super) fn config(jobs: usize) -> LocalConfig {
        LocalConfig {
            in_project: false,
            jobs,
            memory_mib: 1000,
            hides_gpus: true,
            gpus: vec!["0".into(), "1".into()],
            groups: BTreeMap::from([("api".to_owned(), 1)]),
            retries: None,
            backoff: Duration::from_secs(1),
            timeout: None,
            nice: None,
            workspace: WorkspaceKind::Auto,
            stdin: None,
            max_failed: None,
            project: PathBuf::new(),
            run: "r".into(),
        }
    }

    fn files() -> Files {
        Files::new(&FanoutDir::of(Path::new("")).run("r"), PathBuf::new())
    }

    #[test]
    fn the_longest_starts_first_and_the_unknown_before_it() {
        let mut tasks = vec![
            task(0, Resources::default(), Some(1.0)),
            task(1, Resources::default(), Some(9.0)),
            task(2, Resources::default(), None),
        ];
        sort_longest_first(&mut tasks);
        assert_eq!(tasks.iter().map(|task| task.index.get()).collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn commands_that_fail_are_not_tried_again_unless_asked() {
        let engine = LocalEngine::new(config(1), files(), None);
        let mut plain = Waiting::new(task(0, Resources::default(), None));
        assert_eq!(engine.retry_after(&mut plain, &Ending::Failed { message: String::new() }), None);
        let tool = Ending::ToolFailed { message: String::new() };
        let mut waiting = Waiting::new(task(0, Resources::default(), None));
        let waits: Vec<_> =
            (0..3).map(|_| engine.retry_after(&mut waiting, &tool).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), None]);
        let asked = Resources { retries: Some(1), ..Resources::default() };
        let mut waiting = Waiting::new(task(0, asked, None));
        assert!(engine.retry_after(&mut waiting, &Ending::Failed { message: String::new() }).is_some());
    }
}
