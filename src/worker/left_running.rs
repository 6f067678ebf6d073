//! What stages left running and was ended, where others may have counted on it.

use crate::adapters::fs;
use crate::model::requests::KEEP_RUNNING;
use crate::state::format::WorkItem;
use crate::state::paths::RunDir;

/// Letters of a command that are shown.
const SHOWN: usize = 60;

/// What to add to the failure of a stage where one that it may depend on left something running.
pub(super) fn missed(run: &RunDir, item: &WorkItem, stage: &str) -> Option<String> {
    let indexes = item.needs.iter().chain([&item.index]);
    let texts = indexes.filter_map(|index| fs::read_text_if_any(&run.left_running(*index)).ok().flatten());
    let left = texts.map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let left = left.filter(|lines| lines.first().is_some_and(|first| first != stage)).find(|lines| lines.len() > 1)?;
    let command: String = left[1].chars().take(SHOWN).collect();
    let rest = if command.len() < left[1].len() { "…" } else { "" };
    Some(format!(
        "; stage `{}` left `{command}{rest}` running, which was ended with it: `{KEEP_RUNNING}: true` for that stage lets it \
         stay until the run ends",
        left[0]
    ))
}
