//! Work items: from the stages of a phase to the lines of the worklist.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::inputs::Inputs;
use super::{Situation, report};
use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::fs;
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::changed::{Forecast, Outlook};
use crate::dvc::hash::HashName;
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::ignore::DvcIgnore;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::path::lock_path;
use crate::dvc::pipeline::project::StageFile;
use crate::dvc::pipeline::stage::{Dep, Out, Stage};
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::dvc::projection;
use crate::model::numbers::ItemIndex;
use crate::model::plan::Phase;
use crate::model::requests::{self, GroupClash};
use crate::model::result_path;
use crate::model::run::Resources;
use crate::plan::requests::of_stage;
use crate::state::format::{
    self, FileDigest, Input, Object, PlannedOut, PlannedStage, RestoredFrom, RunName, Source, TextFile, VERSION,
    WorkItem,
};

/// The work items of a plan.
pub(super) struct Made {
    pub phases: Vec<format::Phase>,
    pub items: Vec<WorkItem>,
    /// What is to be pulled into the project before they run.
    pub pulled: Vec<String>,
}

/// Makes the work items of all phases, with consecutive indexes. Stages that are `last` wait for all of them.
pub(super) fn make(
    situation: &Situation<'_>,
    phases: &[Phase],
    order: &[StageIndex],
    last: &HashSet<StageIndex>,
) -> Result<Made, Diagnostic> {
    let place: HashMap<StageIndex, usize> = order.iter().enumerate().map(|(place, stage)| (*stage, place)).collect();
    let mut item_of: HashMap<StageIndex, ItemIndex> = HashMap::new();
    for (at, stages) in phases.iter().flat_map(|phase| &phase.work_items).enumerate() {
        item_of.extend(stages.iter().map(|stage| (*stage, ItemIndex::new(at))));
    }
    let mut locks: HashMap<&str, Lockfile<'_>> = HashMap::new();
    for (path, text) in &situation.locks {
        let lock = Lockfile::parse(text).map_err(|error| {
            let place = Place { path: path.clone(), line: Some(error.line), column: None };
            Diagnostic::project(format!("`{path}` is not valid: {error}")).at(place)
        })?;
        locks.insert(path, lock);
    }
    let files = DiskFiles::open(&situation.home.root, true)?;
    let ignore = DvcIgnore::new(&files);
    let inputs = Inputs::new(situation, &place, &ignore);
    let maker = Maker { situation, place: &place, item_of, locks, inputs };
    let mut ids = HashSet::new();
    let total = phases.iter().map(|phase| phase.work_items.len()).sum();
    let (mut lines, mut items) = (vec![], Vec::with_capacity(total));
    for (number, phase) in phases.iter().enumerate() {
        let (first, count) = (ItemIndex::new(items.len()), phase.work_items.len());
        lines.push(format::Phase { kind: phase.kind, trailing: phase.trailing, first, count });
        for stages in &phase.work_items {
            let id = maker.id(stages, &mut ids);
            let mut item = maker.work_item(ItemIndex::new(items.len()), id, number, stages)?;
            item.is_last = stages.iter().any(|stage| last.contains(stage));
            item.shrink();
            items.push(item);
        }
    }
    Ok(Made { phases: lines, items, pulled: maker.inputs.pulled() })
}

struct Maker<'a> {
    situation: &'a Situation<'a>,
    /// The place of each selected stage in the order of `dvc repro`.
    place: &'a HashMap<StageIndex, usize>,
    /// The work item of each stage that has one.
    item_of: HashMap<StageIndex, ItemIndex>,
    locks: HashMap<&'a str, Lockfile<'a>>,
    inputs: Inputs<'a>,
}

