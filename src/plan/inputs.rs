//! What a work item finds in its workspace: where each dep of its stages comes from.
//!
//! | the path | made by | comes from |
//! |---|---|---|
//! | an out, or in one | a stage of the same work item | nowhere: it is about to be made |
//! | an out, or in one | a stage of an earlier work item | that item's result |
//! | an out, or in one | a stage that does not run | the cache, or the snapshot, or the project where it is not cached |
//! | what DVC does not see in an out | anybody | the project, by path |
//! | any other | git knows it | the snapshot, with which every slot begins |
//! | any other | nobody knows it | the project, by path |
//! | a stage file or lock file | DVC | the snapshot, with what earlier work items wrote to it |

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::{DvcFile, Situation};
use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, Found, FoundKind};
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::changed::Outlook;
use crate::dvc::pipeline::ignore::DvcIgnore;
use crate::dvc::pipeline::path::{self, is_within};
use crate::dvc::pipeline::path::{join, lock_path};
use crate::dvc::pipeline::stage::{Dep, Out, Recorded, Stage};
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::model::numbers::ItemIndex;
use crate::state::format::{Input, LockSource};

pub(super) struct Inputs<'a> {
    situation: &'a Situation<'a>,
    /// The place of each selected stage in the order of `dvc repro`.
    place: &'a HashMap<StageIndex, usize>,
    /// What DVC does not see.
    ignore: &'a DvcIgnore<'a>,
    /// The paths of all outs.
    outs: HashSet<&'a str>,
    /// What was found in directories that several work items need.
    unrecorded: RefCell<HashMap<String, Unrecorded>>,
    /// What is to be pulled into the project before stages run.
    pulled: RefCell<BTreeSet<String>>,
}

