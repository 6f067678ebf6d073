//! What happens in a launch: into the journal first, then to the people and programs that watch.
//!
//! A crash between the two leaves an event that nobody saw but everybody can read. The other way round somebody would
//! have seen what never happened, as far as the next launch knows.

use std::collections::HashMap;
use std::time::Duration;

use crate::adapters::clock;
use crate::diagnostic::Diagnostic;
use crate::engine::settle::settle;
use crate::model::event::Event;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::output::progress::{Progress, Style};
use crate::output::text;
use crate::state::format::WorkItem;
use crate::state::journal::{Journal, Journaled};
use crate::state::paths::RunDir;
use crate::state::results;

/// Work items that are named as the reason why one was skipped.
const NAMED: usize = 3;

/// Who watches a launch, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audience {
    pub style: Style,
    /// Whether events are printed, one a line.
    pub prints_events: bool,
}

/// Writes down and shows what happens.
pub(super) struct Recorder<'a> {
    run: &'a RunDir,
    items: &'a [WorkItem],
    journal: Journal,
    progress: Progress,
    /// Whether events are printed, one a line.
    prints_events: bool,
    /// When the running attempts began, as far as that was seen.
    started: HashMap<ItemIndex, String>,
    /// Whether beginnings and ends are seen when they are looked for, not when they happen.
    sees_late: bool,
}

impl<'a> Recorder<'a> {
    /// Begins with the number of work items that are going to run.
    pub(super) fn new(
        run: &'a RunDir,
        items: &'a [WorkItem],
        audience: Audience,
        total: usize,
        sees_late: bool,
    ) -> Result<Self, Diagnostic> {
        let progress = Progress::new(audience.style, total);
        let (journal, prints_events) = (Journal::open(run)?, audience.prints_events);
        Ok(Recorder { run, items, journal, progress, prints_events, started: HashMap::new(), sees_late })
    }

    /// Takes in what an engine says.
    pub(super) fn take(&mut self, event: Event) -> Result<(), Diagnostic> {
        let journaled = match event {
            Event::AttemptStarted { index, attempt, place } => {
                self.started.insert(index, clock::now());
                Journaled::AttemptStarted { index, id: self.id(index), attempt, place }
            }
            Event::AttemptFinished { index, attempt, ending, retry_after } => {
                let ending = settle(self.run, index, attempt, ending);
                let begun = self.started.remove(&index).unwrap_or_default();
                let measured = if self.sees_late { measured(self.run, index, attempt)? } else { None };
                Journaled::AttemptFinished {
                    index,
                    id: self.id(index),
                    attempt,
                    ending: ending.kind(),
                    message: ending.why().filter(|why| !why.is_empty()).map(str::to_owned),
                    seconds: measured.unwrap_or_else(|| clock::seconds_between(&begun, &clock::now())),
                    retry_after_seconds: retry_after.map(|wait| wait.as_secs_f64()),
                }
            }
            Event::Noticed { message } => Journaled::Noticed { message },
        };
        self.record(journaled)
    }

    /// A work item does not run since these have failed.
    pub(super) fn skip(&mut self, index: ItemIndex, because: Vec<ItemIndex>) -> Result<(), Diagnostic> {
        self.record(Journaled::WorkItemSkipped { index, id: self.id(index), because })
    }

    /// Journals an event, then shows it.
    pub(super) fn record(&mut self, event: Journaled) -> Result<(), Diagnostic> {
        let line = self.journal.append(event)?;
        if self.prints_events {
            text::result(&serde_json::to_string(&line).expect("an event is plain data"));
        }
        self.show(&line.event);
        Ok(())
    }

    fn show(&mut self, event: &Journaled) {
        let progress = &mut self.progress;
        match event {
            Journaled::AttemptStarted { index, id, attempt, place } => progress.started(*index, id, *attempt, place),
            Journaled::AttemptFinished { index, id, ending, message, retry_after_seconds, .. } => {
                let retry_after = retry_after_seconds.map(Duration::from_secs_f64);
                progress.finished(*index, id, *ending, message.as_deref().unwrap_or_default(), retry_after);
            }
            Journaled::WorkItemSkipped { id, because, .. } => {
                let names: Vec<&str> = because.iter().map(|index| self.items[*index].id.as_str()).collect();
                progress.skipped(id, &named(&names));
            }
            Journaled::Noticed { message } => progress.note(message),
            // Those who watch asked for it themselves, or see what comes of it.
            Journaled::Launched { .. }
            | Journaled::PhaseStarted { .. }
            | Journaled::Stored { .. }
            | Journaled::Moved { .. }
            | Journaled::Stopping { .. }
            | Journaled::Collected { .. }
            | Journaled::Finalized { .. } => {}
        }
    }

    /// Says what is no event of the run: what a person may do next.
    pub(super) fn advise(&self, line: &str) {
        self.progress.note(line);
    }

    /// Called now and then: says how far things are where nothing was said for a while.
    pub(super) fn heartbeat(&mut self) {
        self.progress.heartbeat();
    }

    /// Nothing more happens.
    pub(super) fn finish(&self) {
        self.progress.finish();
    }

    fn id(&self, index: ItemIndex) -> String {
        self.items[index].id.clone()
    }
}

/// The first of some names, and how many more there are.
fn named(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {} more", text::grouped(more)) } else { String::new() };
    names[..names.len().min(NAMED)].join(", ") + &more
}

/// The seconds that an attempt took by its worker's own clock, if there is a result of it.
fn measured(run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<Option<f64>, Diagnostic> {
    let published = results::best(run, index)?.filter(|published| published.result.attempt == attempt);
    Ok(published.map(|published| clock::seconds_between(&published.result.started, &published.result.finished)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_left_out_are_counted() {
        assert_eq!(named(&["s1"]), "s1");
        assert_eq!(named(&["s1", "s2", "s3"]), "s1, s2, s3");
        assert_eq!(named(&["s1", "s2", "s3", "s4", "s5"]), "s1, s2, s3 and 2 more");
    }
}
