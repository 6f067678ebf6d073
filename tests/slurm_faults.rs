//! The Slurm engine where nodes, daemons, workers and launchers go away.

use crate::support::same::assert_clean;
use crate::support::slurm::{Slurm, gated, journal, keys, spawn, stand_in, wait_for};
use crate::support::{Ran, attempts, run_folder};

#[test]
fn a_node_that_dies_loses_nothing() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (project, go) = gated(2);
    let mut launcher = spawn(&slurm, &project, &["run", "--partition", "flaky"]);
    wait_for("both tasks run", || slurm.runs(2));
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
    let (project, go) = gated(3);
    let mut launcher = spawn(&slurm, &project, &["run"]);
    wait_for("all tasks run", || slurm.runs(3));
    slurm.signal("slurmctld", "-KILL");
    wait_for("the launcher notices", || journal(&project).contains("does not answer"));
    std::fs::write(&go, "").expect("written");
    slurm.start_again(&["controller"]);
    assert!(launcher.wait().expect("waited for").success());
    assert_clean(&project, &[]);
}

#[test]
fn preempted_tasks_start_again_by_themselves() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (project, go) = gated(1);
    let mut launcher = spawn(&slurm, &project, &["run", "--partition", "low", "--cpus-per-task", "8"]);
    wait_for("the task runs", || slurm.runs(1));
    let id = slurm.call("sbatch", &["--parsable", "-p", "high", "-c", "8", "-o", "/dev/null", "--wrap", "sleep 1"]);
    wait_for("the other one has run", || {
        slurm.call("squeue", &["-h", "-t", "CD", "-j", id.trim()]).contains(id.trim())
    });
    std::fs::write(&go, "").expect("written");
    assert!(launcher.wait().expect("waited for").success());
    assert_eq!(slurm.arrays().len(), 2, "Slurm starts it again, the launcher does not");
    assert_clean(&project, &[]);
}

/// Whether the shell goes on after the kernel has ended a process of it is the shell's business, as under `dvc repro`.
#[test]
fn a_task_that_needs_too_much_memory_says_so() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    if !slurm.limits_memory() {
        return;
    }
    let hungry = "python3 -c \"x = bytearray(900 << 20)\"";
    let command = format!("'{hungry}; test $? = 0 -o ${{item}} = k1 && echo ${{item}} > ${{item}}.txt'");
    let project = keys(2, &command);
    let ran = slurm.fanout(&project, &["run", "--mem", "300M"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("k0: FAILED") && ran.stderr.contains("out of memory"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ended a process on node"), "{}", ran.stderr);
    assert!(project.path("k1.txt").is_file());
}

/// As after a prolog that failed: Slurm holds the task, and it would never go on by itself.
#[test]
fn tasks_that_slurm_holds_after_a_failure_of_a_node_are_released() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (project, go) = gated(1);
    let mut launcher = spawn(&slurm, &project, &["run"]);
    wait_for("the task runs", || slurm.runs(1));
    let id = slurm.arrays().concat();
    slurm.call("scontrol", &["requeuehold", &id]);
    std::fs::write(&go, "").expect("written");
    assert!(launcher.wait().expect("waited for").success());
    assert_eq!(slurm.arrays().len(), 1);
    assert_clean(&project, &[]);
}

#[test]
fn a_launcher_that_was_killed_is_followed_by_one_that_goes_on() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let (project, go) = gated(3);
    project.fanout(["plan"]).succeeded();
    let mut first = spawn(&slurm, &project, &["launch"]);
    wait_for("all tasks run", || slurm.runs(3));
    first.kill().expect("killed");
    first.wait().expect("waited for");
    let status = slurm.fanout(&project, &["status", "--live"]).succeeded();
    assert!(status.contains("-p0-g1: 3 running"), "{status}");
    let ran = slurm.fanout(&project, &["launch", "--mem", "700M"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("is under way already, made from other options"), "{}", ran.stderr);
    let mut second = spawn(&slurm, &project, &["launch"]);
    wait_for("the second launcher goes on", || journal(&project).contains("going on with array"));
    std::fs::write(&go, "").expect("written");
    assert!(second.wait().expect("waited for").success());
    assert_eq!(slurm.arrays().len(), 1);
    assert_eq!(attempts(&project), [1, 1, 1]);
}

/// All tasks would fail before they get to their work items; the third of them ends the rest.
#[test]
fn an_array_whose_first_tasks_get_nowhere_is_not_gone_through() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(40, "echo ${item} > ${item}.txt");
    let cache = project.path(".dvc/cache");
    let broken = [
        ("echo no licence server; sleep 1; exit 3".to_owned(), "what comes before the worker failed with 3"),
        (format!("sleep 1; mountpoint -q {0} || mount -t tmpfs -o ro none {0}", cache.display()), "DVC's cache"),
    ];
    std::fs::create_dir_all(&cache).expect("made");
    for (prologue, why) in broken {
        let flags = ["run", "--cpus-per-task", "8", "--mem", "500M", "--prologue", &prologue];
        let ran = slurm.fanout(&project, &flags);
        assert_eq!(ran.code, Some(5), "{ran:#?}");
        assert!(ran.stderr.contains("no task gets to its work items") && ran.stderr.contains(why), "{}", ran.stderr);
        let never = slurm.call("squeue", &["-h", "-t", "CA", "-o", "%B"]);
        assert!(never.contains("n/a"), "some of them have never begun: {never}");
        assert!(!run_folder(&project).join("results").exists());
    }
    let ran = slurm.fanout(&project, &["run", "--prologue", &format!("umount {} || true", cache.display())]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_clean(&project, &[]);
}

/// Its worker cannot even start there; left alone, such a node takes whatever waits.
#[test]
fn a_node_that_fails_every_task_is_kept_out() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(8, "echo ${item} > ${item}.txt");
    let prologue = format!("test \"$SLURMD_NODENAME\" != {}", slurm.node(1));
    let ran = slurm.fanout(&project, &["run", "--cpus-per-task", "8", "--mem", "500M", "--prologue", &prologue]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("node `{}` fails again and again", slurm.node(1))), "{}", ran.stderr);
    assert_clean(&project, &[]);
}

