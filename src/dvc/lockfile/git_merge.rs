//! The merge of whole lock files, as git asks a merge driver for it.
//!
//! Entries are merged as `collect` merges them; an entry that one side removed is removed. An entry on which the sides
//! do not agree gets conflict markers around both versions, where ours has it. What stands in front of and behind the
//! entries is merged the same way, as two values of their own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::merge::{Contribution, EntryConflict, Merge, merge, merge_value};
use super::splice::renumber;
use super::{Lockfile, LockfileError};

/// What git gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GitMerge {
    pub text: String,
    /// The stages that have conflict markers.
    pub conflicts: Vec<String>,
}

/// Merges two versions of a lock file; `base` is empty where both branches made theirs.
///
/// Returns an error where a file cannot be split or what surrounds the entries differs; a merge by lines is left then.
pub(crate) fn merge_files(base: &str, ours: &str, theirs: &str, marker_size: usize) -> Result<GitMerge, LockfileError> {
    let [base, ours, theirs] = [Lockfile::parse(base)?, Lockfile::parse(ours)?, Lockfile::parse(theirs)?];
    let heads = [&base, &ours, &theirs].map(Lockfile::head);
    let head = merge_surroundings(&heads[0], &heads[1], &heads[2])?;
    let tail = merge_surroundings(base.tail(), ours.tail(), theirs.tail())?;
    let removed = base.names().filter(|name| theirs.entry(name).is_none());
    let contributions: Vec<_> = theirs
        .names()
        .chain(removed)
        .map(|stage| {
            let text = |file: &'_ Lockfile<'_>| file.entries.get(stage).map(|span| span.start..span.end);
            let [base_lines, their_lines] = [text(&base), text(&theirs)];
            Contribution {
                stage,
                base: base_lines.map(|lines| &base.text[lines]),
                theirs: their_lines.map(|lines| &theirs.text[lines]),
            }
        })
        .collect();
    let merged = merge(&ours, &contributions);
    let marked: Vec<_> =
        merged.conflicts.iter().map(|conflict| (conflict.stage, mark(conflict, marker_size))).collect();
    let changes = merged.changes.iter().map(|(stage, text)| (*stage, text.unwrap_or_default()));
    let changes: Vec<_> = changes.chain(marked.iter().map(|(stage, text)| (*stage, text.as_str()))).collect();
    let given: HashMap<_, _> = changes.iter().copied().collect();

    let spliced = ours.splice(&changes, &given);
    let is_untouched = ours.entries.is_empty() && changes.is_empty();
    let body = if is_untouched { "" } else { &spliced[heads[1].len()..spliced.len() - ours.tail().len()] };
    let head = match head.strip_suffix("stages:\n") {
        // DVC cannot write into a `stages` that is null.
        Some(above) if body.is_empty() => format!("{above}stages: {{}}\n"),
        _ => head.to_owned(),
    };
    let text = format!("{head}{body}{tail}");
    let conflicts: Vec<_> = merged.conflicts.iter().map(|conflict| conflict.stage.to_owned()).collect();
    let text = if conflicts.is_empty() { renumber(&text)? } else { text };
    Ok(GitMerge { text, conflicts })
}

fn merge_surroundings<'t>(base: &'t str, ours: &'t str, theirs: &'t str) -> Result<&'t str, LockfileError> {
    match merge_value(Some(base), Some(ours), &[Some(theirs)], |a, b| a == b) {
        Merge::Merged(text) => Ok(text.unwrap_or_default()),
        Merge::Conflicted { .. } => Err(LockfileError::new(1, "what surrounds the entries changed on both sides")),
    }
}

