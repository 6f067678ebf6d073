//! The files of a run as they are on disk: plain JSON and JSON Lines, each with a version.
//!
//! Fields are only ever added. A reader refuses a version that it does not know.

use std::ops::{Index, Range};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dvc::oid::ObjectKey;
use crate::model::executor::Executor;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::{Difference, Executed, Moved, Outcome, PhaseKind, Resources, StageState, Traffic, Usage};

/// The version of everything here.
pub(crate) const VERSION: u32 = 1;

/// `plan.json`: what a run is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub version: u32,
    /// The run's id, which sorts by time.
    pub run: String,
    /// RFC 3339.
    pub created: String,
    /// The version of this program.
    pub program: String,
    /// The version of DVC that was found.
    pub dvc: String,
    /// Where the project was, absolute.
    pub root: String,
    /// The project's folder in the git work tree, `""` for its top.
    pub prefix: String,
    /// The commit that was checked out; `None` before the first commit.
    pub head: Option<String>,
    /// The digest of what else a slot's repository has of the project's.
    #[serde(default)]
    pub setting: String,
    /// The branch that was checked out; `None` where none was.
    #[serde(default)]
    pub branch: Option<String>,
    /// The commit of the workspace as it was, in the run's `snapshot`; `None` when there is nothing to do.
    pub snapshot: Option<String>,
    /// The tree of that commit without outs, `dvc.yaml`, `dvc.lock` and `.dvc` files: what every slot begins with.
    pub workspace: Option<String>,
    /// The files of it that are too large to be copied: workers see those of the project.
    #[serde(default)]
    pub linked: Vec<String>,
    /// The folders that have a git repository of their own.
    #[serde(default)]
    pub nested: Vec<String>,
    /// As typed.
    pub targets: Vec<String>,
    pub options: PlanOptions,
    /// The files that the plan was made from, with the MD5 of each; `null` where there was none.
    pub base: Vec<BaseFile>,
    /// The number of work items.
    pub work_items: usize,
    /// In order; together they cover all work items.
    pub phases: Vec<Phase>,
    /// The number of stages that DVC sees and the number that may run, by template.
    pub templates: Vec<Template>,
    /// Deps that are missing and that no work item makes, to be pulled into the project before the launch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pulled: Vec<String>,
    /// What workers see although it is in no snapshot.
    #[serde(default)]
    pub carry: Carried,
}

impl Plan {
    pub(crate) fn has(&self, index: ItemIndex) -> bool {
        index.get() < self.work_items
    }

    /// The indexes of all work items.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = ItemIndex> + Clone {
        ItemIndex::each(0..self.work_items)
    }

    /// The top of the git work tree that a project with this root lies in.
    pub(crate) fn top<'r>(&self, root: &'r Path) -> &'r Path {
        Self::top_of(root, &self.prefix)
    }

    /// The same of the project's folder in it.
    pub(crate) fn top_of<'r>(root: &'r Path, prefix: &str) -> &'r Path {
        let depth = prefix.split('/').filter(|name| !name.is_empty()).count();
        root.ancestors().nth(depth).unwrap_or(root)
    }
}

/// Files and folders that are in no snapshot and that no stage declares: git ignores most of them. Paths are relative to
/// the top of the git work tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// Those that workspaces have as links into the project, folders as a whole where that is possible.
    pub linked: Vec<String>,
    /// Folders with nothing but folders in them, which workspaces have, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// Those that the patterns take out.
    pub left_out: Vec<String>,
    /// Those that git would ignore if they were there, such as an environment that the first command makes.
    pub awaited: Vec<String>,
    /// Those of the awaited that commands may make, by what they name: the first work item begins before the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub head_start: Vec<String>,
}

/// What was asked for, as far as it decides what is planned and how stages run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanOptions {
    pub over: Option<String>,
    pub force: bool,
    pub single_item: bool,
    pub pipeline: bool,
    pub all_pipelines: bool,
    pub recursive: bool,
    pub downstream: bool,
    pub glob: bool,
    pub no_run_cache: bool,
    pub pull: bool,
    /// Stages are not changed by data that is only missing.
    #[serde(default)]
    pub allow_missing: bool,
    /// What does the stages.
    #[serde(default)]
    pub executor: Executor,
    pub allow_missing_keys: bool,
    #[serde(default)]
    pub max_items: Option<usize>,
    /// Patterns of what is carried; see `model/carry.rs`.
    #[serde(default)]
    pub carry: Vec<String>,
    /// The directory that targets are relative to, from the project's root.
    pub cwd: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseFile {
    /// Relative to the project's root.
    pub path: String,
    pub md5: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub kind: PhaseKind,
    /// Whether `finalize` runs it, not `launch`.
    pub trailing: bool,
    /// The index of its first work item.
    pub first: ItemIndex,
    /// The number of its work items; their indexes are consecutive.
    pub count: usize,
}

