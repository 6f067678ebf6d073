//! Runs that have not come to their end.

use crate::diagnostic::Diagnostic;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{journal, run_lock, status, worklist};

/// The runs since the last one that came to its end, the oldest first.
pub(crate) fn all(project: &ProjectHome) -> Result<Vec<(RunDir, Plan)>, Diagnostic> {
    let fanout = project.fanout();
    let mut open = vec![];
    for name in worklist::runs(&fanout)?.iter().rev() {
        if journal::has_ended(&fanout.run(name))? {
            break;
        }
        // What another release has written is its own.
        open.extend(worklist::open(&fanout, Some(name)).ok().filter(|(_, plan)| plan.work_items > 0));
    }
    open.reverse();
    Ok(open)
}

/// The runs that somebody is at, on this machine or in a cluster, however many have ended since they began.
pub(crate) fn at_work(project: &ProjectHome) -> Result<Vec<(RunDir, Plan)>, Diagnostic> {
    let fanout = project.fanout();
    let mut at_work = vec![];
    for name in worklist::runs(&fanout)? {
        let run = fanout.run(&name);
        if run_lock::is_held(&run)? || status::left_to(&run)?.is_some() {
            at_work.extend(worklist::open(&fanout, Some(&name)));
        }
    }
    Ok(at_work)
}
