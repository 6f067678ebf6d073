//! What the Slurm engine puts into the queue, and what becomes of it where it is refused, lost or handed over.

use crate::support::same::{assert_clean, assert_same};
use crate::support::slurm::{Slurm, gated, keys, stand_in, wait_for};
use crate::support::{Project, Ran, attempts, run_folder};

#[test]
fn arrays_are_as_large_as_the_cluster_takes() {
    let Some((slurm, _)) = crate::slurm::same_through_slurm("sessions", &[], &[("MAX_ARRAY_SIZE", "3")]) else {
        return;
    };
    assert!(slurm.arrays().len() >= 2, "{:?}", slurm.arrays());
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

/// One file for all, one each, or where it is wanted; those that nobody said anything in are gone afterwards.
#[test]
fn what_tasks_print_is_where_it_is_wanted() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let outputs = |folder: &std::path::Path| {
        let names = std::fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.retain(|name| name.ends_with(".out"));
        names.sort_unstable();
        names
    };
    let prologue = "test $SLURM_ARRAY_TASK_ID != 1 || { echo 'error: no licence for it' >&2; exit 3; }";
    for (place, wanted) in [("array", "g1.out"), ("task", "g1-1.out"), (".dvc/tmp/said/%x_%a.out", "g1_1.out")] {
        let project = keys(3, "echo ${item} > ${item}.txt");
        let flags = ["run", "--job-output", place, "--retries", "0", "--prologue", prologue];
        let ran = slurm.fanout(&project, &flags);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("k1: a tool failed: the worker failed on node"), "{}", ran.stderr);
        assert!(ran.stderr.contains("what comes before the worker failed with 3"), "{}", ran.stderr);
        let said_in = project.path(".dvc/tmp/said");
        let folder = if place.contains('/') { said_in } else { run_folder(&project).join("jobs") };
        let found = outputs(&folder);
        assert!(found.len() == 1 && found[0].ends_with(wanted), "{place}: {found:?}");
        assert!(std::fs::read_to_string(folder.join(&found[0])).expect("read").contains("no licence for it"));
    }
    let project = keys(1, "echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run", "--job-output", "%a/out"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("names many folders"), "{}", ran.stderr);
    let ran = slurm.fanout(&project, &["run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(outputs(&run_folder(&project).join("jobs")).is_empty());
}

/// Nodes have workspaces on a disk of their own, where the project's links would become copies.
#[test]
fn inputs_are_linked_as_the_nodes_can() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    for executor in ["native", "dvc"] {
        let project = keys(2, "test -L data -a ! -L code && cat data code > ${item}.txt");
        project.edit("dvc.yaml", "      outs:", "      deps: [data, code]\n      outs:");
        project.write("code", "code\n");
        project.write("data", "data\n");
        project.dvc(["add", "data"]);
        project.commit("an input");
        let ran = slurm.fanout(&project, &["run", "--executor", executor, "--job-link", "symlink"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert_eq!(project.read("k1.txt"), "data\ncode\n");
        let is_link = |name: &str| project.path(name).symlink_metadata().expect("there").is_symlink();
        assert!(!is_link("data") && !is_link("k1.txt"), "the project keeps to its own");
        assert_clean(&project, &[]);
    }
    let project = keys(1, "echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run", "--job-link", "symlink,softlink"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("is no list of links"), "{}", ran.stderr);
}

/// As later releases of Slurm have it in the environment.
const NEARLY_OVER: &str = "export SLURM_JOB_START_TIME=0 SLURM_JOB_END_TIME=10";

/// That costs no place in the queue; only where its time is nearly over, another array does it.
#[test]
fn what_fails_is_tried_again_in_the_task_itself() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let mut before = 0;
    for (prologue, arrays) in [("true", 1), (NEARLY_OVER, 2)] {
        let project = keys(3, "'mkdir MARK-${item} || test ${item} = k2 || echo > ${item}.txt; test -e ${item}.txt'");
        project.edit("dvc.yaml", "MARK", project.root().with_file_name("mark").to_str().expect("text"));
        // As a stage asks for it.
        project.write(".dvc/fanout/config.yaml", "stages:\n  work: {retries: 1}\n");
        project.commit("commands that fail");
        let ran = slurm.fanout(&project, &["run", "--prologue", prologue]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("2 work items done, 1 failed"), "{}", ran.stderr);
        assert_eq!(attempts(&project), [2, 2, 2]);
        let all = slurm.arrays().len();
        assert_eq!(all - before, arrays, "{}", ran.stderr);
        before = all;
    }
}

/// What comes after a worker sees that it has ended, and changes nothing of what it did.
#[test]
fn an_epilogue_comes_after_the_worker_whatever_it_did() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "'test ${item} != k1 && echo ${item} > ${item}.txt'");
    let told = project.path(".dvc/tmp/told");
    let epilogue = format!("echo code=$code >> {}\nfalse", told.display());
    let ran = slurm.fanout(&project, &["run", "--epilogue", &epilogue]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k0: done") && ran.stderr.contains("k1: FAILED: stage"), "{}", ran.stderr);
    let mut lines: Vec<_> = std::fs::read_to_string(&told).expect("told").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["code=0", "code=1"]);
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

