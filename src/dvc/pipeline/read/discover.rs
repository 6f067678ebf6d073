//! The walk for stage files: which ones, and in which order.
//!
//! As in `collect_files` of `dvc/repo/index.py`, DVC 3.67: top-down, not through links, the files of a directory before
//! its subdirectories. A directory that is an output of a stage already read is not entered. DVC takes names as the
//! system lists them, here they are sorted.

use std::collections::HashSet;

use crate::dvc::pipeline::env::Env;
use crate::dvc::pipeline::error::{Fault, LoadError, Problem};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::source::FileKind;

/// Calls `read` with each stage file; it returns the outputs of its stages, paths of the model.
pub(super) fn walk(
    env: &Env<'_>,
    mut read: impl FnMut(&str) -> Result<Vec<String>, LoadError>,
) -> Result<(), LoadError> {
    let mut outputs: HashSet<String> = HashSet::new();
    let mut waiting = vec![String::new()];
    while let Some(directory) = waiting.pop() {
        let (directories, files) = list(env, &directory)?;
        for file in files {
            outputs.extend(read(&file)?);
        }
        for path in directories.into_iter().rev() {
            if !outputs.contains(&path) && !is_git_ignored(env, &path, true)? {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

/// Returns the subdirectories and the stage files of a directory, without what DVC does not see.
fn list(env: &Env<'_>, directory: &str) -> Result<(Vec<String>, Vec<String>), LoadError> {
    let unreadable = |error| Fault::new(Problem::Read(error)).in_file(directory, b"");
    let entries = match env.files.list(directory) {
        Ok(entries) => entries,
        // DVC passes over directories that it may not read.
        Err(_) if !directory.is_empty() => return Ok((vec![], vec![])),
        Err(error) => return Err(unreadable(error)),
    };
    env.ignore.enter(directory).map_err(|error| Fault::new(Problem::Ignore(error)).in_file(directory, b""))?;
    let join = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    let (mut names, mut files) = (vec![], vec![]);
    for entry in entries {
        let path = join(&entry.name);
        if entry.is_dir {
            names.push(entry.name);
        } else if path::is_stage_file(&path) {
            let leads_to_directory = entry.is_symlink && env.files.kind(&path) == Some(FileKind::Directory);
            if !leads_to_directory && !is_ignored(env, &path, false)? && !is_git_ignored(env, &path, false)? {
                files.push(path);
            }
        }
    }
    let foreign = env.ignore.subprojects(directory, &names);
    let foreign = foreign.map_err(|error| Fault::new(Problem::Ignore(error)).in_file(directory, b""))?;
    let mut directories = vec![];
    for (name, is_foreign) in names.iter().zip(foreign) {
        let path = join(name);
        if !is_foreign && !is_ignored(env, &path, true)? {
            directories.push(path);
        }
    }
    Ok((directories, files))
}

fn is_ignored(env: &Env<'_>, path: &str, is_dir: bool) -> Result<bool, LoadError> {
    let rule = env.ignore.ignored_by(path, is_dir);
    rule.map(|rule| rule.is_some()).map_err(|error| Fault::new(Problem::Ignore(error)).in_file(path, b""))
}

fn is_git_ignored(env: &Env<'_>, path: &str, is_dir: bool) -> Result<bool, LoadError> {
    env.files.is_git_ignored(path, is_dir).map_err(|error| Fault::new(Problem::Read(error)).in_file(path, b""))
}
