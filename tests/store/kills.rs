//! Launchers and workers that are killed while they put something into the store, a store that is away, and one that has
//! much in it.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::s3::{Fate, Proxy, S3, command};
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

const STORE: &str = "s3://bucket/runs";

/// Two projects with a remote on a server, of which the first one is run by `dvc repro`.
fn both(server: &S3) -> (Project, Project) {
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    for project in [&serial, &fanned] {
        server.add_remote(project);
    }
    serial.dvc(["repro"]);
    (serial, fanned)
}

fn run_through(proxy: &Proxy, project: &Project) -> std::process::Command {
    let mut launcher = command(project, project.root(), &proxy.endpoint);
    launcher.args(["run", "-j", "2", "--store", STORE]);
    launcher
}

fn kill(process: u32) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
    let _gone = kill_process(process, Signal::KILL);
}

fn ends(child: &mut Child) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("asked") {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(240), "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Each launch is killed at one step further than the one before, and the next one goes on.
#[test]
fn a_launcher_is_killed_at_each_step_of_the_upload() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = both(&server);
    // The process to kill, and at which of its writes.
    let (victim, left) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (its, writes) = (Arc::clone(&victim), Arc::clone(&left));
    let proxy = Proxy::start(&server, move |method, path| {
        let is_upload = method == "PUT" && !path.contains("/results/") && !path.contains("/remote/");
        if is_upload && writes.load(Ordering::SeqCst) > 0 && writes.fetch_sub(1, Ordering::SeqCst) == 1 {
            kill(its.load(Ordering::SeqCst));
            return Fate::Hangup;
        }
        Fate::Passes
    });
    let mut killed = 0;
    for step in 1.. {
        left.store(step, Ordering::SeqCst);
        let mut launcher = run_through(&proxy, &fanned);
        let mut launcher = launcher.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("started");
        victim.store(launcher.id(), Ordering::SeqCst);
        let status = ends(&mut launcher);
        let is_there = server.keys().iter().any(|key| key.ends_with("/plan.json"));
        assert!(status.success() || status.code().is_none(), "step {step}: {status:?}");
        killed += u32::from(!status.success());
        // What comes later is no part of the upload.
        if status.success() || is_there {
            break;
        }
    }
    left.store(0, Ordering::SeqCst);
    assert!(killed >= 4, "{killed} launchers were killed");
    let ran = Ran::of(&mut run_through(&proxy, &fanned));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "in the end");
    assert_clean(&fanned, &[]);
    let runs: std::collections::BTreeSet<String> =
        server.keys().iter().filter_map(|key| Some(key.strip_prefix("runs/")?.split('/').next()?.to_owned())).collect();
    assert_eq!(runs.len(), 1, "all of them were one run: {runs:?}");
}

/// A worker that has put in a half of what it made has made nothing.
#[test]
fn a_worker_is_killed_while_it_puts_its_result_in() {
    let Some(server) = S3::start() else { return };
    for part in ["files", "json"] {
        let (serial, fanned) = both(&server);
        let (seen, came) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let mut is_first = true;
        let proxy = Proxy::start(&server, move |method, path| {
            if method == "PUT" && path.contains("/results/") && path.ends_with(part) && std::mem::take(&mut is_first) {
                let _gone = seen.send(());
                let _limit = released.recv_timeout(Duration::from_secs(60));
                return Fate::Hangup;
            }
            Fate::Passes
        });
        let mut launcher = run_through(&proxy, &fanned);
        let mut launcher = launcher.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("started");
        came.recv_timeout(Duration::from_secs(120)).expect("a worker puts something in");
        for (process, line) in fanned.processes() {
            if line.contains(" work ") && line.contains("--serve") {
                kill(process.unsigned_abs());
            }
        }
        let _gone = release.send(());
        let status = ends(&mut launcher);
        assert!(status.success(), "{part}: {status:?}");
        assert_same(&serial, &fanned, part);
        assert_clean(&fanned, &[]);
        server.fanout(&fanned, &["runs", "prune", "--keep", "0"]).succeeded();
    }
}

#[test]
fn a_store_that_is_away_for_a_while_is_waited_for() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = both(&server);
    let away: Arc<Mutex<Option<Instant>>> = Arc::default();
    let was_away = Arc::new(AtomicBool::new(false));
    let (since, told) = (Arc::clone(&away), Arc::clone(&was_away));
    let proxy = Proxy::start(&server, move |method, path| {
        let mut since = since.lock().expect("no test holds it");
        if since.is_none() && method == "PUT" && path.contains("/results/") && path.ends_with(".json") {
            *since = Some(Instant::now());
        }
        if since.is_some_and(|since| since.elapsed() < Duration::from_secs(25)) {
            told.store(true, Ordering::SeqCst);
            return Fate::Hangup;
        }
        Fate::Passes
    });
    let ran = Ran::of(&mut run_through(&proxy, &fanned));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(was_away.load(Ordering::SeqCst));
    assert_same(&serial, &fanned, "in the end");
    assert!(!server.keys().iter().any(|key| key.ends_with("/2.json")), "nothing was done twice: {:?}", server.keys());
}

/// A listing of ten thousand results comes in pages, and what is on the last one counts.
#[test]
fn many_results_are_listed_page_by_page() {
    let Some(server) = S3::start() else { return };
    let project = Project::from_fixture("sessions");
    let run = super::by_hand::posted(&server, &project);
    super::by_hand::work(&server, &project, &run, "0");
    let prefix = format!("runs/{run}/results");
    let proxy = Proxy::start(&server, move |method, path| {
        if method != "GET" || !path.contains("list-type=2") {
            return Fate::Passes;
        }
        let token = path.split(['?', '&']).find_map(|part| part.strip_prefix("continuation-token="));
        let page: usize = token.and_then(|token| token.parse().ok()).unwrap_or(0);
        if page == 10 {
            return Fate::PassesAs(path.replace("continuation-token=10&", "").replace("&continuation-token=10", ""));
        }
        let object = |number: usize| {
            let number = 1_000_000 + page * 1000 + number;
            format!(
                "<Contents><Key>{prefix}/{number}/1.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>1</Size><ETag>\"x\"</ETag></Contents>"
            )
        };
        let objects: String = (0..1000).map(object).collect();
        let next = page + 1;
        Fate::Answer(format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>{objects}</ListBucketResult>"
        ))
    });
    let mut status = command(&project, project.root(), &proxy.endpoint);
    let ran = Ran::of(status.args(["status", "--format", "json"]));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let status: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert!(status["counts"]["done"].as_u64().is_some_and(|done| done > 0), "{ran:#?}");
    let seen = proxy.seen.lock().expect("no test holds it");
    let lists = seen.iter().filter(|(_, path)| path.contains("list-type=2")).count();
    assert_eq!(lists, 11, "{seen:?}");
    assert!(seen.len() < 11 + 20, "what is of no work item is not asked for: {}", seen.len());
}
