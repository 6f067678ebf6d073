//! How much runs, how often and how long: `--fail-fast`, `--max-failed`, `--retries`, `--nice`, two runs at once, and
//! what is seen of it. Order is told by the words that commands leave.

use crate::misbehaviour::{project, standings, words};
use crate::runs::{start, wait_until};
use crate::support::same::{assert_clean, fails_with};
use crate::support::{Ran, tool};

#[test]
fn fail_fast_starts_no_more_in_any_phase() {
    let project = project(&["good", "bytes", "rest"]);
    let sum = "stages:\n  sum:\n    cmd: echo sum >> $HOME/words\n    deps: [out/good.txt]\n";
    project.edit("dvc.yaml", "stages:\n", sum);
    project.commit("a stage for the end");
    let ran = fails_with(&project, 1, ["run", "-j", "1", "--fail-fast"]);
    assert_eq!(words(&project), ["good", "bytes"], "{ran:#?}");
    assert!(ran.stderr.contains("too many work items have failed: starting no more"), "{ran:#?}");
    fails_with(&project, 1, ["run", "-j", "1", "--keep-going"]);
    assert_eq!(words(&project)[2..], ["sum", "bytes", "rest"], "without it, all run");
}

#[test]
fn max_failed_counts_a_part_of_all() {
    let project = project(&["bytes", "good", "long", "other", "rest"]);
    // 40 % of five are two.
    let ran = fails_with(&project, 1, ["run", "-j", "1", "--max-failed", "40%"]);
    assert_eq!(words(&project), ["bytes", "good", "long"], "{ran:#?}");
    assert!(ran.stderr.contains("1 work item done, 2 failed, 2 not run"), "{ran:#?}");
}

#[test]
fn a_failed_command_is_tried_again_only_if_asked_for_and_others_run_meanwhile() {
    let project = project(&["flaky", "good"]);
    fails_with(&project, 1, ["run", "-j", "1"]);
    assert_eq!(words(&project), ["flaky", "good"], "not tried again by itself");
    std::fs::remove_file(project.path("../home/tries")).expect("removed");
    project.write("raw/good.txt", "better\n");
    let ran = project.fanout(["run", "-j", "1", "--retries", "2"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(words(&project)[2..], ["flaky", "good", "flaky", "flaky"]);
    for wait in ["next attempt in 1 s", "next attempt in 2 s"] {
        assert!(ran.stderr.contains(wait), "the wait doubles: {ran:#?}");
    }
    assert_clean(&project, &[]);
}

#[test]
fn commands_run_as_nicely_as_asked_for() {
    let project = project(&["nice"]);
    project.fanout(["run", "--nice", "3"]).succeeded();
    let own = Ran::of(&mut project.command("nice")).succeeded();
    let own: i32 = own.trim().parse().expect("a number");
    assert_eq!(project.read("../home/nice").trim(), (own + 3).to_string());
}

#[test]
fn a_priority_that_cannot_be_is_refused_wherever_it_stands() {
    let project = project(&["nice"]);
    let said = "a number from 0 to 19";
    for nice in ["--nice=-5", "--nice=20", "--nice=2147483647"] {
        let ran = fails_with(&project, 2, ["run", nice]);
        assert!(ran.stderr.contains("--nice") && ran.stderr.contains(said), "{ran:#?}");
    }
    let ran = Ran::of(project.command(env!("CARGO_BIN_EXE_dvc-fanout")).arg("run").env("DVC_FANOUT_NICE", "-5"));
    assert!(ran.code == Some(2) && ran.stderr.contains(said), "{ran:#?}");
    for nice in ["-5", "100"] {
        project.write(".dvc/fanout/config.yaml", &format!("nice: {nice}\n"));
        let ran = fails_with(&project, 4, ["run"]);
        assert!(ran.stderr.contains("`nice`") && ran.stderr.contains(said), "{ran:#?}");
    }
    assert_eq!(words(&project), [""; 0]);
}

#[test]
fn two_runs_at_once_work_in_peace_or_are_told_so() {
    let project = project(&["gated", "good"]);
    let mut first = start(&project, ["run", "-j", "1", "w@gated"]);
    wait_until(&|| format!("{:?}", words(&project)), &|| words(&project) == ["gated"]);
    let again = fails_with(&project, 5, ["run", "-j", "1", "w@gated"]);
    assert!(again.stderr.contains("is being launched already, by process"), "{again:#?}");
    assert!(again.stderr.contains("dvc-fanout cancel"), "{again:#?}");
    project.fanout(["run", "-j", "1", "w@good"]).succeeded();
    assert_eq!(standings(&project)["good"], "done 1", "it has a slot of its own");
    let kept = project.fanout(["runs", "prune", "--keep", "0", "--force"]);
    assert!(kept.stderr.contains("it is on") && kept.stdout.contains("1 run removed"), "{kept:#?}");
    project.write("../home/gate", "");
    assert!(first.0.wait().expect("ended").success());
    assert_eq!(words(&project), ["gated", "good"], "each ran once");
    assert_clean(&project, &[]);
}

#[test]
fn a_terminal_shows_a_bar_and_ci_shows_lines() {
    let Some(script) = tool("script") else { return };
    let shown = |is_ci: bool| {
        let project = project(&["bytes", "good", "other"]);
        let typescript = project.path("../typescript");
        let mut command = project.command(&script);
        command.env("TERM", "xterm").env("SHELL", "/bin/sh");
        if is_ci {
            command.env("CI", "true");
        }
        let run = format!("stty cols 120 rows 40; exec {} run -j 1", env!("CARGO_BIN_EXE_dvc-fanout"));
        let ran = Ran::of(command.args(["--quiet", "--return", "--command", &run]).arg(&typescript));
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        std::fs::read_to_string(typescript).expect("read")
    };
    let bar = shown(false);
    for part in ["0/3", "(left: ", "bytes", "1 failed  good", "2/3", "bytes: FAILED: stage `w@bytes` failed to run"] {
        assert!(bar.contains(part), "no `{part}`:\n{bar}");
    }
    assert!(!bar.contains("good: started"), "the bar is enough:\n{bar}");
    let lines = shown(true);
    for part in ["bytes: started in slot 0", "bytes: FAILED", "good: done", "2 work items done, 1 failed"] {
        assert!(lines.contains(part), "no `{part}`:\n{lines}");
    }
    assert!(!lines.contains("left: "), "no bar in CI:\n{lines}");
}
