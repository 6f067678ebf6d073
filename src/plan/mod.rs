//! Planning: what would run and why, dealt out to work items, written down for everything that comes after.

mod carry;
pub(crate) mod changes;
pub(crate) mod estimate;
mod head_start;
mod inputs;
mod items;
pub(crate) mod preflight;
pub(crate) mod report;
pub(crate) mod requests;
pub(crate) mod survey;
mod undeclared;
mod unseen;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::adapters::dvc::Dvc;
use crate::adapters::git::{Store, WorkTree};
use crate::adapters::{clock, fs};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::path::lock_path;
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage::Stage;
use crate::model::plan;
use crate::model::requests::ByStage;
use crate::output::text::{self, count};
use crate::plan::changes::Changes;
use crate::plan::undeclared::Undeclared;
use crate::state::dvc_version::DvcVersion;
use crate::state::format::{Carried, Plan, PlanOptions, VERSION, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::worklist;
use survey::Survey;

pub(crate) use unseen::Unseen;

/// The number of stages that are named before the others are counted.
const SHOWN_PROBLEMS: usize = 5;

/// A run that was planned and written down.
pub(crate) struct Planned {
    pub run: RunDir,
    pub plan: Plan,
    pub items: Vec<WorkItem>,
}

/// Everything that is known of the project when work items are made.
struct Situation<'a> {
    home: &'a ProjectHome,
    project: &'a Project,
    graph: &'a Graph,
    changes: &'a Changes,
    /// What a snapshot holds.
    work_tree: &'a WorkTree,
    /// DVC's own files, which slots begin without.
    dvc_files: &'a HashMap<String, DvcFile>,
    options: &'a PlanOptions,
    /// The project's folder in the git work tree.
    prefix: &'a str,
    /// The texts of lock files, by path.
    locks: BTreeMap<String, String>,
    /// What the configuration file says that stages ask for.
    requests: ByStage,
}

/// Plans a run and writes it down. Nothing of the project is changed.
///
/// `requests` are what the configuration file says that stages ask for.
pub(crate) fn make(
    home: &ProjectHome,
    targets: &[String],
    options: PlanOptions,
    requests: ByStage,
) -> Result<Planned, Diagnostic> {
    make_and_keep(home, targets, options, requests).map(|(_, planned)| planned)
}

/// Plans a run, and returns also what it was made from.
pub(crate) fn make_and_keep(
    home: &ProjectHome,
    targets: &[String],
    options: PlanOptions,
    requests: ByStage,
) -> Result<(Survey, Planned), Diagnostic> {
    let version = DvcVersion::new(home.fanout().dvc_version());
    if !options.executor.is_always_dvc() {
        let survey = Survey::of(home, targets, &options)?;
        preflight::refuse(home, &survey, &options)?;
        // Perhaps no stage needs DVC: it is not asked for what is not known.
        let known = Dvc::find().ok().and_then(|dvc| version.known(&dvc)).unwrap_or_default();
        let planned = write_down(home, targets, options, requests, known, &survey)?;
        warn_of_problems(&survey);
        return Ok((survey, planned));
    }
    let dvc = Dvc::find()?;
    // Python takes its time to start, so DVC is asked for its version while the project is read.
    let asking = {
        let dvc = dvc.clone();
        std::thread::spawn(move || version.of(&dvc, Duration::MAX).map(|text| (version, text)))
    };
    let survey = Survey::of(home, targets, &options)?;
    preflight::refuse(home, &survey, &options)?;
    let (version, text) = asking.join().map_err(|_| Diagnostic::internal("asking DVC for its version broke"))??;
    let planned = write_down(home, targets, options, requests, text, &survey)?;
    warn_of_problems(&survey);
    version.remember(&dvc)?;
    Ok((survey, planned))
}

/// Says which stages DVC will fail at, as far as that can be seen now. The others run.
fn warn_of_problems(survey: &Survey) {
    let problems: Vec<_> = survey.changes.problems().collect();
    for (stage, problem) in problems.iter().take(SHOWN_PROBLEMS) {
        text::note(&format!("stage `{}` is going to fail: {problem}", survey.project.stages[*stage].address));
    }
    let others = problems.len().saturating_sub(SHOWN_PROBLEMS);
    if others > 0 {
        text::note(&format!("{} are going to fail as well", text::count(others, "other stage")));
    }
}

