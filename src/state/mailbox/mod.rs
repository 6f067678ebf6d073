//! A run in an object store, for workers that see no folder of the launcher's.
//!
//! It is a mailbox and no second state: what the launcher's folder of the run says is what counts. The launcher puts in
//! what workers need, workers put in what they made, and the launcher brings that into its folder, where it is vetted as
//! everything is that workers publish.
//!
//! ```text
//! RUN/plan.json                   the last to be put in: without it there is no run
//! RUN/worklist.jsonl, .index      as in the run's folder
//! RUN/snapshot.pack               files of the workspace as it was planned
//! RUN/project.json                what else makes a project of it, see `outbound.rs`
//! RUN/files/all.tar, N.tar        files that neither git nor DVC know
//! RUN/jobs/NAME.json              the work items of a cluster's job
//! RUN/jobs/NAME.checked           put in by a worker that only looked whether it can
//! RUN/jobs/NAME.out               why the last of its workers could not begin that could not
//! RUN/launcher                    who launches the run just now, written anew now and then
//! RUN/journals/CLONE.jsonl        what launchers wrote down, one of each clone of the project
//! RUN/cancel                      asks them and workers to end
//! RUN/results/INDEX/ATTEMPT.log   the first that an attempt puts in, which takes its number
//! RUN/results/INDEX/ATTEMPT.files the contents of a result's files, one after the other
//! RUN/results/INDEX/ATTEMPT.json  its `result.json`, put in last: without it there is no result
//! ```
//!
//! Reading, writing and listing are all that is asked of a store; what is taken back is written empty. Everything is written whole and may be written twice.

mod elsewhere;
mod logbook;
mod outbound;
mod presence;
mod results;
mod site;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::adapters::bucket::Bucket;
use crate::diagnostic::Diagnostic;
use crate::model::run::Traffic;

pub(crate) use presence::Presence;
pub(crate) use results::Receiving;
pub(crate) use site::Site;

/// Bytes of a document that is read whole.
const MAX_DOCUMENT: u64 = 1 << 30;
/// Bytes of what is brought into a file.
const MAX_FILE: u64 = 1 << 50;

/// The mailbox of one run.
#[derive(Debug)]
pub(crate) struct Mailbox {
    bucket: Bucket,
    run: String,
    /// What results have told of the traffic.
    told: Mutex<Traffic>,
}

impl Mailbox {
    /// Opens the mailbox of a run at an address; what fails for a while is tried again for as long as `patience`.
    pub(crate) fn open(url: &str, run: &str, patience: Duration) -> Result<Mailbox, Diagnostic> {
        Ok(Mailbox { bucket: Bucket::open(url, patience)?, run: run.to_owned(), told: Mutex::default() })
    }

    /// The same, to wait less or more; what either takes is counted together.
    fn again(&self, patience: Duration) -> Result<Mailbox, Diagnostic> {
        Ok(Mailbox { bucket: self.bucket.again(patience)?, run: self.run.clone(), told: Mutex::default() })
    }

    /// The address of the store.
    pub(crate) fn url(&self) -> &str {
        self.bucket.url()
    }

    /// What it took so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.bucket.traffic()
    }

    /// Removes all that the store has of the run; returns how many objects there were.
    pub(crate) fn remove(&self) -> Result<usize, Diagnostic> {
        Ok(self.bucket.delete_below(&self.run)?)
    }

    /// Brings an object of the run that has to be there into a file.
    fn bring(&self, name: &str, to: &Path) -> Result<(), Diagnostic> {
        if self.bucket.get_to(&self.key(name), to, MAX_FILE)? {
            return Ok(());
        }
        Err(Diagnostic::project(format!("`{name}` of run {} is not in `{}`", self.run, self.url()))
            .cause("the run was pruned, or something else removes objects there"))
    }

    /// The error where the store does not have the run.
    fn no_run(&self) -> Diagnostic {
        Diagnostic::usage(format!("there is no run `{}` in `{}`", self.run, self.url()))
            .cause("it was never launched with this `--store`, or was pruned")
            .hint("`dvc-fanout status`, where it was launched, says how the run is called")
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.run)
    }
}
