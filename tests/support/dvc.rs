//! Real DVC, loaded once for all tests of this process (`dvc_server.py`): a call takes a fraction of what a `dvc` of its own takes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use super::Ran;
use super::oracle::python_of_dvc;

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

struct Server {
    socket: PathBuf,
    /// It ends when its standard input is closed, with this process.
    _process: Child,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        let socket = folder.join("socket");
        let mut process = Command::new(python_of_dvc().expect("`dvc` must be on the PATH"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/dvc_server.py"))
            .arg(&socket)
            .envs([("DVC_NO_ANALYTICS", "1"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC"), ("PYTHONDONTWRITEBYTECODE", "1")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut said = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut said).expect("it can be read");
        assert_eq!(said, "ready\n", "DVC could not be loaded");
        Server { socket, _process: process }
    }
}

/// Runs `dvc` with the arguments, the environment and the folder of a command.
///
/// # Panics
///
/// Where there is no DVC, or it died.
pub(crate) fn run(command: &Command) -> Ran {
    let text = |text: &OsStr| text.to_str().unwrap_or_else(|| panic!("{} is not UTF-8", text.display())).to_owned();
    let output = tempfile::tempdir().expect("a temporary folder");
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| output.path().join(name));
    [&stdout, &stderr].into_iter().for_each(|path| std::fs::write(path, b"").expect("written"));
    let environment: BTreeMap<String, String> =
        command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect();
    let asked = serde_json::json!({
        "arguments": command.get_args().map(text).collect::<Vec<_>>(),
        "folder": command.get_current_dir().expect("tests say where"),
        "environment": environment,
        "stdout": stdout,
        "stderr": stderr,
    });
    let mut connection = UnixStream::connect(&SERVER.socket).expect("DVC listens");
    writeln!(connection, "{asked}").expect("DVC listens");
    let mut code = String::new();
    // Not until the end: what DVC leaves running in the background may hold the connection.
    BufReader::new(connection).read_line(&mut code).expect("DVC answers");
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("it is there")).into_owned();
    Ran { code: code.trim_end().parse().ok(), stdout: read(&stdout), stderr: read(&stderr) }
}