/// Slurm drains the node and holds the task, which would never go on by itself.
#[test]
fn a_prolog_that_fails_costs_a_node_and_no_work_item() {
    let folder = tempfile::tempdir().expect("a folder");
    let prolog = folder.path().join("prolog");
    let script = format!("#!/bin/sh\nmkdir {}/failed 2>/dev/null || exit 0\nexit 1\n", folder.path().display());
    std::fs::write(&prolog, script).expect("written");
    std::fs::set_permissions(&prolog, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let Some(slurm) = Slurm::start(&[("MORE", &format!("Prolog={}", prolog.display()))]) else { return };
    let project = keys(2, "echo ${item} > ${item}.txt");
    let ran = slurm.fanout(&project, &["run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(folder.path().join("failed").exists());
    assert_eq!(slurm.arrays().len(), 1);
    assert_clean(&project, &[]);
}

/// The controller hangs while it is asked to submit, and has taken the array all the same.
#[test]
fn a_controller_that_hangs_over_a_submission_does_not_submit_twice() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let project = keys(2, "echo ${item} > ${item}.txt");
    let controller = slurm.root().join("run/slurmctld");
    let script = format!(
        "mkdir {0}.once 2>/dev/null || exec /usr/bin/sbatch \"$@\"\nread -r id <{0}\nkill -STOP $id\n\
         /usr/bin/sbatch \"$@\"\ncode=$?\nkill -CONT $id\nexit $code\n",
        controller.display()
    );
    let path = stand_in(&project, "sbatch", &script);
    let ran = Ran::of(slurm.command(&project, &["run"]).env("PATH", path));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("looking whether array"), "{}", ran.stderr);
    assert_eq!(attempts(&project), [1, 1]);
    assert_clean(&project, &[]);
}

/// Two views of one folder, as two machines have of it: a lock of the kernel that one takes is not seen by the other.
#[test]
fn a_launch_keeps_out_those_on_other_machines() {
    let (project, go) = gated(1);
    project.fanout(["plan"]).succeeded();
    let view = project.root().with_file_name("view");
    std::fs::create_dir(&view).expect("made");
    let mounted = std::process::Command::new("bindfs")
        .args(["-o", "attr_timeout=5,entry_timeout=5,negative_timeout=5"])
        .arg(project.root())
        .arg(&view)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        crate::support::say("skipped: no `bindfs`, or nothing to mount it with");
        return;
    }
    let mut launcher = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let mut launcher = launcher.args(["launch", "--quiet"]).spawn().expect("started");
    wait_for("the stage runs", || journal(&project).contains("attempt_started"));
    let mut other = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let ran = Ran::of(other.arg("launch").current_dir(&view));
    std::fs::write(&go, "").expect("written");
    let ended = launcher.wait().expect("waited for");
    let unmounted = std::process::Command::new("umount").arg("-l").arg(&view).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.contains("is being launched already"), "{ran:#?}");
    assert!(ended.success());
}

