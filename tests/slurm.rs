//! The Slurm engine on a real Slurm: real arrays, real nodes that die, and afterwards the project is what `dvc repro`
//! would have left.

use std::process::{Child, Stdio};

use crate::support::same::{assert_clean, assert_same};
use crate::support::slurm::{Slurm, wait_for};
use crate::support::{Project, Ran};

/// Runs a fixture with `dvc repro` and through the cluster, and holds the two against each other.
#[track_caller]
fn same_through_slurm(fixture: &str, targets: &[&str], variables: &[(&str, &str)]) -> Option<(Slurm, Project)> {
    let slurm = Slurm::start(variables)?;
    let (serial, fanned) = (Project::from_fixture(fixture), Project::from_fixture(fixture));
    serial.dvc([&["repro"], targets].concat());
    let ran = slurm.fanout(&fanned, &[&["run"], targets].concat());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, fixture);
    assert_clean(&fanned, targets);
    Some((slurm, fanned))
}

/// A project of one template with some keys, each of which runs a command. `wait KEY` runs until `go` is there.
fn keys(count: usize, command: &str) -> Project {
    let project = Project::empty();
    let keys: Vec<String> = (0..count).map(|key| format!("k{key}")).collect();
    let keys = keys.join(", ");
    project.write("params.yaml", &format!("keys: [{keys}]\n"));
    project.write(
        "dvc.yaml",
        &format!("stages:\n  work:\n    foreach: ${{keys}}\n    do:\n      cmd: {command}\n      outs:\n      - ${{item}}.txt\n"),
    );
    project.commit("keys");
    project
}

/// The folder of the latest run.
fn run_folder(project: &Project) -> std::path::PathBuf {
    let runs = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("there are runs");
    runs.map(|run| run.expect("listed").path()).max().expect("one")
}

/// How many attempts at each work item have begun.
fn attempts(project: &Project) -> Vec<usize> {
    let results = run_folder(project).join("results");
    let mut folders: Vec<_> = std::fs::read_dir(results).expect("results").map(|f| f.expect("listed").path()).collect();
    folders.sort();
    let is_log = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".log");
    let count = |folder: &std::path::PathBuf| {
        std::fs::read_dir(folder).expect("listed").filter(|f| is_log(f.as_ref().expect("listed").file_name())).count()
    };
    folders.iter().map(count).collect()
}

fn spawn(slurm: &Slurm, project: &Project, arguments: &[&str]) -> Child {
    let mut command = slurm.command(project, arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    command.spawn().expect("started")
}

#[test]
fn a_project_with_sessions_ends_as_dvc_repro_leaves_it() {
    let Some((slurm, project)) = same_through_slurm("sessions", &[], &[]) else { return };
    assert_eq!(attempts(&project)[..4], [1, 1, 1, 1]);
    let status = slurm.fanout(&project, &["doctor", "--engine", "slurm"]).stdout;
    assert!(status.contains("Slurm 2") && status.contains("arrays of up to 1001 tasks"), "{status}");
}

#[test]
fn stages_of_other_keys_end_as_dvc_repro_leaves_them() {
    same_through_slurm("window", &[], &[]);
}

#[test]
fn arrays_are_as_large_as_the_cluster_takes() {
    let Some((slurm, _)) = same_through_slurm("sessions", &[], &[("MAX_ARRAY_SIZE", "3")]) else { return };
    assert!(slurm.arrays().len() >= 2, "{:?}", slurm.arrays());
}

#[test]
fn a_launcher_that_was_killed_is_followed_by_one_that_goes_on() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(3, "'while [ ! -e ../go ]; do sleep 0.1; done; echo ${item} > ${item}.txt'");
    let go = project.root().with_file_name("go");
    project.edit("dvc.yaml", "../go", go.to_str().expect("text"));
    project.commit("a gate");
    project.fanout(["plan"]).succeeded();
    let mut first = spawn(&slurm, &project, &["launch"]);
    wait_for("all tasks run", || slurm.call("squeue", &["-h", "-t", "R", "-o", "%K"]).lines().count() == 3);
    first.kill().expect("killed");
    first.wait().expect("waited for");
    let mut second = spawn(&slurm, &project, &["launch"]);
    wait_for("the second launcher goes on", || {
        std::fs::read_to_string(run_folder(&project).join("events.jsonl"))
            .expect("a journal")
            .contains("going on with array")
    });
    std::fs::write(&go, "").expect("written");
    assert!(second.wait().expect("waited for").success());
    assert_eq!(slurm.arrays().len(), 1);
    assert_eq!(attempts(&project), [1, 1, 1]);
}

/// Puts a program before the real one on the PATH.
fn stand_in(project: &Project, name: &str, script: &str) -> String {
    let folder = project.root().with_file_name("stand-ins");
    std::fs::create_dir_all(&folder).expect("made");
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}")).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    format!("{}:{}", folder.display(), std::env::var("PATH").expect("there is one"))
}

