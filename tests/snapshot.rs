//! What workers see of the workspace, and what a run leaves in git: nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Project, Ran};

/// Two work items that run a command, and what they make of `p.txt` and `q.txt`.
fn pipeline(command: &str) -> String {
    format!(
        "stages:\n  use:\n    foreach: [p, q]\n    do:\n      cmd: cat ${{item}}.txt > ${{item}}.out && {command}\n      \
         deps: [\"${{item}}.txt\"]\n      outs: [\"${{item}}.out\"]\n"
    )
}

fn project(command: &str) -> Project {
    let project = Project::empty();
    fill(&project, command);
    project.commit("two stages");
    project
}

fn fill(project: &Project, command: &str) {
    project.write("dvc.yaml", &pipeline(command));
    project.write("p.txt", "p\n");
    project.write("q.txt", "q\n");
}

/// Asserts that the outs are in place, and that DVC has nothing to do.
fn assert_whole(project: &Project, p: &str) {
    assert_eq!(project.read("p.out"), p);
    assert_eq!(project.dvc(["status"]).trim(), "Data and pipelines are up to date.");
}

/// All files of a git directory but those that only say what git last saw.
fn files_of(git: &Path) -> Vec<String> {
    let mut stack = vec![git.to_owned()];
    let mut files = vec![];
    while let Some(directory) = stack.pop() {
        for entry in directory.read_dir().expect("listed").flatten() {
            if entry.path().is_dir() {
                stack.push(entry.path());
            } else {
                files.push(entry.path().display().to_string());
            }
        }
    }
    files.sort_unstable();
    files
}

#[test]
fn edits_that_are_hidden_from_git_reach_workers() {
    let project = project("cat hidden.txt assumed.txt >> ${item}.out");
    project.write("hidden.txt", "committed\n");
    project.write("assumed.txt", "committed\n");
    project.commit("settings");
    project.git(["update-index", "--skip-worktree", "hidden.txt"]);
    project.git(["update-index", "--assume-unchanged", "assumed.txt"]);
    project.write("hidden.txt", "mine\n");
    project.write("assumed.txt", "mine too\n");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_whole(&project, "p\nmine\nmine too\n");
}

#[test]
fn large_files_beside_are_linked_and_nothing_stays_in_git() {
    let project = project("wc -c < film/one.mp4 >> ${item}.out");
    let film = vec![7; 5 << 20];
    std::fs::create_dir(project.path("film")).expect("made");
    std::fs::write(project.path("film/one.mp4"), &film).expect("written");
    project.write("film/small.txt", "small\n");
    let before = files_of(&project.path(".git"));
    let planned = project.fanout(["plan"]);
    assert!(planned.stderr.contains("1 large file") && planned.stderr.contains("film/one.mp4"), "{planned:#?}");
    let largest = |folder: &str| {
        let files = files_of(&project.path(folder));
        files.iter().map(|file| std::fs::metadata(file).expect("there").len()).max().unwrap_or(0)
    };
    assert!(largest(".dvc/fanout") < 1 << 20, "it was copied");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_whole(&project, "p\n5242880\n");
    assert_eq!(files_of(&project.path(".git")), before);
    assert!(std::fs::read(project.path("film/one.mp4")).expect("read") == film);
    assert!(!project.path(".dvc/fanout/slots").exists());
}

