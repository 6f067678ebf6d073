//! A cluster for tests that need no more than every cluster offers: the fake one, or a real one.
//!
//! | variable | for example | |
//! |---|---|---|
//! | `DVC_FANOUT_TEST_KUBECONFIG` | `/home/me/.kube/test` | never the user's own by default |
//! | `DVC_FANOUT_TEST_IMAGE` | `worker:1` | has git, DVC and `dvc-fanout` |
//! | `DVC_FANOUT_TEST_VOLUME` | `hostPath:/data` | as `--volume` takes it, and seen here too |
//!
//! With all three set, pods run in a real cluster. The projects of the tests are made in the folder of a `hostPath`; of
//! any other volume `TMPDIR` must be a folder that pods see at the same path. Each test has a namespace of its own where
//! it may make one, else that of the kubeconfig's context.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getgid, getuid, kill_process};
use serde_json::{Value, json};

use super::apiserver::{ApiServer, Options, client};
use super::{Project, Ran};

/// How long anything may take that a test waits for; nodes have to start pods meanwhile.
const LIMIT: Duration = Duration::from_mins(4);
const POLL: Duration = Duration::from_millis(50);
/// Finds the objects of one test.
const TAG: &str = "dvc-fanout-test";

pub(crate) struct Cluster {
    kind: Kind,
    pub(crate) namespace: String,
    /// Told apart from other tests that use the namespace.
    id: String,
    folder: tempfile::TempDir,
}

enum Kind {
    Fake(ApiServer),
    Real(Box<Real>),
}

