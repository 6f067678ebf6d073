//! Reports of a run in the forms that their readers take.
//!
//! | form | reader | module |
//! |---|---|---|
//! | text | a person at a terminal | `text` |
//! | JSON | programs, and the HTML page's script | `json` |
//! | JUnit XML | Jenkins and other CI systems | `junit` |
//! | Markdown | a pull request | `markdown` |
//! | HTML | a person with a browser, also without network | `html` |
//! | Prometheus text | monitoring | `prometheus` |
//!
//! Names of sessions and lines of logs may hold anything; each form escapes all of them.

mod html;
mod json;
mod junit;
mod markdown;
mod prometheus;
mod text;

pub(crate) use html::{Origin, write as html};
pub(crate) use json::write as json;
pub(crate) use junit::write as junit;
pub(crate) use markdown::render as markdown;
pub(crate) use prometheus::render as prometheus;
pub(crate) use text::render as text;

use crate::model::report::{Executors, Report, Template};
use crate::model::run::{StageState, Traffic};
use crate::output::text::{count, grouped, moved as data, size};

/// Appends to a text.
fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    std::fmt::Write::write_fmt(text, more).expect("a String takes every text");
}

/// Appends a line to a text.
fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    put(text, format_args!("{line}\n"));
}

/// What came of a run, in one line: "2 of 3 work items succeeded, 1 failed".
fn headline(report: &Report) -> String {
    let counts = report.counts();
    let total = counts.total();
    let mut line = if total == 0 {
        "nothing to do".to_owned()
    } else if counts.succeeded == total {
        format!("{} succeeded", count(total, "work item"))
    } else {
        format!("{} of {} succeeded", grouped(counts.succeeded), count(total, "work item"))
    };
    for (number, what) in [(counts.failed, "failed"), (counts.skipped, "skipped"), (counts.not_run, "not run")] {
        if number > 0 {
            put(&mut line, format_args!(", {} {what}", grouped(number)));
        }
    }
    line
}

/// What its stages came to: "3 ran, 1 failed".
fn states(template: &Template<'_>) -> String {
    let state =
        |(state, number): (&StageState, &usize)| format!("{} {}", grouped(*number), state.name().replace('_', " "));
    template.states.iter().map(state).collect::<Vec<_>>().join(", ")
}

/// Why its stages were planned: "dep raw/${item}.txt (3), new".
fn reasons(template: &Template<'_>, show: impl Fn(&str) -> String) -> String {
    let single = template.reasons.len() == 1 && template.other_reasons == 0;
    let reason = |(reason, stages): &(String, usize)| {
        if single { show(reason) } else { format!("{} ({})", show(reason), grouped(*stages)) }
    };
    let mut texts: Vec<String> = template.reasons.iter().map(reason).collect();
    if template.other_reasons > 0 {
        texts.push(format!("others ({})", grouped(template.other_reasons)));
    }
    texts.join(", ")
}

/// A length of time as people say it: "0.5 s", "2 min 05 s", "3 h 07 min".
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of a run")]
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// What was used of what was asked for.
fn used(report: &Report) -> String {
    let cpus = report.cpu_use().map(|part| format!("{:.0} % of the CPUs that were asked for", part * 100.0));
    let memory = report.memory_use().map(|(item, used, limit)| {
        format!("at most {} % of the memory ({}: {used} of {limit} MiB)", used * 100 / limit, item.id)
    });
    cpus.into_iter().chain(memory).collect::<Vec<_>>().join(", ")
}

