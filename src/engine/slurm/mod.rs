//! The Slurm engine: a phase becomes job arrays whose tasks run `dvc-fanout work` on a shared file system.
//!
//! | file | |
//! |---|---|
//! | `args.rs`, `resolve.rs` | flags, and what they mean |
//! | `array.rs` | names and index lists; pure |
//! | `script.rs` | the script of an array and the words of its `sbatch`; pure |
//! | `seen.rs` | what `squeue` says, and what it means; pure |
//! | `cluster.rs` | the calls of Slurm's programs |
//! | `submit.rs` | submit an array once, or go on with the one that is there |
//! | `watch.rs` | watch arrays to their end |
//! | `outage.rs` | a controller that does not answer |
//!
//! What counts is what workers publish; Slurm only says when to look, and why there is nothing. Its word alone never
//! makes a work item succeed. Two attempts at a time, or one after a success, do no harm.

mod args;
mod array;
mod cluster;
mod outage;
mod resolve;
mod script;
mod seen;
mod submit;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::engine::remote::files::RunFiles;
pub(crate) use crate::engine::slurm::args::Args;
use crate::engine::slurm::cluster::Slurm;
use crate::engine::slurm::submit::Submitter;
use crate::engine::slurm::watch::{Over, Watch};
use crate::engine::{Channels, Engine, Failures, Flags as _, PhaseEnd};
use crate::model::event::{Event, Stop, Task};
use crate::state::paths::RunDir;

/// How many failures on a node, with none elsewhere, keep later tasks away from it.
const BAD_NODE: u32 = 2;

/// What the engine is asked to keep to.
#[derive(Clone, Debug)]
pub(crate) struct SlurmConfig {
    pub args: Args,
    pub run: String,
    /// The project's root.
    pub project: String,
    /// The worker's program.
    pub program: String,
    /// Where slots lie, with variables for the shell; `None` for the project's own.
    pub scratch: Option<String>,
    /// Folders that a container is to see.
    pub binds: Vec<String>,
    pub prologue: Option<String>,
    /// Where the launcher finds programs.
    pub path: Option<String>,
    /// The flags by which a launcher in the cluster is the same as this one.
    pub arguments: Vec<String>,
    /// Variables for the tasks, which nobody else may read.
    pub variables: Vec<(String, String)>,
    /// Whatever work items say.
    pub timeout: Option<Duration>,
    /// Seconds that work items may take, of those that say so.
    pub timeouts: BTreeMap<usize, u64>,
    pub nice: Option<i32>,
    /// Tasks at a time; `None` leaves it to the scheduler.
    pub jobs: Option<usize>,
    /// The number of work items of a group that may run at the same time.
    pub groups: BTreeMap<String, usize>,
    /// End what runs after this many work items have failed.
    pub max_failed: Option<usize>,
    /// Tries after the first; a failed command is tried again as well.
    pub retries: Option<u32>,
    /// The longest pause between two questions.
    pub poll: Duration,
    pub outage_limit: Duration,
    pub pending_limit: Duration,
}

/// What the cluster keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Tasks of an array.
    pub array_size: usize,
    /// How long a task has between TERM and KILL.
    pub kill_wait: Duration,
    pub has_accounting: bool,
    pub confines_memory: bool,
}

impl Limits {
    /// Reads them from the controller's configuration; what is not said is as Slurm has it by default.
    fn of(configuration: &BTreeMap<String, String>) -> Limits {
        let number =
            |key: &str| configuration.get(key).and_then(|value| value.split(' ').next()?.parse::<usize>().ok());
        let parameters = configuration.get("SchedulerParameters").map_or("", String::as_str);
        let tasks = parameters.split(',').find_map(|word| word.strip_prefix("max_array_tasks=")?.parse::<usize>().ok());
        let jobs = number("MaxJobCount").unwrap_or(10_000);
        let array_size = number("MaxArraySize").unwrap_or(1001).min(tasks.unwrap_or(usize::MAX)).min(jobs / 2).max(1);
        let is = |key: &str, words: &[&str]| {
            configuration.get(key).is_some_and(|value| words.iter().any(|word| value.contains(word)))
        };
        Limits {
            array_size,
            kill_wait: Duration::from_secs(number("KillWait").unwrap_or(30) as u64),
            has_accounting: is("AccountingStorageType", &["slurmdbd"]),
            confines_memory: is("TaskPlugin", &["cgroup"]),
        }
    }
}

