//! The patterns of `carry`: which of the files and folders that git ignores, and that no stage declares, workers see.
//!
//! They are written as in ignore files and hold from the project's root. The last one that matches decides, and `!` takes
//! out. What none matches is carried where all of them take out, so that no patterns at all carry everything.

use std::collections::BTreeSet;

use crate::dvc::pipeline::ignore::pattern::{Pattern, PatternError};
use crate::dvc::pipeline::path::at_and_above;

/// Compiled patterns.
#[derive(Clone, Debug)]
pub(crate) struct Carry {
    rules: Vec<Rule>,
    otherwise: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    /// The names that it begins with; `None` where it matches at any depth.
    begin: Option<Vec<String>>,
}

impl Carry {
    /// Compiles patterns.
    pub(crate) fn parse(lines: &[String]) -> Result<Carry, PatternError> {
        let mut rules = vec![];
        for line in lines {
            rules.extend(Pattern::compile(line.trim())?.map(|pattern| Rule { pattern, begin: begin(line.trim()) }));
        }
        let otherwise = rules.iter().all(|rule| rule.pattern.negated);
        Ok(Carry { rules, otherwise })
    }

    /// What there is without patterns.
    pub(crate) fn everything() -> Carry {
        Carry { rules: vec![], otherwise: true }
    }

    /// Whether a path of the project is carried.
    pub(crate) fn takes(&self, path: &str, is_dir: bool) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        let deciding = self.rules.iter().rfind(|rule| rule.pattern.matches(&names, is_dir));
        deciding.map_or(self.otherwise, |rule| !rule.pattern.negated)
    }

    /// Whether a pattern may say of something in a folder what it does not say of the folder.
    pub(crate) fn looks_into(&self, folder: &str) -> bool {
        let names: Vec<&str> = folder.split('/').collect();
        self.rules.iter().filter_map(|rule| rule.begin.as_ref()).any(|begin| {
            let agree = begin.iter().zip(&names).take_while(|(pattern, name)| pattern == *name).count();
            // As far as both go, or up to the pattern's first wildcard.
            (agree == names.len() && begin.len() > agree) || (ends_in_wildcard(begin) && agree + 1 == begin.len())
        })
    }
}

/// Whether one of the paths lies below a folder.
pub(crate) fn has_below(paths: &BTreeSet<String>, folder: &str) -> bool {
    let inside = format!("{folder}/");
    paths.range(inside.clone()..).next().is_some_and(|path| path.starts_with(&inside))
}

/// Whether a path or one above it is among the paths.
pub(crate) fn is_at_or_below(paths: &BTreeSet<String>, path: &str) -> bool {
    at_and_above(path).any(|path| paths.contains(path))
}

/// The names that a pattern with a slash in it begins with, the first with a wildcard as `*`.
fn begin(line: &str) -> Option<Vec<String>> {
    let pattern = line.trim_start_matches('!');
    let inner = pattern.trim_end_matches('/');
    if !inner.contains('/') {
        return None;
    }
    let mut names = vec![];
    for name in inner.trim_start_matches('/').split('/') {
        if name.contains(['*', '?', '[', '\\']) {
            names.push("*".to_owned());
            break;
        }
        names.push(name.to_owned());
    }
    Some(names)
}

fn ends_in_wildcard(begin: &[String]) -> bool {
    begin.last().is_some_and(|name| name == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carry(lines: &[&str]) -> Carry {
        Carry::parse(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()).expect("patterns")
    }

    #[track_caller]
    fn check(lines: &[&str], path: &str, takes: bool, looks_into: bool) {
        let carry = carry(lines);
        assert_eq!((carry.takes(path, true), carry.looks_into(path)), (takes, looks_into), "{path}");
    }

    #[test]
    fn without_patterns_everything_is_carried() {
        check(&[], ".venv", true, false);
    }

    #[test]
    fn an_exclamation_mark_takes_out() {
        check(&["!secrets/"], "secrets", false, false);
        check(&["!secrets/"], "deep/secrets", false, false);
        check(&["!/secrets"], "deep/secrets", true, false);
        check(&["!secrets/"], ".venv", true, false);
        check(&["!*"], ".venv", false, false);
        check(&["!*", ".venv"], ".venv", true, false);
    }

    #[test]
    fn patterns_without_an_exclamation_mark_say_all_that_is_carried() {
        check(&[".venv", "build"], ".venv", true, false);
        check(&[".venv", "build"], "target", false, false);
    }

    #[test]
    fn a_pattern_with_a_slash_looks_into_folders() {
        check(&["!build/tmp"], "build", true, true);
        check(&["!build/tmp"], "build/tmp", false, false);
        check(&["!build/tmp"], "build/bin", true, false);
        check(&["build/bin"], "build", false, true);
        check(&["!build/*/tmp"], "build/x", true, true);
        check(&["!build/tmp"], "target", true, false);
    }
}
