//! Results that lie: each is rejected with the reason, the others are collected.

use super::*;
use crate::state::format::PathMode;

/// Publishes three results, the middle one of them hostile; it must be rejected for the reason, the others collected,
/// and nothing beside them be touched.
#[track_caller]
fn check_rejected(reason: &str, spoil: impl FnOnce(&Fixture, &mut WorkResult)) {
    check_rejected_on_disk(reason, spoil, |_| {});
}

#[track_caller]
fn check_rejected_on_disk(
    reason: &str,
    spoil: impl FnOnce(&Fixture, &mut WorkResult),
    spoil_files: impl FnOnce(&Path),
) {
    let fixture = Fixture::new();
    fixture.publish(&fixture.result(0));
    fixture.publish(&fixture.result(2));
    let mut result = fixture.result(1);
    spoil(&fixture, &mut result);
    let directory = fixture.run.attempt(ItemIndex::new(1), AttemptNumber::FIRST);
    fixture.publish(&WorkResult { index: ItemIndex::new(1), attempt: AttemptNumber::FIRST, ..result.clone() });
    fs::write_plain(&directory.join("result.json"), &serde_json::to_vec(&result).expect("plain data"))
        .expect("written");
    spoil_files(&directory);
    let collection = fixture.collect_all();
    let [rejected] = &collection.rejected[..] else { panic!("not rejected: {collection:#?}") };
    assert!(rejected.reason.contains(reason), "{}", rejected.reason);
    assert_eq!((rejected.index, rejected.attempt), (ItemIndex::new(1), AttemptNumber::FIRST));
    assert_eq!(collection.stages, ["s0", "s2"]);
    let names: Vec<_> = fixture.snapshot().into_iter().map(|(path, _, _)| path).collect();
    assert_eq!(names, ["data/.gitignore", "dvc.lock", "out/0.json", "out/1.json", "out/2.json"]);
    assert_eq!(fixture.read("out/1.json"), "old");
    assert_eq!(fixture.entry("s1"), Some(entry("s1", 1, OLD)));
}

/// Publishes three results, the middle one of them with a path that may not come; that alone must be left out, for the
/// reason, and be kept aside.
#[track_caller]
fn check_left_out(reason: &str, spoil: impl FnOnce(&mut WorkResult)) {
    let fixture = Fixture::new();
    fixture.publish(&fixture.result(0));
    fixture.publish(&fixture.result(2));
    let mut result = fixture.result(1);
    spoil(&mut result);
    fixture.publish(&result);
    let collection = fixture.collect_all();
    assert_eq!(collection.rejected, []);
    let [left] = &collection.left_out[..] else { panic!("not left out: {collection:#?}") };
    assert!(left.why.contains(reason), "{}", left.why);
    assert_eq!((left.index, left.attempt), (ItemIndex::new(1), AttemptNumber::FIRST));
    assert_eq!(collection.stages, ["s0", "s1", "s2"]);
    let names: Vec<_> = fixture.snapshot().into_iter().map(|(path, _, _)| path).collect();
    assert_eq!(names, ["data/.gitignore", "dvc.lock", "out/0.json", "out/1.json", "out/2.json"]);
    assert_eq!(fixture.read("out/1.json"), "new");
    let refusal = results::refusal(&fixture.run, ItemIndex::new(1), AttemptNumber::FIRST)
        .expect("read")
        .expect("the work item is not done");
    assert!(refusal.contains(reason), "{refusal}");
    assert_eq!(results::refusal(&fixture.run, ItemIndex::new(0), AttemptNumber::FIRST).expect("read"), None);
}

