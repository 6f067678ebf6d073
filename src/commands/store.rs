//! Runs over an object store: putting one in, and bringing in what workers have put in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::adapters::fs::{self, FsError};
use crate::commands::settings::Settings;
use crate::diagnostic::Diagnostic;
use crate::engine::args::RunningArgs;
use crate::model::numbers::ItemIndex;
use crate::output::text::{self, count};
use crate::state::format::{Input, Plan, RunName, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::journal::{self, Journal, Journaled};
use crate::state::mailbox::{Mailbox, Receiving};
use crate::state::paths::RunDir;
use crate::state::results::Durability;
use crate::state::worklist::{self, WorklistError};
use crate::state::{looks, run_lock};
use crate::worker::transfer::{Object, Transfer};

/// How long a launcher waits for a store that is away.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long somebody does who only wants to see how a run stands.
const LOOK_PATIENCE: Duration = Duration::from_secs(15);
/// How often is looked where somebody watches.
pub(crate) const LOOK: Duration = Duration::from_secs(10);

/// The mailbox of a run, where it has one: by the flags, else by what an earlier launch noted.
pub(crate) fn mailbox(run: &RunDir, running: &RunningArgs) -> Result<Option<Arc<Mailbox>>, Diagnostic> {
    let Some(url) = running.store.clone().map_or_else(|| noted(run), |url| Ok(Some(url)))? else { return Ok(None) };
    Ok(Some(Arc::new(Mailbox::open(&url, run.name(), PATIENCE)?)))
}

/// The address of the store that a run was put into.
fn noted(run: &RunDir) -> Result<Option<String>, FsError> {
    Ok(fs::read_text_if_any(&run.store())?.map(|url| url.trim().to_owned()))
}

/// Opens a run, the latest where none is named. One that this clone of the project does not have is brought from the object
/// store that is named, or set.
pub(crate) fn open(
    project: &ProjectHome,
    run: Option<&str>,
    store: Option<&str>,
) -> Result<(RunDir, Plan), Diagnostic> {
    let fanout = project.fanout();
    let (name, error) = match (worklist::open(&fanout, run), run) {
        (Err(error @ WorklistError::NoRun { .. }), Some(name)) => (name, error),
        (opened, _) => return Ok(opened?),
    };
    let set = Settings::read(&project.root)?.running(&RunningArgs::default())?.store;
    let Some(url) = store.map(str::to_owned).or(set) else {
        return Err(Diagnostic::from(error).hint(
            "where it was launched with `--store` in another clone of the project, name that store here as well",
        ));
    };
    let mailbox = Mailbox::open(&url, name, PATIENCE)?;
    mailbox.bring_run(project)?;
    looks::add(&fanout.run(name), mailbox.traffic())?;
    text::note(&format!("run {name} was brought from `{url}`"));
    Ok(worklist::open(&fanout, run)?)
}

/// Opens a run to look at, with what others have put into the object store since the last look.
pub(crate) fn open_to_show(
    project: &ProjectHome,
    run: Option<&str>,
    store: Option<&str>,
) -> Result<(RunDir, Plan), Diagnostic> {
    let (run, plan) = match run {
        Some(_) => open(project, run, store)?,
        None => worklist::open_to_show(&project.fanout(), None)?,
    };
    refresh(&run, &plan)?;
    Ok((run, plan))
}

/// Brings what others have put into the object store of a run since the last look; says so where that fails.
pub(crate) fn refresh(run: &RunDir, plan: &Plan) -> Result<(), Diagnostic> {
    // What a launcher of this clone takes in is here already.
    let is_at_work = run_lock::is_held(run)? && !run_lock::is_held_elsewhere(run);
    if is_at_work || journal::has_ended(run)? {
        return Ok(());
    }
    let receiving = Receiving { run, durability: Durability::Now };
    at_store(run, "this is how the run stood at an earlier look", |mailbox| {
        mailbox.receive_all(&receiving, plan.work_items).map(drop)
    })
}

/// The same of one work item, also while this clone launches the run: of what still runs, nobody else brings the log.
pub(crate) fn refresh_item(run: &RunDir, index: ItemIndex) -> Result<(), Diagnostic> {
    if journal::has_ended(run)? {
        return Ok(());
    }
    let receiving = Receiving { run, durability: Durability::Now };
    at_store(run, "this is what an earlier look has brought", |mailbox| {
        mailbox.look_for_launcher(run)?;
        mailbox.receive_item(&receiving, index).map(drop)
    })
}

/// Does something with the object store of a run, if it was put into one; where that fails, says what follows and why.
fn at_store(
    run: &RunDir,
    otherwise: &str,
    act: impl FnOnce(&Mailbox) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    let Some(url) = noted(run)? else { return Ok(()) };
    let looked = Mailbox::open(&url, run.name(), LOOK_PATIENCE).and_then(|mailbox| {
        let done = act(&mailbox);
        looks::add(run, mailbox.traffic())?;
        done
    });
    if let Err(error) = looked {
        text::note(&format!("{otherwise}: {}", error.one_line()));
    }
    Ok(())
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
    mailbox.forget_request()?;
    if !posted.was_there {
        push(project, run, items)?;
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

/// Brings what workers have put into the object store of a run, if it was put into one from here and has not ended.
pub(crate) fn bring(run: &RunDir, plan: &Plan) -> Result<(), Diagnostic> {
    if fs::exists(&run.brought_here()) || journal::has_ended(run)? {
        return Ok(());
    }
    match mailbox(run, &RunningArgs::default())? {
        Some(mailbox) => receive(&mailbox, run, plan),
        None => Ok(()),
    }
}

/// Writes down what a launch took from the store and put into it.
pub(crate) fn note(mailbox: &Mailbox, run: &RunDir) -> Result<(), Diagnostic> {
    Ok(Journal::open(run)?
        .append(Journaled::Stored { url: mailbox.url().to_owned(), traffic: mailbox.traffic() })
        .map(drop)?)
}

/// Tells other clones what was written down of a run since; says so where that fails.
pub(crate) fn tell(run: &RunDir) -> Result<(), Diagnostic> {
    at_store(run, "other clones of the project do not see yet how the run stands", |mailbox| mailbox.send_journal(run))
}

/// Removes what an object store has of a run, if it was put into one; what workers left there half-way goes with it. One
/// that was only looked at from here stays there until it has ended.
pub(crate) fn remove(run: &RunDir) -> Result<(), Diagnostic> {
    if fs::exists(&run.brought_here()) && !journal::has_ended(run)? {
        return Ok(());
    }
    match mailbox(run, &RunningArgs::default())? {
        Some(mailbox) => mailbox.remove().map(drop),
        None => Ok(()),
    }
}

/// Takes the data that work items begin with to the project's remote, and what stages are restored from.
pub(crate) fn push(project: &ProjectHome, run: &RunDir, items: &[WorkItem]) -> Result<(), Diagnostic> {
    let cache = Path::new(&project.config.cache_dir);
    // What stages are is not among what a launch knows of work items.
    let from = worklist::read_restored(run)?;
    let restored = from.iter().flat_map(|from| &from.objects).cloned();
    let objects = cached_inputs(items).chain(restored).filter(|object| object.is_in(cache)).collect();
    let runs: Vec<RunName> = from.into_iter().filter_map(|from| from.run).collect();
    let slots = project.fanout().slots();
    let transfer = Transfer::new(project, &slots);
    transfer.push(objects, &runs)?;
    tell_moved(&transfer, run)
}

/// Says what was moved between the cache and the remote, and which way, and writes it down for the report.
pub(crate) fn tell_moved(transfer: &Transfer<'_>, run: &RunDir) -> Result<(), Diagnostic> {
    let moved = transfer.untold();
    if moved.is_nothing() {
        return Ok(());
    }
    text::note(&format!("data: {}", text::moved(&moved)));
    Ok(Journal::open(run)?.append(Journaled::Moved { moved }).map(drop)?)
}

/// The cached data that work items begin with.
pub(crate) fn cached_inputs(items: &[WorkItem]) -> impl Iterator<Item = Object> {
    items.iter().flat_map(|item| &item.inputs).filter_map(Input::object)
}
