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
//!
//! Should the controller have taken two arrays of one name all the same, `--dependency=singleton` keeps the second one
//! waiting until the first is over, and its workers find everything done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::adapters::{clock, fs};
use crate::diagnostic::Diagnostic;
use crate::engine::Channels;
use crate::engine::remote::classes::{Class, digest, split};
use crate::engine::remote::files::RunFiles;
use crate::engine::remote::items::Items;
use crate::engine::slurm::cluster::{Slurm, Submitted};
use crate::engine::slurm::outage::Outage;
use crate::engine::slurm::script::{self, Refusal};
use crate::engine::slurm::seen::{Asked, Line};
use crate::engine::slurm::{Limits, SlurmConfig, array};
use crate::model::event::{Stop, Task};
use crate::model::run::Resources;
use crate::state::paths::RunDir;
use crate::state::shards::{ShardItem, Shards};

/// How often one array is submitted where the answer is lost again and again.
const MAX_TRIES: u32 = 3;
/// How long after the first look a second one tells that an array is not there.
const SECOND_LOOK: Duration = Duration::from_secs(15);
/// How long until `sbatch` is tried again where there are too many jobs.
const ROOM_PAUSE: Duration = Duration::from_secs(15);
/// How often one phase of a run may be submitted.
const MAX_GENERATIONS: u32 = 1000;

/// What the run's directory remembers of an array, in `cluster` of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub nonce: String,
    /// The digest of what it was made from.
    pub spec: String,
    pub state: RecordState,
    pub ids: Vec<u64>,
    /// The cluster's name, where it was given.
    pub clusters: Option<String>,
    pub time: Option<String>,
    pub memory: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecordState {
    Printed,
    Submitting,
    Submitted,
}

impl Record {
    pub(super) fn of(files: &RunFiles, name: &str) -> Result<Option<Record>, Diagnostic> {
        Ok(files.cluster_of(name)?.and_then(|json| serde_json::from_value(json).ok()))
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("it is plain data")
    }

    /// Whether a line of `squeue` is about this array.
    pub(super) fn owns(&self, line: &Line) -> bool {
        self.ids.contains(&line.array) || line.comment.split(' ').any(|word| word == self.nonce)
    }
}

/// An array that is on its way, with what became of its work items.
pub(super) struct Array {
    pub name: String,
    pub record: Record,
    pub shards: Shards,
    pub items: Items,
    pub asked: Asked,
    /// How often its work items were submitted by this launch.
    pub round: u32,
}

/// An array that is still to be submitted.
struct Planned {
    name: String,
    shards: Shards,
    resources: Resources,
    record: Record,
    words: Vec<String>,
    script: String,
}

pub(super) struct Submitter<'a> {
    pub config: &'a SlurmConfig,
    pub run: &'a RunDir,
    pub files: &'a RunFiles,
    pub slurm: &'a Slurm,
    pub limits: &'a Limits,
    pub channels: Channels,
    pub phase: usize,
    /// Nodes that nothing is to run on.
    pub excluded: Vec<String>,
}

