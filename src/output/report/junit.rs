//! A report as JUnit XML: a suite per phase, a test case per work item.
//!
//! The elements and attributes are those that Jenkins' own schema has (`junit-10.xsd` of its xUnit plugin), so
//! every reader of JUnit files takes them. A stage that failed is a `failure`, anything else an `error`. The class of a
//! test case is its phase's kind and not its number, so that a session has one history whatever else is planned.

use std::io;

use super::{provenance, put};
use crate::model::report::{Counts, Failure, Outcome, Report, WorkItem, end_name, total};
use crate::model::run::EndingKind;

pub(crate) fn write(report: &Report, to: &mut dyn io::Write) -> io::Result<()> {
    to.write_all(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")?;
    let name = escaped(&format!("dvc-fanout {}", report.project));
    let (failures, errors) = failures(&report.work_items);
    writeln!(
        to,
        "<testsuites name=\"{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{:.3}\">",
        report.work_items.len(),
        report.seconds
    )?;
    for (number, phase) in report.phases.iter().enumerate() {
        let items: Vec<&WorkItem> = report.work_items.iter().filter(|item| item.phase == number).collect();
        let (failures, errors) = self::failures(items.iter().copied());
        let counts = Counts::of(items.iter().copied());
        writeln!(
            to,
            "  <testsuite name=\"phase {number}: {kind}\" id=\"{number}\" tests=\"{}\" failures=\"{failures}\" \
             errors=\"{errors}\" skipped=\"{}\" time=\"{:.3}\" timestamp=\"{}\">",
            items.len(),
            counts.skipped + counts.not_run,
            total(items.iter().map(|item| item.seconds())),
            // Without fractions and zone, which the schema does not have; it is UTC.
            escaped(report.created.get(..19).unwrap_or(&report.created)),
            kind = phase.kind.name()
        )?;
        writeln!(to, "    <properties>")?;
        for (name, value) in provenance(report) {
            writeln!(to, "      <property name=\"{}\" value=\"{}\"/>", escaped(name), escaped(&value))?;
        }
        writeln!(to, "    </properties>")?;
        for item in items {
            writeln!(to, "{}", test_case(item, phase.kind.name()))?;
        }
        writeln!(to, "  </testsuite>")?;
    }
    writeln!(to, "</testsuites>")
}

/// How many work items are failures and how many are errors.
fn failures<'a>(items: impl IntoIterator<Item = &'a WorkItem>) -> (usize, usize) {
    let mut numbers = (0, 0);
    for item in items {
        match &item.outcome {
            Outcome::Failed { failure, .. } if is_failure(*failure) => numbers.0 += 1,
            Outcome::Failed { .. } => numbers.1 += 1,
            Outcome::Succeeded | Outcome::Skipped { .. } | Outcome::NotRun { .. } => {}
        }
    }
    numbers
}

/// Whether it is the project's own failure; otherwise something around it broke.
fn is_failure(failure: Failure) -> bool {
    match failure {
        Failure::Stage | Failure::TimedOut => true,
        Failure::Tool | Failure::NoResult => false,
    }
}

fn test_case(item: &WorkItem, class: &str) -> String {
    let mut xml =
        format!("    <testcase classname=\"{class}\" name=\"{}\" time=\"{:.3}\">", escaped(&item.id), item.seconds());
    let message = escaped(&item.outcome.message().unwrap_or_default());
    match &item.outcome {
        Outcome::Succeeded => {}
        Outcome::Failed { failure, .. } => {
            let element = if is_failure(*failure) { "failure" } else { "error" };
            let log = item.log.iter().map(|log| format!("log: {log}"));
            let text: Vec<String> = item.tail.iter().cloned().chain(log).collect();
            let text = escaped(&text.join("\n"));
            put(
                &mut xml,
                format_args!("\n      <{element} type=\"{}\" message=\"{message}\">{text}</{element}>", failure.name()),
            );
        }
        Outcome::Skipped { .. } | Outcome::NotRun { .. } => {
            put(&mut xml, format_args!("\n      <skipped message=\"{message}\"/>"));
        }
    }
    let retried = item.attempts.iter().filter(|attempt| attempt.end != Some(EndingKind::Succeeded));
    let retried: Vec<String> = retried
        .map(|attempt| {
            let message = attempt.message.as_deref().unwrap_or_default();
            format!("attempt {} in {}: {} {message}", attempt.number, attempt.place, end_name(attempt.end))
        })
        .collect();
    if !retried.is_empty() {
        put(&mut xml, format_args!("\n      <system-out>{}</system-out>", escaped(&retried.join("\n"))));
    }
    if xml.ends_with("\">") {
        xml.truncate(xml.len() - 1);
        return xml + "/>";
    }
    xml + "\n    </testcase>"
}

/// Text as it stands in an element or attribute. What XML cannot hold at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\n' => xml.push_str("&#10;"),
            '\t' => xml.push_str("&#9;"),
            '\u{0}'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => xml.push('\u{fffd}'),
            other => xml.push(other),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::tests::sample;
    use crate::output::report::tests::written;

    #[test]
    fn a_failed_work_item_is_a_failure_with_the_end_of_its_log() {
        let xml = written(|to| write(&sample(), to));
        let name = "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;'&amp;|`]]&gt;\u{fffd}";
        assert!(xml.contains(&format!("<testcase classname=\"map\" name=\"{name}\" time=\"2.000\">")), "{xml}");
        assert!(xml.contains("<failure type=\"stage_failed\" message=\"it failed: "), "{xml}");
        assert!(xml.contains("&#10;last line&#10;log: results/1/1.log</failure>"), "{xml}");
        assert!(xml.contains("<testcase classname=\"shared\" name=\"summary\" time=\"0.000\">"), "{xml}");
        assert!(xml.contains("tests=\"4\" failures=\"1\" errors=\"0\""), "{xml}");
        assert!(xml.contains("tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"1\""), "{xml}");
    }

    #[test]
    fn a_success_without_retries_is_an_empty_element() {
        let mut item = sample().work_items.remove(0);
        assert!(test_case(&item, "map").contains("<system-out>attempt 1 in slot 1: tool_failed </system-out>"));
        item.attempts.remove(0);
        assert_eq!(test_case(&item, "map"), "    <testcase classname=\"map\" name=\"s1\" time=\"1.250\"/>");
    }
}