/// What a stage finds in its workspace.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub inputs: Vec<Input>,
    /// Directories that the project has and git does not bring.
    pub directories: Vec<String>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(
        situation: &'a Situation<'a>,
        place: &'a HashMap<StageIndex, usize>,
        ignore: &'a DvcIgnore<'a>,
    ) -> Inputs<'a> {
        Inputs {
            situation,
            place,
            ignore,
            outs: super::outs(situation.project),
            unrecorded: RefCell::default(),
            pulled: RefCell::default(),
        }
    }

    /// What is to be pulled into the project before stages run: deps of which nothing but a record is there.
    pub(super) fn pulled(self) -> Vec<String> {
        self.pulled.into_inner().into_iter().collect()
    }

    /// What a stage needs beside the stages of its own work item.
    pub(super) fn of_stage(
        &self,
        stage: StageIndex,
        own: &HashSet<StageIndex>,
        item_of: &HashMap<StageIndex, ItemIndex>,
    ) -> Result<Needed, Diagnostic> {
        let mut needed = Needed::default();
        let definition = &self.situation.project.stages[stage];
        // What is written with an absolute path, or with a remote that is a folder, is there for every workspace.
        let is_elsewhere = |dep: &&Dep| dep.path.starts_with('/') || dep.is_in_remote();
        let deps = definition.deps.iter().filter(|dep| !is_elsewhere(dep)).filter_map(|dep| dep.resolved.as_deref());
        for dep in deps.chain(definition.params.iter().map(|params| params.resolved.as_str())) {
            self.dep(definition, dep, stage, own, item_of, &mut needed)?;
        }
        let outlook = self.situation.changes.forecasts[stage].as_ref().map(|forecast| &forecast.outlook);
        let all = matches!(outlook, Some(Outlook::MayRun | Outlook::Record))
            || definition.outs.iter().any(|out| self.is_new_directory(stage, out));
        for out in definition.outs.iter().filter(|out| all || out.persist) {
            needed.inputs.extend(self.out_as_it_is(stage, out)?);
        }
        Ok(needed)
    }

    /// Whether an out is a directory that the stage's entry does not have: where no other out is changed, DVC hashes it
    /// before it removes it, and leaves something of that in the cache.
    fn is_new_directory(&self, stage: StageIndex, out: &Out) -> bool {
        let entry = self.situation.changes.entries[stage].as_deref();
        let is_new = entry.is_some_and(|entry| entry.outs.iter().all(|item| item.path != out.path));
        let path = out.resolved.as_deref().filter(|_| is_new);
        path.is_some_and(|path| self.situation.home.root.join(path).is_dir())
    }

    fn dep(
        &self,
        stage: &Stage,
        dep: &str,
        index: StageIndex,
        own: &HashSet<StageIndex>,
        item_of: &HashMap<StageIndex, ItemIndex>,
        needed: &mut Needed,
    ) -> Result<(), Diagnostic> {
        let mut covered = false;
        for &maker in self.situation.graph.needs(index) {
            for out in &self.situation.project.stages[maker].outs {
                let Some(made) = out.resolved.as_deref() else { continue };
                let contains = is_within(dep, made);
                if !contains && !is_within(made, dep) {
                    continue;
                }
                covered |= contains;
                if stage.frozen && self.place.get(&maker) > self.place.get(&index) {
                    // It takes its deps as it finds them, and the maker's turn comes later.
                    needed.inputs.extend(self.as_it_is(made));
                    continue;
                }
                if own.contains(&maker) {
                    continue;
                }
                let member = (contains && dep != made).then(|| dep[made.len() + 1..].to_owned());
                needed.inputs.extend(self.upstream(maker, out, made, member, item_of)?);
            }
        }
        if !covered {
            for path in self.plain(stage, dep, needed)? {
                self.dvc_file(&path, index, own, item_of, &mut needed.inputs)?;
            }
        }
        Ok(())
    }

    /// An out of another stage, or a member of it.
    fn upstream(
        &self,
        maker: StageIndex,
        out: &Out,
        made: &str,
        member: Option<String>,
        item_of: &HashMap<StageIndex, ItemIndex>,
    ) -> Result<Vec<Input>, Diagnostic> {
        let stage = &self.situation.project.stages[maker];
        if let Some(&index) = item_of.get(&maker) {
            // What is only recorded lies in the project already, unless it is pulled.
            let outlook = self.situation.changes.forecasts[maker].as_ref().map(|forecast| &forecast.outlook);
            if matches!(outlook, Some(Outlook::Record)) && self.exists(made) {
                return Ok(vec![Input::Workspace { path: made.to_owned() }]);
            }
            let (path, out, stage) = (made.to_owned(), out.path.clone(), stage.address.0.clone());
            let order = self.place.get(&maker).copied().unwrap_or(usize::MAX);
            return Ok(vec![Input::Result { path, index, stage, order, out, member }]);
        }
        // DVC pulls a dep that is missing before it runs a stage, by what is recorded of its maker.
        let is_selected = self.situation.changes.forecasts[maker].is_some();
        let is_expected = is_selected && !(self.situation.options.allow_missing && self.is_nowhere(maker, out));
        if self.situation.options.pull && !is_expected && out.cache && !self.exists(made) {
            self.pulled.borrow_mut().insert(made.to_owned());
            return Ok(vec![Input::Workspace { path: made.to_owned() }]);
        }
        match self.recorded(maker, out).filter(|_| out.cache && is_selected) {
            Some(recorded) => self.cached(made, &recorded, member, Unseen::Linked),
            None => Ok(self.as_it_is(made).into_iter().collect()),
        }
    }

    /// Whether the cache lacks what is recorded of an out.
    fn is_nowhere(&self, maker: StageIndex, out: &Out) -> bool {
        let Some(recorded) = self.recorded(maker, out) else { return true };
        !self.is_in_cache(&recorded)
    }

    /// What the lock file or `.dvc` file records of an out.
    fn recorded(&self, stage: StageIndex, out: &Out) -> Option<Recorded> {
        if let Some(recorded) = out.recorded.as_deref() {
            return Some(recorded.clone());
        }
        let entry = self.situation.changes.entries[stage].as_ref()?;
        entry.outs.iter().rfind(|item| item.path == out.path).map(|item| item.recorded.clone())
    }

    /// An out of a stage of the work item as the workspace has it, for a stage that DVC may skip or add to.
    fn out_as_it_is(&self, stage: StageIndex, out: &Out) -> Result<Vec<Input>, Diagnostic> {
        let Some(path) = out.resolved.as_deref().filter(|path| path::is_inside(path) && self.exists(path)) else {
            return Ok(vec![]);
        };
        let position = self.situation.project.stages[stage].outs.iter().position(|other| std::ptr::eq(other, out));
        let seen =
            self.situation.changes.observations[stage].as_ref().zip(position).and_then(|(seen, at)| seen.outs.get(at));
        let intact = seen.is_some_and(|seen| {
            seen.is_cached == Some(true)
                && seen
                    .recorded
                    .as_ref()
                    .zip(seen.found.as_ref())
                    .is_some_and(|(recorded, found)| recorded.is_met_by(found))
        });
        if let Some(recorded) = self.recorded(stage, out).filter(|_| intact) {
            return self.cached(path, &recorded, None, Unseen::Copied);
        }
        Ok(self.as_it_is(path).into_iter().collect())
    }

    /// A path of the project with the content of now.
    fn as_it_is(&self, path: &str) -> Option<Input> {
        if !self.exists(path) {
            return None;
        }
        let path = path.to_owned();
        Some(if self.is_in_snapshot(&path) { Input::Snapshot { path } } else { Input::Workspace { path } })
    }

    /// A path that no stage makes, or a directory with more in it than outs; returns DVC's own files at or in it.
    fn plain(&self, stage: &Stage, dep: &str, needed: &mut Needed) -> Result<Vec<String>, Diagnostic> {
        let root = &self.situation.home.root;
        if !root.join(dep).exists() {
            return Ok(vec![]);
        }
        if self.inside_git(dep).is_none() {
            return Err(refuse_outside(stage, dep));
        }
        // Further out than beside the project a path of the model is absolute, but it is to lead to the workspace's.
        let seen = dep.starts_with('/').then(|| path::relative(&root.to_string_lossy(), "", dep));
        let dep = seen.as_deref().unwrap_or(dep);
        let at = root.join(dep);
        match self.symlink_on_the_way(dep) {
            None => {}
            Some(Symlink::Absolute) => return Ok(vec![]),
            Some(Symlink::To(target)) => return self.plain(stage, &target, needed),
            Some(Symlink::Elsewhere(link)) => {
                needed.inputs.push(Input::Workspace { path: link });
                return Ok(vec![]);
            }
        }
        let is_own = |path: &str| self.situation.dvc_files.contains_key(path);
        if at.is_file() || at.is_symlink() {
            if is_own(dep) {
                return Ok(vec![dep.to_owned()]);
            }
            if !self.is_in_snapshot(dep) {
                needed.inputs.push(Input::Workspace { path: dep.to_owned() });
            }
            return Ok(vec![]);
        }
        let is_out = |inside: &str| self.outs.contains(format!("{dep}/{inside}").as_str());
        if !at.is_dir() {
            needed.inputs.push(Input::Workspace { path: dep.to_owned() });
            return Ok(vec![]);
        }
        let (found, odd) = fs::walk_and_tell(&at, &|inside| is_out(inside) || self.is_hidden(dep, inside))?;
        needed.inputs.extend((!odd.is_empty()).then(|| Input::OddNames { path: dep.to_owned() }));
        let mut own = vec![];
        for found in &found {
            let path = format!("{dep}/{}", found.path);
            match found.kind {
                FoundKind::File | FoundKind::Symlink if is_own(&path) => {
                    // A lock file that is not there yet comes with the first entry.
                    own.extend(self.lock_to_come(&path));
                    own.push(path);
                }
                FoundKind::File | FoundKind::Symlink if !self.is_in_snapshot(&path) => {
                    needed.inputs.push(Input::Workspace { path });
                }
                FoundKind::Other => needed.inputs.push(Input::Workspace { path }),
                FoundKind::File | FoundKind::Symlink | FoundKind::Directory => {}
            }
        }
        // Git knows no empty directories. Those that hold nothing but outs are made as well: the outs go there.
        needed.directories.extend(found.is_empty().then(|| dep.to_owned()));
        needed.directories.extend(fs::empty_directories(&found).map(|inside| format!("{dep}/{inside}")));
        Ok(own)
    }

    /// Whether something in a dep is a folder that DVC does not look into: what it holds is no part of the dep, and is in
    /// workspaces as any other folder.
    fn is_hidden(&self, dep: &str, inside: &str) -> bool {
        let path = path::resolve(&self.situation.home.root.to_string_lossy(), dep, inside);
        self.is_ignored(&path, true) && self.is_directory(&path)
    }

    /// Whether DVC does not see what is at a path of the project.
    fn is_unseen(&self, path: &str) -> bool {
        let ignored = [true, false].map(|is_dir| self.is_ignored(path, is_dir));
        if ignored[0] == ignored[1] { ignored[0] } else { ignored[usize::from(!self.is_directory(path))] }
    }

    fn is_ignored(&self, path: &str, is_dir: bool) -> bool {
        self.ignore.ignored_by(path, is_dir).is_ok_and(|rule| rule.is_some())
    }

    fn is_directory(&self, path: &str) -> bool {
        self.situation.home.root.join(path).symlink_metadata().is_ok_and(|at| at.is_dir())
    }

    /// The lock file beside a `dvc.yaml` that has none yet.
    fn lock_to_come(&self, path: &str) -> Option<String> {
        let is_pipeline = matches!(self.situation.dvc_files.get(path), Some(DvcFile::Pipeline(_)));
        is_pipeline.then(|| lock_path(path)).filter(|lock| !self.exists(lock))
    }

    /// A stage file or lock file that is data to a stage.
    fn dvc_file(
        &self,
        path: &str,
        index: StageIndex,
        own: &HashSet<StageIndex>,
        item_of: &HashMap<StageIndex, ItemIndex>,
        inputs: &mut Vec<Input>,
    ) -> Result<(), Diagnostic> {
        let (project, graph) = (self.situation.project, self.situation.graph);
        let Some(kind) = self.situation.dvc_files.get(path) else { return Ok(()) };
        let (DvcFile::Single(file) | DvcFile::Lock(file) | DvcFile::Pipeline(file)) = *kind;
        let mut written =
            StageIndex::each(project.files[file].stages.clone()).filter(|stage| item_of.contains_key(stage));
        match kind {
            DvcFile::Pipeline(_) => inputs.extend(self.as_it_is(path)),
            DvcFile::Single(_) => match written.next() {
                Some(stage) if own.contains(&stage) => {}
                Some(stage) if graph.needs(index).contains(&stage) => {
                    let address = project.stages[stage].address.0.clone();
                    let order = self.place.get(&stage).copied().unwrap_or(usize::MAX);
                    let (path, out) = (path.to_owned(), path.to_owned());
                    inputs.push(Input::Result {
                        path,
                        index: item_of[&stage],
                        stage: address,
                        order,
                        out,
                        member: None,
                    });
                }
                Some(_) | None => inputs.extend(self.as_it_is(path)),
            },
            DvcFile::Lock(_) => {
                let before = graph.upstream(index);
                let mut written: Vec<StageIndex> = written.collect();
                if let Some(&other) = written.iter().find(|stage| own.contains(stage) || !before.contains(stage)) {
                    return Err(refuse_lock(path, &project.stages[index], &project.stages[other]));
                }
                if written.is_empty() && !self.exists(path) {
                    return Ok(());
                }
                written.sort_unstable_by_key(|stage| self.place.get(stage).copied());
                let source = |stage: StageIndex| {
                    let (definition, index) = (&project.stages[stage], item_of[&stage]);
                    let name = definition.name.clone().unwrap_or_default();
                    LockSource { index, stage: definition.address.0.clone(), name }
                };
                let entries = written.into_iter().map(source).collect();
                inputs.push(Input::Lock { path: path.to_owned(), entries });
            }
        }
        Ok(())
    }

    /// A path of the model as seen from the top of the git work tree; `None` outside of it.
    fn inside_git(&self, path: &str) -> Option<String> {
        if path::is_inside(path) {
            return Some(join(self.situation.prefix, path));
        }
        let root = self.situation.home.root.to_string_lossy();
        let top = root.strip_suffix(self.situation.prefix)?;
        let absolute = path::absolute(&root, path);
        let inside = absolute.strip_prefix(top)?.trim_start_matches('/');
        Some(inside.to_owned())
    }

    /// What a path leads through, the first symlink on the way.
    fn symlink_on_the_way(&self, dep: &str) -> Option<Symlink> {
        let root = &self.situation.home.root;
        let mut on_the_way: Vec<&str> = std::iter::successors(Some(dep), |path| Some(path::parent(path)))
            .take_while(|path| !path.is_empty() && *path != ".." && *path != "/")
            .collect();
        on_the_way.reverse();
        let link = on_the_way.into_iter().find(|path| root.join(path).is_symlink())?;
        let is_absolute = std::fs::read_link(root.join(link)).ok()?.is_absolute();
        let behind = root.join(dep).canonicalize().ok()?;
        let behind = path::resolve(&root.to_string_lossy(), "", &behind.to_string_lossy());
        let is_known = self.inside_git(link).is_some_and(|inside| self.situation.work_tree.has(&inside));
        Some(match (is_known, is_absolute, self.inside_git(&behind)) {
            (true, true, _) => Symlink::Absolute,
            (true, false, Some(_)) => Symlink::To(behind),
            (true, false, None) | (false, _, _) => Symlink::Elsewhere(link.to_owned()),
        })
    }

    fn exists(&self, path: &str) -> bool {
        self.situation.home.root.join(path).symlink_metadata().is_ok()
    }

    /// Whether the snapshot holds a file, or all files of a directory.
    fn is_in_snapshot(&self, path: &str) -> bool {
        let at = self.situation.home.root.join(path);
        let has = |path: &str| self.inside_git(path).is_some_and(|inside| self.situation.work_tree.has(&inside));
        if at.is_symlink() || !at.is_dir() {
            return has(path);
        }
        let has_all = |found: Vec<Found>| {
            found.iter().all(|found| found.kind == FoundKind::Directory || has(&format!("{path}/{}", found.path)))
        };
        fs::walk(&at, &|_| false).is_ok_and(has_all)
    }

    /// An object of the cache, and what the project has in it that DVC does not see; nothing where nothing is recorded.
    fn cached(
        &self,
        path: &str,
        recorded: &Recorded,
        member: Option<String>,
        folders: Unseen,
    ) -> Result<Vec<Input>, Diagnostic> {
        let Some(md5) = recorded.md5.clone() else { return Ok(vec![]) };
        if self.situation.options.allow_missing && !self.is_in_cache(recorded) {
            return Ok(self.as_it_is(path).into_iter().collect());
        }
        let is_directory = recorded.object().is_some_and(|object| object.oid.is_directory());
        let Unrecorded { executable, empty, unseen } =
            if is_directory { self.unrecorded_below(path)? } else { Unrecorded::default() };
        let needed = member.as_ref().map_or_else(|| path.to_owned(), |member| format!("{path}/{member}"));
        let (path, legacy, isexec) = (path.to_owned(), recorded.hash.is_none(), recorded.isexec);
        let unseen = unseen.into_iter().filter(|unseen| is_within(unseen, &needed));
        let object = Input::Cache { path, md5, legacy, isexec, executable, empty, member };
        let unseen = unseen.map(|path| match folders {
            Unseen::Linked if self.is_directory(&path) => Input::Link { path },
            Unseen::Linked | Unseen::Copied => Input::Workspace { path },
        });
        Ok(std::iter::once(object).chain(unseen).collect())
    }

    fn is_in_cache(&self, recorded: &Recorded) -> bool {
        let cache = Cache::new(&self.situation.home.config.cache_dir);
        recorded.object().is_some_and(|object| cache.has(object))
    }

    /// What the cache does not record of a directory of the project.
    fn unrecorded_below(&self, path: &str) -> Result<Unrecorded, Diagnostic> {
        if let Some(known) = self.unrecorded.borrow().get(path) {
            return Ok(known.clone());
        }
        let at = self.situation.home.root.join(path);
        let below = |inside: &str| format!("{path}/{inside}");
        let unseen = RefCell::new(vec![]);
        let skip = |inside: &str| {
            let path = below(inside);
            let is_unseen = self.is_unseen(&path);
            unseen.borrow_mut().extend(is_unseen.then_some(path));
            is_unseen
        };
        let found = if at.is_dir() { fs::walk(&at, &skip)? } else { vec![] };
        let is_executable = |found: &&Found| found.kind == FoundKind::File && found.mode & 0o100 != 0;
        let unrecorded = Unrecorded {
            executable: found.iter().filter(is_executable).map(|found| below(&found.path)).collect(),
            empty: fs::empty_directories(&found).map(below).collect(),
            unseen: unseen.into_inner(),
        };
        self.unrecorded.borrow_mut().insert(path.to_owned(), unrecorded.clone());
        Ok(unrecorded)
    }
}

