//! The work items of a worker, one after another; those that failed again when the others are done.
//!
//! To try again in place costs no place in a queue.
//!
//! | what failed | is tried again here | and then |
//! |---|---|---|
//! | a tool | once | by whoever started this worker: another machine may do better |
//! | a command, where that is to be tried again | as often as it is to be | not any more |

use std::collections::BTreeMap;
use std::time::Duration;

use crate::adapters::{clock, signals};
use crate::cli::work::WorkArgs;
use crate::commands::work::WorkConfig;
use crate::diagnostic::Diagnostic;
use crate::env;
use crate::exit::Exit;
use crate::model::numbers::ItemIndex;
use crate::model::run::Outcome;
use crate::output::text::{self, count};
use crate::state::mailbox::Site;
use crate::state::{results, status, worklist};
use crate::worker::child::Watch;

/// The first pause before work items are tried again; it doubles.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest one.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// What is shown of the log of a work item that failed.
const LINES: usize = 10;

/// Does the work items, unless somebody wants an end; returns the worst of their exits.
pub(super) fn take(
    config: &WorkConfig,
    args: &WorkArgs,
    mut do_one: impl FnMut(ItemIndex, &mut Watch) -> Result<Outcome, Diagnostic>,
    watch: &mut Watch,
) -> Result<Exit, Diagnostic> {
    let mut exits: BTreeMap<ItemIndex, Exit> = BTreeMap::new();
    let mut left = config.indexes.clone();
    for tries_left in (0..=args.retries).rev() {
        let is_first = tries_left == args.retries;
        let mut again = vec![];
        let mut queue = left.into_iter();
        while let Some(index) = queue.next() {
            if config.site.as_ref().map_or(Ok(false), Site::is_to_end)? {
                text::note(&format!("run {} was cancelled: no more of it is begun here", config.plan.run));
                return Ok(Exit::Signal(15));
            }
            let outcome = match do_one(index, watch) {
                Ok(outcome) => outcome,
                Err(error) if error.exit == Exit::Tool && is_first && tries_left > 0 && may_go_on(watch) => {
                    // It would be the same with the others.
                    text::note(&text::render_error(&error));
                    again.push(index);
                    again.extend(queue.by_ref());
                    break;
                }
                Err(error) => return Err(error),
            };
            if args.job.is_none() && outcome != Outcome::Succeeded {
                tell(config, index, &outcome)?;
            }
            let exit = worse(Exit::Success, &outcome);
            exits.insert(index, exit);
            let asked = watch.asked();
            if signals::is_time_up() {
                // What is done is published; what is left is the next job's.
                return Ok(Exit::Success);
            }
            if let Some(asked) = asked {
                return Ok(Exit::Signal(asked.signal()));
            }
            if matches!(exit, Exit::Signal(_)) || (args.stop_at_failure && exit != Exit::Success) {
                return Ok(worst(&exits));
            }
            if is_tried_again(config, &outcome, is_first) {
                again.push(index);
            }
        }
        if again.is_empty() || tries_left == 0 || !has_time() {
            break;
        }
        let pause = (PAUSE * (1 << (args.retries - tries_left).min(8))).min(MAX_PAUSE);
        let what = count(again.len(), "work item");
        text::note(&format!("trying {what} again here in {} s", pause.as_secs()));
        if let Err(asked) = watch.wait_for(async { tokio::time::sleep(pause).await }) {
            return Ok(if signals::is_time_up() { Exit::Success } else { Exit::Signal(asked.signal()) });
        }
        left = again;
    }
    Ok(worst(&exits))
}

/// Says how a work item ended: whoever started this worker by hand, or as a job of a CI system, sees nothing else of it.
fn tell(config: &WorkConfig, index: ItemIndex, outcome: &Outcome) -> Result<(), Diagnostic> {
    let item = worklist::read_one(&config.run, &config.plan, index)?;
    let attempts = results::attempts(&config.run, index)?;
    let lines = attempts.last().map(|last| status::tail(&config.run.log(index, *last), LINES)).unwrap_or_default();
    let log = lines.iter().fold(String::new(), |text, line| text + "\n  " + line);
    text::note(&format!("work item {index} (`{}`) failed: {outcome}{log}", item.id));
    Ok(())
}

/// Whether nobody has asked for an end.
fn may_go_on(watch: &mut Watch) -> bool {
    watch.asked().is_none() && !signals::is_time_up() && has_time()
}

/// Whether another attempt at a work item may help.
fn is_tried_again(config: &WorkConfig, outcome: &Outcome, is_first: bool) -> bool {
    match outcome {
        Outcome::ToolFailed { .. } => is_first,
        Outcome::StageFailed { .. } | Outcome::TimedOut { .. } => {
            config.shards.as_ref().is_some_and(|shards| shards.retry_commands)
        }
        Outcome::Succeeded | Outcome::Interrupted { .. } => false,
    }
}

/// Whether more than a third of the time limit is left, where that is known; a worker is told when it is nearly over.
fn has_time() -> bool {
    let seconds = |name| env::read_text(name).and_then(|text| text.parse::<i64>().ok());
    match (seconds(env::SLURM_JOB_START_TIME), seconds(env::SLURM_JOB_END_TIME)) {
        (Some(start), Some(end)) => end - clock::nanoseconds() / 1_000_000_000 > (end - start) / 3,
        _ => true,
    }
}

/// The worse of an exit so far and that of another outcome.
pub(super) fn worse(exit: Exit, outcome: &Outcome) -> Exit {
    let own = match outcome {
        Outcome::Succeeded => Exit::Success,
        Outcome::StageFailed { .. } | Outcome::TimedOut { .. } => Exit::WorkItemsFailed,
        Outcome::ToolFailed { .. } => Exit::Tool,
        Outcome::Interrupted { .. } => Exit::Signal(15),
    };
    worse_of(exit, own)
}

fn worse_of(exit: Exit, own: Exit) -> Exit {
    match (exit, own) {
        (Exit::Success, own) => own,
        (Exit::WorkItemsFailed, own) if own != Exit::Success => own,
        (exit, _) => exit,
    }
}

/// The worst of the exits of work items.
fn worst(exits: &BTreeMap<ItemIndex, Exit>) -> Exit {
    exits.values().copied().fold(Exit::Success, worse_of)
}
