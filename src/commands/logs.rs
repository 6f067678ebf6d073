//! `logs`: what the stages of a work item and DVC printed.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use crate::adapters::fs::{At as _, FsError};
use crate::cli::runs::LogsArgs;
use crate::cli::{Cli, Format};
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::status::ItemState;
use crate::output::text;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{results, run_lock, status, worklist};

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Bytes that are read at a time.
const BLOCK: u64 = 1 << 16;

pub(crate) fn run(cli: &Cli, args: &LogsArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = match args.run.as_deref() {
        Some(name) => store::open(&project, Some(name), args.elsewhere.store.as_deref())?,
        None => worklist::open_to_show(&project.fanout(), None)?,
    };
    let items = worklist::read_all(&run)?;
    let item = worklist::find(&items, &args.item)?;
    store::refresh_item(&run, item.index)?;
    if args.follow && args.attempt.is_none() {
        wait_for_first(&run, item.index)?;
    }
    let attempts = results::attempts(&run, item.index)?;
    let wanted = args.attempt.map(|number| AttemptNumber::new(number.get()));
    let Some(attempt) = wanted.or(attempts.last().copied()).filter(|attempt| attempts.contains(attempt)) else {
        let message = match wanted {
            Some(attempt) => format!("work item `{}` has no attempt {attempt}", item.id),
            None => format!("work item `{}` has not begun", item.id),
        };
        let known: Vec<String> = attempts.iter().map(AttemptNumber::to_string).collect();
        let diagnostic = Diagnostic::usage(message);
        return Err(if known.is_empty() {
            let failed = status::item_states(&run, std::iter::once(item.index))?.into_iter().find_map(why_failed);
            let diagnostic = failed.into_iter().fold(diagnostic, Diagnostic::cause);
            diagnostic.hint(format!("`dvc-fanout status {}` says how the run stands", plan.run))
        } else {
            diagnostic.cause(format!("its attempts: {}", known.join(", ")))
        });
    };
    let log = run.log(item.index, attempt);
    if cli.format == Format::Json {
        let document = serde_json::json!({
            "version": 1, "run": plan.run, "index": item.index, "id": item.id, "attempt": attempt,
            "attempts": attempts, "path": log, "tail": status::tail(&log, status::LOG_LINES),
        });
        text::result(&document.to_string());
        return Ok(Exit::Success);
    }
    let mut reader = LogReader { path: log, offset: 0 };
    let mut looked = Instant::now();
    // Whether it has ended is asked before the last look, so that nothing is missed.
    while args.follow && !has_ended(&run, item.index, attempt)? {
        reader.print_new()?;
        std::thread::sleep(POLL);
        if looked.elapsed() >= store::LOOK {
            store::refresh_item(&run, item.index)?;
            looked = Instant::now();
        }
    }
    reader.print_new()?;
    Ok(Exit::Success)
}

fn why_failed((_, state): (ItemIndex, ItemState)) -> Option<String> {
    match state {
        ItemState::Failed { why, .. } => Some(why),
        ItemState::Waiting
        | ItemState::Running { .. }
        | ItemState::Done { .. }
        | ItemState::Interrupted { .. }
        | ItemState::Skipped { .. } => None,
    }
}

/// Waits until a work item has begun, as long as somebody is at its run.
fn wait_for_first(run: &RunDir, index: ItemIndex) -> Result<(), Diagnostic> {
    let mut told = false;
    while results::attempts(run, index)?.is_empty() && is_on(run)? {
        if !told {
            text::note("waiting until it begins");
            told = true;
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Whether somebody launches a run, or it was left to a cluster.
fn is_on(run: &RunDir) -> Result<bool, FsError> {
    Ok(run_lock::is_held(run)? || status::is_left(run)?)
}

/// Whether an attempt cannot print any more: it has a result or a successor, or nobody launches the run and no cluster
/// was left to it.
fn has_ended(run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<bool, Diagnostic> {
    Ok(run.attempt(index, attempt).is_dir()
        || results::attempts(run, index)?.last().is_some_and(|last| *last > attempt)
        || !is_on(run)?)
}

/// A log that is being read, block by block: it may be larger than memory. One that comes from elsewhere is put in place of
/// what came of it before.
struct LogReader {
    path: std::path::PathBuf,
    offset: u64,
}

impl LogReader {
    /// Prints what is there beyond what was printed before.
    fn print_new(&mut self) -> Result<(), FsError> {
        let mut file = std::fs::File::open(&self.path).at("read", &self.path)?;
        loop {
            file.seek(SeekFrom::Start(self.offset)).at("read", &self.path)?;
            let mut block = vec![];
            let read = (&mut file).take(BLOCK).read_to_end(&mut block).at("read", &self.path)?;
            if read == 0 || !text::raw(&block) {
                return Ok(());
            }
            self.offset += read as u64;
        }
    }
}
