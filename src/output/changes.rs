//! What changed and why: the lines for people and the members of a stage in JSON.
//!
//! ```text
//! train@a: runs
//!   dep data/a.csv: md5 1f3870be → 9e107d9d, 12 → 14 bytes
//!   params params.yaml: lr: 0.1 → 0.2
//! report: may run
//!   upstream train@a
//! 3 stages run, 1 stage may run, 12 stages are unchanged
//! ```

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use similar::{ChangeTag, TextDiff};

use super::text::count;
use super::value_json::ValueJson;
use crate::dvc::changed::{
    DataChange, Expected, Forecast, Observation, Outlook, ParamChange, ParamsFileChange, Reason,
};
use crate::dvc::hash::Hashed;
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::dvc::value::Value;

/// The number of upstream stages that are named.
const SHOWN: usize = 8;

/// What was found out about one stage.
#[derive(Clone, Copy)]
pub(crate) struct StageChanges<'a> {
    pub observation: &'a Observation,
    pub forecast: &'a Forecast,
}

/// The lines of a stage that is not unchanged; `addresses` names the stages of the project.
pub(crate) fn lines(address: &str, changes: StageChanges<'_>, addresses: &dyn Fn(StageIndex) -> String) -> Vec<String> {
    let verb = match &changes.forecast.outlook {
        Outlook::Unchanged => "is unchanged",
        Outlook::Restore(_) => "is restored from the cache",
        Outlook::Record => "is recorded without running",
        Outlook::Run => "runs",
        Outlook::MayRun => "may run",
    };
    let mut lines = vec![format!("{address}: {verb}")];
    let upstream = changes.forecast.upstream.iter().take(SHOWN).map(|stage| format!("upstream {}", addresses(*stage)));
    lines.extend(
        changes.observation.reasons.iter().flat_map(reason_lines).chain(upstream).map(|line| format!("  {line}")),
    );
    let more = changes.forecast.upstream.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("  upstream {}", count(more, "more stage")));
    }
    lines
}

/// The last line: how many stages will come to what.
pub(crate) fn summary<'a>(forecasts: impl Iterator<Item = &'a Forecast>) -> String {
    let mut counts = [0_usize; 5];
    for forecast in forecasts {
        let place = match &forecast.outlook {
            Outlook::Run => 0,
            Outlook::MayRun => 1,
            Outlook::Restore(_) => 2,
            Outlook::Record => 3,
            Outlook::Unchanged => 4,
        };
        counts[place] += 1;
    }
    let verbs = [
        ["runs", "run"],
        ["may run", "may run"],
        ["is restored from the cache", "are restored from the cache"],
        ["is recorded without running", "are recorded without running"],
        ["is unchanged", "are unchanged"],
    ];
    let parts = counts.into_iter().zip(verbs).filter(|(number, _)| *number > 0);
    let parts: Vec<String> =
        parts.map(|(number, verbs)| format!("{} {}", count(number, "stage"), verbs[usize::from(number > 1)])).collect();
    if parts.is_empty() { "no stages".to_owned() } else { parts.join(", ") }
}

/// Renders a reason; more than one line for a command, whose changed lines follow.
pub(crate) fn reason_lines(reason: &Reason) -> Vec<String> {
    let line = match reason {
        Reason::New => "never run: `dvc.lock` has no entry".to_owned(),
        Reason::Command { recorded, now } => return command_lines(recorded, now),
        Reason::Definition => "the `.dvc` file was edited".to_owned(),
        Reason::AlwaysChanged => "always changed".to_owned(),
        Reason::Callback => "always changed: a command without deps, params and outs".to_owned(),
        Reason::Dep { path, change } => format!("dep {path}: {}", data_text(change)),
        Reason::Elsewhere { path, said: Some(said) } => format!("dep {path}: {said}, says DVC"),
        Reason::Elsewhere { path, said: None } => format!("dep {path}: DVC has to look at it"),
        Reason::Out { path, change } => format!("out {path}: {}", data_text(change)),
        Reason::ParamsFile { path, change: ParamsFileChange::Deleted } => format!("params {path}: missing"),
        Reason::ParamsFile { path, change: ParamsFileChange::New } => format!("params {path}: nothing is recorded"),
        Reason::Param { path, key, change } => {
            let change = match change {
                ParamChange::New { now } => format!("new: {}", value_text(now)),
                ParamChange::Deleted { recorded: Some(recorded) } => format!("{} → missing", value_text(recorded)),
                ParamChange::Deleted { recorded: None } => "missing".to_owned(),
                ParamChange::Modified { recorded, now } => format!("{} → {}", value_text(recorded), value_text(now)),
            };
            format!("params {path}: {key}: {change}")
        }
    };
    vec![line]
}

