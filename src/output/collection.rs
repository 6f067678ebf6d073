//! What `collect` says: to people the conflicts with all that proves them, to programs the same as one document.

use serde_json::{Value, json};

use super::text::{self, count};
use crate::diagnostic::Diagnostic;
use crate::dvc::lockfile::conflict::{Conflict, Difference, Subject};
use crate::exit::Exit;
use crate::model::collection::Collection;

/// The version of the document.
const VERSION: u32 = 1;
/// Conflicts that are shown in full; of the rest only the places are.
const SHOWN_IN_FULL: usize = 10;
/// Lines of a diff that are shown.
const DIFF_LINES: usize = 40;
/// Characters of a value that are shown; digests need 12.
const VALUE_LENGTH: usize = 60;

/// Prints what was collected, and what was rejected.
pub(crate) fn print(collection: &Collection) {
    print_refused(collection);
    print_contested(collection);
    for path in &collection.left_alone {
        text::note(&format!("left alone: `{path}` changed after an earlier collect was interrupted"));
    }
    let verb = if collection.dry_run { "would collect" } else { "collected" };
    let (stages, files) = (count(collection.stages.len(), "stage"), count(collection.files.len(), "file"));
    let pending = match collection.pending {
        0 => String::new(),
        number => format!("; {} without a result", count(number, "work item")),
    };
    if collection.stages.is_empty() && collection.files.is_empty() {
        text::note(&format!("nothing new to collect from run {}{pending}", collection.run));
    } else {
        text::note(&format!("{verb} {stages} and {files} of run {}{pending}", collection.run));
    }
    if collection.dry_run {
        for line in collection.stages.iter().chain(&collection.files) {
            text::result(line);
        }
    }
}

/// Says which results were not believed, and which files of the others may not come; both stay where they are.
pub(crate) fn print_refused(collection: &Collection) {
    for rejected in &collection.rejected {
        text::note(&format!(
            "rejected: work item {} (`{}`), attempt {}: {}",
            rejected.index, rejected.id, rejected.attempt, rejected.reason
        ));
        let place = format!(".dvc/fanout/runs/{}/results/{}/{}", collection.run, rejected.index, rejected.attempt);
        let rest =
            if rejected.is_replaced { "another attempt counts" } else { "the next `dvc-fanout run` makes it anew" };
        text::note(&format!("  what it brought stays in `{place}`; {rest}"));
    }
    for left in &collection.left_out {
        text::note(&format!(
            "rejected: a file of work item {} (`{}`), attempt {}: {left}",
            left.index, left.id, left.attempt
        ));
        if let Some(target) = &left.target {
            text::note(&format!("  all else was collected; make it with `ln -s {target} {}`", left.path));
        } else if let Some(content) = &left.content {
            text::note(&format!("  all else was collected; take the file with `cp {content} {}`", left.path));
        }
    }
}

/// Says which files are only one work item's though several wrote them.
pub(crate) fn print_contested(collection: &Collection) {
    for path in &collection.contested {
        text::note(&format!(
            "several work items wrote `{path}`, which no stage declares: it is as the last of them left it"
        ));
    }
}

/// Renders the document.
pub(crate) fn document(collection: &Collection) -> String {
    let rejected = |rejected: &crate::model::collection::Rejected| {
        json!({
            "index": rejected.index, "id": rejected.id, "attempt": rejected.attempt, "reason": rejected.reason,
            "replaced": rejected.is_replaced,
        })
    };
    let left_out = |left: &crate::model::collection::LeftOut| {
        json!({
            "index": left.index, "id": left.id, "attempt": left.attempt, "path": left.path, "reason": left.why,
            "content": left.content, "target": left.target,
        })
    };
    json!({
        "version": VERSION,
        "run": collection.run,
        "dry_run": collection.dry_run,
        "stages": collection.stages,
        "files": collection.files,
        "conflicts": collection.conflicts.iter().map(conflict_document).collect::<Vec<_>>(),
        "contested": collection.contested,
        "rejected": collection.rejected.iter().map(rejected).collect::<Vec<_>>(),
        "left_out": collection.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "left_alone": collection.left_alone,
        "pending": collection.pending,
    })
    .to_string()
}

fn conflict_document(conflict: &Conflict) -> Value {
    let (kind, name) = match &conflict.subject {
        Subject::Stage(address) => ("stage", address),
        Subject::File(path) => ("file", path),
    };
    let difference = |difference: &Difference| {
        json!({
            "field": difference.field, "base": difference.base, "ours": difference.ours, "theirs": difference.theirs,
        })
    };
    json!({
        kind: name,
        "kind": kind,
        "path": conflict.place.path,
        "line": conflict.place.line,
        "differences": conflict.differences.iter().map(difference).collect::<Vec<_>>(),
        "diff": conflict.diff,
        "reason": conflict.reason.id(),
        "cause": conflict.reason.text(),
    })
}

