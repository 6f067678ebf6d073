//! Whether a plan still fits the project: what it was made from is as it was, but for what its own results changed.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::fs;
use crate::adapters::git::Store;
use crate::diagnostic::Diagnostic;
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::path::{file_name, join, lock_path};
use crate::dvc::pipeline::project::Project;
use crate::dvc::stage_file::has_same_stages;
use crate::plan::Unseen;
use crate::state::format::{BaseFile, Plan};
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{results, worklist};

/// The number of files that are named.
const NAMED: usize = 5;

/// Refuses a plan whose base has moved on.
pub(crate) fn check(project: &ProjectHome, run: &RunDir, plan: &Plan) -> Result<(), Diagnostic> {
    let Some(moved) = moved(project, run, plan)? else { return Ok(()) };
    Err(Diagnostic::project(format!("the plan of run {} is out of date", plan.run))
        .cause(format!("changed since it was made: {moved}"))
        .hint("run `dvc-fanout plan` again; results that are published already can still be collected"))
}

/// The stage files, params and lock files that have changed since a plan was made, but for what came from its results, as
/// text; `None` where none has.
pub(crate) fn moved(project: &ProjectHome, run: &RunDir, plan: &Plan) -> Result<Option<String>, Diagnostic> {
    let root = &project.root;
    let is_moved = |file: &&BaseFile| fs::digest(&root.join(&file.path)).ok().map(|(md5, _)| md5) != file.md5;
    let mut moved: Vec<&BaseFile> = plan.base.iter().filter(is_moved).collect();
    if moved.iter().any(|file| file.path.ends_with("dvc.lock") || file.path.ends_with(".dvc")) {
        let collected = Collected::read(run)?;
        moved.retain(|file| !collected.explains(root, file));
    }
    if moved.iter().any(|file| file_name(&file.path) == "dvc.yaml") {
        let planned = Planned::read(project, run, plan)?;
        moved.retain(|file| !planned.explains(root, file));
    }
    if moved.is_empty() {
        return Ok(None);
    }
    let mut shown: Vec<&str> = moved.iter().take(NAMED).map(|file| file.path.as_str()).collect();
    if moved.len() > shown.len() {
        shown.push("…");
    }
    Ok(Some(shown.join(", ")))
}

/// Whether the workspace is still the one that was planned: nothing but what was collected has changed.
pub(crate) fn is_as_planned(project: &ProjectHome, run: &RunDir, plan: &Plan) -> Result<bool, Diagnostic> {
    let Some(snapshot) = &plan.snapshot else { return Ok(false) };
    if moved(project, run, plan)?.is_some() {
        return Ok(false);
    }
    let (git, prefix) = project.git()?;
    let Ok(store) = Store::open(&run.snapshot()) else { return Ok(false) };
    let files = DiskFiles::open(&project.root, project.config.no_scm)?;
    let Ok(definitions) = Project::load(&files, &project.config) else { return Ok(false) };
    let unseen = Unseen::of(project, &definitions, &prefix);
    let changed = store.changed_since(snapshot, &git, &|path| unseen.covers(path))?;
    if changed.is_empty() {
        return Ok(true);
    }
    let mut collected: HashSet<String> =
        plan.base.iter().filter(|file| file.path.ends_with("dvc.lock")).map(|file| join(&prefix, &file.path)).collect();
    for index in plan.indexes() {
        let examined = results::examine(run, index)?;
        for published in examined.best.iter().chain(&examined.others) {
            let files = published.result.files.iter().chain(&published.result.partial).map(|file| &file.path);
            let ignores = published.result.ignore.iter().map(|lines| &lines.path);
            collected.extend(files.chain(ignores).chain(&published.result.deleted).map(|path| join(&prefix, path)));
        }
    }
    Ok(changed.iter().all(|path| collected.contains(path)))
}

/// The stage files as they were planned, where the snapshot has them.
struct Planned<'a> {
    store: Option<Store>,
    commit: &'a str,
    /// The project's root relative to the top of the work tree.
    prefix: String,
}

