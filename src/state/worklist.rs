//! `plan.json` and `worklist.jsonl`: written once by `plan`, read by everything else.
//!
//! A worker reads one line of the worklist by its offset, so its cost does not depend on how many there are.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use globset::Glob;

use crate::adapters::fs::{self, At as _, FsError};
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::suggest;
use crate::model::numbers::ItemIndex;
use crate::state::format::{Plan, RestoredFrom, VERSION, WorkItem};
use crate::state::paths::{FanoutDir, RunDir};

/// Digits of an offset in `worklist.index`.
const OFFSET_DIGITS: usize = 15;
/// Bytes of the worklist that are read at a time.
const BLOCK: usize = 1 << 16;
/// Work items that are looked at side by side; all that their folders have is in memory then.
const ITEMS: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorklistError {
    #[error("there is no plan")]
    NoPlan,
    #[error("there is no run `{run}`")]
    NoRun { run: String, known: Vec<String> },
    #[error("`{path}` is damaged")]
    Broken { path: String, source: serde_json::Error },
    #[error("`{path}` was written by a newer release (format {version}, this one knows {VERSION})")]
    Newer { path: String, version: u32 },
    #[error("the folder of run {run} is gone, or not whole any more")]
    Gone { run: String },
    #[error("`{path}` is cut off")]
    CutOff { path: String },
    #[error("there is no work item {index}: the run has {count}, from 0")]
    OutOfRange { index: ItemIndex, count: usize },
    #[error("there is no work item `{name}`")]
    NoItem { name: String, misses: Option<String> },
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl From<WorklistError> for Diagnostic {
    fn from(error: WorklistError) -> Self {
        let message = error.to_string();
        match error {
            WorklistError::NoPlan => Diagnostic::project(message).hint("run `dvc-fanout plan` first"),
            WorklistError::NoRun { known, .. } => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Diagnostic::usage(message).cause(format!("known runs: {known}"))
            }
            WorklistError::Broken { path, source } => {
                Diagnostic::project(message).at(Place::file(path)).source(&source).hint("run `dvc-fanout plan` again")
            }
            WorklistError::Gone { .. } => Diagnostic::project(message)
                .cause("something removed it from `.dvc/fanout/runs`, as `git clean -fdX` does")
                .hint("run `dvc-fanout run` again: what stages have left in DVC's run cache is restored from there"),
            WorklistError::CutOff { .. } => Diagnostic::project(message).hint("run `dvc-fanout plan` again"),
            WorklistError::Newer { .. } => Diagnostic::project(message).hint("use that release, or plan again"),
            WorklistError::OutOfRange { .. } => Diagnostic::usage(message),
            WorklistError::NoItem { misses, .. } => misses
                .into_iter()
                .fold(Diagnostic::usage(message), Diagnostic::hint)
                .hint("`dvc-fanout status --all` lists ids and indexes"),
            WorklistError::Fs(error) => error.into(),
        }
    }
}

/// Writes a plan; the run exists from the moment `plan.json` does.
pub(crate) fn write(run: &RunDir, plan: &Plan, items: &[WorkItem]) -> Result<(), FsError> {
    let (mut index, mut offset) = (String::new(), 0);
    fs::write_by(&run.worklist(), |file| {
        let mut line = Vec::new();
        for item in items {
            index.push_str(&format!("{offset:0OFFSET_DIGITS$}\n"));
            line.clear();
            serde_json::to_writer(&mut line, item).expect("a work item is plain data");
            line.push(b'\n');
            offset += line.len();
            file.write_all(&line)?;
        }
        Ok(())
    })?;
    fs::write(&run.worklist_index(), index.as_bytes())?;
    fs::write(&run.plan(), &serde_json::to_vec_pretty(plan).expect("a plan is plain data"))
}

/// Removes a run's folder; the plan goes first, since what is left of a run without one is no run.
pub(crate) fn remove(run: &RunDir) -> Result<(), FsError> {
    fs::remove(&run.plan())?;
    fs::remove(run.path())
}

/// The ids of all runs, the oldest first.
pub(crate) fn runs(fanout: &FanoutDir) -> Result<Vec<String>, FsError> {
    Ok(fs::names(&fanout.runs())?.into_iter().filter(|run| fanout.run(run).plan().is_file()).collect())
}

