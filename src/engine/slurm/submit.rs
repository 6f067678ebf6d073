//! Submits the arrays of a phase, each exactly once, and finds those again that an earlier launch submitted.
//!
//! An array is known by its name and by a nonce in its comment; ids are given to other jobs after a crash of the
//! controller. What is to be submitted is written down before `sbatch` is called:
//!
//! | `NAME.json` | in `squeue` | then |
//! |---|---|---|
//! | is not there | | write it, submit |
//! | `printed` by a dry run | no | submit |
//! | `submitting`: the launcher or the answer was lost | yes, with this nonce | go on with it |
//! | `submitting` | no, twice | submit again, under the same name |
//! | `submitted` | any | go on with it; what has ended and what is gone is settled by results |
//! | `submitted`, made from other options | not over | refuse: nothing is changed behind the user's back |
//!
//! Should the controller have taken two arrays of one name all the same, `--dependency=singleton` keeps the second one
//! waiting until the first is over, and its workers find everything done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::engine::remote::items::Items;
use crate::engine::slurm::array;
use crate::engine::slurm::cluster::{Slurm, Submitted};
use crate::engine::slurm::deal::{Dealer, Planned};
use crate::engine::slurm::outage::Outage;
use crate::engine::slurm::output::TaskName;
use crate::engine::slurm::record::{Record, RecordState};
use crate::engine::slurm::refused::{Refusal, refused};
use crate::engine::slurm::script;
use crate::engine::slurm::seen::{Asked, Line, State};
use crate::engine::slurm::{DEFAULT_RETRIES, SlurmConfig};
use crate::engine::{Channels, until_asked};
use crate::model::event::{Stop, Task};
use crate::model::numbers::ItemIndex;
use crate::model::run::Resources;
use crate::output::text::count;
use crate::state::paths::RunDir;
use crate::state::shards::Shards;

/// How often one array is submitted where the answer is lost again and again.
const MAX_TRIES: u32 = 3;
/// How long after the first look a second one tells that an array is not there.
const SECOND_LOOK: Duration = Duration::from_secs(15);
/// How long until `sbatch` is tried again where there are too many jobs.
const ROOM_PAUSE: Duration = Duration::from_secs(15);

/// An array that is on its way, with what became of its work items.
pub(super) struct Array {
    pub name: String,
    pub record: Record,
    pub shards: Shards,
    pub items: Items,
    pub asked: Asked,
    /// The tries after the first that were asked for its work items.
    pub retries: Option<u32>,
    /// How often its work items were submitted by this launch.
    pub round: u32,
}

impl Array {
    fn new(
        name: String,
        record: Record,
        shards: Shards,
        wanted: impl Fn(ItemIndex) -> bool,
        round: u32,
        (retries, is_listed): (Option<u32>, bool),
    ) -> Array {
        let tries = retries.unwrap_or(DEFAULT_RETRIES).saturating_add(1);
        let items = Items::new(&shards, wanted).listed(is_listed).tried(tries);
        let asked = Asked { time: record.time.clone(), memory: record.memory.clone() };
        Array { name, record, shards, items, asked, retries, round }
    }

    /// The file that a task prints into, and whether no other one does.
    pub(super) fn output(&self, shard: usize, config: &SlurmConfig, run: &RunDir) -> Option<(PathBuf, bool)> {
        let task = TaskName { array: &self.name, id: self.record.ids.first().copied(), shard };
        config.output.file(run, Path::new(&config.project), &task)
    }
}

pub(super) struct Submitter<'a> {
    pub dealer: Dealer<'a>,
    pub slurm: &'a Slurm,
    pub channels: Channels,
    /// The jobs that have to be over before an array begins.
    pub behind: Vec<u64>,
    /// Whether arrays that the site has no room for are tried again until it has.
    pub is_patient: bool,
}

