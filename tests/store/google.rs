//! The whole job at an address of Google's, whose XML protocol for objects is S3's.

use super::whole_job::add_remote;
use crate::support::s3::S3;
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

/// Two projects with a remote that is a folder.
fn projects() -> (Project, Project) {
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    for project in [&serial, &fanned] {
        add_remote(project, &fanned);
    }
    (serial, fanned)
}

#[test]
fn a_project_ends_as_dvc_repro_leaves_it_over_googles_protocol() {
    let Some(server) = S3::start() else { return };
    let (serial, fanned) = projects();
    serial.dvc(["repro"]);
    let fanout = |arguments: &[&str]| {
        let mut command = fanned.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.env("GOOGLE_BASE_URL", server.endpoint()).env("GOOGLE_BEARER_TOKEN", "t0ken-of-the-test");
        Ran::of(command.args(arguments))
    };
    fanout(&["run", "-j", "2", "--store", "gs://bucket/runs"]).succeeded();
    assert_same(&serial, &fanned, "over Google's protocol");
    assert_clean(&fanned, &[]);
    let keys = server.keys();
    assert!(keys.iter().any(|key| key.starts_with("runs/") && key.ends_with("plan.json")), "{keys:?}");
    assert!(keys.iter().all(|key| !server.read(key).contains("t0ken")), "{keys:?}");
    fanout(&["runs", "prune", "--keep", "0"]).succeeded();
    assert!(server.keys().is_empty(), "{:?}", server.keys());
}

/// Asking for a role that no machine here has would be asked again for minutes.
#[test]
fn a_store_without_credentials_is_told_at_once() {
    let (_, fanned) = projects();
    let ran = fanned.fanout(["run", "--store", "gs://bucket/runs"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("there is no way into `gs://bucket/runs`"), "{ran:#?}");
    assert!(ran.stderr.contains("no credentials are where this program looks for them"), "{ran:#?}");
    let mut command = fanned.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let key = r#"{"client_email": "a@b", "private_key_id": "1", "private_key": "none"}"#;
    let ran = Ran::of(command.args(["run", "--store", "gs://bucket/runs"]).env("GOOGLE_SERVICE_ACCOUNT_KEY", key));
    assert!(ran.code == Some(4) && ran.stderr.contains("there is no way into `gs://bucket/runs`"), "{ran:#?}");
}

/// What `aws configure` leaves.
#[test]
fn keys_of_a_profile_open_a_store() {
    let Some(server) = S3::start() else { return };
    let (_, fanned) = projects();
    fanned.write("../home/.aws/credentials", "[default]\naws_access_key_id = key\naws_secret_access_key = s3cr3t\n");
    fanned.write(
        "../home/.aws/config",
        "[default]\nregion = us-east-1\n[profile corporate]\nsso_start_url = https://x\n",
    );
    let fanout = |profile: &str| {
        let mut command = fanned.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.env("AWS_ENDPOINT_URL", server.endpoint()).env("AWS_PROFILE", profile);
        Ran::of(command.args(["run", "-j", "2", "--store", "s3://bucket/runs"]))
    };
    let ran = fanout("corporate");
    assert!(ran.code == Some(4) && ran.stderr.contains("aws configure export-credentials"), "{ran:#?}");
    fanout("default").succeeded();
    assert!(server.keys().iter().any(|key| key.ends_with("plan.json")), "{:?}", server.keys());
}