/// Opens a run, the latest where none is named.
pub(crate) fn open(fanout: &FanoutDir, run: Option<&str>) -> Result<(RunDir, Plan), WorklistError> {
    let known = runs(fanout)?;
    let name = match run {
        Some(run) if known.iter().any(|other| other == run) => run,
        Some(run) => return Err(WorklistError::NoRun { run: run.to_owned(), known }),
        None => known.last().ok_or(WorklistError::NoPlan)?,
    };
    let run = fanout.run(name);
    let path = run.plan();
    let bytes = fs::read(&path)?;
    let broken = |source| WorklistError::Broken { path: path.display().to_string(), source };
    let version = serde_json::from_slice::<Versioned>(&bytes).map_err(broken)?.version;
    if version > VERSION {
        return Err(WorklistError::Newer { path: path.display().to_string(), version });
    }
    let plan = serde_json::from_slice(&bytes).map_err(broken)?;
    Ok((run, plan))
}

/// Opens a run to look at: the latest that has work items, where none is named and there is such a one.
pub(crate) fn open_to_show(fanout: &FanoutDir, run: Option<&str>) -> Result<(RunDir, Plan), WorklistError> {
    let latest = open(fanout, run)?;
    if run.is_some() || latest.1.work_items > 0 {
        return Ok(latest);
    }
    let mut earlier = runs(fanout)?.into_iter().rev().filter_map(|name| open(fanout, Some(&name)).ok());
    Ok(earlier.find(|(_, plan)| plan.work_items > 0).unwrap_or(latest))
}

/// Removes the run before one, if there was nothing to do in it: of such plans only the last stays, for who types the
/// other commands after it.
pub(crate) fn remove_empty_before(fanout: &FanoutDir, run: &str) -> Result<(), WorklistError> {
    let known = runs(fanout)?;
    let before = known.iter().rev().find(|name| name.as_str() < run);
    if let Some(before) = before
        && let Ok((before, plan)) = open(fanout, Some(before))
        && plan.work_items == 0
    {
        remove(&before)?;
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads one work item by its offset.
pub(crate) fn read_one(run: &RunDir, plan: &Plan, index: ItemIndex) -> Result<WorkItem, WorklistError> {
    if !plan.has(index) {
        return Err(WorklistError::OutOfRange { index, count: plan.work_items });
    }
    let offset = offset(run, index)?.unwrap_or(u64::MAX);
    let path = run.worklist();
    let mut worklist = File::open(&path).at("read", &path)?;
    worklist.seek(SeekFrom::Start(offset)).at("read", &path)?;
    let mut line = String::new();
    BufReader::new(worklist).read_line(&mut line).at("read", &path)?;
    serde_json::from_str(&line).map_err(|source| WorklistError::Broken { path: path.display().to_string(), source })
}

/// The bytes of the worklist that hold a work item; `None` for the last one, which goes to the end.
pub(crate) fn range(
    run: &RunDir,
    plan: &Plan,
    index: ItemIndex,
) -> Result<Option<std::ops::Range<u64>>, WorklistError> {
    if !plan.has(index) {
        return Err(WorklistError::OutOfRange { index, count: plan.work_items });
    }
    let next = ItemIndex::new(index.get() + 1);
    if !plan.has(next) {
        return Ok(None);
    }
    let known = |index| offset(run, index)?.ok_or_else(|| cut_off(&run.worklist_index()));
    Ok(Some(known(index)?..known(next)?))
}

/// Bytes that a worklist has at least: those before its last line.
pub(crate) fn size_at_least(run: &RunDir, plan: &Plan) -> Result<u64, WorklistError> {
    offset(run, ItemIndex::new(plan.work_items.saturating_sub(1)))?.ok_or_else(|| cut_off(&run.worklist_index()))
}

/// Where a line of the worklist begins; `None` where the index does not say a number.
fn offset(run: &RunDir, index: ItemIndex) -> Result<Option<u64>, WorklistError> {
    let path = run.worklist_index();
    let mut offsets = File::open(&path).at("read", &path)?;
    let mut digits = [0; OFFSET_DIGITS];
    offsets.seek(SeekFrom::Start((index.get() * (OFFSET_DIGITS + 1)) as u64)).at("read", &path)?;
    offsets.read_exact(&mut digits).at("read", &path)?;
    Ok(std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok()))
}

fn cut_off(path: &Path) -> WorklistError {
    WorklistError::CutOff { path: path.display().to_string() }
}

/// Looks up a work item by its id, its index or the address of one of its stages.
pub(crate) fn find<'i>(items: &'i [WorkItem], name: &str) -> Result<&'i WorkItem, WorklistError> {
    let by_id = items.iter().find(|item| item.id == name);
    let by_index = || items.get(name.parse::<ItemIndex>().ok()?.get());
    let by_stage = || items.iter().find(|item| item.stages.iter().any(|stage| stage.address == name));
    by_id.or_else(by_index).or_else(by_stage).ok_or_else(|| {
        let ids = suggest::misses(name, items.iter().map(|item| item.id.as_str()));
        WorklistError::NoItem { name: name.to_owned(), misses: suggest::hint(&ids) }
    })
}

