//! Ends arrays that are not to go on.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::diagnostic::Diagnostic;
use crate::engine::slurm::cluster::Slurm;
use crate::engine::slurm::record::Record;
use crate::engine::slurm::seen::{Line, State};

/// How long tasks that were cancelled may take to end, beyond what Slurm gives them.
const CANCELLATION: Duration = Duration::from_secs(60);
/// How often is looked whether they have ended.
const LOOK: Duration = Duration::from_secs(1);

/// Ends arrays, by the ids that are theirs now, and waits until none of their tasks is left.
pub(super) async fn all(slurm: &Slurm, arrays: &[(String, Record)], kill_wait: Duration) -> Result<(), Diagnostic> {
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
        // Last first: what comes after another is not to begin meanwhile.
        let new: Vec<String> = alive.iter().rev().filter(|id| !asked.contains(id)).map(u64::to_string).collect();
        slurm.cancel(&new).await?;
        asked.extend(alive);
        if begun.elapsed() > kill_wait + CANCELLATION {
            return Err(Diagnostic::tool("tasks were cancelled, but do not end")
                .hint(format!("look at them with `squeue --me -n {}`", names.join(","))));
        }
        tokio::time::sleep(LOOK).await;
    }
}
