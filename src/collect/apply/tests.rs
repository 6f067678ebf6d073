#![expect(clippy::disallowed_methods, reason = "tests write files by themselves")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use super::*;

/// A project with one file for each kind of change.
struct Fixture {
    dir: tempfile::TempDir,
    lock: RepositoryLock,
    changes: Vec<Change>,
}

/// Every file of a project by path: its mode and text, or a symlink's target.
type Files = BTreeMap<String, (u32, String)>;

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        for (path, text, mode) in [
            ("dvc.lock", "old lock", 0o640),
            ("metrics.json", "old", 0o644),
            ("gone/only.txt", "x", 0o644),
            ("run.sh", "#!", 0o644),
            ("was-file", "f", 0o644),
            ("was-dir/f", "d", 0o644),
            ("other", "untouched", 0o600),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        }
        symlink("metrics.json", root.join("link")).expect("linked");
        std::fs::create_dir_all(root.join("results")).expect("made");
        std::fs::write(root.join("results/0"), "from a result").expect("written");

        let lock = RepositoryLock::acquire(root, false, Duration::ZERO, &|_| {}).expect("free");
        let tree = Beneath::open(root).expect("opened");
        let change = |path: &str, after: After, executable: Option<bool>| Change {
            path: path.into(),
            before: content(&tree, path).expect("looked at"),
            after,
            executable,
            mode: None,
            is_remade: false,
            modified: None,
        };
        let copied = After::Copy { from: root.join("results/0"), md5: fs::digest_bytes(b"from a result") };
        let changes = vec![
            change("gone/only.txt", After::Nothing, None),
            change("was-file", After::Nothing, None),
            change("was-file/now/a", After::Bytes(b"a".to_vec()), None),
            change("was-dir/f", After::Nothing, None),
            change("was-dir", After::Bytes(b"now a file".to_vec()), None),
            change("metrics.json", copied, Some(true)),
            change("link", After::Symlink("other".into()), None),
            change("run.sh", After::Same, Some(true)),
            change("dvc.lock", After::Bytes(b"new lock".to_vec()), None),
        ];
        Fixture { dir, lock, changes }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn files(&self) -> Files {
        let found = fs::walk(self.root(), &|path| path == ".dvc" || path == "results").expect("listed");
        let files = found.into_iter().filter(|found| found.kind != fs::FoundKind::Directory);
        files
            .map(|found| {
                let path = self.root().join(&found.path);
                let text = match std::fs::read_link(&path) {
                    Ok(target) => format!("-> {}", target.display()),
                    Err(_) => std::fs::read_to_string(&path).expect("read"),
                };
                (found.path, (found.mode & 0o7777, text))
            })
            .collect()
    }

    fn after() -> Files {
        let fixture = Fixture::new();
        apply(fixture.root(), &fixture.changes, &fixture.lock).expect("applied");
        fixture.files()
    }
}

#[test]
fn all_changes_are_made_and_modes_are_kept() {
    let fixture = Fixture::new();
    assert_eq!(apply(fixture.root(), &fixture.changes, &fixture.lock).expect("applied"), Vec::<String>::new());
    let files = fixture.files();
    let text = |path: &str| files.get(path).map(|(_, text)| text.as_str());
    assert_eq!(files["dvc.lock"], (0o640, "new lock".into()));
    assert_eq!(files["metrics.json"], (0o755, "from a result".into()));
    assert_eq!(files["run.sh"], (0o755, "#!".into()));
    assert_eq!(text("link"), Some("-> other"));
    assert_eq!(text("was-file/now/a"), Some("a"));
    assert_eq!(text("was-dir"), Some("now a file"));
    assert_eq!(text("other"), Some("untouched"));
    assert!(!fixture.root().join("gone").exists());
    assert!(!FanoutDir::of(fixture.root()).apply().exists());
}

