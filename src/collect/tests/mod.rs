#![expect(clippy::disallowed_methods, reason = "tests write files by themselves")]

mod hostile;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::adapters::dvc::config;
use crate::adapters::fs;
use crate::model::numbers::AttemptNumber;
use crate::model::run::{Executed, Outcome as Ended, Resources, StageState};
use crate::state::format::{
    Carried, FileDigest, IgnoreLines, PlanOptions, PlannedOut, ResultFile, StageResult, VERSION, WorkResult,
};
use crate::state::paths::FanoutDir;

/// A project with a run of a few work items: stage `sI` of item I has the out `out/I.json`, which is not cached, and the
/// cached out `data/I`.
struct Fixture {
    _dir: tempfile::TempDir,
    project: ProjectHome,
    run: RunDir,
    plan: Plan,
    items: Vec<WorkItem>,
}

const ITEMS: usize = 3;
const OLD: &str = "0cc175b9c0f1b6a831c399e269772661";
const NEW: &str = "92eb5ffee6ae2fec3ad71c777531578f";
const OTHER: &str = "4a8a08f09d37b73795649038408b5f33";

fn entry(name: &str, digit: usize, md5: &str) -> String {
    format!(
        "  {name}:\n    cmd: run {name}\n    outs:\n    - path: data/{digit}\n      hash: md5\n      md5: {md5}\n      \
         size: 1\n    - path: out/{digit}.json\n      hash: md5\n      md5: {md5}\n      size: 1\n"
    )
}

fn planned_out(path: String, cache: bool, before: Vec<FileDigest>) -> PlannedOut {
    PlannedOut { path: path.clone(), resolved: path, cache, persist: false, before }
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("it is there");
        std::fs::create_dir_all(root.join(".dvc")).expect("made");
        std::fs::write(root.join(".dvc/config"), "").expect("written");
        for (md5, text) in [(OLD, "a"), (NEW, "b"), (OTHER, "c")] {
            let object = root.join(".dvc/cache/files/md5").join(&md5[..2]).join(&md5[2..]);
            fs::write_plain(&object, text.as_bytes()).expect("written");
        }
        git2::Repository::init(&root).expect("made");
        let run = FanoutDir::of(&root).run("20240101-000000-0001");
        let config = config::load(&root).expect("loaded");
        let project = ProjectHome { config, root, cwd: String::new(), is_linked_otherwise: false };
        let plan = Plan {
            version: VERSION,
            run: run.name().to_owned(),
            created: String::new(),
            program: "0".into(),
            dvc: "3.67.1".into(),
            root: project.root.display().to_string(),
            prefix: String::new(),
            head: None,
            setting: String::new(),
            branch: None,
            snapshot: None,
            workspace: None,
            linked: vec![],
            nested: vec![],
            targets: vec![],
            options: PlanOptions::default(),
            base: vec![],
            work_items: ITEMS,
            phases: vec![],
            templates: vec![],
            carry: Carried::default(),
            pulled: vec![],
        };
        let items = (0..ITEMS).map(item).collect();
        let fixture = Fixture { _dir: dir, project, run, plan, items };
        let entries: String = (0..ITEMS).map(|index| entry(&format!("s{index}"), index, OLD)).collect();
        fixture.write("dvc.lock", &format!("schema: '2.0'\nstages:\n{entries}"));
        for index in 0..ITEMS {
            fixture.write(&format!("out/{index}.json"), "old");
        }
        fixture
    }

    fn path(&self, path: &str) -> PathBuf {
        self.project.root.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write_plain(&self.path(path), text.as_bytes()).expect("written");
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A result that succeeded, with a new entry and a new `out/I.json`.
    fn result(&self, index: usize) -> WorkResult {
        let stage = format!("s{index}");
        WorkResult {
            version: VERSION,
            run: self.plan.run.clone(),
            index: ItemIndex::new(index),
            id: format!("item {index}"),
            attempt: AttemptNumber::FIRST,
            outcome: Ended::Succeeded,
            stages: vec![StageResult {
                dvc_file: None,
                address: stage.clone(),
                state: StageState::Ran,
                entry: Some(entry(&stage, index, NEW)),
                executable: vec![],
                empty: vec![],
                own: vec![],
                executor: Executed::Native,
            }],
            files: vec![file(&format!("out/{index}.json"), "0", "new", Some(&stage))],
            partial: vec![],
            persisted: vec![],
            modes: vec![],
            empty: vec![],
            deleted: vec![],
            gone: vec![],
            ignore: vec![IgnoreLines { path: "data/.gitignore".into(), lines: vec![format!("/{index}")] }],
            difference: None,
            in_project: false,
            usage: None,
            moved: None,
            traffic: None,
            slurm: None,
            dvc: "3.67.1".into(),
            host: "h".into(),
            started: String::new(),
            finished: String::new(),
        }
    }

    /// Publishes a result; every file gets `new` as its content.
    fn publish(&self, result: &WorkResult) -> PathBuf {
        let directory = self.run.attempt(result.index, result.attempt);
        for file in &result.files {
            fs::write_plain(&directory.join("files").join(&file.blob), b"new").expect("written");
        }
        fs::write_plain(&directory.join("result.json"), &serde_json::to_vec(result).expect("plain data"))
            .expect("written");
        directory
    }

    fn publish_all(&self) {
        (0..ITEMS).for_each(|index| drop(self.publish(&self.result(index))));
    }

    fn collect(&self, config: &CollectConfig) -> Collection {
        merge(&self.project, &self.run, &self.plan, &self.items, config).expect("collected")
    }

    fn collect_all(&self) -> Collection {
        self.collect(&CollectConfig::default())
    }

    fn entry(&self, name: &str) -> Option<String> {
        let text = self.read("dvc.lock");
        let file = crate::dvc::lockfile::Lockfile::parse(&text).expect("it is a lock file");
        file.entry(name).map(|entry| entry.text().to_owned())
    }

    /// Every file of the project but its own and DVC's folders.
    fn snapshot(&self) -> Vec<(String, u32, String)> {
        let found = fs::walk(&self.project.root, &|path| path == ".dvc" || path == ".git").expect("listed");
        let mut files: Vec<_> = found
            .into_iter()
            .filter(|found| found.kind == fs::FoundKind::File)
            .map(|found| (found.path.clone(), found.mode, self.read(&found.path)))
            .collect();
        files.sort();
        files
    }
}