fn data_text(change: &DataChange) -> String {
    match change {
        DataChange::Deleted { recorded: None } => "missing".to_owned(),
        DataChange::Deleted { recorded: Some(recorded) } => format!("missing, was md5 {}", short(&recorded.md5)),
        DataChange::NotInCache { recorded } => format!("md5 {} is not in the cache", short(&recorded.md5)),
        DataChange::Modified { recorded: None, now } => {
            format!("md5 {}, nothing is recorded", short(&now.oid().to_string()))
        }
        DataChange::Modified { recorded: Some(recorded), now } => {
            let size = match recorded.size {
                Some(size) if size != now.size() => format!(", {} → {} bytes", size, now.size()),
                Some(_) | None => format!(", {} bytes", now.size()),
            };
            format!("md5 {} → {}{size}", short(&recorded.md5), short(&now.oid().to_string()))
        }
    }
}

/// The first digits of a digest, and `.dir`.
fn short(md5: &str) -> String {
    let (digits, suffix) = md5.strip_suffix(".dir").map_or((md5, ""), |digits| (digits, ".dir"));
    format!("{}{suffix}", digits.get(..8).unwrap_or(digits))
}

fn value_text(value: &Value) -> String {
    serde_json::to_string(&ValueJson(value)).unwrap_or_default()
}

fn command_lines(recorded: &Value, now: &Value) -> Vec<String> {
    let (old, new) = (command_text(recorded), command_text(now));
    if old == new {
        return vec![format!("command: {} → {}", value_text(recorded), value_text(now))];
    }
    let mut lines = vec!["command:".to_owned()];
    for change in TextDiff::from_lines(&old, &new).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => continue,
        };
        lines.push(format!("  {sign} {}", change.value().trim_end_matches('\n')));
    }
    lines
}

/// A command as lines; what is no text as JSON.
fn command_text(cmd: &Value) -> String {
    match cmd {
        Value::Str(text) => text.clone(),
        Value::List(items) => items.iter().map(command_text).collect::<Vec<_>>().join("\n"),
        other => value_text(other),
    }
}

/// The word for an outlook in JSON.
pub(super) fn outlook_name(outlook: &Outlook) -> &'static str {
    match outlook {
        Outlook::Unchanged => "unchanged",
        Outlook::Restore(_) => "restore",
        Outlook::Record => "record",
        Outlook::Run => "run",
        Outlook::MayRun => "may_run",
    }
}

/// A stage's outlook, reasons and upstream in JSON.
pub(crate) fn json<'p>(
    changes: StageChanges<'_>,
    address: &dyn Fn(StageIndex) -> &'p str,
) -> serde_json::Map<String, serde_json::Value> {
    let StageChanges { observation, forecast } = changes;
    let reasons: Vec<_> = observation.reasons.iter().map(ReasonJson).collect();
    let upstream: Vec<&str> = forecast.upstream.iter().map(|stage| address(*stage)).collect();
    let members = [
        ("outlook", serde_json::to_value(outlook_name(&forecast.outlook))),
        ("reasons", serde_json::to_value(reasons)),
        ("upstream", serde_json::to_value(upstream)),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value.unwrap_or_default())).collect()
}

/// A reason in JSON: `kind`, then what it is about, then `recorded` and `now` where there are such.
pub(super) struct ReasonJson<'a>(pub &'a Reason);

impl Serialize for ReasonJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Reason::New => map.serialize_entry("kind", "new")?,
            Reason::Definition => map.serialize_entry("kind", "definition")?,
            Reason::AlwaysChanged => map.serialize_entry("kind", "always_changed")?,
            Reason::Callback => map.serialize_entry("kind", "callback")?,
            Reason::Command { recorded, now } => {
                map.serialize_entry("kind", "command")?;
                map.serialize_entry("recorded", &ValueJson(recorded))?;
                map.serialize_entry("now", &ValueJson(now))?;
            }
            Reason::Dep { path, change } | Reason::Out { path, change } => {
                map.serialize_entry("kind", if matches!(self.0, Reason::Dep { .. }) { "dep" } else { "out" })?;
                map.serialize_entry("path", path)?;
                data_members(&mut map, change)?;
            }
            Reason::Elsewhere { path, said } => {
                map.serialize_entry("kind", "dep")?;
                map.serialize_entry("path", path)?;
                map.serialize_entry("change", said.as_deref().unwrap_or("unknown"))?;
            }
            Reason::ParamsFile { path, change } => {
                map.serialize_entry("kind", "params_file")?;
                map.serialize_entry("path", path)?;
                let change = match change {
                    ParamsFileChange::Deleted => "deleted",
                    ParamsFileChange::New => "new",
                };
                map.serialize_entry("change", change)?;
            }
            Reason::Param { path, key, change } => {
                map.serialize_entry("kind", "param")?;
                map.serialize_entry("path", path)?;
                map.serialize_entry("key", key)?;
                param_members(&mut map, change)?;
            }
        }
        map.end()
    }
}