/// Refuses what `sbatch` would take and Slurm would never run.
fn check_partition(partitions: &[BTreeMap<String, String>], args: &Args) -> Result<(), Diagnostic> {
    let wanted = |partition: &&BTreeMap<String, String>| match &args.partition {
        Some(name) => partition.get("PartitionName") == Some(name),
        None => partition.get("Default").is_some_and(|value| value == "YES"),
    };
    // A list of partitions, or one that only a plugin of the site knows: Slurm decides.
    let Some(partition) = partitions.iter().find(wanted) else { return Ok(()) };
    let value = |key: &str| partition.get(key).map_or("", String::as_str);
    let name = value("PartitionName");
    if value("State") == "DOWN" || value("State") == "INACTIVE" {
        return Err(Diagnostic::tool(format!("partition `{name}` is {}", value("State").to_lowercase()))
            .hint("name another with `--partition`, or wait until the site has it up"));
    }
    let asked = args.time.as_deref().and_then(minutes);
    if let (Some(asked), Some(most)) = (asked, minutes(value("MaxTime")))
        && asked > most
    {
        return Err(Diagnostic::usage(format!("partition `{name}` does not run tasks for so long"))
            .cause(format!("it allows {most} min, `--time` asks for {asked} min")));
    }
    Ok(())
}

/// The minutes of a time as Slurm writes it, or as we do.
fn minutes(text: &str) -> Option<u64> {
    if let Ok(minutes) = text.parse::<u64>() {
        return Some(minutes);
    }
    if text.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return text.parse::<crate::model::duration::Limit>().ok().map(|limit| limit.seconds().div_ceil(60));
    }
    let (days, rest) = text.split_once('-').map_or((0, text), |(days, rest)| (days.parse().unwrap_or(0), rest));
    let has_days = text.contains('-');
    let parts: Vec<u64> = rest.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let rest = match (has_days, parts.as_slice()) {
        (true, [hours]) => hours * 60,
        (true, [hours, minutes] | [hours, minutes, _]) => hours * 60 + minutes,
        (false, [minutes, seconds]) => minutes + seconds.div_ceil(60),
        (false, [hours, minutes, _]) => hours * 60 + minutes,
        _ => return None,
    };
    Some(days * 24 * 60 + rest)
}

pub(crate) struct SlurmEngine {
    config: SlurmConfig,
    run: RunDir,
    files: RunFiles,
    slurm: Slurm,
    failures: Failures,
    limits: Option<Limits>,
}

impl SlurmEngine {
    fn new(config: SlurmConfig, run: &RunDir, files: RunFiles, root: &Path) -> Self {
        let slurm = Slurm::new(config.args.clusters.clone(), root.to_owned());
        let failures = Failures::up_to(config.max_failed);
        SlurmEngine { config, run: run.clone(), files, slurm, failures, limits: None }
    }

    /// Asks once what the cluster keeps to, and checks what can be checked before anything is submitted.
    async fn limits(&mut self) -> Result<Limits, Diagnostic> {
        if let Some(limits) = &self.limits {
            return Ok(limits.clone());
        }
        let limits = Limits::of(&self.slurm.configuration().await?);
        check_partition(&self.slurm.partitions().await?, &self.config.args)?;
        self.limits = Some(limits.clone());
        Ok(limits)
    }

    fn submitter<'a>(&'a self, limits: &'a Limits, phase: usize, channels: Channels) -> Submitter<'a> {
        Submitter {
            config: &self.config,
            run: &self.run,
            files: &self.files,
            slurm: &self.slurm,
            limits,
            channels,
            phase,
            excluded: vec![],
        }
    }
}

impl Engine for SlurmEngine {
    /// Submits a job that launches the run, so that nothing of it runs here.
    async fn hand_over(&mut self) -> Result<Option<Vec<String>>, Diagnostic> {
        let limits = self.limits().await?;
        let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
        let stop = tokio::sync::watch::Sender::new(Stop::No);
        let channels = Channels { events, stop: stop.subscribe() };
        let id = self.submitter(&limits, 0, channels).controller().await?;
        let mut lines = vec![];
        while let Ok(Event::Noticed { message }) = told.try_recv() {
            lines.push(message);
        }
        let run = &self.config.run;
        lines.push(format!("job {id} launches run {run}: `dvc-fanout status` says how it stands"));
        lines.push(format!(
            "`dvc-fanout cancel {run}` ends it; its words are in `{}`",
            self.run.job_output(&array::controller(run)).display()
        ));
        Ok(Some(lines))
    }