#[test]
fn paths_that_lead_out_of_the_project_or_into_git_do_not_come() {
    for (path, reason) in
        [("../x", "not in its shortest form"), ("out/../../x", "not in its shortest form"), ("/etc/x", "absolute")]
    {
        check_rejected(reason, |_, result| result.files[0].path = path.into());
        check_rejected(reason, |_, result| result.stages[0].executable.push(path.into()));
        check_rejected(reason, |_, result| result.stages[0].empty.push(path.into()));
        check_rejected(reason, |_, result| result.persisted.push(path.into()));
        check_rejected(reason, |_, result| result.modes.push(PathMode { path: path.into(), mode: 0o777 }));
        check_rejected(reason, |_, result| result.empty.push(PathMode { path: path.into(), mode: 0o777 }));
        check_left_out(reason, |result| result.files.push(file(path, "1", "new", None)));
        check_left_out(reason, |result| result.deleted.push(path.into()));
    }
    for path in [".git/hooks/x", ".GIT/config", "sub/.git/config", ".dvc/config"] {
        let reason = "git's or DVC's own folder";
        check_rejected("does not declare it", |_, result| result.files[0].path = path.into());
        check_rejected("has no such out", |_, result| result.stages[0].executable.push(path.into()));
        check_rejected("has no such out", |_, result| result.persisted.push(path.into()));
        check_rejected(reason, |_, result| result.modes.push(PathMode { path: path.into(), mode: 0o777 }));
        check_rejected(reason, |_, result| result.empty.push(PathMode { path: path.into(), mode: 0o777 }));
        check_left_out(reason, |result| result.files.push(file(path, "1", "new", None)));
        check_left_out(reason, |result| result.deleted.push(path.into()));
    }
}

#[test]
fn lines_for_git_elsewhere_do_not_come() {
    let lines = |path: &str| IgnoreLines { path: path.into(), lines: vec!["/x".into()] };
    check_left_out("git's or DVC's own folder", |result| result.ignore.push(lines(".git/.gitignore")));
    check_left_out("not in its shortest form", |result| result.ignore.push(lines("../.gitignore")));
}

#[test]
fn files_that_are_not_the_work_items_to_write_do_not_come() {
    check_rejected("does not declare it", |_, result| result.files[0].path = "out/2.json".into());
    check_rejected("does not declare it", |_, result| result.files[0].path = "data/1".into());
    check_rejected("stage `s2` is not part", |_, result| result.files[0].stage = Some("s2".into()));
    for path in ["out/2.json", "out/2.json/below", "data/2"] {
        check_left_out("an out that another way brings", |result| result.files.push(file(path, "1", "new", None)));
    }
    check_left_out("which only DVC writes", |result| result.files.push(file("dvc.lock", "1", "new", None)));
    check_left_out("DVC itself ran its stage", |result| {
        result.files.push(ResultFile { projected: true, ..file("dvc.yaml", "1", "new", None) });
    });
    check_left_out("its lines come one by one", |result| result.files.push(file("x/.gitignore", "1", "new", None)));
    for path in ["dvc.yaml", "dvc.lock"] {
        check_left_out("the plan was made from it", |result| result.deleted.push(path.into()));
    }
    check_rejected("names it twice", |_, result| result.files.push(file("out/1.json", "1", "new", Some("s1"))));
    check_rejected("not a `.gitignore`", |_, result| result.ignore[0].path = "data/x".into());
    check_rejected("not a `.gitignore`", |_, result| result.ignore[0].lines.push("a\nb".into()));
}

#[test]
fn links_that_lead_out_and_that_nobody_declares_do_not_come() {
    for (target, why) in [
        ("/etc/passwd", "it is a symlink to `/etc/passwd`, which is outside of the project"),
        ("../../x", "outside of the project"),
        ("../.git/config", "git's or DVC's own"),
    ] {
        check_left_out(why, |result| {
            let mut link = file("sub/link", "1", "", None);
            link.symlink = Some(target.into());
            result.files.push(link);
        });
    }
}

#[test]
fn data_that_the_cache_does_not_have_are_rejected() {
    check_rejected_on_disk(
        "the data of `data/1` is not in the cache",
        |_, result| {
            let entry = result.stages[0].entry.as_mut().expect("an entry");
            *entry = entry.replacen(NEW, "ffffffffffffffffffffffffffffffff", 1);
        },
        |_| {},
    );
}