struct Real {
    kubeconfig: PathBuf,
    image: String,
    volume: String,
    /// Where the volume is here and in pods, if not at the same place.
    map: Option<(String, String)>,
    has_own_namespace: bool,
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let variable =
            |name: &str| std::env::var(format!("DVC_FANOUT_TEST_{name}")).ok().filter(|text| !text.is_empty());
        let named = (variable("KUBECONFIG"), variable("IMAGE"), variable("VOLUME"));
        let (Some(kubeconfig), Some(image), Some(volume)) = named else {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let kind = Kind::Fake(ApiServer::start(Options::new(folder.path())));
            return Cluster { kind, namespace: "science".to_owned(), id: "fake".to_owned(), folder };
        };
        let map = place_projects(&volume);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (real, namespace) = Real::connect(&kubeconfig, image, volume, map);
        let id =
            folder.path().file_name().expect("it has one").to_string_lossy().trim_start_matches('.').to_lowercase();
        let mut cluster = Cluster { kind: Kind::Real(Box::new(real)), namespace, id, folder };
        cluster.make_namespace();
        cluster
    }

    /// The fake one, where things go wrong on demand.
    pub(crate) fn fake(&self) -> Option<&ApiServer> {
        match &self.kind {
            Kind::Fake(server) => Some(server),
            Kind::Real(_) => None,
        }
    }

    /// Whether tests may do with the namespace as they like.
    pub(crate) fn has_own_namespace(&self) -> bool {
        match &self.kind {
            Kind::Fake(_) => true,
            Kind::Real(real) => real.has_own_namespace,
        }
    }

    fn make_namespace(&mut self) {
        let name = format!("{TAG}-{}", self.id);
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        if self.call("POST", "/api/v1/namespaces", Some(&namespace)).0 != 201 {
            return;
        }
        if let Kind::Real(real) = &mut self.kind {
            real.has_own_namespace = true;
        }
        self.namespace = name;
        // Without its service account, no pod can be made in it.
        wait("the namespace's service account", || {
            let found = self.call("GET", &self.core("serviceaccounts/default"), None);
            (found.0 == 200).then_some(()).ok_or_else(|| format!("{found:?}"))
        });
    }

    /// The path of a core resource in the namespace.
    pub(crate) fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// The path of Jobs in the namespace, or of one.
    pub(crate) fn jobs(&self, rest: &str) -> String {
        format!("/apis/batch/v1/namespaces/{}/jobs{rest}", self.namespace)
    }

    /// Sends a request of the test's own and returns the status and the answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        match &self.kind {
            Kind::Fake(server) => client::call(server.address(), method, path, body),
            Kind::Real(real) => real.call(method, path, body),
        }
    }

    /// The `jobs` or `pods` of this test.
    pub(crate) fn objects(&self, resource: &str) -> Vec<Value> {
        if let Kind::Fake(server) = &self.kind {
            return server.objects(resource);
        }
        let path = if resource == "jobs" { self.jobs("") } else { self.core(resource) };
        let (code, list) = self.call("GET", &format!("{path}?labelSelector={TAG}%3D{}", self.id), None);
        assert_eq!(code, 200, "{list}");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The names of the test's `jobs` or `pods`, sorted.
    pub(crate) fn names(&self, resource: &str) -> Vec<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().expect("objects have names").to_owned();
        let mut names: Vec<String> = self.objects(resource).iter().map(name).collect();
        names.sort();
        names
    }

    /// Waits until objects look as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, resource: &str, wanted: impl Fn(&[Value]) -> bool) {
        wait(what, || {
            let objects = self.objects(resource);
            if wanted(&objects) { Ok(()) } else { Err(format!("{objects:#?}")) }
        });
    }

    /// Where pods see a folder of this machine.
    pub(crate) fn seen(&self, path: &Path) -> String {
        let path = real_path(path).display().to_string();
        match &self.kind {
            Kind::Real(real) => {
                let map = real.map.as_ref();
                let mapped =
                    map.and_then(|(here, there)| Some(format!("{there}{}", path.strip_prefix(here.as_str())?)));
                mapped.unwrap_or(path)
            }
            Kind::Fake(_) => path,
        }
    }

    /// A command of `dvc-fanout` that takes the engine's flags; those that are given are not given again.
    pub(crate) fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(arguments).args(["--engine", "kubernetes", "--pod-env", "DVC_NO_ANALYTICS=1"]);
        let mut default = |flag: &str, value: &str| {
            if !arguments.contains(&flag) {
                command.args([flag, value]);
            }
        };
        default("--jobs", "2");
        match &self.kind {
            Kind::Fake(server) => {
                let kubeconfig = self.folder.path().join("kubeconfig");
                server.write_kubeconfig(&kubeconfig, &self.namespace);
                default("--image", "worker:1");
                default("--worker-program", env!("CARGO_BIN_EXE_dvc-fanout"));
                if !arguments.contains(&"--store") {
                    default("--volume", &format!("hostPath:{}", real_path(shared(project)).display()));
                }
                command.env("KUBECONFIG", kubeconfig);
            }
            Kind::Real(real) => {
                default("--kubeconfig", real.kubeconfig.to_str().expect("text"));
                default("--image", &real.image);
                default("--image-pull-policy", "IfNotPresent");
                default("--namespace", &self.namespace);
                default("--security", "image");
                default("--run-as", &format!("{}:{}", getuid().as_raw(), getgid().as_raw()));
                if let (Some((here, there)), false) = (&real.map, arguments.contains(&"--map")) {
                    default("--map", &format!("{here}={there}"));
                }
                default("--volume", &real.volume);
                command.args(["--tag", &format!("{TAG}={}", self.id)]);
            }
        }
        command
    }

    /// The folder of a project as `--volume` takes it, at another place in pods, and what `--map` then has to say; `None`
    /// where the volume cannot be had in part.
    pub(crate) fn volume_at(&self, project: &Project, mount: &str) -> Option<(String, String)> {
        if let Kind::Real(real) = &self.kind
            && !real.volume.starts_with("hostPath:")
        {
            return None;
        }
        let folder = real_path(shared(project)).display().to_string();
        Some((format!("hostPath:{folder}:{mount}"), format!("{folder}={mount}")))
    }

    /// Runs a command of `dvc-fanout` that takes the engine's flags.
    pub(crate) fn fanout(&self, project: &Project, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(project, arguments))
    }

    /// Starts one in the background.
    pub(crate) fn start(&self, project: &Project, arguments: &[&str]) -> Started {
        Started::new(self.command(project, arguments), shared(project))
    }

    /// Runs a command that finds the cluster by itself.
    pub(crate) fn other(&self, project: &Project, arguments: &[&str]) -> Ran {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        if self.fake().is_some() {
            command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        }
        Ran::of(command.args(arguments))
    }

    /// A folder for files of the test's own, not on the volume.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a kubeconfig for a service account of the namespace.
    pub(crate) fn kubeconfig_of(&self, account: &str) -> PathBuf {
        let Kind::Real(real) = &self.kind else { panic!("the fake knows no accounts") };
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let (code, token) = self.call("POST", &self.core(&format!("serviceaccounts/{account}/token")), Some(&request));
        assert_eq!(code, 201, "{token}");
        let text = std::fs::read_to_string(&real.kubeconfig).expect("it was read before");
        let mut config: Value = serde_yaml::from_str(&text).expect("a kubeconfig");
        let context = json!({ "cluster": current_cluster(&config), "user": account, "namespace": self.namespace });
        config["contexts"] = json!([{ "name": account, "context": context }]);
        config["users"] = json!([{ "name": account, "user": { "token": token["status"]["token"] } }]);
        config["current-context"] = account.into();
        // Relative to the file that it was read from.
        let file = real.kubeconfig.with_file_name(format!(".{TAG}-{}-{account}", self.id));
        let file =
            if std::fs::write(&file, config.to_string()).is_ok() { file } else { self.folder.path().join(account) };
        std::fs::write(&file, config.to_string()).expect("written");
        file
    }
}

