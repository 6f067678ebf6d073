//! Runs that have not come to their end.

use crate::diagnostic::Diagnostic;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{journal, worklist};

/// The runs since the last one that came to its end, the oldest first.
pub(crate) fn all(project: &ProjectHome) -> Result<Vec<(RunDir, Plan)>, Diagnostic> {
    let fanout = project.fanout();
    let mut open = vec![];
    for name in worklist::runs(&fanout)?.iter().rev() {
        // What another release has written is its own.
        let Ok((run, plan)) = worklist::open(&fanout, Some(name)) else { continue };
        if journal::has_ended(&run)? {
            break;
        }
        if plan.work_items > 0 {
            open.push((run, plan));
        }
    }
    open.reverse();
    Ok(open)
}