#[test]
fn a_linked_file_that_changes_meanwhile_is_named() {
    let project = project("true");
    let gate = project.path("film.mp4");
    std::fs::write(&gate, vec![7; 5 << 20]).expect("written");
    project.write("dvc.yaml", &pipeline(&format!("printf x >> {}", gate.display())));
    let ran = project.fanout(["run", "-j", "1"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("`film.mp4` was changed while the run was on"), "{ran:#?}");
    assert_eq!(std::fs::metadata(&gate).expect("there").len(), (5 << 20) + 2);
}

#[test]
fn git_may_be_in_the_middle_of_something() {
    let project = project("git rev-parse --verify -q HEAD > /dev/null");
    project.git(["checkout", "--quiet", "-b", "side"]);
    project.write("p.txt", "side\n");
    project.commit("side");
    project.git(["checkout", "--quiet", "main"]);
    project.write("q.txt", "main\n");
    project.commit("main");
    project.git(["merge", "--quiet", "--no-commit", "side"]);
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_whole(&project, "side\n");
    project.git(["commit", "--quiet", "--all", "--message", "merged"]);
    project.git(["bisect", "start", "HEAD", "HEAD~1"]);
    project.fanout(["run", "-j", "2", "--force"]).succeeded();
}

#[test]
fn conflict_markers_in_a_dep_are_refused_and_elsewhere_not() {
    let project = project("true");
    project.write("notes.txt", "one\n");
    project.commit("notes");
    for (branch, text) in [("side", "side\n"), ("main", "main\n")] {
        let start: &[&str] =
            if branch == "side" { &["checkout", "--quiet", "-b", branch] } else { &["checkout", "--quiet", branch] };
        project.git(start.iter().copied());
        project.write("notes.txt", text);
        project.write("p.txt", text);
        project.commit(branch);
    }
    let merge = Ran::of(project.command("git").args(["merge", "--quiet", "side"]));
    assert_eq!(merge.code, Some(1), "{merge:#?}");
    let refused = project.fanout(["plan"]);
    assert!(refused.code == Some(4) && refused.stderr.contains("`p.txt`, a dep of stage `use@p`"), "{refused:#?}");
    project.write("p.txt", "both\n");
    project.git(["add", "p.txt"]);
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_whole(&project, "both\n");
}

#[test]
fn a_git_directory_beside_the_work_tree_makes_nothing_else_part_of_it() {
    for place in ["../project.git", "../disk/deep/project.git"] {
        let project = project("git describe --always --dirty >> ${item}.out");
        project.write("../private.txt", "secret\n");
        let git = project.path(place);
        std::fs::create_dir_all(git.parent().expect("it has one")).expect("made");
        std::fs::rename(project.path(".git"), &git).expect("moved");
        project.write(".git", &format!("gitdir: {place}\n"));
        let version = project.git(["describe", "--always", "--dirty"]);
        project.fanout(["plan"]).succeeded();
        let planned: serde_json::Value =
            serde_json::from_str(&project.fanout(["status", "--format", "json"]).succeeded()).expect("JSON");
        let store = format!(".dvc/fanout/runs/{}/snapshot", planned["run"].as_str().expect("a name"));
        let objects =
            project.git(["--git-dir", &store, "cat-file", "--batch-all-objects", "--batch-check", "--unordered"]);
        assert!(objects.contains(" commit "), "{objects}");
        let seven = objects.lines().filter(|line| line.ends_with(" blob 7"));
        for line in seven {
            let id = line.split(' ').next().expect("an id");
            assert_ne!(project.git(["--git-dir", &store, "cat-file", "blob", id]), "secret\n");
        }
        project.fanout(["run", "-j", "2"]).succeeded();
        assert_whole(&project, &format!("p\n{version}"));
    }
}

#[test]
fn repositories_in_the_project_are_plain_files_and_answer_for_themselves() {
    let project = project("cat lib/tool.txt tree/p.txt >> ${item}.out && git -C lib describe --always >> ${item}.out");
    project.git(["init", "--quiet", "lib"]);
    project.write("lib/tool.txt", "tool\n");
    project.git(["-C", "lib", "add", "."]);
    project.git(["-C", "lib", "commit", "--quiet", "--message", "a tool"]);
    project.write("lib/tool.txt", "tool, changed\n");
    project.git(["worktree", "add", "--quiet", "-b", "side", "tree"]);
    project.git(["init", "--quiet", "empty"]);
    let version = project.git(["-C", "lib", "describe", "--always"]);
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_whole(&project, &format!("p\ntool, changed\np\n{version}"));
}

#[test]
fn a_project_of_another_user_is_read_as_dvc_does() {
    let project = project("true");
    // The last stage runs in the project itself.
    let last = "  all:\n    cmd: cat p.out q.out > all\n    deps: [p.out, q.out]\n    outs: [all]\n";
    project.write("dvc.yaml", &(project.read("dvc.yaml") + last));
    project.commit("three stages");
    if std::os::unix::fs::chown(project.path(".git"), Some(12345), Some(12345)).is_err()
        || std::os::unix::fs::chown(project.root(), Some(12345), Some(12345)).is_err()
    {
        crate::support::say("skipped: only root can give a project away");
        return;
    }
    let listed = project.fanout(["stages"]);
    assert_eq!(listed.code, Some(0), "{listed:#?}");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_whole(&project, "p\n");
}

#[test]
fn a_project_does_without_git() {
    let project = Project::bare();
    project.dvc(["init", "--quiet", "--no-scm"]);
    fill(&project, "cat tool.sh >> ${item}.out");
    project.write("tool.sh", "#!/bin/sh\n");
    std::fs::set_permissions(project.path("tool.sh"), std::fs::Permissions::from_mode(0o755)).expect("set");
    let refused = project.fanout(["run", "--commit"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("needs git"), "{refused:#?}");
    for step in [&["plan"][..], &["launch", "-j", "2"], &["status"], &["collect"], &["finalize"], &["runs", "prune"]] {
        project.fanout(step.iter().copied()).succeeded();
    }
    assert_whole(&project, "p\n#!/bin/sh\n");
    project.write("p.txt", "another p\n");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_whole(&project, "another p\n#!/bin/sh\n");
    assert!(!project.path(".gitignore").exists(), "there is no git to ignore anything");
}

#[test]
fn a_run_whose_folder_is_cleaned_away_says_so() {
    let project = Project::empty();
    let root = project.root().display().to_string();
    fill(&project, &format!("git -C {root} clean -fdXq"));
    project.commit("two stages");
    let ran = project.fanout(["run", "-j", "1", "--retries", "0", "--workspace", "linked"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("is gone") && ran.stderr.contains("git clean -fdX"), "{ran:#?}");
}

#[test]
fn results_are_not_written_to_another_branch() {
    let project = Project::empty();
    let root = project.root().display().to_string();
    fill(&project, &format!("git -C {root} checkout -q other"));
    project.commit("two stages");
    project.git(["checkout", "--quiet", "-b", "other"]);
    project.write("r.txt", "other\n");
    project.commit("other");
    project.git(["checkout", "--quiet", "main"]);
    // At the project's own path there is the workspace, for commands.
    let ran = project.fanout(["run", "-j", "1", "--workspace", "linked"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("was planned on branch `main`, and the project is on branch `other` now"), "{ran:#?}");
    assert!(ran.stderr.contains("check `main` out again, then run `dvc-fanout finalize"), "{ran:#?}");
    assert_eq!(project.git(["status", "--porcelain"]), "");
    let collected = project.fanout(["collect"]);
    assert_eq!(collected.code, Some(4), "{collected:#?}");
    project.fanout(["collect", "--any-branch", "--dry-run"]).succeeded();
    project.git(["checkout", "--quiet", "main"]);
    project.fanout(["finalize"]).succeeded();
    assert_whole(&project, "p\n");
    project.git(["checkout", "--quiet", "--force", "other"]);
    project.git(["clean", "-fdq"]);
    project.fanout(["finalize", "--any-branch"]).succeeded();
    assert_whole(&project, "p\n");
}

/// What DVC and a run write themselves is never linked, however large: nobody writes into the project through it.
#[test]
fn a_long_lock_file_is_each_workspaces_own() {
    let project = project("true");
    let gone = |number: usize| format!("  gone@{number}:\n    cmd: ./{}\n", "x".repeat(5 << 10));
    let before = format!("schema: '2.0'\nstages:\n{}", (0..1000).map(gone).collect::<String>());
    project.write("dvc.lock", &before);
    for (text, executor) in [("p\n", "native"), ("another p\n", "dvc")] {
        project.write("p.txt", text);
        let ran = project.fanout(["run", "-j", "2", "--executor", executor]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert!(!ran.stderr.contains("dvc.lock"), "{ran:#?}");
        let lock = project.read("dvc.lock");
        assert!(lock.starts_with(&before), "what others had recorded is lost: {} bytes", lock.len());
        assert_eq!(lock[before.len()..].matches("    cmd: ").count(), 2, "{}", &lock[before.len()..]);
    }
}