    fn name(&self) -> &'static str {
        Args::NAME
    }

    fn draining(&self) -> &'static str {
        "interrupted: the arrays go on without this launcher (again: cancel them)"
    }

    async fn run_phase(
        &mut self,
        phase: usize,
        mut tasks: Vec<Task>,
        channels: Channels,
    ) -> Result<PhaseEnd, Diagnostic> {
        let limits = self.limits().await?;
        let mut by_index: BTreeMap<usize, Task> = tasks.iter().map(|task| (task.index, task.clone())).collect();
        let mut submitter = self.submitter(&limits, phase, channels.clone());
        let mut arrays = submitter.adopt(&mut tasks).await?;
        // Each round is a generation of arrays; what was lost, or not come to, in one is the next one's.
        for round in 1.. {
            arrays.extend(submitter.submit(std::mem::take(&mut tasks), round).await?);
            let mut watch = Watch::new(
                &self.config,
                &self.files,
                &self.slurm,
                &limits,
                channels.clone(),
                &self.failures,
                std::mem::take(&mut arrays),
            );
            match watch.run().await? {
                Over::Ended => {}
                Over::Stopped => return Ok(PhaseEnd::Done),
                Over::GaveUp => return Ok(PhaseEnd::GaveUp),
                Over::Detached => return Ok(PhaseEnd::Detached),
            }
            for index in watch.left() {
                let Some(task) = by_index.get_mut(&index) else { continue };
                task.attempt = self.files.next_attempt(index)?;
                tasks.push(task.clone());
            }
            if tasks.is_empty() || *channels.stop.borrow() != Stop::No {
                break;
            }
            if let Some(node) = bad_node(&watch.blamed).filter(|node| !submitter.excluded.contains(node)) {
                channels.notice(format!("node `{node}` fails again and again: later tasks are kept away from it"));
                submitter.excluded.push(node);
            }
        }
        Ok(if self.failures.are_too_many() { PhaseEnd::GaveUp } else { PhaseEnd::Done })
    }

    /// Nobody needs the words of a controller that has come to this.
    async fn finish(&mut self) -> Result<(), Diagnostic> {
        self.files.close_job(&array::controller(&self.config.run))
    }

    /// The scripts and command lines of the arrays that a phase would be submitted as.
    ///
    /// Which work items they do is written to the run's directory; who runs the command lines gets the same arrays, and a
    /// launch goes on with them.
    async fn manifests(&mut self, phase: usize, tasks: Vec<Task>) -> Result<Vec<String>, Diagnostic> {
        // Slurm's defaults where it does not answer: somebody may want to look at them elsewhere.
        let limits = self.limits().await.unwrap_or_else(|_| Limits::of(&BTreeMap::new()));
        let (events, _nobody) = tokio::sync::mpsc::unbounded_channel();
        let stop = tokio::sync::watch::Sender::new(Stop::No);
        let channels = Channels { events, stop: stop.subscribe() };
        self.submitter(&limits, phase, channels).print(tasks)
    }
}

/// The node that all failures were on, where there are several.
fn bad_node(blamed: &BTreeMap<String, u32>) -> Option<String> {
    let mut nodes = blamed.iter();
    let (node, count) = nodes.next()?;
    (nodes.next().is_none() && *count >= BAD_NODE).then(|| node.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(text: &str) -> BTreeMap<String, String> {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
    }

    #[test]
    fn limits_are_those_of_the_cluster() {
        let limits = Limits::of(&configuration(
            "MaxArraySize = 1001\nMaxJobCount = 50\nKillWait = 5 sec\nTaskPlugin = task/cgroup\nSchedulerParameters = a,max_array_tasks=20",
        ));
        let (array_size, kill_wait) = (20, Duration::from_secs(5));
        assert_eq!(limits, Limits { array_size, kill_wait, has_accounting: false, confines_memory: true });
        assert_eq!(Limits::of(&BTreeMap::new()).array_size, 1001);
    }

    #[test]
    fn times_of_slurm_are_read() {
        let all = [("90", 90), ("1-12:00:00", 2160), ("2:30", 3), ("1:30:00", 90), ("1-6", 1800), ("36h", 2160)];
        for (text, wanted) in all {
            assert_eq!(minutes(text), Some(wanted), "{text}");
        }
        assert_eq!((minutes("UNLIMITED"), minutes("NONE")), (None, None));
    }

    #[test]
    fn what_never_runs_is_refused() {
        let partitions = [
            configuration("PartitionName=main\nDefault=YES\nState=UP\nMaxTime=UNLIMITED"),
            configuration("PartitionName=short\nDefault=NO\nState=UP\nMaxTime=00:01:00"),
            configuration("PartitionName=closed\nDefault=NO\nState=DOWN\nMaxTime=UNLIMITED"),
        ];
        let check = |partition: Option<&str>, time: Option<&str>| {
            let (partition, time) = (partition.map(str::to_owned), time.map(str::to_owned));
            check_partition(&partitions, &Args { partition, time, ..Args::default() }).is_ok()
        };
        assert!(check(None, Some("1-0")) && check(Some("short"), Some("1")) && check(Some("other"), None));
        assert!(!check(Some("short"), Some("2")) && !check(Some("closed"), None));
    }

    #[test]
    fn a_node_is_bad_where_only_it_fails_and_more_than_once() {
        let blamed = |nodes: &[(&str, u32)]| bad_node(&nodes.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect());
        assert_eq!(blamed(&[("n1", 2)]), Some("n1".to_owned()));
        assert_eq!(blamed(&[("n1", 1)]), None);
        assert_eq!(blamed(&[("n1", 5), ("n2", 1)]), None);
    }
}