impl Phase {
    /// The places of its work items in the worklist.
    pub(crate) fn places(&self) -> Range<usize> {
        self.first.get()..self.first.get() + self.count
    }

    pub(crate) fn indexes(&self) -> impl Iterator<Item = ItemIndex> + Clone {
        ItemIndex::each(self.places())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Template {
    /// A group's address, or that of a stage that is written out.
    pub address: String,
    pub stages: usize,
    pub planned: usize,
}

/// A line of `worklist.jsonl`: all that a worker needs to know of one work item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkItem {
    pub version: u32,
    pub index: ItemIndex,
    /// The key, or a stage's address; unique in the run.
    pub id: String,
    pub phase: usize,
    /// In the order of `dvc repro`.
    pub stages: Vec<PlannedStage>,
    /// The projected `dvc.yaml` and `.dvc` files by path.
    pub files: Vec<TextFile>,
    pub inputs: Vec<Input>,
    /// Directories that stages expect since they exist in the project.
    pub directories: Vec<String>,
    /// The work items, of earlier phases, whose results are inputs.
    pub needs: Vec<ItemIndex>,
    /// Whether DVC runs the stages one by one, by name: then it does not look at stage files that are inputs.
    #[serde(default)]
    pub one_by_one: bool,
    /// Whether it comes after all work items of earlier phases, since it seems to read what it does not declare.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_last: bool,
    /// Lock files without their entries, where they say of which version the datasets are that stages read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<TextFile>,
    pub resources: Resources,
}

impl WorkItem {
    /// Gives back the room that lists took in advance: one that grows has three places too many at first, which is most of
    /// what a work item takes, and they are kept by the hundred thousand.
    pub(crate) fn shrink(&mut self) {
        for stage in &mut self.stages {
            stage.outs.shrink_to_fit();
            stage.after.shrink_to_fit();
            stage.reads.shrink_to_fit();
        }
        self.stages.shrink_to_fit();
        self.files.shrink_to_fit();
        self.inputs.shrink_to_fit();
        self.directories.shrink_to_fit();
        self.needs.shrink_to_fit();
    }
}

impl Index<ItemIndex> for [WorkItem] {
    type Output = WorkItem;

    fn index(&self, index: ItemIndex) -> &WorkItem {
        &self[index.get()]
    }
}

impl Index<ItemIndex> for Vec<WorkItem> {
    type Output = WorkItem;

    fn index(&self, index: ItemIndex) -> &WorkItem {
        &self[index.get()]
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlannedStage {
    pub address: String,
    /// The file that defines it.
    pub file: String,
    /// The name in its lock file; `None` for a `.dvc` file.
    pub name: Option<String>,
    /// Its place in the order of `dvc repro` over the whole project.
    pub order: usize,
    /// The bytes of its lock entry at plan time.
    pub base: Option<String>,
    pub outs: Vec<PlannedOut>,
    /// The stages of the same work item that it needs, by their place in it.
    #[serde(default)]
    pub after: Vec<usize>,
    /// The stages of earlier work items that it reads from, in work items of several stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Source>,
    /// Why it runs or may run, one line.
    pub reason: String,
    /// Whether DVC would take its outs from the run cache.
    pub restores: bool,
    /// What it takes them from, for a machine with a cache of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RestoredFrom>,
    /// Whether DVC only records it: a `.dvc` file or a frozen stage.
    pub records: bool,
    /// Whether what the run cache knows of it may come from an earlier run whose results never came into the project: it
    /// runs then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distrusted: bool,
    /// Whether what its commands leave running stays until the run ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_running: bool,
}

/// What a stage is restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoredFrom {
    /// The entry of the run cache, where it is not the stage's own lock entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunName>,
    /// The outs.
    pub objects: Vec<Object>,
}

/// An entry of the run cache: `runs/KK/KEY/VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct RunName {
    pub key: String,
    pub value: String,
}

/// A cache object: a file, or a directory with all its files where the digest ends in `.dir`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Object {
    pub md5: String,
    /// Of DVC 2.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub legacy: bool,
}

