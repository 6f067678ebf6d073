//! A report as metrics in Prometheus' text format, for a textfile collector or a push gateway.
//!
//! Every metric is a gauge of the latest run: runs come and go, so nothing here only ever grows. The project is the one
//! label that all have; the run's id is a label of `dvc_fanout_run_info` alone, which keeps the number of series small.

use std::fmt::Write as _;

use crate::model::report::{Attempt, Report, end_name, total};
use crate::model::run::StageState;

pub(crate) fn render(report: &Report) -> String {
    let mut metrics = Metrics { text: String::new(), project: escaped(&report.project) };
    let from = &report.provenance;
    metrics.begin("dvc_fanout_run_info", "What the run was made with; always 1.");
    let labels = [
        ("run", report.run.as_str()),
        ("commit", from.commit.as_deref().unwrap_or_default()),
        ("dvc", from.dvc.first().map_or("", String::as_str)),
        ("version", &from.program),
        ("engine", from.engines.last().map_or("", String::as_str)),
        ("image", from.images.last().map_or("", String::as_str)),
    ];
    metrics.sample("dvc_fanout_run_info", &labels, 1.0);
    metrics.begin("dvc_fanout_run_finalized", "Whether the run was finalized.");
    metrics.sample("dvc_fanout_run_finalized", &[], f64::from(u8::from(report.ended)));
    metrics.begin("dvc_fanout_run_seconds", "Seconds from the plan to the last thing that happened.");
    metrics.sample("dvc_fanout_run_seconds", &[], report.seconds);
    metrics.begin("dvc_fanout_work_items", "Work items by what they came to.");
    for (outcome, number) in report.counts().named() {
        metrics.sample("dvc_fanout_work_items", &[("outcome", outcome)], float(number));
    }
    let attempts = || report.work_items.iter().flat_map(|item| &item.attempts);
    metrics.begin("dvc_fanout_attempts", "Attempts at work items by how they ended.");
    for end in Attempt::ends() {
        let number = attempts().filter(|attempt| attempt.end == end).count();
        metrics.sample("dvc_fanout_attempts", &[("end", end_name(end))], float(number));
    }
    metrics.begin("dvc_fanout_attempt_seconds", "Seconds that all attempts took together.");
    metrics.sample("dvc_fanout_attempt_seconds", &[], total(attempts().map(|attempt| attempt.seconds)));
    metrics.begin("dvc_fanout_slowest_work_item_seconds", "Seconds that the slowest work item took.");
    let slowest = report.slowest(1).first().map_or(0.0, |item| item.seconds());
    metrics.sample("dvc_fanout_slowest_work_item_seconds", &[], slowest);
    metrics.begin("dvc_fanout_stages", "Planned stages by template and what they came to.");
    for template in report.by_template() {
        for state in StageState::ALL {
            let number = template.states.get(&state).copied().unwrap_or(0);
            let labels = [("template", template.address), ("state", state.name())];
            metrics.sample("dvc_fanout_stages", &labels, float(number));
        }
    }
    metrics.begin("dvc_fanout_stages_done", "Stages that had their turn by what did them.");
    let done = &from.executors;
    for (executor, number) in [("native", done.native), ("dvc", done.by_dvc()), ("check", done.check)] {
        metrics.sample("dvc_fanout_stages_done", &[("executor", executor)], float(number));
    }
    metrics.begin("dvc_fanout_differences", "Work items that DVC did differently, under the executor `check`.");
    let differ = report.work_items.iter().filter(|item| item.difference.is_some()).count();
    metrics.sample("dvc_fanout_differences", &[], float(differ));
    metrics.text
}

struct Metrics {
    text: String,
    /// Escaped.
    project: String,
}

impl Metrics {
    fn begin(&mut self, name: &str, help: &str) {
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge").expect("a String takes every text");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        write!(self.text, "{name}{{project=\"{}\"", self.project).expect("a String takes every text");
        for (label, text) in labels {
            write!(self.text, ",{label}=\"{}\"", escaped(text)).expect("a String takes every text");
        }
        writeln!(self.text, "}} {value}").expect("a String takes every text");
    }
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats, and these numbers are small")]
fn float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::tests::sample;

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let mut report = sample();
        report.project = "a\"b\\c\nd".into();
        let text = render(&report);
        assert!(text.contains("\ndvc_fanout_work_items{project=\"a\\\"b\\\\c\\nd\",outcome=\"failed\"} 1\n"), "{text}");
        assert!(text.contains("dvc_fanout_attempts{project=\"a\\\"b\\\\c\\nd\",end=\"tool_failed\"} 1\n"), "{text}");
        assert!(text.contains("dvc_fanout_stages_done{project=\"a\\\"b\\\\c\\nd\",executor=\"dvc\"} 2\n"), "{text}");
        for line in text.lines() {
            let sample = line.split_once("} ").is_some_and(|(_, value)| value.parse::<f64>().is_ok());
            assert!(line.starts_with("# ") || line.starts_with("dvc_fanout_") && sample, "{line}");
        }
    }
}
