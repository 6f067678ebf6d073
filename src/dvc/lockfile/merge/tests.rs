use proptest::prelude::*;

use super::*;
use crate::dvc::lockfile::splice;

type Small = Option<char>;
const VALUES: [Small; 4] = [None, Some('a'), Some('b'), Some('c')];

fn three_way(base: Small, ours: Small, theirs: Small) -> Merge<char> {
    merge_value(base, ours, &[theirs], |a, b| a == b)
}

/// The same table, told by counting: a side that equals base gives way; otherwise all must agree.
fn oracle(base: Small, ours: Small, theirs: &[Small]) -> Option<Small> {
    let mut moved: Vec<Small> = theirs.iter().copied().chain([ours]).filter(|side| *side != base).collect();
    moved.sort_unstable();
    moved.dedup();
    match moved[..] {
        [] => Some(base),
        [only] => Some(only),
        _ => None,
    }
}

fn value(merge: &Merge<char>) -> Option<Small> {
    match merge {
        Merge::Merged(value) => Some(*value),
        Merge::Conflicted { .. } => None,
    }
}

fn all_cases() -> impl Iterator<Item = (Small, Small, Small)> {
    VALUES.into_iter().flat_map(|base| {
        VALUES.into_iter().flat_map(move |ours| VALUES.into_iter().map(move |theirs| (base, ours, theirs)))
    })
}

#[test]
fn every_case_is_the_tables() {
    for (base, ours, theirs) in all_cases() {
        let merged = three_way(base, ours, theirs);
        assert_eq!(value(&merged), oracle(base, ours, &[theirs]), "{base:?} {ours:?} {theirs:?}");
        if let Merge::Conflicted { base: b, ours: o, theirs: t } = merged {
            assert_eq!((b, o, t), (base, ours, vec![theirs]));
        }
    }
}

#[test]
fn merging_with_oneself_or_with_base_changes_nothing() {
    for (base, ours, _) in all_cases() {
        assert_eq!(three_way(base, ours, ours), Merge::Merged(ours));
        assert_eq!(three_way(base, ours, base), Merge::Merged(ours));
        assert_eq!(merge_value(base, ours, &[], |a, b| a == b), Merge::Merged(ours));
    }
}

#[test]
fn ours_and_theirs_may_be_swapped() {
    for (base, ours, theirs) in all_cases() {
        assert_eq!(value(&three_way(base, ours, theirs)), value(&three_way(base, theirs, ours)));
    }
}

#[test]
fn collecting_twice_is_collecting_once() {
    for (base, ours, theirs) in all_cases() {
        if let Merge::Merged(merged) = three_way(base, ours, theirs) {
            assert_eq!(three_way(base, merged, theirs), Merge::Merged(merged));
        }
    }
}

/// Lock files over a few stages, each with one of a few commands.
fn lock(cmds: &[Small]) -> String {
    let names = ["one", "two: x", "three@s00007", "four"];
    let entries: Vec<_> = cmds
        .iter()
        .zip(names)
        .filter_map(|(cmd, name)| {
            let key = if name.contains(": ") { format!("'{name}'") } else { name.to_owned() };
            cmd.map(|cmd| (name, format!("  {key}:\n    cmd: {cmd}\n")))
        })
        .collect();
    let entries: Vec<_> = entries.iter().map(|(name, text)| (*name, text.as_str())).collect();
    splice(None, &entries).expect("the entries are whole")
}

fn contributions<'t>(base: &'t Lockfile<'_>, workers: &[&'t Lockfile<'_>]) -> Vec<Contribution<'t>> {
    let text = |file: &'t Lockfile<'_>, name: &str| file.entry(name).map(|entry| entry.text());
    let stages = workers.iter().flat_map(|worker| worker.names().map(move |stage| (*worker, stage)));
    stages.map(|(worker, stage)| Contribution { stage, base: text(base, stage), theirs: text(worker, stage) }).collect()
}

