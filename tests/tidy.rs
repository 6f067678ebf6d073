//! The tree itself: rooms name only the rooms below them, every file says what it is for, nothing is left over.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The rooms of `src/` and what each may name beside itself; `diagnostic`, `exit` and `env` are everybody's.
const ROOMS: [(&str, &[&str]); 10] = [
    ("commands", &["cli", "plan", "engine", "collect", "output", "state", "adapters", "model", "dvc"]),
    ("cli", &["model", "dvc"]),
    ("plan", &["output", "state", "adapters", "model", "dvc"]),
    ("collect", &["output", "state", "adapters", "model", "dvc"]),
    ("output", &["model", "dvc"]),
    ("engine", &["adapters", "model", "dvc"]),
    ("state", &["adapters", "model", "dvc"]),
    ("adapters", &["model", "dvc"]),
    ("model", &["dvc"]),
    ("dvc", &[]),
];
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

#[test]
fn rooms_name_only_rooms_below_them() {
    let mut problems = vec![];
    for (path, text) in files("src") {
        let inside = path.strip_prefix("src").expect("below");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else { continue };
        // Tests may build what they need with any room.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let is_test = inside.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        for (number, line) in code.lines().enumerate().filter(|_| !is_test) {
            for (other, _) in ROOMS.iter().filter(|(other, _)| *other != room && !allowed.contains(other)) {
                if line.contains(&format!("crate::{other}::")) {
                    problems.push((path.clone(), number + 1, format!("`{room}` may not name `{other}`")));
                }
            }
        }
    }
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
    let code: String = files("src").into_iter().chain(files("tests")).map(|(_, text)| text).collect();
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
                if !code.contains(&format!("{library}::")) {
                    problem("is used nowhere");
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
