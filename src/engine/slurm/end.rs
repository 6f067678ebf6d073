//! Ends arrays that are not to go on: all of them, or what waits of them.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::diagnostic::Diagnostic;
use crate::engine::slurm::cluster::{Away, Slurm};
use crate::engine::slurm::record::Record;
use crate::engine::slurm::seen::{Line, State};
use crate::output::text::{self, count};

/// How long tasks that were cancelled may take to end, beyond what Slurm gives them.
const CANCELLATION: Duration = Duration::from_secs(60);
/// How often is looked whether they have ended.
const LOOK: Duration = Duration::from_secs(1);
/// The longest pause between two looks at tasks that come to their end by themselves.
const MAX_LOOK: Duration = Duration::from_secs(30);

/// What the controller says of arrays that has not ended.
async fn alive(slurm: &Slurm, arrays: &[(String, Record)]) -> Result<Vec<Line>, Away> {
    let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
    let mut lines = slurm.list(&names).await?;
    let is_own = |line: &Line| arrays.iter().any(|(name, record)| *name == line.name && record.owns(line));
    lines.retain(|line| !matches!(line.state, State::Ended(_)) && is_own(line));
    Ok(lines)
}

/// The ids of arrays, the last first: what comes after another is not to begin meanwhile.
fn ids<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<String> {
    let ids: BTreeSet<u64> = lines.map(|line| line.array).collect();
    ids.iter().rev().map(u64::to_string).collect()
}

fn is_waiting(line: &Line) -> bool {
    line.state == State::Waiting
}

/// How one looks at arrays again.
fn look_yourself(arrays: &[(String, Record)]) -> String {
    let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    format!("look at them with `squeue --me -n {}`", names.join(","))
}

/// Ends arrays, by the ids that are theirs now, and waits until none of their tasks is left.
pub(super) async fn all(slurm: &Slurm, arrays: &[(String, Record)], kill_wait: Duration) -> Result<(), Diagnostic> {
    if arrays.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    loop {
        let lines = alive(slurm, arrays).await?;
        if lines.is_empty() {
            return Ok(());
        }
        let mut new = ids(lines.iter());
        new.retain(|id| !asked.contains(id));
        slurm.cancel(&new).await?;
        asked.extend(new);
        if begun.elapsed() > kill_wait + CANCELLATION {
            return Err(Diagnostic::tool("tasks were cancelled, but do not end").hint(look_yourself(arrays)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends what waits of arrays, once; what waits again later does so since Slurm took its node away.
pub(super) async fn waiting(slurm: &Slurm, arrays: &[(String, Record)]) -> Result<(), Away> {
    if arrays.is_empty() {
        return Ok(());
    }
    slurm.cancel_waiting(&ids(alive(slurm, arrays).await?.iter().filter(|line| is_waiting(line)))).await
}

/// Ends what waits of arrays, and waits at most so long until what runs has come to its end.
pub(super) async fn drained(slurm: &Slurm, arrays: &[(String, Record)], limit: Duration) -> Result<(), Diagnostic> {
    let begun = Instant::now();
    let (mut pause, mut before) = (LOOK, usize::MAX);
    loop {
        let lines = alive(slurm, arrays).await?;
        if lines.is_empty() {
            return Ok(());
        }
        let waiting = ids(lines.iter().filter(|line| is_waiting(line)));
        slurm.cancel_waiting(&waiting).await?;
        let running: usize = lines.iter().filter(|line| !is_waiting(line)).map(|line| line.indexes.len().max(1)).sum();
        if before != running && running > 0 {
            text::note(&format!("nothing more of it begins; waiting for {}", count(running, "task")));
        }
        if begun.elapsed() > limit {
            return Err(Diagnostic::tool(format!("{} are still running", count(running, "task")))
                .hint("what waited was cancelled; wait longer with `--timeout`")
                .hint(look_yourself(arrays)));
        }
        pause = if before != running || !waiting.is_empty() { LOOK } else { (pause * 2).min(MAX_LOOK) };
        before = running;
        tokio::time::sleep(pause).await;
    }
}
