//! What goes wrong, on demand.

use std::collections::{BTreeMap, VecDeque};

/// What happens to a pod instead of its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its node is drained: `DisruptionTarget`, exit code 143.
    Evicted,
    /// It exceeds its memory limit: `OOMKilled`, exit code 137.
    OomKilled,
    /// No node fits; it stays `Pending`, with this message of the scheduler.
    Unschedulable(String),
    /// Its image cannot be pulled; it stays `Pending`.
    ImagePullBackOff,
    /// Its node falls silent while it runs.
    NodeLost,
    /// A volume cannot be mounted; it stays `Pending` with this event.
    FailedMount(String),
    /// It stays `Pending` with this waiting reason of its container.
    Waiting { reason: String, message: String },
    /// Its work is done twice: a second pod of the index starts beside it.
    Duplicated,
}

/// What the API server and the node do wrong from now on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Of the next pods of an index, in order.
    pub(super) fates: BTreeMap<u32, VecDeque<Fate>>,
    /// Of every pod.
    pub(super) every_pod: Option<Fate>,
    /// The server refuses pods with this message: quota, priority class, Pod Security.
    pub(super) refused_pods: Option<String>,
    /// Verb and resource (`pods/log` too) that are forbidden.
    pub(super) forbidden: Vec<(String, String)>,
    pub(super) unauthorized: bool,
    /// Requests yet to be answered with 429, and the seconds to wait.
    pub(super) overloaded: Option<(u32, u32)>,
    /// Creations yet to be carried out and answered with 504.
    pub(super) lost_answers: u32,
    /// Nobody answers.
    pub(super) away: bool,
    /// Raised for every cut; streams that began before it end without a regular end.
    pub(super) cuts: u64,
    /// Raised for every expiry; streams that began before it end with an error of code 410.
    pub(super) expiries: u64,
    /// What `/version` says, if not 1.36.
    pub(super) minor_version: Option<u32>,
}

impl Faults {
    /// Decides over the next pods of an index, in order.
    pub(crate) fn fates(&mut self, index: u32, fates: &[Fate]) {
        self.fates.entry(index).or_default().extend(fates.iter().cloned());
    }

    /// Decides over every pod from now on.
    pub(crate) fn every_pod(&mut self, fate: Option<Fate>) {
        self.every_pod = fate;
    }

    pub(crate) fn refuse_pods(&mut self, message: Option<&str>) {
        self.refused_pods = message.map(str::to_owned);
    }

    pub(crate) fn forbid(&mut self, verb: &str, resource: &str) {
        self.forbidden.push((verb.to_owned(), resource.to_owned()));
    }

    pub(crate) fn refuse_credentials(&mut self) {
        self.unauthorized = true;
    }

    pub(crate) fn overload(&mut self, requests: u32, retry_after: u32) {
        self.overloaded = Some((requests, retry_after));
    }

    pub(crate) fn lose_answers(&mut self, creations: u32) {
        self.lost_answers = creations;
    }

    pub(crate) fn go_away(&mut self, away: bool) {
        self.away = away;
        self.cuts += u64::from(away);
    }

    pub(crate) fn cut_streams(&mut self) {
        self.cuts += 1;
    }

    pub(crate) fn expire_streams(&mut self) {
        self.expiries += 1;
    }

    pub(crate) fn be_version(&mut self, minor: u32) {
        self.minor_version = Some(minor);
    }

    pub(super) fn next_fate(&mut self, index: u32) -> Option<Fate> {
        let own = self.fates.get_mut(&index).and_then(VecDeque::pop_front);
        own.or_else(|| self.every_pod.clone())
    }

    pub(super) fn is_forbidden(&self, verb: &str, resource: &str) -> bool {
        self.forbidden.iter().any(|(v, r)| v == verb && r == resource)
    }

    /// Whether the next request is one too many; returns the seconds to wait.
    pub(super) fn take_overload(&mut self) -> Option<u32> {
        let (left, retry_after) = self.overloaded?;
        self.overloaded = (left > 1).then(|| (left - 1, retry_after));
        Some(retry_after)
    }

    pub(super) fn take_lost_answer(&mut self) -> bool {
        let lost = self.lost_answers > 0;
        self.lost_answers = self.lost_answers.saturating_sub(1);
        lost
    }
}
