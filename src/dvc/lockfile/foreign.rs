//! Finds the entries of a lock file that somebody else than DVC wrote, or edited.
//!
//! Flow style, block scalars, tags and any indentation inside an entry are fine: they stay bytes. In the way is what makes
//! an entry more than lines of its own, since those lines could not be moved or replaced: `stages` in flow style or
//! indented otherwise, merge keys beside entries, aliases to anchors outside of the entry.

use std::borrow::Cow;

use indexmap::IndexMap;

use super::{Insertion, Lockfile, LockfileError, Span, entry};
use crate::dvc::value::Value;
use crate::dvc::yaml::{self, Entry, Node, Position, YamlError};

pub(super) fn split(text: &str) -> Result<Lockfile<'_>, LockfileError> {
    let root = yaml::parse(text.as_bytes())?;
    let sections = root.as_map().ok_or_else(|| LockfileError::new(1, "not a map"))?;
    if sections.is_empty() {
        return Ok(Lockfile::empty(text));
    }
    for (name, section) in sections {
        if !matches!(name.as_str(), Some("schema" | "stages" | "datasets")) {
            let line = line_of(section.key_position);
            let name = name.as_str().unwrap_or("?");
            return Err(LockfileError::new(line, format!("`{name}` does not belong into a lock file")));
        }
    }
    match root.get("schema").map(|schema| &schema.node.value) {
        Some(yaml::NodeValue::Scalar(Value::Str(version))) if version == "2.0" => {}
        Some(_) => return Err(LockfileError::new(1, "`schema` is not the string '2.0'")),
        None => return Err(LockfileError::new(1, "no `schema: '2.0'`: not a lock file of DVC 2 or later")),
    }
    let lines = Lines::of(text);
    let Some(stages) = root.get("stages") else {
        let end = text.len();
        return Ok(Lockfile {
            text,
            entries: IndexMap::new(),
            insertion: Insertion { at: end..end, prefix: "stages:\n" },
        });
    };
    let starts: Vec<usize> = sections.values().map(|section| lines.start(section.key_position)).collect();
    let here = lines.start(stages.key_position);
    let end = starts.into_iter().filter(|start| *start > here).min().unwrap_or(text.len());
    let end = lines.document_end(here).map_or(end, |marker| marker.min(end));
    let entries = entries(text, &lines, &stages.node, end)?;
    if entries.is_empty() {
        let line = line_of(stages.key_position);
        return Err(LockfileError::new(line, "`stages` without entries, in a file that is not in DVC's own layout"));
    }
    Ok(Lockfile { text, entries, insertion: Insertion { at: end..end, prefix: "" } })
}

fn entries<'t>(
    text: &'t str,
    lines: &Lines<'_>,
    stages: &Node,
    end: usize,
) -> Result<IndexMap<Cow<'t, str>, Span>, LockfileError> {
    let Some(map) = stages.as_map() else {
        return Err(LockfileError::new(line_of(stages.position), "`stages` is not a map"));
    };
    let mut spans = IndexMap::with_capacity(map.len());
    let mut starts = Vec::with_capacity(map.len());
    for (name, Entry { key_position, .. }) in map {
        let line = line_of(*key_position);
        let start = lines.start(*key_position);
        let is_own_line = match lines.indentation(*key_position) {
            Some("  ") => true,
            Some(indentation) => indentation.starts_with("  ?") && indentation.trim() == "?",
            None => false,
        };
        if !is_own_line || starts.last().is_some_and(|last| *last >= start) {
            let name = name.as_str().unwrap_or("?");
            let what = format!("entry `{name}` of `stages` does not begin a line of its own, indented by two blanks");
            return Err(LockfileError::new(line, what));
        }
        starts.push(start);
    }
    for (at, (name, Entry { key_position, node })) in map.iter().enumerate() {
        let line = line_of(*key_position);
        let name = name.as_str().ok_or_else(|| LockfileError::new(line, "a stage's name is not a string"))?;
        let whole = &text[starts[at]..starts.get(at + 1).copied().unwrap_or(end)];
        let value = node.clone().into_value();
        if value.as_map().is_none_or(indexmap::IndexMap::is_empty) {
            return Err(LockfileError::new(line, "an entry is not a map"));
        }
        let means_the_same =
            |length: &usize| entry::value(name, &whole[..*length]).is_ok_and(|alone| is_alike(&alone, &value));
        let length = possible_lengths(whole).find(means_the_same).ok_or_else(|| {
            let what = format!("the lines of stage `{name}` mean something else without the rest of the file");
            LockfileError::new(line, what)
        })?;
        spans.insert(Cow::Owned(name.to_owned()), Span { line, start: starts[at], end: starts[at] + length });
    }
    Ok(spans)
}

/// Whether two values are equal, NaN being equal to itself.
fn is_alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) if a.is_nan() && b.is_nan() => true,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) | (Value::Set(a), Value::Set(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_alike(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let alike = |((key, value), (other, its)): ((&Value, &Value), (&Value, &Value))| {
                is_alike(key, other) && is_alike(value, its)
            };
            a.len() == b.len() && a.iter().zip(b.iter()).all(alike)
        }
        _ => a == b,
    }
}

/// The lengths that an entry's lines may have: without the blank lines and comments behind it, and with more and more
/// of them, since they may belong to a block scalar.
fn possible_lengths(lines: &str) -> impl Iterator<Item = usize> {
    let mut ends = vec![lines.len()];
    for line in lines.split_inclusive('\n').rev() {
        let is_content = !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let end = ends[ends.len() - 1];
        if is_content || end == line.len() {
            break;
        }
        ends.push(end - line.len());
    }
    ends.into_iter().rev()
}

fn line_of(position: Position) -> usize {
    position.line as usize
}

impl From<YamlError> for LockfileError {
    fn from(error: YamlError) -> Self {
        LockfileError::new(line_of(error.position), error.message)
    }
}

/// Where the lines begin, as `dvc::yaml` counts them.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let breaks = text.match_indices(['\n', '\r']);
        let breaks = breaks.filter(|(at, found)| *found != "\r" || !text[at + 1..].starts_with('\n'));
        let starts = std::iter::once(0).chain(breaks.map(|(at, found)| at + found.len())).collect();
        Lines { text, starts }
    }

    /// The offset of the line of a position.
    fn start(&self, position: Position) -> usize {
        self.starts.get(line_of(position) - 1).copied().unwrap_or(self.text.len())
    }

    /// What stands in front of a position on its line, as far as it is ASCII.
    fn indentation(&self, position: Position) -> Option<&'t str> {
        let start = self.start(position);
        self.text.get(start..start + position.column as usize - 1)
    }

    /// Where the document ends explicitly, after the line at an offset.
    fn document_end(&self, after: usize) -> Option<usize> {
        let is_marker = |start: &usize| {
            let rest = self.text[*start..].strip_prefix("...");
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        self.starts.iter().copied().filter(|start| *start > after).find(is_marker)
    }
}
