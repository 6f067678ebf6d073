//! The one promise: after `dvc-fanout` a project is what `dvc repro` would have left.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Project, Ran};

/// Runs a fixture twice, side by side: with `dvc repro` and with `dvc-fanout run -j 2`, before any change and after
/// each of them, and holds the two against each other.
#[track_caller]
pub(crate) fn same_as_dvc(fixture: &str, targets: &[&str], changes: &[&dyn Fn(&Project)]) {
    same_when_made(fixture, targets, &|_| {}, changes);
}

/// The same with a fixture that is finished by `make`: what a copy of files cannot bring.
#[track_caller]
pub(crate) fn same_when_made(fixture: &str, targets: &[&str], make: &dyn Fn(&Project), changes: &[&dyn Fn(&Project)]) {
    let made = || {
        let project = Project::from_fixture(fixture);
        make(&project);
        project
    };
    let (serial, fanned) = (made(), made());
    let nothing: &dyn Fn(&Project) = &|_| {};
    for (round, change) in std::iter::once(&nothing).chain(changes).enumerate() {
        change(&serial);
        change(&fanned);
        serial.dvc([&["repro"], targets].concat());
        let ran = fanned.fanout([&["run", "-j", "2"], targets].concat());
        assert_eq!(ran.code, Some(0), "{fixture}, round {round}: {ran:#?}");
        assert_same(&serial, &fanned, &format!("{fixture}, round {round}"));
        assert_clean(&fanned, targets);
    }
}

/// The same of a `dvc repro` that failed, but for the lines in `.gitignore` files that it took back.
#[track_caller]
pub(crate) fn assert_same_after_failure(serial: &Project, fanned: &Project, what: &str) {
    let files = |project: &Project| {
        let mut files = files(project.root());
        files.retain(|name, _| !name.ends_with(".gitignore"));
        files
    };
    pretty(&files(serial), &files(fanned), &format!("{what}: files"));
    pretty(&cache(serial), &cache(fanned), &format!("{what}: cache"));
}

/// Compares everything that `dvc repro` leaves: files, lock files, `.gitignore`, git's status, cache objects, refs.
#[track_caller]
pub(crate) fn assert_same(serial: &Project, fanned: &Project, what: &str) {
    pretty(&files(serial.root()), &files(fanned.root()), &format!("{what}: files"));
    pretty(&cache(serial), &cache(fanned), &format!("{what}: cache"));
    for arguments in [
        &["status", "--porcelain", "-uall"][..],
        &["for-each-ref", "--format=%(refname)"],
        &["worktree", "list", "--porcelain"],
    ] {
        let lines = |project: &Project| {
            let text = project.git(arguments.iter().copied());
            text.lines()
                .filter(|line| !line.starts_with("worktree "))
                .map(|line| (line.to_owned(), String::new()))
                .collect()
        };
        pretty(&lines(serial), &lines(fanned), &format!("{what}: git {}", arguments[0]));
    }
}

/// DVC has nothing to say, and so nothing to do: it asks each stage the same before it runs it. Targets are tried.
#[track_caller]
pub(crate) fn assert_clean(project: &Project, targets: &[&str]) {
    assert_eq!(project.dvc(["status", "--json"]).trim(), "{}", "dvc status");
    if targets.is_empty() {
        return;
    }
    let dry = project.dvc(["repro", "--dry"].iter().chain(targets).copied());
    assert!(!dry.contains("Running stage") && !dry.contains("\n> "), "dvc repro would still run:\n{dry}");
}

/// Every file outside `.git` and DVC's own folders, with its kind, executable bit and content.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("listed").path();
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            if name == ".git" || [".dvc/cache", ".dvc/tmp", ".dvc/fanout"].iter().any(|own| name.ends_with(own)) {
                continue;
            }
            let metadata = path.symlink_metadata().expect("looked at");
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_symlink() {
                // Links into the cache lead to different caches here.
                let content = std::fs::read(&path).unwrap_or_default();
                files.insert(name, format!("link {}", String::from_utf8_lossy(&content)));
            } else {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                let content = std::fs::read(&path).expect("read");
                files.insert(name, format!("x={executable} {}", String::from_utf8_lossy(&content)));
            }
        }
    }
    files
}

