//! What there is to say about a stage on which base, ours and theirs do not agree.

use indexmap::IndexMap;
use similar::TextDiff;

use super::entry;
use super::merge::EntryConflict;
use crate::diagnostic::Place;
use crate::dvc::value::Value;

/// A conflict as a person or a program reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conflict {
    pub subject: Subject,
    /// The entry in the project's lock file, the file alone where it has none; or the file that conflicts.
    pub place: Place,
    pub differences: Vec<Difference>,
    /// Unified, from ours to the first of theirs.
    pub diff: String,
    pub reason: Reason,
}

/// What the sides do not agree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A stage's lock entry, by the stage's address.
    Stage(String),
    /// A file that DVC does not cache, relative to the project's root.
    File(String),
}

/// A field of the entry that is not the same on all sides; `None` where a side does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Its section, path or params file and name, as in `deps raw/a.csv md5`.
    pub field: String,
    pub base: Option<String>,
    pub ours: Option<String>,
    pub theirs: Vec<Option<String>>,
}

/// Why the sides probably differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Ours ran with another command, other deps or other params.
    InputsMovedOn,
    /// Everything that went in is the same, only outs differ.
    NotDeterministic,
    /// Several work items, or attempts, made different entries of it.
    WorkersDisagree,
    /// The project dropped the entry.
    RemovedHere,
    /// The other side dropped the entry.
    RemovedThere,
    /// A file is not what the plan saw and not what the work item made of it.
    FileMovedOn,
    /// Work items made different things of a file that only one of them can have written.
    EditedDifferently,
}

impl Reason {
    /// Returns a fragment that can follow `cause:`.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Reason::InputsMovedOn => {
                "the project's lock file moved on after the plan was made: what went into the stage differs"
            }
            Reason::NotDeterministic => {
                "the stage ran on both sides with the same command, deps and params and made different outs: it is not deterministic"
            }
            Reason::WorkersDisagree => "several results hold different entries of the stage: two runs overlapped",
            Reason::RemovedHere => "the project's lock file lost the entry after the plan was made",
            Reason::FileMovedOn => "the file changed in the project after the plan was made",
            Reason::EditedDifferently => {
                "several work items edited it, and what they did cannot be united; the last one's version is shown"
            }
            Reason::RemovedThere => "the other side removed the entry that this side changed",
        }
    }

    /// Returns an identifier for programs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Reason::InputsMovedOn => "inputs_moved_on",
            Reason::NotDeterministic => "not_deterministic",
            Reason::WorkersDisagree => "workers_disagree",
            Reason::RemovedHere => "removed_here",
            Reason::RemovedThere => "removed_there",
            Reason::FileMovedOn => "file_moved_on",
            Reason::EditedDifferently => "edited_differently",
        }
    }
}

/// The fields of an entry as text; their order is the entry's.
type Fields = IndexMap<String, String>;

impl Conflict {
    /// Explains a conflict about the stage with this address.
    pub(crate) fn explain(address: &str, place: Place, conflict: &EntryConflict<'_>) -> Self {
        let read = |side: Option<&str>| side.map(|text| fields(conflict.stage, text));
        let base = read(conflict.base);
        let ours = read(conflict.ours);
        let theirs: Vec<Option<Fields>> = conflict.theirs.iter().map(|side| read(*side)).collect();
        let first = conflict.theirs.first().copied().flatten();
        let diff = TextDiff::from_lines(conflict.ours.unwrap_or_default(), first.unwrap_or_default())
            .unified_diff()
            .header("ours", "theirs")
            .to_string();
        Conflict {
            subject: Subject::Stage(address.to_owned()),
            place,
            differences: differences(base.as_ref(), ours.as_ref(), &theirs),
            diff,
            reason: reason(ours.as_ref(), &theirs),
        }
    }
}

fn reason(ours: Option<&Fields>, theirs: &[Option<Fields>]) -> Reason {
    match (ours, theirs) {
        (_, [_, _, ..]) => Reason::WorkersDisagree,
        (None, _) => Reason::RemovedHere,
        (Some(ours), [Some(theirs)]) => {
            let inputs = |fields: &Fields| -> Vec<(String, String)> {
                let is_input = |field: &str| !field.starts_with("outs ");
                fields.iter().filter(|(name, _)| is_input(name)).map(|(a, b)| (a.clone(), b.clone())).collect()
            };
            if inputs(ours) == inputs(theirs) { Reason::NotDeterministic } else { Reason::InputsMovedOn }
        }
        (Some(_), _) => Reason::RemovedThere,
    }
}

