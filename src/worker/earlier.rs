//! What the next attempt at a work item begins with of those before it, and what it must not trust.
//!
//! | an earlier attempt | the next one |
//! |---|---|
//! | published | begins with the files that no stage declares, as under a second `dvc repro` |
//! | had begun a command and did not bring the stage to a good end | runs the stage whatever the run cache says |
//! | left an out that persists half-way | goes on from there |
//!
//! The run cache is filled before a result is published. An entry of an attempt that was cut off in between would bring the
//! stage's outs back, but not what its command made beside them. The entry cannot be older than the attempt: else the
//! command would not have begun.

use std::collections::HashSet;

use crate::adapters::fs::At as _;
use crate::diagnostic::Diagnostic;
use crate::model::numbers::AttemptNumber;
use crate::model::run::StageState;
use crate::state::format::WorkItem;
use crate::state::log;
use crate::state::paths::RunDir;
use crate::state::published::Published;
use crate::state::results;

/// The attempts before one.
pub(super) struct Earlier {
    /// The published ones, the last one first.
    pub published: Vec<Published>,
    /// Of each stage whether the run cache must not be asked.
    pub distrusted: Vec<bool>,
}

impl Earlier {
    /// Looks at the attempts before the one with this number.
    pub(super) fn of(run: &RunDir, item: &WorkItem, number: AttemptNumber) -> Result<Earlier, Diagnostic> {
        let examined = results::examine(run, item.index)?;
        let mut published: Vec<Published> = examined.best.into_iter().chain(examined.others).collect();
        published.sort_by_key(|published| std::cmp::Reverse(published.result.attempt));
        let mut distrusted: HashSet<String> = HashSet::new();
        for attempt in results::attempts(run, item.index)?.into_iter().filter(|attempt| *attempt < number) {
            let result = published.iter().find(|published| published.result.attempt == attempt);
            // A stage that failed left no entry.
            let is_told = |address: &str| {
                let stages = result.into_iter().flat_map(|published| &published.result.stages);
                let mut told = stages.filter(|stage| stage.state.is_good() || stage.state == StageState::Failed);
                told.any(|stage| stage.address == address)
            };
            let path = run.log(item.index, attempt);
            let begun = log::begun(&path).at("read", &path)?;
            distrusted.extend(begun.into_iter().filter(|address| !is_told(address)));
        }
        let distrusted = item.stages.iter().map(|stage| stage.distrusted || distrusted.contains(&stage.address));
        Ok(Earlier { published, distrusted: distrusted.collect() })
    }
}
