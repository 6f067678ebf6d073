//! A report as one HTML page that needs nothing else: no network, no other file.
//!
//! Summary, templates, failures and provenance are plain HTML, so they can be read where scripts are forbidden (as
//! Jenkins does for archived files). The timeline and the table of work items are drawn by `page.js` from the embedded
//! JSON: only the rows in sight exist, so ten thousand work items do not freeze the page.
//!
//! Names and logs reach the page in two ways: escaped here, or as JSON whose `<`, `>` and `&` are escaped, put into the
//! page as text. The content policy allows the one script of this release and nothing from elsewhere.
//!
//! The page of a run that is on stays up to date: as a file, it is opened anew every few seconds; from `report --serve`,
//! the script fetches it again, and logs besides, and what was filtered and chosen stays.

use std::io;

use sha2::{Digest as _, Sha256};

use super::{duration, headline, json, provenance, put, reasons, states};
use crate::model::report::{Counts, Report, WorkItem};
use crate::output::text::{count, grouped};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Templates that are shown; a stage that is written out is one as well.
const TEMPLATES: usize = 500;
/// Failures that are in the page as HTML; the table has all of them.
const FAILURES: usize = 50;
/// Work items that are named as the slowest.
const SLOWEST: usize = 10;

/// Seconds after which the page of a run that is on is opened anew, or fetched again.
const REFRESH: [u32; 2] = [5, 2];

/// Where a browser finds the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    File,
    /// A server that has the newest page and the logs.
    Server,
}

pub(crate) fn write(report: &Report, origin: Origin, to: &mut dyn io::Write) -> io::Result<()> {
    to.write_all(head(report, origin).as_bytes())?;
    json::write(report, &mut Embedding(to))?;
    write!(to, "</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

/// All of the page before the JSON.
fn head(report: &Report, origin: Origin) -> String {
    let [anew, again] = REFRESH;
    let (live, connect) = match origin {
        Origin::File => (String::new(), ""),
        Origin::Server => (format!(" data-live=\"{again}\""), "connect-src 'self'; "),
    };
    let refresh = match origin {
        Origin::File if report.is_on => format!("<meta http-equiv=\"refresh\" content=\"{anew}\">\n"),
        Origin::File | Origin::Server => String::new(),
    };
    let title = format!("{}: {}", report.project, headline(report));
    let mut page = String::new();
    put(
        &mut page,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\"{live}>\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         {connect}script-src 'sha256-{}'\">\n{refresh}<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
            base64(&Sha256::digest(SCRIPT)),
            escaped(&title)
        ),
    );
    put(&mut page, format_args!("<header>\n<h1>{}</h1>\n", escaped(&report.project)));
    let unfinished = match (report.ended, report.is_on) {
        (true, _) => "",
        (false, true) => "; the run is on",
        (false, false) => "; the run is not finalized",
    };
    put(
        &mut page,
        format_args!("<p>{}, in {}{unfinished}</p>\n", escaped(&headline(report)), duration(report.seconds)),
    );
    put(&mut page, format_args!("<ul class=\"counts\">"));
    let running = report.running();
    let counts = report.counts();
    let counts = Counts { not_run: counts.not_run - running.min(counts.not_run), ..counts };
    let running = (running > 0).then_some(("running", running));
    for (name, number) in running.into_iter().chain(counts.named()) {
        put(&mut page, format_args!("<li class=\"{name}\"><b>{}</b> {}</li>", grouped(number), name.replace('_', " ")));
    }
    put(&mut page, format_args!("</ul>\n</header>\n<main>\n"));
    put(
        &mut page,
        format_args!(
            "<section id=\"timeline\" hidden><h2>Timeline</h2><div class=\"scroll\"><canvas></canvas></div>\
         <p class=\"legend\"></p><p class=\"hint\" aria-live=\"polite\"></p></section>\n"
        ),
    );
    put(&mut page, format_args!("<div id=\"told\">{}{}</div>\n", templates(report), failures(report)));
    put(
        &mut page,
        format_args!(
            "<section id=\"items\" hidden><h2>Work items</h2>\n<p><input type=\"search\" placeholder=\"Filter by name, \
         stage or reason\" aria-label=\"Filter\"> <select aria-label=\"Outcome\"></select> <output></output> <span id=\"away\" hidden>no answer</span></p>\n\
         <div class=\"table\" role=\"table\" aria-label=\"Work items\"><div class=\"head\" role=\"row\"></div>\
         <div class=\"body\" tabindex=\"0\"><div class=\"rows\"></div></div></div>\n<div id=\"detail\"></div></section>\n"
        ),
    );
    put(&mut page, format_args!("<div id=\"sources\">{}{}</div>\n", slowest(report), sources(report)));
    put(&mut page, format_args!("</main>\n<script type=\"application/json\" id=\"data\">"));
    page
}

/// Why each template ran, and what its stages came to.
fn templates(report: &Report) -> String {
    let mut html = String::from(
        "<section><h2>Templates</h2><table>\n<tr><th>Template</th><th>Stages</th><th>Planned</th><th>Why</th></tr>\n",
    );
    let templates = report.by_template();
    for template in templates.iter().take(TEMPLATES) {
        let why = reasons(template, |reason| format!("<code>{}</code>", escaped(reason)));
        put(
            &mut html,
            format_args!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{why}</td></tr>\n",
                escaped(template.address),
                grouped(template.stages),
                states(template)
            ),
        );
    }
    html.push_str("</table>\n");
    if templates.len() > TEMPLATES {
        put(&mut html, format_args!("<p>… and {}.</p>\n", count(templates.len() - TEMPLATES, "more template")));
    }
    html + "</section>\n"
}