/// Looks up the work items that a word names: one by its id or its index, or all whose ids match it as a pattern, in
/// which `*` stands for anything, `?` for one character, `[ab]` for either and `{a,b}` for either.
pub(crate) fn find_all<'i>(items: &'i [WorkItem], name: &str) -> Result<Vec<&'i WorkItem>, WorklistError> {
    find(items, name).map(|item| vec![item]).or_else(|error| {
        let Ok(pattern) = Glob::new(name) else { return Err(error) };
        let pattern = pattern.compile_matcher();
        let matching: Vec<_> = items.iter().filter(|item| pattern.is_match(&item.id)).collect();
        if matching.is_empty() { Err(error) } else { Ok(matching) }
    })
}

/// Reads all work items, in index order.
pub(crate) fn read_all(run: &RunDir) -> Result<Vec<WorkItem>, WorklistError> {
    each(run)?.collect()
}

/// Reads all work items with what a launch needs to know of them: who they are, what they need, what they ask for.
///
/// What their stages are is left out, which is most of each: a launcher lives as long as the run.
pub(crate) fn read_briefly(run: &RunDir) -> Result<Vec<WorkItem>, WorklistError> {
    let without = |item| WorkItem { stages: vec![], files: vec![], directories: vec![], ..item };
    each(run)?.map(|item| item.map(without)).collect()
}

/// Reads what stages are restored from, of all work items.
pub(crate) fn read_restored(run: &RunDir) -> Result<Vec<RestoredFrom>, WorklistError> {
    let mut all = vec![];
    for item in each(run)? {
        all.extend(item?.stages.into_iter().filter_map(|stage| stage.from));
    }
    Ok(all)
}

/// Reads all work items with what there is to know for their results to be collected: what workers begin with is left out.
pub(crate) fn read_to_collect(run: &RunDir) -> Result<Vec<WorkItem>, WorklistError> {
    let without = |mut item: WorkItem| {
        let stages = &item.stages;
        item.files.retain(|file| stages.iter().any(|stage| stage.name.is_none() && stage.file == file.path));
        item.files.shrink_to_fit();
        WorkItem { inputs: vec![], datasets: vec![], directories: vec![], ..item }
    };
    each(run)?.map(|item| item.map(without)).collect()
}

/// Reads one work item after another, in index order.
pub(crate) fn each(run: &RunDir) -> Result<Each, WorklistError> {
    let (path, index) = (run.worklist(), run.worklist_index());
    let size = fs::exists(&index).then(|| index.metadata().map(|metadata| metadata.len())).transpose();
    // Runs of long ago may have none.
    let expected = size.at("look at", &index)?.map(|size| size.div_ceil(OFFSET_DIGITS as u64 + 1));
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(WorklistError::Gone { run: run.name().to_owned() });
        }
        opened => opened.at("read", &path)?,
    };
    Ok(Each { path, expected, count: 0, lines: BufReader::with_capacity(BLOCK, file), has_ended: false })
}

/// The work items of a worklist; the last is an error where there should be more.
pub(crate) struct Each {
    path: PathBuf,
    /// How many there should be, where that is known.
    expected: Option<u64>,
    /// How many there were so far.
    count: u64,
    lines: BufReader<File>,
    has_ended: bool,
}

impl Each {
    /// The next work items, to be looked at side by side; none at the end.
    pub(crate) fn block(&mut self) -> Result<Vec<WorkItem>, WorklistError> {
        self.take(ITEMS).collect()
    }

    fn read(&mut self) -> Result<Option<WorkItem>, WorklistError> {
        let mut line = vec![];
        let has_more = self.lines.read_until(b'\n', &mut line).at("read", &self.path)? > 0;
        self.count += u64::from(has_more);
        let is_cut = self.expected.is_some_and(|expected| expected != self.count);
        if !has_more {
            return if is_cut { Err(cut_off(&self.path)) } else { Ok(None) };
        }
        let item: Result<WorkItem, _> = serde_json::from_slice(&line);
        let is_cut = is_cut && !line.ends_with(b"\n");
        let broken = |source| WorklistError::Broken { path: self.path.display().to_string(), source };
        let mut item = item.map_err(|source| if is_cut { cut_off(&self.path) } else { broken(source) })?;
        item.shrink();
        Ok(Some(item))
    }
}

impl Iterator for Each {
    type Item = Result<WorkItem, WorklistError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let item = self.read().transpose();
        self.has_ended = !matches!(item, Some(Ok(_)));
        item
    }
}
