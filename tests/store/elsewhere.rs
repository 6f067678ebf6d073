//! Runs that another clone of the project looks at, ends, and goes on with.

use std::time::{Duration, Instant};

use super::by_hand::{posted, work};
use crate::support::s3::{Fate, Proxy, S3, command};
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran, run_folder};

const STORE: &str = "s3://bucket/runs";

#[track_caller]
fn succeeded(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran
}

/// A clone that has forgotten where it is from, as the project it is compared with knows nothing of that.
fn clone_of(project: &Project) -> Project {
    let other = project.clone_beside("other");
    other.git(["remote", "remove", "origin"]);
    other
}

#[test]
fn another_clone_looks_at_a_run_and_brings_it_home() {
    let Some(server) = S3::start() else { return };
    let (serial, project) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    server.add_remote(&serial);
    serial.dvc(["repro"]);
    let run = posted(&server, &project);
    let other = clone_of(&project);
    let there = |arguments: &[&str]| server.fanout(&other, arguments);

    let ran = there(&["status", &run]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("name that store here as well"), "{ran:#?}");
    let ran = there(&["status", "20240101-000000-0000", "--store", STORE]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("there is no run `20240101-000000-0000` in `s3://bucket/runs`"), "{ran:#?}");

    let states = |arguments: &[&str]| {
        let status = succeeded(there(arguments)).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["counts"].clone()
    };
    let counts = states(&["status", &run, "--store", STORE, "--format", "json"]);
    assert_eq!(counts["done"], 0, "{counts}");
    work(&server, &project, &run, "0");
    // It knows by now where the run is.
    let counts = states(&["status", "--format", "json"]);
    assert!(counts["done"].as_u64().is_some_and(|done| done > 0), "{counts}");
    let ran = succeeded(there(&["logs", "0"]));
    assert!(ran.stdout.contains("extract@"), "{ran:#?}");
    let ran = succeeded(there(&["report"]));
    assert!(ran.stdout.contains(&run), "{ran:#?}");

    // One that may not ask any more says so, and shows what it has.
    let proxy = Proxy::start(&server, |_, _| Fate::Status(403));
    let ran = succeeded(Ran::of(command(&other, other.root(), &proxy.endpoint).args(["status"])));
    assert!(ran.stderr.contains("how the run stood at an earlier look"), "{ran:#?}");

    work(&server, &project, &run, "1");
    succeeded(there(&["collect"]));
    succeeded(there(&["finalize"]));
    assert_same(&serial, &other, "in another clone");
    assert_clean(&other, &[]);
    let ran = succeeded(server.fanout(&project, &["status", "--format", "json"]));
    assert!(ran.stdout.contains("\"finalized\""), "{ran:#?}");
}

/// A project whose stages wait for a file, and that file.
fn gated(server: &S3) -> (Project, std::path::PathBuf) {
    let project = Project::without_init();
    let gate = project.root().with_file_name("gate");
    let wait = format!("echo at the gate; until [ -e {} ]; do sleep 0.1; done", gate.display());
    project.write(
        "dvc.yaml",
        &format!("stages:\n  wait:\n    foreach: [a, b, c]\n    do:\n      cmd: {wait}; echo ${{item}} > ${{item}}.out\n      outs: ['${{item}}.out']\n"),
    );
    project.commit("made");
    server.add_remote(&project);
    (project, gate)
}

#[test]
fn a_run_is_ended_from_another_clone_and_goes_on_there() {
    let Some(server) = S3::start() else { return };
    let (project, gate) = gated(&server);
    let other = clone_of(&project);
    let mut launcher = command(&project, project.root(), &server.endpoint());
    launcher.args(["run", "-j", "1", "--store", STORE]).stderr(std::process::Stdio::null());
    let mut launcher = launcher.spawn().expect("started");
    let begun = Instant::now();
    while !server.keys().iter().any(|key| key.ends_with("/results/0/1.log")) {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing has begun: {:?}", server.keys());
        std::thread::sleep(Duration::from_millis(200));
    }
    let run = run_folder(&project).file_name().expect("a name").to_string_lossy().into_owned();
    let there = |arguments: &[&str]| server.fanout(&other, arguments);

    let begun = Instant::now();
    while !succeeded(there(&["status", &run, "--store", STORE])).stdout.contains("running (local, process") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:#?}", there(&["status"]));
        std::thread::sleep(Duration::from_millis(500));
    }
    // Both clones see how far it is while it runs.
    for project in [&other, &project] {
        while !server.fanout(project, &["logs", "0"]).stdout.contains("at the gate") {
            assert!(begun.elapsed() < Duration::from_secs(180), "{:#?}", there(&["logs", "0"]));
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    let ran = there(&["launch", &run, "--store", STORE]);
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("is being launched already, by process {}", launcher.id())), "{ran:#?}");

    let ran = succeeded(there(&["cancel", &run]));
    assert!(ran.stdout.contains("has ended"), "{ran:#?}");
    let ended = launcher.wait().expect("it ends");
    assert!(!ended.success(), "{ended:?}");
    assert_eq!(server.read(&format!("runs/{run}/launcher")), "", "nobody launches it any more");
    let ran = succeeded(there(&["status"]));
    assert!(ran.stdout.contains("not running"), "{ran:#?}");

    std::fs::write(&gate, "").expect("written");
    let ran = succeeded(there(&["launch", &run, "-j", "2"]));
    assert!(ran.stderr.contains("3 work items done"), "{ran:#?}");
    succeeded(there(&["finalize", &run]));
    assert_eq!(other.read("c.out"), "c\n");
    assert_clean(&other, &[]);
}

