//! Whether a published result may be believed: hostile until proven otherwise.
//!
//! | what | where |
//! |---|---|
//! | the document: size, version, run, index, attempt, every path | [`sound`], whenever a result is read |
//! | its fit to the work item: stages, entries, outs, DVC's version | `fits`, before it is collected |
//! | the contents: regular files of the size and digest that the document says | [`contents`], before it is collected |
//! | the data that stages have put into the cache | [`data`], before it is collected |

use std::collections::HashSet;
use std::path::Path;

use crate::adapters::beneath::{Beneath, Seen};
use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, FsError};
use crate::dvc::hash::Member;
use crate::dvc::lockfile::merge::same_entry;
use crate::dvc::lockfile::{EntryRef, LockfileError, foreign_style, sole_entry};
use crate::dvc::oid::{ObjectKey, Oid};
use crate::dvc::pipeline::path::{is_within, lock_path};
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::result_path::{self, UnsafePath};
use crate::model::run::StageState;
use crate::state::format::{Plan, PlannedOut, PlannedStage, ResultFile, StageResult, VERSION, WorkItem, WorkResult};
use crate::state::published::{FILES, LeftOut, Published};

/// The largest `result.json` that is read.
pub(crate) const MAX_DOCUMENT: u64 = 64 << 20;
/// The most files that one result may bring.
pub(crate) const MAX_FILES: usize = 100_000;
/// The largest file that one result may bring; larger ones belong into the cache.
pub(crate) const MAX_FILE: u64 = 4 << 30;

/// Why a result is not collected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("`result.json` is not readable: {0}")]
    Unreadable(String),
    #[error("it is of format {0}, which this release does not know")]
    Version(u32),
    #[error("it claims to be {said}, but is where {expected} belongs")]
    Misplaced { said: String, expected: String },
    #[error("it was made with DVC {theirs}, the plan with DVC {ours}")]
    OtherDvc { theirs: String, ours: String },
    #[error("stage `{0}` is not part of the work item")]
    UnknownStage(String),
    #[error("the lock entry of stage `{stage}` is refused: {why}")]
    Entry { stage: String, why: String },
    #[error("it brings {count} files; the limit is {MAX_FILES}")]
    TooManyFiles { count: usize },
    #[error("path `{path}` is refused: {why}")]
    Path { path: String, why: UnsafePath },
    #[error("path `{path}` is refused: {why}")]
    NotAllowed { path: String, why: &'static str },
    #[error("the content of `{path}` is refused: {why}")]
    Content { path: String, why: String },
    #[error("the data of `{path}` is not in the cache any more; `dvc gc` removes what no stage has recorded yet")]
    Data { path: String },
}

/// Checks what a document says about itself and every path that it names.
pub(crate) fn sound(result: &WorkResult, run: &str, index: ItemIndex, attempt: AttemptNumber) -> Result<(), Rejection> {
    if result.version != VERSION {
        return Err(Rejection::Version(result.version));
    }
    let place = |run: &str, index: ItemIndex, attempt: AttemptNumber| {
        format!("work item {index} of run {run}, attempt {attempt}")
    };
    if (result.run.as_str(), result.index, result.attempt) != (run, index, attempt) {
        let said = place(&result.run, result.index, result.attempt);
        return Err(Rejection::Misplaced { said, expected: place(run, index, attempt) });
    }
    let count = result.files.len() + result.partial.len() + result.deleted.len() + result.ignore.len();
    let count = count + result.empty.len() + result.gone.len();
    if count > MAX_FILES {
        return Err(Rejection::TooManyFiles { count });
    }
    let refused = |path: &str, why| Rejection::Path { path: path.to_owned(), why };
    let unrecorded = result.stages.iter().flat_map(|stage| stage.executable.iter().chain(&stage.empty));
    let modes = result.modes.iter().map(|directory| &directory.path);
    let files = result.files.iter().map(|file| &file.path);
    let partial = result.partial.iter().map(|file| &file.path);
    // What may not come of this was sifted before.
    let undeclared = result.files.iter().filter(|file| file.stage.is_none()).map(|file| &file.path);
    let ignores = result.ignore.iter().map(|ignore| &ignore.path);
    let empty = result.empty.iter().map(|directory| &directory.path);
    for path in undeclared.chain(&result.deleted).chain(&result.gone).chain(ignores).chain(empty) {
        result_path::check(path).map_err(|why| refused(path, why))?;
    }
    for path in files.clone().chain(partial).chain(unrecorded).chain(modes).chain(&result.persisted) {
        result_path::check_declared(path).map_err(|why| refused(path, why))?;
    }
    for file in result.files.iter().chain(&result.partial) {
        if file.blob.is_empty() || !file.blob.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Rejection::Content {
                path: file.path.clone(),
                why: "its name in the result is not a number".into(),
            });
        }
    }
    let mut seen = HashSet::new();
    match files.chain(&result.deleted).find(|path| !seen.insert(path.as_str())) {
        Some(path) => Err(Rejection::NotAllowed { path: path.clone(), why: "the result names it twice" }),
        None => Ok(()),
    }
}