fn item(index: usize) -> WorkItem {
    let before = vec![FileDigest { path: format!("out/{index}.json"), md5: fs::digest_bytes(b"old") }];
    let stage = PlannedStage {
        address: format!("s{index}"),
        file: "dvc.yaml".into(),
        name: Some(format!("s{index}")),
        order: index,
        base: Some(entry(&format!("s{index}"), index, OLD)),
        outs: vec![
            planned_out(format!("data/{index}"), true, vec![]),
            planned_out(format!("out/{index}.json"), false, before),
        ],
        after: vec![],
        reads: vec![],
        reason: String::new(),
        restores: false,
        from: None,
        records: false,
        distrusted: false,
        keep_running: false,
    };
    WorkItem {
        version: VERSION,
        index: ItemIndex::new(index),
        id: format!("item {index}"),
        phase: 0,
        stages: vec![stage],
        files: vec![],
        inputs: vec![],
        directories: vec![],
        needs: vec![],
        one_by_one: false,
        is_last: false,
        datasets: vec![],
        resources: Resources::default(),
    }
}

fn file(path: &str, blob: &str, text: &str, stage: Option<&str>) -> ResultFile {
    ResultFile {
        path: path.into(),
        blob: blob.into(),
        size: text.len() as u64,
        md5: fs::digest_bytes(text.as_bytes()),
        executable: false,
        mode: None,
        hidden: false,
        projected: false,
        edited: false,
        passed: false,
        symlink: None,
        stage: stage.map(str::to_owned),
        before: None,
        given: None,
        modified: None,
    }
}

#[test]
fn entries_files_and_ignore_lines_come_from_all_results() {
    let fixture = Fixture::new();
    fixture.publish_all();
    let collection = fixture.collect_all();
    assert_eq!(collection.stages, ["s0", "s1", "s2"]);
    assert_eq!(collection.files, ["data/.gitignore", "out/0.json", "out/1.json", "out/2.json"]);
    let entries: String = (0..ITEMS).map(|index| entry(&format!("s{index}"), index, NEW)).collect();
    assert_eq!(fixture.read("dvc.lock"), format!("schema: '2.0'\nstages:\n{entries}"));
    assert_eq!(fixture.read("out/1.json"), "new");
    assert_eq!(fixture.read("data/.gitignore"), "/0\n/1\n/2\n");
}

