//! `jobs/NAME.json`: which work items a cluster Job does. The launcher writes it before it makes the Job; workers and a
//! launcher that comes back read it.

use serde::{Deserialize, Serialize};

use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::model::shards::{ShardItem, Shards};
use crate::state::format::VERSION;
use crate::state::paths::RunDir;

#[derive(Debug, Serialize, Deserialize)]
struct JobFile {
    version: u32,
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

#[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only the cluster's engine deals"))]
pub(crate) fn write(run: &RunDir, job: &str, shards: &Shards) -> Result<(), FsError> {
    let items = shards.items.iter().map(|item| Item { index: item.index, attempt: item.attempt }).collect();
    let file = JobFile { version: VERSION, shards: shards.count, retry_commands: shards.retry_commands, items };
    let text = serde_json::to_vec(&file).expect("it is plain data");
    fs::write(&run.job(job), &text)
}

/// Reads the file of a Job; `None` where there is none.
pub(crate) fn read(run: &RunDir, job: &str) -> Result<Option<Shards>, Diagnostic> {
    let path = run.job(job);
    let Some(text) = fs::read_text_if_any(&path)? else { return Ok(None) };
    let unreadable = |why: String| Diagnostic::project(format!("`{}` is not readable", path.display())).cause(why);
    let file: JobFile = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    if file.version != VERSION {
        return Err(unreadable(format!("it has version {}, this release knows {VERSION}", file.version)));
    }
    let items = file.items.into_iter().map(|item| ShardItem { index: item.index, attempt: item.attempt }).collect();
    Ok(Some(Shards { count: file.shards, items, retry_commands: file.retry_commands }))
}
