//! What became of a run, as its reports tell it: one tree that every format renders.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::{Difference, EndingKind, Moved, PhaseKind, StageState, Traffic, Usage};

/// Reasons that are shown of a template, the most frequent first.
const REASONS: usize = 5;
/// Characters of a line of a log that are kept.
const LINE_LENGTH: usize = 400;

/// A run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub run: String,
    /// The name of the project's folder.
    pub project: String,
    /// When the plan was made, RFC 3339.
    pub created: String,
    /// From the plan to the last thing that happened.
    pub seconds: f64,
    /// Whether it was finalized.
    pub ended: bool,
    /// Whether somebody is at work on it, or a cluster.
    pub is_on: bool,
    pub provenance: Provenance,
    pub phases: Vec<Phase>,
    /// The templates with stages in the plan: the address, and how many stages it has in the project.
    pub templates: Vec<(String, usize)>,
    /// In index order.
    pub work_items: Vec<WorkItem>,
}

/// Where results come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provenance {
    /// The version of this program that made the plan.
    pub program: String,
    /// The versions of DVC, that of the plan first.
    pub dvc: Vec<String>,
    /// The commit that was checked out.
    pub commit: Option<String>,
    /// The commit of the workspace as it was planned, uncommitted changes included.
    pub snapshot: Option<String>,
    /// As typed.
    pub targets: Vec<String>,
    pub engines: Vec<String>,
    /// The images of workers in a cluster.
    pub images: Vec<String>,
    pub hosts: Vec<String>,
    pub executors: Executors,
    /// What launcher and workers took from an object store and put into it, where there is one.
    pub traffic: Option<Traffic>,
    /// What launcher and workers moved between caches and the project's remote, and which way.
    pub moved: Moved,
}

/// What did the stages that had their turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Executors {
    /// How many stages this program did by itself.
    pub native: usize,
    /// How many stages DVC did, by the reason for it.
    pub dvc: BTreeMap<String, usize>,
    /// How many stages both did, to be compared.
    pub check: usize,
}

impl Executors {
    /// How many stages DVC did.
    pub(crate) fn by_dvc(&self) -> usize {
        self.dvc.values().sum()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub kind: PhaseKind,
    /// Whether `finalize` runs it.
    pub trailing: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct WorkItem {
    pub index: ItemIndex,
    pub id: String,
    pub phase: usize,
    pub stages: Vec<Stage>,
    pub outcome: Outcome,
    /// Whether an attempt is under way; its outcome is none yet.
    pub is_running: bool,
    /// In the order in which they began.
    pub attempts: Vec<Attempt>,
    /// The log of the attempt that counts.
    pub log: Option<String>,
    /// The end of that log, of failures alone.
    pub tail: Vec<String>,
    /// What the attempt that counts used of what it might use.
    pub used: Option<Usage>,
    /// What this program and DVC did differently, where both did it.
    pub difference: Option<Difference>,
}

impl WorkItem {
    /// The time that its attempts took together.
    pub(crate) fn seconds(&self) -> f64 {
        total(self.attempts.iter().map(|attempt| attempt.seconds))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed {
        failure: Failure,
        message: String,
    },
    /// Something that it needs has failed.
    Skipped {
        because: Vec<String>,
    },
    /// It was never tried, or was stopped and may go on.
    NotRun {
        message: Option<String>,
    },
}

impl Outcome {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed { .. } => "failed",
            Outcome::Skipped { .. } => "skipped",
            Outcome::NotRun { .. } => "not_run",
        }
    }

    /// Why it is what it is, where there is something to say.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Outcome::Succeeded => None,
            Outcome::Failed { message, .. } => Some(message.clone()),
            Outcome::Skipped { because } => Some(format!("{} failed", because.join(", "))),
            Outcome::NotRun { message } => message.clone(),
        }
    }
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Stage,
    Tool,
    TimedOut,
    /// The worker left no result, or none that can be believed.
    NoResult,
}

impl Failure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Failure::Stage => "stage_failed",
            Failure::Tool => "tool_failed",
            Failure::TimedOut => "timed_out",
            Failure::NoResult => "no_result",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub address: String,
    /// The template that it comes from, which is its address where it is written out.
    pub template: String,
    /// Why it was planned.
    pub reason: String,
    pub state: StageState,
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub number: AttemptNumber,
    /// `slot 3`, a pod's name, or a host.
    pub place: String,
    /// Seconds since the plan was made.
    pub begin: f64,
    pub seconds: f64,
    /// `None` where nobody saw it end: it runs, or the launcher was killed.
    pub end: Option<EndingKind>,
    pub message: Option<String>,
}

