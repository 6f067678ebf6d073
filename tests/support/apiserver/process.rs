//! A pod's container: a process of this machine that sees the pod's paths as folders of the node.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::{Options, pod};

/// What Kubernetes reports for a container that could not be started.
pub(super) const CANNOT_START: i32 = 128;
/// How long the rest of an ended container's output is waited for.
const LOG_LIMIT: Duration = Duration::from_millis(300);

pub(super) enum Process {
    Running { child: Child, killed_at: Option<Instant>, logger: JoinHandle<()>, ended_at: Option<Instant> },
    Ended(i32),
}

impl Process {
    pub(super) fn ended(code: i32) -> Self {
        Process::Ended(code)
    }

    /// Starts a pod's first container.
    pub(super) fn start(options: &Options, pod: &Value) -> Self {
        let index = pod::index(pod).unwrap_or_default();
        if let Some(work) = &options.simulated {
            return Process::Ended(work(index, pod));
        }
        let folder = options.node.join("pods").join(pod::uid(pod));
        let mounts = Mounts::of(&options.node, &folder, pod);
        let container = &pod["spec"]["containers"][0];
        let mut words =
            ["command", "args"].into_iter().flat_map(|field| container[field].as_array().into_iter().flatten());
        let shown = words.next().and_then(Value::as_str).unwrap_or("true");
        let program = mounts.map(shown);
        let mut command = Command::new(program);
        command.args(words.filter_map(Value::as_str).map(|word| mounts.map(word)));
        command.env_clear().env("PATH", path(options)).env("JOB_COMPLETION_INDEX", index.to_string());
        command.env("HOSTNAME", pod["spec"]["hostname"].as_str().unwrap_or("pod"));
        for source in container["envFrom"].as_array().into_iter().flatten() {
            let name = source["secretRef"]["name"].as_str().unwrap_or_default();
            for (name, value) in options.secrets.get(name).into_iter().flatten() {
                command.env(name, value);
            }
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
                command.env(name, mounts.map(value));
            }
        }
        if let Some(directory) = container["workingDir"].as_str() {
            command.current_dir(mounts.map(directory));
        }
        match spawn(command, &folder.join("log")) {
            Ok((child, logger)) => Process::Running { child, killed_at: None, logger, ended_at: None },
            Err(error) => {
                let why = match error.kind() {
                    std::io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
                    _ => error.to_string(),
                };
                let message = format!(
                    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc \
                     create failed: unable to start container process: exec: {shown:?}: {why}: unknown"
                );
                log_line(&mut File::create(folder.join("log")).expect("the folder is there"), &message);
                Process::Ended(CANNOT_START)
            }
        }
    }

    /// Tells it to end: TERM first, KILL after the grace period. Returns whether this was the first call.
    pub(super) fn stop(&mut self, grace: Duration) -> bool {
        let Process::Running { child, killed_at, .. } = self else { return false };
        match killed_at {
            None => {
                *killed_at = Some(Instant::now() + grace);
                signal(child, Signal::TERM);
                true
            }
            Some(at) => {
                if *at <= Instant::now() {
                    signal(child, Signal::KILL);
                }
                false
            }
        }
    }

    /// Returns the exit code once it has ended; 128 + n for signal n.
    pub(super) fn exit_code(&mut self) -> Option<i32> {
        let (child, logger, ended_at) = match self {
            Process::Ended(code) => return Some(*code),
            Process::Running { child, logger, ended_at, .. } => (child, logger, ended_at),
        };
        let status = child.try_wait().expect("it is our child")?;
        // What it said last is to be in its log, unless somebody else holds on to its output.
        if !logger.is_finished() && ended_at.get_or_insert_with(Instant::now).elapsed() < LOG_LIMIT {
            return None;
        }
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("it ended one way");
        *self = Process::Ended(code);
        Some(code)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Process::Running { child, .. } = self {
            signal(child, Signal::KILL);
            child.wait().expect("it is our child");
        }
    }
}

/// Signals all processes of a container; those that are gone already need none.
fn signal(child: &Child, signal: Signal) {
    let _gone = kill_process_group(Pid::from_child(child), signal);
}

fn path(options: &Options) -> std::ffi::OsString {
    let system = std::env::var_os("PATH").unwrap_or_default();
    let all = options.path.iter().cloned().chain(std::env::split_paths(&system));
    std::env::join_paths(all).expect("paths without a colon")
}

fn spawn(mut command: Command, log: &Path) -> std::io::Result<(Child, JoinHandle<()>)> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let child = command.spawn()?;
    // The writing ends in `command` must be closed for the reader to see the end.
    drop(command);
    let mut file = File::create(log)?;
    let logger = std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            log_line(&mut file, &line);
        }
    });
    Ok((child, logger))
}

fn log_line(file: &mut File, line: &str) {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.9fZ");
    writeln!(file, "{time} {line}").expect("the node's disk has room");
}

/// Where a pod's mount paths are on the node; the longest first.
struct Mounts(Vec<(String, PathBuf)>);

impl Mounts {
    fn of(node: &Path, folder: &Path, pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        fs::create_dir_all(folder).expect("the node's disk has room");
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
        let mut all: Vec<(String, PathBuf)> = mounts
            .iter()
            .map(|mount| {
                let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("it was validated");
                let place = if volume["hostPath"].is_object() {
                    PathBuf::from(text(&volume["hostPath"]["path"]))
                } else if volume["persistentVolumeClaim"].is_object() {
                    node.join("pvc").join(text(&volume["persistentVolumeClaim"]["claimName"]))
                } else if volume["nfs"].is_object() {
                    node.join("nfs")
                        .join(text(&volume["nfs"]["server"]))
                        .join(text(&volume["nfs"]["path"]).trim_start_matches('/'))
                } else {
                    let scratch = folder.join(text(&volume["name"]));
                    fs::create_dir_all(&scratch).expect("the node's disk has room");
                    scratch
                };
                (text(&mount["mountPath"]), place.join(text(&mount["subPath"])))
            })
            .collect();
        all.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.len()));
        Mounts(all)
    }

    /// Puts the node's folders in place of mount paths that stand at the beginning of a word.
    fn map(&self, text: &str) -> String {
        let mut mapped = String::new();
        let mut rest = text;
        let mut at_start = true;
        while let Some(next) = rest.chars().next() {
            let found = self.0.iter().find(|(mount, _)| {
                let after = rest.strip_prefix(mount.as_str());
                at_start
                    && after.is_some_and(|after| {
                        !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
                    })
            });
            let taken = if let Some((mount, place)) = found {
                mapped.push_str(place.to_str().expect("the tests' paths are text").trim_end_matches('/'));
                mount.len()
            } else {
                mapped.push(next);
                next.len_utf8()
            };
            at_start = matches!(next, '=' | ':' | ' ' | '"' | '\'' | '\n' | ',') && found.is_none();
            rest = &rest[taken..];
        }
        mapped
    }
}
