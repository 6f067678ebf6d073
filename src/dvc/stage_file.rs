//! The three-way merge of a `dvc.yaml` that commands edit, as `DVCLive` does: each of them lists its own params, metrics
//! and plots at the end, and its artifacts by name.
//!
//! Sections (the keys at the top) are merged one by one; where both sides changed one, its items or names are. What DVC's
//! writers do to layout comes along: text is only moved, never written anew.

use std::collections::BTreeSet;

use crate::dvc::value::Value;
use crate::dvc::yaml;

/// A key at the top with all that belongs to it; the empty key is what comes before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section<'t> {
    key: &'t str,
    text: &'t str,
}

/// Merges what two sides made of a `dvc.yaml`; `None` where both changed the same thing, or where a side is not laid out
/// in blocks.
pub(crate) fn merge(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let (base, ours, theirs) = (sections(base)?, sections(ours)?, sections(theirs)?);
    let mut keys: Vec<&str> = ours.iter().map(|section| section.key).collect();
    keys.extend(theirs.iter().map(|section| section.key).filter(|key| find(&ours, key).is_empty()));
    let merge_one = |key| {
        let (base, ours, theirs) = (find(&base, key), find(&ours, key), find(&theirs, key));
        let chosen = choose(base, ours, theirs).map(str::to_owned);
        chosen.or_else(|| merge_names(key, base, ours, theirs)).or_else(|| merge_list(base, ours, theirs))
    };
    keys.into_iter().map(merge_one).collect()
}

/// Merges a section of names with something to each, as artifacts are, but for stages; `None` where it is none, or where
/// both sides changed the same one.
fn merge_names(key: &str, base: &str, ours: &str, theirs: &str) -> Option<String> {
    if is_of_stages(key) {
        return None;
    }
    let head = List::head(ours).or_else(|| List::head(theirs))?;
    let (base, ours, theirs) = (names(base)?, names(ours)?, names(theirs)?);
    let new = theirs.iter().filter(|name| find(&ours, name.key).is_empty());
    let merged = ours
        .iter()
        .chain(new)
        .map(|Section { key, .. }| choose(find(&base, key), find(&ours, key), find(&theirs, key)));
    Some(merged.collect::<Option<Vec<_>>>()?.into_iter().fold(head.to_owned(), |text, name| text + name))
}

/// Splits a section at its names; one that is not there has none, `None` is for one that is something else.
fn names(section: &str) -> Option<Vec<Section<'_>>> {
    let Some(head) = List::head(section) else { return Some(vec![]) };
    let body = &section[head.len()..];
    let indent = body.len() - body.trim_start_matches(' ').len();
    if !head.trim_end().ends_with(':') || indent == 0 {
        return None;
    }
    let mut starts: Vec<(&str, usize)> = vec![];
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        let own = line.get(indent..).filter(|_| line[..indent.min(line.len())].trim().is_empty());
        match own.map(|own| (own, own.starts_with([' ', '\t', '-', '#', '\n', '\r']))) {
            Some((own, false)) => starts.push((own.split_once(':')?.0, at)),
            Some((_, true)) if !starts.is_empty() => {}
            _ => return None,
        }
        at += line.len();
    }
    divide(body, &starts)
}

/// Whether two versions of a `dvc.yaml` say the same of stages: what else is listed at the top makes no difference.
pub(crate) fn has_same_stages(one: &str, other: &str) -> bool {
    let stages = |text: &str| {
        let mut value = yaml::load(text.as_bytes()).ok()?;
        if let Value::Map(map) = &mut value {
            map.retain(|key, _| matches!(key, Value::Str(key) if is_of_stages(key)));
        }
        Some(value)
    };
    stages(one).is_some_and(|one| Some(one) == stages(other))
}

fn is_of_stages(key: &str) -> bool {
    matches!(key, "stages" | "vars")
}

fn find<'t>(sections: &[Section<'t>], key: &str) -> &'t str {
    sections.iter().find(|section| section.key == key).map_or("", |section| section.text)
}

/// Splits a text at the keys at its top; `None` where some key is no plain one, or there twice.
fn sections(text: &str) -> Option<Vec<Section<'_>>> {
    if !(text.is_empty() || text.ends_with('\n')) {
        return None;
    }
    let mut starts = vec![("", 0)];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if !line.starts_with([' ', '\t', '#', '-', '\n', '\r']) {
            let (key, rest) = line.split_once(':')?;
            let is_plain = key.chars().all(|letter| letter.is_alphanumeric() || "_-.".contains(letter));
            if !is_plain || !rest.starts_with([' ', '\n', '\r']) {
                return None;
            }
            starts.push((key, at));
        }
        at += line.len();
    }
    divide(text, &starts)
}