impl Attempt {
    /// Every way an attempt can stand, in the order in which they are shown.
    pub(crate) fn ends() -> impl Iterator<Item = Option<EndingKind>> {
        EndingKind::ALL.into_iter().map(Some).chain([None])
    }
}

/// The name of what an attempt came to.
pub(crate) fn end_name(end: Option<EndingKind>) -> &'static str {
    end.map_or("unfinished", EndingKind::name)
}

/// How many work items came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub succeeded: usize,
    pub failed: usize,
    pub skipped: usize,
    pub not_run: usize,
}

impl Counts {
    pub(crate) fn of<'a>(work_items: impl IntoIterator<Item = &'a WorkItem>) -> Counts {
        let mut counts = Counts::default();
        for item in work_items {
            match item.outcome {
                Outcome::Succeeded => counts.succeeded += 1,
                Outcome::Failed { .. } => counts.failed += 1,
                Outcome::Skipped { .. } => counts.skipped += 1,
                Outcome::NotRun { .. } => counts.not_run += 1,
            }
        }
        counts
    }

    pub(crate) fn total(self) -> usize {
        self.succeeded + self.failed + self.skipped + self.not_run
    }

    /// Each number with its name, in the order in which they are shown.
    pub(crate) fn named(self) -> [(&'static str, usize); 4] {
        [("succeeded", self.succeeded), ("failed", self.failed), ("skipped", self.skipped), ("not_run", self.not_run)]
    }
}

/// What became of the planned stages of one template.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template<'r> {
    pub address: &'r str,
    /// How many stages it has in the project.
    pub stages: usize,
    pub states: BTreeMap<StageState, usize>,
    /// Why its stages were planned, the most frequent reason first, each with how many stages.
    pub reasons: Vec<(String, usize)>,
    /// How many stages have yet other reasons.
    pub other_reasons: usize,
}

impl Template<'_> {
    /// Keeps the most frequent of all reasons.
    fn with_reasons(mut self, reasons: IndexMap<String, usize>) -> Self {
        self.reasons = reasons.into_iter().collect();
        self.reasons.sort_by_key(|(_, stages)| std::cmp::Reverse(*stages));
        self.other_reasons = self.reasons.iter().skip(REASONS).map(|(_, stages)| stages).sum();
        self.reasons.truncate(REASONS);
        self
    }
}

impl Report {
    pub(crate) fn counts(&self) -> Counts {
        Counts::of(&self.work_items)
    }

    /// How many work items are under way.
    pub(crate) fn running(&self) -> usize {
        self.work_items.iter().filter(|item| item.is_running).count()
    }

    /// The work items that failed, in index order.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &WorkItem> {
        self.work_items.iter().filter(|item| matches!(item.outcome, Outcome::Failed { .. }))
    }

    /// What part of the CPU time that was asked for was used, from 0 to 1; `None` where none was asked for.
    pub(crate) fn cpu_use(&self) -> Option<f64> {
        let asked = self.work_items.iter().filter_map(|item| item.used.as_ref()).filter_map(|used| {
            used.cpus
                .filter(|cpus| *cpus > 0.0 && used.seconds > 0.0)
                .map(|cpus| (used.cpu_seconds, cpus * used.seconds))
        });
        let (used, asked) = asked.fold((0.0, 0.0), |(used, all), (part, whole)| (used + part, all + whole));
        (asked > 0.0).then_some(used / asked)
    }

    /// The work item that used most of the memory that it might use, with that and the limit, in mebibytes.
    pub(crate) fn memory_use(&self) -> Option<(&WorkItem, u64, u64)> {
        let of = |item: &WorkItem| item.used.as_ref().and_then(|used| Some((used.memory_mib?, used.memory_limit_mib?)));
        let found = self.work_items.iter().filter_map(|item| of(item).map(|(used, limit)| (item, used, limit)));
        found.filter(|(_, _, limit)| *limit > 0).max_by_key(|(_, used, limit)| used * 1000 / limit)
    }

    /// The work items that took longest, the longest first.
    pub(crate) fn slowest(&self, number: usize) -> Vec<&WorkItem> {
        let mut items: Vec<&WorkItem> = self.work_items.iter().filter(|item| !item.attempts.is_empty()).collect();
        items.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()));
        items.truncate(number);
        items
    }

    /// The planned stages by template, in the order of the project.
    pub(crate) fn by_template(&self) -> Vec<Template<'_>> {
        let mut templates: IndexMap<&str, (Template<'_>, IndexMap<String, usize>)> = IndexMap::new();
        for (address, stages) in &self.templates {
            let template = Template { address, stages: *stages, ..Template::default() };
            templates.insert(address, (template, IndexMap::new()));
        }
        for stage in self.work_items.iter().flat_map(|item| &item.stages) {
            let (template, reasons) = templates
                .entry(&stage.template)
                .or_insert_with(|| (Template { address: &stage.template, ..Template::default() }, IndexMap::new()));
            *template.states.entry(stage.state).or_default() += 1;
            *reasons.entry(reason_of_template(stage)).or_default() += 1;
        }
        let planned = templates.into_values().filter(|(template, _)| !template.states.is_empty());
        planned.map(|(template, reasons)| template.with_reasons(reasons)).collect()
    }

    /// The lanes of the timeline: their names, and the lane of each attempt of each work item.
    ///
    /// A slot is a lane. Pods come and go; they share lanes such that no two overlap, as few as that takes.
    pub(crate) fn lanes(&self) -> (Vec<String>, Vec<Vec<usize>>) {
        let mut attempts: Vec<(usize, usize, &Attempt)> = vec![];
        for (item, work_item) in self.work_items.iter().enumerate() {
            attempts.extend(work_item.attempts.iter().enumerate().map(|(at, attempt)| (item, at, attempt)));
        }
        attempts.sort_by(|(_, _, a), (_, _, b)| a.begin.total_cmp(&b.begin));
        let mut slots: BTreeMap<usize, usize> = BTreeMap::new();
        let slot = |attempt: &Attempt| attempt.place.strip_prefix("slot ")?.parse::<usize>().ok();
        for (_, _, attempt) in &attempts {
            if let Some(slot) = slot(attempt) {
                slots.insert(slot, 0);
            }
        }
        for (lane, number) in slots.values_mut().enumerate() {
            *number = lane;
        }
        let mut names: Vec<String> = slots.keys().map(|slot| format!("slot {slot}")).collect();
        let mut free_from: Vec<f64> = vec![];
        let mut lanes: Vec<Vec<usize>> = self.work_items.iter().map(|item| vec![0; item.attempts.len()]).collect();
        for (item, at, attempt) in attempts {
            lanes[item][at] = if let Some(lane) = slot(attempt).and_then(|slot| slots.get(&slot)) {
                *lane
            } else {
                let free = free_from.iter().position(|free| *free <= attempt.begin).unwrap_or(free_from.len());
                if free == free_from.len() {
                    free_from.push(0.0);
                    names.push(format!("worker {free}"));
                }
                free_from[free] = attempt.begin + attempt.seconds;
                slots.len() + free
            };
        }
        (names, lanes)
    }
}