impl Submitter<'_> {
    /// Finds the arrays of this phase that are not over; their tasks are taken from the list.
    pub(super) async fn adopt(&self, tasks: &mut Vec<Task>) -> Result<Vec<Array>, Diagnostic> {
        let prefix = array::phase_name(&self.dealer.config.run, self.dealer.phase);
        let mut found = vec![];
        for name in self.dealer.files.open_jobs()?.into_iter().filter(|name| name.starts_with(&prefix)) {
            let Some(record) = Record::of(self.dealer.files, &name)? else { continue };
            let Some(shards) = self.dealer.files.shards(&name)? else { continue };
            let Some(record) = self.look_up(&name, record).await? else {
                self.dealer.files.close_job(&name)?;
                continue;
            };
            let own: BTreeSet<ItemIndex> = shards.items.iter().map(|item| item.index).collect();
            let wanted: BTreeSet<ItemIndex> =
                tasks.iter().map(|task| task.index).filter(|index| own.contains(index)).collect();
            let first = tasks.iter().find(|task| wanted.contains(&task.index)).map(|task| &task.resources);
            if let Some(resources) = first {
                self.check_options(&name, &record, resources, &shards).await?;
            }
            let retries = first.map_or(self.dealer.config.retries, |first| self.dealer.config.retries(first));
            self.dealer.files.write_job(&name, &shards, &record.to_json())?;
            tasks.retain(|task| !own.contains(&task.index));
            self.channels.notice(format!("going on with array `{name}`"));
            found.push(Array::new(
                name,
                record,
                shards,
                |index| wanted.contains(&index),
                1,
                (retries, self.dealer.files.is_over_store()),
            ));
        }
        Ok(found)
    }

    /// Refuses to go on with an array that was made from other options, unless it is over.
    async fn check_options(
        &self,
        name: &str,
        record: &Record,
        resources: &Resources,
        shards: &Shards,
    ) -> Result<(), Diagnostic> {
        if self.dealer.spec(resources, shards, name) == record.spec {
            return Ok(());
        }
        let lines = self.lines(name, record, 1).await?;
        if lines.iter().all(|line| matches!(line.state, State::Ended(_))) {
            return Ok(());
        }
        Err(Diagnostic::usage(format!("array `{name}` is under way already, made from other options"))
            .hint("launch with the options that it was submitted with, or wait until it is over")
            .hint(format!("or end it first: `dvc-fanout cancel {}`", self.dealer.config.run)))
    }

    /// Completes what is known of an array that may or may not have been submitted; `None` where it was not.
    async fn look_up(&self, name: &str, record: Record) -> Result<Option<Record>, Diagnostic> {
        if record.state == RecordState::Submitted {
            return Ok(Some(record));
        }
        let looks = if record.state == RecordState::Printed { 1 } else { 2 };
        let ids = self.find(name, &record, looks).await?;
        Ok((!ids.is_empty()).then(|| record.submitted(ids)))
    }

    /// The ids of an array that the controller knows, after at most so many looks at it.
    pub(super) async fn find(&self, name: &str, record: &Record, looks: u32) -> Result<Vec<u64>, Diagnostic> {
        let lines = self.lines(name, record, looks).await?;
        let ids: BTreeSet<u64> = lines.iter().map(|line| line.array).collect();
        Ok(ids.into_iter().collect())
    }

    /// What the controller says of an array, after at most so many looks at it.
    async fn lines(&self, name: &str, record: &Record, looks: u32) -> Result<Vec<Line>, Diagnostic> {
        let mut outage = Outage::new(self.dealer.config.outage_limit);
        let mut left = looks;
        loop {
            match self.slurm.list(&[name.to_owned()]).await {
                Ok(mut lines) => {
                    outage.is_over(&self.channels);
                    lines.retain(|line| line.name == name && record.owns(line));
                    left -= 1;
                    if !lines.is_empty() || left == 0 {
                        return Ok(lines);
                    }
                }
                Err(away) => outage.goes_on(away, &self.channels)?,
            }
            tokio::time::sleep(SECOND_LOOK).await;
        }
    }

    /// Submits the arrays that do these tasks; where there is neither room nor patience, only the first of them.
    pub(super) async fn submit(&self, tasks: Vec<Task>, round: u32) -> Result<Vec<Array>, Diagnostic> {
        let mut planned: VecDeque<Planned> = self.dealer.plan(tasks, RecordState::Submitting)?.into();
        let mut chunks = planned.len();
        let mut arrays: Vec<Array> = vec![];
        let mut places: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut room_since: Option<Instant> = None;
        while let Some(next) = planned.pop_front() {
            if *self.channels.stop.borrow() != Stop::No {
                break;
            }
            let mut after = self.behind.clone();
            after.extend(next.room.after.iter().filter_map(|place| places.get(place)).flatten());
            let (refusal, said) = match self.submit_one(&next, &after).await? {
                Ok(ids) => {
                    room_since = None;
                    places.entry(next.place).or_default().extend(&ids);
                    let (tasks, id) = (count(next.shards.count, "task"), ids[0]);
                    let record = next.record.submitted(ids);
                    self.dealer.files.write_job(&next.name, &next.shards, &record.to_json())?;
                    self.dealer.files.post_job(&next.name).await?;
                    self.channels.notice(format!("array `{}` of {tasks} is job {id}", next.name));
                    arrays.push(Array::new(
                        next.name,
                        record,
                        next.shards,
                        |_| true,
                        round,
                        (self.dealer.config.retries(&next.resources), self.dealer.files.is_over_store()),
                    ));
                    continue;
                }
                Err(refusal) => refusal,
            };
            self.dealer.files.forget_job(&next.name)?;
            self.dealer.files.take_back_job(&next.name).await?;
            if matches!(refusal, Refusal::TooMany | Refusal::TooLarge) && next.shards.count > 1 {
                // The whole array was refused; halves of it may be small enough.
                let [first, second] = self.dealer.halves(&next, chunks)?;
                planned.push_front(second);
                planned.push_front(first);
                chunks += 2;
                continue;
            }
            if !matches!(refusal, Refusal::TooMany | Refusal::NoRoom) {
                return Err(refused(refusal, &said, &next.words));
            }
            if !self.is_patient {
                break;
            }
            let since = *room_since.get_or_insert_with(|| {
                self.channels.notice(format!("the site takes no more jobs just now ({said}): waiting for room"));
                Instant::now()
            });
            if arrays.is_empty() && since.elapsed() > self.dealer.config.pending_limit {
                return Err(refused(refusal, &said, &next.words));
            }
            self.pause(ROOM_PAUSE).await;
            planned.push_front(next);
        }
        Ok(arrays)
    }

    /// The scripts and command lines of what would be submitted, which are left in the run's directory.
    pub(super) fn print(&self, tasks: Vec<Task>) -> Result<Vec<String>, Diagnostic> {
        let all = self.dealer.plan(tasks, RecordState::Printed)?;
        let mut printed = vec![];
        for planned in &all {
            self.write(planned)?;
            let ids = |place: &usize| format!("ID-OF-{}", all[*place].name);
            let words = script::after(&planned.words, &planned.room.after.iter().map(ids).collect::<Vec<_>>());
            let words: Vec<String> = words.iter().map(|word| script::quoted(word)).collect();
            printed.push(format!("# {}\nsbatch {}\n{}", planned.name, words.join(" "), planned.script));
        }
        Ok(printed)
    }

    /// Writes down what is to be submitted, before anybody could find it in the queue.
    fn write(&self, planned: &Planned) -> Result<(), Diagnostic> {
        let config = self.dealer.config;
        if let Some(folder) = config.output.folder(Path::new(&config.project)).filter(|_| config.store.is_none()) {
            fs::create_dir(&folder)?;
        }
        fs::write(&self.dealer.run.job_script(&planned.name), planned.script.as_bytes())?;
        self.dealer.files.write_job(&planned.name, &planned.shards, &planned.record.to_json())
    }

    /// Submits one array, to begin when these jobs are over.
    async fn submit_one(
        &self,
        planned: &Planned,
        after: &[u64],
    ) -> Result<Result<Vec<u64>, (Refusal, String)>, Diagnostic> {
        self.write(planned)?;
        self.dealer.files.post_job(&planned.name).await?;
        let ids: Vec<String> = after.iter().map(u64::to_string).collect();
        self.send(&planned.name, &planned.record, &script::after(&planned.words, &ids)).await
    }

    /// Calls `sbatch`; an answer that says nothing is looked into until it is known what came of it.
    pub(super) async fn send(
        &self,
        name: &str,
        record: &Record,
        words: &[String],
    ) -> Result<Result<Vec<u64>, (Refusal, String)>, Diagnostic> {
        let mut last = String::new();
        for _ in 0..MAX_TRIES {
            match self.slurm.submit(words).await {
                Submitted::As(id) => return Ok(Ok(vec![id])),
                Submitted::Refused(refusal, said) => return Ok(Err((refusal, said))),
                Submitted::NotAtAll(why) => {
                    self.dealer.files.forget_job(name)?;
                    return Err(Diagnostic::tool(format!("cannot submit: {why}"))
                        .hint("start this on a login node of the cluster, or load what provides Slurm's programs"));
                }
                Submitted::Unknown(why) => {
                    self.channels.notice(format!("{why}: looking whether array `{name}` was submitted"));
                    last = why;
                    let ids = self.find(name, record, 2).await?;
                    if !ids.is_empty() {
                        return Ok(Ok(ids));
                    }
                }
            }
        }
        Err(Diagnostic::tool(format!("array `{name}` could not be submitted")).cause(last))
    }

    /// Waits, unless everything is to end.
    async fn pause(&self, pause: Duration) {
        let mut stop = self.channels.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = until_asked(&mut stop, |stop| stop != Stop::No) => {}
        }
    }
}
