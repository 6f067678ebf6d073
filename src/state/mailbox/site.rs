//! Where a worker works that sees no folder of the launcher's: a folder with a project made of what is in the mailbox.
//!
//! ```text
//! FOLDER/cache/     DVC's cache, unless another one is named
//! FOLDER/RUN/       the work tree, with the run's folder where it is in the project
//! FOLDER/RUN.lock   held by the worker that makes it
//! ```
//!
//! Several workers share it, and whatever one of them has brought. Nothing here is looked at by the launcher.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;

use super::outbound::About;
use super::{MAX_DOCUMENT, Mailbox, logbook};
use crate::adapters::beat::Beat;
use crate::adapters::git::Store;
use crate::adapters::{archive, fs};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::format::{Input, Plan, VERSION, WorkItem};
use crate::state::mailbox::Receiving;
use crate::state::paths::{FanoutDir, RunDir};
use crate::state::results::{self, Durability};
use crate::state::worklist;

/// How long is waited for another worker to make the folder, which brings all that the project had.
const LIMIT: Duration = Duration::from_mins(60);
/// Up to here a worklist is brought whole.
const SMALL_WORKLIST: u64 = 4 << 20;

/// A worker's own project.
#[derive(Debug)]
pub(crate) struct Site {
    mailbox: Arc<Mailbox>,
    /// The top of the work tree.
    top: PathBuf,
    /// The project's root.
    root: PathBuf,
    run: RunDir,
    folder: PathBuf,
    /// Inputs that the launcher's machine alone had, with the number of the archive of each.
    inputs: HashMap<String, usize>,
}

/// See [`Site::voice`].
#[derive(Debug)]
pub(crate) struct Voice {
    mailbox: Arc<Mailbox>,
    name: String,
}

impl Voice {
    pub(crate) fn say(&self, text: &str) -> Result<(), Diagnostic> {
        self.mailbox.mark(&self.name, text.as_bytes())
    }
}

impl Site {
    /// Makes the folder of a run, or takes the one that is there.
    pub(crate) fn open(mailbox: Mailbox, folder: &Path) -> Result<Site, Diagnostic> {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let top = folder.join(&mailbox.run);
        let plan = mailbox.bucket.get(&mailbox.key("plan.json"), MAX_DOCUMENT)?.ok_or_else(|| mailbox.no_run())?;
        let unreadable = |name: &str, error: serde_json::Error| {
            Diagnostic::project(format!("`{name}` of run {} in the store is not readable", mailbox.run)).source(&error)
        };
        let parsed: Plan = serde_json::from_slice(&plan).map_err(|error| unreadable("plan.json", error))?;
        let about = mailbox.bucket.get(&mailbox.key("project.json"), MAX_DOCUMENT)?.unwrap_or_default();
        let about: About = serde_json::from_slice(&about).map_err(|error| unreadable("project.json", error))?;
        if parsed.version.max(about.version) > VERSION {
            return Err(Diagnostic::project(format!("run {} was planned by a newer release", mailbox.run))
                .hint("have the same release on the launcher and where workers run"));
        }
        fs::create_private_dir(&folder)?;
        let lock = lock_of(&folder, &mailbox.run);
        let _lock = fs::lock_within(&lock, LIMIT)?.ok_or_else(|| {
            let holder = fs::lock_holder(&lock).map_or_else(String::new, |id| format!(" by process {id}"));
            Diagnostic::tool(format!("the folder of run {} is still being made{holder}", mailbox.run))
                .at(Place::file(folder.display().to_string()))
                .hint("end that process if it hangs, or give this worker a folder of its own")
        })?;
        let root = top.join(&parsed.prefix);
        let run = FanoutDir::of(&root).run(&mailbox.run);
        let inputs = about.inputs.iter().cloned().zip(0..).collect();
        let site = Site { mailbox: Arc::new(mailbox), top, root, run, folder, inputs };
        if !site.run.plan().is_file() {
            fs::remove(&site.top)?;
            site.make(&about)?;
            // Last: whoever finds it finds everything.
            fs::write(&site.run.plan(), &plan)?;
        }
        Ok(site)
    }

    fn make(&self, about: &About) -> Result<(), Diagnostic> {
        fs::create_private_dir(&self.top)?;
        let folder = fs::temporary_dir(&self.folder)?;
        let pack = folder.path().join("snapshot.pack");
        self.mailbox.bring("snapshot.pack", &pack)?;
        fs::write_plain(&self.root.join(".dvc/config"), about.config.as_bytes())?;
        Store::unpack(&pack, about.git.as_ref(), &self.top, &self.run.snapshot())?;
        if about.all {
            self.bring_archive("all")?;
        }
        self.mailbox.bring("worklist.index", &self.run.worklist_index())
    }

    /// Where the slots of a run's workers are.
    pub(crate) fn slots(folder: &Path, plan: &Plan) -> PathBuf {
        FanoutDir::of(&folder.join(&plan.run).join(&plan.prefix)).slots()
    }

