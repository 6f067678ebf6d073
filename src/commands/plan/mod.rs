//! `plan`: what would run and why, dealt out to work items, written down for everything that comes after.

mod inputs;
mod items;
mod report;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io;

use crate::adapters::dvc::Dvc;
use crate::adapters::git::Git;
use crate::adapters::project::DiskFiles;
use crate::adapters::{clock, fs};
use crate::cli::{Cli, Format, PlanArgs, SelectionArgs};
use crate::commands::changes::Changes;
use crate::commands::project::ProjectHome;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::changed::Outlook;
use crate::model::pipeline::graph::Graph;
use crate::model::pipeline::load::Project;
use crate::model::pipeline::path;
use crate::model::pipeline::source::{DirEntry, FileKind, ProjectFiles};
use crate::model::pipeline::stage::Stage;
use crate::model::pipeline::target::{self, TargetOptions};
use crate::model::plan::{self, Candidate};
use crate::output::text;
use crate::state::format::{BaseFile, Plan, PlanOptions, VERSION, WorkItem};
use crate::state::paths::RunDir;
use crate::state::worklist;
use crate::state::workspace::lock_path;

/// A run that was planned and written down.
pub(crate) struct Planned {
    pub run: RunDir,
    pub plan: Plan,
    pub items: Vec<WorkItem>,
}

pub(crate) fn run(cli: &Cli, args: &PlanArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli)?;
    let options = resolve(&project, &args.selection);
    let planned = make(&project, &args.selection.targets, options)?;
    match cli.format {
        Format::Text => text::result(&report::text(&planned)),
        Format::Json => text::result(&report::json(&planned)),
    }
    let exit = if args.exit_code && planned.plan.work_items > 0 { Exit::SomethingToDo } else { Exit::Success };
    Ok(exit)
}

/// What was meant by the flags that say which stages are planned and how they run.
pub(crate) fn resolve(project: &ProjectHome, args: &SelectionArgs) -> PlanOptions {
    PlanOptions {
        over: args.over.clone(),
        force: args.force,
        single_item: args.single_item,
        pipeline: args.pipeline,
        all_pipelines: args.all_pipelines,
        recursive: args.recursive,
        downstream: args.downstream,
        glob: args.glob,
        no_run_cache: args.no_run_cache,
        pull: args.pull,
        allow_missing_keys: args.allow_missing_keys,
        cwd: project.cwd.clone(),
    }
}

/// Everything that is known of the project when work items are made.
struct Situation<'a> {
    home: &'a ProjectHome,
    project: &'a Project,
    graph: &'a Graph,
    changes: &'a Changes,
    git: &'a Git,
    /// The project's folder in the git work tree.
    prefix: &'a str,
    /// The texts of lock files, by path.
    locks: BTreeMap<String, String>,
}