/// A symlink of the project, as workspaces see it.
enum Symlink {
    /// It comes with the snapshot, and leads to the same place from everywhere.
    Absolute,
    /// It comes with the snapshot, and leads to this path of the work tree, of the model.
    To(String),
    /// It does not come with the snapshot, or leads out of the work tree: this one, a path of the model.
    Elsewhere(String),
}

/// How a workspace gets folders that DVC does not see in an out.
#[derive(Clone, Copy)]
enum Unseen {
    /// A stage adds to the out.
    Copied,
    /// Stages only read there, of however many work items.
    Linked,
}

/// What the cache does not record of a directory.
#[derive(Clone, Debug, Default)]
struct Unrecorded {
    /// Files with the executable bit.
    executable: Vec<String>,
    /// Empty directories.
    empty: Vec<String>,
    /// What DVC does not see; with each directory all that is below.
    unseen: Vec<String>,
}

fn refuse_outside(stage: &Stage, dep: &str) -> Diagnostic {
    Diagnostic::project(format!("stage `{}` has a dep outside of the repository: `{dep}`", stage.address))
        .at(Place { path: stage.file.clone(), line: Some(stage.line), column: None })
        .cause("workers run in workspaces of their own, where a relative path leads elsewhere")
        .hint("write the dep with its absolute path")
}

fn refuse_lock(lock: &str, stage: &Stage, other: &Stage) -> Diagnostic {
    Diagnostic::project(format!("stage `{}` has `{lock}` as a dep, also written by `{}`", stage.address, other.address))
        .at(Place { path: stage.file.clone(), line: Some(stage.line), column: None })
        .cause("nothing says which of them runs first, so what the dep holds then is up to chance")
        .hint("let the stage depend on the outs it reads, not on the whole directory")
}
