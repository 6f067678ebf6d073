//! Lock files: `dvc.lock` as DVC wrote it, entry by entry as bytes.
//!
//! ```yaml
//! schema: '2.0'
//! stages:
//!   NAME:
//!     cmd: …
//!     deps: …
//! ```
//!
//! [`Lockfile::parse`] finds each entry's lines without changing them, [`EntryRef::parse`] says what an entry means,
//! and [`splice()`] puts entries that a worker's DVC wrote into a file without touching any other byte.

mod block;
pub(crate) mod conflict;
mod entry;
mod foreign;
mod foreign_style;
pub(crate) mod git_merge;
pub(crate) mod merge;
mod render;
mod scalar;
mod splice;
mod split;
mod usual;

use std::borrow::Cow;
use std::ops::Range;

use indexmap::IndexMap;

use crate::dvc::value::Value;
use crate::dvc::yaml;

pub(crate) use entry::{LockEntry, LockItem};
pub(crate) use foreign_style::foreign_style;
pub(crate) use render::{reads_back, render_entry, render_run};
pub(crate) use splice::{move_to_end, sole_entry, splice};

/// What is wrong with a lock file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct LockfileError {
    /// From 1, in the file (or, for bytes that were never in a file, in those bytes).
    pub line: usize,
    /// A lowercase fragment without a full stop.
    pub what: String,
}

impl LockfileError {
    fn new(line: usize, what: impl Into<String>) -> Self {
        LockfileError { line, what: what.into() }
    }
}

/// A lock file, split into its entries in file order.
#[derive(Debug)]
pub(crate) struct Lockfile<'t> {
    text: &'t str,
    entries: IndexMap<Cow<'t, str>, Span>,
    insertion: Insertion,
}

/// The lines of one entry, as byte offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// From 1.
    line: usize,
    start: usize,
    end: usize,
}

/// Where new entries go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Insertion {
    /// The offsets of what the new entries replace: nothing, or the `{}` of an empty `stages`.
    at: Range<usize>,
    /// What stands in front of them: the line `stages:` where the file has none.
    prefix: &'static str,
}

impl<'t> Lockfile<'t> {
    /// A file without entries, to which the first ones bring the header.
    fn empty(text: &str) -> Lockfile<'_> {
        let at = text.len()..text.len();
        Lockfile { text, entries: IndexMap::new(), insertion: Insertion { at, prefix: "schema: '2.0'\nstages:\n" } }
    }

    /// Splits a lock file; an empty text is a file without entries.
    ///
    /// A file that is not in DVC's own layout is understood as far as each entry has lines of its own, and refused with
    /// the line that is in the way otherwise.
    pub(crate) fn parse(text: &'t str) -> Result<Self, LockfileError> {
        split::split(text)
    }

    pub(crate) fn entry(&self, name: &str) -> Option<EntryRef<'_>> {
        let (_, name, span) = self.entries.get_full(name)?;
        Some(EntryRef { name, line: span.line, text: &self.text[span.start..span.end] })
    }

    /// The file without its entries: what else it holds, `datasets` above all.
    pub(crate) fn without_entries(&self) -> String {
        let mut rest = String::new();
        let mut seen = 0;
        let mut spans: Vec<&Span> = self.entries.values().collect();
        spans.sort_by_key(|span| span.start);
        for span in spans {
            let line = self.text[..span.start].rfind('\n').map_or(0, |end| end + 1);
            rest.push_str(&self.text[seen..line.max(seen)]);
            seen = span.end;
        }
        rest + &self.text[seen..]
    }

    /// The stages' names, in file order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(AsRef::as_ref)
    }
}

/// Reads a file of the run cache: an entry without its name; `None` where DVC would take it for damaged.
pub(crate) fn parse_run(text: &[u8]) -> Option<LockEntry> {
    entry::entry(&yaml::load(text).ok()?).ok()
}

/// One stage's entry in a lock file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryRef<'l> {
    name: &'l str,
    line: usize,
    text: &'l str,
}

impl<'l> EntryRef<'l> {
    /// An entry by its lines, outside of any file.
    pub(crate) fn of(name: &'l str, text: &'l str) -> Self {
        EntryRef { name, line: 1, text }
    }

    /// The entry's lines from its name on, as they stand in the file, without comments behind them.
    pub(crate) fn text(&self) -> &'l str {
        self.text
    }

    /// The line of its name, from 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Reads the entry as DVC does.
    pub(crate) fn parse(&self) -> Result<LockEntry, LockfileError> {
        let any = || entry::parse(self.name, self.text).map_err(|error| self.locate(error));
        usual::parse(self.name, self.text).map_or_else(any, Ok)
    }

    /// Reads what stands under its name, as Python would.
    pub(crate) fn value(&self) -> Result<Value, LockfileError> {
        entry::value(self.name, self.text).map_err(|error| self.locate(error))
    }

    /// Turns a line of the entry's own text into one of the file.
    fn locate(&self, error: LockfileError) -> LockfileError {
        LockfileError { line: error.line + self.line - 1, ..error }
    }
}

#[cfg(test)]
mod tests;
