//! What git ignores, as DVC decides it.
//!
//! DVC asks dulwich (`dulwich/ignore.py`, 1.2.21), and so do we: which folders are searched for stages, and whether an out
//! needs a line in a `.gitignore`, depend on it. libgit2 decides otherwise where lines begin with `!`.
//!
//! The sources of rules, from the weakest to the strongest; within one, the last line that matches counts:
//!
//! 1. `info/exclude` of the repository
//! 2. the file that `core.excludesFile` names, `~/.config/git/ignore` by default
//! 3. the `.gitignore` files from the top of the work tree down to the path
//!
//! Under an ignored directory nothing can be taken back in.

mod pattern;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use pattern::Pattern;

/// What the rules ask of a work tree. Directories are relative to its top and without a final slash, `""` is the top.
pub(crate) trait IgnoreFiles {
    /// Returns the bytes of a directory's `.gitignore`; `None` where there is none, or one that git does not read.
    fn gitignore(&self, directory: &str) -> io::Result<Option<Vec<u8>>>;

    /// Whether a directory lies at a path, after following symlinks.
    fn is_dir(&self, path: &str) -> bool;
}

/// The ignore rules of a work tree; each file of them is read once, when it is first needed.
///
/// After a `.gitignore` changed, a new one has to be made.
pub(crate) struct GitIgnore<F> {
    files: F,
    global: Vec<Rc<Rules>>,
    folds_case: bool,
    /// The rules of each directory's `.gitignore`.
    read: RefCell<HashMap<String, Option<Rc<Rules>>>>,
    /// Whether a directory, or one above it, is ignored by its name.
    excluded: RefCell<HashMap<String, bool>>,
}

/// The lines of one file, each with how many are before it.
#[derive(Default)]
struct Rules {
    /// Those that are a path letter by letter, `/name`, as DVC writes for each out: too many to try one after another.
    paths: HashMap<Vec<u8>, usize>,
    patterns: Vec<(usize, Pattern)>,
}

impl Rules {
    /// Whether the last line that names a path ignores it or takes it back in; `None` where no line does.
    fn ignore(&self, name: &[u8], is_dir: bool) -> Option<bool> {
        let path = self.paths.get(name).copied();
        let is_after = |at: usize| path.is_none_or(|path| at > path);
        let later = self.patterns.iter().rev().take_while(|(at, _)| is_after(*at));
        let pattern = later.map(|(_, pattern)| pattern).find(|pattern| pattern.names(name, is_dir));
        pattern.map(|pattern| !pattern.negated).or(path.map(|_| true))
    }
}

/// Rules, and how many directories down from the top they hold.
type Source = (usize, Rc<Rules>);

impl<F: IgnoreFiles> GitIgnore<F> {
    /// Takes the rules that hold for the whole work tree, the weakest file first, and the value of `core.ignoreCase`.
    pub(crate) fn new(files: F, global: &[Vec<u8>], folds_case: bool) -> Self {
        // As in dulwich, the case of letters always counts in these.
        let global = global.iter().map(|bytes| Rc::new(rules(bytes, false))).collect();
        GitIgnore { files, global, folds_case, read: RefCell::default(), excluded: RefCell::default() }
    }

    /// Whether a path, relative to the top of the work tree, is ignored.
    ///
    /// A slash at its end says that a directory is meant and asks about what it holds as well, so that `data/*` ignores
    /// `data/`, but not `data`. DVC asks with a slash for directories that it walks through, and without for outs.
    ///
    /// Fails where a `.gitignore` cannot be read, as DVC does.
    pub(crate) fn is_ignored(&self, path: &str) -> io::Result<bool> {
        let name = path.trim_end_matches('/');
        if let Some((parent, _)) = name.rsplit_once('/')
            && self.is_excluded(parent)?
        {
            return Ok(true);
        }
        let sources = self.sources(path)?;
        let is_dir = path.ends_with('/') || self.files.is_dir(path);
        if excludes(&sources, name, is_dir) {
            return Ok(true);
        }
        Ok(path.ends_with('/') && excludes_contents(&sources, name))
    }

    /// Whether a directory is ignored by its name, or one above it is.
    fn is_excluded(&self, directory: &str) -> io::Result<bool> {
        if let Some(known) = self.excluded.borrow().get(directory) {
            return Ok(*known);
        }
        let above = match directory.rsplit_once('/') {
            Some((parent, _)) => self.is_excluded(parent)?,
            None => false,
        };
        let is_excluded = above || excludes(&self.sources(&format!("{directory}/"))?, directory, true);
        self.excluded.borrow_mut().insert(directory.to_owned(), is_excluded);
        Ok(is_excluded)
    }

    /// The rules that apply to a path, the weakest first. With a slash at its end its own `.gitignore` is among them.
    fn sources(&self, path: &str) -> io::Result<Vec<Source>> {
        let mut sources: Vec<Source> = self.global.iter().map(|rules| (0, Rc::clone(rules))).collect();
        let ends = path.match_indices('/').map(|(at, _)| at);
        for (depth, end) in std::iter::once(0).chain(ends).enumerate() {
            sources.extend(self.rules_in(&path[..end])?.map(|rules| (depth, rules)));
        }
        Ok(sources)
    }

    fn rules_in(&self, directory: &str) -> io::Result<Option<Rc<Rules>>> {
        if let Some(known) = self.read.borrow().get(directory) {
            return Ok(known.clone());
        }
        let bytes = self.files.gitignore(directory)?;
        let rules = bytes.map(|bytes| Rc::new(rules(&bytes, self.folds_case)));
        self.read.borrow_mut().insert(directory.to_owned(), rules.clone());
        Ok(rules)
    }
}

