//! A real Slurm cluster for one test: Debian's Slurm on this machine, as `contrib/slurm/cluster` starts it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::{Project, Ran, run_folder, say};

/// The most that anything here is waited for; the machine may be slow.
const LIMIT: Duration = Duration::from_mins(4);
/// Ports of a cluster.
const PORTS: u16 = 10;

/// The ports that the next cluster tries first.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A cluster, which ends with this value.
pub(crate) struct Slurm {
    folder: tempfile::TempDir,
    port: u16,
    node: String,
}

impl Slurm {
    /// Starts a cluster, or says why there can be none here: it takes root and Slurm's programs. With `CI` set, and as
    /// root, that is a failure.
    #[track_caller]
    pub(crate) fn start(variables: &[(&str, &str)]) -> Option<Slurm> {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        if !is_root {
            say("skipped: a Slurm cluster takes root");
            return None;
        }
        for program in ["sbatch", "slurmctld", "slurmd", "munged"] {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
            folders.push("/usr/sbin".into());
            if !folders.iter().any(|folder| folder.join(program).is_file()) {
                assert!(std::env::var_os("CI").is_none(), "`{program}` is missing: `contrib/slurm/cluster packages`");
                say(&format!("skipped: no `{program}`, see `contrib/slurm/cluster packages`"));
                return None;
            }
        }
        let port = free_ports();
        let slurm = Slurm { folder: tempfile::tempdir().expect("a folder"), port, node: format!("t{port}n") };
        let ran = Ran::of(slurm.script("up").envs(variables.iter().copied()));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        Some(slurm)
    }

    fn script(&self, what: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/slurm/cluster"));
        command.arg(what).arg(self.root()).env("PORT", self.port.to_string()).env("NODE", &self.node);
        // What it starts stays; nobody waits for it at the end of a pipe.
        command.env("PATH", with_sbin());
        command
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.root().join("etc/slurm.conf")
    }

    /// Whether the memory of its jobs is limited.
    pub(crate) fn limits_memory(&self) -> bool {
        std::fs::read_to_string(self.root().join("env")).expect("read").contains("LIMITS_MEMORY=yes")
    }

    /// `dvc-fanout` in a project, for this cluster.
    pub(crate) fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(arguments).env("SLURM_CONF", self.configuration());
        if matches!(arguments.first(), Some(&("run" | "launch"))) {
            command.args(["--engine", "slurm", "--poll", "1s", "--job-scratch"]).arg(self.root().join("local"));
        }
        command
    }

    pub(crate) fn fanout(&self, project: &Project, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(project, arguments))
    }

    /// One of Slurm's programs; what it printed.
    #[track_caller]
    pub(crate) fn call(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args(["60", program]).args(arguments).env("SLURM_CONF", self.configuration());
        Ran::of(&mut command).stdout
    }

    /// The ids of all arrays that the cluster knows, those that are over among them.
    pub(crate) fn arrays(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.call("squeue", &["-h", "-t", "all", "-o", "%F"]).lines().map(str::to_owned).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Whether so many tasks run.
    pub(crate) fn runs(&self, count: usize) -> bool {
        self.call("squeue", &["-h", "-t", "R", "-o", "%K"]).lines().count() == count
    }

    /// The name of one of its nodes, from 1.
    pub(crate) fn node(&self, number: u32) -> String {
        format!("{}{number}", self.node)
    }

    /// Sends a signal to a daemon: `slurmctld`, or `slurmd.NODE`.
    pub(crate) fn signal(&self, daemon: &str, signal: &str) {
        let id = std::fs::read_to_string(self.root().join("run").join(daemon)).expect("it runs");
        let ran = Ran::of(Command::new("kill").args([signal, id.trim()]));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }

    /// Starts a daemon again that was ended.
    pub(crate) fn start_again(&self, arguments: &[&str]) {
        let (what, rest) = arguments.split_first().expect("one");
        let ran = Ran::of(self.script(what).args(rest));
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        if std::env::var_os("DVC_FANOUT_KEEP_SLURM").is_none() {
            drop(self.script("down").output());
        }
    }
}

/// A project of one template with some keys, each of which runs a command.
pub(crate) fn keys(count: usize, command: &str) -> Project {
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

pub(crate) fn spawn(slurm: &Slurm, project: &Project, arguments: &[&str]) -> Child {
    let mut command = slurm.command(project, arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    command.spawn().expect("started")
}

/// Puts a program before the real one on the PATH.
pub(crate) fn stand_in(project: &Project, name: &str, script: &str) -> String {
    let folder = project.root().with_file_name("stand-ins");
    std::fs::create_dir_all(&folder).expect("made");
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}")).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    format!("{}:{}", folder.display(), std::env::var("PATH").expect("there is one"))
}

/// A project of one template with some keys, each of which waits for the file that is returned.
pub(crate) fn gated(count: usize) -> (Project, PathBuf) {
    let project = keys(count, "'while [ ! -e GO ]; do sleep 0.1; done; echo ${item} > ${item}.txt'");
    let go = project.root().with_file_name("go");
    project.edit("dvc.yaml", "GO", go.to_str().expect("text"));
    project.commit("a gate");
    (project, go)
}

/// What the journal of the latest run says.
pub(crate) fn journal(project: &Project) -> String {
    std::fs::read_to_string(run_folder(project).join("events.jsonl")).unwrap_or_default()
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn with_sbin() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    std::env::join_paths(folders).expect("paths")
}

/// The first of some ports that nobody uses.
fn free_ports() -> u16 {
    let start = u16::try_from(std::process::id() % 1000).expect("small");
    loop {
        let block = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 2000;
        let port = 20_000 + block * PORTS;
        if (port..port + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}
