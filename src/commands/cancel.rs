//! `cancel`: asks whoever launches a run to end it, and waits until that is done; ends what was left to a cluster. With
//! `--drain` only what waits is ended, and what runs is waited for.

use std::time::{Duration, Instant};

use crate::adapters::{fs, signals};
use crate::cli::runs::CancelArgs;
use crate::cli::{Cli, Format};
use crate::commands::settings::Settings;
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::engine::EngineArgs;
use crate::engine::args::RunningArgs;
use crate::engine::launch::block_on;
use crate::exit::Exit;
use crate::model::duration::Wait;
use crate::output::text;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::run_lock::RunLock;
use crate::state::{journal, kept, run_lock, slots, status};

/// How often the run's lock is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long is waited for everything to end.
const LIMIT: Duration = Duration::from_mins(1);
/// The same where what runs comes to its end by itself: no batch system lets anything run for so long.
const DRAIN_LIMIT: Duration = Duration::from_hours(366 * 24);
/// How often an object store is asked whether another clone of the project still launches it.
const REMOTE_POLL: Duration = Duration::from_secs(1);

pub(crate) fn run(cli: &Cli, args: &CancelArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = store::open(&project, args.run.as_deref(), args.elsewhere.store.as_deref())?;
    let (mailbox, has_ended) = (store::mailbox(&run, &RunningArgs::default())?, journal::has_ended(&run)?);
    if args.drain {
        check_drain(&run, mailbox.is_some())?;
    }
    if let Some(mailbox) = mailbox.as_ref().filter(|_| !has_ended) {
        mailbox.look_for_launcher(&run)?;
        mailbox.ask_to_end()?;
    }
    let was_on = run_lock::is_held(&run)?;
    let timeout = args.timeout.map_or(if args.drain { DRAIN_LIMIT } else { LIMIT }, |timeout| timeout.0);
    let limit = Instant::now() + timeout;
    if was_on {
        fs::write(&run.cancel(), if args.drain { signals::DRAIN.as_bytes() } else { b"" })?;
        if args.drain {
            text::note("nothing more of it begins; waiting for what runs");
        }
        while run_lock::is_held(&run)? {
            if Instant::now() >= limit {
                let holder = run_lock::holder(&run).map_or_else(String::new, |holder| format!(" ({holder})"));
                return Err(Diagnostic::tool(format!("run {} is still on{holder}", plan.run))
                    .cause(format!("it was asked to end {} ago", Wait(timeout)))
                    .hint("wait longer with `--timeout`"));
            }
            std::thread::sleep(POLL);
            if let Some(mailbox) = mailbox.as_ref().filter(|_| run_lock::is_held_elsewhere(&run)) {
                std::thread::sleep(REMOTE_POLL);
                mailbox.look_for_launcher(&run)?;
            }
        }
    }
    // Of a run that was handed over, more may be in the queue than its launcher watched.
    let drain = args.drain.then(|| limit.saturating_duration_since(Instant::now()));
    let jobs = end_jobs(&project, &run, &plan, args, drain)?;
    let has_kept = fs::exists(&run.kept());
    kept::end(&run)?;
    // Where launcher and workers were killed at once, nobody else does before the next launch.
    slots::end_all_leftovers(&project.fanout())?;
    let cancelled = was_on || has_kept || !jobs.is_empty();
    text::result(&match (cli.format, cancelled) {
        (Format::Json, _) => {
            serde_json::json!({"version": 1, "run": plan.run, "cancelled": cancelled, "jobs": jobs}).to_string()
        }
        (Format::Text, true) if args.drain && !journal::has_ended(&run)? => format!(
            "run {} has ended; `dvc-fanout collect` merges what is done, `dvc-fanout launch` does the rest",
            plan.run
        ),
        (Format::Text, true) => format!("run {} has ended; `dvc-fanout launch` resumes it", plan.run),
        (Format::Text, false) if mailbox.is_some() && !has_ended => {
            format!("run {} is not on; workers that were started by hand end before their next work item", plan.run)
        }
        (Format::Text, false) => format!("run {} is not on", plan.run),
    });
    Ok(Exit::Success)
}

/// Fails where only what waits is to be ended, and that cannot be done.
fn check_drain(run: &RunDir, is_over_store: bool) -> Result<(), Diagnostic> {
    let refused = |why: &str| {
        Err(Diagnostic::usage("`--drain` is not possible here")
            .cause(why)
            .hint("`dvc-fanout cancel` without it ends what runs, too; what is published is kept"))
    };
    if is_over_store {
        return refused("workers of a run with `--store` begin nothing more once it is cancelled, and are ended");
    }
    let mut engines = status::engines(run)?.into_iter();
    match engines.find(|engine| !EngineArgs::drains(engine)) {
        Some(engine) => refused(&format!("the engine `{engine}` cannot end what waits and nothing else")),
        None => Ok(()),
    }
}

/// Ends the jobs that nobody watches; with a limit, only what waits of them, and what runs has so long.
fn end_jobs(
    project: &ProjectHome,
    run: &RunDir,
    plan: &Plan,
    args: &CancelArgs,
    drain: Option<Duration>,
) -> Result<Vec<String>, Diagnostic> {
    // Nobody is to launch the run meanwhile.
    let _lock = RunLock::acquire(run)?;
    if !status::may_go_on(run)? {
        return Ok(vec![]);
    }
    let settings = Settings::read(&project.root)?;
    block_on(args.engine.cancel(&settings, run, plan, drain))
}
