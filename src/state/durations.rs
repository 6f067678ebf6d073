//! How long work items took in earlier runs, from their journals.

use std::collections::HashMap;

use crate::adapters::fs::FsError;
use crate::model::run::EndingKind;
use crate::state::journal::{self, Journaled};
use crate::state::paths::FanoutDir;
use crate::state::worklist;

/// The number of earlier runs that are looked at.
const RUNS: usize = 3;

/// The seconds of each work item's latest success before the run, by id.
pub(crate) fn before(fanout: &FanoutDir, run: &str) -> Result<HashMap<String, f64>, FsError> {
    let runs = worklist::runs(fanout)?;
    let earlier: Vec<&String> = runs.iter().filter(|other| other.as_str() < run).collect();
    let mut seconds_by_id = HashMap::new();
    for earlier in &earlier[earlier.len().saturating_sub(RUNS)..] {
        for line in journal::read(&fanout.run(earlier))? {
            if let Journaled::AttemptFinished { id, ending: EndingKind::Succeeded, seconds, .. } = line.event {
                seconds_by_id.insert(id, seconds);
            }
        }
    }
    Ok(seconds_by_id)
}