/// Reads the lines of a file; one that git refuses as a pattern counts as not there.
fn rules(bytes: &[u8], folds_case: bool) -> Rules {
    let mut rules = Rules::default();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
        let mut line = &line[..end];
        let is_blank = line.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0x0b);
        if is_blank || line.starts_with(b"#") {
            continue;
        }
        while line.ends_with(b" ") && !line.ends_with(b"\\ ") {
            line = &line[..line.len() - 1];
        }
        let line = without_quoted_spaces(line);
        if let Some(path) = as_path(&line).filter(|_| !folds_case) {
            rules.paths.insert(path.to_owned(), at);
        } else {
            rules.patterns.extend(Pattern::compile(&line, folds_case).map(|pattern| (at, pattern)));
        }
    }
    rules
}

/// The path that a line is, if it names that alone.
fn as_path(line: &[u8]) -> Option<&[u8]> {
    let path = line.strip_prefix(b"/")?;
    let is_plain = !path.iter().any(|byte| b"*?[]\\".contains(byte));
    let has_empty_parts = path.split(|byte| *byte == b'/').any(<[u8]>::is_empty);
    (is_plain && !has_empty_parts).then_some(path)
}

fn without_quoted_spaces(line: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.len());
    for &byte in line {
        if byte == b' ' && text.last() == Some(&b'\\') {
            text.pop();
        }
        text.push(byte);
    }
    text
}

/// Whether the line that decides on a name ignores it.
fn excludes(sources: &[Source], name: &str, is_dir: bool) -> bool {
    let decided = sources.iter().rev().find_map(|(depth, rules)| rules.ignore(below(name, *depth), is_dir));
    decided.unwrap_or(false)
}

/// Whether the last line that is about what a directory holds ignores it.
fn excludes_contents(sources: &[Source], name: &str) -> bool {
    let deciding = sources.iter().rev().find_map(|(depth, rules)| {
        let name = below(name, *depth);
        rules.patterns.iter().rev().map(|(_, pattern)| pattern).find(|pattern| pattern.reaches_into(name))
    });
    deciding.is_some_and(|pattern| !pattern.negated)
}

/// A path as seen from the directory so many levels down; `""` for that directory itself.
fn below(path: &str, depth: usize) -> &[u8] {
    let end = |depth: usize| path.match_indices('/').nth(depth).map_or(path.len(), |(at, _)| at + 1);
    &path.as_bytes()[depth.checked_sub(1).map_or(0, end)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.gitignore` files by their directory; paths that end in a slash are directories.
    struct Memory(Vec<(&'static str, &'static str)>);

    impl IgnoreFiles for Memory {
        fn gitignore(&self, directory: &str) -> io::Result<Option<Vec<u8>>> {
            let file = self.0.iter().find(|(path, _)| *path == directory);
            Ok(file.map(|(_, text)| text.as_bytes().to_vec()))
        }

        fn is_dir(&self, _path: &str) -> bool {
            false
        }
    }

    #[track_caller]
    fn check(files: &[(&'static str, &'static str)], path: &str, expected: bool) {
        let rules = GitIgnore::new(Memory(files.to_vec()), &[], false);
        assert_eq!(rules.is_ignored(path).expect("readable"), expected, "{path}");
    }

    #[test]
    fn the_last_line_of_the_deepest_file_decides() {
        let files = [("", "*.csv\n!keep.csv\n"), ("sub", "keep.csv\n")];
        check(&files, "a.csv", true);
        check(&files, "keep.csv", false);
        check(&files, "sub/keep.csv", true);
        check(&[("", "x\n"), ("sub", "!x\n")], "sub/x", false);
    }

    #[test]
    fn nothing_comes_back_below_an_ignored_directory() {
        check(&[("", "data\n!data/x.dvc\n")], "data/x.dvc", true);
        check(&[("", "data/*\n!data/x.dvc\n")], "data/x.dvc", false);
    }

    #[test]
    fn a_slash_asks_about_what_a_directory_holds() {
        for line in ["data/*", "data/**", "data/**/*"] {
            let files = [("", line)];
            check(&files, "data/", true);
            check(&files, "data", false);
            check(&files, "data/x", true);
        }
        check(&[("", "data/**/*\n!data/**/*.dvc\n")], "data/", true);
        check(&[("", "data/**/*\n!data/**/*.dvc\n")], "data/x.dvc", false);
        check(&[("data", "*\n")], "data/", false);
        check(&[("data", "**\n")], "data/", true);
    }

    #[test]
    fn global_rules_are_the_weakest() {
        let global = [b"a\nb\n".to_vec(), b"!b\nc\n".to_vec()];
        let rules = GitIgnore::new(Memory(vec![("", "!c\n")]), &global, false);
        let ignored: Vec<bool> = ["a", "b", "c"].map(|path| rules.is_ignored(path).expect("readable")).to_vec();
        assert_eq!(ignored, [true, false, false]);
    }

    #[test]
    fn paths_and_patterns_decide_in_the_order_of_their_lines() {
        check(&[("", "/a\n!*\n")], "a", false);
        check(&[("", "!*\n/a\n")], "a", true);
        check(&[("", "/a\n!/a\n")], "a", false);
        check(&[("", "/a\n!/a\n/a\n")], "a", true);
        check(&[("", "/d/e\n")], "d/e/f", true);
        check(&[("", "/d/e\n")], "e", false);
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        check(&[("", "#x\n\\#y\n\\!z\n  \nw  \nv\\ \n")], "#x", false);
        check(&[("", "\\#y")], "#y", true);
        check(&[("", "\\!z")], "!z", true);
        check(&[("", "w  \r\n")], "w", true);
        check(&[("", "v\\ ")], "v ", true);
        check(&[("", "[x\ny\n")], "y", true);
    }
}
