//! Watches the arrays of a phase to their end.
//!
//! One question to Slurm for all arrays, now and then, says which tasks run and which have ended; what became of their
//! work items is in their results. A task that Slurm does not know any more has ended somehow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::engine::remote::Late;
use crate::engine::remote::files::RunFiles;
use crate::engine::remote::items::ShardEnd;
use crate::engine::slurm::cluster::Slurm;
use crate::engine::slurm::end;
use crate::engine::slurm::first::Firsts;
use crate::engine::slurm::limits::Limits;
use crate::engine::slurm::nodes::Nodes;
use crate::engine::slurm::outage::Outage;
use crate::engine::slurm::pace;
use crate::engine::slurm::record::Record;
use crate::engine::slurm::seen::{self, End, Line, Meaning, State};
use crate::engine::slurm::submit::Array;
use crate::engine::slurm::{DEFAULT_RETRIES, SlurmConfig, SlurmEngine};
use crate::engine::{Channels, Failures, until_asked};
use crate::model::event::{Event, Stop};
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::Ending;
use crate::state::paths::RunDir;
use crate::state::status;

/// How often results that should be there are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a task may be absent from good answers before it counts as forgotten.
const ABSENCE: Duration = Duration::from_secs(30);
/// How often work items are submitted again that were lost to a machine.
const MAX_LOST: u32 = 3;
/// How long the second Ctrl-C is waited for.
const DETACH_DELAY: Duration = Duration::from_secs(5);

/// How the watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Ended,
    Stopped,
    GaveUp,
    Detached,
}

/// An array, and what was seen of it.
pub(super) struct Tracked {
    pub array: Array,
    /// The shards whose end was not taken in.
    open: BTreeSet<usize>,
    /// Those of them that have ended, and since when that is known.
    ended: BTreeMap<usize, Instant>,
    /// Those that ended well, whose results are not here yet.
    late: BTreeMap<usize, Late>,
    pub releases: BTreeMap<usize, u32>,
    /// Those that were seen to run, and how often one has waited again afterwards.
    pub started: BTreeSet<usize>,
    pub restarts: BTreeMap<usize, u32>,
    /// Tasks that this launcher cancelled since they do not come to their end by themselves.
    pub given_up: BTreeSet<usize>,
    /// Since when good answers have left out tasks that are open, and how many did.
    absent: Option<(Instant, u32)>,
    /// Since when all of its tasks wait for what never comes.
    pub doomed: Option<Instant>,
    /// Whether its end was written down.
    is_closed: bool,
    /// Whether all of its tasks so far have ended well.
    is_well: bool,
}

