//! From the tasks of a phase to its arrays: which work items each does, and the words of its `sbatch`.

use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::engine::remote::classes::{Class, class_name, digest, split};
use crate::engine::remote::files::RunFiles;
use crate::engine::slurm::limits::Limits;
use crate::engine::slurm::output::Output;
use crate::engine::slurm::record::{Record, RecordState};
use crate::engine::slurm::room::{self, Room};
use crate::engine::slurm::{SlurmConfig, array, script};
use crate::model::event::Task;
use crate::model::run::Resources;
use crate::state::paths::RunDir;
use crate::state::shards::{ShardItem, Shards};

/// How often one phase of a run may be submitted.
const MAX_GENERATIONS: u32 = 1000;
/// Workers that many work items are dealt out to where no limit is known.
const WORKERS: usize = 100;

/// An array that is still to be submitted.
pub(super) struct Planned {
    pub name: String,
    /// Where it stands among the arrays of its phase; its halves, should it be split, stand there as well.
    pub place: usize,
    pub shards: Shards,
    pub resources: Resources,
    pub room: Room,
    pub record: Record,
    /// What `sbatch` is given, but for what the array waits for.
    pub words: Vec<String>,
    pub script: String,
}

/// What deals tasks out.
pub(super) struct Dealer<'a> {
    pub config: &'a SlurmConfig,
    pub run: &'a RunDir,
    pub files: &'a RunFiles,
    pub limits: &'a Limits,
    pub phase: usize,
    /// Nodes that nothing is to run on.
    pub excluded: Vec<String>,
    /// Whether arrays are submitted before anybody knows whether what they need will be made.
    pub is_ahead: bool,
}