/// Both versions of an entry between conflict markers.
fn mark(conflict: &EntryConflict<'_>, size: usize) -> String {
    let theirs = conflict.theirs.first().copied().flatten().unwrap_or_default();
    let mut text = String::new();
    for (sign, label, lines) in
        [("<", " ours", conflict.ours.unwrap_or_default()), ("=", "", theirs), (">", " theirs", "")]
    {
        writeln!(text, "{}{label}", sign.repeat(size)).expect("a String takes every text");
        text.push_str(lines);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

impl<'t> Lockfile<'t> {
    /// The text in front of the first entry, with the line `stages:`; what a file without entries would have there.
    fn head(&self) -> Cow<'t, str> {
        match self.entries.first() {
            Some((_, first)) => self.text[..first.start].into(),
            None => format!("{}{}", &self.text[..self.insertion.at.start], self.insertion.prefix).into(),
        }
    }

    /// The text behind the section `stages`.
    fn tail(&self) -> &'t str {
        &self.text[self.insertion.at.end..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema: '2.0'\nstages:\n";

    fn entry(name: &str, cmd: &str) -> String {
        format!("  {name}:\n    cmd: {cmd}\n")
    }

    fn file(entries: &[(&str, &str)]) -> String {
        entries.iter().fold(HEAD.to_owned(), |text, (name, cmd)| text + &entry(name, cmd))
    }

    #[track_caller]
    fn check(base: &str, ours: &str, theirs: &str, expected: &str) {
        let merged = merge_files(base, ours, theirs, 7).expect("it can be merged");
        assert_eq!(merged, GitMerge { text: expected.to_owned(), conflicts: vec![] });
    }

    #[test]
    fn branches_that_ran_different_stages_merge() {
        let base = file(&[("a", "1"), ("b", "1")]);
        let ours = file(&[("a", "2"), ("b", "1"), ("c", "1")]);
        let theirs = file(&[("a", "1"), ("b", "2"), ("d", "1")]);
        check(&base, &ours, &theirs, &file(&[("a", "2"), ("b", "2"), ("c", "1"), ("d", "1")]));
        check(&base, &base, &theirs, &theirs);
        check(&base, &ours, &base, &ours);
        check(HEAD, "schema: '2.0'\nstages: {}\n", &file(&[("b", "1")]), &file(&[("b", "1")]));
        check("", "", &file(&[("b", "1")]), &file(&[("b", "1")]));
        check("", &file(&[("b", "1")]), "", &file(&[("b", "1")]));
        check("", &file(&[("a", "1")]), &file(&[("b", "1")]), &file(&[("a", "1"), ("b", "1")]));
    }

    #[test]
    fn an_entry_that_one_side_removed_is_removed() {
        let base = file(&[("a", "1"), ("b", "1")]);
        check(&base, &file(&[("a", "2"), ("b", "1")]), &file(&[("a", "1")]), &file(&[("a", "2")]));
        check(&base, &file(&[("a", "1")]), &file(&[("b", "1")]), "schema: '2.0'\nstages: {}\n");
    }

    #[test]
    fn markers_stand_around_just_the_entries_that_conflict() {
        let base = file(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let merged = merge_files(
            &base,
            &file(&[("a", "2"), ("b", "1"), ("c", "2")]),
            &file(&[("a", "3"), ("b", "2"), ("c", "1")]),
            9,
        )
        .expect("it can be merged");
        assert_eq!(merged.conflicts, ["a"]);
        let marked = format!("<<<<<<<<< ours\n{}=========\n{}>>>>>>>>> theirs\n", entry("a", "2"), entry("a", "3"));
        assert_eq!(merged.text, format!("{HEAD}{marked}{}{}", entry("b", "2"), entry("c", "2")));
    }

    #[test]
    fn removed_here_and_changed_there_is_a_conflict() {
        let base = file(&[("a", "1"), ("b", "1")]);
        let merged = merge_files(&base, &file(&[("b", "1")]), &file(&[("a", "2"), ("b", "1")]), 7).expect("merged");
        assert_eq!(merged.conflicts, ["a"]);
        assert!(merged.text.ends_with(&format!("<<<<<<< ours\n=======\n{}>>>>>>> theirs\n", entry("a", "2"))));
    }

    #[test]
    fn what_surrounds_the_entries_is_merged_too() {
        let tail = "datasets:\n- name: d\n";
        let base = file(&[("a", "1")]);
        check(&base, &file(&[("a", "2")]), &format!("{base}{tail}"), &format!("{}{tail}", file(&[("a", "2")])));
        let other = format!("{base}datasets:\n- name: e\n");
        assert!(merge_files(&base, &format!("{base}{tail}"), &other, 7).is_err());
    }

    #[test]
    fn anchors_are_numbered_over_the_result() {
        let shared = |name: &str, id: &str| {
            format!("  {name}:\n    cmd: c\n    params:\n      p.yaml:\n        a: &{id} []\n        b: *{id}\n")
        };
        let [ours, theirs] = ["a", "b"].map(|name| format!("{HEAD}{}", shared(name, "id001")));
        check(HEAD, &ours, &theirs, &format!("{HEAD}{}{}", shared("a", "id001"), shared("b", "id002")));
    }
}
