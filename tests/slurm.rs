//! The Slurm engine on a real Slurm: real arrays, real nodes that die, and afterwards the project is what `dvc repro`
//! would have left.

use crate::support::same::{assert_clean, assert_same, fails_with};
use crate::support::slurm::{Slurm, gated, keys, spawn, wait_for};
use crate::support::{Project, attempts};

/// Runs a fixture with `dvc repro` and through the cluster, and holds the two against each other.
#[track_caller]
pub(crate) fn same_through_slurm(
    fixture: &str,
    targets: &[&str],
    variables: &[(&str, &str)],
) -> Option<(Slurm, Project)> {
    let slurm = Slurm::start(variables)?;
    let (serial, fanned) = (Project::from_fixture(fixture), Project::from_fixture(fixture));
    serial.dvc([&["repro"], targets].concat());
    let ran = slurm.fanout(&fanned, &[&["run"], targets].concat());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, fixture);
    assert_clean(&fanned, targets);
    Some((slurm, fanned))
}

#[test]
fn a_project_with_sessions_ends_as_dvc_repro_leaves_it() {
    let Some((slurm, project)) = same_through_slurm("sessions", &[], &[]) else { return };
    assert_eq!(attempts(&project)[..4], [1, 1, 1, 1]);
    let report = slurm.fanout(&project, &["report", "--format", "json"]).succeeded();
    let report: serde_json::Value = serde_json::from_str(&report).expect("it is JSON");
    let item = &report["work_items"][0];
    assert_eq!(item["used"]["cpus"], 1.0, "{item}");
    assert!(item["attempts"][0]["place"].as_str().is_some_and(|place| place.contains(", task 1_")), "{item}");
    let text = slurm.fanout(&project, &["report"]).succeeded();
    assert!(text.contains("of the CPUs that were asked for"), "{text}");
    assert!(!slurm.limits_memory() || text.contains("% of the memory ("), "{text}");
    let status = slurm.fanout(&project, &["doctor", "--engine", "slurm"]).stdout;
    assert!(status.contains("Slurm 2") && status.contains("arrays of up to 1001 tasks"), "{status}");
}

#[test]
fn stages_of_other_keys_end_as_dvc_repro_leaves_them() {
    same_through_slurm("window", &[], &[]);
}