/// Whether a launcher is still there is told by the server's clock, whatever this machine's says.
#[test]
fn a_launcher_is_seen_though_the_clock_of_the_server_is_another() {
    let Some(server) = S3::start() else { return };
    for (round, ahead) in [-3600, 3600].into_iter().enumerate() {
        let (project, gate) = gated(&server);
        let other = clone_of(&project);
        let proxy = Proxy::start(&server, move |_, _| Fate::Skewed(ahead));
        let with = |project: &Project, arguments: &[&str]| {
            let mut command = command(project, project.root(), &proxy.endpoint);
            command.args(arguments);
            command
        };
        let launcher = with(&project, &["run", "-j", "1", "--store", STORE]).spawn();
        let mut launcher = launcher.expect("started");
        let begun = Instant::now();
        while !server.keys().iter().filter(|key| key.ends_with("/launcher")).count().eq(&(round + 1)) {
            assert!(begun.elapsed() < Duration::from_secs(120), "nothing has begun: {:?}", server.keys());
            std::thread::sleep(Duration::from_millis(200));
        }
        let run = run_folder(&project).file_name().expect("a name").to_string_lossy().into_owned();
        let status = || succeeded(Ran::of(&mut with(&other, &["status", &run, "--store", STORE])));
        while !status().stdout.contains("running (local, process") {
            assert!(begun.elapsed() < Duration::from_secs(180), "{ahead}: {:#?}", status());
            std::thread::sleep(Duration::from_millis(500));
        }
        let ran = Ran::of(&mut with(&other, &["launch", &run]));
        assert_eq!(ran.code, Some(5), "{ahead}: {ran:#?}");
        std::fs::write(&gate, "").expect("written");
        assert!(launcher.wait().expect("it ends").success(), "{ahead}");
    }
}

/// What failed is tried again by whoever has the run's name, wherever they are.
#[test]
fn failures_are_set_aside_from_another_clone() {
    let Some(server) = S3::start() else { return };
    let (project, gate) = gated(&server);
    let text = project.read("dvc.yaml").replace("until [ -e", "test -e").replace(" ]; do sleep 0.1; done;", " &&");
    project.write("dvc.yaml", &text);
    project.commit("it fails where there is no gate");
    let other = clone_of(&project);
    server.fanout(&project, &["plan"]).succeeded();
    let ran = server.fanout(&project, &["launch", "--store", STORE]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let run = run_folder(&project).file_name().expect("a name").to_string_lossy().into_owned();
    std::fs::write(&gate, "").expect("written");
    let there = |arguments: &[&str]| server.fanout(&other, arguments);
    let ran = succeeded(there(&["retry", "--run", &run, "--store", STORE]));
    assert!(ran.stdout.contains("3 work items will run again"), "{ran:#?}");
    succeeded(there(&["launch", &run]));
    succeeded(there(&["finalize", &run]));
    assert_eq!(other.read("c.out"), "c\n");
    // What looks at the store have taken is counted as well.
    let requests = |project: &Project| {
        let report = succeeded(server.fanout(project, &["report", &run, "--format", "json"])).stdout;
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        report["provenance"]["object_store"]["requests"].as_u64().expect("a number")
    };
    assert!(requests(&other) > 0);
}

/// Whoever may write to the store may say what they like there.
#[test]
fn a_plan_of_somebody_else_is_not_taken() {
    let Some(server) = S3::start() else { return };
    let project = Project::from_fixture("sessions");
    let run = posted(&server, &project);
    let other = clone_of(&project);
    let key = format!("/bucket/runs/{run}/worklist.jsonl");
    let good = server.read(&format!("runs/{run}/worklist.jsonl"));
    let (plan, good_plan) = (format!("/bucket/runs/{run}/plan.json"), server.read(&format!("runs/{run}/plan.json")));
    for (key, text, words) in [
        (&key, good.replace("\"resolved\":\"scores", "\"resolved\":\"../../scores"), "is not in its shortest form"),
        (&key, good.replace("\"resolved\":\"scores", "\"resolved\":\"/etc/scores"), "it is absolute"),
        (&key, good.lines().skip(1).collect::<String>(), "cut off"),
        (&plan, good_plan.replace(&run, "20240101-000000-0000"), "its plan is that of run `20240101-000000-0000`"),
        (&plan, good_plan.replace("\"prefix\": \"\"", "\"prefix\": \"sub\""), "it is of a project at `sub`"),
    ] {
        server.send("PUT", key, text.as_bytes());
        let ran = server.fanout(&other, &["collect", &run, "--store", STORE]);
        assert_eq!(ran.code, Some(4), "{words}: {ran:#?}");
        assert!(ran.stderr.contains(words), "{words}: {ran:#?}");
        assert!(!other.path(&format!(".dvc/fanout/runs/{run}/plan.json")).exists(), "{words}");
        server.send("PUT", &format!("/bucket/runs/{run}/worklist.jsonl"), good.as_bytes());
        server.send("PUT", &plan, good_plan.as_bytes());
    }
    let ran = server.fanout(&other, &["status", "../../..", "--store", STORE]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    succeeded(server.fanout(&other, &["collect", &run, "--store", STORE]));
    // Of a run that has not ended, whoever only looked at it removes nothing but their own copy.
    succeeded(server.fanout(&other, &["runs", "prune", "--keep", "0", "--force"]));
    assert!(!other.path(&format!(".dvc/fanout/runs/{run}")).exists());
    assert!(server.keys().contains(&format!("runs/{run}/plan.json")));
}

/// The last stages run in `finalize`, which has to bring what they begin with.
#[test]
fn the_last_stages_run_in_a_clone_that_has_pulled_nothing() {
    let Some(server) = S3::start() else { return };
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:
  map:
    foreach: [a, b]
    do:
      cmd: echo ${item} > ${item}.out
      outs: ['${item}.out']
  gather:
    cmd: cat table.csv a.out b.out > all.out
    deps: [table.csv, a.out, b.out]
    outs: [all.out]
",
        );
        project.write("table.csv", "1,2\n");
        project.dvc(["add", "--quiet", "table.csv"]);
        project.commit("made");
        project
    };
    let (serial, project) = (made(), made());
    serial.dvc(["repro"]);
    let run = posted(&server, &project);
    work(&server, &project, &run, "0");
    work(&server, &project, &run, "1");
    let other = clone_of(&project);
    succeeded(server.fanout(&other, &["finalize", &run, "--store", STORE]));
    assert_eq!(other.read("all.out"), "1,2\na\nb\n");
    assert_eq!(other.read("dvc.lock"), serial.read("dvc.lock"));
}