fn cache(project: &Project) -> BTreeMap<String, String> {
    let (own, beside) = (project.path(".dvc/cache/files"), project.root().with_file_name("cache").join("files"));
    let cache = if own.is_dir() { own } else { beside };
    if cache.is_dir() { files(&cache).into_keys().map(|name| (name, String::new())).collect() } else { BTreeMap::new() }
}

/// Everything that DVC leaves: modes, contents, kinds of links; the cache; `.gitignore` and lock files.
pub(crate) fn listing(project: &Project) -> BTreeMap<String, String> {
    let root = project.root();
    let mut objects: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut found = BTreeMap::new();
    let relative = |path: &Path| path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
    let mut files: Vec<PathBuf> = vec![];
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("listed").path();
            let name = relative(&path);
            if [".git", ".dvc/tmp", ".dvc/fanout"].contains(&name.as_str()) {
                continue;
            }
            let metadata = path.symlink_metadata().expect("looked at");
            if metadata.is_dir() {
                found.insert(format!("{name}/"), format!("{:o}", metadata.permissions().mode() & 0o7777));
                folders.push(path);
            } else {
                if name.starts_with(".dvc/cache/files") {
                    objects.insert((metadata.dev(), metadata.ino()), name);
                }
                files.push(path);
            }
        }
    }
    for path in files {
        let metadata = path.symlink_metadata().expect("looked at");
        let name = relative(&path);
        let is_special = !metadata.is_file() && !metadata.is_symlink();
        let content = if is_special { b"no file".to_vec() } else { std::fs::read(&path).unwrap_or_default() };
        let content = String::from_utf8_lossy(&content).into_owned();
        let said = if metadata.is_symlink() {
            let target = path.read_link().expect("read");
            format!("-> {} {content}", target.strip_prefix(root).unwrap_or(&target).display())
        } else {
            let object = objects.get(&(metadata.dev(), metadata.ino())).filter(|object| **object != name);
            let link = object.map_or_else(String::new, |object| format!(" is {object}"));
            format!("{:o}{link} {content}", metadata.permissions().mode() & 0o7777)
        };
        found.insert(name, said);
    }
    found
}

/// Which paths of a listing count.
pub(crate) type Listed = &'static dyn Fn(&str) -> bool;

/// Compares everything that DVC leaves, modes, kinds of links and run cache included, as far as it counts.
#[track_caller]
pub(crate) fn assert_same_listing(serial: &Project, fanned: &Project, counts: Listed, what: &str) {
    let listed = |project: &Project| {
        let mut listed = listing(project);
        listed.retain(|path, _| counts(path));
        listed
    };
    pretty(&listed(serial), &listed(fanned), what);
}

#[track_caller]
fn pretty(serial: &BTreeMap<String, String>, fanned: &BTreeMap<String, String>, what: &str) {
    let mut differences = String::new();
    for name in serial.keys().chain(fanned.keys()).collect::<std::collections::BTreeSet<_>>() {
        match (serial.get(name), fanned.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                writeln!(differences, "{name}\n--- dvc repro\n{a:?}\n--- dvc-fanout\n{b:?}")
                    .expect("a String takes every text");
            }
        }
    }
    assert!(differences.is_empty(), "{what} differ:\n{differences}");
}

/// Runs `dvc-fanout` and expects it to fail with a code.
#[track_caller]
pub(crate) fn fails_with<'a>(project: &Project, code: i32, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
    let ran = project.fanout(arguments);
    assert_eq!(ran.code, Some(code), "{ran:#?}");
    ran
}
