//! Runs over an object store: putting one in, and bringing in what workers have put in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::adapters::dvc::Dvc;
use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::engine::args::RunningArgs;
use crate::output::text::{self, count};
use crate::state::format::{Input, Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::journal::{Journal, Journaled};
use crate::state::mailbox::{Mailbox, Receiving};
use crate::state::paths::RunDir;
use crate::state::results::Durability;
use crate::worker::transfer::{Object, Transfer};

/// How long a launcher waits for a store that is away.
const PATIENCE: Duration = Duration::from_mins(5);

/// The mailbox of a run, where it has one: by the flags, else by what an earlier launch noted.
pub(crate) fn mailbox(run: &RunDir, running: &RunningArgs) -> Result<Option<Arc<Mailbox>>, Diagnostic> {
    let noted = fs::read_text_if_any(&run.store())?.map(|url| url.trim().to_owned());
    let Some(url) = running.store.clone().or(noted) else { return Ok(None) };
    Ok(Some(Arc::new(Mailbox::open(&url, run.name(), PATIENCE)?)))
}

/// Puts a run in, with the data that work items need into the project's remote; brings what is there of it already.
pub(crate) fn post(
    mailbox: &Mailbox,
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    items: &[WorkItem],
) -> Result<(), Diagnostic> {
    if project.config.default_remote().is_none() {
        return Err(Diagnostic::project(
            "with `--store`, data go through the project's default remote, and there is none",
        )
        .hint("name one with `dvc remote add --default NAME URL`: workers have to reach it, too"));
    }
    let posted = mailbox.post(project, run, plan, items)?;
    if !posted.was_there {
        push(project, items)?;
    }
    if let Some(first) = posted.too_large.first() {
        let others = match posted.too_large.len() - 1 {
            0 => String::new(),
            others => format!(" and {}", count(others, "other path")),
        };
        text::note(&format!("workers do not see `{first}`{others}, which git ignores: too large for the object store"));
    }
    fs::write(&run.store(), format!("{}\n", mailbox.url()).as_bytes())?;
    // Workers leave outs in the remote.
    fs::write(&run.remote(), b"")?;
    receive(mailbox, run, plan)
}

/// Brings what workers have put in.
pub(crate) fn receive(mailbox: &Mailbox, run: &RunDir, plan: &Plan) -> Result<(), Diagnostic> {
    let receiving = Receiving { run, durability: Durability::Now };
    let came = mailbox.receive_all(&receiving, plan.work_items)?;
    if came > 0 {
        text::note(&format!("{} came from `{}`", count(came, "result"), mailbox.url()));
    }
    Ok(())
}

/// Writes down what a launch took from the store and put into it.
pub(crate) fn note(mailbox: &Mailbox, run: &RunDir) -> Result<(), Diagnostic> {
    Ok(Journal::open(run)?
        .append(Journaled::Stored { url: mailbox.url().to_owned(), traffic: mailbox.traffic() })
        .map(drop)?)
}

/// Removes what an object store has of a run, if it was put into one; what workers left there half-way goes with it.
pub(crate) fn remove(run: &RunDir) -> Result<(), Diagnostic> {
    match mailbox(run, &RunningArgs::default())? {
        Some(mailbox) => mailbox.remove().map(drop),
        None => Ok(()),
    }
}

/// Takes the data that work items begin with to the project's remote.
fn push(project: &ProjectHome, items: &[WorkItem]) -> Result<(), Diagnostic> {
    let cache = Path::new(&project.config.cache_dir);
    let inputs = items.iter().flat_map(|item| &item.inputs);
    let objects = inputs.filter_map(|input| match input {
        Input::Cache { md5, legacy, .. } => Some(Object { md5: md5.clone(), legacy: *legacy }),
        Input::Snapshot { .. }
        | Input::Workspace { .. }
        | Input::OddNames { .. }
        | Input::Lock { .. }
        | Input::Result { .. } => None,
    });
    let objects: Vec<Object> = objects.filter(|object| object.is_in(cache)).collect();
    let (dvc, slots) = (Dvc::find()?, project.fanout().slots());
    Transfer { dvc: &dvc, project, scratch: &slots }.push(objects)
}
