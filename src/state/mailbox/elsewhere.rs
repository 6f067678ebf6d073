//! A run in a clone of the project that did not plan it: brought there once, and what others put in since at each look.
//!
//! Whoever may write to the store says what is in it. So a plan is only taken that is whole and for this project, and what
//! it names stays inside of it; results are vetted as everywhere.

use super::Mailbox;
use crate::adapters::bucket::Listed;
use crate::adapters::git::Store;
use crate::adapters::{fs, process};
use crate::diagnostic::Diagnostic;
use crate::model::numbers::ItemIndex;
use crate::model::result_path;
use crate::state::format::{Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::paths::{FanoutDir, RunDir};
use crate::state::{run_lock, worklist};

/// Bytes of a list of a job's work items, and of a journal, that are brought at most.
const MAX_LIST: u64 = 64 << 20;
const MAX_JOURNAL: u64 = 256 << 20;
/// Bytes of what a worker says that could not begin.
const MAX_SAID: u64 = 64 << 10;
/// Bytes that a launcher says of itself.
const MAX_LAUNCHER: u64 = 4096;
/// The object in which it does.
pub(super) const LAUNCHER: &str = "launcher";

impl Mailbox {
    /// Brings a run that a clone does not have; it is there whole or not at all.
    pub(crate) fn bring_run(&self, project: &ProjectHome) -> Result<(), Diagnostic> {
        if !is_name(&self.run) || self.bucket.find(&self.key("plan.json"))?.is_none() {
            return Err(self.no_run());
        }
        let fanout = project.make_fanout()?;
        fs::create_dir(&fanout.runs())?;
        let folder = fs::temporary_dir(&fanout.runs())?;
        let making = FanoutDir::of(folder.path());
        let made = making.run(&self.run);
        fs::create_dir(made.path())?;
        for name in ["worklist.index", "worklist.jsonl", "plan.json"] {
            self.bring(name, &made.path().join(name))?;
        }
        let (_, plan) = worklist::open(&making, Some(&self.run))?;
        let refused = |why: String| {
            Diagnostic::project(format!("the run `{}` in `{}` is not for this project", self.run, self.url()))
                .cause(why)
        };
        let (items, (_, prefix)) = (worklist::read_all(&made)?, project.git()?);
        fits(&plan, &self.run, &prefix).and_then(|()| are_sound(&plan, &items)).map_err(refused)?;
        let pack = folder.path().join("snapshot.pack");
        self.bring("snapshot.pack", &pack)?;
        Store::unpack(&pack, None, made.path(), &made.snapshot())?;
        fs::write(&made.store(), format!("{}\n", self.url()).as_bytes())?;
        // Workers leave outs in the remote.
        fs::write(&made.remote(), b"")?;
        fs::write(&made.brought_here(), b"")?;
        let place = fanout.run(&self.run);
        if !place.plan().is_file() {
            fs::remove(place.path())?;
        }
        match fs::rename(made.path(), place.path()) {
            // Somebody else was faster.
            Err(_) if place.plan().is_file() => Ok(()),
            moved => Ok(moved?),
        }
    }

    /// Brings of a listing what others wrote down of a run beside its results.
    pub(super) fn bring_notes(&self, run: &RunDir, listed: &[Listed]) -> Result<(), Diagnostic> {
        let own = clone_of(run);
        for object in listed {
            let Some(name) = object.key.strip_prefix(&self.run).and_then(|key| key.strip_prefix('/')) else { continue };
            let (folder, name) = name.split_once('/').unwrap_or(("", name));
            let (stem, _) = name.split_once('.').unwrap_or((name, ""));
            if !is_name(stem) || object.size == 0 {
                continue;
            }
            match (folder, name.strip_prefix(stem)) {
                ("jobs", Some(".json")) if !fs::exists(&run.job(stem)) && object.size <= MAX_LIST => {
                    self.bucket.get_to(&object.key, &run.job(stem), MAX_LIST)?;
                }
                ("jobs", Some(".out")) if object.size <= MAX_SAID => {
                    let said = run.job_output(stem);
                    if fs::size(&said) != object.size {
                        self.bucket.get_to(&object.key, &said, MAX_SAID)?;
                    }
                }
                ("journals", Some(".jsonl")) if stem != own && object.size <= MAX_JOURNAL => {
                    let journal = run.journals().join(name);
                    if fs::size(&journal) < object.size {
                        self.bucket.get_to(&object.key, &journal, MAX_JOURNAL)?;
                    }
                }
                _ => {}
            }
        }
        self.note_launcher(run, listed.iter().find(|object| object.key == self.key(LAUNCHER)))
    }

    /// Looks who launches a run in another clone, and notes it.
    pub(crate) fn look_for_launcher(&self, run: &RunDir) -> Result<(), Diagnostic> {
        self.note_launcher(run, self.bucket.find(&self.key(LAUNCHER))?.as_ref())
    }

    fn note_launcher(&self, run: &RunDir, found: Option<&Listed>) -> Result<(), Diagnostic> {
        let text = match found.filter(|found| found.size > 0 && found.age < run_lock::PULSE.limit) {
            Some(found) => self.bucket.get(&found.key, MAX_LAUNCHER)?,
            None => None,
        };
        let own = fs::read_text_if_any(&run.launch_claim())?;
        match text.filter(|text| own.is_none_or(|own| own.as_bytes() != text)) {
            Some(text) => Ok(fs::write(&run.launch_elsewhere(), &text)?),
            None => Ok(fs::remove(&run.launch_elsewhere())?),
        }
    }

    /// Asks whoever launches the run, and its workers, to end.
    pub(crate) fn ask_to_end(&self) -> Result<(), Diagnostic> {
        self.mark("cancel", b"end")
    }

    /// Whether somebody asked for that.
    pub(super) fn is_asked_to_end(&self) -> Result<bool, Diagnostic> {
        self.is_marked("cancel")
    }

    /// Forgets that somebody asked for that: a launch begins.
    pub(crate) fn forget_request(&self) -> Result<(), Diagnostic> {
        self.unmark("cancel")
    }

    /// Puts in an object that says something by being there; it is taken back by being empty, since nobody needs the right
    /// to delete.
    pub(super) fn mark(&self, name: &str, text: &[u8]) -> Result<(), Diagnostic> {
        Ok(self.bucket.put(&self.key(name), text.to_vec())?)
    }

    pub(super) fn is_marked(&self, name: &str) -> Result<bool, Diagnostic> {
        Ok(self.bucket.find(&self.key(name))?.is_some_and(|found| found.size > 0))
    }

    pub(super) fn unmark(&self, name: &str) -> Result<(), Diagnostic> {
        if self.is_marked(name)? { self.mark(name, b"") } else { Ok(()) }
    }

    /// Puts in what this clone wrote down of the run.
    pub(crate) fn send_journal(&self, run: &RunDir) -> Result<(), Diagnostic> {
        if !fs::exists(&run.events()) {
            return Ok(());
        }
        let key = self.key(&format!("journals/{}.jsonl", clone_of(run)));
        Ok(self.bucket.put_files(&key, &[run.events()])?)
    }
}

/// Stands for a clone of the project on a machine, and for no other one.
fn clone_of(run: &RunDir) -> String {
    let place = format!("{} {}", process::host(), run.path().display());
    fs::digest_bytes(place.as_bytes()).chars().take(16).collect()
}

/// Whether a text can be the name of a run, a job or a clone.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a plan is that of a run of the project in this folder of its repository.
fn fits(plan: &Plan, run: &str, prefix: &str) -> Result<(), String> {
    if plan.run != run {
        return Err(format!("its plan is that of run `{}`", plan.run));
    }
    if plan.prefix == prefix {
        return Ok(());
    }
    let named = |prefix: &str| if prefix.is_empty() { "the top".to_owned() } else { format!("`{prefix}`") };
    Err(format!("it is of a project at {} of its repository, this one is at {}", named(&plan.prefix), named(prefix)))
}

/// Whether work items are those that a plan counts, with paths inside the project.
fn are_sound(plan: &Plan, items: &[WorkItem]) -> Result<(), String> {
    let counted: usize = plan.phases.iter().map(|phase| phase.count).sum();
    let are_in_order =
        items.iter().enumerate().all(|(at, item)| item.index == ItemIndex::new(at) && item.phase < plan.phases.len());
    if items.len() != plan.work_items || counted != plan.work_items || !are_in_order {
        return Err("its work items are not those that its plan counts".to_owned());
    }
    let stages = || items.iter().flat_map(|item| &item.stages);
    let outs = stages().flat_map(|stage| &stage.outs).map(|out| &out.resolved);
    let wrong = stages().map(|stage| &stage.file).chain(outs).find_map(|path| {
        let fault = result_path::check_declared(path).err()?;
        Some(format!("path `{path}` is refused: {fault}"))
    });
    wrong.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere() {
        for name in ["20261127-003010-8f3a", "dvc-fanout-x-p0"] {
            assert!(is_name(name));
        }
        for name in ["", "..", "a/b", "a.b", "a b", "é"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