impl Planned<'_> {
    fn read<'a>(project: &ProjectHome, run: &RunDir, plan: &'a Plan) -> Result<Planned<'a>, Diagnostic> {
        let store = Store::open(&run.snapshot()).ok();
        Ok(Planned { store, commit: plan.snapshot.as_deref().unwrap_or_default(), prefix: project.git()?.1 })
    }

    /// Whether a stage file still says the same of stages: commands may list what they made beside them.
    fn explains(&self, root: &Path, file: &BaseFile) -> bool {
        let planned = || {
            let planned = self.store.as_ref()?.file_at(self.commit, &join(&self.prefix, &file.path));
            planned.ok().flatten().map(|file| file.bytes().to_vec())
        };
        file_name(&file.path) == "dvc.yaml"
            && fs::read_text_if_any(&root.join(&file.path)).ok().flatten().zip(planned()).is_some_and(|(now, then)| {
                file.md5.as_ref() == Some(&fs::digest_bytes(&then))
                    && has_same_stages(&now, &String::from_utf8_lossy(&then))
            })
    }
}

/// What `collect` may have written into files that the plan was made from, of all attempts.
struct Collected {
    /// Lock entries, by lock file and stage name.
    entries: HashMap<(String, String), Entry>,
    /// `.dvc` files, each with its MD5.
    dvc_files: HashSet<(String, String)>,
}

#[derive(Default)]
struct Entry {
    base: Option<String>,
    theirs: HashSet<String>,
}

impl Collected {
    fn read(run: &RunDir) -> Result<Collected, Diagnostic> {
        let mut entries: HashMap<(String, String), Entry> = HashMap::new();
        let mut dvc_files = HashSet::new();
        for item in worklist::each(run)? {
            let item = item?;
            let examined = results::examine(run, item.index)?;
            let published: Vec<_> = examined.best.into_iter().chain(examined.others).collect();
            for stage in &item.stages {
                let Some(name) = &stage.name else {
                    let written = published.iter().flat_map(|published| &published.result.files);
                    let own = written.filter(|file| file.path == stage.file);
                    dvc_files.extend(own.map(|file| (file.path.clone(), file.md5.clone())));
                    continue;
                };
                let found = published.iter().flat_map(|published| &published.result.stages);
                let theirs =
                    found.filter(|found| found.address == stage.address).filter_map(|found| found.entry.clone());
                let entry = entries.entry((lock_path(&stage.file), name.clone())).or_default();
                entry.base.clone_from(&stage.base);
                entry.theirs.extend(theirs);
            }
        }
        Ok(Collected { entries, dvc_files })
    }

    /// Whether a lock file is what it was once the entries that came from results are taken back, or a `.dvc` file is what
    /// a result brought.
    fn explains(&self, root: &Path, file: &BaseFile) -> bool {
        if file.path.ends_with(".dvc") {
            let now = fs::digest(&root.join(&file.path));
            return now.is_ok_and(|(md5, _)| self.dvc_files.contains(&(file.path.clone(), md5)));
        }
        let Ok(Some(text)) = fs::read_text_if_any(&root.join(&file.path)) else { return false };
        let Ok(lock) = Lockfile::parse(&text) else { return false };
        let mut before = String::new();
        let mut seen = 0;
        for name in lock.names() {
            let Some(entry) = lock.entry(name).map(|entry| entry.text()) else { return false };
            let Some(at) = text[seen..].find(entry) else { return false };
            before.push_str(&text[seen..seen + at]);
            seen += at + entry.len();
            match self.entries.get(&(file.path.clone(), name.to_owned())) {
                Some(known) if known.theirs.contains(entry) => before.push_str(known.base.as_deref().unwrap_or("")),
                _ => before.push_str(entry),
            }
        }
        before.push_str(&text[seen..]);
        match &file.md5 {
            Some(md5) => fs::digest_bytes(before.as_bytes()) == *md5,
            None => Lockfile::parse(&before).is_ok_and(|before| before.names().next().is_none()),
        }
    }
}
