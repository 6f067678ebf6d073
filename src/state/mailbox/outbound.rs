//! What the launcher puts into a mailbox, once for a run.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Mailbox;
use crate::adapters::git::{Essence, Store};
use crate::adapters::{archive, fs};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path::from_top;
use crate::state::format::{Input, Plan, VERSION, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;

/// Bytes of files that git ignores and no stage declares that all workers get; what is larger stays here.
const MAX_CARRIED: u64 = 64 << 20;

/// `project.json`: what makes a project of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub version: u32,
    /// What git says; `None` where the project does without.
    pub git: Option<Essence>,
    /// DVC's config.
    pub config: String,
    /// Whether there are files that all workers get.
    pub all: bool,
    /// Inputs of work items that only the launcher's machine has, by the number of their archive.
    pub inputs: Vec<String>,
}

/// What became of putting a run in.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    /// Whether the store had it already.
    pub was_there: bool,
    /// What workers do not get since it is too large, relative to the top of the work tree.
    pub too_large: Vec<String>,
}

impl Mailbox {
    /// Puts in what workers need, unless it is there.
    pub(crate) fn post(
        &self,
        project: &ProjectHome,
        run: &RunDir,
        plan: &Plan,
        items: &[WorkItem],
    ) -> Result<Posted, Diagnostic> {
        if self.bucket.find(&self.key("plan.json"))?.is_some() {
            return Ok(Posted { was_there: true, too_large: vec![] });
        }
        let folder = fs::temporary_dir(run.path())?;
        let (git, _) = project.git()?;
        let pack = folder.path().join("snapshot.pack");
        let store = Store::open(&run.snapshot())?;
        let essence = store.pack(&git, plan.snapshot.as_deref(), plan.workspace.as_deref(), &pack)?;
        self.bucket.put_files(&self.key("snapshot.pack"), &[pack])?;

        let (carried, too_large) = carried(git.workdir(), plan)?;
        if !carried.is_empty() {
            let archive = folder.path().join("all.tar");
            archive::pack(git.workdir(), carried.iter().map(String::as_str), &archive)?;
            self.bucket.put_files(&self.key("files/all.tar"), &[archive])?;
        }
        let inputs = inputs(items);
        for (number, path) in inputs.iter().enumerate() {
            let archive = folder.path().join(format!("{number}.tar"));
            archive::pack(git.workdir(), std::iter::once(from_top(&plan.prefix, path).as_str()), &archive)?;
            self.bucket.put_files(&self.key(&format!("files/{number}.tar")), std::slice::from_ref(&archive))?;
            fs::remove(&archive)?;
        }

        let about = About {
            version: VERSION,
            git: essence,
            config: project.config.render_for_others()?,
            all: !carried.is_empty(),
            inputs,
        };
        let about = serde_json::to_vec(&about).map_err(|error| Diagnostic::internal(error.to_string()))?;
        self.bucket.put(&self.key("project.json"), about)?;
        self.bucket.put_files(&self.key("worklist.index"), &[run.worklist_index()])?;
        self.bucket.put_files(&self.key("worklist.jsonl"), &[run.worklist()])?;
        self.bucket.put_files(&self.key("plan.json"), &[run.plan()])?;
        Ok(Posted { was_there: false, too_large })
    }
}

impl Mailbox {
    /// Puts in which work items a cluster's job does.
    pub(crate) fn send_job(&self, run: &RunDir, job: &str) -> Result<(), Diagnostic> {
        Ok(self.bucket.put_files(&self.key(&format!("jobs/{job}.json")), &[run.job(job)])?)
    }

    /// Takes that out again: there is no such job after all.
    pub(crate) fn forget_job(&self, job: &str) -> Result<(), Diagnostic> {
        self.unmark(&format!("jobs/{job}.json"))
    }

    /// Whether a worker that only looked has said that it sees the store.
    pub(crate) fn was_checked(&self, job: &str) -> Result<bool, Diagnostic> {
        self.is_marked(&format!("jobs/{job}.checked"))
    }

    pub(crate) fn forget_check(&self, job: &str) -> Result<(), Diagnostic> {
        self.unmark(&format!("jobs/{job}.checked"))
    }
}

/// The files and folders that all workers see beside the snapshot, as far as they are small, and those that are not.
fn carried(top: &Path, plan: &Plan) -> Result<(Vec<String>, Vec<String>), Diagnostic> {
    let (mut taken, mut left) = (plan.linked.clone(), vec![]);
    let mut room = MAX_CARRIED;
    for path in &plan.carry.linked {
        match size_within(&top.join(path), room)? {
            Some(size) => {
                room -= size;
                taken.push(path.clone());
            }
            None => left.push(path.clone()),
        }
    }
    Ok((taken, left))
}

/// The bytes of a file or folder; `None` where they are more than the limit.
fn size_within(path: &Path, limit: u64) -> Result<Option<u64>, Diagnostic> {
    let Ok(found) = path.metadata() else { return Ok(Some(0)) };
    let size = if found.is_dir() {
        let files = fs::walk(path, &|_| false)?;
        let size = |inside: &str| fs::size(&path.join(inside));
        files.iter().map(|found| size(&found.path)).sum()
    } else {
        found.len()
    };
    Ok((size <= limit).then_some(size))
}

/// The inputs that only this machine has, each once.
fn inputs(items: &[WorkItem]) -> Vec<String> {
    let own = items.iter().flat_map(|item| &item.inputs).filter_map(|input| match input {
        Input::Workspace { path } | Input::Link { path } | Input::OddNames { path } => Some(path.clone()),
        Input::Cache { .. } | Input::Snapshot { .. } | Input::Lock { .. } | Input::Result { .. } => None,
    });
    own.collect::<BTreeSet<_>>().into_iter().collect()
}
