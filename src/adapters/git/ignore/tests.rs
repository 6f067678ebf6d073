//! The rules beside dulwich itself, as the `dvc` on the PATH has it: random work trees, each asked about all it holds.
//! `DVC_FANOUT_FUZZ_SEED`, up to 255, asks for others.

use std::collections::BTreeSet;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::script::DvcScript;
use crate::adapters::fs;
use crate::env;

/// Answers for each `[WORK TREE, PATHS]`: whether DVC holds each path for ignored.
const PYTHON: &str = r#"
import json, logging, sys
from dulwich.ignore import IgnoreFilterManager
from dulwich.repo import Repo
logging.disable(logging.CRITICAL)
answers = []
for top, paths in json.load(open(sys.argv[1])):
    with Repo(top) as repo:
        rules = IgnoreFilterManager.from_repo(repo)
        answers.append([bool(rules.is_ignored(path)) for path in paths])
json.dump(answers, open(sys.argv[2], "w"))
"#;

/// The number of work trees.
const TREES: usize = 1500;
const NAMES: [&str; 10] = ["a", "b", "data", "Data", "x.dvc", "y.txt", "[k]", "d\\f", "q ", "\u{e9}"];
const PARTS: [&str; 34] = [
    "a",
    "b",
    "data",
    "Data",
    "x.dvc",
    "y.txt",
    "*",
    "**",
    "*",
    "**",
    "/",
    "/",
    "/",
    "/",
    "?",
    "*.dvc",
    "*.*",
    "[ab]",
    "[!a]",
    "[^/]",
    "[a/]",
    "[[:alpha:]]",
    "[[:upper:]]",
    "[z-a]",
    "[a-",
    "]",
    "\\",
    "\\*",
    " ",
    "\\ ",
    "#",
    "!",
    "-",
    "\u{e9}",
];
/// Lines that people write.
const LINES: [&str; 14] = [
    "/data",
    "data/",
    "data/*",
    "data/**",
    "data/**/*",
    "/data/*",
    "*",
    "**",
    "/*",
    "*.txt",
    "**/a",
    "!*.dvc",
    "!*/",
    "!data/",
];

const MILD_LINES: [&str; 18] = [
    "/a",
    "/b",
    "/data",
    "/Data",
    "/x.dvc",
    "/y.txt",
    "/\u{e9}",
    "a",
    "data",
    "b/",
    "/data/",
    "a/b",
    "/data/x.dvc",
    "*.txt",
    "*.dvc",
    "/data/*",
    "/*",
    "# /a",
];

#[expect(clippy::disallowed_methods, reason = "thousands of files that nobody keeps: none has to reach the disk")]
fn write_file(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
}

struct Random {
    rng: TestRng,
    /// Whether there are only lines about which libgit2 decides as git does.
    is_mild: bool,
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.rng.next_u64() >> 1).unwrap_or(0) % limit
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn new(seed: u8, is_mild: bool) -> Random {
        Random { rng: TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]), is_mild }
    }

    fn line(&mut self) -> String {
        if self.is_mild {
            return self.one_of(&MILD_LINES).to_owned();
        }
        let negated = if self.below(3) == 0 { "!" } else { "" };
        if self.below(2) == 0 {
            return format!("{negated}{}", self.one_of(&LINES));
        }
        let mut line = negated.to_owned();
        for _ in 0..=self.below(5) {
            line.push_str(self.one_of(&PARTS));
        }
        line
    }

    fn lines(&mut self) -> String {
        let ending = if self.below(8) == 0 { "\r\n" } else { "\n" };
        (0..=self.below(4)).map(|_| self.line() + ending).collect()
    }

    /// Makes a work tree and returns what to ask about.
    fn tree(&mut self, top: &Path) -> BTreeSet<String> {
        let write = |path: &str, text: &str| {
            let path = top.join(path);
            fs::create_dir(path.parent().expect("a file has a folder")).expect("made");
            write_file(&path, text.as_bytes());
        };
        let folds_case = self.below(6) == 0 && !self.is_mild;
        let excludes = ["", "excludes"][self.below(2)];
        let config = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";
        let named = if excludes.is_empty() { String::new() } else { top.join(excludes).display().to_string() };
        write(".git/config", &format!("{config}\tignorecase = {folds_case}\n\texcludesFile = {named}\n"));
        write(".git/HEAD", "ref: refs/heads/main\n");
        for folder in ["objects", "refs"] {
            fs::create_dir(&top.join(".git").join(folder)).expect("made");
        }
        if !excludes.is_empty() {
            write(excludes, &self.lines());
        }
        if self.below(3) == 0 {
            write(".git/info/exclude", &self.lines());
        }
        let mut asked = BTreeSet::new();
        let mut folders = vec![String::new()];
        for _ in 0..6 {
            let folder = folders[self.below(folders.len())].clone();
            let path = folder + self.one_of(&NAMES);
            if self.below(2) == 0 && !top.join(&path).exists() {
                write(&format!("{path}/.keep"), "");
                folders.push(format!("{path}/"));
            }
            asked.extend([format!("{path}/"), format!("{path}/a/x.dvc"), format!("{path}/b/"), path]);
        }
        for folder in &folders {
            if folder.is_empty() || self.below(3) == 0 {
                write(&format!("{folder}.gitignore"), &self.lines());
            }
        }
        asked
    }
}