impl Object {
    /// Where it lies in a cache; `None` where its name is none.
    pub(crate) fn key(&self) -> Option<ObjectKey> {
        ObjectKey::parse(&self.md5, self.legacy)
    }
}

/// A stage of another work item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The work item.
    pub index: ItemIndex,
    /// The address.
    pub stage: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlannedOut {
    /// As written, which is how the lock entry names it.
    pub path: String,
    /// Relative to the project's root.
    pub resolved: String,
    pub cache: bool,
    pub persist: bool,
    /// For an out that is not cached: the MD5 of what was there, a directory's files one by one.
    pub before: Vec<FileDigest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDigest {
    /// Relative to the project's root.
    pub path: String,
    pub md5: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextFile {
    /// Relative to the project's root.
    pub path: String,
    pub text: String,
}

/// Something to put into the workspace before a work item runs. Paths are relative to the project's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub(crate) enum Input {
    /// A cache object, linked as the project links; a directory where the digest ends in `.dir`.
    Cache {
        path: String,
        md5: String,
        /// Of DVC 2: `files/md5` is not part of the object's path.
        legacy: bool,
        isexec: bool,
        /// Files in a directory that have the executable bit in the project, which the cache does not record.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        executable: Vec<String>,
        /// Empty directories in a directory, which the cache does not record either.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        empty: Vec<String>,
        /// Only this path inside of a directory object, if only that is needed.
        member: Option<String>,
    },
    /// A file or directory of the snapshot that slots do not begin with (an out that git tracks).
    Snapshot { path: String },
    /// A file or directory that neither git nor DVC knows: copied from the project.
    Workspace { path: String },
    /// A directory of the project in the out of another stage that DVC does not see: a link to it.
    Link { path: String },
    /// What lies in a directory of the project under names that are not UTF-8.
    OddNames { path: String },
    /// A `dvc.lock` that is data to a stage: that of the snapshot with the entries of earlier work items.
    Lock { path: String, entries: Vec<LockSource> },
    /// The out of a stage of an earlier work item.
    Result {
        path: String,
        index: ItemIndex,
        stage: String,
        /// The stage's place in the order of `dvc repro`.
        order: usize,
        /// The out as its lock entry names it.
        out: String,
        member: Option<String>,
    },
}

impl Input {
    /// Where it is put.
    pub(crate) fn path(&self) -> &str {
        match self {
            Input::Cache { path, .. }
            | Input::Snapshot { path }
            | Input::Workspace { path }
            | Input::Link { path }
            | Input::OddNames { path }
            | Input::Lock { path, .. }
            | Input::Result { path, .. } => path,
        }
    }

    /// The cache object that it is.
    pub(crate) fn object(&self) -> Option<Object> {
        match self {
            Input::Cache { md5, legacy, .. } => Some(Object { md5: md5.clone(), legacy: *legacy }),
            Input::Snapshot { .. }
            | Input::Workspace { .. }
            | Input::Link { .. }
            | Input::OddNames { .. }
            | Input::Lock { .. }
            | Input::Result { .. } => None,
        }
    }

    /// The only path inside of it that is wanted; `None` for all of it.
    pub(crate) fn member(&self) -> Option<&str> {
        match self {
            Input::Cache { member, .. } | Input::Result { member, .. } => member.as_deref(),
            Input::Snapshot { .. }
            | Input::Workspace { .. }
            | Input::Link { .. }
            | Input::OddNames { .. }
            | Input::Lock { .. } => None,
        }
    }

    /// The stages of earlier work items that it comes from, as `(index of the work item, address)`.
    pub(crate) fn sources(&self) -> Vec<(ItemIndex, &str)> {
        match self {
            Input::Result { index, stage, .. } => vec![(*index, stage)],
            Input::Lock { entries, .. } => entries.iter().map(|entry| (entry.index, entry.stage.as_str())).collect(),
            Input::Cache { .. }
            | Input::Snapshot { .. }
            | Input::Workspace { .. }
            | Input::Link { .. }
            | Input::OddNames { .. } => vec![],
        }
    }
}

/// Where a lock entry comes from; a list of them is in the order of `dvc repro`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockSource {
    pub index: ItemIndex,
    /// The stage's address.
    pub stage: String,
    /// Its name in the lock file.
    pub name: String,
}

