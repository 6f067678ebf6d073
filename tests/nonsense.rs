//! State files that are broken, cut off or of another release, and surroundings that lack something: every error says
//! what, where, why and what to do, and nothing breaks for good.

use crate::misbehaviour::{project, standings};
use crate::support::same::{assert_clean, fails_with};
use crate::support::{Project, Ran, run_folder};

/// Runs it and expects an error that has these parts, and a hint.
#[track_caller]
fn refused(project: &Project, code: i32, arguments: &[&str], parts: &[&str]) {
    let ran = fails_with(project, code, arguments.iter().copied());
    for part in parts.iter().chain(&["error: ", "hint: "]) {
        assert!(ran.stderr.contains(part), "{arguments:?} does not say `{part}`: {ran:#?}");
    }
    assert!(!ran.stderr.contains("internal error") && !ran.stderr.contains("panicked"), "{ran:#?}");
}

#[test]
fn broken_files_of_a_run_are_named_and_do_no_harm_to_others() {
    let project = project(&["first", "second"]);
    project.fanout(["plan"]).succeeded();
    let run = run_folder(&project);
    let plan = std::fs::read_to_string(run.join("plan.json")).expect("read");
    let worklist = std::fs::read_to_string(run.join("worklist.jsonl")).expect("read");

    std::fs::write(run.join("plan.json"), plan.replacen("\"version\": 1", "\"version\": 99", 1)).expect("written");
    for command in ["launch", "status", "collect", "finalize", "run"] {
        refused(&project, 4, &[command], &["plan.json", "newer release", "plan again"]);
    }
    let listed = project.fanout(["runs"]);
    assert!(listed.code == Some(0) && listed.stderr.contains("is not readable: "), "{listed:#?}");
    let kept = project.fanout(["runs", "prune", "--keep", "0"]);
    assert!(kept.stdout.contains("nothing to remove") && kept.stderr.contains("--force"), "{kept:#?}");

    std::fs::write(run.join("plan.json"), &plan[..plan.len() / 2]).expect("written");
    refused(&project, 4, &["launch"], &["plan.json", "cause: ", "dvc-fanout plan"]);
    std::fs::write(run.join("plan.json"), &plan).expect("written");
    std::fs::write(run.join("worklist.jsonl"), worklist.split_inclusive('\n').next().expect("a line"))
        .expect("written");
    for command in ["launch", "status", "collect"] {
        refused(&project, 4, &[command], &["worklist.jsonl", "is cut off", "dvc-fanout plan"]);
    }
    std::fs::write(run.join("worklist.jsonl"), &worklist[..worklist.len() - 9]).expect("written");
    refused(&project, 4, &["launch"], &["worklist.jsonl", "dvc-fanout plan"]);

    let ran = project.fanout(["run"]);
    assert!(ran.code == Some(0) && ran.stderr.contains("all is planned anew: "), "{ran:#?}");
    assert!(project.fanout(["runs", "prune", "--keep", "0", "--force"]).succeeded().contains("2 runs removed"));
    assert_clean(&project, &[]);
}

#[test]
fn garbage_among_results_and_in_the_journal_is_passed_over() {
    let project = project(&["first", "second"]);
    project.fanout(["plan"]).succeeded();
    let run = run_folder(&project);
    for (path, bytes) in [
        ("results/0/1/result.json", &b"{\"version\": 1, \"run\": "[..]),
        ("results/0/99999999999999999999/result.json", b"{}"),
        ("results/0/.2-host-1/result.json", b"{}"),
        ("results/1/2/result.json", b"\xff\xfe"),
        ("results/77/1/result.json", b"{}"),
        ("results/words", b"?"),
        (
            "events.jsonl",
            b"\xff\xfe\n{\"version\":1,\"time\":\"2024-01-01T00:00:00Z\",\"event\":\"from_the_future\"}\n{\"versi",
        ),
    ] {
        std::fs::create_dir_all(run.join(path).parent().expect("it has one")).expect("made");
        std::fs::write(run.join(path), bytes).expect("written");
    }
    project.fanout(["status", "--all"]).succeeded();
    let ran = project.fanout(["run", "-j", "2"]);
    assert!(ran.stderr.contains("rejected: work item 0 (`first`), attempt 1"), "{ran:#?}");
    assert_eq!(ran.code, Some(0), "another attempt counts: {ran:#?}");
    assert!(standings(&project).values().all(|standing| standing.starts_with("done")), "{:?}", standings(&project));
    assert_clean(&project, &[]);
}

/// What a file system may leave of the last files that were written when the power goes.
#[test]
fn a_result_that_a_power_cut_emptied_counts_as_not_there() {
    let project = project(&["first", "second"]);
    project.fanout(["plan"]).succeeded();
    project.fanout(["launch", "-j", "2"]).succeeded();
    let run = run_folder(&project);
    std::fs::write(run.join("results/0/1/result.json"), "").expect("written");
    std::fs::write(run.join("results/1/1/result.json"), [0; 512]).expect("written");
    let ran = project.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(!ran.stderr.contains("rejected"), "{ran:#?}");
    assert!(standings(&project).values().all(|standing| standing.starts_with("done")), "{:?}", standings(&project));
    assert_clean(&project, &[]);
}

#[test]
fn what_the_surroundings_lack_is_said_or_not_missed() {
    let project = project(&["first"]);
    for (arguments, part) in [
        (&["run", "-j", "0"][..], "'--jobs <N>': it is a number from 1"),
        (&["run", "--max-failed", "200%"], "percentage"),
        (&["run", "--timeout", "soon"], "--timeout"),
        (&["run", "--retries", "-1"], "-1"),
        (&["launch", "--phase", "x"], "--phase"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let ran = fails_with(&project, 2, arguments.iter().copied());
        assert!(ran.stderr.contains(part), "{ran:#?}");
    }
    refused(&project, 4, &["launch"], &["there is no plan", "dvc-fanout plan"]);
    let fanout = |arguments: &[&str]| {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(arguments);
        command
    };
    let ran = Ran::of(fanout(&["plan", "--executor", "dvc"]).env("PATH", "/nowhere"));
    assert!(
        ran.code == Some(4) && ran.stderr.contains("no `dvc` on the PATH") && ran.stderr.contains("hint: "),
        "{ran:#?}"
    );
    let ran = Ran::of(fanout(&["plan", "--executor", "dvc"]).env("DVC_FANOUT_DVC", "/nowhere"));
    assert!(ran.code == Some(4) && ran.stderr.contains("DVC_FANOUT_DVC is no program: `/nowhere`"), "{ran:#?}");
    for (variable, wrong) in [("JOBS", "x"), ("FAIL_FAST", "x"), ("EXECUTOR", "x"), ("ENGINE", "x"), ("MEMORY", "10")] {
        let variable = format!("DVC_FANOUT_{variable}");
        let ran = Ran::of(fanout(&["run"]).env(&variable, wrong));
        let said = format!("error: invalid value '{wrong}' for '{variable}'");
        assert!(ran.code == Some(2) && ran.stderr.starts_with(&said), "{ran:#?}");
    }
    let ran = Ran::of(fanout(&["run", "--jobs", "x"]).env("DVC_FANOUT_JOBS", "y"));
    assert!(ran.stderr.starts_with("error: invalid value 'x' for '--jobs <N>'"), "{ran:#?}");
    let ran = fails_with(&project, 2, ["--cd", "dvc.yaml", "plan"]);
    assert!(ran.stderr.starts_with("error: cannot start in `dvc.yaml`\ncause: it is no folder\n"), "{ran:#?}");
    Ran::of(fanout(&["plan"]).env_remove("HOME")).succeeded();
}