/// Divides a text where its keys begin; `None` where one is there twice.
fn divide<'t>(text: &'t str, starts: &[(&'t str, usize)]) -> Option<Vec<Section<'t>>> {
    let ends = starts.iter().skip(1).map(|(_, start)| *start).chain([text.len()]);
    let sections: Vec<_> =
        starts.iter().zip(ends).map(|((key, start), end)| Section { key, text: &text[*start..end] }).collect();
    let keys: BTreeSet<&str> = sections.iter().map(|section| section.key).collect();
    (keys.len() == sections.len()).then_some(sections)
}

/// The side that changed something, if only one did, or both the same; the empty text is that of what is not there.
fn choose<'t>(base: &str, ours: &'t str, theirs: &'t str) -> Option<&'t str> {
    if ours == theirs || base == theirs { Some(ours) } else { (base == ours).then_some(theirs) }
}

/// Merges a section that is a list.
fn merge_list(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let (head, base, ours, theirs) = (List::head(ours)?, List::of(base)?, List::of(ours)?, List::of(theirs)?);
    // What is listed anew comes last; a tool that lists its own again takes it out first.
    let kept = theirs.kept_of(&base);
    let listed: Vec<&str> = theirs.items[kept..].to_vec();
    let gone = |item: &&&str| listed.contains(*item) || base.items.contains(*item) && !theirs.items.contains(*item);
    let items = ours.items.iter().filter(|item| !gone(item)).chain(&listed);
    Some(items.fold(head.to_owned(), |text, item| text + item))
}

/// A section that is a list of blocks.
struct List<'t> {
    /// Each with its line ends.
    items: Vec<&'t str>,
}

impl<'t> List<'t> {
    /// The key's own line.
    fn head(section: &'t str) -> Option<&'t str> {
        section.split_inclusive('\n').next()
    }

    /// Reads a section; one that is not there has no items.
    fn of(section: &'t str) -> Option<List<'t>> {
        let Some(head) = List::head(section) else { return Some(List { items: vec![] }) };
        if !head.trim_end().ends_with(':') {
            return None;
        }
        let body = &section[head.len()..];
        let indent = body.len() - body.trim_start_matches(' ').len();
        let begins =
            |line: &str| line.get(indent..).is_some_and(|rest| rest.starts_with("- ") || rest.trim_end() == "-");
        let mut starts = vec![];
        let mut at = 0;
        for line in body.split_inclusive('\n') {
            let is_deeper = line.len() - line.trim_start_matches(' ').len() > indent;
            if begins(line) {
                starts.push(at);
            } else if starts.is_empty() || !is_deeper {
                return None;
            }
            at += line.len();
        }
        let ends = starts.iter().skip(1).copied().chain([body.len()]);
        Some(List { items: starts.iter().zip(ends).map(|(start, end)| &body[*start..end]).collect() })
    }

    /// How many items at the beginning are those of another list, in its order.
    fn kept_of(&self, other: &List<'_>) -> usize {
        let mut rest = other.items.iter();
        self.items.iter().take_while(|item| rest.any(|known| known == *item)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{has_same_stages, merge};

    const BASE: &str = "# ours\nstages:\n  train:\n    cmd: x\n";

    fn listed(keys: &[&str]) -> String {
        let list = |line: &str| keys.iter().fold(String::new(), |text, key| text + &line.replace("KEY", key));
        let (params, plots) = (list("- live/KEY/params.yaml\n"), list("- live/KEY/plots:\n    x: step\n"));
        format!("{BASE}params:\n{params}plots:\n{plots}")
    }

    #[test]
    fn artifacts_are_united_by_name() {
        let with = |names: &[&str]| {
            let one = |name: &&str| format!("  {name}:\n    path: {name}.pkl\n    type: model\n");
            format!("{BASE}artifacts:\n{}", names.iter().map(one).collect::<String>())
        };
        check(BASE, &with(&["a"]), &with(&["b"]), Some(&with(&["a", "b"])));
        check(&with(&["z"]), &with(&["z", "a"]), &with(&["z", "b"]), Some(&with(&["z", "a", "b"])));
        check(&with(&["z", "y"]), &with(&["z", "y", "a"]), &with(&["y"]), Some(&with(&["y", "a"])));
        let other = with(&["a"]).replace("a.pkl", "other.pkl");
        check(BASE, &with(&["a"]), &other, None);
        check(&with(&["a"]), &with(&["a", "b"]), &other, Some(&with(&["a", "b"]).replace("a.pkl", "other.pkl")));
    }

    #[track_caller]
    fn check(base: &str, ours: &str, theirs: &str, expected: Option<&str>) {
        assert_eq!(merge(base, ours, theirs).as_deref(), expected);
    }

    #[test]
    fn what_each_session_lists_is_united_in_their_order() {
        check(BASE, &listed(&["p"]), &listed(&["q"]), Some(&listed(&["p", "q"])));
        // Merged again, with more that has come meanwhile.
        check(BASE, &listed(&["p", "q"]), &listed(&["q"]), Some(&listed(&["p", "q"])));
        check(BASE, &listed(&["p", "q"]), &listed(&["r"]), Some(&listed(&["p", "q", "r"])));
        // Taken out and listed again at the end.
        let base = listed(&["p", "q", "r"]);
        check(&base, &listed(&["q", "r", "p"]), &listed(&["p", "r", "q"]), Some(&listed(&["r", "p", "q"])));
        check(&base, &base, &listed(&["q", "r"]), Some(&listed(&["q", "r"])));
        check(&base, &listed(&["p", "r"]), &listed(&["p", "q"]), Some(&listed(&["p"])));
    }

    #[test]
    fn what_one_side_changed_is_taken_and_what_both_did_is_not() {
        let (ours, theirs) = (BASE.replace("cmd: x", "cmd: y"), listed(&["p"]));
        check(BASE, &ours, &theirs, Some(&theirs.replace("cmd: x", "cmd: y")));
        check(BASE, &ours, &BASE.replace("cmd: x", "cmd: z"), None);
        check("plots: {a: 1}\n", "plots: {b: 1}\n", "plots: {c: 1}\n", None);
        check("plots:\n  - a\n", "plots:\n  - b\n", "plots:\n  c: 1\n", None);
        check("", "{}\n", "", None);
        check("a: 1\na: 2\n", "a: 1\n", "", None);
    }

    #[test]
    fn lists_at_the_top_say_nothing_of_stages() {
        assert!(has_same_stages(BASE, &listed(&["p"])));
        assert!(!has_same_stages(BASE, &BASE.replace("cmd: x", "cmd: y")));
        assert!(!has_same_stages(BASE, "stages: ["));
        assert!(!has_same_stages("stages: [", "stages: ["));
    }
}
