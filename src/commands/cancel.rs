//! `cancel`: asks whoever launches a run to end it, and waits until that is done; ends what was left to a cluster.

use std::time::{Duration, Instant};

use crate::adapters::fs;
use crate::cli::runs::CancelArgs;
use crate::cli::{Cli, Format};
use crate::commands::settings::Settings;
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::engine::args::RunningArgs;
use crate::engine::launch::block_on;
use crate::exit::Exit;
use crate::output::text;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::run_lock::RunLock;
use crate::state::{journal, kept, run_lock, status};

/// How often the run's lock is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often an object store is asked whether another clone of the project still launches it.
const REMOTE_POLL: Duration = Duration::from_secs(1);

pub(crate) fn run(cli: &Cli, args: &CancelArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = store::open(&project, args.run.as_deref(), args.elsewhere.store.as_deref())?;
    let (mailbox, has_ended) = (store::mailbox(&run, &RunningArgs::default())?, journal::has_ended(&run)?);
    if let Some(mailbox) = mailbox.as_ref().filter(|_| !has_ended) {
        mailbox.look_for_launcher(&run)?;
        mailbox.ask_to_end()?;
    }
    let was_on = run_lock::is_held(&run)?;
    if was_on {
        fs::write(&run.cancel(), b"")?;
        let limit = Instant::now() + args.timeout.0;
        while run_lock::is_held(&run)? {
            if Instant::now() >= limit {
                let holder = run_lock::holder(&run).map_or_else(String::new, |holder| format!(" ({holder})"));
                return Err(Diagnostic::tool(format!("run {} is still on{holder}", plan.run))
                    .cause(format!("it was asked to end {} ago", args.timeout))
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
    let jobs = end_jobs(&project, &run, &plan, args)?;
    let has_kept = fs::exists(&run.kept());
    kept::end(&run)?;
    let cancelled = was_on || has_kept || !jobs.is_empty();
    text::result(&match (cli.format, cancelled) {
        (Format::Json, _) => {
            serde_json::json!({"version": 1, "run": plan.run, "cancelled": cancelled, "jobs": jobs}).to_string()
        }
        (Format::Text, true) => format!("run {} has ended; `dvc-fanout launch` resumes it", plan.run),
        (Format::Text, false) if mailbox.is_some() && !has_ended => {
            format!("run {} is not on; workers that were started by hand end before their next work item", plan.run)
        }
        (Format::Text, false) => format!("run {} is not on", plan.run),
    });
    Ok(Exit::Success)
}

/// Ends the jobs that nobody watches.
fn end_jobs(project: &ProjectHome, run: &RunDir, plan: &Plan, args: &CancelArgs) -> Result<Vec<String>, Diagnostic> {
    // Nobody is to launch the run meanwhile.
    let _lock = RunLock::acquire(run)?;
    if !status::may_go_on(run)? {
        return Ok(vec![]);
    }
    let settings = Settings::read(&project.root)?;
    block_on(args.engine.cancel(&settings, run, plan))
}