#[test]
fn paths_are_ignored_as_by_dulwich() {
    let script = Dvc::find().ok().and_then(|dvc| DvcScript::read(dvc.path()));
    let Some(script) = script else {
        assert!(env::read(env::CI).is_none(), "the tests need `dvc` on the PATH");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path().canonicalize().expect("it is there");
    let seed = env::read_text("DVC_FANOUT_FUZZ_SEED").and_then(|text| text.parse().ok()).unwrap_or(7);
    let mut random = Random::new(seed, false);
    let mut trees: Vec<(PathBuf, Vec<String>)> = vec![];
    for number in 0..TREES {
        let top = folder.join(number.to_string());
        let asked = random.tree(&top);
        trees.push((top, asked.into_iter().collect()));
    }
    let (questions, answers) = (folder.join("questions"), folder.join("answers"));
    let text = serde_json::to_vec(&trees).expect("it is JSON");
    write_file(&questions, &text);
    #[expect(clippy::disallowed_methods, reason = "a test's own process")]
    let mut python = std::process::Command::new(&script.interpreter[0]);
    let ended = python.args(&script.interpreter[1..]).args(["-c", PYTHON]).args([&questions, &answers]).output();
    let ended = ended.expect("Python starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let answers: Vec<Vec<bool>> =
        serde_json::from_slice(&std::fs::read(answers).expect("Python wrote it")).expect("it is JSON");
    let mut wrong = vec![];
    for ((top, asked), answers) in trees.iter().zip(&answers) {
        let rules = read(&Repository::open(top).expect("a repository"), top);
        for (path, wanted) in asked.iter().zip(answers) {
            let found = rules.is_ignored(path).expect("readable");
            if found != *wanted {
                wrong.push(format!("{} {path:?}: dulwich says {wanted}", top.display()));
            }
        }
    }
    let asked: usize = answers.iter().map(Vec::len).sum();
    let ignored = answers.iter().flatten().filter(|is_ignored| **is_ignored).count();
    assert!(ignored * 10 > asked && ignored * 10 < asked * 9, "{ignored} of {asked} paths are ignored");
    assert!(wrong.is_empty(), "{} of {asked}: {}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

/// What git itself lists.
fn untracked_by_git(top: &Path) -> BTreeSet<String> {
    #[expect(clippy::disallowed_methods, reason = "a test's own process")]
    let mut git = std::process::Command::new("git");
    let said = git.arg("-C").arg(top).args(["ls-files", "--others", "--exclude-standard", "-z"]).output();
    let said = said.expect("git starts");
    assert!(said.status.success(), "{said:?}");
    let listed = String::from_utf8(said.stdout).expect("UTF-8");
    listed.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn untracked_files_are_those_that_git_lists() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path().canonicalize().expect("it is there");
    let mut random = Random::new(3, true);
    let (mut files, mut nested) = (0, 0);
    for number in 0..TREES {
        let top = folder.join(number.to_string());
        for path in random.tree(&top) {
            let at = top.join(&path);
            if path.ends_with('/') || at.exists() || at.parent().is_none_or(|parent| !parent.is_dir()) {
                continue;
            }
            match random.below(8) {
                0 => {
                    Repository::init(&at).map(drop).expect("made");
                    write_file(&at.join("inside"), b"");
                }
                1 => fs::symlink("nowhere", &at).expect("made"),
                _ => write_file(&at, b""),
            }
        }
        let all = untracked_by_git(&top);
        let tracked: BTreeSet<&String> = all.iter().filter(|_| random.below(3) == 0).collect();
        let git = Git::at(&top).expect("opened").expect("a repository");
        let found = git.beside(&tracked.iter().map(|path| path.as_bytes()).collect()).expect("listed");
        let found: BTreeSet<String> = found.into_iter().map(|path| String::from_utf8(path).expect("UTF-8")).collect();
        let wanted: BTreeSet<String> =
            all.iter().filter(|path| !tracked.contains(path) || path.ends_with('/')).cloned().collect();
        assert_eq!(found, wanted, "{}", top.display());
        files += found.len();
        nested += found.iter().filter(|path| path.ends_with('/')).count();
    }
    assert!(files > TREES && nested > TREES / 20, "{files} files and {nested} repositories");
}
