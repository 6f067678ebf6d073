//! Watches the arrays of a phase to their end.
//!
//! One question to Slurm for all arrays, now and then, says which tasks run and which have ended; what became of their
//! work items is in their results. A task that Slurm does not know any more has ended somehow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::diagnostic::Diagnostic;
use crate::engine::remote::Late;
use crate::engine::remote::files::RunFiles;
use crate::engine::remote::items::ShardEnd;
use crate::engine::slurm::cluster::Slurm;
use crate::engine::slurm::outage::Outage;
use crate::engine::slurm::seen::{self, End, Line, Obstacle, State};
use crate::engine::slurm::submit::Array;
use crate::engine::slurm::{Limits, SlurmConfig};
use crate::engine::{Channels, Failures};
use crate::model::event::{Event, Stop};
use crate::model::run::Ending;
use crate::output::text::count;

/// The first pause between two questions, and that after something has changed.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// How often results that should be there are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a task may be absent from good answers before it counts as forgotten.
const ABSENCE: Duration = Duration::from_secs(30);
/// How long an array may be one that never runs; partitions are changed now and then.
const DOOMED: Duration = Duration::from_secs(60);
/// How often a task that Slurm holds is released.
const MAX_RELEASES: u32 = 3;
/// How often work items are submitted again that were lost to a machine.
const MAX_LOST: u32 = 3;
/// The same where a tool failed, unless somebody says otherwise.
const DEFAULT_RETRIES: u32 = 2;
/// How long the second Ctrl-C is waited for.
const DETACH_DELAY: Duration = Duration::from_secs(5);
/// How long tasks that were cancelled may take to end, beyond what Slurm gives them.
const CANCELLATION: Duration = Duration::from_secs(60);
/// How often is looked whether they have ended.
const CANCEL_POLL: Duration = Duration::from_secs(1);

/// How the watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Ended,
    Stopped,
    GaveUp,
    Detached,
}

/// An array, and what was seen of it.
struct Tracked {
    array: Array,
    /// The shards whose end was not taken in.
    open: BTreeSet<usize>,
    /// Those that ended well, whose results are not here yet.
    late: BTreeMap<usize, Late>,
    releases: BTreeMap<usize, u32>,
    /// Tasks that this launcher cancelled since they could not be released.
    given_up: BTreeSet<usize>,
    /// Since when good answers have left out tasks that are open, and how many did.
    absent: Option<(Instant, u32)>,
    /// Since when all of its tasks wait for what never comes.
    doomed: Option<Instant>,
}

