//! `git merge` of lock files through `dvc-fanout merge-driver`.

use crate::support::{Project, Ran};

/// A project whose sessions all ran, with the driver installed, all committed.
fn project() -> Project {
    let project = Project::from_fixture("sessions");
    project.dvc(["repro", "--quiet"]);
    project.fanout(["install-merge-driver"]).succeeded();
    project.commit("all sessions ran");
    project
}

/// Changes the input of a session on a branch of its own and runs just that session's stages.
fn rerun_on_branch(project: &Project, branch: &str, session: &str, text: &str) {
    project.git(["switch", "--quiet", "--create", branch, "main"]);
    project.write(&format!("raw/{session}.txt"), text);
    project.dvc(["repro", "--quiet", &format!("score@{session}")]);
    project.commit(branch);
}

#[test]
fn branches_that_ran_different_sessions_merge_by_themselves() {
    let project = project();
    rerun_on_branch(&project, "one", "s2", "another text of session two\n");
    rerun_on_branch(&project, "two", "s3", "another text of session three\n");
    project.git(["merge", "--quiet", "--no-edit", "one"]);
    assert_eq!(project.git(["status", "--porcelain"]), "");
    project.dvc(["checkout", "--quiet"]);
    let status = project.dvc(["status", "extract", "score"]);
    assert!(status.contains("up to date"), "{status}");
}

#[test]
fn without_the_driver_the_same_merge_may_conflict_and_with_it_new_sessions_do_not() {
    let project = project();
    for (branch, session) in [("one", "s5"), ("two", "s6")] {
        project.git(["switch", "--quiet", "--create", branch, "main"]);
        project.edit("params.yaml", "weight", &format!("{session}: [{session}]\nweight"));
        project.edit("dvc.yaml", "  summary:", &format!("  x-{session}:\n    cmd: echo {session}\n  summary:"));
        project.dvc(["repro", "--quiet", &format!("x-{session}")]);
        project.commit(branch);
    }
    // Both branches append to the same place of three files; only dvc.lock has a driver for that.
    let merge = Ran::of(project.command("git").args(["merge", "--quiet", "--no-edit", "one"]));
    assert_eq!(merge.code, Some(1), "{merge:#?}");
    let conflicts = project.git(["diff", "--name-only", "--diff-filter=U"]);
    assert_eq!(conflicts, "dvc.yaml\nparams.yaml\n");
    let lock = project.read("dvc.lock");
    assert!(lock.ends_with("  x-s6:\n    cmd: echo s6\n  x-s5:\n    cmd: echo s5\n"), "{lock}");
}

#[test]
fn markers_in_a_stage_file_are_not_those_of_a_lock_file() {
    let project = Project::without_init();
    project.write("dvc.yaml", "<<<<<<< ours\nstages: {}\n=======\nstages: {}\n>>>>>>> theirs\n");
    let ran = project.fanout(["plan"]);
    assert!(ran.code == Some(4) && ran.stderr.contains("hint: finish the merge that git left here: write"), "{ran:#?}");
    assert!(!ran.stderr.contains("entry"), "{ran:#?}");
}

#[test]
fn a_true_conflict_leaves_markers_around_just_those_entries_and_exits_1() {
    let project = project();
    let before = project.read("dvc.lock");
    rerun_on_branch(&project, "one", "s2", "the first text\n");
    let theirs = project.read("dvc.lock");
    rerun_on_branch(&project, "two", "s2", "the second\n");
    let ours = project.read("dvc.lock");
    let merge = Ran::of(project.command("git").args(["merge", "--quiet", "--no-edit", "one"]));
    assert_eq!(merge.code, Some(1), "{merge:#?}");
    assert!(merge.stderr.contains("conflict: stage `extract@s2` of `dvc.lock` changed on both sides"), "{merge:#?}");
    assert!(merge.stderr.contains("hint: keep either entry of a stage, or none"), "{merge:#?}");
    let unmerged = project.fanout(["plan"]);
    assert!(
        unmerged.code == Some(4) && unmerged.stderr.contains("hint: finish the merge that git left here: keep either"),
        "{unmerged:#?}"
    );

    let merged = project.read("dvc.lock");
    let entry = |text: &str, name: &str| {
        let start = text.find(&format!("  {name}:\n")).expect("it has the entry");
        let rest = &text[start + 3..];
        let end = rest.match_indices("\n  ").find(|(at, _)| !rest[at + 3..].starts_with(' ')).map(|(at, _)| at + 1);
        text[start..start + 3 + end.unwrap_or(rest.len())].to_owned()
    };
    let mut expected = before.clone();
    for name in ["extract@s2", "score@s2"] {
        let marked = format!("<<<<<<< ours\n{}=======\n{}>>>>>>> theirs\n", entry(&ours, name), entry(&theirs, name));
        expected = expected.replace(&entry(&before, name), &marked);
    }
    assert_eq!(merged, expected);
}

#[test]
fn a_file_that_is_no_lock_file_is_merged_by_lines() {
    let project = Project::empty();
    for (name, text) in [("base", "a\nb\nc\nd\n"), ("ours", "x\nb\nc\nd\n"), ("theirs", "a\nb\nc\ny\n")] {
        project.write(name, text);
    }
    let ran = project.fanout(["merge-driver", "base", "ours", "theirs", "sub/dvc.lock", "7"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("warning: `sub/dvc.lock` line 1:"), "{ran:#?}");
    assert_eq!(project.read("ours"), "x\nb\nc\ny\n");
    project.write("theirs", "z\nb\nc\nd\n");
    assert_eq!(project.fanout(["merge-driver", "base", "ours", "theirs", "dvc.lock"]).code, Some(1));
    assert!(project.read("ours").starts_with("<<<<<<< ours\nx\n=======\nz\n>>>>>>> theirs\n"));
}

#[test]
fn installing_twice_changes_nothing() {
    let project = Project::empty();
    project.fanout(["install-merge-driver"]).succeeded();
    let attributes = project.read(".gitattributes");
    let config = project.read(".git/config");
    assert!(attributes.ends_with("dvc.lock merge=dvc-fanout\n"), "{attributes}");
    assert!(config.contains("merge-driver %O %A %B %P %L"), "{config}");
    project.fanout(["install-merge-driver"]).succeeded();
    assert_eq!((project.read(".gitattributes"), project.read(".git/config")), (attributes, config));
}