impl Submitter<'_> {
    /// Finds the arrays of this phase that are not over; their tasks are taken from the list.
    pub(super) async fn adopt(&self, tasks: &mut Vec<Task>) -> Result<Vec<Array>, Diagnostic> {
        let prefix = array::phase_name(&self.config.run, self.phase);
        let mut found = vec![];
        for name in self.files.open_jobs()?.into_iter().filter(|name| name.starts_with(&prefix)) {
            let Some(record) = Record::of(self.files, &name)? else { continue };
            let Some(shards) = self.files.shards(&name)? else { continue };
            let Some(record) = self.look_up(&name, record).await? else {
                self.files.close_job(&name)?;
                continue;
            };
            let own: BTreeSet<usize> = shards.items.iter().map(|item| item.index).collect();
            let wanted: BTreeSet<usize> =
                tasks.iter().map(|task| task.index).filter(|index| own.contains(index)).collect();
            self.files.write_job(&name, &shards, &record.to_json())?;
            let first = class_of(tasks, &wanted).cloned();
            tasks.retain(|task| !own.contains(&task.index));
            let is_same = first.is_none_or(|resources| self.spec(&resources, &shards, &name) == record.spec);
            let as_it_was = if is_same { "" } else { ", as it was submitted: with other options" };
            self.channels.notice(format!("going on with array `{name}`{as_it_was}"));
            let items = Items::new(&shards, |index| wanted.contains(&index));
            let asked = Asked { time: record.time.clone(), memory: record.memory.clone() };
            found.push(Array { name, record, shards, items, asked, round: 1 });
        }
        Ok(found)
    }

    /// Completes what is known of an array that may or may not have been submitted; `None` where it was not.
    async fn look_up(&self, name: &str, mut record: Record) -> Result<Option<Record>, Diagnostic> {
        if record.state == RecordState::Submitted {
            return Ok(Some(record));
        }
        let looks = if record.state == RecordState::Printed { 1 } else { 2 };
        let ids = self.find(name, &record, looks).await?;
        record.state = RecordState::Submitted;
        record.ids = ids;
        Ok((!record.ids.is_empty()).then_some(record))
    }

    /// The ids of an array that the controller knows, after at most so many looks at it.
    async fn find(&self, name: &str, record: &Record, looks: u32) -> Result<Vec<u64>, Diagnostic> {
        let mut outage = Outage::new(self.config.outage_limit);
        let mut left = looks;
        loop {
            match self.slurm.list(&[name.to_owned()]).await {
                Ok(lines) => {
                    outage.is_over(&self.channels);
                    let own = lines.iter().filter(|line| line.name == name && record.owns(line));
                    let ids: BTreeSet<u64> = own.map(|line| line.array).collect();
                    left -= 1;
                    if !ids.is_empty() || left == 0 {
                        return Ok(ids.into_iter().collect());
                    }
                }
                Err(away) => outage.goes_on(away, &self.channels)?,
            }
            tokio::time::sleep(SECOND_LOOK).await;
        }
    }

    /// Submits the arrays that do these tasks.
    pub(super) async fn submit(&self, tasks: Vec<Task>, round: u32) -> Result<Vec<Array>, Diagnostic> {
        let mut planned: VecDeque<Planned> = self.plan(tasks, true)?.into();
        let mut chunks = planned.len();
        let mut arrays: Vec<Array> = vec![];
        let mut room_since: Option<Instant> = None;
        while let Some(next) = planned.pop_front() {
            if *self.channels.stop.borrow() != Stop::No {
                break;
            }
            match self.submit_one(&next).await? {
                Ok(ids) => {
                    room_since = None;
                    let record = Record { state: RecordState::Submitted, ids, ..next.record };
                    self.files.write_job(&next.name, &next.shards, &record.to_json())?;
                    let items = Items::new(&next.shards, |_| true);
                    let asked = Asked { time: record.time.clone(), memory: record.memory.clone() };
                    self.channels.notice(format!(
                        "array `{}` of {} is job {}",
                        next.name,
                        crate::output::text::count(next.shards.count, "task"),
                        record.ids[0]
                    ));
                    arrays.push(Array { name: next.name, record, shards: next.shards, items, asked, round });
                }
                Err((refusal, said)) => {
                    self.files.forget_job(&next.name)?;
                    let is_too_much = matches!(refusal, Refusal::TooMany | Refusal::TooLarge);
                    if is_too_much && next.shards.count > 1 {
                        // The whole array was refused; halves of it may be small enough.
                        for half in halves(&next.shards).into_iter().rev() {
                            planned.push_front(self.planned(&next.resources, half, chunks, true)?);
                            chunks += 1;
                        }
                        continue;
                    }
                    if !matches!(refusal, Refusal::TooMany | Refusal::NoRoom) {
                        return Err(refused(refusal, &said, &next));
                    }
                    let since = *room_since.get_or_insert_with(|| {
                        self.channels
                            .notice(format!("the site takes no more jobs just now ({said}): waiting for room"));
                        Instant::now()
                    });
                    if arrays.is_empty() && since.elapsed() > self.config.pending_limit {
                        return Err(refused(refusal, &said, &next));
                    }
                    self.pause(ROOM_PAUSE).await;
                    self.files.write_job(&next.name, &next.shards, &next.record.to_json())?;
                    planned.push_front(next);
                }
            }
        }
        Ok(arrays)
    }

    /// Submits a job that launches the run; returns its id.
    pub(super) async fn controller(&self) -> Result<u64, Diagnostic> {
        let name = array::controller(&self.config.run);
        let args = &self.config.args;
        let nonce: String = digest(&format!("{name} {}", clock::nanoseconds())).chars().take(12).collect();
        let variables = self.write_variables(&name)?;
        let script = script::controller(self.config, variables.as_deref());
        let mut words: Vec<String> = ["--parsable", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--requeue"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        let memory = Some("1G".to_owned()).filter(|_| args.mem.as_deref() != Some("none"));
        for (flag, value) in [
            ("mem", &memory),
            ("time", &args.controller_time),
            ("partition", &args.partition),
            ("account", &args.account),
            ("qos", &args.qos),
            ("reservation", &args.reservation),
            ("clusters", &args.clusters),
        ] {
            words.extend(value.as_ref().map(|value| format!("--{flag}={value}")));
        }
        // As if somebody pressed Ctrl-C once: the arrays go on, and the next launcher finds them.
        let signal = if args.then.is_some() { "USR1" } else { "INT" };
        words.push(format!("--signal=B:{signal}@60"));
        words.push(format!("--chdir={}", self.config.project));
        words.push("--open-mode=append".to_owned());
        words.push(format!("--job-name={name}"));
        words.push(format!("--comment=dvc-fanout {} controller {nonce}", self.config.run));
        words.push("--dependency=singleton".to_owned());
        words.push(format!("--output={}", self.run.job_output(&name).display()));
        words.push(self.run.job_script(&name).display().to_string());
        let shards = Shards { count: 0, items: vec![], retry_commands: false };
        let (spec, clusters) = (String::new(), args.clusters.clone());
        let record =
            Record { nonce, spec, state: RecordState::Submitting, ids: vec![], clusters, time: None, memory: None };
        fs::write(&self.run.job_script(&name), script.as_bytes())?;
        self.files.write_job(&name, &shards, &record.to_json())?;
        let planned = Planned { name, shards, resources: Resources::default(), record, words, script };
        match self.submit_one(&planned).await? {
            Ok(ids) => {
                let record = Record { state: RecordState::Submitted, ids, ..planned.record };
                self.files.write_job(&planned.name, &planned.shards, &record.to_json())?;
                Ok(record.ids[0])
            }
            Err((refusal, said)) => {
                self.files.forget_job(&planned.name)?;
                Err(refused(refusal, &said, &planned))
            }
        }
    }

    /// The scripts and command lines of what would be submitted, which are left in the run's directory.
    pub(super) fn print(&self, tasks: Vec<Task>) -> Result<Vec<String>, Diagnostic> {
        let print = |planned: Planned| {
            let words: Vec<String> = planned.words.iter().map(|word| script::quoted(word)).collect();
            format!("# {}\nsbatch {}\n{}", planned.name, words.join(" "), planned.script)
        };
        Ok(self.plan(tasks, false)?.into_iter().map(print).collect())
    }

    /// Deals tasks out to arrays, and writes down which work items each does.
    fn plan(&self, tasks: Vec<Task>, is_submitted: bool) -> Result<Vec<Planned>, Diagnostic> {
        let mut parts = vec![];
        for class in split(tasks) {
            parts.extend(self.parts(&class).into_iter().map(|shards| (class.resources.clone(), shards)));
        }
        let planned = parts.into_iter().enumerate();
        planned.map(|(chunk, (resources, shards))| self.planned(&resources, shards, chunk, is_submitted)).collect()
    }

    /// The work items of a class, dealt out to arrays that the cluster takes.
    fn parts(&self, class: &Class) -> Vec<Shards> {
        let workers = self.config.jobs.unwrap_or(100);
        let dealt = class.shards(workers, self.config.retries.is_some());
        let most = self.limits.array_size.min(self.config.args.array_size.unwrap_or(usize::MAX)).max(1);
        let arrays = dealt.count.div_ceil(most).max(1);
        let count = dealt.count.div_ceil(arrays);
        let part = |part: usize| {
            let items: Vec<ShardItem> = dealt.items.iter().skip(part).step_by(arrays).copied().collect();
            Shards { count: count.min(items.len()), items, retry_commands: dealt.retry_commands }
        };
        (0..arrays).map(part).collect()
    }

    fn planned(
        &self,
        resources: &Resources,
        shards: Shards,
        chunk: usize,
        is_submitted: bool,
    ) -> Result<Planned, Diagnostic> {
        let class = split(vec![Task {
            index: 0,
            id: String::new(),
            attempt: 1,
            resources: resources.clone(),
            expected_seconds: None,
        }]);
        let class = class.first().and_then(|class| class.name.clone());
        let mut generation = 1;
        let name = loop {
            let name = array::name(&self.config.run, self.phase, class.as_deref(), generation, chunk);
            if self.files.shards(&name)?.is_none() {
                break name;
            }
            generation += 1;
            if generation > MAX_GENERATIONS {
                return Err(Diagnostic::tool(format!("phase {} was submitted {MAX_GENERATIONS} times", self.phase))
                    .hint("make a new plan: `dvc-fanout plan`"));
            }
        };
        let variables = self.write_variables(&name)?;
        let script = script::script(self.config, &name, variables.as_deref());
        let mut words = script::flags(self.config, resources, self.seconds(&shards));
        let value = |name: &str| {
            words.iter().rev().find_map(|word| word.strip_prefix(&format!("--{name}=")).map(str::to_owned))
        };
        let (time, memory) = (value("time"), value("mem"));
        let spec = self.spec(resources, &shards, &name);
        let nonce = digest(&format!("{name} {} {}", clock::nanoseconds(), std::process::id()));
        let nonce: String = nonce.chars().take(12).collect();
        let exclude: Vec<String> =
            self.config.args.exclude.iter().cloned().chain(self.excluded.iter().cloned()).collect();
        if !exclude.is_empty() {
            words.push(format!("--exclude={}", exclude.join(",")));
        }
        let throttle = self.throttle(resources).map(|most| format!("%{most}")).unwrap_or_default();
        words.push(format!("--array=0-{}{throttle}", shards.count - 1));
        words.push(format!("--job-name={name}"));
        words.push(format!("--comment=dvc-fanout {} {} {nonce}", self.config.run, &spec[..12]));
        words.push("--dependency=singleton".to_owned());
        words.push(format!("--output={}", self.run.job_output(&name).display()));
        words.extend(self.config.args.sbatch_options.iter().cloned());
        words.push(self.run.job_script(&name).display().to_string());
        words.insert(0, "--parsable".to_owned());
        let state = if is_submitted { RecordState::Submitting } else { RecordState::Printed };
        let clusters = self.config.args.clusters.clone();
        let record = Record { nonce, spec, state, ids: vec![], clusters, time, memory };
        fs::write(&self.run.job_script(&name), script.as_bytes())?;
        self.files.write_job(&name, &shards, &record.to_json())?;
        Ok(Planned { name, shards, resources: resources.clone(), record, words, script })
    }

    /// Stands for all that an array is made from, but for its name.
    fn spec(&self, resources: &Resources, shards: &Shards, name: &str) -> String {
        let words = script::flags(self.config, resources, self.seconds(shards));
        let script = script::script(self.config, name, None).replace(name, "");
        digest(&format!("{}\n{}\n{script}", words.join("\n"), self.config.args.sbatch_options.join("\n")))
    }

    /// How many tasks of an array may run at a time; `None` leaves it to the scheduler.
    fn throttle(&self, resources: &Resources) -> Option<usize> {
        let group = resources.group.as_ref().and_then(|group| self.config.groups.get(group)).copied();
        [group, self.config.jobs].into_iter().flatten().min()
    }

    /// The longest that a shard's work items may take together; `None` where one of them has no limit.
    fn seconds(&self, shards: &Shards) -> Option<u64> {
        let limit = |item: &ShardItem| {
            self.config
                .timeout
                .map(|limit| limit.as_secs())
                .or_else(|| self.limits_of_items().get(&item.index).copied())
        };
        let sums = (0..shards.count).map(|shard| shards.of(shard).map(limit).sum::<Option<u64>>());
        sums.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }

    fn limits_of_items(&self) -> &BTreeMap<usize, u64> {
        &self.config.timeouts
    }

    /// Writes the variables of `--job-env` where only the user can read them.
    fn write_variables(&self, name: &str) -> Result<Option<String>, Diagnostic> {
        if self.config.variables.is_empty() {
            return Ok(None);
        }
        let file = self.run.job_variables(name);
        let line = |(name, value): &(String, String)| format!("export {name}={}\n", script::quoted(value));
        let text: String = self.config.variables.iter().map(line).collect();
        // Nobody is to read the values between the writing and the change of the mode.
        fs::write(&file, b"")?;
        fs::set_mode(&file, 0o600)?;
        fs::write_plain(&file, text.as_bytes())?;
        Ok(Some(file.display().to_string()))
    }

    /// Submits one array; an answer that says nothing is looked into until it is known what came of it.
    async fn submit_one(&self, planned: &Planned) -> Result<Result<Vec<u64>, (Refusal, String)>, Diagnostic> {
        let mut last = String::new();
        for _ in 0..MAX_TRIES {
            match self.slurm.submit(&planned.words).await {
                Submitted::As(id) => return Ok(Ok(vec![id])),
                Submitted::Refused(refusal, said) => return Ok(Err((refusal, said))),
                Submitted::Unknown(why) if why.contains("cannot start") => {
                    self.files.forget_job(&planned.name)?;
                    return Err(Diagnostic::tool(format!("cannot submit: {why}"))
                        .hint("start this on a login node of the cluster, or load what provides Slurm's programs"));
                }
                Submitted::Unknown(why) => {
                    self.channels.notice(format!("{why}: looking whether array `{}` was submitted", planned.name));
                    last = why;
                    let ids = self.find(&planned.name, &planned.record, 2).await?;
                    if !ids.is_empty() {
                        return Ok(Ok(ids));
                    }
                }
            }
        }
        Err(Diagnostic::tool(format!("array `{}` could not be submitted", planned.name)).cause(last))
    }

    /// Waits, unless everything is to end.
    async fn pause(&self, pause: Duration) {
        let mut stop = self.channels.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop != Stop::No) => {}
        }
    }
}

