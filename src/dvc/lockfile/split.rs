//! Finds the entries of a lock file.

use std::borrow::Cow;

use indexmap::IndexMap;
use indexmap::map::Entry;

use super::block::{self, Empty, Event, Position};
use super::scalar::{Scalar, Style};
use super::{Insertion, Lockfile, LockfileError, Span, foreign};

pub(super) fn split(text: &str) -> Result<Lockfile<'_>, LockfileError> {
    let mut splitter = Splitter::new(text);
    match block::read(text, |event, position| splitter.event(event, position)) {
        Ok(()) => splitter.finish(),
        Err(_) => foreign::split(text),
    }
}

/// Follows the sections of the file: `schema`, `datasets`, and the names under `stages`.
struct Splitter<'t> {
    text: &'t str,
    depth: usize,
    section: Section,
    schema: Option<bool>,
    insertion: Option<Insertion>,
    has_sections: bool,
    entries: IndexMap<Cow<'t, str>, Span>,
    error: Option<LockfileError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Schema,
    Stages,
    Datasets,
}

/// The depth of the sections' names.
const SECTIONS: usize = 1;
/// The depth of the stages' names.
const ENTRIES: usize = 2;

impl<'t> Splitter<'t> {
    fn new(text: &'t str) -> Self {
        Splitter {
            text,
            depth: 0,
            section: Section::Datasets,
            schema: None,
            insertion: None,
            has_sections: false,
            entries: IndexMap::new(),
            error: None,
        }
    }

    fn fail(&mut self, at: Position, what: impl Into<String>) {
        self.error.get_or_insert_with(|| LockfileError::new(at.line, what));
    }

    fn finish(self) -> Result<Lockfile<'t>, LockfileError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.schema {
            Some(true) => {}
            None if !self.has_sections => return Ok(Lockfile::empty(self.text)),
            None => return Err(LockfileError::new(1, "no `schema: '2.0'`: not a lock file of DVC 2 or later")),
            Some(false) => return Err(LockfileError::new(1, "`schema` is not the string '2.0'")),
        }
        let end = self.text.len();
        let insertion = self.insertion.unwrap_or(Insertion { at: end..end, prefix: "stages:\n" });
        Ok(Lockfile { text: self.text, entries: self.entries, insertion })
    }

    fn event(&mut self, event: Event<'t>, at: Position) {
        match event {
            Event::Open(_) => self.depth += 1,
            Event::Close => {
                self.depth -= 1;
                if self.section == Section::Stages
                    && self.depth == ENTRIES
                    && let Some((_, entry)) = self.entries.last_mut()
                {
                    entry.end = at.offset;
                }
                if self.section == Section::Stages && self.depth == SECTIONS {
                    self.insertion = Some(Insertion { at: at.line_start..at.line_start, prefix: "" });
                }
            }
            Event::Key(key) if self.depth == SECTIONS => self.section(&key, at),
            Event::Key(key) if self.depth == ENTRIES && self.section == Section::Stages => self.entry(&key, at),
            Event::Scalar(scalar) if self.depth == SECTIONS => match self.section {
                Section::Schema => {
                    let is_known = scalar.style != Style::Plain && scalar.text().as_deref() == Some("2.0");
                    self.schema = Some(is_known);
                }
                Section::Stages => self.fail(at, "`stages` is not a map"),
                Section::Datasets => {}
            },
            Event::Empty(empty) if self.depth == SECTIONS && self.section == Section::Stages => match empty {
                Empty::List => self.fail(at, "`stages` is not a map"),
                Empty::Null => self.insert_behind_colon(at.offset, at.offset),
                Empty::Map => self.insert_behind_colon(at.offset - 1, at.offset + 2),
            },
            Event::Scalar(_) | Event::Empty(_) if self.depth == ENTRIES && self.section == Section::Stages => {
                self.fail(at, "an entry is not a map");
            }
            Event::Key(_) | Event::Scalar(_) | Event::Empty(_) | Event::Anchor(..) => {}
        }
    }

    fn section(&mut self, key: &Scalar<'t>, at: Position) {
        self.has_sections = true;
        self.section = match key.raw {
            "schema" => Section::Schema,
            "stages" => Section::Stages,
            "datasets" => Section::Datasets,
            name => return self.fail(at, format!("`{name}` does not belong into a lock file")),
        };
        if self.section == Section::Stages && self.insertion.is_some() {
            self.fail(at, "`stages` appears twice");
        }
    }

    fn entry(&mut self, key: &Scalar<'t>, at: Position) {
        let Some(name) = key.text() else {
            return self.fail(at, "an escape that YAML does not know");
        };
        match self.entries.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(Span { line: at.line, start: at.line_start, end: at.line_start });
            }
            Entry::Occupied(occupied) => {
                let what = format!("stage `{}` appears twice", occupied.key());
                self.fail(at, what);
            }
        }
    }

    /// Makes new entries replace what stands behind `stages:`, up to the next line.
    fn insert_behind_colon(&mut self, start: usize, end: usize) {
        let next = (end + 1).min(self.text.len());
        self.insertion = Some(Insertion { at: start..next, prefix: "\n" });
    }
}