impl Maker<'_> {
    fn stage(&self, index: StageIndex) -> &Stage {
        &self.situation.project.stages[index]
    }

    /// The key where all stages share one that is not taken, else the address of the last stage.
    fn id(&self, stages: &[StageIndex], taken: &mut HashSet<String>) -> String {
        let keys: BTreeSet<Option<&str>> =
            stages.iter().map(|stage| self.stage(*stage).generated.as_ref().map(|made| made.key.as_str())).collect();
        let key = match keys.into_iter().collect::<Vec<_>>()[..] {
            [Some(key)] => Some(key.to_owned()),
            _ => None,
        };
        let last = stages.last().map(|stage| self.stage(*stage).address.0.clone()).unwrap_or_default();
        let id = key.filter(|key| !taken.contains(key)).unwrap_or(last);
        taken.insert(id.clone());
        id
    }

    fn work_item(
        &self,
        index: ItemIndex,
        id: String,
        phase: usize,
        stages: &[StageIndex],
    ) -> Result<WorkItem, Diagnostic> {
        let own: HashSet<StageIndex> = stages.iter().copied().collect();
        let mut inputs: BTreeMap<(String, Option<String>), Input> = BTreeMap::new();
        let mut directories = BTreeSet::new();
        let mut reads: Vec<Vec<Source>> = vec![];
        for &stage in stages {
            let needed = self.inputs.of_stage(stage, &own, &self.item_of)?;
            if stages.len() > 1 {
                reads.push(sources(&needed.inputs));
            }
            for input in needed.inputs {
                inputs.insert((input.path().to_owned(), input.member().map(str::to_owned)), input);
            }
            directories.extend(needed.directories);
            directories.extend(self.directories(stage));
        }
        // A whole directory brings its members.
        let whole: HashSet<String> =
            inputs.keys().filter(|(_, member)| member.is_none()).map(|(path, _)| path.clone()).collect();
        let inputs: Vec<Input> = inputs
            .into_iter()
            .filter(|((path, member), _)| member.is_none() || !whole.contains(path))
            .map(|(_, input)| input)
            .collect();
        let needs: BTreeSet<ItemIndex> = inputs.iter().flat_map(Input::sources).map(|(index, _)| index).collect();
        let mut planned =
            stages.iter().map(|stage| self.planned_stage(*stage, stages)).collect::<Result<Vec<_>, _>>()?;
        planned.iter_mut().zip(reads).for_each(|(stage, reads)| stage.reads = reads);
        let requests = stages.iter().map(|stage| of_stage(self.stage(*stage), &self.situation.requests));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        planned.iter_mut().zip(&requests).for_each(|(stage, own)| stage.keep_running = own.keep_running == Some(true));
        let (files, are_whole) = self.files(stages)?;
        let one_by_one = are_whole || inputs.iter().any(|input| self.situation.dvc_files.contains_key(input.path()));
        Ok(WorkItem {
            version: VERSION,
            index,
            id,
            phase,
            stages: planned,
            files,
            inputs,
            directories: directories.into_iter().collect(),
            needs: needs.into_iter().collect(),
            one_by_one,
            is_last: false,
            datasets: self.datasets(stages),
            resources: self.resources(stages, requests)?,
        })
    }

    /// Whether one of the stages has a dataset as a dep.
    fn read_datasets(&self, stages: &[StageIndex]) -> bool {
        stages.iter().any(|stage| self.stage(*stage).deps.iter().any(Dep::is_dataset))
    }

    fn dataset_files(&self) -> impl Iterator<Item = &StageFile> {
        self.situation.project.files.iter().filter(|file| !file.top.datasets.is_empty())
    }

    /// The lock files that say of which version datasets are, without their entries, where stages read any.
    fn datasets(&self, stages: &[StageIndex]) -> Vec<TextFile> {
        if !self.read_datasets(stages) {
            return vec![];
        }
        let locks = self.dataset_files().map(|file| lock_path(&file.path));
        let known = locks.filter_map(|path| Some((self.locks.get(path.as_str())?.without_entries(), path)));
        known.map(|(text, path)| TextFile { path, text }).collect()
    }

    /// What a work item asks for: the configuration file's requests, completed by those of the stages themselves.
    fn resources(&self, stages: &[StageIndex], own: Vec<Resources>) -> Result<Resources, Diagnostic> {
        requests::join(own).map_err(|GroupClash(a, b)| {
            let last = stages.last().map(|stage| self.stage(*stage).address.to_string()).unwrap_or_default();
            Diagnostic::project(format!(
                "the stages up to `{last}` are one work item, but in two groups: `{a}` and `{b}`"
            ))
            .cause("a work item counts against the limit of one group")
            .hint("name one group for all of them")
        })
    }

    /// The stage files: a `dvc.yaml` with just these stages, and `.dvc` files as they are; says also whether a
    /// `dvc.yaml` had to be taken whole, since the stages do not fit into one that is projected.
    fn files(&self, stages: &[StageIndex]) -> Result<(Vec<TextFile>, bool), Diagnostic> {
        let mut by_file: BTreeMap<&str, Vec<&Stage>> = BTreeMap::new();
        for &stage in stages {
            by_file.entry(&self.stage(stage).file).or_default().push(self.stage(stage));
        }
        // A dataset may be defined in any file.
        let with_datasets: Vec<&StageFile> =
            if self.read_datasets(stages) { self.dataset_files().collect() } else { vec![] };
        for file in &with_datasets {
            by_file.entry(&file.path).or_default();
        }
        let datasets =
            |path: &str| with_datasets.iter().find(|file| file.path == path).map_or(&[][..], |file| &file.top.datasets);
        let (mut files, mut are_whole) = (vec![], false);
        for (file, stages) in by_file {
            let whole = || fs::read_text_if_any(&self.situation.home.root.join(file));
            let text = if stages.iter().any(|stage| stage.name.is_none()) {
                whole()?.unwrap_or_default()
            } else if let Ok(text) = projection::project_file(file, &stages, datasets(file)) {
                text
            } else {
                are_whole = true;
                whole()?.unwrap_or_default()
            };
            files.push(TextFile { path: file.to_owned(), text });
        }
        Ok((files, are_whole))
    }

    /// Directories that exist in the project and that commands may take for granted: where outs go, and `wdir`.
    fn directories(&self, stage: StageIndex) -> impl Iterator<Item = String> {
        let stage = self.stage(stage);
        let parents = stage.outs.iter().filter_map(|out| out.resolved.as_deref()).map(path::parent);
        let root = &self.situation.home.root;
        parents
            .chain([stage.wdir.as_str()])
            .filter(|directory| !directory.is_empty() && path::is_inside(directory) && root.join(directory).is_dir())
            .map(str::to_owned)
    }

    fn planned_stage(&self, index: StageIndex, own: &[StageIndex]) -> Result<PlannedStage, Diagnostic> {
        let stage = self.stage(index);
        let base = stage
            .name
            .as_deref()
            .and_then(|name| Some(self.locks.get(lock_path(&stage.file).as_str())?.entry(name)?.text().to_owned()));
        let forecast = self.situation.changes.forecasts[index].as_ref();
        let outlook = forecast.map(|forecast| &forecast.outlook);
        let outs = stage.outs.iter().map(|out| self.planned_out(stage, out)).collect::<Result<Vec<_>, _>>()?;
        Ok(PlannedStage {
            address: stage.address.0.clone(),
            file: stage.file.clone(),
            name: stage.name.clone(),
            order: self.place.get(&index).copied().unwrap_or(usize::MAX),
            base,
            outs,
            after: (0..own.len()).filter(|at| self.situation.graph.needs(index).contains(&own[*at])).collect(),
            reads: vec![],
            reason: report::reason(self.situation.project, self.situation.changes, index),
            restores: matches!(outlook, Some(Outlook::Restore(_))),
            from: forecast.and_then(|forecast| self.restored_from(forecast)),
            records: matches!(outlook, Some(Outlook::Record)),
            distrusted: self.situation.changes.distrusted.contains(&stage.address.0),
            keep_running: false,
        })
    }

    /// What a stage is restored from, as a machine with another cache has to be told.
    fn restored_from(&self, forecast: &Forecast) -> Option<RestoredFrom> {
        let Outlook::Restore(outs) = &forecast.outlook else { return None };
        let objects =
            outs.iter().map(|out| Object { md5: out.md5.clone(), legacy: out.name == HashName::Md5Dos2unix }).collect();
        let name = |key: &String| {
            let file = Cache::new(&self.situation.home.config.cache_dir).newest_run_file(key)?;
            Some(RunName { key: key.clone(), value: file.file_name()?.to_str()?.to_owned() })
        };
        Some(RestoredFrom { run: forecast.run.as_ref().and_then(name), objects })
    }

    fn planned_out(&self, stage: &Stage, out: &Out) -> Result<PlannedOut, Diagnostic> {
        let resolved = out.resolved.as_deref().filter(|path| path::is_inside(path)).ok_or_else(|| {
            Diagnostic::project(format!("stage `{}` has an out outside of the project: `{}`", stage.address, out.path))
                .hint("run this stage with `dvc repro`")
        })?;
        if let Err(why) = result_path::check(resolved) {
            return Err(Diagnostic::project(format!(
                "stage `{}` has an out that cannot be collected: `{}`",
                stage.address, out.path
            ))
            .cause(why.to_string())
            .hint("run this stage with `dvc repro`"));
        }
        let root = &self.situation.home.root;
        let mut before = vec![];
        if !out.cache {
            let at = root.join(resolved);
            let files = if at.is_dir() {
                let found = fs::walk(&at, &|_| false)?;
                found
                    .into_iter()
                    .filter(|found| found.kind == fs::FoundKind::File)
                    .map(|found| format!("{resolved}/{}", found.path))
                    .collect()
            } else if at.is_file() {
                vec![resolved.to_owned()]
            } else {
                vec![]
            };
            for file in files {
                before.push(FileDigest { md5: fs::digest(&root.join(&file))?.0, path: file });
            }
        }
        Ok(PlannedOut {
            path: out.path.clone(),
            resolved: resolved.to_owned(),
            cache: out.cache,
            persist: out.persist,
            before,
        })
    }
}

/// The stages of earlier work items that inputs come from, each once.
fn sources(inputs: &[Input]) -> Vec<Source> {
    let all = inputs.iter().flat_map(Input::sources);
    let all: BTreeSet<Source> = all.map(|(index, stage)| Source { index, stage: stage.to_owned() }).collect();
    all.into_iter().collect()
}
