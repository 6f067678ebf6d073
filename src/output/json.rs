//! Documents for programs: one JSON document on stdout, with a `version`, additive only.

use std::io::{BufWriter, Write as _};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::changes::{ReasonJson, StageChanges, outlook_name};
use super::value_json::{ListJson, MapJson, ValueJson};
use crate::dvc::hash::Hashed;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::project::{Project, StageFile};
use crate::dvc::pipeline::stage::{Dep, Out, OutKind, Stage};
use crate::dvc::pipeline::stage_index::StageIndex;

/// The version of the documents.
const VERSION: u32 = 1;

/// Prints the project: stages in collection order, edges, and the order of `dvc repro`.
pub(crate) fn stages<'p>(
    project: &'p Project,
    graph: &Graph,
    selected: Option<&[StageIndex]>,
    cwd: &str,
    changes: &dyn Fn(StageIndex) -> Option<StageChanges<'p>>,
) {
    let address = |stage: StageIndex| project.stages[stage].address.0.as_str();
    let stage =
        |(index, stage): (StageIndex, &'p Stage)| StageJson { stage, changes: changes(index), address: &address };
    let all = project.stages.indexes();
    let document = StagesDocument {
        version: VERSION,
        stages: project.stages.indexed().map(stage).collect(),
        edges: all
            .flat_map(|stage| graph.needs(stage).iter().map(move |&needed| [stage, needed]))
            .map(|edge| edge.map(address))
            .collect(),
        order: graph.order().into_iter().map(address).collect(),
        files: project.files.iter().map(FileJson).collect(),
        selected: selected
            .map(|stages| stages.iter().map(|&stage| project.stages[stage].address_from(&project.root, cwd)).collect()),
    };
    print(&document);
}

/// Prints what a file or directory hashes to.
pub(crate) fn hash(hashed: &Hashed) {
    #[derive(Serialize)]
    struct HashDocument {
        version: u32,
        md5: String,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        nfiles: Option<u64>,
    }
    let nfiles = match hashed {
        Hashed::File { .. } => None,
        Hashed::Directory { nfiles, .. } => Some(*nfiles),
    };
    print(&HashDocument { version: VERSION, md5: hashed.oid().to_string(), size: hashed.size(), nfiles });
}

/// Prints a document and a newline. A reader that has gone away is no error.
fn print(document: &impl Serialize) {
    let mut stdout = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let written = serde_json::to_writer(&mut stdout, document);
    drop(written.map_err(std::io::Error::from).and_then(|()| writeln!(stdout)).and_then(|()| stdout.flush()));
}

#[derive(Serialize)]
struct StagesDocument<'p> {
    version: u32,
    stages: Vec<StageJson<'p>>,
    /// `[stage, what it needs]`.
    edges: Vec<[&'p str; 2]>,
    /// As `dvc repro --all-pipelines` runs them.
    order: Vec<&'p str>,
    /// The stage files, in the order in which they are read.
    files: Vec<FileJson<'p>>,
    /// The stages that the targets name, addressed from the current directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    selected: Option<Vec<String>>,
}

struct StageJson<'p> {
    stage: &'p Stage,
    /// What `--changed` found out.
    changes: Option<StageChanges<'p>>,
    address: &'p dyn Fn(StageIndex) -> &'p str,
}

impl Serialize for StageJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stage = self.stage;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("address", &stage.address.0)?;
        map.serialize_entry("name", &stage.name)?;
        map.serialize_entry("group", &stage.generated.as_ref().map(|generated| &generated.group))?;
        map.serialize_entry("path", &stage.file)?;
        map.serialize_entry("line", &stage.line)?;
        map.serialize_entry("wdir", directory(&stage.wdir))?;
        map.serialize_entry("cmd_raw", &stage.cmd.as_ref().map(ValueJson))?;
        map.serialize_entry("deps", &stage.deps.iter().map(|dep| &dep.path).collect::<Vec<_>>())?;
        map.serialize_entry("deps_resolved", &stage.deps.iter().map(DepJson).collect::<Vec<_>>())?;
        map.serialize_entry("outs", &stage.outs.iter().map(OutJson).collect::<Vec<_>>())?;
        map.serialize_entry("params", &ParamsJson(stage))?;
        let params: Vec<&str> = stage.params.iter().map(|params| directory(&params.resolved)).collect();
        map.serialize_entry("params_resolved", &params)?;
        map.serialize_entry("frozen", &stage.frozen)?;
        map.serialize_entry("always_changed", &stage.always_changed)?;
        map.serialize_entry("callback", &stage.is_callback())?;
        for (name, value) in [("desc", &stage.desc), ("meta", &stage.meta)] {
            if let Some(value) = value {
                map.serialize_entry(name, &ValueJson(value))?;
            }
        }
        if let Some(StageChanges { observation, forecast }) = self.changes {
            map.serialize_entry("changed", &observation.is_changed())?;
            map.serialize_entry("outlook", outlook_name(&forecast.outlook))?;
            map.serialize_entry("reasons", &observation.reasons.iter().map(ReasonJson).collect::<Vec<_>>())?;
            let upstream: Vec<&str> = forecast.upstream.iter().map(|stage| (self.address)(*stage)).collect();
            map.serialize_entry("upstream", &upstream)?;
        }
        map.end()
    }
}

/// A stage file with its sections beside `stages`, where it has them.
struct FileJson<'p>(&'p StageFile);

impl Serialize for FileJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let StageFile { path, groups, top, .. } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", path)?;
        map.serialize_entry("groups", &groups.iter().map(|group| &group.name).collect::<Vec<_>>())?;
        let lists =
            [("metrics", &top.metrics), ("plots", &top.plots), ("params", &top.params), ("datasets", &top.datasets)];
        for (name, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
            map.serialize_entry(name, &ListJson(items))?;
        }
        if !top.artifacts.is_empty() {
            map.serialize_entry("artifacts", &MapJson(&top.artifacts))?;
        }
        map.end()
    }
}

/// The root itself is `.` for the reader.
fn directory(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

struct DepJson<'p>(&'p Dep);

impl Serialize for DepJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.resolved.as_deref().map(directory).serialize(serializer)
    }
}

struct OutJson<'p>(&'p Out);

impl Serialize for OutJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let out = self.0;
        let kind = match out.kind {
            OutKind::Out => "out",
            OutKind::Metric => "metric",
            OutKind::Plot => "plot",
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &out.path)?;
        map.serialize_entry("resolved", &out.resolved.as_deref().map(directory))?;
        map.serialize_entry("kind", kind)?;
        map.serialize_entry("cache", &out.cache)?;
        map.serialize_entry("persist", &out.persist)?;
        map.serialize_entry("push", &out.push)?;
        if let Some(remote) = &out.remote {
            map.serialize_entry("remote", remote)?;
        }
        for (name, value) in &out.flags {
            map.serialize_entry(name, &ValueJson(value))?;
        }
        map.end()
    }
}

struct ParamsJson<'p>(&'p Stage);

impl Serialize for ParamsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.params.len()))?;
        for params in &self.0.params {
            map.serialize_entry(&params.path, &params.keys)?;
        }
        map.end()
    }
}