/// The sum of some times. That of none is 0, where the standard library's is -0.
pub(crate) fn total(seconds: impl Iterator<Item = f64>) -> f64 {
    seconds.fold(0.0, |sum, seconds| sum + seconds)
}

/// A stage's reason with its key left out, so that the stages of a template have it in common.
fn reason_of_template(stage: &Stage) -> String {
    let key = stage.address.strip_prefix(&stage.template).and_then(|rest| rest.strip_prefix('@'));
    // A key of one letter is in many words.
    key.filter(|key| key.len() > 1).map_or_else(|| stage.reason.clone(), |key| stage.reason.replace(key, "${item}"))
}

/// A line of a log as every format can show it: without escape sequences and control characters, and not too long.
pub(crate) fn plain(line: &str) -> String {
    // A progress bar draws over itself: what is left on the screen is what comes after the last return.
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::new();
    let mut characters = line.chars().peekable();
    let mut length = 0;
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                while characters.next_if(|next| !('@'..='~').contains(next)).is_some() {}
                characters.next();
            }
            continue;
        }
        if length == LINE_LENGTH {
            text.push('…');
            break;
        }
        match character {
            '\t' => text.push_str("    "),
            control if control.is_control() => text.push('\u{fffd}'),
            other => text.push(other),
        }
        length += 1;
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A name that breaks out of whatever does not escape it.
    pub(crate) const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'&|`]]>\u{1}";

    fn item(index: usize, id: &str, outcome: Outcome, attempts: Vec<Attempt>) -> WorkItem {
        let stage = Stage {
            address: format!("extract@{id}"),
            template: "extract".into(),
            reason: format!("dep raw/{id}.txt"),
            state: if outcome == Outcome::Succeeded { StageState::Ran } else { StageState::Failed },
        };
        WorkItem {
            index: ItemIndex::new(index),
            id: id.into(),
            phase: 0,
            stages: vec![stage],
            outcome,
            is_running: false,
            attempts,
            log: None,
            tail: vec![],
            used: None,
            difference: None,
        }
    }

    fn attempt(number: u32, place: &str, begin: f64, seconds: f64, end: EndingKind) -> Attempt {
        Attempt {
            number: AttemptNumber::new(number),
            place: place.into(),
            begin,
            seconds,
            end: Some(end),
            message: None,
        }
    }

    /// A run with one of everything, and a failed session whose name and log are hostile.
    pub(crate) fn sample() -> Report {
        let good = vec![
            attempt(1, "slot 1", 0.5, 1.0, EndingKind::ToolFailed),
            attempt(2, "slot 0", 2.5, 1.25, EndingKind::Succeeded),
        ];
        let bad = vec![attempt(1, "slot 0", 0.5, 2.0, EndingKind::Failed)];
        let failed = Outcome::Failed { failure: Failure::Stage, message: format!("it failed: {HOSTILE}") };
        let mut failed = item(1, HOSTILE, failed, bad);
        failed.log = Some("results/1/1.log".into());
        failed.tail = vec!["```".into(), HOSTILE.into(), "last line".into()];
        Report {
            run: "20240101-000000-abcd".into(),
            project: "sessions".into(),
            created: "2024-01-01T00:00:00.000Z".into(),
            seconds: 4.0,
            ended: true,
            is_on: false,
            provenance: Provenance {
                program: "0.1.0".into(),
                dvc: vec!["3.67.1".into()],
                commit: Some("0123456789abcdef0123456789abcdef01234567".into()),
                engines: vec!["local".into()],
                hosts: vec!["host".into()],
                executors: Executors { native: 1, dvc: BTreeMap::from([("it is an import".into(), 2)]), check: 0 },
                ..Provenance::default()
            },
            phases: vec![
                Phase { kind: PhaseKind::Map, trailing: false },
                Phase { kind: PhaseKind::Shared, trailing: true },
            ],
            templates: vec![("extract".into(), 3), ("summary".into(), 1)],
            work_items: vec![
                item(0, "s1", Outcome::Succeeded, good),
                failed,
                item(2, "s3", Outcome::NotRun { message: None }, vec![]),
                WorkItem { phase: 1, ..item(3, "summary", Outcome::Skipped { because: vec![HOSTILE.into()] }, vec![]) },
            ],
        }
    }

    #[test]
    fn a_template_has_the_reason_that_its_stages_have_in_common() {
        let report = sample();
        let templates = report.by_template();
        assert_eq!(templates.len(), 1, "a template without planned stages is left out");
        assert_eq!((templates[0].address, templates[0].stages), ("extract", 3));
        assert_eq!(templates[0].reasons, [("dep raw/${item}.txt".to_owned(), 4)]);
        assert_eq!(templates[0].states, BTreeMap::from([(StageState::Ran, 1), (StageState::Failed, 3)]));
    }

    #[test]
    fn slots_are_lanes_and_pods_share_them() {
        let (names, lanes) = sample().lanes();
        assert_eq!((names, lanes), (vec!["slot 0".into(), "slot 1".into()], vec![vec![1, 0], vec![0], vec![], vec![]]));
        let pod = |begin, seconds| vec![attempt(1, "pod-x", begin, seconds, EndingKind::Succeeded)];
        let items = [(0.0, 2.0), (1.0, 2.0), (2.0, 1.0)].map(|(begin, seconds)| pod(begin, seconds));
        let work_items = items.into_iter().map(|attempts| item(0, "a", Outcome::Succeeded, attempts)).collect();
        let (names, lanes) = Report { work_items, ..sample() }.lanes();
        assert_eq!((names, lanes), (vec!["worker 0".into(), "worker 1".into()], vec![vec![0], vec![1], vec![0]]));
    }

    #[test]
    fn what_was_used_is_held_against_what_was_asked_for() {
        let mut report = sample();
        assert_eq!((report.cpu_use(), report.memory_use().is_none()), (None, true));
        let used = |cpus, memory_mib| Usage {
            cpu_seconds: 2.0,
            seconds: 4.0,
            cpus: Some(cpus),
            memory_mib: Some(memory_mib),
            memory_limit_mib: Some(1000),
        };
        report.work_items[0].used = Some(used(1.0, 300));
        report.work_items[1].used = Some(used(3.0, 700));
        assert_eq!(report.cpu_use(), Some(0.25));
        assert_eq!(
            report.memory_use().map(|(item, used, limit)| (item.index.get(), used, limit)),
            Some((1, 700, 1000))
        );
    }

    #[test]
    fn counts_and_the_slowest() {
        let report = sample();
        assert_eq!(report.counts(), Counts { succeeded: 1, failed: 1, skipped: 1, not_run: 1 });
        assert_eq!(report.slowest(1)[0].id, "s1", "the time of all its attempts counts");
    }

    #[test]
    fn log_lines_are_made_plain() {
        assert_eq!(plain("\u{1b}[31;1mred\u{1b}[0m\tx\u{7}"), "red    x\u{fffd}");
        assert_eq!(plain(" 10%\r 99%\rdone\r"), "done");
        assert_eq!(plain(&"ä".repeat(500)).chars().count(), LINE_LENGTH + 1);
        assert_eq!(plain("cut \u{1b}"), "cut ");
    }
}