/// Two templates that ask for different things become two arrays, which the group holds together.
#[test]
fn a_group_keeps_to_its_limit_over_several_arrays() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = Project::empty();
    let alone = project.root().with_file_name("alone");
    let command = format!("mkdir {0} && sleep 0.4 && rmdir {0} && touch ${{item}}.txt", alone.display());
    let template = |name: &str, keys: &str| {
        format!("  {name}:\n    foreach: [{keys}]\n    do:\n      cmd: {command}\n      outs:\n      - ${{item}}.txt\n")
    };
    project.write("dvc.yaml", &format!("stages:\n{}{}", template("small", "a0, a1"), template("large", "b0, b1")));
    let settings =
        "stages:\n  small: {group: api, cpus: 1}\n  large: {group: api, cpus: 2, slurm: {partition: high}}\n";
    project.write(".dvc/fanout/config.yaml", settings);
    project.commit("two templates");
    project.fanout(["plan"]).succeeded();
    let printed = slurm.fanout(&project, &["launch", "--group", "api=1", "--dry-run"]).succeeded();
    assert!(printed.contains("--array=0-1%1") && printed.contains("singleton,afterany:ID-OF-dvcf-"), "{printed}");
    assert_eq!(printed.matches("--partition=high").count(), 1, "{printed}");
    let ran = slurm.fanout(&project, &["run", "--group", "api=1"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let partitions = slurm.call("squeue", &["-h", "-t", "all", "-o", "%P"]);
    assert!(partitions.contains("main") && partitions.contains("high"), "{partitions}");
    assert_clean(&project, &[]);
}

/// As a quality of service does that allows so many jobs of a user; an array counts with all of its tasks.
#[test]
fn an_array_that_is_more_than_the_site_allows_is_submitted_in_parts() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(5, "echo ${item} > ${item}.txt");
    let script = "room=2\nfor word in \"$@\"; do case $word in --array=0-*) last=${word#--array=0-}; last=${last%%%*} ;; esac; done\n\
                  if [ $((last + 1)) -gt $room ]; then\n\
                  echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2\n\
                  echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy' >&2\nexit 1\nfi\n\
                  exec /usr/bin/sbatch \"$@\"\n";
    let path = stand_in(&project, "sbatch", script);
    let ran = Ran::of(slurm.command(&project, &["run"]).env("PATH", path));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(slurm.arrays().len() >= 3, "{:?}", slurm.arrays());
    assert_eq!(attempts(&project), [1, 1, 1, 1, 1]);
    assert_clean(&project, &[]);
}

