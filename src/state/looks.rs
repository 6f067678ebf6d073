//! What looks at a run's object store have taken, beside what launchers and workers tell of themselves.
//!
//! `looks.json` is one count; of two looks at the same time, one may be lost.

use crate::adapters::fs::{self, FsError};
use crate::model::run::Traffic;
use crate::state::paths::RunDir;

/// What looks have taken so far.
pub(crate) fn read(run: &RunDir) -> Result<Traffic, FsError> {
    let text = fs::read_text_if_any(&run.looks())?.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// Adds what a look took.
pub(crate) fn add(run: &RunDir, traffic: Traffic) -> Result<(), FsError> {
    let all = read(run)?.plus(traffic);
    fs::write(&run.looks(), serde_json::to_string(&all).unwrap_or_default().as_bytes())
}
