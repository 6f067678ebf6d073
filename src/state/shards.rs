//! `jobs/NAME.json`: which work items a cluster's job does. The launcher writes it before it makes the job; workers and a
//! launcher that comes back read it.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::format::VERSION;
use crate::state::paths::RunDir;

/// The work items of a job; position `i` belongs to shard `i % count`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shards {
    /// Completions of the job.
    pub count: usize,
    /// In order of their index.
    pub items: Vec<ShardItem>,
    /// Whether a work item whose command failed is done again when its shard is.
    pub retry_commands: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardItem {
    /// In the worklist.
    pub index: ItemIndex,
    /// The first attempt that belongs to this job.
    pub attempt: AttemptNumber,
}

impl Shards {
    /// The work items of a shard.
    pub(crate) fn of(&self, shard: usize) -> impl Iterator<Item = &ShardItem> {
        self.items.iter().skip(shard).step_by(self.count.max(1))
    }

    /// One of several parts, each with its share of the work items.
    pub(crate) fn part(&self, number: usize, parts: usize) -> Shards {
        let items: Vec<ShardItem> = self.items.iter().skip(number).step_by(parts).copied().collect();
        let count = self.count.div_ceil(parts).min(items.len());
        Shards { count, items, retry_commands: self.retry_commands }
    }
}

/// The engine of jobs whose file does not name it.
const FIRST_ENGINE: &str = "kubernetes";

#[derive(Debug, Serialize, Deserialize)]
struct JobFile {
    version: u32,
    #[serde(default = "first_engine")]
    engine: String,
    /// The cluster that it was made in, in the engine's own words.
    #[serde(default)]
    cluster: Json,
    /// Completions.
    shards: usize,
    retry_commands: bool,
    items: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    index: ItemIndex,
    /// The first attempt that belongs to the Job.
    attempt: AttemptNumber,
}

fn first_engine() -> String {
    FIRST_ENGINE.to_owned()
}

/// Writes the file of a job; `cluster` says how its launcher reached the cluster.
pub(crate) fn write(run: &RunDir, engine: &str, job: &str, shards: &Shards, cluster: &Json) -> Result<(), FsError> {
    let items = shards.items.iter().map(|item| Item { index: item.index, attempt: item.attempt }).collect();
    let file = JobFile {
        version: VERSION,
        engine: engine.to_owned(),
        cluster: cluster.clone(),
        shards: shards.count,
        retry_commands: shards.retry_commands,
        items,
    };
    let text = serde_json::to_vec(&file).expect("it is plain data");
    fs::remove(&run.job_over(job))?;
    fs::write(&run.job(job), &text)
}

/// The Jobs of which nobody has seen the end yet; those that a dry run printed may not even have been made.
pub(crate) fn open(run: &RunDir) -> Result<Vec<String>, FsError> {
    let names = fs::names(&run.jobs())?;
    let jobs = names.iter().filter_map(|name| name.strip_suffix(".json"));
    Ok(jobs.filter(|job| !run.job_over(job).exists()).map(str::to_owned).collect())
}

/// Remembers that a Job is over; engines say so of one at every look.
pub(crate) fn close(run: &RunDir, job: &str) -> Result<(), FsError> {
    if run.job(job).exists() && !run.job_over(job).exists() { fs::write(&run.job_over(job), b"") } else { Ok(()) }
}

/// The open jobs of an engine.
pub(crate) fn open_of(run: &RunDir, engine: &str) -> Result<Vec<String>, Diagnostic> {
    let mut jobs = vec![];
    for job in open(run)? {
        if read_file(run, &job)?.is_some_and(|file| file.engine == engine) {
            jobs.push(job);
        }
    }
    Ok(jobs)
}

/// The engine that made a job.
pub(crate) fn engine_of(run: &RunDir, job: &str) -> Result<String, Diagnostic> {
    Ok(read_file(run, job)?.map_or_else(first_engine, |file| file.engine))
}

/// What the engine remembers of the cluster that it made a job in; `None` where there is no such job.
pub(crate) fn cluster_of(run: &RunDir, job: &str) -> Result<Option<Json>, Diagnostic> {
    Ok(read_file(run, job)?.map(|file| file.cluster))
}

/// Forgets a job that was not made.
pub(crate) fn forget(run: &RunDir, job: &str) -> Result<(), FsError> {
    fs::remove(&run.job(job))
}

/// Reads the file of a Job; `None` where there is none.
pub(crate) fn read(run: &RunDir, job: &str) -> Result<Option<Shards>, Diagnostic> {
    let Some(file) = read_file(run, job)? else { return Ok(None) };
    let items = file.items.into_iter().map(|item| ShardItem { index: item.index, attempt: item.attempt }).collect();
    Ok(Some(Shards { count: file.shards, items, retry_commands: file.retry_commands }))
}

fn read_file(run: &RunDir, job: &str) -> Result<Option<JobFile>, Diagnostic> {
    let path = run.job(job);
    let Some(text) = fs::read_text_if_any(&path)? else { return Ok(None) };
    let unreadable = |why: String| Diagnostic::project(format!("`{}` is not readable", path.display())).cause(why);
    let file: JobFile = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    if file.version != VERSION {
        return Err(unreadable(format!("it has version {}, this release knows {VERSION}", file.version)));
    }
    Ok(Some(file))
}
