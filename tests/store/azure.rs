//! The whole job over Azure's protocol, which its emulator speaks.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::data;
use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran, tool};

/// How long the emulator may take to start.
const START: Duration = Duration::from_secs(60);
/// The key of the emulator's account, which everybody knows.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Makes the container `bucket`, given the port and the key.
const MAKE_CONTAINER: &str = r#"
import base64, email.utils, hashlib, hmac, http.client, sys
account, version, key = "devstoreaccount1", "2021-08-06", sys.argv[2]
date = email.utils.formatdate(usegmt=True)
headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
text = "PUT" + "\n" * 12 + headers + f"/{account}/{account}/bucket\nrestype:container"
signature = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
line = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
line.request("PUT", f"/{account}/bucket?restype=container", headers={
    "x-ms-date": date, "x-ms-version": version, "Content-Length": "0",
    "Authorization": f"SharedKey {account}:{signature}"})
answer = line.getresponse()
sys.exit(None if answer.status == 201 else f"{answer.status} {answer.read()}")
"#;

/// A server; it goes with this.
struct Azurite {
    server: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Azurite {
    /// Starts one with the container `bucket`; `None` where there is no emulator.
    fn start() -> Option<Azurite> {
        let program = tool("azurite-blob")?;
        let folder = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        let mut command = Command::new(program);
        command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1"]);
        command.args(["--blobPort", &port.to_string(), "--location"]).arg(folder.path());
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        let azurite = Azurite { server, endpoint: format!("http://127.0.0.1:{port}"), _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < START, "the emulator did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        let ran = Ran::of(Command::new("python3").args(["-c", MAKE_CONTAINER, &port.to_string(), KEY]));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        Some(azurite)
    }

    /// Says where the emulator is, as DVC understands it.
    fn connection(&self) -> String {
        format!("AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint={}/devstoreaccount1;", self.endpoint)
    }

    fn fanout(&self, project: &Project, arguments: &[&str]) -> Ran {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.env("AZURE_STORAGE_USE_EMULATOR", "true").env("AZURITE_BLOB_STORAGE_URL", &self.endpoint);
        // What is in the project's `config.local` is not for the store.
        command.env("AZURE_STORAGE_CONNECTION_STRING", self.connection());
        Ran::of(command.args(arguments))
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

#[test]
fn a_project_ends_as_dvc_repro_leaves_it_over_azure() {
    let Some(azurite) = Azurite::start() else { return };
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    for project in [&serial, &fanned] {
        let remote = fanned.root().with_file_name("remote");
        project.dvc(["remote", "add", "--quiet", "--default", "store", remote.to_str().expect("text")]);
        project.commit("remote");
    }
    serial.dvc(["repro"]);
    let ran = azurite.fanout(&fanned, &["run", "-j", "2", "--store", "az://bucket/runs"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "over azure");
    assert_clean(&fanned, &[]);
    let ran = azurite.fanout(&fanned, &["run", "--force", "--store", "az://nowhere/runs"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("there is no bucket or container at `az://nowhere/runs`"), "{ran:#?}");
    let ran = azurite.fanout(&fanned, &["runs", "prune", "--keep", "0", "--force"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
}

#[test]
fn data_goes_to_azure_and_back_without_dvc_and_dvc_finds_it() {
    let Some(azurite) = Azurite::start() else { return };
    let (serial, fanned) = (data::project(), data::project());
    for project in [&serial, &fanned] {
        project.dvc(["remote", "add", "--quiet", "--default", "store", "azure://bucket/data"]);
        project.commit("remote");
    }
    serial.dvc(["repro"]);
    let connection = |project: &Project| {
        let text = azurite.connection();
        project.dvc(["remote", "modify", "--quiet", "--local", "store", "connection_string", &text]);
    };
    let ran = azurite.fanout(&fanned, &["run", "-j", "2", "--store", "az://bucket/runs"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(matches!(data::moved(&fanned), (9.., 0)), "{:?}", data::moved(&fanned));
    connection(&fanned);
    // What the last stage made, in the project itself, is nobody's to push but the user's.
    assert_eq!(fanned.dvc(["push"]).trim(), "1 file pushed");
    std::fs::remove_file(fanned.path(".dvc/config.local")).expect("removed");
    fanned.commit("run");
    let clone = fanned.clone_beside("clone");
    connection(&clone);
    clone.dvc(["pull", "--quiet", "--run-cache"]);
    assert_eq!(clone.dvc(["status"]).trim(), "Data and pipelines are up to date.");
    for path in ["gathered", "parts/b/deep/all", "in/a.txt"] {
        assert_eq!(clone.read(path), serial.read(path), "{path}");
    }
    assert_eq!(fanned.read("dvc.lock"), serial.read("dvc.lock"));
    assert_clean(&fanned, &[]);
    // What another machine has pushed is fetched without DVC, too.
    clone.write("in/c.txt", "three\n");
    clone.dvc(["add", "--quiet", "in"]);
    clone.dvc(["push", "--quiet"]);
    clone.commit("more");
    std::fs::remove_dir_all(clone.path(".dvc/cache")).expect("removed");
    let ran = azurite.fanout(&clone, &["run", "-j", "2", "--store", "az://bucket/runs"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(matches!(data::moved(&clone), (4.., 0)), "{:?}", data::moved(&clone));
}