#[test]
fn killed_in_front_of_any_step_the_next_call_completes_or_takes_back() {
    let before = Fixture::new().files();
    let after = Fixture::after();
    let actions = {
        let fixture = Fixture::new();
        Transaction::new(fixture.root(), &fixture.changes).expect("opened").actions()
    };
    let commit = actions.iter().position(|action| *action == Action::Commit).expect("it commits");
    for killed_at in 0..=actions.len() {
        let fixture = Fixture::new();
        let transaction = Transaction::new(fixture.root(), &fixture.changes).expect("opened");
        for action in &actions[..killed_at] {
            transaction.perform(*action).expect("performed");
        }
        for (path, state) in fixture.files() {
            assert!(before.get(&path) == Some(&state) || after.get(&path) == Some(&state), "half of {path}");
        }
        assert_eq!(recover(fixture.root(), &fixture.lock).expect("recovered"), Vec::<String>::new());
        let expected = if killed_at > commit { &after } else { &before };
        assert_eq!(fixture.files(), *expected, "killed before {:?}", actions.get(killed_at));
        assert!(!FanoutDir::of(fixture.root()).apply().exists());
        // Once more from the start: the recovered project takes the changes, or has them.
        if killed_at <= commit {
            apply(fixture.root(), &fixture.changes, &fixture.lock).expect("applied");
        }
        assert_eq!(fixture.files(), after);
    }
}

#[test]
fn killed_while_the_folder_is_filled_or_emptied_nothing_is_left() {
    for name in ["0", "journal.json.tmp", ".tmp-x"] {
        let fixture = Fixture::new();
        let before = fixture.files();
        fs::write_plain(&FanoutDir::of(fixture.root()).apply().join(name), b"hal").expect("written");
        recover(fixture.root(), &fixture.lock).expect("recovered");
        assert_eq!(fixture.files(), before);
        assert!(!FanoutDir::of(fixture.root()).apply().exists());
    }
}

#[test]
fn recovery_leaves_alone_what_was_edited_after_the_crash() {
    let fixture = Fixture::new();
    let transaction = Transaction::new(fixture.root(), &fixture.changes).expect("opened");
    let actions = transaction.actions();
    let commit = actions.iter().position(|action| *action == Action::Commit).expect("it commits");
    for action in &actions[..=commit] {
        transaction.perform(*action).expect("performed");
    }
    std::fs::write(fixture.root().join("dvc.lock"), "a repro ran").expect("written");
    std::fs::write(fixture.root().join("gone/only.txt"), "mine").expect("written");
    assert_eq!(recover(fixture.root(), &fixture.lock).expect("recovered"), ["gone/only.txt", "dvc.lock"]);
    let files = fixture.files();
    assert_eq!(files["dvc.lock"].1, "a repro ran");
    assert_eq!(files["gone/only.txt"].1, "mine");
    assert_eq!(files["metrics.json"].1, "from a result");
}

#[test]
fn nothing_happens_where_a_file_is_not_what_was_assumed() {
    let fixture = Fixture::new();
    std::fs::write(fixture.root().join("dvc.lock"), "a repro ran").expect("written");
    let before = fixture.files();
    let error = apply(fixture.root(), &fixture.changes, &fixture.lock).expect_err("it moved");
    assert!(matches!(error, ApplyError::Moved { path } if path == "dvc.lock"));
    assert_eq!(fixture.files(), before);
}

#[test]
fn a_result_that_changes_while_it_is_copied_is_refused() {
    let fixture = Fixture::new();
    std::fs::write(fixture.root().join("results/0"), "another").expect("written");
    let before = fixture.files();
    let error = apply(fixture.root(), &fixture.changes, &fixture.lock).expect_err("it is torn");
    assert!(matches!(error, ApplyError::Torn { .. }));
    assert_eq!(fixture.files(), before);
}

#[test]
fn a_journal_of_a_later_release_is_not_touched() {
    let fixture = Fixture::new();
    let path = FanoutDir::of(fixture.root()).apply().join("journal.json");
    fs::write_plain(&path, br#"{"version": 2, "steps": []}"#).expect("written");
    assert!(matches!(recover(fixture.root(), &fixture.lock), Err(ApplyError::Version(2))));
    assert!(path.exists());
}
