//! The local engine: `dvc-fanout work` processes on this machine, one per slot.
//!
//! A worker does one work item after another, as `commands::work::serve` says, so that it is started once and DVC loaded
//! once. It has an overseer and a process group of its own, and ends with this process. Work items start longest first
//! where their durations are known; one that needs more than is free waits while smaller ones go ahead, but not for ever.

mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::adapters::process::{self, Program};
use crate::diagnostic::Diagnostic;
use crate::engine::local::worker::Worker;
use crate::engine::{Channels, Engine, Failures, PhaseEnd};
use crate::model::event::{Ending, Event, Stop, Task};

/// The longest wait before another attempt.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Tries after the first where a tool failed, unless somebody says otherwise.
const DEFAULT_RETRIES: u32 = 2;
/// How many attempts at a work item may be lost to the machine before that counts as a failure.
const MAX_LOST: u32 = 3;
/// How many work items may overtake one that waits for room.
const MAX_OVERTAKEN: u32 = 100;

/// How many slots are looked at to find one that nobody uses.
const MAX_SLOTS: usize = 10_000;

/// What the engine is asked to keep to.
#[derive(Clone, Debug)]
pub(crate) struct LocalConfig {
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
    pub nice: Option<i32>,
    /// Start no more after this many work items have failed.
    pub max_failed: Option<usize>,
    /// The project's root, where workers start.
    pub project: PathBuf,
    pub run: String,
}

/// What the engine needs of the files of the run and the project.
pub(crate) trait LocalFiles {
    /// Opens the log of an attempt, which the worker and its stages write to.
    fn open_log(&self, index: usize, attempt: u32) -> Result<File, Diagnostic>;
    /// Whether a worker of somebody else uses a slot.
    fn is_taken(&self, slot: usize) -> bool;
    /// Ends what a killed worker left running in a slot.
    fn clear(&self, slot: usize);
}

pub(crate) struct LocalEngine {
    config: LocalConfig,
    files: Box<dyn LocalFiles>,
    failures: Failures,
}

impl LocalEngine {
    pub(crate) fn new(config: LocalConfig, files: Box<dyn LocalFiles>) -> Self {
        LocalEngine { failures: Failures::up_to(config.max_failed), config, files }
    }

    /// The worker process of a slot.
    fn program(&self, slot: usize) -> Program {
        let program = Program::new(process::SELF).arg("work").arg("--serve").arg("--run").arg(&self.config.run);
        program.arg("--slot-from").arg(slot.to_string())
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
        if self.config.hides_gpus || !gpus.is_empty() {
            words.extend(["--env".into(), format!("CUDA_VISIBLE_DEVICES={}", gpus.join(","))]);
        }
        words
    }
}

/// A task on its way, with what the engine knows of its attempts.
#[derive(Debug)]
struct Waiting {
    task: Task,
    failures: u32,
    lost: u32,
    overtaken: u32,
}

/// What a running work item holds.
#[derive(Debug)]
struct Held {
    slot: usize,
    cpus: f64,
    memory_mib: u64,
    gpus: Vec<String>,
    group: Option<String>,
}

/// What is free on this machine.
#[derive(Debug)]
struct Room {
    /// The number of work items that may start.
    places: usize,
    /// The slots that the running ones use.
    used: BTreeSet<usize>,
    cpus: f64,
    memory_mib: u64,
    gpus: BTreeSet<String>,
    groups: BTreeMap<String, usize>,
}

impl Room {
    fn new(config: &LocalConfig) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "numbers of slots are small")]
        let cpus = config.jobs as f64;
        Room {
            places: config.jobs,
            used: BTreeSet::new(),
            cpus,
            memory_mib: config.memory_mib,
            gpus: config.gpus.iter().cloned().collect(),
            groups: config.groups.clone(),
        }
    }

    /// Takes what a task asks for; what no machine of this size could give is cut to all that there is.
    fn take(&mut self, task: &Task, whole: &Room, is_taken: &dyn Fn(usize) -> bool) -> Option<Held> {
        let wanted = &task.resources;
        let cpus = wanted.cpus.unwrap_or(1.0).min(whole.cpus);
        let memory_mib = wanted.memory_mib.unwrap_or(0).min(whole.memory_mib);
        let gpus = usize::try_from(wanted.gpus.unwrap_or(0)).unwrap_or(usize::MAX).min(whole.gpus.len());
        let group = wanted.group.clone().filter(|group| self.groups.contains_key(group));
        let fits = self.places > 0
            && cpus <= self.cpus + f64::EPSILON
            && memory_mib <= self.memory_mib
            && gpus <= self.gpus.len()
            && group.as_ref().is_none_or(|group| self.groups[group] > 0);
        if !fits {
            return None;
        }
        let slot = (0..MAX_SLOTS).find(|slot| !self.used.contains(slot) && !is_taken(*slot))?;
        self.used.insert(slot);
        self.places -= 1;
        self.cpus -= cpus;
        self.memory_mib -= memory_mib;
        let gpus = (0..gpus).filter_map(|_| self.gpus.pop_first()).collect();
        if let Some(free) = group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            *free -= 1;
        }
        Some(Held { slot, cpus, memory_mib, gpus, group })
    }

    fn give_back(&mut self, held: Held) {
        self.used.remove(&held.slot);
        self.places += 1;
        self.cpus += held.cpus;
        self.memory_mib += held.memory_mib;
        self.gpus.extend(held.gpus);
        if let Some(free) = held.group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            *free += 1;
        }
    }
}

