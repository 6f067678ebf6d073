//! `.dvcignore`: what DVC does not see, as in `dvc/ignore.py` of DVC 3.67.
//!
//! A file's patterns hold below its directory and come after its parents', so that the last match decides; under an
//! ignored directory nothing can be re-included. `.git`, `.hg` and `.dvc` are always ignored, and so is a directory
//! with a `.dvc` of its own: another project.

pub(crate) mod pattern;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use thiserror::Error;

use self::pattern::{Pattern, PatternError};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::source::ProjectFiles;

const FILE_NAME: &str = ".dvcignore";
const BUILT_IN: [&str; 4] = [".hg/", ".git/", ".git", ".dvc/"];

/// A `.dvcignore` that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum IgnoreError {
    #[error("cannot read `{path}`: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("the name of the project in `{path}` cannot be made a pattern")]
    Subproject {
        path: String,
        #[source]
        source: PatternError,
    },
    #[error("line {line} of `{path}` is not a pattern")]
    Pattern {
        path: String,
        line: usize,
        #[source]
        source: PatternError,
    },
}

/// A pattern with its origin.
#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    /// `FILE:LINE:TEXT`, as DVC names it.
    origin: String,
}

/// The ignore rules of a project, read as far as they are asked for.
pub(crate) struct DvcIgnore<'a> {
    files: &'a dyn ProjectFiles,
    rules: RefCell<HashMap<String, Rc<Vec<Rc<Rule>>>>>,
}

impl<'a> DvcIgnore<'a> {
    pub(crate) fn new(files: &'a dyn ProjectFiles) -> Self {
        DvcIgnore { files, rules: RefCell::default() }
    }

    /// Returns the rule that ignores a path of the model, as `FILE:LINE:PATTERN`; `None` if it is not ignored.
    ///
    /// Other projects inside this one do not count here.
    pub(crate) fn ignored_by(&self, path: &str, is_dir: bool) -> Result<Option<String>, IgnoreError> {
        if path.is_empty() || !path::is_inside(path) {
            return Ok(None);
        }
        let rules = self.rules_in(path::parent(path))?;
        Ok(deciding(&rules, path, is_dir).map(|rule| rule.origin.clone()))
    }

    /// Reads the rules that hold in a directory, so that mistakes in them show.
    pub(crate) fn enter(&self, directory: &str) -> Result<(), IgnoreError> {
        self.rules_in(directory).map(drop)
    }

    /// Whether a directory is another project.
    pub(crate) fn is_subproject(&self, directory: &str) -> bool {
        self.files.kind(&format!("{directory}/.dvc")).is_some()
    }

    /// Returns which of a directory's subdirectories are other projects, which this one does not see.
    ///
    /// DVC makes patterns of their names, so that one with wildcards means others.
    pub(crate) fn subprojects(&self, directory: &str, names: &[String]) -> Result<Vec<bool>, IgnoreError> {
        let join = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        let mut patterns = vec![];
        for name in names.iter().filter(|name| self.is_subproject(&join(name))) {
            let line = format!("/{name}/");
            let based = if directory.is_empty() { line } else { rebase(&line, directory) };
            let invalid = |source| IgnoreError::Subproject { path: join(name), source };
            patterns.extend(Pattern::compile(&based).map_err(invalid)?);
        }
        let matches = |name: &String| {
            let path = join(name);
            let components: Vec<&str> = path.split('/').collect();
            patterns.iter().any(|pattern| pattern.matches(&components, true))
        };
        Ok(names.iter().map(matches).collect())
    }

    fn rules_in(&self, directory: &str) -> Result<Rc<Vec<Rc<Rule>>>, IgnoreError> {
        if let Some(rules) = self.rules.borrow().get(directory) {
            return Ok(Rc::clone(rules));
        }
        let inherited = if directory.is_empty() { built_in() } else { self.rules_in(path::parent(directory))? };
        let rules = self.extended(directory, inherited)?;
        self.rules.borrow_mut().insert(directory.to_owned(), Rc::clone(&rules));
        Ok(rules)
    }

