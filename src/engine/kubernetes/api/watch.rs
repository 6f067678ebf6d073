//! Lists, then watches, and again after every break.
//!
//! | what breaks | then |
//! |---|---|
//! | the stream ends, or is cut | watch from the last version |
//! | error 410, by code or reason, never by message | list, compare, watch |
//! | 429, 5xx, no connection | again after a pause, as long as the patience lasts |
//! | 401, 403, any other 4xx | give up |
//!
//! Nothing is concluded from events that were missed: a list says what is there.

use std::cell::Cell;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::{Cluster, FIRST_PAUSE, KubeError, LONGEST_PAUSE};

/// The server ends a watch after this long; the next one goes on from there.
const WATCH_SECONDS: u32 = 280;
/// A stream that is silent for longer than the server would let it be is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 20);
/// The limit of one page of a list and of the beginning of a watch.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
const PAGE: u32 = 500;
/// Changes that wait to be looked at; the stream waits when there are more.
const QUEUE: usize = 64;
/// How long the server may be away until that is worth a word.
const AWAY_GRACE: Duration = Duration::from_secs(10);
/// A stream that the server kept open for so long was a good one, though nothing happened.
const GOOD_STREAM: Duration = Duration::from_secs(30);

/// Something that became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<V> {
    /// All there is. What is missing is gone.
    Listed(Vec<V>),
    Changed(V),
    Deleted(V),
    /// The server has not answered for a while; what was the matter last.
    Away(String),
    /// It answers again.
    Back,
}

/// A stream of changes; the watch ends when it is dropped.
pub(crate) struct Following<V> {
    changes: mpsc::Receiver<Result<Change<V>, KubeError>>,
}

impl<V> Following<V> {
    /// Returns the next change, or why there will be no more.
    pub(crate) async fn next(&mut self) -> Result<Change<V>, KubeError> {
        match self.changes.recv().await {
            Some(change) => change,
            // The task ends after an error only, which was taken by an earlier call.
            None => std::future::pending().await,
        }
    }
}

/// Whether trying again may help.
pub(super) fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => !is_distrust(error),
        _ => false,
    }
}

/// Whether the two do not trust each other. TLS says so in an error of its own kind, not of the system's.
fn is_distrust(error: &kube::Error) -> bool {
    sources(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| {
        error.get_ref().is_some() && matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other)
    })
}

/// An error and what it came of, the last the most exact.
fn sources(error: &kube::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
}

/// The most exact that is known of an error.
pub(super) fn exact(error: &kube::Error) -> String {
    sources(error).last().map(ToString::to_string).unwrap_or_default()
}

/// Starts to follow the objects that a selector takes.
pub(super) fn follow<K, V>(cluster: &Cluster, api: Api<K>, selector: ListParams, view: fn(&K) -> V) -> Following<V>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + 'static,
    V: 'static,
{
    let (sender, changes) = mpsc::channel(QUEUE);
    let follower = Follower { cluster: cluster.clone(), api, selector, view, sender, is_away: Cell::new(false) };
    tokio::task::spawn_local(async move {
        let sender = follower.sender.clone();
        tokio::select! {
            error = follower.run() => drop(sender.send(Err(error)).await),
            () = sender.closed() => {}
        }
    });
    Following { changes }
}

struct Follower<K, V> {
    cluster: Cluster,
    api: Api<K>,
    selector: ListParams,
    view: fn(&K) -> V,
    sender: mpsc::Sender<Result<Change<V>, KubeError>>,
    /// Whether it was told that the server is away.
    is_away: Cell<bool>,
}

/// How a stream came to its end.
enum Break {
    /// Go on from the last version.
    Ended,
    /// The version is too old.
    Expired,
    Failed(kube::Error),
    Silent,
}

impl<K, V> Follower<K, V>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug,
{
    /// Follows until it has to give up.
    async fn run(&self) -> KubeError {
        let mut version: Option<String> = None;
        let mut away_since: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let (broken, heard) = match version.take() {
                None => match self.list(&mut version).await {
                    Ok(()) => {
                        self.answered().await;
                        (None, true)
                    }
                    Err(broken) => (Some(broken), false),
                },
                Some(from) => {
                    let (last, broken, heard) = self.watch(from).await;
                    version = Some(last);
                    (Some(broken), heard)
                }
            };
            if heard {
                away_since = None;
                pause = FIRST_PAUSE;
            }
            let source = match broken {
                None => continue,
                Some(Break::Ended | Break::Silent) => None,
                Some(Break::Expired) => {
                    version = None;
                    None
                }
                Some(Break::Failed(error)) if !is_passing(&error) => return self.cluster.refused("watch", error),
                Some(Break::Failed(error)) => Some(error),
            };
            // A server that answers and ends every watch at once is no better than one that is away.
            let since = *away_since.get_or_insert_with(Instant::now);
            if since.elapsed() > self.cluster.patience {
                return self.cluster.away("answer", self.cluster.patience, source.as_ref());
            }
            if since.elapsed() > AWAY_GRACE && !self.is_away.replace(true) {
                let why = source.as_ref().map_or_else(|| "it ends every stream".to_owned(), exact);
                self.send(Change::Away(why)).await;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends all there is and sets the version to watch from.
    async fn list(&self, version: &mut Option<String>) -> Result<(), Break> {
        let mut all = vec![];
        let mut params = self.selector.clone().limit(PAGE);
        loop {
            let page = match timeout(ANSWER_LIMIT, self.api.list(&params)).await {
                Ok(page) => page.map_err(broken)?,
                Err(_) => return Err(Break::Silent),
            };
            all.extend(page.items.iter().map(self.view));
            let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else {
                self.send(Change::Listed(all)).await;
                *version = Some(page.metadata.resource_version.unwrap_or_default());
                return Ok(());
            };
            params = params.continue_token(&token);
        }
    }

    /// Sends changes from a version on; returns the last version, how it ended and whether anything was heard.
    async fn watch(&self, from: String) -> (String, Break, bool) {
        let params = WatchParams {
            label_selector: self.selector.label_selector.clone(),
            field_selector: self.selector.field_selector.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let mut version = from;
        let stream = match timeout(ANSWER_LIMIT, self.api.watch(&params, &version)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return (version, broken(error), false),
            Err(_) => return (version, Break::Silent, false),
        };
        let mut stream = std::pin::pin!(stream);
        let mut heard = false;
        let begun = Instant::now();
        loop {
            let event = match timeout(SILENCE_LIMIT, stream.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return (version, broken(error), heard),
                Ok(None) => return (version, Break::Ended, heard || begun.elapsed() > GOOD_STREAM),
                Err(_) => return (version, Break::Silent, heard),
            };
            heard = true;
            self.answered().await;
            let (object, deleted) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => return (version, broken(kube::Error::Api(status)), heard),
            };
            if let Some(newer) = object.resource_version() {
                version = newer;
            }
            let seen = (self.view)(&object);
            self.send(if deleted { Change::Deleted(seen) } else { Change::Changed(seen) }).await;
        }
    }

    /// Says that the server is back, if it was said to be away.
    async fn answered(&self) {
        if self.is_away.take() {
            self.send(Change::Back).await;
        }
    }

    async fn send(&self, change: Change<V>) {
        // Nobody listens any more: the task is about to be ended.
        let _ended = self.sender.send(Ok(change)).await;
    }
}

fn broken(error: kube::Error) -> Break {
    match error {
        kube::Error::Api(status) if status.code == 410 || status.reason == "Expired" || status.reason == "Gone" => {
            Break::Expired
        }
        other => Break::Failed(other),
    }
}
