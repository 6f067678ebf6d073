//! `jobs/NAME.json`: which work items a cluster Job does. The launcher writes it before it makes the Job; workers and a
//! launcher that comes back read it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::model::shards::{ShardItem, Shards};
use crate::state::format::VERSION;
use crate::state::paths::RunDir;

#[derive(Debug, Serialize, Deserialize)]
struct JobFile {
    version: u32,
    /// The cluster that it was made in.
    #[serde(default)]
    cluster: Reach,
    /// Completions.
    shards: usize,
    retry_commands: bool,
    items: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    index: usize,
    /// The first attempt that belongs to the Job.
    attempt: u32,
}

/// How a launcher reached a cluster, as far as it was told; the rest is in the kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reach {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub namespace: Option<String>,
}

#[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only the cluster's engine deals"))]
pub(crate) fn write(run: &RunDir, job: &str, shards: &Shards, cluster: &Reach) -> Result<(), FsError> {
    let items = shards.items.iter().map(|item| Item { index: item.index, attempt: item.attempt }).collect();
    let file = JobFile {
        version: VERSION,
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

/// Remembers that a Job is over.
#[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only the cluster's engine sees Jobs end"))]
pub(crate) fn close(run: &RunDir, job: &str) -> Result<(), FsError> {
    if run.job(job).exists() { fs::write(&run.job_over(job), b"") } else { Ok(()) }
}

/// How the launcher of a Job reached its cluster.
#[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only the cluster's engine asks"))]
pub(crate) fn reach(run: &RunDir, job: &str) -> Result<Reach, Diagnostic> {
    Ok(read_file(run, job)?.map(|file| file.cluster).unwrap_or_default())
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
