//! How runs stand, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::model::numbers::AttemptNumber;
use crate::model::status::{ItemState, ItemStatus, RunState, RunStatus};
use crate::output::text::{count, grouped};

/// The version of the documents.
const VERSION: u32 = 1;
/// How many work items of a kind are named.
const NAMED: usize = 20;

/// Says how a work item stands if it is one of a kind.
type Describe = fn(&ItemStatus) -> Option<String>;

/// The number of work items in each state.
#[derive(Debug, Default)]
pub(super) struct Counts {
    waiting: usize,
    running: usize,
    done: usize,
    failed: usize,
    interrupted: usize,
    skipped: usize,
}

impl Counts {
    pub(super) fn of<'i>(items: impl Iterator<Item = &'i ItemStatus>) -> Counts {
        let mut counts = Counts::default();
        for item in items {
            *match item.state {
                ItemState::Waiting => &mut counts.waiting,
                ItemState::Running { .. } => &mut counts.running,
                ItemState::Done { .. } => &mut counts.done,
                ItemState::Failed { .. } => &mut counts.failed,
                ItemState::Interrupted { .. } => &mut counts.interrupted,
                ItemState::Skipped { .. } => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    fn named(&self) -> [(usize, &'static str); 6] {
        [
            (self.done, "done"),
            (self.running, "running"),
            (self.failed, "failed"),
            (self.interrupted, "interrupted"),
            (self.skipped, "skipped"),
            (self.waiting, "waiting"),
        ]
    }

    /// The work items that nothing more is done for.
    pub(super) fn ended(&self) -> usize {
        self.done + self.failed + self.skipped
    }

    /// Those that something is done for, or will be.
    pub(super) fn left(&self) -> usize {
        self.running + self.waiting
    }

    pub(super) fn text(&self) -> String {
        let some = self.named().into_iter().filter(|(number, _)| *number > 0);
        some.map(|(number, what)| format!("{} {what}", grouped(number))).collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> Value {
        self.named().into_iter().map(|(number, what)| (what.to_owned(), Value::from(number))).collect()
    }
}

/// Renders a run: its state, counts by phase, what runs, and last what failed, with the ends of the logs.
pub(crate) fn text(status: &RunStatus, all: bool) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes every text");
    line(format!("run {}: {}", status.run, state(&status.state)));
    if let RunState::Left { engine, .. } = &status.state {
        line(format!(
            "watch it with `dvc-fanout launch {0} --engine {engine}`, end it with `dvc-fanout cancel {0}`",
            status.run
        ));
    }
    if let Some(error) = &status.stopped {
        line(format!("the job that was to see to its end stopped: {error}"));
    }
    let counts = Counts::of(status.items.iter());
    line(format!("{}: {}", count(status.items.len(), "work item"), or_none(counts.text())));
    if status.phases.len() > 1 {
        for (number, phase) in status.phases.iter().enumerate() {
            let own = Counts::of(status.items.iter().filter(|item| item.phase == number));
            let when = if phase.trailing { " (at the end)" } else { "" };
            line(format!("  phase {number}{when}: {}: {}", count(phase.total, "work item"), or_none(own.text())));
        }
    }
    let kinds: [(bool, Describe); 5] = [
        (all, |item| matches!(item.state, ItemState::Done { .. }).then(|| format!("done{}", took(item)))),
        (all, |item| matches!(item.state, ItemState::Waiting).then(|| "waiting".to_owned())),
        (true, |item| match &item.state {
            ItemState::Running { attempt, place, since } => {
                Some(format!("running in {place} since {since}{}", again(*attempt)))
            }
            _ => None,
        }),
        (true, |item| match &item.state {
            ItemState::Interrupted { attempt } => Some(format!("interrupted{}", again(*attempt))),
            _ => None,
        }),
        (true, |item| match &item.state {
            ItemState::Skipped { because } => Some(format!("skipped because {} failed", because.join(", "))),
            _ => None,
        }),
    ];
    for (shown, describe) in kinds {
        let described = status.items.iter().filter_map(|item| Some((item, describe(item)?)));
        let described: Vec<_> = if shown { described.collect() } else { vec![] };
        let limit = if all { usize::MAX } else { NAMED };
        for (item, what) in described.iter().take(limit) {
            line(format!("{} [{}]: {what}", item.id, item.index));
        }
        if described.len() > limit {
            line(format!("… and {} more (--all lists them)", grouped(described.len() - limit)));
        }
    }
    for item in &status.items {
        if let ItemState::Failed { attempt, why, again: retried } = &item.state {
            let next =
                if *retried && status.state != RunState::Finalized { "; the next launch tries it again" } else { "" };
            line(format!("failed: {} [{}] ({why}){}{next}", item.id, item.index, again(*attempt)));
            for logged in &item.tail {
                line(format!("    {logged}"));
            }
            line(format!("  log: {}", item.log.as_deref().unwrap_or("none")));
        }
    }
    text
}

fn or_none(text: String) -> String {
    if text.is_empty() { "nothing to do".to_owned() } else { text }
}

fn again(attempt: AttemptNumber) -> String {
    if attempt > AttemptNumber::FIRST { format!(", attempt {attempt}") } else { String::new() }
}

fn took(item: &ItemStatus) -> String {
    item.seconds.map_or_else(String::new, |seconds| format!(" in {seconds:.1} s"))
}

pub(super) fn state(state: &RunState) -> String {
    match state {
        RunState::Planned => "planned, not launched".to_owned(),
        RunState::Running { engine, host, process } => format!("running ({engine}, process {process} on {host})"),
        RunState::Idle => "not running".to_owned(),
        RunState::Left { jobs, .. } => match &jobs[..] {
            [job] => format!("left to the cluster (Job {job} may still be running)"),
            jobs => format!("left to the cluster ({} Jobs may still be running)", jobs.len()),
        },
        RunState::Finalized => "finalized".to_owned(),
    }
}

/// Renders a run as one JSON document.
pub(crate) fn json(status: &RunStatus, queued: Option<&[String]>) -> String {
    let mut document = summary(status);
    let phases = status.phases.iter().enumerate().map(|(number, phase)| {
        let own = Counts::of(status.items.iter().filter(|item| item.phase == number));
        json!({"phase": number, "trailing": phase.trailing, "work_items": phase.total, "counts": own.json()})
    });
    document["phases"] = phases.collect();
    document["items"] = status.items.iter().map(item_json).collect();
    if let Some(queued) = queued {
        document["queued"] = queued.into();
    }
    document.to_string()
}

fn summary(status: &RunStatus) -> Value {
    let (name, launcher) = match &status.state {
        RunState::Planned => ("planned", Value::Null),
        RunState::Running { engine, host, process } => {
            ("running", json!({"engine": engine, "host": host, "process": process}))
        }
        RunState::Idle => ("idle", Value::Null),
        RunState::Left { .. } => ("left", Value::Null),
        RunState::Finalized => ("finalized", Value::Null),
    };
    let jobs: &[String] = if let RunState::Left { jobs, .. } = &status.state { jobs } else { &[] };
    json!({
        "version": VERSION, "run": status.run, "created": status.created, "state": name, "launcher": launcher, "jobs": jobs,
        "work_items": status.items.len(), "counts": Counts::of(status.items.iter()).json(), "stopped": status.stopped,
    })
}

fn item_json(item: &ItemStatus) -> Value {
    let mut document = json!({"index": item.index, "id": item.id, "phase": item.phase});
    let mut set = |name: &str, value: Value| document[name] = value;
    let name = match &item.state {
        ItemState::Waiting => "waiting",
        ItemState::Running { attempt, place, since } => {
            set("attempt", json!(attempt));
            set("place", json!(place));
            set("since", json!(since));
            "running"
        }
        ItemState::Done { attempt } => {
            set("attempt", json!(attempt));
            "done"
        }
        ItemState::Failed { attempt, why, again } => {
            set("attempt", json!(attempt));
            set("message", json!(why));
            set("again", json!(again));
            set("tail", json!(item.tail));
            "failed"
        }
        ItemState::Interrupted { attempt } => {
            set("attempt", json!(attempt));
            "interrupted"
        }
        ItemState::Skipped { because } => {
            set("because", json!(because));
            "skipped"
        }
    };
    set("standing", json!(name));
    set("seconds", json!(item.seconds));
    set("log", json!(item.log));
    document
}

/// Renders runs, one a line.
pub(crate) fn runs_text(runs: &[RunStatus]) -> String {
    if runs.is_empty() {
        return "no runs".to_owned();
    }
    let line = |status: &RunStatus| {
        let counts = or_none(Counts::of(status.items.iter()).text());
        format!("{}  {}: {counts}", status.run, state(&status.state))
    };
    runs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Renders runs as one JSON document.
pub(crate) fn runs_json(runs: &[RunStatus]) -> String {
    json!({"version": VERSION, "runs": runs.iter().map(summary).collect::<Vec<_>>()}).to_string()
}

/// Renders the runs that were removed as one JSON document.
pub(crate) fn pruned_json(removed: &[&String], dry_run: bool) -> String {
    json!({"version": VERSION, "removed": removed, "dry_run": dry_run}).to_string()
}