fn data_members<M: SerializeMap>(map: &mut M, change: &DataChange) -> Result<(), M::Error> {
    let (name, recorded, now) = match change {
        DataChange::Deleted { recorded } => ("deleted", recorded.as_ref(), None),
        DataChange::NotInCache { recorded } => ("not_in_cache", Some(recorded), None),
        DataChange::Modified { recorded, now } => ("modified", recorded.as_ref(), Some(now)),
    };
    map.serialize_entry("change", name)?;
    if let Some(recorded) = recorded {
        map.serialize_entry("recorded", &DataJson::recorded(recorded))?;
    }
    if let Some(now) = now {
        map.serialize_entry("now", &DataJson::found(now))?;
    }
    Ok(())
}

fn param_members<M: SerializeMap>(map: &mut M, change: &ParamChange) -> Result<(), M::Error> {
    let (name, recorded, now) = match change {
        ParamChange::New { now } => ("new", None, Some(now)),
        ParamChange::Deleted { recorded } => ("deleted", recorded.as_ref(), None),
        ParamChange::Modified { recorded, now } => ("modified", Some(recorded), Some(now)),
    };
    map.serialize_entry("change", name)?;
    if let Some(recorded) = recorded {
        map.serialize_entry("recorded", &ValueJson(recorded))?;
    }
    if let Some(now) = now {
        map.serialize_entry("now", &ValueJson(now))?;
    }
    Ok(())
}

/// A file or directory: `md5` ends in `.dir` for a directory.
#[derive(Serialize)]
struct DataJson {
    md5: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl DataJson {
    fn recorded(recorded: &Expected) -> Self {
        DataJson { md5: recorded.md5.clone(), size: recorded.size }
    }

    fn found(found: &Hashed) -> Self {
        DataJson { md5: found.oid().to_string(), size: Some(found.size()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvc::hash::{HashName, Md5};

    #[track_caller]
    fn check(reason: &Reason, expected: &[&str]) {
        assert_eq!(reason_lines(reason), expected);
    }

    #[test]
    fn reasons_say_what_was_and_what_is() {
        let md5 = Md5::of(b"");
        let now = Hashed::Directory { md5, size: 0, nfiles: 0 };
        let md5 = "d3b07384d113edec49eaa6238ad5ff00".to_owned();
        let recorded = Expected { name: HashName::Md5, md5, size: Some(4), is_exec: false };
        let modified = DataChange::Modified { recorded: Some(recorded.clone()), now };
        check(
            &Reason::Dep { path: "d".into(), change: modified },
            &["dep d: md5 d3b07384 → d41d8cd9.dir, 4 → 0 bytes"],
        );
        let gone = DataChange::NotInCache { recorded };
        check(&Reason::Out { path: "o".into(), change: gone }, &["out o: md5 d3b07384 is not in the cache"]);
        let change = ParamChange::Modified { recorded: Value::Float(0.1), now: Value::List(vec![Value::str("a")]) };
        check(
            &Reason::Param { path: "params.yaml".into(), key: "lr".into(), change },
            &["params params.yaml: lr: 0.1 → [\"a\"]"],
        );
    }

    #[test]
    fn a_changed_command_is_shown_line_by_line() {
        let list = |lines: &[&str]| Value::List(lines.iter().map(|line| Value::str(*line)).collect());
        let reason = Reason::Command { recorded: list(&["a", "b"]), now: list(&["a", "c"]) };
        check(&reason, &["command:", "  - b", "  + c"]);
        let reason = Reason::Command { recorded: Value::str("a"), now: list(&["a"]) };
        check(&reason, &["command: \"a\" → [\"a\"]"]);
    }

    #[test]
    fn the_summary_counts_what_comes_of_the_stages() {
        let forecast = |outlook| Forecast { outlook, upstream: vec![], run: None };
        let forecasts = [forecast(Outlook::Run), forecast(Outlook::Unchanged), forecast(Outlook::Run)];
        assert_eq!(summary(forecasts.iter()), "2 stages run, 1 stage is unchanged");
        assert_eq!(summary([].iter()), "no stages");
    }
}
