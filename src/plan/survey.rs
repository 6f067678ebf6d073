//! What `dvc repro` would do with the project as it is now: read and decided, nothing written.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use indexmap::IndexMap;

use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::dvc::changed::Outlook;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::graph::target::{self, TargetOptions};
use crate::dvc::pipeline::path::lock_path;
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::source::{DirEntry, FileKind, ProjectFiles};
use crate::dvc::pipeline::stage::{Stage, StageAddress};
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::model::plan::Candidate;
use crate::plan::changes::Changes;
use crate::state::format::{BaseFile, PlanOptions, Template};
use crate::state::home::ProjectHome;

/// The project, the selected stages, and those of them that may run.
pub(crate) struct Survey {
    pub project: Project,
    pub graph: Graph,
    /// The selected stages in the order of `dvc repro`.
    pub order: Vec<StageIndex>,
    pub changes: Changes,
    /// In that order too.
    pub candidates: Vec<Candidate>,
    /// The files that were read, with their digests.
    pub base: Vec<BaseFile>,
}

impl Survey {
    pub(crate) fn of(home: &ProjectHome, targets: &[String], options: &PlanOptions) -> Result<Survey, Diagnostic> {
        // Said in words that fit a plan, before the project is read with git's ignore rules.
        home.git()?;
        let disk = DiskFiles::open(&home.root, home.config.no_scm)?;
        let files = Recorder { inner: &disk, read: RefCell::default() };
        let project = Project::load(&files, &home.config)?;
        let graph = Graph::build(&project)?;
        let target_options = TargetOptions {
            glob: options.glob,
            recursive: options.recursive,
            pipeline: options.pipeline,
            all_pipelines: options.all_pipelines,
            single_item: options.single_item,
            downstream: options.downstream,
        };
        let order = target::select(&project, &disk, &graph, &home.cwd, targets, target_options)?;
        let changes = Changes::assess(&project, &graph, &order, &disk, home, options.allow_missing)?;
        let fans_out = fanned_out(&project, options.over.as_deref())?;
        let candidates = candidates(&project, &graph, &changes, &order, options.force, &fans_out);
        let base = base(home, &project, files.read.into_inner())?;
        Ok(Survey { project, graph, order, changes, candidates, base })
    }

    /// The selected stages and those that may run, by template in the order of `dvc repro`.
    pub(crate) fn templates(&self) -> Vec<Template> {
        let mut templates: IndexMap<String, Template> = IndexMap::new();
        let planned: HashSet<StageIndex> = self.candidates.iter().map(|candidate| candidate.stage).collect();
        for stage in &self.order {
            let address = template(&self.project.stages[*stage]);
            let entry = templates.entry(address.clone()).or_insert(Template { address, stages: 0, planned: 0 });
            entry.stages += 1;
            entry.planned += usize::from(planned.contains(stage));
        }
        templates.into_values().collect()
    }
}

/// The address of a template: a group's, or that of a stage that is written out.
pub(crate) fn template(stage: &Stage) -> String {
    match &stage.generated {
        Some(generated) => StageAddress::of(&stage.file, &generated.group).0,
        None => stage.address.0.clone(),
    }
}

/// The templates that fan out, as `(file, group)`; without `--over`, all.
fn fanned_out<'p>(project: &'p Project, over: Option<&str>) -> Result<HashSet<(&'p str, &'p str)>, Diagnostic> {
    let groups = project.files.iter().flat_map(|file| file.groups.iter().map(|group| (file.path.as_str(), group)));
    let Some(over) = over else { return Ok(groups.map(|(file, group)| (file, group.name.as_str())).collect()) };
    let found: HashSet<_> =
        groups.filter(|(_, group)| group.mentions(over)).map(|(file, group)| (file, group.name.as_str())).collect();
    if found.is_empty() {
        return Err(Diagnostic::usage(format!("no foreach expression and no axis of a matrix mentions `{over}`"))
            .hint("`dvc-fanout stages` lists the templates; without `--over` all of them fan out"));
    }
    Ok(found)
}

/// The stages that may run, in the order of `dvc repro`.
fn candidates(
    project: &Project,
    graph: &Graph,
    changes: &Changes,
    order: &[StageIndex],
    force: bool,
    fans_out: &HashSet<(&str, &str)>,
) -> Vec<Candidate> {
    let runs = |stage: StageIndex| {
        let forced = force && project.stages[stage].cmd.is_some() && !project.stages[stage].frozen;
        forced || changes.forecasts[stage].as_ref().is_some_and(|forecast| forecast.outlook != Outlook::Unchanged)
    };
    let key = |stage: &Stage| {
        let generated = stage.generated.as_ref()?;
        fans_out.contains(&(stage.file.as_str(), generated.group.as_str())).then(|| generated.key.clone())
    };
    let place: HashMap<StageIndex, usize> = order.iter().enumerate().map(|(place, stage)| (*stage, place)).collect();
    // A frozen stage takes its deps as it finds them: as those before it have left them.
    let finds =
        |stage: StageIndex, need: &StageIndex| !project.stages[stage].frozen || place.get(need) < place.get(&stage);
    let candidate = |&stage: &StageIndex| Candidate {
        stage,
        key: key(&project.stages[stage]),
        needs: graph.needs(stage).iter().copied().filter(|need| finds(stage, need)).collect(),
    };
    order.iter().filter(|stage| runs(**stage)).map(candidate).collect()
}

/// The files that the plan was made from, with their digests.
fn base(
    home: &ProjectHome,
    project: &Project,
    mut read: BTreeMap<String, Option<String>>,
) -> Result<Vec<BaseFile>, Diagnostic> {
    let locks = project.files.iter().map(|file| &file.path).filter(|file| file.ends_with("dvc.yaml"));
    let params = project.stages.iter().flat_map(|stage| &stage.params).map(|params| params.resolved.clone());
    for file in locks.map(|file| lock_path(file)).chain(params) {
        let at = home.root.join(&file);
        if let Entry::Vacant(place) = read.entry(file) {
            place.insert(if at.is_file() { Some(fs::digest(&at)?.0) } else { None });
        }
    }
    Ok(read.into_iter().map(|(path, md5)| BaseFile { path, md5 }).collect())
}

/// Passes on to the disk and remembers the digest of every file that was read.
struct Recorder<'a> {
    inner: &'a DiskFiles,
    read: RefCell<BTreeMap<String, Option<String>>>,
}

impl ProjectFiles for Recorder<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let bytes = self.inner.read(path)?;
        self.read.borrow_mut().insert(path.to_owned(), Some(fs::digest_bytes(&bytes)));
        Ok(bytes)
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        self.inner.kind(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn is_git_ignored(&self, path: &str, is_dir: bool) -> io::Result<bool> {
        self.inner.is_git_ignored(path, is_dir)
    }

    fn root(&self) -> &str {
        self.inner.root()
    }

    fn supports_scheme(&self, scheme: &str) -> bool {
        self.inner.supports_scheme(scheme)
    }
}
