//! A Kubernetes API server for the tests: HTTP on loopback, a Job controller, pods that are real processes.
//!
//! It shows what a cluster shows to a launcher, and keeps to the recorded traffic of a real one in
//! `fixtures/kubernetes-recorded/` (`tests/kubernetes/recorded.rs` holds it to them).
//!
//! | file | part of a cluster |
//! |---|---|
//! | `http.rs` | sockets, requests, responses, streams |
//! | `api.rs`, `watch.rs`, `status.rs`, `admission.rs` | the API server |
//! | `store.rs` | etcd |
//! | `controller.rs`, `progress.rs` | the Job controller |
//! | `kubelet.rs`, `process.rs`, `pod.rs` | scheduler, kubelet and node |
//! | `faults.rs` | what goes wrong, on demand |
//! | `client.rs` | a client of few lines |

pub(crate) mod admission;
mod api;
pub(crate) mod client;
mod controller;
pub(crate) mod faults;
mod http;
mod kubelet;
mod pod;
mod process;
mod progress;
mod status;
mod store;
mod watch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use faults::Faults;
use store::{Kind, Store};

/// Times that a real cluster takes; the tests have them short.
#[derive(Clone)]
pub(crate) struct Pace {
    /// The delay before an index is tried again; doubles each time.
    pub(crate) backoff: Duration,
    /// How long a finished pod is still `Running`.
    pub(crate) phase_lag: Duration,
    /// How often a silent watch gets a bookmark.
    pub(crate) bookmarks: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Pace { backoff: millis(200), phase_lag: millis(20), bookmarks: millis(500) }
    }
}

/// Does the work of a pod without a process; is given the index and returns the exit code.
pub(crate) type Simulated = Arc<dyn Fn(u32, &Value) -> i32 + Send + Sync>;

pub(crate) struct Options {
    pub(crate) pace: Pace,
    /// Where the node keeps volumes: `pvc/NAME`, `nfs/SERVER/PATH`, `pods/UID`. Claims must exist in here.
    pub(crate) node: PathBuf,
    pub(crate) simulated: Option<Simulated>,
    /// Put in front of the `PATH` of pods.
    pub(crate) path: Vec<PathBuf>,
    /// The Secrets that there are, by name, with their keys and values.
    pub(crate) secrets: BTreeMap<String, Vec<(String, String)>>,
}

impl Options {
    pub(crate) fn new(node: &Path) -> Self {
        let credentials = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-test")];
        let credentials = credentials.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let secrets = BTreeMap::from([("bucket".to_owned(), credentials)]);
        Options { pace: Pace::default(), node: node.to_owned(), simulated: None, path: vec![], secrets }
    }
}

/// What the threads of the cluster share.
struct Cluster {
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    store: Store,
    faults: Faults,
    /// Requests by verb and resource, such as `watch pods`.
    requests: BTreeMap<String, usize>,
}

impl Cluster {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the state")
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits for a change of the store, or this long.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).expect("no thread panics while it holds the state").0
    }
}

/// A running cluster; stops, with every process of its pods, when dropped.
pub(crate) struct ApiServer {
    cluster: Arc<Cluster>,
    address: SocketAddr,
    threads: Vec<thread::JoinHandle<()>>,
}

impl ApiServer {
    pub(crate) fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let cluster = Arc::new(Cluster {
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let parts: [fn(&Cluster); 2] = [controller::run, kubelet::run];
        let mut threads: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let cluster = Arc::clone(&cluster);
                thread::spawn(move || part(&cluster))
            })
            .collect();
        let served = Arc::clone(&cluster);
        threads.push(thread::spawn(move || http::serve(&listener, &served)));
        ApiServer { cluster, address, threads }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig whose context has this namespace.
    pub(crate) fn write_kubeconfig(&self, file: &Path, namespace: &str) {
        fs::write(file, self.kubeconfig(namespace)).expect("the folder is there");
    }

    pub(crate) fn kubeconfig(&self, namespace: &str) -> String {
        let address = self.address;
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'http://{address}'}}}}]\n\
             users: [{{name: test, user: {{token: test}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: {namespace}}}}}]\n"
        )
    }

    /// Changes what goes wrong.
    pub(crate) fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        let result = change(&mut self.cluster.lock().faults);
        self.cluster.changed.notify_all();
        result
    }

    /// Returns the objects of a kind (`jobs`, `pods`, `events`, …).
    pub(crate) fn objects(&self, resource: &str) -> Vec<Value> {
        let kind = Kind::of_resource(resource).expect("a known resource");
        self.cluster.lock().store.list(kind).map(|object| (**object).clone()).collect()
    }

    /// Waits until the objects of a kind look as wanted; panics with the last look after a minute.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, resource: &str, wanted: impl Fn(&[Value]) -> bool) {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            let objects = self.objects(resource);
            if wanted(&objects) {
                return;
            }
            assert!(Instant::now() < end, "waited for {what}, last seen: {objects:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many requests of this verb and resource came in.
    pub(crate) fn requests(&self, verb_and_resource: &str) -> usize {
        self.cluster.lock().requests.get(verb_and_resource).copied().unwrap_or(0)
    }

    /// All requests, a line for each verb and resource.
    pub(crate) fn requests_report(&self) -> String {
        self.cluster.lock().requests.iter().fold(String::new(), |mut report, (what, count)| {
            let _ = writeln!(report, "{count:6} {what}");
            report
        })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.cluster.stopped.store(true, Ordering::SeqCst);
        self.cluster.changed.notify_all();
        // The accepting thread wakes up for a connection only.
        drop(std::net::TcpStream::connect(self.address));
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a part of the cluster panicked");
        }
    }
}
