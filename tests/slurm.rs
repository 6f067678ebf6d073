//! The Slurm engine on a real Slurm: real arrays, real nodes that die, and afterwards the project is what `dvc repro`
//! would have left.

use crate::support::same::{assert_clean, assert_same};
use crate::support::slurm::{Slurm, keys, spawn, wait_for};
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
    wait_for("no process is left", || project.processes().is_empty());
}

/// The partition ends a task after a minute; the worker is told before, and publishes what there is to say.
#[test]
fn a_work_item_that_the_time_limit_ends_is_one_that_took_too_long() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "sleep 600 && echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run", "--partition", "short", "--signal", "20"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k0: FAILED: it took longer than"), "{}", ran.stderr);
    assert_eq!(attempts(&project), [1], "another array would have no more time");
}