#[test]
fn collecting_twice_changes_nothing() {
    let fixture = Fixture::new();
    fixture.publish_all();
    fixture.collect_all();
    let before = fixture.snapshot();
    let again = fixture.collect_all();
    assert_eq!((again.stages.len(), again.files.len(), again.conflicts.len()), (0, 0, 0));
    assert_eq!(fixture.snapshot(), before);
}

#[test]
fn what_is_there_can_be_collected_while_the_rest_still_runs() {
    let one_by_one = Fixture::new();
    for index in [2, 0, 1] {
        one_by_one.publish(&one_by_one.result(index));
        let collection = one_by_one.collect_all();
        assert_eq!(collection.stages, [format!("s{index}")]);
    }
    let at_once = Fixture::new();
    at_once.publish_all();
    at_once.collect_all();
    let lines = |fixture: &Fixture| {
        let mut files = fixture.snapshot();
        // The order of `.gitignore` lines is that in which they came.
        files.retain(|(path, _, _)| path != "data/.gitignore");
        files
    };
    assert_eq!(lines(&one_by_one), lines(&at_once));
}

#[test]
fn a_stage_that_changed_after_the_plan_is_a_conflict_and_nothing_is_written() {
    let fixture = Fixture::new();
    fixture.publish_all();
    fixture.write("dvc.lock", &fixture.read("dvc.lock").replacen(OLD, "ffffffffffffffffffffffffffffffff", 1));
    let before = fixture.snapshot();
    let collection = fixture.collect_all();
    let [conflict] = &collection.conflicts[..] else { panic!("{collection:#?}") };
    assert_eq!((conflict.place.path.as_str(), conflict.place.line), ("dvc.lock", Some(3)));
    assert_eq!(conflict.differences[0].field, "outs data/0 md5");
    assert_eq!(fixture.snapshot(), before);

    let ours = fixture.entry("s0");
    fixture.collect(&CollectConfig { resolution: Resolution::Ours, ..CollectConfig::default() });
    assert_eq!(fixture.entry("s0"), ours);
    assert_eq!(fixture.entry("s1"), Some(entry("s1", 1, NEW)));
    fixture.collect(&CollectConfig { resolution: Resolution::Theirs, ..CollectConfig::default() });
    assert_eq!(fixture.entry("s0"), Some(entry("s0", 0, NEW)));
}

#[test]
fn a_file_that_changed_after_the_plan_is_a_conflict_and_nothing_is_written() {
    let fixture = Fixture::new();
    fixture.publish_all();
    fixture.write("out/1.json", "mine");
    let before = fixture.snapshot();
    let collection = fixture.collect_all();
    let [conflict] = &collection.conflicts[..] else { panic!("{collection:#?}") };
    assert_eq!(conflict.place.path, "out/1.json");
    assert!(conflict.diff.contains("-mine"), "{}", conflict.diff);
    assert_eq!(fixture.snapshot(), before);
    fixture.collect(&CollectConfig { resolution: Resolution::Theirs, ..CollectConfig::default() });
    assert_eq!(fixture.read("out/1.json"), "new");
}

#[test]
fn only_the_named_items_are_collected_and_a_dry_run_writes_nothing() {
    let fixture = Fixture::new();
    fixture.publish_all();
    let before = fixture.snapshot();
    let dry = fixture.collect(&CollectConfig { dry_run: true, ..CollectConfig::default() });
    assert_eq!(dry.stages.len(), ITEMS);
    assert_eq!(fixture.snapshot(), before);
    let only = CollectConfig { only: Some([ItemIndex::new(1)].into()), ..CollectConfig::default() };
    assert_eq!(fixture.collect(&only).stages, ["s1"]);
    assert_eq!(fixture.entry("s0"), Some(entry("s0", 0, OLD)));
}