/// Takes out of a result what leads out of the project, or into git's and DVC's own folders, and that no stage declares.
pub(crate) fn sift(published: &mut Published) {
    let mut left_out = vec![];
    let directory = published.directory.clone();
    let result = &mut published.result;
    result.files.retain(|file| {
        let fault = |target: &String| result_path::check_link(&file.path, target).err();
        let leave = |content: Option<std::path::PathBuf>, why: String| {
            let (path, target) = (file.path.clone(), file.symlink.clone());
            LeftOut { path, file: content, target, why }
        };
        match (result_path::check(&file.path), file.symlink.as_ref().and_then(fault)) {
            (Err(why), _) if file.stage.is_none() => {
                left_out.push(leave(blob(&directory, file), why.to_string()));
                false
            }
            (Ok(()), Some(fault)) if file.stage.is_none() => {
                let which = match fault {
                    UnsafePath::Absolute | UnsafePath::NotNormal => "is outside of the project",
                    UnsafePath::Internal => "is git's or DVC's own",
                    UnsafePath::TooLong | UnsafePath::Nul => "is no path",
                };
                let leads_to = file.symlink.as_deref().unwrap_or_default();
                left_out.push(leave(None, format!("it is a symlink to `{leads_to}`, which {which}")));
                false
            }
            _ => true,
        }
    });
    let mut leave = |path: &str, why: UnsafePath| {
        left_out.push(LeftOut { path: path.to_owned(), file: None, target: None, why: why.to_string() });
    };
    let mut may_stay = |path: &String| match result_path::check(path) {
        Ok(()) => true,
        Err(why) => {
            leave(path, why);
            false
        }
    };
    result.deleted.retain(&mut may_stay);
    result.gone.retain(&mut may_stay);
    result.ignore.retain(|ignore| may_stay(&ignore.path));
    published.left_out.extend(left_out);
}

/// Where the content of a file lies, if its name there is one of ours.
fn blob(directory: &Path, file: &ResultFile) -> Option<std::path::PathBuf> {
    let is_number = file.blob.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| directory.join(FILES).join(&file.blob))
}

/// What the whole plan says about who may write where.
pub(crate) struct Allowed<'a> {
    plan: &'a Plan,
    /// The files that the plan was made from, and the lock files beside them.
    base: HashSet<String>,
    /// The declared outs of all work items.
    outs: HashSet<&'a str>,
}

impl<'a> Allowed<'a> {
    pub(crate) fn of(plan: &'a Plan, items: &'a [WorkItem]) -> Self {
        let stages = items.iter().flat_map(|item| &item.stages);
        let outs = stages.flat_map(|stage| &stage.outs).map(|out| out.resolved.as_str()).collect();
        let files = items.iter().flat_map(|item| &item.stages).map(|stage| &stage.file);
        let files = files.chain(plan.base.iter().map(|file| &file.path));
        let base = files.flat_map(|file| [file.clone(), lock_path(file)]).collect();
        Allowed { plan, base, outs }
    }

    /// Takes out of a result what no stage declares and what may not come, each for itself.
    pub(crate) fn sift(&self, published: &mut Published) {
        let Published { directory, result, left_out } = published;
        let mut leave = |path: &str, file: Option<std::path::PathBuf>, why: Rejection| {
            let why = if let Rejection::NotAllowed { why, .. } = why { why.to_owned() } else { why.to_string() };
            left_out.push(LeftOut { path: path.to_owned(), file, target: None, why });
        };
        result.files.retain(|file| match self.undeclared_file_fits(file) {
            Err(why) if file.stage.is_none() => {
                leave(&file.path, blob(directory, file), why);
                false
            }
            Ok(()) | Err(_) => true,
        });
        result.deleted.retain(|path| match self.deletion_fits(path) {
            Err(why) => {
                leave(path, None, why);
                false
            }
            Ok(()) => true,
        });
    }

