//! Objects with versions, and the changes that watches read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

/// How many changes are remembered; a watch from before them is told that its version expired.
const HISTORY: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Job,
    Pod,
    Event,
    Claim,
    ConfigMap,
    Quota,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Job, Kind::Pod, Kind::Event, Kind::Claim, Kind::ConfigMap, Kind::Quota];

    pub(super) fn of_resource(resource: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.resource() == resource)
    }

    pub(super) fn resource(self) -> &'static str {
        match self {
            Kind::Job => "jobs",
            Kind::Pod => "pods",
            Kind::Event => "events",
            Kind::Claim => "persistentvolumeclaims",
            Kind::ConfigMap => "configmaps",
            Kind::Quota => "resourcequotas",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Job => "Job",
            Kind::Pod => "Pod",
            Kind::Event => "Event",
            Kind::Claim => "PersistentVolumeClaim",
            Kind::ConfigMap => "ConfigMap",
            Kind::Quota => "ResourceQuota",
        }
    }

    pub(super) fn group(self) -> &'static str {
        match self {
            Kind::Job => "batch",
            Kind::Pod | Kind::Event | Kind::Claim | Kind::ConfigMap | Kind::Quota => "",
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Kind::Job => "batch/v1",
            Kind::Pod | Kind::Event | Kind::Claim | Kind::ConfigMap | Kind::Quota => "v1",
        }
    }

    /// As error messages have it: `jobs.batch`, `pods`.
    pub(super) fn qualified(self) -> String {
        let dot = if self.group().is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.resource(), self.group())
    }
}

#[derive(Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: Kind,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(super) what: &'static str,
    pub(super) object: Arc<Value>,
}

pub(super) struct Store {
    /// Never 0, which means "any version" to clients.
    version: u64,
    objects: BTreeMap<(Kind, String), Arc<Value>>,
    changes: VecDeque<Change>,
    /// Changes up to this version are forgotten.
    forgotten: u64,
    uids: u64,
}

impl Default for Store {
    fn default() -> Self {
        Store { version: 1, objects: BTreeMap::new(), changes: VecDeque::new(), forgotten: 0, uids: 0 }
    }
}

impl Store {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(super) fn get(&self, kind: Kind, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&(kind, name.to_owned())).cloned()
    }

    pub(super) fn list(&self, kind: Kind) -> impl Iterator<Item = &Arc<Value>> {
        self.objects.range((kind, String::new())..).take_while(move |((found, _), _)| *found == kind).map(|(_, o)| o)
    }

    /// Returns the changes after a version, of one kind.
    pub(super) fn changes_after(&self, version: u64, kind: Kind) -> Vec<Change> {
        let first = self.changes.partition_point(|change| change.version <= version);
        self.changes.range(first..).filter(|change| change.kind == kind).cloned().collect()
    }

    /// Adds or replaces an object and returns it as it is stored.
    pub(super) fn put(&mut self, kind: Kind, mut object: Value) -> Arc<Value> {
        let name = object["metadata"]["name"].as_str().expect("objects have names").to_owned();
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let before = self.objects.insert((kind, name), Arc::clone(&object));
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.remember(kind, what, &object);
        object
    }

    /// Changes an object that is there.
    pub(super) fn update(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) -> Option<Arc<Value>> {
        let mut object = (*self.get(kind, name)?).clone();
        change(&mut object);
        Some(self.put(kind, object))
    }

    pub(super) fn delete(&mut self, kind: Kind, name: &str) -> Option<Arc<Value>> {
        let object = self.objects.remove(&(kind, name.to_owned()))?;
        self.version += 1;
        let mut last = (*object).clone();
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.remember(kind, "DELETED", &Arc::new(last));
        Some(object)
    }

    /// Returns a uid that no other object has.
    pub(super) fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }

    fn remember(&mut self, kind: Kind, what: &'static str, object: &Arc<Value>) {
        self.changes.push_back(Change { version: self.version, kind, what, object: Arc::clone(object) });
        if self.changes.len() > HISTORY {
            self.forgotten = self.changes.pop_front().map_or(self.forgotten, |change| change.version);
        }
    }
}

/// The time as Kubernetes writes it, in whole seconds.
pub(super) fn now() -> Value {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}
