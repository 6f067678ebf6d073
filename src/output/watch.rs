//! One screen that says how a run stands, drawn again and again: counts, rate and what is left, what runs, what failed.

use std::time::Duration;

use crate::model::numbers::AttemptNumber;
use crate::model::status::{ItemState, ItemStatus, RunStatus};
use crate::output::report::duration;
use crate::output::status::{Counts, state};
use crate::output::text::grouped;

/// The characters of the bar.
const BAR: usize = 30;

/// What a screen has room for, in characters and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    pub width: usize,
    pub height: usize,
}

/// How far a run has come since it was first looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    pub ended: usize,
    pub time: Duration,
}

/// The work items that nothing more is done for.
pub(crate) fn ended(status: &RunStatus) -> usize {
    Counts::of(status.items.iter()).ended()
}

/// Renders a screen; `age` tells the seconds since a time.
pub(crate) fn screen(status: &RunStatus, screen: Screen, pace: Pace, age: &dyn Fn(&str) -> f64) -> String {
    let counts = Counts::of(status.items.iter());
    let mut lines = vec![format!("run {}: {}", status.run, state(&status.state)), bar(&counts, status.items.len())];
    lines.push(times(&counts, pace, age(&status.created)));
    let running = status.items.iter().filter_map(|item| match &item.state {
        ItemState::Running { place, since, attempt } => Some((age(since), item, place, *attempt)),
        _ => None,
    });
    let mut running: Vec<_> = running.collect();
    running.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
    let running = running.into_iter().map(|(age, item, place, attempt)| {
        let again = if attempt > AttemptNumber::FIRST { format!(", attempt {attempt}") } else { String::new() };
        format!("  {:>10}  {} ({place}{again})", duration(age), item.id)
    });
    // The index grows with the order, and so does what failed.
    let failed = status.items.iter().rev().filter_map(|item| match &item.state {
        ItemState::Failed { why, .. } => Some(format!("  {}: {why}{}", item.id, last_words(item))),
        _ => None,
    });
    let room = screen.height.saturating_sub(lines.len() + 4);
    let (running, failed): (Vec<_>, Vec<_>) = (running.collect(), failed.collect());
    let for_failed = failed.len().min(room / 2);
    lines.extend(section("running for", &running, room - for_failed));
    lines.extend(section("failed", &failed, for_failed.max(usize::from(!failed.is_empty()))));
    lines.into_iter().map(|line| cut(&line, screen.width) + "\n").collect()
}

/// `[=========>          ] 412 of 1,000: 409 done, 8 running, 3 failed, 580 waiting`
fn bar(counts: &Counts, total: usize) -> String {
    let ended = counts.ended();
    let full = (BAR * ended).checked_div(total).unwrap_or(BAR);
    let head = if full < BAR { ">" } else { "" };
    let bar = format!("{}{head}", "=".repeat(full));
    format!("[{bar:BAR$}] {} of {}: {}", grouped(ended), grouped(total), counts.text())
}

/// `12 min 05 s; 34 work items a minute, about 17 min 00 s left`
fn times(counts: &Counts, pace: Pace, age: f64) -> String {
    let begun = format!("{} since it was planned", duration(age));
    if pace.ended == 0 || counts.left() == 0 {
        return begun;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate of which two digits are shown")]
    let seconds_each = pace.time.as_secs_f64() / pace.ended as f64;
    let rate = 60.0 / seconds_each;
    let rate = if rate >= 9.95 { format!("{rate:.0}") } else { format!("{rate:.1}") };
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let left = duration(seconds_each * counts.left() as f64);
    format!("{begun}; {rate} work items a minute, about {left} left")
}

/// A headline with as many lines as there is room for.
fn section(title: &str, lines: &[String], room: usize) -> Vec<String> {
    if lines.is_empty() {
        return vec![];
    }
    let shown = lines.iter().take(room).cloned();
    let more = lines.len().saturating_sub(room);
    let more = (more > 0).then(|| format!("  … and {} more", grouped(more)));
    [format!("{title}:")].into_iter().chain(shown).chain(more).collect()
}

/// The last line that a work item printed.
fn last_words(item: &ItemStatus) -> String {
    item.tail
        .iter()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map_or_else(String::new, |line| format!(": {}", line.trim()))
}

/// A line without what a terminal would take for more than text, as long as it may be.
fn cut(line: &str, width: usize) -> String {
    let line: String = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::numbers::ItemIndex;
    use crate::model::status::{PhaseStatus, RunState};

    fn status(states: Vec<ItemState>) -> RunStatus {
        let items = states.into_iter().enumerate().map(|(at, state)| ItemStatus {
            index: ItemIndex::new(at),
            id: format!("s{at}"),
            phase: 0,
            state,
            seconds: None,
            log: None,
            tail: vec!["no such \u{1b}[31mfile".to_owned(), String::new()],
        });
        let items: Vec<_> = items.collect();
        let phases = vec![PhaseStatus { total: items.len(), trailing: false }];
        RunStatus { run: "r".into(), created: "0".into(), state: RunState::Idle, phases, items, stopped: None }
    }

    #[test]
    fn a_screen_fits_and_names_what_runs_longest_and_failed_last() {
        let running = |since: &str| ItemState::Running {
            attempt: AttemptNumber::FIRST,
            place: "slot 0".into(),
            since: since.into(),
        };
        let failed = || ItemState::Failed { attempt: AttemptNumber::FIRST, why: "exit 1".into(), again: false };
        let done = ItemState::Done { attempt: AttemptNumber::FIRST };
        let status = status(vec![done, running("90"), running("10"), failed(), failed(), ItemState::Waiting]);
        let age = |since: &str| 100.0 - since.parse::<f64>().expect("a number");
        let pace = Pace { ended: 3, time: Duration::from_secs(30) };
        let shown = screen(&status, Screen { width: 80, height: 24 }, pace, &age);
        let expected = "run r: not running\n\
                        [===============>              ] 3 of 6: 1 done, 2 running, 2 failed, 1 waiting\n\
                        1 min 40 s since it was planned; 6.0 work items a minute, about 30 s left\n\
                        running for:\n  1 min 30 s  s2 (slot 0)\n        10 s  s1 (slot 0)\n\
                        failed:\n  s4: exit 1: no such  [31mfile\n  s3: exit 1: no such  [31mfile\n";
        assert_eq!(shown, expected);
        let small = screen(&status, Screen { width: 20, height: 9 }, Pace::default(), &age);
        assert!(small.lines().count() <= 9 && small.lines().all(|line| line.chars().count() <= 20), "{small}");
        assert!(small.contains("s2") && small.contains("  … and 1 more"), "{small}");
    }

    #[test]
    fn a_run_of_nothing_is_at_its_end() {
        assert_eq!(bar(&Counts::default(), 0), format!("[{}] 0 of 0: ", "=".repeat(BAR)));
    }
}