/// What the controller of a run said.
fn controller_said(project: &Project) -> String {
    let jobs = std::fs::read_dir(run_folder(project).join("jobs")).expect("listed");
    let outputs =
        jobs.map(|entry| entry.expect("listed").path()).filter(|path| path.to_string_lossy().ends_with(".out"));
    outputs.map(|path| std::fs::read_to_string(path).expect("read")).collect()
}

#[test]
fn a_run_that_was_handed_over_ends_as_dvc_repro_leaves_it() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    for (settle, fixture) in [("end", "split-merge"), ("each-phase", "window")] {
        let (serial, fanned) = (Project::from_fixture(fixture), Project::from_fixture(fixture));
        serial.dvc(["repro"]);
        fanned.fanout(["plan"]).succeeded();
        let ran = slurm.fanout(&fanned, &["launch", "--detach", "--settle", settle, "--then", "finalize"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        let arrays = ran.stderr.matches("is job").count();
        assert!(if settle == "end" { arrays >= 3 } else { arrays == 0 }, "{}", ran.stderr);
        wait_for("everything has ended", || slurm.call("squeue", &["-h"]).is_empty());
        assert_same(&serial, &fanned, &controller_said(&fanned));
        assert_clean(&fanned, &[]);
    }
}

#[test]
fn what_stops_the_job_that_sees_to_the_end_is_told() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (project, go) = gated(1);
    project.fanout(["plan"]).succeeded();
    slurm.fanout(&project, &["launch", "--detach", "--then", "finalize"]).succeeded();
    wait_for("the task runs", || slurm.runs(1));
    project.edit("dvc.yaml", "'while", "'true; while");
    std::fs::write(go, "").expect("written");
    wait_for("everything has ended", || slurm.call("squeue", &["-h"]).is_empty());
    let status = project.fanout(["status"]).succeeded();
    assert!(status.contains("the job that was to see to its end stopped: the plan of run"), "{status}");
}

/// All phases are in the queue already when the first one turns out to need another try.
#[test]
fn what_fails_in_a_run_that_was_handed_over_is_tried_again_with_what_needs_it() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = Project::empty();
    let mark = project.root().with_file_name("mark");
    let template = |name: &str, command: &str, deps: &str, out: &str| {
        format!(
            "  {name}:\n    foreach: [k0, k1]\n    do:\n      cmd: {command}\n      deps: [{deps}]\n      outs: [{out}]\n"
        )
    };
    let mark = mark.display();
    let first = template(
        "a",
        &format!("mkdir {mark}-${{item}} || touch a-${{item}}.txt; test -e a-${{item}}.txt"),
        "",
        "'a-${item}.txt'",
    );
    let join = "  b:\n    cmd: cat a-k0.txt a-k1.txt > b.txt\n    deps: [a-k0.txt, a-k1.txt]\n    outs: [b.txt]\n";
    let last = template("c", "cp b.txt c-${item}.txt", "b.txt", "'c-${item}.txt'");
    // In one work item with `c`, and with nothing to wait for when that has.
    let beside = "  e:\n    cmd: echo e > e.txt\n    outs: [e.txt]\n".to_owned()
        + &template("d", "cp e.txt d-${item}.txt", "e.txt", "'d-${item}.txt'");
    project.write("dvc.yaml", &format!("stages:\n{first}{join}{last}{beside}"));
    project.commit("three phases");
    project.fanout(["plan"]).succeeded();
    // No worker tries again by itself.
    let flags = ["launch", "--detach", "--retries", "1", "--then", "finalize", "--prologue", NEARLY_OVER];
    let ran = slurm.fanout(&project, &flags);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    wait_for("everything has ended", || slurm.call("squeue", &["-h"]).is_empty());
    let again = attempts(&project).into_iter().filter(|attempts| *attempts == 2).count();
    assert_eq!(again, 2, "{:?} {}", attempts(&project), controller_said(&project));
    assert_clean(&project, &[]);
}