impl Dealer<'_> {
    /// Deals tasks out to arrays.
    pub(super) fn plan(&self, tasks: Vec<Task>, state: RecordState) -> Result<Vec<Planned>, Diagnostic> {
        let mut parts = vec![];
        for class in split(tasks) {
            parts.extend(self.parts(&class).into_iter().map(|shards| (class.resources.clone(), shards)));
        }
        let sizes: Vec<(usize, Option<&str>)> =
            parts.iter().map(|(resources, shards)| (shards.count, resources.group.as_deref())).collect();
        let rooms = room::share(&sizes, self.config.jobs, &self.config.groups);
        let planned = parts.into_iter().zip(rooms).enumerate();
        planned
            .map(|(place, ((resources, shards), room))| self.planned(&resources, shards, room, place, place, state))
            .collect()
    }

    /// The work items of a class, dealt out to arrays that the cluster takes.
    fn parts(&self, class: &Class) -> Vec<Shards> {
        let workers = self.config.jobs.unwrap_or(WORKERS);
        let dealt = class.shards(workers, self.config.retries(&class.resources).is_some());
        let most = self.limits.array_size.min(self.config.args.array_size.unwrap_or(usize::MAX)).max(1);
        let arrays = dealt.count.div_ceil(most).max(1);
        (0..arrays).map(|number| dealt.part(number, arrays)).collect()
    }

    /// Two arrays instead of one that was refused as a whole; `chunk` numbers the first of them.
    pub(super) fn halves(&self, whole: &Planned, chunk: usize) -> Result<[Planned; 2], Diagnostic> {
        let mut rooms = [whole.room.clone(), whole.room.clone()];
        match whole.room.at_a_time {
            Some(most) if most > 1 => {
                rooms[0].at_a_time = Some(most.div_ceil(2));
                rooms[1].at_a_time = Some(most / 2);
            }
            Some(_) => rooms[1].after.push(whole.place),
            None => {}
        }
        let [first, second] = rooms;
        let half = |number: usize, room: Room| {
            let shards = whole.shards.part(number, 2);
            self.planned(&whole.resources, shards, room, whole.place, chunk + number, RecordState::Submitting)
        };
        Ok([half(0, first)?, half(1, second)?])
    }

    fn planned(
        &self,
        resources: &Resources,
        shards: Shards,
        room: Room,
        place: usize,
        chunk: usize,
        state: RecordState,
    ) -> Result<Planned, Diagnostic> {
        let config = self.config;
        let name = self.free_name(resources, chunk)?;
        let variables = self.write_variables(&name)?;
        let script = script::script(config, resources, &name, variables.as_deref(), self.is_ahead);
        let mut words = script::flags(config, resources, self.seconds(&shards));
        let value = |name: &str| {
            words.iter().rev().find_map(|word| word.strip_prefix(&format!("--{name}=")).map(str::to_owned))
        };
        let (time, memory) = (value("time"), value("mem"));
        let spec = self.spec(resources, &shards, &name);
        let record = Record { time, memory, ..Record::new(&name, spec, state, config.args.clusters.clone()) };
        let exclude: Vec<&str> = config.args.exclude.iter().chain(&self.excluded).map(String::as_str).collect();
        if !exclude.is_empty() {
            words.push(format!("--exclude={}", exclude.join(",")));
        }
        let throttle = room.at_a_time.map(|most| format!("%{most}")).unwrap_or_default();
        words.push(format!("--array=0-{}{throttle}", shards.count - 1));
        words.push(format!("--job-name={name}"));
        words.push(format!("--comment=dvc-fanout {} {} {}", config.run, &record.spec[..12], record.nonce));
        words.push(script::SINGLETON.to_owned());
        // Where nodes see no folder of the launcher's, what a task says before its worker has a log is lost.
        words.push(match (&config.store, &config.output) {
            (Some(_), Output::Array | Output::Task) => "--output=/dev/null".to_owned(),
            (_, output) => format!("--output={}", output.pattern(self.run, &name)),
        });
        words.extend(config.args.sbatch_options.iter().cloned());
        words.push(self.run.job_script(&name).display().to_string());
        words.insert(0, "--parsable".to_owned());
        Ok(Planned { name, place, shards, resources: resources.clone(), room, record, words, script })
    }

    /// A name that no array of the run has had.
    fn free_name(&self, resources: &Resources, chunk: usize) -> Result<String, Diagnostic> {
        let class = class_name(resources);
        for generation in 1..=MAX_GENERATIONS {
            let name = array::name(&self.config.run, self.phase, class.as_deref(), generation, chunk);
            if self.files.shards(&name)?.is_none() {
                return Ok(name);
            }
        }
        Err(Diagnostic::tool(format!("phase {} was submitted {MAX_GENERATIONS} times", self.phase))
            .hint("make a new plan: `dvc-fanout plan`"))
    }

    /// Stands for all that an array is made from, but for its name and what differs from one terminal to the next.
    pub(super) fn spec(&self, resources: &Resources, shards: &Shards, name: &str) -> String {
        let words = script::flags(self.config, resources, self.seconds(shards));
        let script = script::script(self.config, resources, name, None, false).replace(name, "");
        let lines: Vec<&str> = script.lines().filter(|line| !script::is_of_terminal(line)).collect();
        let options = self.config.args.sbatch_options.join("\n");
        digest(&format!("{}\n{options}\n{}", words.join("\n"), lines.join("\n")))
    }

    /// The longest that a shard's work items may take together; `None` where one of them has no limit.
    fn seconds(&self, shards: &Shards) -> Option<u64> {
        let all = self.config.timeout.map(|limit| limit.as_secs());
        let limit = |item: &ShardItem| all.or_else(|| self.config.timeouts.get(&item.index).copied());
        let sums = (0..shards.count).map(|shard| shards.of(shard).map(limit).sum::<Option<u64>>());
        sums.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }

    /// Writes the variables of `--job-env` where only the user can read them.
    pub(super) fn write_variables(&self, name: &str) -> Result<Option<String>, Diagnostic> {
        // With an object store they are in the environment of what is submitted.
        if self.config.variables.is_empty() || self.config.store.is_some() {
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
}
