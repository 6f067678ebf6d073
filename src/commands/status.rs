//! `status`: how a run stands, from disk alone unless somebody wants to know what is in the queue.

use std::time::{Duration, Instant};

use crate::adapters::{clock, machine};
use crate::cli::runs::StatusArgs;
use crate::cli::{Cli, Format};
use crate::commands::settings::Settings;
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::engine::EngineArgs;
use crate::engine::launch::block_on;
use crate::exit::Exit;
use crate::model::status::RunState;
use crate::output::watch::{Pace, Screen, ended, screen};
use crate::output::{self, text};
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::status;

/// What a terminal shows that does not say.
const USUAL: Screen = Screen { width: 80, height: 24 };
/// Moves to the first place of a terminal and empties it from there.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

pub(crate) fn run(cli: &Cli, args: &StatusArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = store::open_to_show(&project, args.run.as_deref(), args.elsewhere.store.as_deref())?;
    if let Some(every) = args.watch {
        if cli.format == Format::Json {
            return Err(
                Diagnostic::usage("`--watch` is for people to look at").hint("leave out `--watch` or `--format`")
            );
        }
        return watch(&run, &plan, every.0);
    }
    let status = status::run(&run, &plan)?;
    let queued = if args.live {
        let flags = EngineArgs::default().completed(&Settings::read(&project.root)?)?;
        Some(block_on(flags.queued(&run))?)
    } else {
        None
    };
    text::result(&match cli.format {
        Format::Text => output::status::text(&status, args.all),
        Format::Json => output::status::json(&status, queued.as_deref()),
    });
    if cli.format == Format::Text {
        queued.into_iter().flatten().for_each(|line| text::result(&line));
    }
    Ok(Exit::Success)
}

/// Shows a run again and again until it ends.
fn watch(run: &RunDir, plan: &Plan, every: Duration) -> Result<Exit, Diagnostic> {
    let begin = Instant::now();
    let mut at_begin = None;
    let mut was_idle = false;
    let mut looked = Instant::now();
    loop {
        if looked.elapsed() >= store::LOOK {
            store::refresh(run, plan)?;
            looked = Instant::now();
        }
        let status = status::run(run, plan)?;
        let ended = ended(&status);
        let before = *at_begin.get_or_insert(ended);
        let pace = Pace { ended: ended.saturating_sub(before), time: begin.elapsed() };
        let now = clock::now();
        let size = machine::terminal_size();
        let room = size.map_or(USUAL, |(width, height)| Screen { width: width.into(), height: height.into() });
        let shown = screen(&status, room, pace, &|since| clock::seconds_between(since, &now));
        let shown = if size.is_some() { format!("{REDRAW}{shown}") } else { shown + "\n" };
        if !text::raw(shown.as_bytes()) {
            return Ok(Exit::Success);
        }
        // Between two of its steps, a run is nobody's for a moment.
        let is_idle = matches!(status.state, RunState::Idle);
        if matches!(status.state, RunState::Finalized) || (is_idle && was_idle) {
            return Ok(Exit::Success);
        }
        was_idle = is_idle;
        std::thread::sleep(every);
    }
}