pub(super) struct Watch<'a> {
    pub config: &'a SlurmConfig,
    run: &'a RunDir,
    files: &'a RunFiles,
    pub slurm: &'a Slurm,
    limits: &'a Limits,
    pub channels: Channels,
    failures: &'a Failures,
    pub arrays: Vec<Tracked>,
    pub outage: Outage,
    /// Reasons that were told.
    pub told: BTreeSet<String>,
    /// The last time that something went on.
    pub progress: Instant,
    nodes: &'a mut Nodes,
    firsts: &'a mut Firsts,
    /// The wish to stop that is being followed already.
    known: Stop,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        engine: &'a SlurmEngine,
        limits: &'a Limits,
        channels: Channels,
        (nodes, firsts): (&'a mut Nodes, &'a mut Firsts),
        arrays: Vec<Array>,
    ) -> Self {
        let track = |array: Array| Tracked {
            open: (0..array.shards.count).collect(),
            array,
            ended: BTreeMap::new(),
            late: BTreeMap::new(),
            releases: BTreeMap::new(),
            started: BTreeSet::new(),
            restarts: BTreeMap::new(),
            given_up: BTreeSet::new(),
            absent: None,
            doomed: None,
            is_closed: false,
            is_well: true,
        };
        Watch {
            config: &engine.config,
            run: &engine.run,
            files: &engine.files,
            slurm: &engine.slurm,
            limits,
            channels,
            failures: &engine.failures,
            arrays: arrays.into_iter().map(track).collect(),
            outage: Outage::new(engine.config.outage_limit),
            told: BTreeSet::new(),
            progress: Instant::now(),
            nodes,
            firsts,
            known: Stop::No,
        }
    }

    /// The work items that are to be submitted again.
    pub(super) fn left(&self) -> BTreeSet<ItemIndex> {
        self.arrays.iter().flat_map(|tracked| tracked.array.items.open()).collect()
    }

    /// Follows the arrays until all are over, or the launcher is told to stop.
    pub(super) async fn run(&mut self) -> Result<Over, Diagnostic> {
        let (mut pause, begun) = (pace::FIRST, Instant::now());
        loop {
            let has_changed = self.poll().await?;
            self.give_up_early().await?;
            if self.is_over() {
                return Ok(self.end());
            }
            if self.failures.are_too_many() {
                self.cancel().await?;
                return Ok(Over::GaveUp);
            }
            let is_behind = self.arrays.iter().any(|tracked| !tracked.ended.is_empty());
            pause = pace::next(pause, has_changed || is_behind, begun.elapsed()).min(self.config.poll);
            let (mut stop, known) = (self.channels.stop.clone(), self.known);
            let next = Instant::now() + pace::jittered(pause);
            while Instant::now() < next {
                // Slurm's word is good already; only the file system lags.
                let until = if self.is_late() { next.min(Instant::now() + LOOK) } else { next };
                let requested = tokio::select! {
                    requested = until_asked(&mut stop, |stop| stop > known) => Some(requested),
                    () = tokio::time::sleep_until(until) => None,
                };
                if requested == Some(Stop::NothingNew) {
                    self.drain().await?;
                    break;
                }
                if let Some(requested) = requested {
                    return self.stop(requested).await;
                }
                self.settle_late()?;
                if self.is_over() {
                    return Ok(self.end());
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.arrays.iter().all(|tracked| tracked.open.is_empty() && tracked.late.is_empty())
    }

    /// How the watch ends when all is over.
    fn end(&self) -> Over {
        // Arrays of later phases may be in the queue.
        if *self.channels.stop.borrow() == Stop::NothingNew { Over::Stopped } else { Over::Ended }
    }

    fn is_late(&self) -> bool {
        self.arrays.iter().any(|tracked| !tracked.late.is_empty())
    }

    /// Asks Slurm once, and takes in what has changed. Returns whether something has.
    async fn poll(&mut self) -> Result<bool, Diagnostic> {
        self.files.look_after_store()?;
        let lines = match self.slurm.list(&self.names()).await {
            Ok(lines) => lines,
            Err(away) => {
                self.outage.goes_on(away, &self.channels)?;
                return Ok(false);
            }
        };
        self.outage.is_over(&self.channels);
        let before: usize = self.arrays.iter().map(|tracked| tracked.open.len()).sum();
        let (mut waiting, mut runs) = (vec![], false);
        for number in 0..self.arrays.len() {
            let own = self.own(number, &lines).await?;
            let mut seen: BTreeSet<usize> = BTreeSet::new();
            let mut ended = vec![];
            for line in &own {
                // Before any of its tasks has started, a waiting array is one line.
                seen.extend(line.indexes.iter().copied());
                match &line.state {
                    State::Waiting => {
                        self.count_restarts(number, line).await?;
                        waiting.push((number, line.clone()));
                    }
                    State::Running => {
                        runs = true;
                        self.arrays[number].started.extend(&line.indexes);
                        self.look(number, line)?;
                    }
                    State::Ended(end) => ended.push((*end, line)),
                    State::Unknown => runs = true,
                }
            }
            for (end, line) in ended {
                for &shard in &line.indexes {
                    self.settle(number, shard, end, line.node.as_deref())?;
                }
            }
            self.forget(number, &seen).await?;
            self.close(number)?;
        }
        self.keep_away(&waiting).await?;
        if self.known == Stop::NothingNew && !waiting.is_empty() {
            // Slurm has taken their nodes away meanwhile.
            self.end_waiting().await?;
            waiting.clear();
        }
        let after: usize = self.arrays.iter().map(|tracked| tracked.open.len()).sum();
        if runs || after < before {
            self.progress = Instant::now();
        }
        self.explain(&waiting, runs).await?;
        Ok(after < before)
    }

    fn names(&self) -> Vec<String> {
        let open = self.arrays.iter().filter(|tracked| !tracked.open.is_empty());
        open.map(|tracked| tracked.array.name.clone()).collect()
    }

    /// The lines of an array; one that was submitted twice is cancelled but for the first.
    async fn own(&mut self, number: usize, lines: &[Line]) -> Result<Vec<Line>, Diagnostic> {
        let array = &mut self.arrays[number].array;
        let own = lines.iter().filter(|line| line.name == array.name && array.record.owns(line));
        let own: Vec<Line> = own.cloned().collect();
        let ids: BTreeSet<u64> = own.iter().map(|line| line.array).chain(array.record.ids.iter().copied()).collect();
        let Some(&first) = ids.first() else { return Ok(own) };
        let doubles: Vec<String> = own
            .iter()
            .filter(|line| line.array != first && line.state == State::Waiting)
            .map(|line| line.array.to_string())
            .collect();
        if !doubles.is_empty() {
            let name = &array.name;
            self.channels
                .notice(format!("array `{name}` was submitted twice: job {} is cancelled", doubles.join(", ")));
            if let Err(away) = self.slurm.cancel(&doubles).await {
                self.outage.goes_on(away, &self.channels)?;
            }
        }
        Ok(own.into_iter().filter(|line| line.array == first).collect())
    }

    /// Looks what running tasks have done since the last look.
    fn look(&mut self, number: usize, line: &Line) -> Result<(), Diagnostic> {
        let mut told = vec![];
        for &shard in &line.indexes {
            let place = place(line.node.as_deref(), Some(line.array), shard);
            told.extend(self.arrays[number].array.items.look(shard, &place, self.files)?);
        }
        self.tell(told);
        Ok(())
    }

    /// Takes in the end of a task.
    fn settle(&mut self, number: usize, shard: usize, end: End, node: Option<&str>) -> Result<(), Diagnostic> {
        let tracked = &mut self.arrays[number];
        if !tracked.open.contains(&shard) {
            return Ok(());
        }
        // What it left may not be here yet; the next answer says the same of its end.
        let since = *tracked.ended.entry(shard).or_insert_with(Instant::now);
        if self.files.is_behind(since) {
            return Ok(());
        }
        tracked.open.remove(&shard);
        tracked.ended.remove(&shard);
        let end = if end == End::Cancelled && tracked.given_up.contains(&shard) { End::NodeFailed } else { end };
        let mut meaning = seen::meaning(end, node, &tracked.array.asked);
        let said_in = tracked.array.output(shard, self.config, self.run);
        if let (End::Failed, Ending::ToolFailed { message }) = (end, &mut meaning.ending) {
            let said = self.run.job_output(&tracked.array.name);
            let said = if self.config.store.is_some() { Some(said) } else { said_in.clone().map(|(file, _)| file) };
            match (said.and_then(|file| status::last_error(&file)), &self.config.store) {
                (Some(error), _) => message.push_str(&format!(": {error}")),
                (None, Some(url)) => message.push_str(&format!(" and said nothing: it may not reach `{url}`")),
                (None, None) => {}
            }
        }
        match said_in {
            // Of others it may not be here yet.
            _ if end != End::Completed => tracked.is_well = false,
            Some((file, true)) => remove_empty(&file),
            Some(_) | None => {}
        }
        let is_early =
            end == End::Completed && self.files.were_skipped(&tracked.array.name, &tracked.array.shards, shard)?;
        if is_early {
            // It came before its turn: what it needs was lost, and is done by now or will be.
            let message = "what it needs was not there when its task ran".to_owned();
            meaning = Meaning { ending: Ending::Lost { message }, spares_others: true, blames_node: false };
        }
        let round = tracked.array.round;
        let again = match &meaning.ending {
            Ending::Succeeded => round <= MAX_LOST,
            Ending::Lost { .. } => round <= MAX_LOST && end != End::Cancelled,
            Ending::ToolFailed { .. } => round <= tracked.array.retries.unwrap_or(DEFAULT_RETRIES),
            Ending::Failed { .. } => tracked.array.retries.is_some_and(|retries| round <= retries),
            Ending::Stopped => false,
        };
        if end == End::Cancelled && self.known == Stop::NothingNew {
            meaning.ending = Ending::Stopped;
        }
        if end == End::OutOfMemory && self.files.are_done(&tracked.array.shards, shard)? {
            let place = place(node, tracked.array.record.ids.first().copied(), shard);
            let asked =
                tracked.array.asked.memory.as_ref().map_or_else(String::new, |asked| format!(" (--mem {asked})"));
            self.channels.notice(format!(
                "the kernel ended a process on {place} for want of memory{asked}; the stages ended well all the same"
            ));
        }
        // A machine that goes away says nothing of the others.
        let is_of_task = matches!(end, End::Failed | End::LaunchFailed);
        let end = ShardEnd {
            place: place(node, tracked.array.record.ids.first().copied(), shard),
            ending: meaning.ending.clone(),
            again,
            spares_others: meaning.spares_others && round <= MAX_LOST,
        };
        match tracked.array.items.settle(shard, &end, self.files, self.files.may_still_come(since))? {
            Some(events) => {
                let is_done = tracked.array.items.is_done(shard);
                let is_blamed = meaning.blames_node && is_own_failure(&events, is_done);
                if is_blamed {
                    self.blame(node, &meaning.ending, events.is_empty());
                }
                self.tell(events);
                if is_blamed
                    && is_of_task
                    && let Some(why) = meaning.ending.why()
                {
                    self.firsts.fail(node, why);
                }
            }
            None if end.ending == Ending::Succeeded => drop(tracked.late.insert(shard, Late::new(end))),
            None => {
                tracked.open.insert(shard);
                tracked.ended.insert(shard, since);
            }
        }
        Ok(())
    }

    /// Takes in that a task failed for no reason of its work items'; said here where no attempt at them has begun.
    fn blame(&mut self, node: Option<&str>, ending: &Ending, is_untold: bool) {
        if let Some(node) = node {
            self.nodes.blame(node);
        }
        if let Ending::ToolFailed { message } | Ending::Lost { message } = ending
            && is_untold
            && self.told.insert(message.clone())
        {
            self.channels.notice(format!("a task did not get to its work items, which are tried again: {message}"));
        }
    }

    /// Looks for results that should be there.
    fn settle_late(&mut self) -> Result<(), Diagnostic> {
        for number in 0..self.arrays.len() {
            for (shard, late) in std::mem::take(&mut self.arrays[number].late) {
                let array = &mut self.arrays[number].array;
                match array.items.settle(shard, &late.end, self.files, late.is_patient(self.files))? {
                    Some(events) => self.tell(events),
                    None => drop(self.arrays[number].late.insert(shard, late)),
                }
            }
            self.close(number)?;
        }
        Ok(())
    }

    /// Remembers that an array is over once all of it is.
    fn close(&mut self, number: usize) -> Result<(), Diagnostic> {
        let tracked = &self.arrays[number];
        if tracked.is_closed || !tracked.open.is_empty() || !tracked.late.is_empty() {
            return Ok(());
        }
        self.files.close_job(&tracked.array.name)?;
        if let Some((file, false)) = tracked.array.output(0, self.config, self.run).filter(|_| tracked.is_well) {
            remove_empty(&file);
        }
        self.arrays[number].is_closed = true;
        Ok(())
    }

    /// Settles tasks that good answers have left out for a while: Slurm keeps ended jobs for some minutes only.
    async fn forget(&mut self, number: usize, seen: &BTreeSet<usize>) -> Result<(), Diagnostic> {
        let tracked = &mut self.arrays[number];
        let mut told = vec![];
        for shard in tracked.open.difference(seen).copied().collect::<Vec<_>>() {
            told.extend(tracked.array.items.look(shard, &place(None, None, shard), self.files)?);
            // Nobody has to wait for Slurm's word on what is done.
            if tracked.array.items.is_done(shard) {
                tracked.open.remove(&shard);
            }
        }
        self.tell(told);
        let tracked = &mut self.arrays[number];
        let absent: Vec<usize> = tracked.open.difference(seen).copied().collect();
        if absent.is_empty() {
            tracked.absent = None;
            return Ok(());
        }
        let (since, looks) = tracked.absent.get_or_insert((Instant::now(), 0));
        *looks += 1;
        if *looks < 2 || since.elapsed() < ABSENCE {
            return Ok(());
        }
        let ids: Vec<String> = tracked.array.record.ids.iter().map(u64::to_string).collect();
        let known: BTreeMap<String, String> = if self.limits.has_accounting && !ids.is_empty() {
            self.slurm.accounting(&ids).await.into_iter().collect()
        } else {
            BTreeMap::new()
        };
        for shard in absent {
            let state = ids.iter().find_map(|id| known.get(&format!("{id}_{shard}")));
            let end = match state.map(|state| seen::state_of(state, "")) {
                Some(State::Ended(end)) => end,
                // The accounting may be behind; what squeue does not show does not run.
                Some(State::Waiting | State::Running | State::Unknown) | None => End::Forgotten,
            };
            self.settle(number, shard, end, None)?;
        }
        Ok(())
    }

    /// The first request lets the arrays go on unless a second one follows.
    async fn stop(&mut self, requested: Stop) -> Result<Over, Diagnostic> {
        let mut stop = self.channels.stop.clone();
        let is_second = requested == Stop::Now
            || tokio::time::timeout(DETACH_DELAY, until_asked(&mut stop, |stop| stop == Stop::Now)).await.is_ok();
        if is_second {
            self.cancel().await?;
            return Ok(Over::Stopped);
        }
        for tracked in self.arrays.iter().filter(|tracked| !tracked.open.is_empty()) {
            self.channels.notice(format!("array `{}` continues without this launcher", tracked.array.name));
        }
        Ok(Over::Detached)
    }

    /// Has what waits of the run ended, that of later phases as well; what runs comes to its end.
    async fn drain(&mut self) -> Result<(), Diagnostic> {
        self.known = Stop::NothingNew;
        self.end_waiting().await
    }

    async fn end_waiting(&mut self) -> Result<(), Diagnostic> {
        match end::waiting(self.slurm, &Record::open(self.files)?).await {
            Ok(()) => Ok(()),
            Err(away) => self.outage.goes_on(away, &self.channels),
        }
    }

    /// Keeps what waits away from a node on which task after task fails.
    async fn keep_away(&mut self, waiting: &[(usize, Line)]) -> Result<(), Diagnostic> {
        let Some(node) = self.nodes.newly_bad() else { return Ok(()) };
        self.channels.notice(format!("node `{node}` fails again and again: later tasks are kept away from it"));
        let excluded: Vec<&str> = self.config.args.exclude.iter().map(String::as_str).chain(self.nodes.bad()).collect();
        let excluded = excluded.join(",");
        let arrays: BTreeSet<u64> = waiting.iter().map(|(_, line)| line.array).collect();
        for array in arrays {
            if let Err(away) = self.slurm.exclude(array, &excluded).await {
                self.outage.goes_on(away, &self.channels)?;
            }
        }
        Ok(())
    }

    /// Cancels what is left where no task gets to its work items, and says why.
    async fn give_up_early(&mut self) -> Result<(), Diagnostic> {
        let left = self.left();
        if !self.firsts.are_telling() || left.is_empty() {
            return Ok(());
        }
        for index in left {
            // Of this launch or of one before.
            if self.files.next_attempt(index)? > AttemptNumber::FIRST {
                self.firsts.begin();
                return Ok(());
            }
        }
        self.cancel().await?;
        Err(self.firsts.failure())
    }

    /// Ends all arrays, and waits until nothing of them runs.
    pub(super) async fn cancel(&mut self) -> Result<(), Diagnostic> {
        let arrays = self.arrays.iter().filter(|tracked| !tracked.open.is_empty());
        let arrays = arrays.map(|tracked| (tracked.array.name.clone(), tracked.array.record.clone()));
        end::all(self.slurm, &arrays.collect::<Vec<_>>(), self.limits.kill_wait).await?;
        for number in 0..self.arrays.len() {
            let end = ShardEnd {
                place: self.arrays[number].array.name.clone(),
                ending: Ending::Stopped,
                again: false,
                spares_others: false,
            };
            let events = self.arrays[number].array.items.settle_all(&end, self.files)?;
            self.tell(events);
            self.arrays[number].open.clear();
            self.arrays[number].late.clear();
            self.close(number)?;
        }
        Ok(())
    }

    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            if matches!(event, Event::AttemptStarted { .. }) {
                self.firsts.begin();
            }
            self.failures.take(&event);
            self.channels.send(event);
        }
    }
}

/// Whether a task failed, and not the stages of its work items: those would fail anywhere.
fn is_own_failure(events: &[Event], is_done: bool) -> bool {
    let ends = |wanted: fn(&Ending) -> bool| {
        events.iter().any(|event| matches!(event, Event::AttemptFinished { ending, .. } if wanted(ending)))
    };
    ends(|ending| matches!(ending, Ending::ToolFailed { .. } | Ending::Lost { .. }))
        || (!is_done && !ends(|ending| matches!(ending, Ending::Failed { .. })))
}

/// Removes what tasks might have said something in.
fn remove_empty(file: &Path) {
    if fs::size(file) == 0 && file.is_file() {
        drop(fs::remove(file));
    }
}

/// What the place of a task is called.
fn place(node: Option<&str>, array: Option<u64>, shard: usize) -> String {
    let node = node.map_or_else(|| "a node".to_owned(), |node| format!("node {node}"));
    array.map_or_else(|| node.clone(), |array| format!("{node}, task {array}_{shard}"))
}