    /// Adds the directory's own `.dvcignore` to its parents' rules.
    fn extended(&self, directory: &str, inherited: Rc<Vec<Rc<Rule>>>) -> Result<Rc<Vec<Rc<Rule>>>, IgnoreError> {
        let path = if directory.is_empty() { FILE_NAME.to_owned() } else { format!("{directory}/{FILE_NAME}") };
        if self.files.kind(&path).is_none() || deciding(&inherited, &path, false).is_some() {
            return Ok(inherited);
        }
        let unreadable = |reason: String| IgnoreError::Unreadable { path: path.clone(), reason };
        let bytes = self.files.read(&path).map_err(|error| unreadable(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
        let mut rules = inherited.to_vec();
        for (number, line) in text.replace("\r\n", "\n").split(['\n', '\r']).map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = |source| IgnoreError::Pattern { path: path.clone(), line: number + 1, source };
            let Some(mut pattern) = Pattern::compile(line).map_err(invalid)? else { continue };
            if !directory.is_empty() {
                let Some(based) = Pattern::compile(&rebase(line, directory)).map_err(invalid)? else { continue };
                pattern = based;
            }
            rules.push(Rc::new(Rule { pattern, origin: format!("{path}:{}:{line}", number + 1) }));
        }
        Ok(Rc::new(rules))
    }
}

fn built_in() -> Rc<Vec<Rc<Rule>>> {
    let rule = |line: &str| {
        let pattern = Pattern::compile(line).ok().flatten().expect("the built-in patterns are valid");
        Rc::new(Rule { pattern, origin: line.to_owned() })
    };
    Rc::new(BUILT_IN.iter().map(|line| rule(line)).collect())
}

/// Returns the rule by which a path is ignored, itself or with a directory above it.
fn deciding<'r>(rules: &'r [Rc<Rule>], path: &str, is_dir: bool) -> Option<&'r Rule> {
    let components: Vec<&str> = path.split('/').collect();
    (1..=components.len()).find_map(|length| {
        let is_dir = is_dir || length < components.len();
        let last = rules.iter().rev().find(|rule| {
            (is_dir || !rule.pattern.directories_only) && rule.pattern.matches(&components[..length], is_dir)
        });
        last.filter(|rule| !rule.pattern.negated).map(Rc::as_ref)
    })
}

/// Rewrites a pattern of `directory`'s `.dvcignore` for the project's root, with the text operations that DVC uses
/// (`dvc/pathspec_math.py`), so that names with wildcards in them go wrong in the same way.
fn rebase(line: &str, directory: &str) -> String {
    let (negated, rule) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
    let mut chars = rule.chars();
    chars.next_back();
    let has_inner_slash = chars.as_str().contains('/');
    let (anchored, rule) = if has_inner_slash && !rule.starts_with("**/") {
        (true, rule.strip_prefix('/').unwrap_or(rule))
    } else {
        (false, rule.strip_prefix("**/").unwrap_or(rule))
    };
    let rule = rule.strip_prefix('\\').unwrap_or(rule);
    let levels = if anchored { "" } else { "**/" };
    if negated { format!("!/{directory}/{levels}{rule}") } else { format!("{directory}/{levels}{rule}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvc::pipeline::source::MemoryFiles;

    #[track_caller]
    fn check(files: &[(&str, &str)], path: &str, expected: bool) {
        let files = MemoryFiles::new(files);
        let ignore = DvcIgnore::new(&files);
        let is_dir = path.ends_with('/');
        let ignored = ignore.ignored_by(path.trim_end_matches('/'), is_dir).expect("valid patterns");
        assert_eq!(ignored.is_some(), expected, "{path}: {ignored:?}");
    }

    #[test]
    fn the_last_match_decides() {
        let files = [(".dvcignore", "/*\n!/b\n# comment\n")];
        check(&files, "a/", true);
        check(&files, "b/", false);
        check(&files, "b/dvc.yaml", false);
    }

    #[test]
    fn nothing_is_re_included_below_an_ignored_directory() {
        let files = [(".dvcignore", "a\n!a/dvc.yaml")];
        check(&files, "a/dvc.yaml", true);
        check(&[(".dvcignore", "a/*\n!a/dvc.yaml")], "a/dvc.yaml", false);
    }

    #[test]
    fn a_child_may_re_include() {
        let files = [(".dvcignore", "*.csv"), ("sub/.dvcignore", "!keep.csv\n/top")];
        check(&files, "keep.csv", true);
        check(&files, "sub/keep.csv", false);
        check(&files, "sub/deep/keep.csv", false);
        check(&files, "sub/top", true);
        check(&files, "sub/deep/top", false);
    }

    #[test]
    fn dvc_and_git_are_always_ignored() {
        check(&[], ".dvc/config", true);
        check(&[], "a/.git", true);
        check(&[], "a/.hg/", true);
        check(&[], "a/x", false);
    }

    #[test]
    fn a_bad_pattern_names_its_line() {
        let files = MemoryFiles::new(&[(".dvcignore", "ok\n!")]);
        let error = DvcIgnore::new(&files).ignored_by("a", false).expect_err("`!` alone");
        assert_eq!(error.to_string(), "line 2 of `.dvcignore` is not a pattern");
    }
}