/// The failures with the ends of their logs; the first is unfolded.
fn failures(report: &Report) -> String {
    let failed = report.failures().count();
    if failed == 0 {
        return String::new();
    }
    let mut html = String::from("<section id=\"failures\"><h2>Failures</h2>\n");
    for (number, item) in report.failures().take(FAILURES).enumerate() {
        html.push_str(&failure(item, number == 0));
    }
    if failed > FAILURES {
        put(&mut html, format_args!("<p>… and {}.</p>\n", count(failed - FAILURES, "more work item")));
    }
    html + "</section>\n"
}

fn failure(item: &WorkItem, open: bool) -> String {
    let open = if open { " open" } else { "" };
    let message = escaped(&item.outcome.message().unwrap_or_default());
    let mut html = format!(
        "<details data-item=\"{}\"{open}><summary><b>{}</b> {message}</summary>",
        item.index,
        escaped(&item.id)
    );
    if !item.tail.is_empty() {
        put(&mut html, format_args!("<pre>{}</pre>", escaped(&item.tail.join("\n"))));
    }
    if let Some(log) = &item.log {
        put(&mut html, format_args!("<p>log: <code>{}</code></p>", escaped(log)));
    }
    html + "</details>\n"
}

fn slowest(report: &Report) -> String {
    let mut html =
        String::from("<section><h2>Slowest</h2><table>\n<tr><th>Work item</th><th>Time</th><th>Attempts</th></tr>\n");
    for item in report.slowest(SLOWEST) {
        let (id, attempts) = (escaped(&item.id), count(item.attempts.len(), "attempt"));
        put(
            &mut html,
            format_args!("<tr><td>{id}</td><td>{}</td><td>{attempts}</td></tr>\n", duration(item.seconds())),
        );
    }
    html + "</table></section>\n"
}

/// Where results come from.
fn sources(report: &Report) -> String {
    let mut html = String::from("<section><h2>Provenance</h2><dl>\n");
    for (name, value) in provenance(report) {
        put(&mut html, format_args!("<dt>{name}</dt><dd><code>{}</code></dd>\n", escaped(&value)));
    }
    html + "</dl></section>\n"
}

/// Text as it stands in an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' => html.push('\n'),
            control if control.is_control() => html.push('\u{fffd}'),
            other => html.push(other),
        }
    }
    html
}

/// JSON as it stands in a script element: nothing in it can end the element. Outside of strings it has none of these.
struct Embedding<'w>(&'w mut dyn io::Write);

impl io::Write for Embedding<'_> {
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        for part in json.split_inclusive(|byte| b"&<>".contains(byte)) {
            let (plain, end) = match part.split_last() {
                Some((b'&', plain)) => (plain, "\\u0026"),
                Some((b'<', plain)) => (plain, "\\u003c"),
                Some((b'>', plain)) => (plain, "\\u003e"),
                _ => (part, ""),
            };
            self.0.write_all(plain)?;
            self.0.write_all(end.as_bytes())?;
        }
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Base64 with padding, for the hash in the content policy.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let padding = digit > chunk.len();
            text.push(if padding { '=' } else { char::from(DIGITS[bits >> (18 - 6 * digit) & 63]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::tests::{HOSTILE, sample};
    use crate::output::report::tests::written;

    fn render(report: &Report, origin: Origin) -> String {
        written(|to| write(report, origin, to))
    }

    #[test]
    fn hostile_names_and_logs_cannot_leave_their_place() {
        let page = render(&sample(), Origin::File);
        assert!(!page.contains("<img"), "no name becomes an element");
        assert_eq!(page.matches("</script>").count(), 2, "only the page's own elements end");
        assert!(page.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;|`]]&gt;\u{fffd}"));
        let (_, rest) = page.split_once("id=\"data\">").expect("it has data");
        let (data, _) = rest.split_once("</script>").expect("it ends");
        let data: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
        assert_eq!(data["work_items"][1]["id"], HOSTILE);
    }

    #[test]
    fn of_very_many_templates_only_some_are_in_the_table() {
        let mut report = sample();
        let stage = report.work_items[0].stages[0].clone();
        report.work_items[0].stages = (0..TEMPLATES + 7)
            .map(|number| crate::model::report::Stage { template: format!("t{number}"), ..stage.clone() })
            .collect();
        let table = templates(&report);
        assert_eq!(table.matches("<tr>").count(), TEMPLATES + 1);
        assert!(table.contains("<p>… and 8 more templates.</p>"), "with that of the other work items");
    }

    #[test]
    fn the_page_of_a_run_that_is_on_stays_up_to_date() {
        let mut report = sample();
        report.is_on = true;
        report.work_items[2].is_running = true;
        let (file, served) = (render(&report, Origin::File), render(&report, Origin::Server));
        assert!(file.contains("http-equiv=\"refresh\" content=\"5\"") && !file.contains("data-live"));
        assert!(file.contains("<b>1</b> running</li>") && file.contains("<b>0</b> not run</li>"), "it counts once");
        assert!(served.contains("<html lang=\"en\" data-live=\"2\">") && !served.contains("\"refresh\""));
        assert!(served.contains("connect-src 'self'") && !file.contains("connect-src"));
        assert!(!render(&sample(), Origin::File).contains("\"refresh\""), "a run that has ended stays as it is");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = render(&sample(), Origin::File);
        for address in ["http:", "https:", "src=\"", "href=\"", "@import", "url("] {
            assert!(!page.contains(address), "{address}");
        }
    }

    #[test]
    fn base64_pads() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }
}
