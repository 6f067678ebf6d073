//! The lock file beside a `dvc.yaml`: DVC reads no stage while it is not in order.

use std::sync::Arc;

use rayon::prelude::*;

use super::schema;
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::env::Env;
use crate::dvc::pipeline::error::{Fault, LoadError, Problem, StageProblem};
use crate::dvc::pipeline::path::lock_path;
use crate::dvc::pipeline::project::LockEntries;
use crate::dvc::pipeline::source::FileKind;
use crate::dvc::pipeline::stage::Stage;
use crate::dvc::value::Value;
use crate::dvc::yaml::{Node, NodeValue};

/// What the lock file of a `dvc.yaml` is found to be.
pub(super) enum Found {
    Nothing,
    /// All of it is as DVC writes it.
    Entries(LockEntries),
    Unusual(UnusualLock),
}

/// A lock file that is in order, but not one as DVC writes it.
pub(super) struct UnusualLock {
    path: String,
    text: Vec<u8>,
    node: Node,
}

/// Reads and checks the lock file of a `dvc.yaml`.
pub(super) fn check(env: &Env<'_>, pipeline: &str) -> Result<Found, LoadError> {
    let path = lock_path(pipeline);
    let is_git_ignored = env.files.is_git_ignored(&path, false);
    if is_git_ignored.map_err(|error| Fault::new(Problem::Read(error)).in_file(&path, b""))? {
        return Err(Fault::new(Problem::GitIgnored).in_file(&path, b""));
    }
    let ignored = env.ignore.ignored_by(&path, false);
    let ignored = ignored.map_err(|error| Fault::new(Problem::Ignore(error)).in_file(&path, b""))?;
    match env.files.kind(&path) {
        None => return Ok(Found::Nothing),
        Some(_) if ignored.is_some() => return Ok(Found::Nothing),
        Some(FileKind::File) => {}
        Some(FileKind::Directory | FileKind::Other) => return Err(Fault::new(Problem::NotRegular).in_file(&path, b"")),
    }
    let text = env.files.read(&path).map_err(|error| Fault::new(Problem::Read(error)).in_file(&path, b""))?;
    if let Some(entries) = std::str::from_utf8(&text).ok().and_then(usual) {
        return Ok(Found::Entries(entries));
    }
    let (node, text) = env.read_yaml(&path)?;
    match schema::check_lock(&node) {
        Ok(()) => Ok(Found::Unusual(UnusualLock { path, text, node })),
        Err(error) => Err(Fault::new(Problem::Schema(error)).in_file(&path, &text)),
    }
}

/// The entries of a lock file as DVC writes it, which is found out much faster than by the schema.
fn usual(text: &str) -> Option<LockEntries> {
    let lock = Lockfile::parse(text).ok()?;
    let read = |name: &&str| {
        let entry = lock.entry(name)?.parse().ok()?;
        let is_usual = entry
            .deps
            .iter()
            .chain(&entry.outs)
            .all(|item| !item.recorded.is_remote && item.recorded.md5.as_ref().is_none_or(|md5| md5.len() >= 32));
        is_usual.then(|| ((*name).to_owned(), Arc::new(entry)))
    };
    let names: Vec<&str> = lock.names().collect();
    // Where there is no entry, `stages:` may be empty, which DVC refuses.
    if !text.starts_with("schema:") || names.is_empty() {
        return None;
    }
    let entries = names.par_iter().map(read).collect::<Option<Vec<_>>>()?;
    Some(entries.into_iter().collect())
}

impl UnusualLock {
    /// The schema lets digests be numbers, and then DVC crashes when a stage has the dep or out.
    pub(super) fn check_digests(&self, stages: &[Stage]) -> Result<(), LoadError> {
        let Some(entries) = self.node.get("stages").map(|entry| &entry.node) else { return Ok(()) };
        for stage in stages {
            let Some(entry) = stage.name.as_deref().and_then(|name| entries.get(name)) else { continue };
            let deps: Vec<&str> = stage.deps.iter().map(|dep| dep.path.as_str()).collect();
            let outs: Vec<&str> = stage.outs.iter().map(|out| out.path.as_str()).collect();
            for (section, known) in [("deps", deps), ("outs", outs)] {
                let items = entry.node.get(section).and_then(|entry| entry.node.as_list()).unwrap_or_default();
                if let Some(item) = items.iter().find(|item| has_numeric_digest(item, &known)) {
                    let fault = Fault::at(item.position, Problem::Stage(StageProblem::NoText { key: "md5" }));
                    return Err(fault.in_file(&self.path, &self.text));
                }
            }
        }
        Ok(())
    }
}

fn has_numeric_digest(item: &Node, known: &[&str]) -> bool {
    let scalar = |key: &str| match item.get(key).map(|entry| &entry.node.value) {
        Some(NodeValue::Scalar(value)) => Some(value),
        _ => None,
    };
    scalar("path").and_then(Value::as_str).is_some_and(|path| known.contains(&path))
        && scalar("md5").is_some_and(|md5| md5.as_str().is_none() && !md5.is_false())
        && scalar("nfiles").is_none_or(Value::is_false)
}