fn current_cluster(config: &Value) -> Value {
    let contexts = config["contexts"].as_array().expect("a kubeconfig has contexts");
    let current = contexts.iter().find(|context| context["name"] == config["current-context"]);
    current.expect("one is current")["context"]["cluster"].clone()
}

impl Drop for Cluster {
    /// Jobs go before their namespace, which would wait for them for ever.
    fn drop(&mut self) {
        let Kind::Real(real) = &self.kind else { return };
        let options = json!({ "propagationPolicy": "Background" });
        let selected = format!("?labelSelector={TAG}%3D{}", self.id);
        // A test that failed has more to say than its cleaning up.
        let _gone = real.send("DELETE", &self.jobs(&selected), Some(&options));
        if real.has_own_namespace {
            let _gone = real.send("DELETE", &format!("/api/v1/namespaces/{}", self.namespace), None);
        }
    }
}

impl Real {
    /// Returns the cluster and the namespace of the context.
    fn connect(kubeconfig: &str, image: String, volume: String, map: Option<(String, String)>) -> (Self, String) {
        let kubeconfig = real_path(Path::new(kubeconfig));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let (client, namespace) = runtime.block_on(async {
            let file =
                kube::config::Kubeconfig::read_from(&kubeconfig).expect("DVC_FANOUT_TEST_KUBECONFIG is readable");
            let options = kube::config::KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(file, &options);
            let config = config.await.expect("DVC_FANOUT_TEST_KUBECONFIG is usable");
            let namespace = config.default_namespace.clone();
            (kube::Client::try_from(config).expect("DVC_FANOUT_TEST_KUBECONFIG is usable"), namespace)
        });
        (Real { kubeconfig, image, volume, map, has_own_namespace: false, runtime, client }, namespace)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let code = if method == "POST" { 201 } else { 200 };
        match self.send(method, path, body) {
            Ok(text) => (code, serde_json::from_str(&text).unwrap_or_default()),
            Err(kube::Error::Api(status)) => (status.code, json!({ "message": status.message })),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String, kube::Error> {
        let request = kube::api::Request::new("/").list(&kube::api::ListParams::default());
        let mut request = request.expect("a path of the API is a URI");
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = path.parse().expect("a path of the API is a URI");
        if let Some(body) = body {
            let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            request.headers_mut().insert("content-type", kind.parse().expect("a header"));
            *request.body_mut() = body.to_string().into_bytes();
        }
        self.runtime.block_on(self.client.request_text(request))
    }
}

/// Has the projects of all tests made on the volume, where it is a folder of this machine; returns where that folder is
/// here and in pods, if not at the same place.
fn place_projects(volume: &str) -> Option<(String, String)> {
    let mut parts = volume.strip_prefix("hostPath:")?.trim_end_matches(":ro").splitn(2, ':');
    let (here, there) = (parts.next()?.trim_end_matches('/').to_owned(), parts.next());
    // All tests of this process do the same.
    let _first = tempfile::env::override_temp_dir(Path::new(&here));
    there.filter(|there| *there != here).map(|there| (here, there.to_owned()))
}

/// The folder on the volume that holds a project and what belongs to it.
fn shared(project: &Project) -> &Path {
    project.root().parent().expect("a project is in a folder of its own")
}

fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Looks again and again until what is wanted is there; panics with the last look.
#[track_caller]
fn wait(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + LIMIT;
    while let Err(last) = look() {
        assert!(Instant::now() < end, "waited for {what}, last seen: {last}");
        std::thread::sleep(POLL);
    }
}

/// A `dvc-fanout` in the background; ends with the test.
pub(crate) struct Started {
    child: Child,
    file: PathBuf,
}

impl Started {
    pub(crate) fn new(mut command: Command, folder: &Path) -> Self {
        let named = tempfile::Builder::new().prefix("said-").tempfile_in(folder).expect("the folder is there");
        let (said, file) = named.keep().expect("it is there");
        let out = said.try_clone().expect("it is open");
        Started { child: command.stdin(Stdio::null()).stdout(out).stderr(said).spawn().expect("it starts"), file }
    }

    /// All that it has printed.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.file).expect("it is there")
    }

    #[track_caller]
    pub(crate) fn wait_until_said(&mut self, text: &str) {
        wait(text, || {
            let said = self.said();
            let over = self.child.try_wait().expect("it is our child");
            if said.contains(text) {
                return Ok(());
            }
            assert!(over.is_none(), "it ended without `{text}`: {}", self.said());
            Err(said)
        });
    }

    /// Sends `TERM`, `INT` or `KILL`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end; returns the exit code and what it said.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut code = None;
        wait("its end", || match self.child.try_wait().expect("it is our child") {
            Some(status) => {
                code = status.code();
                Ok(())
            }
            None => Err(self.said()),
        });
        (code, self.said())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // One that has ended is not there any more.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