/// Name and value of what says where results come from.
fn provenance(report: &Report) -> Vec<(&'static str, String)> {
    let from = &report.provenance;
    let hosts = match from.hosts.len() {
        0..=8 => from.hosts.join(", "),
        more => format!("{}, … ({})", from.hosts[..8].join(", "), grouped(more)),
    };
    let all = [
        ("run", report.run.clone()),
        ("planned", report.created.clone()),
        ("targets", from.targets.join(" ")),
        ("commit", from.commit.clone().unwrap_or_default()),
        ("snapshot", from.snapshot.clone().unwrap_or_default()),
        ("engine", from.engines.join(", ")),
        ("image", from.images.join(", ")),
        ("DVC", from.dvc.join(", ")),
        ("dvc-fanout", from.program.clone()),
        ("hosts", hosts),
        ("stages done by", executors(&from.executors)),
        ("done differently by DVC", differences(report)),
        ("used", used(report)),
        ("object store", traffic(report)),
        ("data", moved(report)),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The work items that DVC did differently, under the executor `check`, and where both sides are.
fn differences(report: &Report) -> String {
    let differing = report.work_items.iter().filter_map(|item| Some((item, item.difference.as_ref()?)));
    let texts: Vec<String> = differing.map(|(item, difference)| format!("{} ({})", item.id, difference.kept)).collect();
    match texts.len() {
        0..=8 => texts.join(", "),
        more => format!("{}, … ({})", texts[..8].join(", "), grouped(more)),
    }
}

/// What went over an object store: "62 requests (12.4 a work item), 1.5 MB sent, 0.3 MB received"; nothing without one.
fn traffic(report: &Report) -> String {
    let Some(Traffic { requests, sent, received }) = report.provenance.traffic else { return String::new() };
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
    let each = requests as f64 / report.work_items.len().max(1) as f64;
    let requests = grouped(usize::try_from(requests).unwrap_or(usize::MAX));
    format!("{requests} requests ({each:.1} a work item), {} sent, {} received", size(sent), size(received))
}

/// What went between caches and the remote; nothing where all share a cache.
fn moved(report: &Report) -> String {
    let moved = &report.provenance.moved;
    if moved.is_nothing() { String::new() } else { data(moved) }
}

/// What did the stages: "3 dvc-fanout, 2 DVC (it is an import)"; nothing where no stage had its turn.
fn executors(executors: &Executors) -> String {
    let mut texts = vec![];
    if executors.native > 0 {
        texts.push(format!("{} dvc-fanout", grouped(executors.native)));
    }
    if executors.by_dvc() > 0 {
        let reasons: Vec<&str> = executors.dvc.keys().map(String::as_str).collect();
        texts.push(format!("{} DVC ({})", grouped(executors.by_dvc()), reasons.join("; ")));
    }
    if executors.check > 0 {
        texts.push(format!("{} both, compared", grouped(executors.check)));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::model::report::tests::sample;

    /// What a form writes.
    pub(super) fn written(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
        let mut bytes = vec![];
        write(&mut bytes).expect("memory takes it");
        String::from_utf8(bytes).expect("it is text")
    }

    #[test]
    fn the_headline_counts_what_there_is() {
        assert_eq!(headline(&sample()), "1 of 4 work items succeeded, 1 failed, 1 skipped, 1 not run");
        let mut report = sample();
        report.work_items.truncate(1);
        assert_eq!(headline(&report), "1 work item succeeded");
    }

    #[test]
    fn what_did_the_stages_is_said_with_its_reasons() {
        assert_eq!(executors(&sample().provenance.executors), "1 dvc-fanout, 2 DVC (it is an import)");
        assert_eq!(executors(&Executors::default()), "");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(
            [0.04, 9.4, 59.4, 125.0, 11_220.0].map(duration),
            ["0.0 s", "9.4 s", "59 s", "2 min 05 s", "3 h 07 min"]
        );
    }

    #[test]
    fn reasons_are_counted_where_there_are_several() {
        let report = sample();
        let template = &report.by_template()[0];
        assert_eq!(reasons(template, str::to_owned), "dep raw/${item}.txt");
        assert_eq!(states(template), "1 ran, 3 failed");
        let mut template = template.clone();
        template.other_reasons = 2;
        assert_eq!(reasons(&template, str::to_owned), "dep raw/${item}.txt (4), others (2)");
    }
}
