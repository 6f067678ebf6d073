//! What stages leave running: it ends with its work item, or with the run where a stage says `keep-running`.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::Project;

/// Answers who asks with what its environment says, from a session of its own; says so when it is told to end.
const SERVE: &str = r#"
import os, signal, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
open("port.txt", "w").write(str(listening.getsockname()[1]))
if os.fork() == 0:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    def end(*_):
        open(sys.argv[1], "w").close()
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    while True:
        asking = listening.accept()[0]
        # What else is in the folder that it was started in stays there.
        asking.sendall(open("greeting.txt", "rb").read())
        asking.close()
"#;

const ASK: &str = r#"
import socket, sys
with socket.create_connection(("127.0.0.1", int(open("port.txt").read()))) as service:
    open(sys.argv[1], "wb").write(service.makefile("rb").read())
"#;

/// A service for sessions and for what gathers them; `wait` is what sessions do first.
fn project(settings: &str, wait: &str) -> Project {
    let project = Project::empty();
    let ended = project.root().with_file_name("ended");
    project.write("serve.py", SERVE);
    project.write("ask.py", ASK);
    project.write("greeting.txt", "hello\n");
    for key in ["p", "q", "r"] {
        project.write(&format!("{key}.txt"), key);
    }
    let stages = "
stages:
  service:
    cmd: python3 serve.py ENDED
    deps: [serve.py]
    outs: [port.txt]
  ask:
    foreach: [p, q, r]
    do:
      cmd: WAIT python3 ask.py ${item}.out
      deps: [ask.py, port.txt, '${item}.txt']
      outs: ['${item}.out']
  all:
    cmd: python3 ask.py all.out
    deps: [p.out, q.out, r.out]
    outs: [all.out]
";
    project.write("dvc.yaml", &stages.replace("ENDED", ended.to_str().expect("UTF-8")).replace("WAIT", wait));
    project.commit("a service");
    project.write(".dvc/fanout/config.yaml", settings);
    project
}

const KEPT: &str = "stages:\n  service: {keep-running: true}\n";

/// Waits until nothing of a project runs.
#[track_caller]
fn assert_all_ended(project: &Project, context: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !project.processes().is_empty() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(project.processes(), [], "{context}");
}

/// Whether the service was told to end, and did.
fn was_told(project: &Project) -> bool {
    project.root().with_file_name("ended").exists()
}

#[test]
fn a_service_that_is_kept_is_there_for_all_and_ends_with_the_run() {
    for options in [&["--executor", "native"][..], &["--workspace", "linked"], &["--executor", "dvc"]] {
        let project = project(KEPT, "");
        project.fanout(["run", "-j", "2"].into_iter().chain(options.iter().copied())).succeeded();
        assert_eq!(project.processes(), [], "{options:?}");
        for out in ["p.out", "q.out", "r.out", "all.out"] {
            assert_eq!(project.read(out), "hello\n", "{options:?}");
        }
        assert!(was_told(&project), "{options:?}");
        assert_eq!(project.dvc(["status"]).trim(), "Data and pipelines are up to date.", "{options:?}");
    }
}

#[test]
fn it_stays_between_launch_and_finalize() {
    let project = project("", "");
    project.edit(
        "dvc.yaml",
        "    outs: [port.txt]\n",
        "    outs: [port.txt]\n    meta: {fanout: {keep-running: true}}\n",
    );
    project.fanout(["plan"]).succeeded();
    project.fanout(["launch", "-j", "2"]).succeeded();
    assert!(!project.processes().is_empty());
    project.fanout(["finalize"]).succeeded();
    assert_eq!(project.processes(), []);
    assert_eq!(project.read("all.out"), "hello\n");
}

#[test]
fn a_cancelled_run_and_a_new_plan_end_it() {
    for end in ["cancel", "plan"] {
        let project = project(KEPT, "");
        project.fanout(["plan"]).succeeded();
        project.fanout(["launch"]).succeeded();
        assert!(!project.processes().is_empty() && !was_told(&project), "{end}");
        project.fanout([end]).succeeded();
        assert_eq!(project.processes(), [], "{end}");
        assert!(was_told(&project), "{end}");
    }
}

/// A run whose sessions wait for a file that never comes, once they have begun.
fn waiting(command: &str) -> (Project, Child) {
    let project = project(KEPT, "touch BEGUN; sleep 300;");
    let begun = project.root().with_file_name("begun");
    project.edit("dvc.yaml", "BEGUN", begun.to_str().expect("UTF-8"));
    if command == "launch" {
        project.fanout(["plan"]).succeeded();
    }
    let mut run = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let run = run.args([command, "-j", "2"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let limit = Instant::now() + Duration::from_secs(60);
    while !begun.exists() {
        assert!(Instant::now() < limit, "no session has begun: {:?}", project.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    (project, run)
}

#[test]
fn it_does_not_outlive_a_launcher_that_was_cut_off() {
    for command in ["run", "launch"] {
        for signal in ["KILL", "TERM"] {
            let (project, mut run) = waiting(command);
            let context = format!("{command}, {signal}");
            let id = run.id().to_string();
            assert!(project.command("kill").args(["-s", signal, &id]).status().expect("sent").success());
            drop(run.wait());
            assert_all_ended(&project, &context);
            assert!(was_told(&project), "{context}");
        }
    }
}

#[test]
fn what_outlives_keeper_worker_and_launcher_killed_at_once_ends_with_cancel() {
    let (project, mut run) = waiting("run");
    let limit = Instant::now() + Duration::from_secs(60);
    while !project.processes().iter().any(|(_, line)| line.starts_with("sleep 300")) {
        assert!(Instant::now() < limit, "no session waits: {:?}", project.processes());
    }
    let is_left = |line: &str| line.starts_with("python3 serve.py") || line.starts_with("sleep 300");
    // Some may have ended by themselves meanwhile, and some are not seen while they become another program.
    while project.processes().iter().any(|(_, line)| !is_left(line)) {
        let others = project.processes().into_iter().filter(|(_, line)| !is_left(line)).map(|(id, _)| id.to_string());
        let _some_are_gone = project.command("kill").arg("-KILL").args(others).stderr(Stdio::null()).status();
        assert!(Instant::now() < limit, "{:?}", project.processes());
    }
    drop(run.wait());
    assert!(
        project.processes().iter().any(|(_, line)| line.starts_with("python3 serve.py")),
        "{:?}",
        project.processes()
    );
    // Nobody is left to end it but the next one.
    project.fanout(["cancel"]).succeeded();
    assert_all_ended(&project, "cancel");
}

#[test]
fn without_it_who_misses_the_service_says_what_to_do() {
    for executor in ["native", "dvc"] {
        let project = project("", "");
        let ran = project.fanout(["run", "--executor", executor]);
        assert_eq!(ran.code, Some(1), "{executor}: {ran:#?}");
        assert_eq!(project.processes(), [], "{executor}");
        let said = "; stage `service` left `python3 serve.py";
        assert!(ran.stderr.contains(said) && ran.stderr.contains("`keep-running: true`"), "{executor}: {ran:#?}");
    }
}

#[test]
fn what_a_failed_command_leaves_ends_and_a_cluster_keeps_nothing() {
    let project = project(KEPT, "");
    let ran = project.fanout(["run", "--engine", "slurm"]);
    assert!(ran.stderr.contains("asks for `keep-running`, which is for this machine alone"), "{ran:#?}");
    project.edit("dvc.yaml", "cmd: python3 serve.py", "cmd: sleep 300 & false; #");
    let ran = project.fanout(["run"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert_eq!(project.processes(), []);
}