#[test]
fn stages_that_fail_are_told_and_the_good_ones_stay() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(3, "'test ${item} != k1 && echo ${item} > ${item}.txt'");
    let ran = slurm.fanout(&project, &["run"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k1: FAILED"), "{}", ran.stderr);
    assert!(project.path("k0.txt").is_file() && project.path("k2.txt").is_file());
    assert_eq!(attempts(&project), [1, 1, 1]);
}

#[test]
fn cancel_leaves_nothing_in_the_queue() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "sleep 600 && echo ${item} > ${item}.txt");
    project.fanout(["plan"]).succeeded();
    let mut launcher = spawn(&slurm, &project, &["launch"]);
    wait_for("both tasks run", || slurm.runs(2));
    launcher.kill().expect("killed");
    launcher.wait().expect("waited for");
    // A job of somebody else may have the same name.
    let name = slurm.call("squeue", &["-h", "-t", "R", "-o", "%j"]).lines().next().expect("it runs").to_owned();
    let other = slurm.call("sbatch", &["--parsable", "-J", &name, "-o", "/dev/null", "--wrap", "sleep 600"]);
    let ran = slurm.fanout(&project, &["cancel"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(slurm.call("squeue", &["-h", "-o", "%A"]), other);
    slurm.call("scancel", &[other.trim()]);
    wait_for("no process is left", || project.processes().is_empty());
}

/// What waits is not begun, what runs comes to its end, and what there is comes home, whoever watches.
#[test]
fn a_run_that_is_drained_ends_with_what_runs() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    for is_watched in [true, false] {
        let (project, go) = gated(4);
        if !is_watched {
            project.fanout(["plan"]).succeeded();
        }
        let mut launcher = Some(spawn(&slurm, &project, &[if is_watched { "run" } else { "launch" }, "--jobs", "2"]));
        wait_for("two tasks run", || slurm.runs(2));
        if let Some(mut launcher) = launcher.take_if(|_| !is_watched) {
            launcher.kill().expect("killed");
            launcher.wait().expect("waited for");
        }
        let mut cancel = spawn(&slurm, &project, &["cancel", "--drain"]);
        wait_for("nothing waits", || slurm.call("squeue", &["-h", "-t", "PD", "-o", "%K"]).is_empty());
        assert!(slurm.runs(2) && cancel.try_wait().expect("looked at").is_none());
        std::fs::write(&go, "").expect("written");
        assert!(cancel.wait().expect("waited for").success());
        if let Some(mut launcher) = launcher {
            assert_eq!(launcher.wait().expect("waited for").code(), Some(130));
        } else {
            assert_eq!(project.fanout(["collect"]).code, Some(0));
            project.dvc(["checkout", "k0.txt", "k1.txt"]);
        }
        assert_eq!((project.read("k0.txt"), project.read("k1.txt")), ("k0\n".into(), "k1\n".into()));
        assert!(!project.path("k2.txt").exists());
        let status = project.fanout(["status"]).succeeded();
        assert!(status.contains("2 done, 2 waiting"), "{status}");
        let ran = slurm.fanout(&project, &["run"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert_eq!(attempts(&project), [1, 1, 1, 1]);
        assert_clean(&project, &[]);
    }
}

/// Later phases and the job that would see to the end are in the queue already.
#[test]
fn a_run_that_was_handed_over_and_is_drained_begins_no_later_phase() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (project, go) = gated(1);
    let join = "  join:\n    cmd: cat k0.txt > b\n    deps: [k0.txt]\n    outs: [b]\n";
    let last = "  last:\n    foreach: ${keys}\n    do:\n      cmd: cp b ${item}.c\n      deps: [b]\n      outs: ['${item}.c']\n";
    project.write("dvc.yaml", &format!("{}{join}{last}", project.read("dvc.yaml")));
    project.commit("three phases");
    project.fanout(["plan"]).succeeded();
    let ran = slurm.fanout(&project, &["launch", "--detach", "--then", "finalize"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    wait_for("the task runs", || slurm.runs(1));
    for command in ["run", "launch"] {
        let here = fails_with(&project, 2, [command]);
        assert!(
            here.stderr.contains("is left to the cluster") && here.stderr.contains("`--engine slurm`"),
            "{here:#?}"
        );
    }
    let mut cancel = spawn(&slurm, &project, &["cancel", "--drain"]);
    wait_for("nothing waits", || slurm.call("squeue", &["-h", "-t", "PD", "-o", "%j"]).is_empty());
    std::fs::write(&go, "").expect("written");
    assert!(cancel.wait().expect("waited for").success());
    assert_eq!(attempts(&project), [1]);
    assert!(slurm.call("squeue", &["-h"]).is_empty());
    let ran = slurm.fanout(&project, &["run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(attempts(&project), [1, 1, 1]);
    assert_clean(&project, &[]);
}

/// One has failed already, so that nothing else would wait for the rest.
#[test]
fn a_run_is_not_ended_while_its_tasks_may_be_at_work() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (project, go) = gated(2);
    project.edit("dvc.yaml", "'while", "'test ${item} = k0 || exit 1; while");
    project.commit("one fails");
    project.fanout(["plan"]).succeeded();
    slurm.fanout(&project, &["launch", "--detach"]).succeeded();
    let is_failed = || project.fanout(["status"]).succeeded().contains("1 failed");
    wait_for("the task runs, and the other has failed", || slurm.runs(1) && is_failed());
    let ran = fails_with(&project, 1, ["finalize"]);
    assert!(ran.stderr.contains("1 work item of run"), "{ran:#?}");
    assert!(ran.stderr.contains("may still be running in the cluster"), "{ran:#?}");
    std::fs::write(&go, "").expect("written");
    let ran = slurm.fanout(&project, &["launch"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    fails_with(&project, 1, ["finalize"]);
    assert_eq!(project.read("k0.txt"), "k0\n");
    assert_eq!(attempts(&project), [1, 1]);
}

/// What happens between two looks at the queue is known from the workers themselves.
#[test]
fn reports_say_how_long_work_items_took_however_rarely_slurm_is_asked() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(4, "sleep 0.7 && echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let report: serde_json::Value =
        serde_json::from_str(&project.fanout(["report", "--format", "json"]).succeeded()).expect("JSON");
    for item in report["work_items"].as_array().expect("a list") {
        let seconds = item["attempts"][0]["seconds"].as_f64().expect("a number");
        assert!(seconds >= 0.7, "{item:#}");
    }
}

/// Before its time is over, a command has some of it to save what it has.
#[test]
fn a_command_that_the_time_limit_ends_has_time_to_save_what_it_has() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "sh SCRIPT && echo ${item} > ${item}.txt");
    let script = project.root().with_file_name("script");
    let (saved, text) =
        (script.with_file_name("saved"), "sleep 600 & trap 'sleep 12; echo saved > SAVED; exit 1' TERM; wait");
    std::fs::write(&script, text.replace("SAVED", &saved.display().to_string())).expect("written");
    project.edit("dvc.yaml", "SCRIPT", script.to_str().expect("text"));
    project.commit("a script");
    let ran = slurm.fanout(&project, &["run", "--signal", "40", "--job-grace", "35s"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("make it at least 95"), "{}", ran.stderr);
    let ran = slurm.fanout(&project, &["run", "--partition", "short", "--signal", "40", "--job-grace", "20s"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k0: FAILED: it took longer than"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&saved).expect("saved"), "saved\n");
}

/// The partition ends a task after a minute; the worker is told before, and publishes what there is to say.
#[test]
fn a_work_item_that_the_time_limit_ends_is_one_that_took_too_long() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "sleep 600 && echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run", "--partition", "short", "--signal", "20"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k0: FAILED: it took longer than"), "{}", ran.stderr);
    assert!(ran.stderr.contains("raise `--time`"), "{}", ran.stderr);
    assert_eq!(attempts(&project), [1], "another array would have no more time");
}