    /// Checks a result against its work item.
    pub(crate) fn fits(&self, item: &WorkItem, result: &WorkResult) -> Result<(), Rejection> {
        // Where DVC did nothing, its version is not known.
        let ours = Some(self.plan.dvc.as_str()).filter(|version| !version.is_empty()).unwrap_or(OLDEST_DVC);
        if !result.dvc.is_empty() && major(&result.dvc) != major(ours) {
            return Err(Rejection::OtherDvc { theirs: result.dvc.clone(), ours: self.plan.dvc.clone() });
        }
        let planned = |address: &str| item.stages.iter().find(|stage| stage.address == address);
        let mut seen = HashSet::new();
        for stage in &result.stages {
            let known = planned(&stage.address).filter(|_| seen.insert(&stage.address));
            entry_fits(known.ok_or_else(|| Rejection::UnknownStage(stage.address.clone()))?, stage)?;
        }
        for file in &result.files {
            if let Some(stage) = &file.stage {
                let known = planned(stage).ok_or_else(|| Rejection::UnknownStage(stage.clone()))?;
                declared_fits(known, file)?;
            }
        }
        let is_in_out =
            |path: &str| item.stages.iter().flat_map(|stage| &stage.outs).any(|out| is_within(path, &out.resolved));
        let unrecorded = result.stages.iter().flat_map(|stage| stage.executable.iter().chain(&stage.empty));
        if let Some(path) = unrecorded.chain(&result.persisted).find(|path| !is_in_out(path)) {
            return Err(Rejection::NotAllowed { path: path.clone(), why: "its stage has no such out" });
        }
        let mut modes = result.modes.iter().map(|directory| &directory.path).filter(|path| !is_in_out(path));
        if let Some((path, why)) = modes.find_map(|path| Some((path, result_path::check(path).err()?))) {
            return Err(Rejection::Path { path: path.clone(), why });
        }
        for file in &result.partial {
            let known = file.stage.as_deref().and_then(planned);
            let below =
                |top: &str| file.path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !known.is_some_and(|stage| stage.outs.iter().any(|out| below(&out.resolved))) {
                return Err(Rejection::NotAllowed { path: file.path.clone(), why: "its stage has no such out" });
            }
        }
        for ignore in &result.ignore {
            let name = ignore.path.rsplit('/').next().unwrap_or_default();
            let is_one_line_each = ignore.lines.iter().all(|line| !line.contains(['\n', '\r', '\0']));
            if name != ".gitignore" || !is_one_line_each {
                let why = "it is not a `.gitignore` with lines";
                return Err(Rejection::NotAllowed { path: ignore.path.clone(), why });
            }
        }
        Ok(())
    }

    fn undeclared_file_fits(&self, file: &ResultFile) -> Result<(), Rejection> {
        if file.projected {
            let why = "DVC itself ran its stage, and is shown a file with that work item's stages alone";
            return Err(Rejection::NotAllowed { path: file.path.clone(), why });
        }
        self.undeclared_fits(&file.path)
    }

    fn deletion_fits(&self, path: &str) -> Result<(), Rejection> {
        let refused = |why| Err(Rejection::NotAllowed { path: path.to_owned(), why });
        if self.base.contains(path) { refused("the plan was made from it") } else { self.undeclared_fits(path) }
    }

    /// Checks a path that no stage of the work item declares.
    fn undeclared_fits(&self, path: &str) -> Result<(), Rejection> {
        let refused = |why| Err(Rejection::NotAllowed { path: path.to_owned(), why });
        let name = path.rsplit('/').next().unwrap_or_default();
        if name == ".gitignore" {
            return refused("its lines come one by one");
        }
        // New ones are files like others: of a project inside, or what `DVCLive` writes. So are edits of a `dvc.yaml`.
        let is_dvcs = matches!(name, "dvc.lock" | ".dvcignore") || has_dvc_extension(name);
        if is_dvcs && self.base.contains(path) {
            return refused("it is a file that the plan was made from, which only DVC writes");
        }
        let above = |path: &'_ str| path.rsplit_once('/').map(|(above, _)| above.to_owned());
        let mut at = Some(path.to_owned());
        while let Some(path) = at {
            if self.outs.contains(path.as_str()) {
                return refused("it is an out that another way brings");
            }
            at = above(&path);
        }
        Ok(())
    }
}

/// Whether DVC takes a file of this name for a `.dvc` file.
pub(crate) fn has_dvc_extension(name: &str) -> bool {
    name.strip_suffix(".dvc").is_some_and(|stem| !stem.is_empty())
}

/// What the entries of workers look like those of, where nobody has asked DVC.
const OLDEST_DVC: &str = "3";

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

