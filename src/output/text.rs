//! Text for people: results on stdout, everything else on stderr.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::model::run::{Moved, Traffic};

/// Prints a result to stdout, ending in one newline.
///
/// A reader that has gone away (`| head`) is no error.
pub(crate) fn result(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush()));
}

/// Prints a line to stdout as it is.
pub(crate) fn line(text: &str) {
    let _gone_is_fine = raw(format!("{text}\n").as_bytes());
}

/// Prints bytes to stdout as they are; returns whether the reader is still there.
pub(crate) fn raw(bytes: &[u8]) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).is_ok()
}

/// Prints a line for the user to stderr.
pub(crate) fn note(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Prints the one error that ends the program.
pub(crate) fn error(diagnostic: &Diagnostic) {
    drop(write!(std::io::stderr().lock(), "{}", render_error(diagnostic)));
}

/// Renders an error: what happened, where, the values that prove it, why, and what to do; ends in a newline.
pub(crate) fn render_error(diagnostic: &Diagnostic) -> String {
    let mut text = String::new();
    let lead = if diagnostic.exit == crate::exit::Exit::Internal { "internal error" } else { "error" };
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes every text");
    line(format_args!("{lead}: {}", diagnostic.message));
    if let Some(place) = &diagnostic.place {
        line(format_args!("  --> {place}"));
    }
    for detail in &diagnostic.detail {
        line(format_args!("  {detail}"));
    }
    for cause in &diagnostic.causes {
        line(format_args!("cause: {cause}"));
    }
    for hint in &diagnostic.hints {
        line(format_args!("hint: {hint}"));
    }
    text
}

/// Renders a count with its noun: "1 work item", "2 work items", "10,000 work items".
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Renders a number with a comma between groups of three digits.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Says what was moved between the cache and the remote, and which way: "3 objects moved without DVC (8 requests, 1.5 MB
/// sent, 12 B received), 1 object moved by DVC: it is at `ssh://`".
pub(crate) fn moved(moved: &Moved) -> String {
    let count = |objects: u64| count(usize::try_from(objects).unwrap_or(usize::MAX), "object");
    let Traffic { requests, sent, received } = moved.traffic;
    let by_server = || {
        let requests = grouped(usize::try_from(requests).unwrap_or(usize::MAX));
        format!(" ({requests} requests, {} sent, {} received)", size(sent), size(received))
    };
    let mut texts = vec![];
    if moved.native > 0 || requests > 0 {
        let how = if requests > 0 { by_server() } else { String::new() };
        texts.push(format!("{} moved without DVC{how}", count(moved.native)));
    }
    if moved.by_dvc > 0 {
        let why = moved.why.as_deref().map_or_else(String::new, |why| format!(": {why}"));
        texts.push(format!("{} moved by DVC{why}", count(moved.by_dvc)));
    }
    texts.join(", ")
}

/// Renders a number of bytes as people say it, in powers of 1,000: "512 B", "1.2 GB".
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits of it are shown")]
    let mut number = bytes as f64;
    let (mut unit, units) = ("B", ["kB", "MB", "GB", "TB", "PB"]);
    for larger in units {
        if number < 999.5 {
            break;
        }
        (number, unit) = (number / 1000.0, larger);
    }
    if unit == "B" || number >= 9.95 { format!("{number:.0} {unit}") } else { format!("{number:.1} {unit}") }
}

/// The first lines of two texts that are not the same, each up to so many characters.
pub(crate) fn first_difference(one: &str, other: &str, length: usize) -> (String, String) {
    let (one, other): (Vec<&str>, Vec<&str>) = (one.lines().collect(), other.lines().collect());
    let at = one.iter().zip(&other).position(|(one, other)| one != other).unwrap_or(one.len().min(other.len()));
    let line = |lines: &[&str]| lines.get(at).map_or("nothing more", |line| line.trim()).chars().take(length).collect();
    (line(&one), line(&other))
}

/// Renders stages, one a line; those of one foreach or matrix on one line with their number, unless `expand`ed.
pub(crate) fn stages(project: &Project, listed: &[StageIndex], cwd: &str, expand: bool) -> String {
    let mut lines: Vec<String> = vec![];
    let mut groups: HashMap<String, (usize, usize)> = HashMap::new();
    for &index in listed {
        let stage = &project.stages[index];
        let address = stage.address_from(&project.root, cwd);
        match &stage.generated {
            Some(generated) if !expand => {
                let group = address[..address.len() - generated.key.len() - 1].to_owned();
                let line = lines.len();
                let (_, keys) = groups.entry(group).or_insert_with(|| {
                    lines.push(String::new());
                    (line, 0)
                });
                *keys += 1;
            }
            _ => lines.push(address),
        }
    }
    for (group, (line, keys)) in groups {
        lines[line] = format!("{group} ({})", count(keys, "key"));
    }
    if lines.is_empty() { "no stages".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 999, 1_000, 9_960_000, 1_234_000_000, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "10 MB", "1.2 GB", "18447 PB"]);
    }

    #[test]
    fn counts_agree_with_their_noun() {
        assert_eq!(count(1, "work item"), "1 work item");
        assert_eq!(count(0, "work item"), "0 work items");
        assert_eq!(count(10_000, "work item"), "10,000 work items");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn an_error_answers_what_where_why_and_what_to_do() {
        let diagnostic = Diagnostic::project("stage `a` changed on both sides")
            .at(Place::at("dvc.lock", 12, 3))
            .detail("base 1  ours 2")
            .cause("it moved on")
            .hint("run `dvc-fanout plan` again");
        assert_eq!(
            render_error(&diagnostic),
            "error: stage `a` changed on both sides\n  --> dvc.lock:12:3\n  base 1  ours 2\ncause: it moved on\n\
             hint: run `dvc-fanout plan` again\n"
        );
    }
}
