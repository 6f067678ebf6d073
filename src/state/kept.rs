//! What stages with `keep-running` have left running: until when it stays, and its end.
//!
//! Each keeper (`adapters::process::keep`) holds the lock of a file of its number in the folder `kept` of the run, and looks
//! there for what is to become of it:
//!
//! | `end`, or no such folder | lock of the run | `stay` | it |
//! |---|---|---|---|
//! | yes | | | ends |
//! | no | held | | stays |
//! | no | free | yes, since a `launch` has come to its end: `finalize` is next | stays |
//! | no | free | no: who launched it was cut off | ends |

use std::time::{Duration, Instant};

use crate::adapters::fs::{self, FsError};
use crate::adapters::process::descendants;
use crate::adapters::process::keep::keepers;
use crate::env;
use crate::state::paths::{FanoutDir, RunDir};
use crate::state::run_lock;

/// How long keepers may take to end what they keep: longer than they wait for it.
const LIMIT: Duration = Duration::from_secs(30);
/// How often is looked whether they have.
const POLL: Duration = Duration::from_millis(20);
/// How long processes are chased whose keeper was killed.
const GRACE: Duration = Duration::from_secs(5);

/// Whether what a run keeps is to stay.
pub(crate) fn is_wanted(run: &RunDir) -> bool {
    fs::exists(&run.kept())
        && !fs::exists(&run.kept_end())
        && (fs::exists(&run.kept_stay()) || run_lock::is_held(run).unwrap_or(true))
}

/// From now on what is kept ends with whoever holds the lock of the run.
pub(crate) fn hold(run: &RunDir) -> Result<(), FsError> {
    fs::remove(&run.kept_stay())
}

/// What is kept stays when the lock of the run is given back; returns whether there is anything.
pub(crate) fn leave(run: &RunDir) -> Result<bool, FsError> {
    let is_any = !keepers(&run.kept()).is_empty();
    if is_any {
        fs::write(&run.kept_stay(), b"")?;
    }
    Ok(is_any)
}

/// Ends what earlier runs keep that nobody finalizes any more, now that there is another.
pub(crate) fn end_earlier(fanout: &FanoutDir, run: &str) -> Result<(), FsError> {
    for name in fs::names(&fanout.runs())?.iter().filter(|name| name.as_str() < run) {
        let earlier = fanout.run(name);
        if fs::exists(&earlier.kept()) && !run_lock::is_held(&earlier)? {
            end(&earlier)?;
        }
    }
    Ok(())
}

/// Ends what is kept, and waits for that.
pub(crate) fn end(run: &RunDir) -> Result<(), FsError> {
    if !fs::exists(&run.kept()) {
        return Ok(());
    }
    fs::write(&run.kept_end(), b"")?;
    let end = Instant::now() + LIMIT;
    while !keepers(&run.kept()).is_empty() && Instant::now() < end {
        std::thread::sleep(POLL);
    }
    // Of a keeper that was killed.
    descendants::end_marked(env::DVC_FANOUT_KEPT, &run.kept(), GRACE);
    fs::remove(&run.kept())
}
