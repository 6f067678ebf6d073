//! How an attempt ended, in the best words there are; the same for every engine.
//!
//! | the attempt's result says | the words are |
//! |---|---|
//! | a failure | the worker's, which are DVC's |
//! | that it was interrupted | the engine's, which knows why the worker was told to end |
//! | nothing, or success | the engine's, and the last error in the log, if there is one |

use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::{Ending, Outcome};
use crate::state::paths::RunDir;
use crate::state::{results, status};

/// Finds the words for what an engine has seen of an attempt. They are put into the log where it has none.
pub(super) fn settle(run: &RunDir, index: ItemIndex, attempt: AttemptNumber, seen: Ending) -> Ending {
    let Some(why) = seen.why() else { return seen };
    let published = results::best(run, index).ok().flatten();
    let published = published.filter(|published| published.result.attempt == attempt);
    let words = match published.map(|published| published.result.outcome) {
        Some(Outcome::Interrupted { .. }) => why.to_owned(),
        Some(outcome) if outcome != Outcome::Succeeded => outcome.to_string(),
        Some(_) | None => {
            let log = run.log(index, attempt);
            match status::last_error(&log) {
                Some(error) => format!("{why}: {error}"),
                // The worker may have had no room to say why.
                None if fs::exists(&log) => match fs::append_line(&log, why) {
                    Err(error) if error.is_full() => format!("{why}: {}", Diagnostic::from(error).one_line()),
                    Ok(()) | Err(_) => why.to_owned(),
                },
                None => why.to_owned(),
            }
        }
    };
    seen.in_words(words)
}