/// Deals the stages that may run out to work items and writes the run's files.
fn write_down(
    home: &ProjectHome,
    targets: &[String],
    options: PlanOptions,
    requests: ByStage,
    dvc_version: String,
    survey: &Survey,
) -> Result<Planned, Diagnostic> {
    let Survey { project, graph, order, changes, candidates, base } = survey;
    requests::tell_unknown(project.stages.iter(), &requests);
    let (git, prefix) = home.git()?;
    let earlier = worklist::runs(&home.fanout())?;
    let run_id = clock::run_id(earlier.last().map(String::as_str));
    let mut plan = Plan {
        version: VERSION,
        run: run_id,
        created: clock::now(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        dvc: dvc_version,
        root: home.root.display().to_string(),
        prefix: prefix.clone(),
        head: git.head()?,
        setting: git.setting()?,
        branch: git.branch()?,
        snapshot: None,
        workspace: None,
        linked: vec![],
        nested: vec![],
        targets: targets.to_vec(),
        options,
        base: base.clone(),
        work_items: 0,
        phases: vec![],
        templates: survey.templates(),
        carry: Carried::default(),
        pulled: vec![],
    };
    let mut items = vec![];
    let mut phases = plan::phases(candidates, &HashSet::new());
    refuse_too_many(&plan.options, phases.iter().map(|phase| phase.work_items.len()).sum())?;
    let run = home.make_fanout()?.run(&plan.run);
    if !candidates.is_empty() {
        let mut locks = BTreeMap::new();
        for file in project.files.iter().filter(|file| path::file_name(&file.path) == "dvc.yaml") {
            let lock = lock_path(&file.path);
            if let Some(text) = fs::read_text_if_any(&home.root.join(&lock))? {
                locks.insert(lock, text);
            }
        }
        let store = Store::create(&run.snapshot())?;
        let unseen = Unseen::of(home, project, &prefix);
        let work_tree = git.work_tree(Some(&store), &|path| unseen.covers(path))?;
        note(&work_tree);
        let dvc_files = dvc_files(project);
        let situation = Situation {
            home,
            project,
            graph,
            changes,
            work_tree: &work_tree,
            dvc_files: &dvc_files,
            options: &plan.options,
            prefix: &prefix,
            locks,
            requests,
        };
        let mut undeclared = Undeclared::find(&situation, &phases);
        let last = undeclared.last(candidates);
        if !last.is_empty() {
            phases = plan::phases(candidates, &last);
            undeclared = Undeclared::find(&situation, &phases);
        }
        undeclared.tell();
        plan.carry = carry::find(&situation, &git, &plan.options.carry, &undeclared.there)?;
        let (declared, deps) = (carry::declared(&situation), carry::deps(&situation));
        let made = items::make(&situation, &phases, order, &last)?;
        (plan.phases, items, plan.pulled) = (made.phases, made.items, made.pulled);
        plan.work_items = items.len();
        let outs = outs(project);
        (plan.linked, plan.nested) = (work_tree.linked.clone(), work_tree.nested.clone());
        let snapshot = store.snapshot(&plan.run, work_tree, &|path| is_left_out(path, &prefix, &outs))?;
        plan.snapshot = Some(snapshot.commit);
        plan.workspace = Some(snapshot.workspace);
        for (file, paths) in [(run.declared(), declared), (run.deps(), deps)] {
            fs::write(&file, &serde_json::to_vec(&paths).expect("paths are plain data"))?;
        }
    }
    worklist::write(&run, &plan, &items)?;
    Ok(Planned { run, plan, items })
}

/// Says which files workers will not see, or not as they are now.
fn note(work_tree: &WorkTree) {
    if let Some(first) = work_tree.linked.first() {
        let what = count(work_tree.linked.len(), "large file");
        text::note(&format!("{what} that git does not have will be linked, not copied: `{first}`"));
    }
    let paths = &work_tree.unreadable;
    if let Some(first) = paths.first() {
        let what = count(paths.len(), "file");
        text::note(&format!("{what} in the workspace cannot be read, and workers will not have it: `{first}`"));
    }
}

/// Keeps to `--max-items`, before anything is written.
fn refuse_too_many(options: &PlanOptions, work_items: usize) -> Result<(), Diagnostic> {
    match options.max_items {
        Some(limit) if work_items > limit => Err(Diagnostic::project(format!(
            "the plan has {}, more than {limit}",
            text::count(work_items, "work item")
        ))
        .cause("`--max-items` guards against surprises")
        .hint("see why with `dvc-fanout stages --changed`, then plan with a higher limit or with fewer targets")),
        Some(_) | None => Ok(()),
    }
}

/// The paths of all outs inside the project.
fn outs(project: &Project) -> HashSet<&str> {
    let outs = project.stages.iter().flat_map(|stage: &Stage| &stage.outs);
    outs.filter_map(|out| out.resolved.as_deref()).filter(|path| path::is_inside(path)).collect()
}

/// A file that DVC reads stages from, or writes their entries to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DvcFile {
    /// A `dvc.yaml`, by its place in [`Project::files`].
    Pipeline(usize),
    /// The `dvc.lock` beside it.
    Lock(usize),
    /// A `.dvc` file.
    Single(usize),
}

/// DVC's own files, by path.
fn dvc_files(project: &Project) -> HashMap<String, DvcFile> {
    let mut files = HashMap::new();
    for (place, file) in project.files.iter().enumerate() {
        if path::file_name(&file.path) == "dvc.yaml" {
            files.insert(lock_path(&file.path), DvcFile::Lock(place));
            files.insert(file.path.clone(), DvcFile::Pipeline(place));
        } else {
            files.insert(file.path.clone(), DvcFile::Single(place));
        }
    }
    files
}

/// Whether slots begin without a file of the git work tree: DVC's settings, outs and what lies below them.
fn is_left_out(file: &str, prefix: &str, outs: &HashSet<&str>) -> bool {
    let Some(inside) = path::inside(prefix, file) else { return false };
    inside == ".dvc/config" || path::at_and_above(inside).any(|path| outs.contains(path))
}