#[test]
fn contents_that_are_not_what_the_document_says_are_rejected() {
    check_rejected("its MD5 is", |_, result| result.files[0].md5 = OLD.into());
    check_rejected("it has 3 bytes, not 4", |_, result| result.files[0].size = 4);
    check_rejected("is not a number", |_, result| result.files[0].blob = "../../x".into());
    let blob = |directory: &Path| directory.join("files/0");
    check_rejected_on_disk(
        "it is missing",
        |_, _| {},
        |directory| std::fs::remove_file(blob(directory)).expect("removed"),
    );
    check_rejected_on_disk(
        "it is a symlink",
        |_, _| {},
        |directory| {
            std::fs::remove_file(blob(directory)).expect("removed");
            symlink("/etc/hostname", blob(directory)).expect("linked");
        },
    );
    check_rejected_on_disk(
        "it is a hard link",
        |_, _| {},
        |directory| {
            std::fs::hard_link(blob(directory), directory.join("files/other")).expect("linked");
        },
    );
    check_rejected_on_disk(
        "it is not a regular file",
        |_, _| {},
        |directory| {
            std::fs::remove_file(blob(directory)).expect("removed");
            let mode = rustix::fs::Mode::from(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, blob(directory), rustix::fs::FileType::Fifo, mode, 0).expect("made");
        },
    );
    check_rejected_on_disk(
        "it has 10737418240 bytes; the limit is",
        |_, result| result.files[0].size = 10 << 30,
        |directory| {
            std::fs::File::options()
                .write(true)
                .open(blob(directory))
                .and_then(|file| file.set_len(10 << 30))
                .expect("grown");
        },
    );
    check_rejected_on_disk(
        "cannot open",
        |_, _| {},
        |directory| {
            let elsewhere = directory.with_file_name("elsewhere");
            std::fs::rename(directory, &elsewhere).expect("moved");
            symlink(&elsewhere, directory).expect("linked");
        },
    );
}

#[test]
fn more_files_than_the_limit_are_rejected() {
    check_rejected("it brings 100002 files", |_, result| {
        result.deleted = (0..vetting::MAX_FILES).map(|number| format!("f{number}")).collect();
    });
}

#[test]
fn documents_that_are_no_results_are_rejected() {
    check_rejected("format 2", |_, result| result.version = 2);
    check_rejected("claims to be work item 1 of run other", |_, result| result.run = "other".into());
    check_rejected("claims to be work item 2", |_, result| result.index = ItemIndex::new(2));
    check_rejected("attempt 9", |_, result| result.attempt = AttemptNumber::new(9));
    check_rejected("made with DVC 2.58.2", |_, result| result.dvc = "2.58.2".into());
    let document = |text: &str, directory: &Path| std::fs::write(directory.join("result.json"), text).expect("written");
    check_rejected_on_disk("not readable", |_, _| {}, |directory| document("{", directory));
    check_rejected_on_disk("not readable", |_, _| {}, |directory| document(&"[".repeat(1 << 20), directory));
    check_rejected_on_disk(
        "larger than",
        |_, _| {},
        |directory| {
            let file = std::fs::File::create(directory.join("result.json")).expect("made");
            file.set_len(10 << 30).expect("grown");
        },
    );
    check_rejected_on_disk(
        "not a regular file",
        |_, _| {},
        |directory| {
            std::fs::remove_file(directory.join("result.json")).expect("removed");
            std::fs::create_dir(directory.join("result.json")).expect("made");
        },
    );
}

#[test]
fn entries_that_are_not_the_stages_own_are_rejected() {
    check_rejected("stage `s2` is not part", |_, result| result.stages[0].address = "s2".into());
    check_rejected("stage `s1` is not part", |_, result| result.stages.push(result.stages[0].clone()));
    let own = |with: &str| entry("s1", 1, NEW) + with;
    for (text, reason) in [
        (entry("s2", 2, NEW), "not the entry of stage `s1`"),
        (own("  s2:\n    cmd: x\n"), "not the entry of stage `s1`"),
        (own("datasets: []\n"), "not as DVC writes it"),
        (own("    unknown: 1\n"), "unknown field"),
        (own("").replace("data/1", "data/2"), "its outs are not those of the stage"),
        (own("").replace(NEW, "../../../../etc/passwd"), "is not a digest"),
        (own("").replace("run s1", "!!python/object/apply:os.system [x]"), "not as DVC writes it"),
        (own("").replace("run s1", "*id001"), "an alias without its anchor"),
        (own("").replace("cmd: run s1", "cmd: &a [x]"), "not as DVC writes it"),
        (own("").replace("cmd: run s1", "cmd: !!str x"), "not as DVC writes it"),
        (own("# a comment\n"), "not the entry of stage `s1`"),
    ] {
        check_rejected(reason, |_, result| result.stages[0].entry = Some(text.clone()));
    }
    let bomb =
        (1..40).fold("    params:\n      p.yaml:\n        a0: &id001\n        - 1\n".to_owned(), |text, level| {
            let items = format!("        - *id{level:03}\n").repeat(9);
            format!("{text}        a{level}: &id{:03}\n{items}", level + 1)
        });
    check_rejected("too many values behind aliases", |_, result| result.stages[0].entry = Some(own(&bomb)));
}
