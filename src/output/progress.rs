//! Progress of a run while it runs, on stderr.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::EndingKind;
use crate::output::text::{self, count, grouped};

/// How often a line says how far things are where no bar can.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How many of the running work items a bar names.
const NAMED: usize = 4;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A bar that is drawn over and over.
    Bar,
    /// A line per change, and a heartbeat with counts.
    Lines,
    /// Nothing.
    Silent,
}

impl Style {
    /// Chooses how progress is shown.
    ///
    /// | quiet | terminal | CI | style |
    /// |---|---|---|---|
    /// | yes | any | any | silent |
    /// | no | yes | no | bar |
    /// | no | no | any | lines |
    /// | no | yes | yes | lines |
    pub(crate) fn choose(quiet: bool, is_terminal: bool, is_ci: bool) -> Style {
        match (quiet, is_terminal, is_ci) {
            (true, _, _) => Style::Silent,
            (false, true, false) => Style::Bar,
            (false, _, _) => Style::Lines,
        }
    }
}

/// The progress of the work items of a launch.
pub(crate) struct Progress {
    style: Style,
    bar: ProgressBar,
    total: usize,
    done: usize,
    failed: usize,
    skipped: usize,
    running: BTreeMap<ItemIndex, String>,
    last_line: Instant,
}

impl Progress {
    /// Begins with the number of work items that are going to run.
    pub(crate) fn new(style: Style, total: usize) -> Progress {
        let target = if style == Style::Bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let template = "{bar:24} {pos}/{len} {elapsed_precise} (left: {left}) {wide_msg}";
        let look = ProgressStyle::with_template(template).expect("a template of this file").progress_chars("=> ");
        bar.set_style(look.with_key("left", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            text.write_str(&left(state.pos(), state.eta())).expect("a line takes every text");
        }));
        if style == Style::Bar {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Progress {
            style,
            bar,
            total,
            done: 0,
            failed: 0,
            skipped: 0,
            running: BTreeMap::new(),
            last_line: Instant::now(),
        }
    }

    pub(crate) fn started(&mut self, index: ItemIndex, id: &str, attempt: AttemptNumber, place: &str) {
        self.running.insert(index, id.to_owned());
        let again = if attempt > AttemptNumber::FIRST { format!(", attempt {attempt}") } else { String::new() };
        self.line(&format!("{id}: started in {place}{again}"));
        self.redraw();
    }

    /// `message` says why, where it did not succeed.
    pub(crate) fn finished(
        &mut self,
        index: ItemIndex,
        id: &str,
        ending: EndingKind,
        message: &str,
        retry_after: Option<Duration>,
    ) {
        self.running.remove(&index);
        let what = match ending {
            EndingKind::Succeeded => "done",
            EndingKind::Failed => "FAILED",
            EndingKind::ToolFailed => "a tool failed",
            EndingKind::Lost => "lost",
            EndingKind::Stopped => "stopped",
        };
        let why = if message.is_empty() { String::new() } else { format!(": {message}") };
        match retry_after {
            Some(wait) => self.note(&format!("{id}: {what}{why}; next attempt in {} s", wait.as_secs())),
            None => {
                self.done += 1;
                let failed = ending.is_failure();
                self.failed += usize::from(failed);
                let line = format!("{id}: {what}{why}");
                if failed { self.note(&line) } else { self.line(&line) }
            }
        }
        self.redraw();
    }

    pub(crate) fn skipped(&mut self, id: &str, because: &str) {
        self.done += 1;
        self.skipped += 1;
        self.note(&format!("{id}: skipped because {because} failed"));
        self.redraw();
    }

    /// Says something that a person should know whatever the style.
    pub(crate) fn note(&self, line: &str) {
        match self.style {
            Style::Bar => self.bar.suspend(|| text::note(line)),
            Style::Lines => text::note(line),
            Style::Silent => {}
        }
    }

    /// Says something that only counts where there is no bar.
    fn line(&mut self, line: &str) {
        if self.style == Style::Lines {
            text::note(line);
            self.last_line = Instant::now();
        }
    }

    /// Called now and then: says how far things are where nothing was said for a while.
    pub(crate) fn heartbeat(&mut self) {
        if self.style == Style::Lines && self.last_line.elapsed() >= HEARTBEAT {
            self.line(&self.counts());
        }
    }

    /// How far things are.
    fn counts(&self) -> String {
        format!("{} of {} done{}", grouped(self.done), count(self.total, "work item"), self.rest())
    }

    fn rest(&self) -> String {
        let mut rest = String::new();
        for (number, what) in [(self.failed, "failed"), (self.skipped, "skipped"), (self.running.len(), "running")] {
            if number > 0 {
                rest.push_str(&format!(", {} {what}", grouped(number)));
            }
        }
        rest
    }

    fn redraw(&self) {
        self.bar.set_position(self.done as u64);
        let mut names: Vec<&str> = self.running.values().take(NAMED).map(String::as_str).collect();
        if self.running.len() > NAMED {
            names.push("…");
        }
        let failed = if self.failed > 0 { format!("{} failed  ", self.failed) } else { String::new() };
        self.bar.set_message(format!("{failed}{}", names.join(", ")));
    }

    /// Takes the bar off the screen.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// How long the rest may take, which nobody knows before something has ended.
fn left(done: u64, expected: Duration) -> String {
    if done == 0 { "?".to_owned() } else { HumanDuration(expected).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_needs_a_terminal_that_is_not_ci() {
        assert_eq!(Style::choose(false, true, false), Style::Bar);
        assert_eq!(Style::choose(false, true, true), Style::Lines);
        assert_eq!(Style::choose(false, false, false), Style::Lines);
        assert_eq!(Style::choose(true, true, false), Style::Silent);
    }

    #[test]
    fn what_is_left_is_not_known_before_something_has_ended() {
        assert_eq!(left(0, Duration::ZERO), "?");
        assert_eq!(left(1, Duration::from_secs(180)), "3 minutes");
    }

    #[test]
    fn the_heartbeat_counts_what_ended_failed_and_runs() {
        let mut progress = Progress::new(Style::Silent, 1200);
        for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
            progress.started(ItemIndex::new(at), id, AttemptNumber::FIRST, "slot 0");
        }
        assert_eq!(progress.counts(), "0 of 1,200 work items done, 3 running");
        progress.finished(ItemIndex::new(0), "a", EndingKind::Succeeded, "", None);
        progress.finished(ItemIndex::new(1), "b", EndingKind::Lost, "gone", Some(Duration::from_secs(1)));
        assert_eq!(progress.counts(), "1 of 1,200 work items done, 1 running", "what is tried again is not done");
        progress.finished(ItemIndex::new(2), "c", EndingKind::Failed, "bad", None);
        progress.skipped("d", "c");
        assert_eq!(progress.counts(), "3 of 1,200 work items done, 1 failed, 1 skipped");
    }
}