#[test]
fn an_answer_that_was_lost_does_not_submit_twice() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "echo ${item} > ${item}.txt");
    let lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation";
    let path = stand_in(&project, "sbatch", &format!("/usr/bin/sbatch \"$@\" >/dev/null\necho '{lost}' >&2\nexit 1\n"));
    let ran = Ran::of(slurm.command(&project, &["run"]).env("PATH", path));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("looking whether array"), "{}", ran.stderr);
    assert_eq!(slurm.arrays().len(), 1);
    assert_clean(&project, &[]);
}

#[test]
fn a_site_that_prints_banners_is_understood() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "echo ${item} > ${item}.txt");
    let script =
        "echo 'Welcome! 12 jobs of 100 are used.'\n/usr/bin/sbatch \"$@\"\necho 'sbatch: lua: have a nice day' >&2\n";
    let path = stand_in(&project, "sbatch", script);
    let ran = Ran::of(slurm.command(&project, &["run"]).env("PATH", path));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
}

#[test]
fn what_slurm_refuses_is_said_with_the_flag() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run", "--constraint", "nothing"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(
        ran.stderr.contains("Invalid feature specification") && ran.stderr.contains("--constraint=nothing"),
        "{ran:#?}"
    );
    let ran = slurm.fanout(&project, &["run", "--partition", "short", "--time", "5"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("partition `short` does not run tasks for so long"), "{ran:#?}");
    let ran = slurm.fanout(&project, &["run", "--sbatch-arg=--wait"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(slurm.arrays().is_empty());
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
fn a_task_that_needs_too_much_memory_says_so() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    if !slurm.limits_memory() {
        return;
    }
    let project = keys(1, "python3 -c 'x = bytearray(900 << 20)' && echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run", "--mem", "300M"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("out of memory"), "{}", ran.stderr);
}

#[test]
fn a_node_that_dies_loses_nothing() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "'while [ ! -e GO ]; do sleep 0.1; done; echo ${item} > ${item}.txt'");
    let go = project.root().with_file_name("go");
    project.edit("dvc.yaml", "GO", go.to_str().expect("text"));
    project.commit("a gate");
    let mut launcher = spawn(&slurm, &project, &["run", "--partition", "flaky"]);
    wait_for("both tasks run", || slurm.call("squeue", &["-h", "-t", "R", "-o", "%K"]).lines().count() == 2);
    let node = slurm.node(4);
    slurm.signal(&format!("slurmd.{node}"), "-KILL");
    wait_for("the tasks wait again", || slurm.call("squeue", &["-h", "-t", "PD", "-o", "%K"]).lines().count() > 0);
    std::fs::write(&go, "").expect("written");
    slurm.start_again(&["node", "4"]);
    assert!(launcher.wait().expect("waited for").success());
    assert_clean(&project, &[]);
}

#[test]
fn a_controller_that_goes_away_comes_back_to_the_same_arrays() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(3, "'while [ ! -e GO ]; do sleep 0.1; done; echo ${item} > ${item}.txt'");
    let go = project.root().with_file_name("go");
    project.edit("dvc.yaml", "GO", go.to_str().expect("text"));
    project.commit("a gate");
    let mut launcher = spawn(&slurm, &project, &["run"]);
    wait_for("all tasks run", || slurm.call("squeue", &["-h", "-t", "R", "-o", "%K"]).lines().count() == 3);
    slurm.signal("slurmctld", "-KILL");
    wait_for("the launcher notices", || {
        std::fs::read_to_string(run_folder(&project).join("events.jsonl"))
            .expect("a journal")
            .contains("does not answer")
    });
    std::fs::write(&go, "").expect("written");
    slurm.start_again(&["controller"]);
    assert!(launcher.wait().expect("waited for").success());
    assert_clean(&project, &[]);
}

#[test]
fn preempted_tasks_start_again_by_themselves() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "'while [ ! -e GO ]; do sleep 0.1; done; echo ${item} > ${item}.txt'");
    let go = project.root().with_file_name("go");
    project.edit("dvc.yaml", "GO", go.to_str().expect("text"));
    project.commit("a gate");
    let mut launcher = spawn(&slurm, &project, &["run", "--partition", "low", "--cpus-per-task", "8"]);
    wait_for("the task runs", || slurm.call("squeue", &["-h", "-t", "R", "-o", "%K"]).lines().count() == 1);
    let id = slurm.call("sbatch", &["--parsable", "-p", "high", "-c", "8", "-o", "/dev/null", "--wrap", "sleep 1"]);
    wait_for("the other one has run", || {
        slurm.call("squeue", &["-h", "-t", "CD", "-j", id.trim()]).contains(id.trim())
    });
    std::fs::write(&go, "").expect("written");
    assert!(launcher.wait().expect("waited for").success());
    assert_eq!(slurm.arrays().len(), 2, "Slurm starts it again, the launcher does not");
    assert_clean(&project, &[]);
}