    /// Removes what was made and brought here, of a worker that shares it with no other.
    pub(crate) fn remove(&self) -> Result<(), Diagnostic> {
        fs::remove(&self.top)?;
        fs::remove(&self.cache())?;
        fs::remove(&lock_of(&self.folder, &self.mailbox.run))?;
        Ok(fs::remove_if_empty(&self.folder)?)
    }

    /// The project's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// DVC's cache, unless another one is named.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// The address of the store.
    pub(crate) fn url(&self) -> &str {
        self.mailbox.url()
    }

    /// Brings the list of the work items that a cluster's job does.
    pub(crate) fn bring_job(&self, job: &str) -> Result<(), Diagnostic> {
        let file = self.run.job(job);
        if fs::exists(&file) { Ok(()) } else { self.mailbox.bring(&format!("jobs/{job}.json"), &file) }
    }

    /// What tells the launcher why a worker of a job could not begin.
    pub(crate) fn voice(&self, job: &str) -> Voice {
        Voice { mailbox: Arc::clone(&self.mailbox), name: format!("jobs/{job}.out") }
    }

    /// Says that this machine can put something in.
    pub(crate) fn send_check(&self, job: &str, text: &str) -> Result<(), Diagnostic> {
        self.mailbox.mark(&format!("jobs/{job}.checked"), text.as_bytes())
    }

    /// Brings a work item's line of the worklist.
    pub(crate) fn bring_item(&self, plan: &Plan, index: ItemIndex) -> Result<(), Diagnostic> {
        let range = worklist::range(&self.run, plan, index)?;
        if worklist::read_one(&self.run, plan, index).is_ok() {
            return Ok(());
        }
        match range {
            Some(range) if worklist::size_at_least(&self.run, plan)? > SMALL_WORKLIST => {
                let line = self.mailbox.bucket.get_range(&self.mailbox.key("worklist.jsonl"), range.clone())?;
                Ok(fs::write_at(&self.run.worklist(), &line, range.start)?)
            }
            // Where the last one ends, only the worklist itself tells.
            Some(_) | None => self.mailbox.bring("worklist.jsonl", &self.run.worklist()),
        }
    }

    /// Brings what attempts at a work item have put in so far.
    pub(crate) fn bring_attempts(&self, index: ItemIndex) -> Result<(), Diagnostic> {
        let receiving = Receiving { run: &self.run, durability: Durability::Later };
        self.mailbox.receive_item(&receiving, index).map(drop)
    }

    /// Brings what a work item needs: results of others, and files that only the launcher's machine had.
    pub(crate) fn bring_needs(&self, item: &WorkItem) -> Result<(), Diagnostic> {
        item.needs.par_iter().try_for_each(|index| self.bring_attempts(*index))?;
        for input in &item.inputs {
            let (Input::Workspace { path } | Input::Link { path } | Input::OddNames { path }) = input else { continue };
            if let Some(number) = self.inputs.get(path)
                && !fs::exists(&self.root.join(path))
            {
                self.bring_archive(&number.to_string())?;
            }
        }
        Ok(())
    }

    /// Takes a number of an attempt at a work item, among all workers everywhere: the first one, or the next that is free.
    pub(crate) fn claim(&self, index: ItemIndex, first: Option<AttemptNumber>) -> Result<AttemptNumber, Diagnostic> {
        let mut attempt = first.map_or_else(|| results::next_attempt(&self.run, index), Ok)?;
        while !self.mailbox.claim(index, attempt)? {
            attempt = attempt.next();
        }
        Ok(attempt)
    }

    /// Puts in what was published here of a work item and is not in yet.
    pub(crate) fn send(&self, index: ItemIndex) -> Result<(), Diagnostic> {
        for name in fs::names(&self.run.work_item(index))? {
            let Ok(attempt) = name.parse() else { continue };
            let sent = self.run.sent(index, attempt);
            if !fs::exists(&sent) {
                self.mailbox.send(&self.run, index, attempt)?;
                fs::write_plain(&sent, b"")?;
            }
        }
        Ok(())
    }

    /// Whether somebody asked for an end of the run.
    pub(crate) fn is_to_end(&self) -> Result<bool, Diagnostic> {
        self.mailbox.is_asked_to_end()
    }

    /// Puts in the log of an attempt now and then, for as long as what this returns lives.
    pub(crate) fn keep_log(&self, index: ItemIndex, attempt: AttemptNumber) -> Beat {
        logbook::keep(&self.mailbox, &self.run, index, attempt)
    }

    /// Puts in the log of an attempt as it is by now.
    pub(crate) fn send_log(&self, index: ItemIndex, attempt: AttemptNumber) -> Result<(), Diagnostic> {
        self.mailbox.send_log(&self.run, index, attempt)
    }

    fn bring_archive(&self, name: &str) -> Result<(), Diagnostic> {
        let folder = fs::temporary_dir(&self.folder)?;
        let file = folder.path().join("archive.tar");
        self.mailbox.bring(&format!("files/{name}.tar"), &file)?;
        Ok(archive::unpack(&file, &self.top)?)
    }
}

/// Held by the worker that makes a run's folder.
fn lock_of(folder: &Path, run: &str) -> PathBuf {
    folder.join(format!("{run}.lock"))
}