fn differences(base: Option<&Fields>, ours: Option<&Fields>, theirs: &[Option<Fields>]) -> Vec<Difference> {
    let get = |side: Option<&Fields>, field: &str| side.and_then(|fields| fields.get(field).cloned());
    let sides = [base, ours].into_iter().chain(theirs.iter().map(Option::as_ref)).flatten();
    let mut seen: IndexMap<&str, ()> = IndexMap::new();
    seen.extend(sides.flat_map(|fields| fields.keys().map(|field| (field.as_str(), ()))));
    seen.keys()
        .map(|field| Difference {
            field: (*field).to_owned(),
            base: get(base, field),
            ours: get(ours, field),
            theirs: theirs.iter().map(|side| get(side.as_ref(), field)).collect(),
        })
        .filter(|difference| difference.theirs.iter().any(|theirs| *theirs != difference.ours))
        .collect()
}

/// Flattens an entry; one that cannot be read is a single field.
fn fields(stage: &str, text: &str) -> Fields {
    let mut fields = Fields::new();
    let Ok(value) = entry::value(stage, text) else {
        fields.insert("entry".into(), text.into());
        return fields;
    };
    for (section, value) in value.as_map().into_iter().flatten() {
        let section = brief(section);
        match value {
            Value::List(items) if section != "cmd" => {
                for item in items {
                    item_fields(&section, item, &mut fields);
                }
            }
            Value::Map(files) => {
                for (file, values) in files.iter() {
                    for (key, value) in values.as_map().into_iter().flatten() {
                        fields.insert(format!("{section} {} {}", brief(file), brief(key)), brief(value));
                    }
                }
            }
            _ => {
                fields.insert(section, brief(value));
            }
        }
    }
    fields
}

/// A dep or out: each of its fields but the path and the name of the hash.
fn item_fields(section: &str, item: &Value, fields: &mut Fields) {
    let path = item.get("path").map(brief).unwrap_or_default();
    for (name, value) in item.as_map().into_iter().flatten() {
        let name = brief(name);
        if name != "path" && name != "hash" {
            fields.insert(format!("{section} {path} {name}"), brief(value));
        }
    }
}

/// A value on one line.
fn brief(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(brief).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::BigInt(text) | Value::Str(text) | Value::Date(text) => text.clone(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::List(items) | Value::Tuple(items) => format!("[{}]", list(items)),
        Value::Set(items) => format!("{{{}}}", list(items)),
        Value::Map(map) => {
            let pairs: Vec<_> = map.iter().map(|(key, value)| format!("{}: {}", brief(key), brief(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(alpha: &str, md5: &str) -> String {
        format!(
            "  a:\n    cmd: x\n    params:\n      p.yaml:\n        alpha: {alpha}\n    outs:\n    - path: o\n      hash: md5\n      md5: {md5}\n"
        )
    }

    fn explain(base: Option<&str>, ours: Option<&str>, theirs: &[Option<&str>]) -> Conflict {
        let conflict = EntryConflict { stage: "a", base, ours, theirs: theirs.to_vec() };
        Conflict::explain("sub/dvc.yaml:a", Place::at("sub/dvc.lock", 3, 3), &conflict)
    }

    #[test]
    fn each_differing_field_has_its_three_values() {
        let [base, ours, theirs] = [entry("1", "aa"), entry("2", "bb"), entry("3", "cc")];
        let conflict = explain(Some(&base), Some(&ours), &[Some(&theirs)]);
        let side = |text: &str| Some(text.to_owned());
        let alpha = Difference {
            field: "params p.yaml alpha".into(),
            base: side("1"),
            ours: side("2"),
            theirs: vec![side("3")],
        };
        let md5 =
            Difference { field: "outs o md5".into(), base: side("aa"), ours: side("bb"), theirs: vec![side("cc")] };
        assert_eq!(conflict.differences, [alpha, md5]);
        assert_eq!(conflict.reason, Reason::InputsMovedOn);
        assert!(conflict.diff.starts_with("--- ours\n+++ theirs\n@@ "), "{}", conflict.diff);
        assert!(conflict.diff.contains("-        alpha: 2\n+        alpha: 3\n"), "{}", conflict.diff);
    }

    #[test]
    fn the_reason_follows_from_what_differs() {
        let [one, two, three] = [entry("1", "aa"), entry("1", "bb"), entry("1", "cc")];
        assert_eq!(explain(Some(&one), Some(&two), &[Some(&three)]).reason, Reason::NotDeterministic);
        assert_eq!(explain(Some(&one), Some(&one), &[Some(&two), Some(&three)]).reason, Reason::WorkersDisagree);
        assert_eq!(explain(Some(&one), None, &[Some(&three)]).reason, Reason::RemovedHere);
        assert_eq!(explain(Some(&one), Some(&two), &[None]).reason, Reason::RemovedThere);
    }
}