#[test]
fn cancel_leaves_nothing_in_the_queue() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "sleep 600 && echo ${item} > ${item}.txt");
    project.fanout(["plan"]).succeeded();
    let mut launcher = spawn(&slurm, &project, &["launch"]);
    wait_for("both tasks run", || slurm.call("squeue", &["-h", "-t", "R", "-o", "%K"]).lines().count() == 2);
    launcher.kill().expect("killed");
    launcher.wait().expect("waited for");
    let ran = slurm.fanout(&project, &["cancel"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(slurm.call("squeue", &["-h"]), "");
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

#[test]
fn a_dry_run_prints_what_would_be_submitted_and_no_secrets() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "echo $TOKEN > ${item}.txt");
    project.fanout(["plan"]).succeeded();
    let flags = ["launch", "--job-env", "TOKEN=hunter2 and 'more'", "--prologue", "export OTHER=1"];
    let printed = slurm.fanout(&project, &[&flags[..], &["--dry-run"]].concat()).succeeded();
    assert!(printed.contains("sbatch --parsable") && printed.contains("--array=0-1"), "{printed}");
    assert!(printed.contains("export OTHER=1") && !printed.contains("hunter2"), "{printed}");
    assert!(slurm.arrays().is_empty());
    let ran = slurm.fanout(&project, &flags);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    project.fanout(["collect"]).succeeded();
    project.fanout(["finalize"]).succeeded();
    assert_eq!(project.read("k0.txt"), "hunter2 and 'more'\n");
    for entry in std::fs::read_dir(run_folder(&project).join("jobs")).expect("listed") {
        let path = entry.expect("listed").path();
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("looked at").permissions());
        if std::fs::read_to_string(&path).expect("read").contains("hunter2") {
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
    }
}

#[test]
fn a_run_that_was_handed_over_ends_as_dvc_repro_leaves_it() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (serial, fanned) = (Project::from_fixture("split-merge"), Project::from_fixture("split-merge"));
    serial.dvc(["repro"]);
    fanned.fanout(["plan"]).succeeded();
    let ran = slurm.fanout(&fanned, &["launch", "--detach", "--then", "finalize"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("launches run"), "{}", ran.stderr);
    wait_for("everything has ended", || slurm.call("squeue", &["-h"]).is_empty());
    let said = std::fs::read_dir(run_folder(&fanned).join("jobs")).expect("listed");
    let said: String = said
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.to_string_lossy().ends_with("controller.out"))
        .map(|path| std::fs::read_to_string(path).expect("read"))
        .collect();
    assert_same(&serial, &fanned, &said);
    assert_clean(&fanned, &[]);
}

#[test]
fn a_task_that_slurm_forgets_is_known_by_its_result() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "'test ${item} != k1 && echo ${item} > ${item}.txt'");
    // As after `MinJobAge`, and without accounting.
    let script = "/usr/bin/squeue \"$@\" | grep -v -e '|COMPLETED|' -e '|FAILED|'\nexit 0\n";
    let path = stand_in(&project, "squeue", script);
    let ran = Ran::of(slurm.command(&project, &["run"]).env("PATH", path));
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k0: done") && ran.stderr.contains("k1: FAILED: stage"), "{}", ran.stderr);
    assert_eq!(attempts(&project), [1, 1]);
}

#[test]
fn nothing_that_squeue_says_makes_a_work_item_succeed() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "echo ${item} > ${item}.txt");
    // States of other releases, cut lines, and a job of somebody else that has our array's name.
    let script = "for word in \"$@\"; do name=$word; done\n\
                  printf '1|0|1|EXPEDITING|None|n1|%s|x\\n' \"$name\"\n\
                  printf '99|0|99|COMPLETED|None|n1|%s|somebody else\\n1|0|1|COM' \"$name\"\n\
                  printf 'rubbish\\n\\0|||||||||\\n'\n\
                  /usr/bin/squeue \"$@\"\n";
    let path = stand_in(&project, "squeue", script);
    let ran = Ran::of(slurm.command(&project, &["run"]).env("PATH", path));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(attempts(&project), [1]);
    assert_clean(&project, &[]);
}

#[test]
fn a_cluster_that_is_not_there_is_said_before_anything_is_submitted() {
    let project = keys(1, "echo ${item} > ${item}.txt");
    let path = stand_in(
        &project,
        "scontrol",
        "echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2\nexit 1\n",
    );
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let ran = Ran::of(command.args(["run", "--engine", "slurm"]).env("PATH", path));
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.contains("Unable to contact slurm controller"), "{}", ran.stderr);
    assert!(!run_folder(&project).join("jobs").exists());
}

/// As after a prolog that failed: Slurm holds the task, and it would never go on by itself.
#[test]
fn tasks_that_slurm_holds_after_a_failure_of_a_node_are_released() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(1, "'while [ ! -e GO ]; do sleep 0.1; done; echo ${item} > ${item}.txt'");
    let go = project.root().with_file_name("go");
    project.edit("dvc.yaml", "GO", go.to_str().expect("text"));
    project.commit("a gate");
    let mut launcher = spawn(&slurm, &project, &["run"]);
    wait_for("the task runs", || slurm.call("squeue", &["-h", "-t", "R", "-o", "%K"]).lines().count() == 1);
    let id = slurm.arrays().concat();
    slurm.call("scontrol", &["requeuehold", &id]);
    std::fs::write(&go, "").expect("written");
    assert!(launcher.wait().expect("waited for").success());
    assert_eq!(slurm.arrays().len(), 1);
    assert_clean(&project, &[]);
}
