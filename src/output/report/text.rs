//! A report for a person at a terminal.
//!
//! ```text
//! run 20240101-000000-abcd of sessions: 3 of 4 work items succeeded, 1 failed, in 2 min 05 s
//!
//! extract: 3 ran, 1 failed of 12 stages
//!   why: dep raw/${item}.txt
//!
//! slowest:
//!   s1  1 min 20 s  2 attempts
//!
//! failed: s3 (stage `extract@s3` failed to run …)
//!     the end of its log
//!   log: results/2/1.log
//! ```

use super::{duration, headline, line, provenance, reasons, states};
use crate::model::report::Report;
use crate::output::text::count;

/// Work items that are named as the slowest.
const SLOWEST: usize = 5;
/// Failures that are shown.
const FAILURES: usize = 20;
/// Lines of each log that are shown.
const LOG_LINES: usize = 12;

pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    let unfinished = if report.ended { "" } else { " (not finalized)" };
    line(
        &mut text,
        format_args!(
            "run {} of {}: {}, in {}{unfinished}",
            report.run,
            report.project,
            headline(report),
            duration(report.seconds)
        ),
    );
    for (name, value) in provenance(report).into_iter().filter(|(name, _)| *name != "run") {
        line(&mut text, format_args!("  {name}: {value}"));
    }
    line(&mut text, format_args!(""));
    for template in report.by_template() {
        line(
            &mut text,
            format_args!("{}: {} of {}", template.address, states(&template), count(template.stages, "stage")),
        );
        line(&mut text, format_args!("  why: {}", reasons(&template, str::to_owned)));
    }
    let slowest = report.slowest(SLOWEST);
    if !slowest.is_empty() {
        line(&mut text, format_args!("\nslowest:"));
    }
    for item in slowest {
        let again = match item.attempts.len() {
            1 => String::new(),
            attempts => format!("  {}", count(attempts, "attempt")),
        };
        line(&mut text, format_args!("  {}  {}{again}", item.id, duration(item.seconds())));
    }
    for item in report.failures().take(FAILURES) {
        line(&mut text, format_args!("\nfailed: {} ({})", item.id, item.outcome.message().unwrap_or_default()));
        for said in &item.tail[item.tail.len().saturating_sub(LOG_LINES)..] {
            line(&mut text, format_args!("    {said}"));
        }
        if let Some(log) = &item.log {
            line(&mut text, format_args!("  log: {log}"));
        }
    }
    let failed = report.failures().count();
    if failed > FAILURES {
        line(&mut text, format_args!("\n… and {} that failed", count(failed - FAILURES, "more work item")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::tests::sample;

    #[test]
    fn a_person_reads_what_failed_and_why() {
        let text = render(&sample());
        assert!(text.starts_with("run 20240101-000000-abcd of sessions: 1 of 4 work items succeeded"), "{text}");
        for line in ["  why: dep raw/${item}.txt", "  s1  2.2 s  2 attempts", "    last line", "  log: results/1/1.log"]
        {
            assert!(text.contains(&format!("\n{line}\n")), "`{line}` in {text}");
        }
    }
}