/// Plans a run and writes it down. Nothing of the project is changed.
pub(crate) fn make(home: &ProjectHome, targets: &[String], options: PlanOptions) -> Result<Planned, Diagnostic> {
    let (git, prefix) = home.git()?;
    let dvc = Dvc::find()?;
    // Python takes its time to start, so DVC is asked for its version while the project is read.
    let version = std::thread::spawn(move || dvc.version());
    if let Some(operation) = git.operation_in_progress()? {
        return Err(Diagnostic::project("the repository is in the middle of something")
            .cause(operation)
            .hint("finish or abort it, then plan again"));
    }
    let disk = DiskFiles::open(&home.root, false)?;
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
    let order = target::select(&project, &graph, &home.cwd, targets, target_options)?;
    let changes = Changes::assess(&project, &graph, &order, &disk, home)?;
    let candidates = candidates(&project, &graph, &changes, &order, &options);
    let base = base(home, &project, files.read.into_inner())?;
    let dvc_version = version.join().map_err(|_| Diagnostic::internal("asking DVC for its version broke"))??;
    let run_id = clock::run_id();
    let fanout = home.make_fanout()?;
    let run = fanout.run(&run_id);
    let mut plan = Plan {
        version: VERSION,
        run: run_id,
        created: clock::now(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        dvc: dvc_version,
        root: home.root.display().to_string(),
        prefix: prefix.clone(),
        head: git.head()?,
        snapshot: None,
        workspace: None,
        targets: targets.to_vec(),
        options,
        base,
        work_items: 0,
        phases: vec![],
        templates: report::templates(&project, &order, &candidates),
    };
    let mut items = vec![];
    if !candidates.is_empty() {
        let phases = plan::phases(&candidates);
        let mut locks = BTreeMap::new();
        for file in project.files.iter().filter(|file| path::file_name(&file.path) == "dvc.yaml") {
            let lock = lock_path(&file.path);
            if let Some(text) = fs::read_text_if_any(&home.root.join(&lock))? {
                locks.insert(lock, text);
            }
        }
        let situation =
            Situation { home, project: &project, graph: &graph, changes: &changes, git: &git, prefix: &prefix, locks };
        (plan.phases, items) = items::make(&situation, &phases, &order)?;
        plan.work_items = items.len();
        let outs = outs(&project);
        let snapshot = git.snapshot(&plan.run, &|path| is_left_out(path, &prefix, &project, &outs))?;
        plan.snapshot = Some(snapshot.commit);
        plan.workspace = Some(snapshot.workspace);
    }
    worklist::write(&run, &plan, &items)?;
    Ok(Planned { run, plan, items })
}

/// The stages that may run, in the order of `dvc repro`.
fn candidates(
    project: &Project,
    graph: &Graph,
    changes: &Changes,
    order: &[usize],
    options: &PlanOptions,
) -> Vec<Candidate> {
    let runs = |stage: usize| {
        let forced = options.force && project.stages[stage].cmd.is_some() && !project.stages[stage].frozen;
        forced || changes.forecasts[stage].as_ref().is_some_and(|forecast| forecast.outlook != Outlook::Unchanged)
    };
    let candidate = |&stage: &usize| Candidate {
        stage,
        key: project.stages[stage].generated.as_ref().map(|generated| generated.key.clone()),
        needs: if project.stages[stage].frozen { vec![] } else { graph.needs(stage).to_vec() },
    };
    order.iter().filter(|stage| runs(**stage)).map(candidate).collect()
}

/// The paths of all outs inside the project.
fn outs(project: &Project) -> HashSet<&str> {
    let outs = project.stages.iter().flat_map(|stage: &Stage| &stage.outs);
    outs.filter_map(|out| out.resolved.as_deref()).filter(|path| path::is_inside(path)).collect()
}

/// Whether slots begin without a file of the git work tree: stage files, lock files, outs and what lies below them.
fn is_left_out(file: &str, prefix: &str, project: &Project, outs: &HashSet<&str>) -> bool {
    let inside =
        if prefix.is_empty() { Some(file) } else { file.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) };
    let Some(inside) = inside else { return false };
    let name = path::file_name(inside);
    if name == "dvc.yaml" || name == "dvc.lock" {
        return true;
    }
    if name.ends_with(".dvc") && project.files.iter().any(|file| file.path == inside) {
        return true;
    }
    std::iter::successors(Some(inside), |path| path.rsplit_once('/').map(|(parent, _)| parent))
        .any(|path| outs.contains(path))
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
        if !read.contains_key(&file) {
            let at = home.root.join(&file);
            let md5 = if at.is_file() { Some(fs::digest(&at)?.0) } else { None };
            read.insert(file, md5);
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

    fn is_git_ignored(&self, path: &str, is_dir: bool) -> bool {
        self.inner.is_git_ignored(path, is_dir)
    }

    fn root(&self) -> &str {
        self.inner.root()
    }

    fn supports_scheme(&self, scheme: &str) -> bool {
        self.inner.supports_scheme(scheme)
    }
}