#[test]
fn the_first_attempt_that_succeeded_counts_even_if_an_older_one_arrives_late() {
    let fixture = Fixture::new();
    let mut failed = fixture.result(0);
    failed.outcome = Ended::TimedOut { seconds: 1, with_its_job: false };
    failed.stages[0].entry = Some(entry("s0", 0, OTHER));
    fixture.publish(&failed);
    fixture.collect_all();
    assert!(fixture.entry("s0").is_some_and(|entry| entry.contains(OTHER)));

    let mut second = fixture.result(0);
    second.attempt = AttemptNumber::new(3);
    fixture.publish(&second);
    let collection = fixture.collect_all();
    assert_eq!(collection.conflicts, [], "only this run changed the entry");
    assert_eq!(fixture.entry("s0"), Some(entry("s0", 0, NEW)));

    let mut late = failed;
    late.attempt = AttemptNumber::new(2);
    fixture.publish(&late);
    assert_eq!(fixture.collect_all().stages, Vec::<String>::new());
    assert_eq!(fixture.entry("s0"), Some(entry("s0", 0, NEW)));
}

#[test]
fn good_stages_of_a_failed_item_are_kept() {
    let fixture = Fixture::new();
    let mut result = fixture.result(0);
    result.outcome = Ended::StageFailed { stage: "s0".into(), message: String::new() };
    fixture.publish(&result);
    assert_eq!(fixture.collect_all().stages, ["s0"]);
    let mut result = fixture.result(1);
    result.stages[0].state = StageState::Failed;
    fixture.publish(&result);
    assert_eq!(fixture.collect_all().stages, Vec::<String>::new());
    assert_eq!(fixture.read("out/1.json"), "old");
}

#[test]
fn a_new_stage_is_appended_in_the_order_of_dvc_repro() {
    let mut fixture = Fixture::new();
    fixture.write("dvc.lock", "schema: '2.0'\nstages:\n  other:\n    cmd: x\n");
    for item in &mut fixture.items {
        item.stages[0].base = None;
        item.stages[0].order = 10 - item.index.get();
    }
    fixture.publish_all();
    fixture.collect_all();
    let names: Vec<_> =
        fixture.read("dvc.lock").lines().filter(|line| !line.starts_with("   ")).map(str::to_owned).collect();
    assert_eq!(names, ["schema: '2.0'", "stages:", "  other:", "  s2:", "  s1:", "  s0:"]);
}

#[test]
fn an_unchanged_stage_may_have_an_entry_that_somebody_wrote_by_hand() {
    let mut fixture = Fixture::new();
    let by_hand = "  s0: {cmd: run s0, outs: []}\n";
    fixture.write("dvc.lock", &fixture.read("dvc.lock").replace(&entry("s0", 0, OLD), by_hand));
    fixture.items[0].stages[0].base = Some(by_hand.to_owned());
    let mut result = fixture.result(0);
    result.stages[0].state = StageState::Unchanged;
    result.stages[0].entry = Some(by_hand.to_owned());
    fixture.publish(&result);
    let collection = fixture.collect_all();
    assert_eq!((collection.rejected, collection.stages), (vec![], vec![]));
}

#[test]
fn each_dvc_lock_gets_the_entries_of_its_own_stages() {
    let mut fixture = Fixture::new();
    fixture.items[1].stages[0].file = "sub/dvc.yaml".into();
    fixture.items[1].stages[0].base = None;
    let root = fixture.read("dvc.lock");
    fixture.publish(&fixture.result(1));
    assert_eq!(fixture.collect_all().stages, ["s1"]);
    assert_eq!(fixture.read("sub/dvc.lock"), format!("schema: '2.0'\nstages:\n{}", entry("s1", 1, NEW)));
    assert_eq!(fixture.read("dvc.lock"), root);
}