/// Says what `sbatch` refused, and which flag it is about.
fn refused(refusal: Refusal, said: &str, planned: &Planned) -> Diagnostic {
    let diagnostic = match refusal {
        Refusal::Flag(_) | Refusal::Option => Diagnostic::usage("Slurm refuses the jobs"),
        Refusal::TooMany | Refusal::TooLarge | Refusal::NoRoom => Diagnostic::tool("Slurm takes no more jobs"),
    };
    let diagnostic = diagnostic.cause(said);
    match refusal {
        Refusal::Flag(flag) => {
            let given = planned.words.iter().rev().find(|word| word.starts_with(&format!("--{flag}=")));
            let variable = format!("SBATCH_{}", flag.replace('-', "_").to_uppercase());
            match (given, crate::env::read_text(&variable)) {
                (Some(given), _) => diagnostic.hint(format!("it was asked for `{given}`")),
                (None, Some(value)) => diagnostic.hint(format!("`{variable}` is set to `{value}` here")),
                (None, None) => diagnostic.hint(format!("say another with `--{flag}`")),
            }
        }
        Refusal::Option => diagnostic.hint("`--sbatch-arg` gives options to `sbatch` as they are"),
        Refusal::TooMany | Refusal::TooLarge | Refusal::NoRoom => {
            diagnostic.hint("wait until other jobs have ended, and launch again")
        }
    }
}

/// What the first of these work items asks for.
fn class_of<'a>(tasks: &'a [Task], wanted: &BTreeSet<usize>) -> Option<&'a Resources> {
    tasks.iter().find(|task| wanted.contains(&task.index)).map(|task| &task.resources)
}

/// Two parts of the work items of an array.
fn halves(shards: &Shards) -> [Shards; 2] {
    let count = shards.count.div_ceil(2);
    [0, 1].map(|part| {
        let items: Vec<ShardItem> = shards.items.iter().skip(part).step_by(2).copied().collect();
        Shards { count: count.min(items.len()), items, retry_commands: shards.retry_commands }
    })
}
