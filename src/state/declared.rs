//! The lists of paths that stages declare, which a plan writes down: see `RunDir::declared` and `RunDir::deps`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::adapters::fs::{self, FsError};

/// Reads one, with paths from the top of the git work tree; one that is not there, or no such list, is empty.
pub(crate) fn read(list: &Path) -> Result<BTreeSet<String>, FsError> {
    let text = fs::read_text_if_any(list)?.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}
