//! Lists and watches: selectors, versions, bookmarks, and how streams end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::faults::Faults;
use super::http::{Answer, Chunks, Request, Response};
use super::store::{Kind, Store};
use super::{Cluster, status};

/// What a request selects.
#[derive(Clone)]
struct Selector {
    namespace: String,
    labels: Vec<(String, String)>,
    fields: Vec<(String, String)>,
}

impl Selector {
    fn of(namespace: &str, request: &Request) -> Self {
        let pairs = |text: Option<&str>| -> Vec<(String, String)> {
            let parts = text.unwrap_or_default().split(',').filter(|part| !part.is_empty());
            parts
                .map(|part| {
                    let (key, value) = part.split_once('=').expect("a selector is KEY=VALUE");
                    (key.to_owned(), value.trim_start_matches('=').to_owned())
                })
                .collect()
        };
        Selector {
            namespace: namespace.to_owned(),
            labels: pairs(request.query("labelSelector")),
            fields: pairs(request.query("fieldSelector")),
        }
    }

    fn takes(&self, object: &Value) -> bool {
        object["metadata"]["namespace"] == self.namespace.as_str()
            && self.labels.iter().all(|(key, value)| object["metadata"]["labels"][key] == value.as_str())
            && self.fields.iter().all(|(path, value)| {
                let field = path.split('.').fold(object, |object, name| &object[name]);
                field == value.as_str()
            })
    }
}

pub(super) fn list(store: &Store, kind: Kind, namespace: &str, request: &Request) -> Response {
    let selector = Selector::of(namespace, request);
    let skipped: usize = request.query("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
    let limit: usize =
        request.query("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let mut selected = store.list(kind).filter(|object| selector.takes(object)).skip(skipped);
    let items: Vec<Value> = selected.by_ref().take(limit).map(|object| (**object).clone()).collect();
    let mut metadata = json!({ "resourceVersion": store.version().to_string() });
    if selected.next().is_some() {
        metadata["continue"] = (skipped + limit).to_string().into();
    }
    let body = json!({
        "kind": format!("{}List", kind.name()), "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
    });
    Response::json(200, &body)
}

pub(super) fn start(cluster: &Arc<Cluster>, faults: &Faults, kind: Kind, namespace: &str, request: &Request) -> Answer {
    let stream = Stream {
        cluster: Arc::clone(cluster),
        cuts: faults.cuts,
        expiries: faults.expiries,
        kind,
        selector: Selector::of(namespace, request),
        version: request.query("resourceVersion").and_then(|version| version.parse().ok()),
        bookmarks: request.flag("allowWatchBookmarks"),
        timeout: Duration::from_secs(request.query("timeoutSeconds").and_then(|t| t.parse().ok()).unwrap_or(1800)),
    };
    Answer::Stream(Box::new(move |chunks| stream.run(chunks)))
}

struct Stream {
    cluster: Arc<Cluster>,
    /// As they were when it began.
    cuts: u64,
    expiries: u64,
    kind: Kind,
    selector: Selector,
    version: Option<u64>,
    bookmarks: bool,
    timeout: Duration,
}

impl Stream {
    /// Writes events until the watch is over; returns whether it ends regularly.
    fn run(self, chunks: &mut Chunks) -> std::io::Result<bool> {
        let end = Instant::now() + self.timeout;
        let mut silent_since = Instant::now();
        let mut state = self.cluster.lock();
        let mut version = self.version.filter(|version| *version > 0).unwrap_or_else(|| state.store.version());
        if self.version.is_none_or(|version| version == 0) {
            let now: String =
                state.store.list(self.kind).filter(|o| self.selector.takes(o)).map(|o| event("ADDED", o)).collect();
            drop(state);
            chunks.send(now.as_bytes())?;
            state = self.cluster.lock();
        }
        loop {
            if state.faults.cuts != self.cuts || self.cluster.is_stopped() {
                return Ok(false);
            }
            if version < state.store.forgotten() || state.faults.expiries != self.expiries {
                let error = event("ERROR", &status::expired(version, state.store.forgotten()));
                drop(state);
                chunks.send(error.as_bytes())?;
                return Ok(true);
            }
            let changes = state.store.changes_after(version, self.kind);
            let newest = state.store.version();
            drop(state);
            let news: String =
                changes.iter().filter(|c| self.selector.takes(&c.object)).map(|c| event(c.what, &c.object)).collect();
            version = newest;
            if !news.is_empty() {
                chunks.send(news.as_bytes())?;
                silent_since = Instant::now();
            } else if self.bookmarks && silent_since.elapsed() > self.cluster.options.pace.bookmarks {
                chunks.send(event("BOOKMARK", &self.bookmark(version)).as_bytes())?;
                silent_since = Instant::now();
            }
            if Instant::now() > end {
                return Ok(true);
            }
            state = self.cluster.lock();
            if state.store.version() == version {
                state = self.cluster.wait(state, Duration::from_millis(100));
            }
        }
    }

    /// An object of which only the version counts.
    fn bookmark(&self, version: u64) -> Value {
        let mut object = json!({
            "kind": self.kind.name(), "apiVersion": self.kind.api_version(),
            "metadata": { "resourceVersion": version.to_string() },
        });
        match self.kind {
            Kind::Job => {
                object["spec"] = json!({ "template": { "metadata": {}, "spec": { "containers": null } } });
                object["status"] = json!({});
            }
            Kind::Pod => object["spec"] = json!({ "containers": null }),
            Kind::Event | Kind::Claim | Kind::ConfigMap | Kind::Quota => {}
        }
        object
    }
}

fn event(what: &str, object: &Value) -> String {
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n")
}
