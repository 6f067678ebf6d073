//! A report as Markdown, short enough for a comment on a pull request.

use super::{duration, headline, line, provenance, put, reasons, states};
use crate::model::report::{Report, WorkItem};
use crate::output::text::{count, grouped};

/// Failures that are shown with the end of their log.
const FAILURES: usize = 20;
/// Lines of each log.
const LOG_LINES: usize = 20;
/// Templates that are shown.
const TEMPLATES: usize = 50;
/// Bytes after which no more failures are added: GitHub takes comments of 65,536 characters.
const LIMIT: usize = 50_000;

pub(crate) fn render(report: &Report) -> String {
    let counts = report.counts();
    let mark = if counts.failed + counts.skipped > 0 {
        "❌"
    } else if counts.not_run > 0 {
        "⚠️"
    } else {
        "✅"
    };
    let mut text = format!("### {mark} dvc-fanout: {}\n\n", headline(report));
    line(
        &mut text,
        format_args!("Run {} of {} took {}.\n", code(&report.run), code(&report.project), duration(report.seconds)),
    );
    line(&mut text, format_args!("| template | stages | planned | why |\n|---|---|---|---|"));
    let templates = report.by_template();
    for template in templates.iter().take(TEMPLATES) {
        let (address, why) = (code(template.address), reasons(template, code));
        line(
            &mut text,
            format_args!(
                "| {} | {} | {} | {} |",
                cell(&address),
                grouped(template.stages),
                states(template),
                cell(&why)
            ),
        );
    }
    if templates.len() > TEMPLATES {
        line(&mut text, format_args!("\n… and {}.", count(templates.len() - TEMPLATES, "more template")));
    }
    let mut shown = 0;
    for item in report.failures().take(FAILURES) {
        let failure = failure(item);
        if text.len() + failure.len() > LIMIT {
            break;
        }
        text.push_str(&failure);
        shown += 1;
    }
    if counts.failed > shown {
        put(&mut text, format_args!("\n… and {} that failed.\n", count(counts.failed - shown, "more work item")));
    }
    text.push_str("\n<details><summary>Where it comes from</summary>\n\n");
    for (name, value) in provenance(report) {
        put(&mut text, format_args!("- {name}: {}\n", code(&value)));
    }
    text.push_str("\n</details>\n");
    text
}

/// A failure that unfolds to its log.
fn failure(item: &WorkItem) -> String {
    let tail = &item.tail[item.tail.len().saturating_sub(LOG_LINES)..];
    let log = tail.join("\n");
    let fence = "`".repeat(longest_run(&log).max(2) + 1);
    let message = item.outcome.message().unwrap_or_default();
    let mut text =
        format!("\n<details><summary>failed: <code>{}</code></summary>\n\n{}\n", html(&item.id), code(&message));
    if !tail.is_empty() {
        put(&mut text, format_args!("\n{fence}text\n{log}\n{fence}\n"));
    }
    if let Some(log) = &item.log {
        put(&mut text, format_args!("\nlog: {}\n", code(log)));
    }
    text + "\n</details>\n"
}

/// A code span: nothing in it means anything, so nobody is mentioned and nothing is linked.
fn code(text: &str) -> String {
    let line: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    if line.trim().is_empty() {
        return "(none)".to_owned();
    }
    let ticks = "`".repeat(longest_run(&line) + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{line}{pad}{ticks}")
}

/// A table divides cells at every bar, even in code.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

/// Text inside of an HTML element of the Markdown; entities keep Markdown's own characters from meaning anything.
fn html(text: &str) -> String {
    let mut html = String::new();
    for character in text.chars() {
        match character {
            control if control.is_control() => html.push(' '),
            plain if plain.is_alphanumeric() || plain == ' ' => html.push(plain),
            other => put(&mut html, format_args!("&#{};", u32::from(other))),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::tests::{HOSTILE, sample};

    #[test]
    fn it_begins_with_what_came_of_it() {
        let text = render(&sample());
        assert!(text.starts_with("### ❌ dvc-fanout: 1 of 4 work items succeeded, 1 failed, 1 skipped"), "{text}");
        assert!(text.contains("| `extract` | 3 | 1 ran, 3 failed | `dep raw/${item}.txt` |"), "{text}");
    }

    #[test]
    fn hostile_names_and_logs_stay_text() {
        let text = render(&sample());
        assert!(text.contains("\n````text\n```\n</script>"), "the fence is longer than any in the log: {text}");
        assert!(text.contains("<code>&#60;&#47;script&#62;&#60;img src&#61;x"), "{text}");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`a"), "`` `a ``");
        assert_eq!(cell(&code(HOSTILE)), "``</script><img src=x onerror=alert(1)>\"'&\\|`]]> ``");
        assert_eq!(html("@user *x*\n"), "&#64;user &#42;x&#42; ");
    }

    #[test]
    fn ten_thousand_failures_still_fit_into_a_comment() {
        let mut report = sample();
        let mut failed = report.work_items.remove(1);
        failed.tail = vec!["x".repeat(400); 40];
        report.work_items = vec![failed; 10_000];
        let text = render(&report);
        assert!(text.len() < 65_536, "{}", text.len());
        assert!(text.contains("more work items that failed"), "{}", &text[text.len() - 800..]);
    }
}
