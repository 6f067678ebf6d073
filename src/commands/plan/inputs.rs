//! What a work item finds in its workspace: where each dep of its stages comes from.
//!
//! | the path | made by | comes from |
//! |---|---|---|
//! | an out, or in one | a stage of the same work item | nowhere: it is about to be made |
//! | an out, or in one | a stage of an earlier work item | that item's result |
//! | an out, or in one | a stage that does not run | the cache, or the snapshot, or the project where it is not cached |
//! | any other | git knows it | the snapshot, with which every slot begins |
//! | any other | nobody knows it | the project, by path |

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::Situation;
use crate::adapters::fs::{self, FoundKind};
use crate::diagnostic::Diagnostic;
use crate::model::changed::Outlook;
use crate::model::pipeline::path::{self, is_within};
use crate::model::pipeline::stage::{Out, Recorded, Stage};
use crate::state::format::Input;
use crate::state::workspace::join;

pub(super) struct Inputs<'a> {
    situation: &'a Situation<'a>,
    /// The place of each selected stage in the order of `dvc repro`.
    place: &'a HashMap<usize, usize>,
    /// The paths of all outs.
    outs: HashSet<&'a str>,
    /// What was found in directories that several work items need.
    executable: RefCell<HashMap<String, Vec<String>>>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(situation: &'a Situation<'a>, place: &'a HashMap<usize, usize>) -> Inputs<'a> {
        Inputs { situation, place, outs: super::outs(situation.project), executable: RefCell::default() }
    }

    /// What a stage needs beside the stages of its own work item.
    pub(super) fn of_stage(
        &self,
        stage: usize,
        own: &HashSet<usize>,
        item_of: &HashMap<usize, usize>,
    ) -> Result<Vec<Input>, Diagnostic> {
        let mut inputs = vec![];
        let definition = &self.situation.project.stages[stage];
        let deps = definition.deps.iter().filter_map(|dep| dep.resolved.as_deref());
        for dep in deps.chain(definition.params.iter().map(|params| params.resolved.as_str())) {
            self.dep(definition, dep, stage, own, item_of, &mut inputs)?;
        }
        let outlook = self.situation.changes.forecasts[stage].as_ref().map(|forecast| &forecast.outlook);
        let all = matches!(outlook, Some(Outlook::MayRun | Outlook::Record));
        for out in definition.outs.iter().filter(|out| all || out.persist) {
            inputs.extend(self.out_as_it_is(stage, out)?);
        }
        Ok(inputs)
    }

    fn dep(
        &self,
        stage: &Stage,
        dep: &str,
        index: usize,
        own: &HashSet<usize>,
        item_of: &HashMap<usize, usize>,
        inputs: &mut Vec<Input>,
    ) -> Result<(), Diagnostic> {
        if dep.starts_with('/') {
            return Ok(());
        }
        let mut covered = false;
        for &maker in self.situation.graph.needs(index) {
            for out in &self.situation.project.stages[maker].outs {
                let Some(made) = out.resolved.as_deref() else { continue };
                let contains = is_within(dep, made);
                if !contains && !is_within(made, dep) {
                    continue;
                }
                covered |= contains;
                if own.contains(&maker) {
                    continue;
                }
                let member = (contains && dep != made).then(|| dep[made.len() + 1..].to_owned());
                inputs.extend(self.upstream(maker, out, made, member, item_of)?);
            }
        }
        if !covered {
            self.plain(stage, dep, inputs)?;
        }
        Ok(())
    }

    /// An out of another stage, or a member of it.
    fn upstream(
        &self,
        maker: usize,
        out: &Out,
        made: &str,
        member: Option<String>,
        item_of: &HashMap<usize, usize>,
    ) -> Result<Option<Input>, Diagnostic> {
        let stage = &self.situation.project.stages[maker];
        if let Some(&index) = item_of.get(&maker) {
            // What is only recorded lies in the project already.
            let outlook = self.situation.changes.forecasts[maker].as_ref().map(|forecast| &forecast.outlook);
            if matches!(outlook, Some(Outlook::Record)) {
                return Ok(self.exists(made).then(|| Input::Workspace { path: made.to_owned() }));
            }
            let (path, out, stage) = (made.to_owned(), out.path.clone(), stage.address.0.clone());
            let order = self.place.get(&maker).copied().unwrap_or(usize::MAX);
            return Ok(Some(Input::Result { path, index, stage, order, out, member }));
        }
        match self.recorded(maker, out).filter(|_| out.cache && self.situation.changes.forecasts[maker].is_some()) {
            Some(recorded) => self.cached(made, &recorded, member),
            None => self.as_it_is(made),
        }
    }

    /// What the lock file or `.dvc` file records of an out.
    fn recorded(&self, stage: usize, out: &Out) -> Option<Recorded> {
        if out.recorded.is_some() {
            return out.recorded.clone();
        }
        let entry = self.situation.changes.entries[stage].as_ref()?;
        entry.outs.iter().rfind(|item| item.path == out.path).map(|item| item.recorded.clone())
    }

    /// An out of a stage of the work item as the workspace has it, for a stage that DVC may skip or add to.
    fn out_as_it_is(&self, stage: usize, out: &Out) -> Result<Option<Input>, Diagnostic> {
        let Some(path) = out.resolved.as_deref().filter(|path| path::is_inside(path) && self.exists(path)) else {
            return Ok(None);
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
            return self.cached(path, &recorded, None);
        }
        self.as_it_is(path)
    }

    /// A path of the project with the content of now.
    fn as_it_is(&self, path: &str) -> Result<Option<Input>, Diagnostic> {
        if !self.exists(path) {
            return Ok(None);
        }
        let path = path.to_owned();
        Ok(Some(if self.is_in_snapshot(&path)? { Input::Snapshot { path } } else { Input::Workspace { path } }))
    }

    /// A path that no stage makes, or a directory with more in it than outs.
    fn plain(&self, stage: &Stage, dep: &str, inputs: &mut Vec<Input>) -> Result<(), Diagnostic> {
        let at = self.situation.home.root.join(dep);
        if !at.exists() {
            return Ok(());
        }
        if !path::is_inside(dep) && join(self.situation.prefix, dep).starts_with("..") {
            return Err(Diagnostic::project(format!(
                "stage `{}` has a dep outside of the repository: `{dep}`",
                stage.address
            ))
            .cause("workers run in workspaces of their own, where a relative path leads elsewhere")
            .hint("write the dep with its absolute path"));
        }
        if at.is_file() || at.is_symlink() {
            if !self.is_in_snapshot(dep)? {
                inputs.push(Input::Workspace { path: dep.to_owned() });
            }
            return Ok(());
        }
        let is_out = |inside: &str| self.outs.contains(format!("{dep}/{inside}").as_str());
        for found in fs::walk(&at, &is_out)? {
            let path = format!("{dep}/{}", found.path);
            if matches!(found.kind, FoundKind::File | FoundKind::Symlink) && !self.is_in_snapshot(&path)? {
                inputs.push(Input::Workspace { path });
            }
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> bool {
        self.situation.home.root.join(path).symlink_metadata().is_ok()
    }

    /// Whether the snapshot holds a path: git tracks it, or does not ignore it.
    fn is_in_snapshot(&self, path: &str) -> Result<bool, Diagnostic> {
        let inside = join(self.situation.prefix, path);
        Ok(!self.situation.git.is_ignored(&inside)? || self.situation.git.is_tracked(&inside)?)
    }

    /// An object of the cache; `None` where nothing is recorded.
    fn cached(&self, path: &str, recorded: &Recorded, member: Option<String>) -> Result<Option<Input>, Diagnostic> {
        let Some(md5) = recorded.md5.clone() else { return Ok(None) };
        let executable = if md5.ends_with(".dir") { self.executable_below(path)? } else { vec![] };
        let (path, legacy, isexec) = (path.to_owned(), recorded.hash.is_none(), recorded.isexec);
        Ok(Some(Input::Cache { path, md5, legacy, isexec, executable, member }))
    }

    /// The files with the executable bit in a directory of the project.
    fn executable_below(&self, path: &str) -> Result<Vec<String>, Diagnostic> {
        if let Some(known) = self.executable.borrow().get(path) {
            return Ok(known.clone());
        }
        let at = self.situation.home.root.join(path);
        let found = if at.is_dir() { fs::walk(&at, &|_| false)? } else { vec![] };
        let is_executable = |found: &fs::Found| found.kind == FoundKind::File && found.mode & 0o100 != 0;
        let files: Vec<String> =
            found.into_iter().filter(is_executable).map(|found| format!("{path}/{}", found.path)).collect();
        self.executable.borrow_mut().insert(path.to_owned(), files.clone());
        Ok(files)
    }
}