#[test]
fn a_claim_of_a_machine_that_is_gone_is_void_after_a_while() {
    let project = keys(1, "echo ${item} > ${item}.txt");
    project.fanout(["plan"]).succeeded();
    let claim = crate::support::run_folder(&project).join("launch.claim");
    std::fs::write(&claim, "login9 4711 another-kernel.1.2 abc\n").expect("written");
    let ran = project.fanout(["launch"]);
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.contains("by process 4711 on login9"), "{}", ran.stderr);
    let touched = std::process::Command::new("touch").args(["-d", "11 minutes ago"]).arg(&claim).status();
    assert!(touched.is_ok_and(|status| status.success()));
    project.fanout(["launch"]).succeeded();
    assert!(!claim.exists());
}

/// How many rounds of faults; more are for a long evening.
const ROUNDS: &str = "DVC_FANOUT_TEST_ROUNDS";

/// Launchers, workers, nodes and the controller are killed, tasks are cancelled and requeued, in an order that depends on
/// the round; whoever launches again until all is done finds the project as `dvc repro` would have left it.
#[test]
fn whatever_is_killed_the_run_comes_to_the_same_end() {
    let Some(slurm) = Slurm::start(&[]) else { return };
    let rounds: u32 = std::env::var(ROUNDS).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let project = crate::support::Project::empty();
    let template = |name: &str, deps: &str, out: &str, command: &str| {
        format!(
            "  {name}:\n    foreach: [k0, k1, k2, k3]\n    do:\n      cmd: sleep 0.5; {command}\n      deps: [{deps}]\n      outs: ['{out}']\n"
        )
    };
    let first = template("a", "seed", "a-${item}", "cat seed > a-${item}; echo ${item} >> a-${item}");
    let join = "  b:\n    cmd: cat a-k0 a-k1 a-k2 a-k3 > b\n    deps: [a-k0, a-k1, a-k2, a-k3]\n    outs: [b]\n";
    let last = template("c", "b", "c-${item}", "cat b > c-${item}; echo ${item} >> c-${item}");
    project.write("dvc.yaml", &format!("stages:\n{first}{join}{last}"));
    for round in 0..rounds {
        project.write("seed", &format!("{round}\n"));
        project.commit("a round");
        let mut faults = (0..5).map(|number| (round * 5 + number) % 6);
        let mut launches = 0;
        loop {
            launches += 1;
            assert!(launches < 12, "round {round} comes to no end");
            let mut launcher = spawn(&slurm, &project, &["run"]);
            let mut over = None;
            if let Some(fault) = faults.next() {
                wait_for("a task runs, or all is done", || {
                    look_after_nodes(&slurm);
                    over = launcher.try_wait().expect("looked at");
                    over.is_some() || !slurm.call("squeue", &["-h", "-t", "R", "-o", "%K"]).is_empty()
                });
                if over.is_none() {
                    strike(&slurm, &project, fault);
                }
                if fault == 0 {
                    launcher.kill().expect("killed");
                }
            }
            wait_for("the launcher ends", || {
                look_after_nodes(&slurm);
                over = launcher.try_wait().expect("looked at");
                over.is_some()
            });
            if launcher.wait().expect("waited for").success() {
                break;
            }
        }
        assert_clean(&project, &[]);
        assert_eq!(project.read("c-k3"), format!("{round}\nk0\n{round}\nk1\n{round}\nk2\n{round}\nk3\nk3\n"));
    }
}

/// Does what an administrator would: a controller that was killed gives ids to jobs which others have had, and drains the
/// nodes that still know those.
fn look_after_nodes(slurm: &Slurm) {
    let drained = slurm.call("sinfo", &["-h", "-N", "-t", "drain", "-o", "%N"]);
    for node in drained.lines().collect::<std::collections::BTreeSet<_>>() {
        slurm.call("scontrol", &["update", &format!("NodeName={node}"), "State=RESUME"]);
    }
}

/// Does something bad to the cluster.
fn strike(slurm: &Slurm, project: &crate::support::Project, fault: u32) {
    let task = || {
        let running = slurm.call("squeue", &["-h", "-t", "R", "-o", "%A"]);
        running.lines().next().unwrap_or("999999").to_owned()
    };
    match fault {
        1 => {
            let worker = project.processes().into_iter().find(|(_, line)| line.contains(" work "));
            let killed =
                worker.map(|(id, _)| std::process::Command::new("kill").args(["-9", &id.to_string()]).status());
            assert!(killed.is_none_or(|killed| killed.is_ok()));
        }
        2 => {
            slurm.signal("slurmctld", "-KILL");
            slurm.start_again(&["controller"]);
        }
        3 => {
            slurm.signal(&format!("slurmd.{}", slurm.node(1)), "-KILL");
            slurm.start_again(&["node", "1"]);
        }
        4 => drop(slurm.call("scancel", &[&task()])),
        5 => drop(slurm.call("scontrol", &["requeue", &task()])),
        _ => {}
    }
}