fn meaning(text: &str) -> Vec<(String, String)> {
    let file = Lockfile::parse(text).expect("it was spliced");
    let mut entries: Vec<_> =
        file.names().map(|name| (name.to_owned(), file.entry(name).expect("named").text().to_owned())).collect();
    entries.sort();
    entries
}

fn small() -> impl Strategy<Value = Small> {
    prop::sample::select(VALUES.to_vec())
}

proptest! {
    #[test]
    fn any_order_of_any_number_of_workers_gives_one_result(
        base in small(), ours in small(), theirs in prop::collection::vec(small(), 0..6), rotate in 0usize..6,
    ) {
        let merged = merge_value(base, ours, &theirs, |a, b| a == b);
        prop_assert_eq!(value(&merged), oracle(base, ours, &theirs));
        let mut other = theirs.clone();
        other.reverse();
        if !other.is_empty() { other.rotate_left(rotate % theirs.len()); }
        prop_assert_eq!(value(&merge_value(base, ours, &other, |a, b| a == b)), value(&merged));
    }

    #[test]
    fn one_after_the_other_is_all_at_once(
        base in small(), ours in small(), theirs in prop::collection::vec(small(), 0..6),
    ) {
        let one_by_one = theirs.iter().try_fold(ours, |ours, theirs| value(&three_way(base, ours, *theirs)));
        let at_once = value(&merge_value(base, ours, &theirs, |a, b| a == b));
        // A conflict stays one; only where it shows depends on the steps.
        prop_assert_eq!(one_by_one, at_once);
    }

    #[test]
    fn no_stage_is_lost_and_nothing_else_is_touched(
        base in prop::array::uniform4(small()), ours in prop::array::uniform4(small()),
        first in prop::array::uniform4(small()), second in prop::array::uniform4(small()),
    ) {
        let texts = [lock(&base), lock(&ours), lock(&first), lock(&second)];
        let [base, ours, first, second] = texts.each_ref().map(|text| Lockfile::parse(text).expect("it was spliced"));
        let both = contributions(&base, &[&first, &second]);
        let merged = merge(&ours, &both);
        let changes: Vec<_> = merged.changes.iter().map(|(name, text)| (*name, text.expect("never deleted"))).collect();
        let after = splice(Some(&texts[1]), &changes).expect("it fits");
        let result = Lockfile::parse(&after).expect("it was spliced");

        for name in ours.names() {
            prop_assert!(result.entry(name).is_some(), "{} is lost", name);
        }
        for contribution in &both {
            let is_there = result.entry(contribution.stage).is_some();
            let is_conflict = merged.conflicts.iter().any(|conflict| conflict.stage == contribution.stage);
            prop_assert!(is_there || is_conflict || base.entry(contribution.stage).is_some());
        }
        let swapped = contributions(&base, &[&second, &first]);
        let other = merge(&ours, &swapped);
        let changes: Vec<_> = other.changes.iter().map(|(name, text)| (*name, text.expect("never deleted"))).collect();
        prop_assert_eq!(meaning(&splice(Some(&texts[1]), &changes).expect("it fits")), meaning(&after));
        prop_assert_eq!(other.conflicts.len(), merged.conflicts.len());

        // Once more: nothing to do but the same conflicts.
        let again = merge(&result, &both);
        prop_assert!(again.changes.is_empty());
        prop_assert_eq!(again.conflicts.len(), merged.conflicts.len());
    }
}

#[test]
fn equality_is_of_meaning_not_of_bytes() {
    assert!(same_entry("a", "  a:\n    cmd: 'x'\n", "  a:\n    cmd: x\n"));
    let one = "  a:\n    cmd: x\n    params:\n      p.yaml:\n        k: 1\n        l: 2\n";
    let other = "  a:\n    params:\n      p.yaml:\n        l: 2.0\n        k: 1\n    cmd: x\n";
    assert!(same_entry("a", one, other));
    assert!(!same_entry("a", one, "  a:\n    cmd: x\n"));
    assert!(!same_entry("a", "  a:\n    cmd: '1'\n", "  a:\n    cmd: 1\n"));
}