pub(super) struct Watch<'a> {
    config: &'a SlurmConfig,
    files: &'a RunFiles,
    slurm: &'a Slurm,
    limits: &'a Limits,
    channels: Channels,
    failures: &'a Failures,
    arrays: Vec<Tracked>,
    outage: Outage,
    /// Reasons that were told.
    told: BTreeSet<String>,
    /// The last time that something went on.
    progress: Instant,
    /// Nodes on which tasks failed, and how often.
    pub blamed: BTreeMap<String, u32>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        config: &'a SlurmConfig,
        files: &'a RunFiles,
        slurm: &'a Slurm,
        limits: &'a Limits,
        channels: Channels,
        failures: &'a Failures,
        arrays: Vec<Array>,
    ) -> Self {
        let track = |array: Array| Tracked {
            open: (0..array.shards.count).collect(),
            array,
            late: BTreeMap::new(),
            releases: BTreeMap::new(),
            given_up: BTreeSet::new(),
            absent: None,
            doomed: None,
        };
        Watch {
            config,
            files,
            slurm,
            limits,
            channels,
            failures,
            arrays: arrays.into_iter().map(track).collect(),
            outage: Outage::new(config.outage_limit),
            told: BTreeSet::new(),
            progress: Instant::now(),
            blamed: BTreeMap::new(),
        }
    }

    /// The work items that are to be submitted again.
    pub(super) fn left(&self) -> BTreeSet<usize> {
        self.arrays.iter().flat_map(|tracked| tracked.array.items.open()).collect()
    }

    /// Follows the arrays until all are over, or the launcher is told to stop.
    pub(super) async fn run(&mut self) -> Result<Over, Diagnostic> {
        let mut pause = FIRST_PAUSE;
        loop {
            let has_changed = self.poll().await?;
            if self.is_over() {
                return Ok(Over::Ended);
            }
            if self.failures.are_too_many() {
                self.cancel().await?;
                return Ok(Over::GaveUp);
            }
            pause = if has_changed { FIRST_PAUSE } else { pause * 2 }.min(self.config.poll);
            let mut stop = self.channels.stop.clone();
            let next = Instant::now() + pause;
            while Instant::now() < next {
                // Slurm's word is good already; only the file system lags.
                let until = if self.is_late() { next.min(Instant::now() + LOOK) } else { next };
                let requested = tokio::select! {
                    requested = stop.wait_for(|stop| *stop != Stop::No) => Some(requested.map_or(Stop::Now, |stop| *stop)),
                    () = tokio::time::sleep_until(until) => None,
                };
                if let Some(requested) = requested {
                    return self.stop(requested).await;
                }
                self.settle_late()?;
                if self.is_over() {
                    return Ok(Over::Ended);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.arrays.iter().all(|tracked| tracked.open.is_empty() && tracked.late.is_empty())
    }

    fn is_late(&self) -> bool {
        self.arrays.iter().any(|tracked| !tracked.late.is_empty())
    }

    /// Asks Slurm once, and takes in what has changed. Returns whether something has.
    async fn poll(&mut self) -> Result<bool, Diagnostic> {
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
                    State::Waiting => waiting.push((number, line.clone())),
                    State::Running => {
                        runs = true;
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
            if let Err(away) = self.slurm.cancel(&doubles, false).await {
                self.outage.goes_on(away, &self.channels)?;
            }
        }
        Ok(own.into_iter().filter(|line| line.array == first).collect())
    }

    /// Looks what running tasks have done since the last look.
    fn look(&mut self, number: usize, line: &Line) -> Result<(), Diagnostic> {
        let place = place(line.node.as_deref());
        let mut told = vec![];
        for &shard in &line.indexes {
            told.extend(self.arrays[number].array.items.look(shard, &place, self.files)?);
        }
        self.tell(told);
        Ok(())
    }

    /// Takes in the end of a task.
    fn settle(&mut self, number: usize, shard: usize, end: End, node: Option<&str>) -> Result<(), Diagnostic> {
        let tracked = &mut self.arrays[number];
        if !tracked.open.remove(&shard) {
            return Ok(());
        }
        let end = if end == End::Cancelled && tracked.given_up.contains(&shard) { End::NodeFailed } else { end };
        let mut meaning = seen::meaning(end, node, &tracked.array.asked);
        if let (End::Failed, Ending::ToolFailed { message }) = (end, &mut meaning.ending)
            && let Some(error) = self.files.last_error(&tracked.array.name)
        {
            message.push_str(&format!(": {error}"));
        }
        if let Some(node) = node.filter(|_| meaning.blames_node) {
            *self.blamed.entry(node.to_owned()).or_default() += 1;
        }
        let round = tracked.array.round;
        let again = match &meaning.ending {
            Ending::Succeeded => round <= MAX_LOST,
            Ending::Lost { .. } => round <= MAX_LOST && end != End::Cancelled,
            Ending::ToolFailed { .. } => round <= self.config.retries.unwrap_or(DEFAULT_RETRIES),
            Ending::Failed { .. } => self.config.retries.is_some_and(|retries| round <= retries),
            Ending::Stopped => false,
        };
        let end = ShardEnd {
            place: place(node),
            ending: meaning.ending,
            again,
            spares_others: meaning.spares_others && round <= MAX_LOST,
        };
        match tracked.array.items.settle(shard, &end, self.files, true)? {
            Some(events) => self.tell(events),
            None => drop(tracked.late.insert(shard, Late::new(end))),
        }
        Ok(())
    }

    /// Looks for results that should be there.
    fn settle_late(&mut self) -> Result<(), Diagnostic> {
        for number in 0..self.arrays.len() {
            for (shard, late) in std::mem::take(&mut self.arrays[number].late) {
                let array = &mut self.arrays[number].array;
                match array.items.settle(shard, &late.end, self.files, late.is_patient())? {
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
        if tracked.open.is_empty() && tracked.late.is_empty() {
            self.files.close_job(&tracked.array.name)?;
        }
        Ok(())
    }

    /// Settles tasks that good answers have left out for a while: Slurm keeps ended jobs for some minutes only.
    async fn forget(&mut self, number: usize, seen: &BTreeSet<usize>) -> Result<(), Diagnostic> {
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

    /// Says what tasks wait for, lets those go on that Slurm holds, and gives up on those that never run.
    async fn explain(&mut self, waiting: &[(usize, Line)], runs: bool) -> Result<(), Diagnostic> {
        let mut is_site_asked = None;
        let mut doomed: BTreeMap<usize, String> = BTreeMap::new();
        for (number, line) in waiting {
            let obstacle = seen::obstacle(&line.reason);
            match obstacle {
                Obstacle::RequeuedHeld => self.release(*number, line).await?,
                Obstacle::Never => drop(doomed.insert(*number, line.reason.clone())),
                Obstacle::Site | Obstacle::HeldByAdmin | Obstacle::Unknown => is_site_asked = Some(line.reason.clone()),
                Obstacle::Turn | Obstacle::HeldByUser => {}
            }
            let is_news = obstacle != Obstacle::Turn || (!runs && !matches!(&*line.reason, "None" | "Dependency"));
            if is_news && self.told.insert(line.reason.clone()) {
                let tasks = count(line.indexes.len(), "task");
                let (name, reason) = (&line.name, &line.reason);
                self.channels.notice(format!("{tasks} of `{name}` wait: {reason} ({})", seen::explanation(reason)));
            }
        }
        for number in 0..self.arrays.len() {
            let Some(reason) = doomed.get(&number).filter(|_| !runs) else {
                self.arrays[number].doomed = None;
                continue;
            };
            let since = *self.arrays[number].doomed.get_or_insert_with(Instant::now);
            if since.elapsed() >= DOOMED.min(self.config.pending_limit) {
                let name = self.arrays[number].array.name.clone();
                self.cancel().await?;
                return Err(Diagnostic::usage(format!("the tasks of array `{name}` would never start: {reason}"))
                    .cause(seen::explanation(reason))
                    .hint("launch again with other options; the arrays were cancelled"));
            }
        }
        if let Some(reason) = is_site_asked.filter(|_| self.progress.elapsed() > self.config.pending_limit) {
            let waited = self.config.pending_limit.as_secs();
            return Err(Diagnostic::tool(format!("nothing has run for {waited} s: {reason}"))
                .cause(seen::explanation(&reason))
                .hint("launch again when that has changed: the arrays were left as they are, and start when they can")
                .hint(format!("or end them: `dvc-fanout cancel {}`", self.config.run)));
        }
        Ok(())
    }

    /// Lets tasks go on whose node could not start them; after some times, the next array is to have them.
    async fn release(&mut self, number: usize, line: &Line) -> Result<(), Diagnostic> {
        for &shard in &line.indexes {
            let tracked = &mut self.arrays[number];
            let task = format!("{}_{shard}", line.array);
            let releases = tracked.releases.entry(shard).or_default();
            *releases += 1;
            let done = if *releases <= MAX_RELEASES {
                self.slurm.release(&task).await
            } else {
                tracked.given_up.insert(shard);
                self.slurm.cancel(&[task], false).await
            };
            if let Err(away) = done {
                self.outage.goes_on(away, &self.channels)?;
            }
        }
        Ok(())
    }

    /// The first request lets the arrays go on unless a second one follows.
    async fn stop(&mut self, requested: Stop) -> Result<Over, Diagnostic> {
        let mut stop = self.channels.stop.clone();
        let is_second = requested == Stop::Now
            || tokio::time::timeout(DETACH_DELAY, stop.wait_for(|stop| *stop == Stop::Now)).await.is_ok();
        if is_second {
            self.cancel().await?;
            return Ok(Over::Stopped);
        }
        for tracked in self.arrays.iter().filter(|tracked| !tracked.open.is_empty()) {
            self.channels.notice(format!("array `{}` goes on without this launcher", tracked.array.name));
        }
        Ok(Over::Detached)
    }

    /// Ends all arrays, and waits until nothing of them runs.
    async fn cancel(&mut self) -> Result<(), Diagnostic> {
        let arrays = self.arrays.iter().filter(|tracked| !tracked.open.is_empty());
        let arrays = arrays.map(|tracked| (tracked.array.name.clone(), tracked.array.record.clone()));
        end(self.slurm, &arrays.collect::<Vec<_>>(), self.limits.kill_wait).await?;
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

    fn tell(&self, events: Vec<Event>) {
        for event in events {
            self.failures.take(&event);
            self.channels.send(event);
        }
    }
}

/// What a place is called.
fn place(node: Option<&str>) -> String {
    node.map_or_else(|| "a node".to_owned(), |node| format!("node {node}"))
}

/// Ends arrays, by the ids that are theirs now, and waits until none of their tasks is left.
pub(super) async fn end(
    slurm: &Slurm,
    arrays: &[(String, super::submit::Record)],
    kill_wait: Duration,
) -> Result<(), Diagnostic> {
    if arrays.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
    let begun = Instant::now();
    let mut asked: BTreeSet<u64> = BTreeSet::new();
    loop {
        let lines = slurm.list(&names).await?;
        let is_alive = |line: &&Line| !matches!(line.state, State::Ended(_));
        let is_own = |line: &&Line| arrays.iter().any(|(name, record)| *name == line.name && record.owns(line));
        let alive: BTreeSet<u64> = lines.iter().filter(is_alive).filter(is_own).map(|line| line.array).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let new: Vec<String> = alive.difference(&asked).map(u64::to_string).collect();
        slurm.cancel(&new, false).await?;
        asked.extend(alive);
        if begun.elapsed() > kill_wait + CANCELLATION {
            return Err(Diagnostic::tool("tasks were cancelled, but do not end")
                .hint(format!("look at them with `squeue --me -n {}`", names.join(","))));
        }
        tokio::time::sleep(CANCEL_POLL).await;
    }
}
