//! The tree itself: rooms name only the rooms below them, files name each other in no circle, every file says what it is
//! for, nothing is left over.

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
    path.components().any(|part| ["tests", "tests.rs", "fuzz"].iter().any(|name| part.as_os_str() == *name))
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
fn a_module_with_parts_is_a_folder_with_a_mod_file() {
    let all = files("src").into_iter().chain(files("tests")).map(|(path, _)| path);
    let beside = all.filter(|path| root().join(path.with_extension("")).is_dir());
    report(beside.map(|path| {
        let folder = path.with_extension("").display().to_string();
        (path, 1, format!("it has parts: move it to `{folder}/mod.rs`"))
    }));
}

/// The module that a file of `src/` holds, by the names from the top of the program.
fn module_of(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix("src").expect("below").with_extension("");
    let mut names: Vec<String> = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    names.pop_if(|last| last == "mod" || last == "main");
    names
}

/// Takes the braces out of what is used: `a::{b, c}` is `a::b` and `a::c`.
fn without_braces(used: &str) -> Vec<String> {
    let Some((before, rest)) = used.split_once('{') else { return vec![used.trim().to_owned()] };
    let (mut depth, mut parts) = (0_usize, vec![String::new()]);
    for c in rest.trim_end().strip_suffix('}').unwrap_or(rest).chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().expect("one at least").push(c);
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| without_braces(part));
    parts.map(|part| format!("{}{part}", before.trim())).collect()
}

/// The paths in a file's code that begin at the top of the program or at the file's own place.
fn named_in(text: &str) -> Vec<String> {
    let lines = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let (used, rest): (Vec<&str>, Vec<&str>) = text.split_inclusive(';').partition(|statement| {
        let first = statement.trim_start().split(['{', '(']).next().unwrap_or_default();
        first.starts_with("use ") || first.starts_with("pub use ") || statement.contains("pub(crate) use ")
    });
    let used = used.into_iter().filter_map(|statement| statement.trim_end_matches(';').split_once("use "));
    let mut named: Vec<String> = used.flat_map(|(_, used)| without_braces(used)).collect();
    for statement in rest {
        for start in ["crate::", "super::", "self::"] {
            let found = statement.match_indices(start).map(|(at, _)| (&statement[..at], &statement[at..]));
            let alone =
                found.filter(|(before, _)| !before.ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)));
            named.extend(alone.map(|(_, path)| {
                path.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect::<String>()
            }));
        }
    }
    named
}

/// The module that a path written in `module` leads to: the longest beginning that is one.
fn lead_to(path: &str, module: &[String], modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let path = path.split(" as ").next().unwrap_or_default();
    let mut names = path.split("::").map(str::trim).peekable();
    let mut whole = match names.peek() {
        Some(&"crate") => vec![],
        Some(&("super" | "self")) => module.to_vec(),
        _ => return None,
    };
    names.next_if(|name| *name != "super");
    while names.next_if(|name| *name == "super").is_some() {
        whole.pop();
    }
    whole.extend(names.map(str::to_owned));
    while !modules.contains(&whole) {
        whole.pop()?;
    }
    Some(whole)
}

#[test]
fn files_do_not_name_each_other_in_a_circle() {
    let files: Vec<_> = files("src").into_iter().filter(|(path, _)| !is_test(path)).collect();
    let modules: BTreeSet<_> = files.iter().map(|(path, _)| module_of(path)).collect();
    let mut named: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (path, text) in &files {
        let module = module_of(path);
        let others = named_in(text).into_iter().filter_map(|path| lead_to(&path, &module, &modules));
        // A folder's own file and its parts know each other.
        let others = others.filter(|other| !other.starts_with(&module) && !module.starts_with(other)).collect();
        named.insert(module, others);
    }
    let reached = |from: &Vec<String>| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = waiting.pop() {
            waiting.extend(named[&module].iter().filter(|other| seen.insert((*other).clone())).cloned());
        }
        seen
    };
    let arrows: usize = named.values().map(BTreeSet::len).sum();
    assert!(arrows > files.len(), "what files name was not understood: {arrows} arrows");
    let mut problems = vec![];
    for (path, _) in &files {
        let module = module_of(path);
        for other in named[&module].iter().filter(|other| reached(other).contains(&module)) {
            problems.push((path.clone(), 1, format!("it names `{}`, from which a way leads back", other.join("::"))));
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
                let code = if section == "[dependencies]" { &program } else { &whole };
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