/// The error that ends a `collect` with conflicts.
pub(crate) fn conflicts(collection: &Collection) -> Diagnostic {
    let conflicts = &collection.conflicts;
    let message = match &conflicts[..] {
        [only] => title(only),
        several => format!("{} between the project and the results", count(several.len(), "conflict")),
    };
    let mut diagnostic = Diagnostic::new(Exit::Conflicts, message).detail("nothing was written");
    if let [only] = &conflicts[..] {
        diagnostic = diagnostic.at(only.place.clone());
    }
    for (number, conflict) in conflicts.iter().enumerate() {
        if conflicts.len() > 1 {
            diagnostic = diagnostic.detail(format!("{}: {}", conflict.place, title(conflict)));
        }
        if number < SHOWN_IN_FULL {
            diagnostic = facts(conflict).into_iter().fold(diagnostic, Diagnostic::detail);
        }
    }
    let mut reasons: Vec<_> = conflicts.iter().map(|conflict| conflict.reason).collect();
    reasons.dedup();
    reasons.iter().fold(diagnostic, |diagnostic, reason| diagnostic.cause(reason.text())).hint(
        "run `dvc-fanout plan` again, or decide with `--ours` (keep the project's), `--theirs` (take the results') or \
         `--only ITEM` (collect the others)",
    )
}

fn title(conflict: &Conflict) -> String {
    match &conflict.subject {
        Subject::Stage(address) => format!("stage `{address}` changed on both sides"),
        Subject::File(path) => format!("file `{path}` changed on both sides"),
    }
}

/// The values of each side and the diff.
fn facts(conflict: &Conflict) -> Vec<String> {
    let mut lines: Vec<String> = conflict
        .differences
        .iter()
        .map(|difference| {
            let theirs: Vec<_> = difference.theirs.iter().map(|side| shown(side.as_deref())).collect();
            let (base, ours) = (shown(difference.base.as_deref()), shown(difference.ours.as_deref()));
            format!("{}: base {base}  ours {ours}  theirs {}", difference.field, theirs.join(", "))
        })
        .collect();
    let total = conflict.diff.lines().count();
    lines.extend(conflict.diff.lines().take(DIFF_LINES).map(|line| format!("  {line}")));
    if total > DIFF_LINES {
        lines.push(format!("  … {} more", count(total - DIFF_LINES, "line")));
    }
    lines
}

/// A value in short: a digest by its first twelve digits.
fn shown(value: Option<&str>) -> String {
    let Some(value) = value else { return "absent".to_owned() };
    let digits = value.strip_suffix(".dir").unwrap_or(value);
    if digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return digits[..12].to_owned();
    }
    let line = value.lines().next().unwrap_or_default();
    let short: String = line.chars().take(VALUE_LENGTH).collect();
    if short.len() < value.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;
    use crate::dvc::lockfile::conflict::Reason;

    fn collection() -> Collection {
        let side = |text: &str| Some(text.to_owned());
        let md5 = Difference {
            field: "outs o md5".into(),
            base: side("165487867dec165487867dec16548786"),
            ours: side("7c5aba41f5327c5aba41f5327c5aba41"),
            theirs: vec![None],
        };
        let conflict = Conflict {
            subject: Subject::Stage("extract@s00007".into()),
            place: Place { path: "pipelines/first/dvc.lock".into(), line: Some(12), column: None },
            differences: vec![md5],
            diff: "--- ours\n+++ theirs\n@@ -1 +1 @@\n-a\n+b\n".into(),
            reason: Reason::InputsMovedOn,
        };
        Collection { run: "r".into(), conflicts: vec![conflict], ..Collection::default() }
    }

    #[test]
    fn a_conflict_names_stage_place_values_diff_cause_and_next_step() {
        let text = text::render_error(&conflicts(&collection()));
        insta::assert_snapshot!(text, @r"
        error: stage `extract@s00007` changed on both sides
          --> pipelines/first/dvc.lock:12
          nothing was written
          outs o md5: base 165487867dec  ours 7c5aba41f532  theirs absent
            --- ours
            +++ theirs
            @@ -1 +1 @@
            -a
            +b
        cause: the project's lock file moved on after the plan was made: what went into the stage differs
        hint: run `dvc-fanout plan` again, or decide with `--ours` (keep the project's), `--theirs` (take the results') or `--only ITEM` (collect the others)
        ");
    }

    #[test]
    fn programs_get_the_same_in_full() {
        let document: Value = serde_json::from_str(&document(&collection())).expect("it is JSON");
        let conflict = &document["conflicts"][0];
        assert_eq!(conflict["stage"], "extract@s00007");
        assert_eq!((&conflict["path"], &conflict["line"]), (&json!("pipelines/first/dvc.lock"), &json!(12)));
        assert_eq!(conflict["differences"][0]["ours"], "7c5aba41f5327c5aba41f5327c5aba41");
        assert_eq!(conflict["differences"][0]["theirs"], json!([null]));
        assert_eq!(conflict["reason"], "inputs_moved_on");
    }
}