/// What became of a task: it ended, or its wait for another attempt is over.
enum Step {
    Ended(Waiting, Held, Ending, Option<Worker>),
    Rested(Waiting),
}

impl Engine for LocalEngine {
    const NAME: &'static str = "local";
    const DRAINING: &'static str = "interrupted: starting no more (again: end what runs)";

    async fn run_phase(
        &mut self,
        _phase: usize,
        mut tasks: Vec<Task>,
        channels: Channels,
    ) -> Result<PhaseEnd, Diagnostic> {
        let Channels { events, mut stop } = channels;
        for message in self.excesses(&tasks) {
            drop(events.send(Event::Noticed { message }));
        }
        sort_longest_first(&mut tasks);
        let mut queue: VecDeque<Waiting> =
            tasks.into_iter().map(|task| Waiting { task, failures: 0, lost: 0, overtaken: 0 }).collect();
        let whole = Room::new(&self.config);
        let mut room = Room::new(&self.config);
        let mut steps: JoinSet<Step> = JoinSet::new();
        // The workers of slots that do nothing just now.
        let mut idle: HashMap<usize, Worker> = HashMap::new();
        loop {
            if *stop.borrow() == Stop::No && !self.failures.are_too_many() {
                while let Some((waiting, held)) = {
                    let is_taken = |slot: usize| !idle.contains_key(&slot) && self.files.is_taken(slot);
                    next(&mut queue, &mut room, &whole, &is_taken)
                } {
                    let (index, attempt) = (waiting.task.index, waiting.task.attempt);
                    drop(events.send(Event::AttemptStarted { index, attempt, place: format!("slot {}", held.slot) }));
                    let worker = match idle.remove(&held.slot) {
                        Some(worker) => Ok(worker),
                        None => {
                            let log = self.files.open_log(index, attempt).map_err(|error| error.one_line());
                            log.and_then(|log| Worker::start(&self.program(held.slot), &self.config.project, &log))
                        }
                    };
                    let order = self.order(&waiting.task, &held.gpus);
                    let stop = stop.clone();
                    steps.spawn_local(async move {
                        let (ending, worker) = match worker {
                            Ok(worker) => worker.work(&order, stop).await,
                            Err(message) => (Ending::ToolFailed { message }, None),
                        };
                        Step::Ended(waiting, held, ending, worker)
                    });
                }
            } else {
                queue.clear();
            }
            let step = tokio::select! {
                step = steps.join_next() => step,
                changed = stop.changed() => {
                    if changed.is_err() {
                        return Err(Diagnostic::internal("the engine's stop channel was closed"));
                    }
                    continue;
                }
            };
            match step {
                None => break,
                Some(Err(error)) => {
                    return Err(Diagnostic::internal("a worker's task broke").source(&error));
                }
                Some(Ok(Step::Rested(waiting))) => queue.push_front(waiting),
                Some(Ok(Step::Ended(mut waiting, held, ending, worker))) => {
                    idle.extend(worker.map(|worker| (held.slot, worker)));
                    if matches!(ending, Ending::Lost { .. }) {
                        self.files.clear(held.slot);
                    }
                    room.give_back(held);
                    let retry_after = self.retry_after(&mut waiting, &ending).filter(|_| *stop.borrow() == Stop::No);
                    let (index, attempt) = (waiting.task.index, waiting.task.attempt);
                    let event = Event::AttemptFinished { index, attempt, ending, retry_after };
                    self.failures.take(&event);
                    drop(events.send(event));
                    if let Some(delay) = retry_after {
                        waiting.task.attempt += 1;
                        let mut stopping = stop.clone();
                        steps.spawn_local(async move {
                            tokio::select! {
                                () = tokio::time::sleep(delay) => {}
                                _ = stopping.wait_for(|stop| *stop != Stop::No) => {}
                            }
                            Step::Rested(waiting)
                        });
                    }
                }
            }
        }
        let mut ends: JoinSet<()> = idle.into_values().map(Worker::end).collect();
        while ends.join_next().await.is_some() {}
        Ok(if self.failures.are_too_many() { PhaseEnd::GaveUp } else { PhaseEnd::Done })
    }
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
            let others = match asking.count() {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            Some(format!("{}{others} asks for more {what}: it gets what there is", first.id))
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

/// Takes the first task that there is room for; one that was overtaken too often holds the others back.
fn next(
    queue: &mut VecDeque<Waiting>,
    room: &mut Room,
    whole: &Room,
    is_taken: &dyn Fn(usize) -> bool,
) -> Option<(Waiting, Held)> {
    let mut at = 0;
    while at < queue.len() && room.places > 0 {
        if let Some(held) = room.take(&queue[at].task, whole, is_taken) {
            for overtaken in queue.iter_mut().take(at) {
                overtaken.overtaken += 1;
            }
            return queue.remove(at).map(|waiting| (waiting, held));
        }
        if queue[at].overtaken >= MAX_OVERTAKEN {
            return None;
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Resources;

    fn task(index: usize, resources: Resources, expected_seconds: Option<f64>) -> Task {
        Task { index, id: index.to_string(), attempt: 1, resources, expected_seconds }
    }

    fn config(jobs: usize) -> LocalConfig {
        LocalConfig {
            jobs,
            memory_mib: 1000,
            hides_gpus: true,
            gpus: vec!["0".into(), "1".into()],
            groups: BTreeMap::from([("api".to_owned(), 1)]),
            retries: None,
            backoff: Duration::from_secs(1),
            timeout: None,
            nice: None,
            max_failed: None,
            project: PathBuf::new(),
            run: "r".into(),
        }
    }

    #[test]
    fn the_longest_starts_first_and_the_unknown_before_it() {
        let mut tasks = vec![
            task(0, Resources::default(), Some(1.0)),
            task(1, Resources::default(), Some(9.0)),
            task(2, Resources::default(), None),
        ];
        sort_longest_first(&mut tasks);
        assert_eq!(tasks.iter().map(|task| task.index).collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn what_does_not_fit_waits_and_gives_way() {
        let config = config(3);
        let (mut room, whole) = (Room::new(&config), Room::new(&config));
        let api = || Resources { group: Some("api".into()), ..Resources::default() };
        let big = Resources { memory_mib: Some(4000), gpus: Some(2), ..Resources::default() };
        let mut queue: VecDeque<Waiting> =
            [task(0, api(), None), task(1, api(), None), task(2, big.clone(), None), task(3, big, None)]
                .into_iter()
                .map(|task| Waiting { task, failures: 0, lost: 0, overtaken: 0 })
                .collect();
        let mut started = vec![];
        while let Some((waiting, held)) = next(&mut queue, &mut room, &whole, &|slot| slot == 1) {
            started.push((waiting.task.index, held));
        }
        assert_eq!(
            started.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            [0, 2],
            "one of the group, one with all memory"
        );
        assert_eq!(started[1].1.gpus, ["0", "1"]);
        assert_eq!(started[1].1.slot, 2, "somebody else uses slot 1");
        started.into_iter().for_each(|(_, held)| room.give_back(held));
        assert_eq!(next(&mut queue, &mut room, &whole, &|_| false).map(|(waiting, _)| waiting.task.index), Some(1));
    }

    struct NoFiles;

    impl LocalFiles for NoFiles {
        fn open_log(&self, _: usize, _: u32) -> Result<File, Diagnostic> {
            Err(Diagnostic::internal("no log here"))
        }

        fn is_taken(&self, _: usize) -> bool {
            false
        }

        fn clear(&self, _: usize) {}
    }

    #[test]
    fn commands_that_fail_are_not_tried_again_unless_asked() {
        let engine = LocalEngine::new(config(1), Box::new(NoFiles));
        let mut plain = Waiting { task: task(0, Resources::default(), None), failures: 0, lost: 0, overtaken: 0 };
        assert_eq!(engine.retry_after(&mut plain, &Ending::Failed { message: String::new() }), None);
        let tool = Ending::ToolFailed { message: String::new() };
        let mut waiting = Waiting { task: task(0, Resources::default(), None), failures: 0, lost: 0, overtaken: 0 };
        let waits: Vec<_> =
            (0..3).map(|_| engine.retry_after(&mut waiting, &tool).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), None]);
        let asked = Resources { retries: Some(1), ..Resources::default() };
        let mut waiting = Waiting { task: task(0, asked, None), failures: 0, lost: 0, overtaken: 0 };
        assert!(engine.retry_after(&mut waiting, &Ending::Failed { message: String::new() }).is_some());
    }
}