/// `result.json`: what one attempt at a work item left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkResult {
    pub version: u32,
    pub run: String,
    pub index: ItemIndex,
    pub id: String,
    pub attempt: AttemptNumber,
    pub outcome: Outcome,
    pub stages: Vec<StageResult>,
    /// Files that go into the project: outs that are not cached, `.dvc` files, and others that git does not ignore.
    pub files: Vec<ResultFile>,
    /// What failed stages left at their outs, which DVC leaves in the workspace too.
    #[serde(default)]
    pub partial: Vec<ResultFile>,
    /// Files that were deleted: of the snapshot, or left by earlier work items.
    pub deleted: Vec<String>,
    /// Files that earlier work items had deleted and that are not there again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Outs, relative to the project's root, that persist and that `partial` brings whole: what a stage that did not come
    /// to a good end made of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub persisted: Vec<String>,
    /// Directories of outs and of other new files, and files of cached directory outs, whose mode is not the usual one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<PathMode>,
    /// New directories beside outs with nothing in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<PathMode>,
    /// Lines that DVC added to `.gitignore` files.
    pub ignore: Vec<IgnoreLines>,
    /// What this program and DVC did differently, where both did the work item; the result is DVC's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// Whether the stages ran in the project itself: then what they left is where it belongs, and nothing is collected.
    #[serde(default)]
    pub in_project: bool,
    /// What its stages used of what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What went between its worker's cache and the project's remote, and which way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// What its worker took from an object store and put into it, from the result before to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// The task of a job array that it was done by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurm: Option<SlurmTask>,
    pub dvc: String,
    pub host: String,
    /// RFC 3339.
    pub started: String,
    pub finished: String,
}

impl WorkResult {
    /// Gives back the room that lists took in advance, as [`WorkItem::shrink`] does.
    pub(crate) fn shrink(&mut self) {
        self.stages.shrink_to_fit();
        self.files.shrink_to_fit();
        self.modes.shrink_to_fit();
        self.ignore.iter_mut().for_each(|ignore| ignore.lines.shrink_to_fit());
        self.ignore.shrink_to_fit();
    }
}

/// Where Slurm ran an attempt, in Slurm's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlurmTask {
    pub job: String,
    pub array: Option<String>,
    pub task: Option<String>,
    /// How often Slurm has started it again.
    pub restart: u32,
    pub node: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StageResult {
    pub address: String,
    pub state: StageState,
    /// The bytes of its lock entry as DVC wrote them.
    pub entry: Option<String>,
    /// The text of its `.dvc` file, which has no lock entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dvc_file: Option<String>,
    /// Files in its cached directory outs with the executable bit, which neither lock nor cache records.
    pub executable: Vec<String>,
    /// Empty directories in its outs.
    #[serde(default)]
    pub empty: Vec<String>,
    /// Files in its cached directory outs that were left as its command made them, though others are links into the cache; an
    /// out whose files all were is named itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<String>,
    /// What did it.
    #[serde(default)]
    pub executor: Executed,
}

impl StageResult {
    /// That of a stage that had no turn.
    pub(crate) fn not_run(address: &str) -> StageResult {
        let (address, state, executor) = (address.to_owned(), StageState::NotRun, Executed::default());
        let (executable, empty, own) = (vec![], vec![], vec![]);
        StageResult { address, state, entry: None, dvc_file: None, executable, empty, own, executor }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResultFile {
    /// Where it goes, relative to the project's root.
    pub path: String,
    /// Its name under `files/`.
    pub blob: String,
    /// Bytes.
    pub size: u64,
    pub md5: String,
    pub executable: bool,
    /// The permission bits, where they are not the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// When its content was written, in nanoseconds since 1970; `None` for a symlink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
    /// Whether it lies in a cached out and DVC does not see it: its ignore rules hide it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// The target, where it is a symlink; the blob is empty then.
    pub symlink: Option<String>,
    /// Whether it is what a command made of a stage file that a real DVC was shown in place of the project's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub projected: bool,
    /// Whether it lies in data of a `.dvc` file, or in an out of another stage, that a stage has as a dep and has changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
    /// Whether it is as an earlier work item left it, for later ones to find it as well; this one has not touched it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed: bool,
    /// The stage that declares it; `None` for any other file that changed.
    pub stage: Option<String>,
    /// The MD5 of what the plan saw there.
    pub before: Option<String>,
    /// The MD5 of what the work item began with there, where an earlier one had left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathMode {
    /// Relative to the project's root.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IgnoreLines {
    /// The `.gitignore` file, relative to the project's root.
    pub path: String,
    pub lines: Vec<String>,
}
