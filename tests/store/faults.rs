//! A store that is away, refuses, is slow, or breaks off what passes.

use std::time::Duration;

use crate::support::s3::{Fate, Proxy, S3, command};
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

/// Runs `dvc-fanout run` over a store that is reached through a proxy.
fn run_through(proxy: &Proxy, project: &Project) -> Ran {
    let mut launcher = command(project, project.root(), &proxy.endpoint);
    Ran::of(launcher.args(["run", "-j", "2", "--store", "s3://bucket/runs"]))
}

#[test]
fn requests_that_fail_for_a_while_are_made_again() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    [&serial, &fanned].into_iter().for_each(|project| server.add_remote(project));
    serial.dvc(["repro"]);
    let mut count = 0;
    let proxy = Proxy::start(&server, move |method, path| {
        count += 1;
        match count % 11 {
            2 => Fate::Status(503),
            4 => Fate::Hangup,
            6 => Fate::Status(429),
            // A listing is read whole before it is looked at.
            8 if method == "GET" && !path.contains("list-type") => Fate::Cut,
            _ => Fate::Passes,
        }
    });
    let ran = run_through(&proxy, &fanned);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "over a store that fails now and then");
    assert_clean(&fanned, &[]);
    let seen = proxy.seen.lock().expect("no test holds it").len();
    let report = fanned.fanout(["report", "--format", "json"]).succeeded();
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let counted = report["provenance"]["object_store"]["requests"].as_u64().expect("a number");
    // The workers' last ones, whose results they tell of, may have been made again.
    assert!(counted.abs_diff(seen as u64) <= 8, "{counted} were counted, {seen} were made");
    assert!(counted < 25 * 5, "{counted} requests for 5 work items");
}

#[test]
fn a_store_that_refuses_is_named_before_anything_runs() {
    let Some(server) = S3::start() else { return };
    let project = Project::from_fixture("sessions");
    server.add_remote(&project);
    let proxy = Proxy::start(&server, |_, _| Fate::Status(403));
    let ran = run_through(&proxy, &project);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("the object store refuses to read `s3://bucket/runs/"), "{ran:#?}");
    assert!(ran.stderr.contains("AWS_ACCESS_KEY_ID") && !ran.stderr.contains("s3cr3t"), "{ran:#?}");
    assert!(!ran.stderr.contains("started in slot"), "{ran:#?}");
    let ran = server.fanout(&project, &["run", "--store", "s3://nowhere/runs"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("there is no bucket or container at `s3://nowhere/runs`"), "{ran:#?}");
}

/// What was computed is not computed again where only the way home was cut.
#[test]
fn a_launch_that_lost_the_store_goes_on_where_it_was() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    [&serial, &fanned].into_iter().for_each(|project| server.add_remote(project));
    serial.dvc(["repro"]);
    // Results come in, but nobody may read them.
    let proxy = Proxy::start(&server, |method, path| {
        if method == "GET" && path.ends_with(".json") && path.contains("/results/") {
            Fate::Status(403)
        } else {
            Fate::Passes
        }
    });
    let ran = run_through(&proxy, &fanned);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("refuses to read"), "{ran:#?}");
    let before = server.keys().iter().filter(|key| key.ends_with(".json") && key.contains("/results/")).count();
    assert!(before >= 4, "workers put them in");
    let run = crate::support::run_folder(&fanned);
    let run = run.file_name().expect("a name").to_string_lossy();
    let ran = server.fanout(&fanned, &["launch", &run]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(!ran.stderr.contains("started in slot"), "they are there: {ran:#?}");
    let ran = server.fanout(&fanned, &["finalize"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "in the end");
}

#[test]
fn transfers_that_are_slow_come_whole() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    [&serial, &fanned].into_iter().for_each(|project| server.add_remote(project));
    serial.dvc(["repro"]);
    let mut count = 0;
    let proxy = Proxy::start(&server, move |_, _| {
        count += 1;
        if count % 3 == 0 { Fate::Slow(Duration::from_millis(150)) } else { Fate::Passes }
    });
    let ran = run_through(&proxy, &fanned);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "over a slow store");
    assert_clean(&fanned, &[]);
}

#[test]
fn a_clock_that_the_store_refuses_is_named() {
    let Some(server) = S3::start() else { return };
    let project = Project::from_fixture("sessions");
    server.add_remote(&project);
    let document = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>";
    let proxy = Proxy::start(&server, move |method, _| match method {
        "GET" | "PUT" => Fate::Refused(document.to_owned()),
        // The answer to it has no document.
        _ => Fate::Passes,
    });
    let ran = run_through(&proxy, &project);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("RequestTimeTooSkewed") && ran.stderr.contains("set the clock"), "{ran:#?}");
}