#[test]
fn an_out_that_became_a_directory_and_one_that_became_a_file_are_replaced() {
    let mut fixture = Fixture::new();
    for (index, resolved) in [(0, "out/0.json"), (1, "dir")] {
        fixture.items[index].stages[0].outs[1].resolved = resolved.into();
    }
    fixture.items[1].stages[0].outs[1].before =
        ["dir/a", "dir/sub/b"].map(|path| FileDigest { path: path.into(), md5: fs::digest_bytes(b"old") }).to_vec();
    fixture.write("dir/a", "old");
    fixture.write("dir/sub/b", "old");
    let mut result = fixture.result(0);
    result.files = vec![file("out/0.json/x", "0", "new", Some("s0")), file("out/0.json/y/z", "1", "new", Some("s0"))];
    fixture.publish(&result);
    let mut result = fixture.result(1);
    result.files = vec![file("dir", "0", "new", Some("s1"))];
    fixture.publish(&result);
    let collection = fixture.collect_all();
    assert_eq!((collection.conflicts, collection.rejected), (vec![], vec![]));
    assert_eq!(
        (fixture.read("out/0.json/x"), fixture.read("out/0.json/y/z"), fixture.read("dir")),
        ("new".into(), "new".into(), "new".into())
    );
}

#[test]
fn a_directory_with_a_file_of_the_users_is_not_replaced_by_a_file() {
    let mut fixture = Fixture::new();
    fixture.items[1].stages[0].outs[1].resolved = "dir".into();
    fixture.items[1].stages[0].outs[1].before =
        vec![FileDigest { path: "dir/a".into(), md5: fs::digest_bytes(b"old") }];
    fixture.write("dir/a", "old");
    fixture.write("dir/mine", "mine");
    let mut result = fixture.result(1);
    result.files = vec![file("dir", "0", "new", Some("s1"))];
    fixture.publish(&result);
    for resolution in [Resolution::Report, Resolution::Theirs] {
        let collection = fixture.collect(&CollectConfig { resolution, ..CollectConfig::default() });
        assert_eq!(collection.conflicts.len(), 1, "{collection:#?}");
        assert_eq!(fixture.read("dir/mine"), "mine");
    }
}

#[test]
fn files_of_a_directory_that_were_not_made_again_go() {
    let mut fixture = Fixture::new();
    let out = &mut fixture.items[0].stages[0].outs[1];
    out.resolved = "dir".into();
    out.before = ["dir/a", "dir/gone", "dir/changed"]
        .map(|path| FileDigest { path: path.into(), md5: fs::digest_bytes(b"old") })
        .to_vec();
    for (path, text) in [("dir/a", "old"), ("dir/gone", "old"), ("dir/changed", "mine"), ("dir/mine", "mine")] {
        fixture.write(path, text);
    }
    let mut result = fixture.result(0);
    result.files = vec![file("dir/a", "0", "new", Some("s0"))];
    fixture.publish(&result);
    let collection = fixture.collect_all();
    assert_eq!(collection.conflicts.len(), 1, "the changed file: {collection:#?}");
    fixture.collect(&CollectConfig { resolution: Resolution::Ours, ..CollectConfig::default() });
    assert_eq!(fs::names(&fixture.path("dir")).expect("listed"), ["a", "changed", "mine"]);
}

#[test]
fn the_executable_bit_comes_with_the_file() {
    let fixture = Fixture::new();
    let mut result = fixture.result(0);
    result.files[0].executable = true;
    fixture.publish(&result);
    fixture.collect_all();
    let mode = || std::fs::metadata(fixture.path("out/0.json")).expect("there").permissions().mode();
    assert_eq!(mode() & 0o100, 0o100);
    result.files[0].executable = false;
    fixture.publish(&result);
    assert_eq!(fixture.collect_all().files, ["out/0.json"]);
    assert_eq!(mode() & 0o111, 0);
}

#[test]
fn undeclared_files_come_unless_told_otherwise() {
    let fixture = Fixture::new();
    for index in 0..ITEMS {
        let mut result = fixture.result(index);
        result.files.push(file("notes/shared.txt", "7", "new", None));
        fixture.publish(&result);
    }
    let declared = CollectConfig { declared_only: true, dry_run: true, ..CollectConfig::default() };
    assert!(!fixture.collect(&declared).files.contains(&"notes/shared.txt".to_owned()));
    fixture.collect_all();
    assert_eq!(fixture.read("notes/shared.txt"), "new");
}

