//! Puts entries into a lock file as bytes.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::block::{self, Anchor, Event};
use super::{Lockfile, LockfileError};

/// Puts entries into a lock file, or into a new one, and leaves every other byte as it was, but for line ends: like DVC,
/// it writes `\n`.
///
/// Each entry is its name and its lines, as [`super::EntryRef::text`] returns them. A name that the file knows keeps
/// its place, a new one goes to the end of `stages`, in the given order. Then the `id001` anchors of the whole file are
/// numbered as DVC numbers them whenever it writes it (`ruamel.yaml`: `serializer.py`), since each worker's begin at 1.
pub(crate) fn splice(file: Option<&str>, entries: &[(&str, &str)]) -> Result<String, LockfileError> {
    let text = file.unwrap_or_default();
    if entries.is_empty() {
        return Ok(text.to_owned());
    }
    let mut given = HashMap::with_capacity(entries.len());
    for (name, lines) in entries {
        sole_entry(name, lines)?;
        if given.insert(*name, *lines).is_some() {
            return Err(LockfileError::new(1, format!("stage `{name}` is to be written twice")));
        }
    }
    let file = Lockfile::parse(text)?;
    let mut spliced = file.splice(entries, &given);
    if text.contains("\r\n") && spliced != text {
        spliced = spliced.replace("\r\n", "\n");
    }
    if spliced.contains("&id") { renumber(&spliced) } else { Ok(spliced) }
}

/// Moves entries that a lock file has to the end of `stages`, in the given order.
pub(crate) fn move_to_end(text: &str, names: &[&str]) -> Result<String, LockfileError> {
    let file = Lockfile::parse(text)?;
    let moved: Vec<(&str, &str)> = names.iter().filter_map(|name| Some((*name, file.entry(name)?.text()))).collect();
    let removed: Vec<(&str, &str)> = moved.iter().map(|(name, _)| (*name, "")).collect();
    let without = file.splice(&removed, &removed.iter().copied().collect());
    let without = Lockfile::parse(&without)?;
    Ok(without.splice(&moved, &moved.iter().copied().collect()))
}

/// Checks that lines are the entry of that name and nothing else, at the place of an entry.
pub(crate) fn sole_entry(name: &str, lines: &str) -> Result<(), LockfileError> {
    let document = format!("schema: '2.0'\nstages:\n{lines}");
    let file = Lockfile::parse(&document)
        .map_err(|error| LockfileError { line: error.line.saturating_sub(2).max(1), ..error })?;
    let is_entry = file.entry(name).is_some_and(|entry| entry.text() == lines);
    if is_entry { Ok(()) } else { Err(LockfileError::new(1, format!("not the entry of stage `{name}`"))) }
}

impl Lockfile<'_> {
    /// Replaces and adds lines, which need not be entries; empty ones remove an entry.
    pub(super) fn splice(&self, entries: &[(&str, &str)], given: &HashMap<&str, &str>) -> String {
        let growth: usize = entries.iter().map(|(_, lines)| lines.len()).sum();
        let mut out = String::with_capacity(self.text.len() + growth);
        let mut copied = 0;
        for (name, span) in &self.entries {
            if let Some(lines) = given.get(name.as_ref()) {
                out.push_str(&self.text[copied..span.start]);
                push_lines(&mut out, lines);
                copied = span.end;
            }
        }
        let mut new = entries.iter().filter(|(name, _)| !self.entries.contains_key(*name)).peekable();
        if new.peek().is_some() {
            out.push_str(&self.text[copied..self.insertion.at.start]);
            push_lines(&mut out, self.insertion.prefix);
            for (_, lines) in new {
                push_lines(&mut out, lines);
            }
            copied = self.insertion.at.end;
        }
        out.push_str(&self.text[copied..]);
        out
    }
}

/// Adds whole lines, whether or not the last ones had their line feed.
fn push_lines(out: &mut String, lines: &str) {
    if lines.is_empty() {
        return;
    }
    let ends_a_line = |text: &str| text.ends_with(['\n', '\r']);
    if !out.is_empty() && !ends_a_line(out) && !lines.starts_with('\n') {
        out.push('\n');
    }
    out.push_str(lines);
    if !ends_a_line(out) {
        out.push('\n');
    }
}

/// An object of an entry that an anchor names.
struct Named {
    /// The offsets of the name in the file: at its definition and its aliases.
    places: Vec<usize>,
    length: usize,
}

/// Numbers the anchors `id001`, `id002`, … in the order in which the objects are met for the second time.
pub(super) fn renumber(text: &str) -> Result<String, LockfileError> {
    let file = Lockfile::parse(text)?;
    let mut objects: Vec<Named> = Vec::new();
    let mut met_twice: Vec<usize> = Vec::new();
    for span in file.entries.values().filter(|span| text[span.start..span.end].contains("&id")) {
        let mut latest: HashMap<&str, usize> = HashMap::new();
        let mut failure = None;
        block::read(&text[span.start..span.end], |event, at| {
            let Event::Anchor(anchor, name) = event else { return };
            let place = span.start + at.offset + 1;
            if !is_generated(name) {
                return;
            }
            match (anchor, latest.get(name)) {
                (Anchor::Definition, _) => {
                    latest.insert(name, objects.len());
                    objects.push(Named { places: vec![place], length: name.len() });
                }
                (Anchor::Alias, Some(&object)) => {
                    objects[object].places.push(place);
                    if objects[object].places.len() == 2 {
                        met_twice.push(object);
                    }
                }
                (Anchor::Alias, None) => {
                    let line = span.line + at.line - 1;
                    failure.get_or_insert(LockfileError::new(line, format!("alias `*{name}` without its anchor")));
                }
            }
        })
        .map_err(|irregular| LockfileError::new(span.line + irregular.line - 1, irregular.what))?;
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    Ok(rename(text, &objects, &met_twice))
}

/// `id` and three digits or more, as the dumper makes them; other names are somebody's own and stay.
pub(super) fn is_generated(name: &str) -> bool {
    name.strip_prefix("id").is_some_and(|digits| digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn rename(text: &str, objects: &[Named], met_twice: &[usize]) -> String {
    // Nothing refers to the rest, but their names must not hide another's.
    let once = (0..objects.len()).filter(|object| objects[*object].places.len() < 2);
    let mut places: Vec<(usize, usize, usize)> = met_twice
        .iter()
        .copied()
        .chain(once)
        .enumerate()
        .flat_map(|(index, object)| {
            let object = &objects[object];
            object.places.iter().map(move |place| (*place, object.length, index + 1))
        })
        .collect();
    places.sort_unstable();
    let mut out = String::with_capacity(text.len() + places.len());
    let mut copied = 0;
    for (place, length, number) in places {
        out.push_str(&text[copied..place]);
        write!(out, "id{number:03}").expect("writing to a string cannot fail");
        copied = place + length;
    }
    out.push_str(&text[copied..]);
    out
}