/// Checks that a good stage's entry is just the entry of that stage, with its outs.
fn entry_fits(planned: &PlannedStage, stage: &StageResult) -> Result<(), Rejection> {
    let refused = |why: String| Rejection::Entry { stage: stage.address.clone(), why };
    let (Some(name), Some(text), true) = (&planned.name, &stage.entry, stage.state.is_good()) else { return Ok(()) };
    // An unchanged stage has the project's own entry, whoever wrote it.
    if planned.base.as_deref().is_some_and(|base| same_entry(name, base, text)) {
        return Ok(());
    }
    if let Some(what) = foreign_style(text) {
        return Err(refused(format!("it is not as DVC writes it: {what}")));
    }
    let unreadable = |error: LockfileError| refused(format!("line {}: {error}", error.line));
    let entry = sole_entry(name, text).and_then(|()| EntryRef::of(name, text).parse()).map_err(unreadable)?;
    let mut recorded: Vec<&str> = entry.outs.iter().map(|out| out.path.as_str()).collect();
    let mut declared: Vec<&str> = planned.outs.iter().map(|out| out.path.as_str()).collect();
    recorded.sort_unstable();
    declared.sort_unstable();
    declared.dedup();
    recorded.dedup();
    if recorded != declared {
        return Err(refused("its outs are not those of the stage".to_owned()));
    }
    let digests = entry.deps.iter().chain(&entry.outs).filter_map(|item| item.recorded.md5.as_deref());
    match digests.into_iter().find(|md5| Oid::parse(md5).is_none()) {
        Some(md5) => Err(refused(format!("`{md5}` is not a digest"))),
        None => Ok(()),
    }
}

/// Checks that a file lies at or below an out of its stage that DVC does not cache, or is its `.dvc` file.
fn declared_fits(planned: &PlannedStage, file: &ResultFile) -> Result<(), Rejection> {
    let is_in = |out: &PlannedOut| {
        is_within(&file.path, &out.resolved) && out.cache == file.hidden && !(file.hidden && file.path == out.resolved)
    };
    let is_out = planned.outs.iter().any(is_in);
    let is_dvc_file = planned.name.is_none() && file.path == planned.file;
    if is_out || is_dvc_file {
        return Ok(());
    }
    Err(Rejection::NotAllowed {
        path: file.path.clone(),
        why: "its stage does not declare it as an out that is not cached",
    })
}

/// Checks the contents of the files of a result in its directory.
pub(crate) fn contents(directory: &Path, result: &WorkResult) -> Result<(), Rejection> {
    if result.files.is_empty() && result.partial.is_empty() {
        return Ok(());
    }
    let refused = |file: &ResultFile, why: String| Rejection::Content { path: file.path.clone(), why };
    let unreadable = |error: &FsError| Rejection::Unreadable(error.to_string());
    let tree = Beneath::open(directory).map_err(|error| unreadable(&error))?;
    for file in result.files.iter().chain(&result.partial) {
        let blob = format!("files/{}", file.blob);
        let size = match tree.look(&blob).map_err(|error| unreadable(&error))? {
            Some(Seen::File { links: 1, size, .. }) => size,
            Some(Seen::File { .. }) => return Err(refused(file, "it is a hard link".into())),
            Some(Seen::Symlink { .. }) => return Err(refused(file, "it is a symlink".into())),
            Some(Seen::Directory | Seen::Other) => return Err(refused(file, "it is not a regular file".into())),
            None => return Err(refused(file, "it is missing".into())),
        };
        // Checkpoints are as large as they are, and go from here to the same machine.
        if size > MAX_FILE && !result.persisted.iter().any(|out| is_within(&file.path, out)) {
            return Err(refused(file, format!("it has {size} bytes; the limit is {MAX_FILE}")));
        }
        if size != file.size {
            return Err(refused(file, format!("it has {size} bytes, not {}", file.size)));
        }
        let digest = tree.open_file(&blob).and_then(|mut open| fs::digest_open(&mut open, &blob));
        let (md5, _) = digest.map_err(|error| unreadable(&error))?;
        if md5 != file.md5 {
            return Err(refused(file, format!("its MD5 is {md5}, not {}", file.md5)));
        }
    }
    Ok(())
}

/// Checks that the cache has what stages of a result have put into it.
pub(crate) fn data(cache: &Cache, item: &WorkItem, published: &Published) -> Result<(), Rejection> {
    let has = |object: ObjectKey| {
        let is_there = |member: &Member| cache.has(object.member(member));
        let members = || cache.members(object).is_some_and(|members| members.iter().all(is_there));
        cache.has(object) && (!object.oid.is_directory() || members())
    };
    for stage in item.stages.iter().filter(|stage| !stage.records) {
        let made = published.result.stages.iter().find(|made| made.address == stage.address);
        if !made.is_some_and(|made| matches!(made.state, StageState::Ran | StageState::Restored)) {
            continue;
        }
        for out in stage.outs.iter().filter(|out| out.cache) {
            let object = published.recorded_out(&stage.address, &out.path).and_then(|recorded| recorded.object());
            if object.is_some_and(|object| !has(object)) {
                return Err(Rejection::Data { path: out.resolved.clone() });
            }
        }
    }
    Ok(())
}