/// It has the cache in common with the project, but none of the outs.
#[test]
fn outs_of_stages_that_have_not_changed_come_to_another_clone() {
    let Some(server) = S3::start() else { return };
    let project = Project::without_init();
    let pipeline = |also: &str| {
        format!(
            "stages:
  map:
    foreach: [a, b]
    do:
      cmd: echo ${{item}} > ${{item}}.out{also}
      outs: ['${{item}}.out']
  gather:
    cmd: mkdir all && cp a.out b.out all
    deps: [a.out, b.out]
    outs: [all]
"
        )
    };
    project.write("dvc.yaml", &pipeline(""));
    let cache = project.root().with_file_name("cache");
    project.dvc(["cache", "dir", "--quiet", &cache.display().to_string()]);
    project.dvc(["repro"]);
    project.write("dvc.yaml", &pipeline("; true"));
    project.commit("the same in other words");
    let run = posted(&server, &project);
    work(&server, &project, &run, "0");
    work(&server, &project, &run, "1");
    let other = clone_of(&project);
    succeeded(server.fanout(&other, &["finalize", &run, "--store", STORE]));
    assert_eq!(other.read("a.out"), "a\n");
    assert_eq!(other.read("all/b.out"), "b\n");
    assert_eq!(other.dvc(["status"]), "Data and pipelines are up to date.\n");
}

/// Nobody watches them: they ask.
#[test]
fn workers_that_were_started_by_hand_end_once_the_run_is_cancelled() {
    let Some(server) = S3::start() else { return };
    let project = Project::from_fixture("sessions");
    let run = posted(&server, &project);
    let ran = succeeded(server.fanout(&project, &["cancel", &run]));
    assert!(ran.stdout.contains("end before their next work item"), "{ran:#?}");
    let folder = project.root().with_file_name("machine");
    std::fs::create_dir(&folder).expect("made");
    let begin = || {
        let mut worker = command(&project, &folder, &server.endpoint());
        worker.args(["work", "--store", STORE, "--run", &run, "--phase", "0", "--shards", "1", "0"]);
        Ran::of(&mut worker)
    };
    let ran = begin();
    assert_eq!(ran.code, Some(143), "{ran:#?}");
    assert!(ran.stderr.contains("was cancelled: no more of it is begun here"), "{ran:#?}");
    assert!(!server.keys().iter().any(|key| key.contains("/results/")), "{:?}", server.keys());
    // A launch forgets that somebody wanted an end.
    succeeded(server.fanout(&project, &["launch", &run, "--detach"]));
    succeeded(begin());
}