#[test]
fn files_that_work_items_made_differently_are_named() {
    let fixture = Fixture::new();
    for index in 0..ITEMS {
        let mut result = fixture.result(index);
        result.files.push(file("notes/same.txt", "7", "new", None));
        let mut link = file("notes/last", "8", "new", None);
        link.symlink = Some(format!("{index}"));
        result.files.push(link);
        fixture.publish(&result);
    }
    assert_eq!(fixture.collect_all().contested, ["notes/last"]);
    let last = std::fs::read_link(fixture.path("notes/last")).expect("a link");
    assert_eq!(last.to_str(), Some("2"));
    assert!(fixture.collect_all().contested.is_empty(), "it is said once");
}

#[test]
fn an_interrupted_collect_is_completed_first() {
    let fixture = Fixture::new();
    fixture.publish_all();
    let lock = RepositoryLock::acquire(&fixture.project.root, false, Duration::ZERO, &|_| {}).expect("free");
    // What a kill between the journal and the first rename leaves.
    fixture.write(".dvc/fanout/apply/0", "new");
    fixture.write(
        ".dvc/fanout/apply/journal.json",
        &format!(
            r#"{{"version":1,"steps":[{{"path":"out/0.json","before":{{"file":{{"md5":"{}"}}}},"kind":"replace","executable":null}}]}}"#,
            fs::digest_bytes(b"old")
        ),
    );
    drop(lock);
    let collection = fixture.collect_all();
    assert_eq!(fixture.read("out/0.json"), "new");
    assert_eq!(collection.stages, ["s0", "s1", "s2"]);
}

#[test]
fn dvcs_lock_is_waited_for_with_a_limit_that_says_who_holds_it() {
    let fixture = Fixture::new();
    fixture.publish_all();
    let _held = RepositoryLock::acquire(&fixture.project.root, false, Duration::ZERO, &|_| {}).expect("free");
    let config = CollectConfig { lock_limit: Duration::from_millis(50), ..CollectConfig::default() };
    let error = merge(&fixture.project, &fixture.run, &fixture.plan, &fixture.items, &config).expect_err("held");
    assert!(error.message.contains(&format!("held by process {}", std::process::id())), "{}", error.message);
}

#[test]
fn a_stage_that_dvc_runs_in_the_project_is_not_disturbed() {
    let fixture = Fixture::new();
    fixture.publish_all();
    let path = fixture.path("data/1");
    let holder = format!(r#"{{"pid": {}, "cmd": "dvc repro s1"}}"#, std::process::id());
    fixture.write(".dvc/tmp/rwlock", &format!(r#"{{"write": {{"{}": {holder}}}, "read": {{}}}}"#, path.display()));
    let config = CollectConfig { lock_limit: Duration::ZERO, ..CollectConfig::default() };
    let error = merge(&fixture.project, &fixture.run, &fixture.plan, &fixture.items, &config).expect_err("busy");
    assert!(error.message.contains("`dvc repro s1`"), "{}", error.message);
    let others = CollectConfig { only: Some([ItemIndex::new(0)].into()), ..config };
    assert_eq!(fixture.collect(&others).stages, ["s0"]);
}

#[test]
fn a_symlink_in_the_project_is_never_written_through() {
    let fixture = Fixture::new();
    let outside = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(outside.path().join("0.json"), "old").expect("written");
    std::fs::remove_dir_all(fixture.path("out")).expect("removed");
    symlink(outside.path(), fixture.path("out")).expect("linked");
    fixture.publish(&fixture.result(0));
    let collected = merge(&fixture.project, &fixture.run, &fixture.plan, &fixture.items, &CollectConfig::default());
    assert!(collected.is_err() || collected.is_ok_and(|collection| !collection.conflicts.is_empty()));
    assert_eq!(std::fs::read_to_string(outside.path().join("0.json")).expect("read"), "old");
}

#[test]
fn a_lock_file_that_cannot_be_merged_into_is_left_with_the_line_that_is_in_the_way() {
    let fixture = Fixture::new();
    fixture.publish_all();
    let text = "schema: '2.0'\nstages: {s0: {cmd: x}}\n";
    fixture.write("dvc.lock", text);
    let error = merge(&fixture.project, &fixture.run, &fixture.plan, &fixture.items, &CollectConfig::default());
    let error = error.expect_err("it is refused");
    assert_eq!(error.place.and_then(|place| place.line), Some(2));
    assert_eq!((fixture.read("dvc.lock").as_str(), fixture.read("out/0.json").as_str()), (text, "old"));
}
