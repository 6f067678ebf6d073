//! The tree itself: rooms name only the rooms below them, every file says what it is for, nothing is left over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Rooms that stand side by side on the map of `src/main.rs`: none of them names another.
const SIDE_BY_SIDE: [&[&str]; 2] = [&["plan", "engine", "worker", "collect"], &["output", "state"]];
/// The files at the bottom of the map, which every room may name.
const BASE: [&str; 4] = ["main", "diagnostic", "exit", "env"];
/// Lines before its unit tests that a file may have. It is a ratchet: lower it when the largest file has become smaller.
const MOST_LINES: usize = 615;
/// Names that a folder of `src/` may show. It is a ratchet as well.
const MOST_NAMES: usize = 27;
/// What may stand at the top of the repository.
const TOP: [&str; 12] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "contrib",
    "fixtures",
    "jenkins",
    "man",
    "src",
    "target",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, with their texts.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = vec![];
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("read");
                files.push((path.strip_prefix(root()).expect("below").to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// Fails with `FILE:LINE: error: …` for each problem.
#[track_caller]
fn report(problems: impl IntoIterator<Item = (PathBuf, usize, String)>) {
    let mut text = String::new();
    for (path, line, problem) in problems {
        writeln!(text, "{}:{line}: error: {problem}", path.display()).expect("a String takes every text");
    }
    assert!(text.is_empty(), "\n{text}");
}

/// The rooms in the order of the map in `src/main.rs`, the highest first.
fn rooms() -> Vec<String> {
    let main = std::fs::read_to_string(root().join("src/main.rs")).expect("read");
    let rows = main.lines().filter_map(|line| line.strip_prefix("//! | `")).map(|row| row.split(" | ").next());
    let names = rows.map(|names| names.expect("a first cell").split(", ").map(|name| name.trim_matches('`')));
    let names = names.flatten().map(|name| name.trim_end_matches('/').trim_end_matches(".rs").to_owned());
    names.filter(|name| !BASE.contains(&name.as_str())).collect()
}

/// Whether a room may name another: only one that stands below it, and not beside it.
fn may_name(rooms: &[String], room: &str, other: &str) -> bool {
    let place = |name: &str| rooms.iter().position(|room| room == name);
    let beside = SIDE_BY_SIDE.iter().any(|beside| beside.contains(&room) && beside.contains(&other));
    place(room) < place(other) && !beside
}

/// A file's code without its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs", "fuzz.rs"].iter().any(|name| part.as_os_str() == *name))
}

#[test]
fn rooms_name_only_rooms_below_them() {
    let rooms = rooms();
    assert!(rooms.len() > 7, "the map of `src/main.rs` was not understood: {rooms:?}");
    let mut problems = vec![];
    for (path, text) in files("src") {
        let inside = path.strip_prefix("src").expect("below");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        if BASE.contains(&room.as_str()) || is_test(inside) {
            continue;
        }
        if !rooms.contains(&room) {
            problems.push((path.clone(), 1, format!("`{room}` is not on the map of `src/main.rs`")));
        }
        for (number, line) in code(&text).lines().enumerate() {
            for other in rooms.iter().filter(|other| **other != room && !may_name(&rooms, &room, other)) {
                if line.contains(&format!("crate::{other}::")) || line.contains(&format!("crate::{{{other}::")) {
                    problems.push((path.clone(), number + 1, format!("`{room}` may not name `{other}`")));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn no_file_or_folder_grows_too_large() {
    let mut problems = vec![];
    let mut folders: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (path, text) in files("src") {
        let lines = code(&text).lines().count();
        if lines > MOST_LINES && !is_test(&path) {
            problems.push((path.clone(), lines, format!("it has more than {MOST_LINES} lines: does it have one job?")));
        }
        for inside in path.ancestors() {
            let Some(parent) = inside.parent() else { continue };
            folders.entry(parent.to_owned()).or_default().insert(inside.with_extension(""));
        }
    }
    let large = folders.into_iter().filter(|(_, names)| names.len() > MOST_NAMES);
    problems.extend(
        large.map(|(path, names)| (path, 1, format!("it shows {} names, more than {MOST_NAMES}", names.len()))),
    );
    report(problems);
}

#[test]
fn every_file_says_what_it_is_for() {
    let missing = files("src").into_iter().chain(files("tests")).filter(|(_, text)| !text.starts_with("//!"));
    // The unit tests of a module stand in a file of their own beside it.
    let missing =
        missing.filter(|(path, _)| !path.ends_with("tests.rs") && !path.to_string_lossy().contains("/tests/"));
    report(missing.map(|(path, _)| (path, 1, "it does not begin with `//!`".to_owned())));
}

#[test]
fn nothing_is_left_over() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("unimple", "mented!"),
        concat!("#[ig", "nore"),
    ];
    let mut problems = vec![];
    for (path, text) in files("src").into_iter().chain(files("tests")) {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                problems.push((path.clone(), number + 1, format!("`{word}` is left in the code")));
            }
        }
    }
    report(problems);
    for entry in std::fs::read_dir(root()).expect("listed") {
        let name = entry.expect("listed").file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || TOP.contains(&name.as_str()), "`{name}` does not belong at the top");
    }
}

#[test]
fn every_dependency_is_used_and_has_its_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("read");
    let program = files("src").into_iter().filter(|(path, _)| !is_test(path)).map(|(_, text)| code(&text).to_owned());
    let program: String = program.collect();
    let whole: String = files("src").into_iter().chain(files("tests")).map(|(_, text)| text).collect();
    let (mut section, mut has_reason, mut problems) = ("", false, vec![]);
    for (number, line) in manifest.lines().enumerate() {
        match line {
            line if line.starts_with('[') => (section, has_reason) = (line, false),
            line if line.starts_with('#') => has_reason = true,
            "" => has_reason = false,
            line if matches!(section, "[dependencies]" | "[dev-dependencies]") => {
                let (name, _) = line.split_once(" =").expect("a dependency");
                // The library of `md-5` goes by the digest's own name.
                let library = if name == "md-5" { "md5".to_owned() } else { name.replace('-', "_") };
                let mut problem = |what| problems.push(("Cargo.toml".into(), number + 1, format!("`{name}` {what}")));
                let code = if section == "[dependencies]" && name != "serde_yaml" { &program } else { &whole };
                if !code.contains(&format!("{library}::")) {
                    problem("is used nowhere, or in tests alone");
                }
                if !has_reason {
                    problem("has no reason above it");
                }
            }
            _ => {}
        }
    }
    report(problems);
}
