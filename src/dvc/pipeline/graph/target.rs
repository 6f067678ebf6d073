//! What a target on the command line means: stages of a file, a group, one stage, everything below a folder.
//!
//! As in `parse_target` of `dvc/utils/__init__.py` and `StageLoad.collect` of `dvc/repo/stage.py`, DVC 3.67.

use thiserror::Error;

use super::{Graph, Reach};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::project::{Project, StageFile};
use crate::dvc::pipeline::source::{FileKind, ProjectFiles};
use crate::dvc::pipeline::stage::Stage;
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::dvc::python_text;
use crate::dvc::suggest;

/// The flags of `dvc repro` that say which stages are meant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TargetOptions {
    /// Names are patterns.
    pub glob: bool,
    /// A target may be a folder: all stages of files in it.
    pub recursive: bool,
    /// The whole pipelines of the targets.
    pub pipeline: bool,
    /// Everything; targets do not count.
    pub all_pipelines: bool,
    /// Only the targets, without what they need.
    pub single_item: bool,
    /// The targets and what needs them.
    pub downstream: bool,
}

#[derive(Debug, Error)]
pub(crate) enum TargetError {
    #[error("`{file}` does not exist")]
    NoFile { file: String, hint: Option<String> },
    #[error("`{file}` is {by}-ignored")]
    Ignored { file: String, by: &'static str },
    #[error("`{file}` is not a stage file: those are named `dvc.yaml` or end in `.dvc`")]
    BadName { file: String },
    #[error("`{file}` is a lock file")]
    LockFile { file: String, meant: String },
    #[error("there is no stage `{name}` in `{file}`")]
    NoStage { name: String, file: String, hint: Option<String> },
}

impl TargetError {
    fn hint(&self) -> Option<String> {
        match self {
            TargetError::NoFile { hint, .. } | TargetError::NoStage { hint, .. } => hint.clone(),
            TargetError::LockFile { meant, .. } => Some(format!("did you mean `{meant}`?")),
            TargetError::BadName { .. } | TargetError::Ignored { .. } => None,
        }
    }
}

impl From<TargetError> for Diagnostic {
    fn from(error: TargetError) -> Self {
        let diagnostic = Diagnostic::usage(error.to_string());
        match error.hint() {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    }
}

/// Returns the stages that `dvc repro TARGETS` visits, in its order; without targets those of the `dvc.yaml` in `cwd`.
///
/// As in DVC, a selection that turns out empty (a pattern without a match, a group without keys, with `recursive` a folder
/// without stages) means the whole project, except with `single_item`.
pub(crate) fn select(
    project: &Project,
    files: &dyn ProjectFiles,
    graph: &Graph,
    cwd: &str,
    targets: &[String],
    options: TargetOptions,
) -> Result<Vec<StageIndex>, TargetError> {
    if options.all_pipelines {
        return Ok(graph.order());
    }
    let default = ["dvc.yaml".to_owned()];
    let targets = if targets.is_empty() { &default } else { targets };
    let named = name(project, files, graph, cwd, targets, options)?;
    if options.pipeline {
        Ok(graph.order_from(&named, Reach::Pipeline))
    } else if options.single_item {
        Ok(named)
    } else if options.downstream {
        Ok(graph.order_from(&named, Reach::Downstream))
    } else {
        Ok(graph.order_from(&named, Reach::Upstream))
    }
}

/// Returns the stages that the targets name, once each, without what they need.
pub(crate) fn name(
    project: &Project,
    files: &dyn ProjectFiles,
    graph: &Graph,
    cwd: &str,
    targets: &[String],
    options: TargetOptions,
) -> Result<Vec<StageIndex>, TargetError> {
    let mut named = vec![];
    let mut seen = project.stages.filled(false);
    for target in targets {
        for stage in name_one(project, files, graph, cwd, target, options)? {
            if !std::mem::replace(&mut seen[stage], true) {
                named.push(stage);
            }
        }
    }
    Ok(named)
}

/// The stages that a target names for DVC, else those of the pipeline in the folder that it is.
fn name_one(
    project: &Project,
    files: &dyn ProjectFiles,
    graph: &Graph,
    cwd: &str,
    target: &str,
    options: TargetOptions,
) -> Result<Vec<StageIndex>, TargetError> {
    match name_for_dvc(project, files, graph, cwd, target, options) {
        Err(error @ (TargetError::NoFile { .. } | TargetError::NoStage { .. })) if !options.glob => {
            let file = path::resolve(&project.root, cwd, &format!("{target}/dvc.yaml"));
            let file = project.files.iter().find(|other| other.path == file).ok_or(error)?;
            Ok(stages_of(project, file))
        }
        named => named,
    }
}

/// The stages of a file, but for those that a later definition has replaced.
fn stages_of(project: &Project, file: &StageFile) -> Vec<StageIndex> {
    StageIndex::each(file.stages.clone()).filter(|stage| !project.repeated.contains(stage)).collect()
}

fn name_for_dvc(
    project: &Project,
    files: &dyn ProjectFiles,
    graph: &Graph,
    cwd: &str,
    target: &str,
    options: TargetOptions,
) -> Result<Vec<StageIndex>, TargetError> {
    if target.is_empty() {
        return Ok(project.stages.indexes().collect());
    }
    let resolved = path::resolve(&project.root, cwd, target);
    if options.recursive && files.kind(&resolved) == Some(FileKind::Directory) {
        let below = |&stage: &StageIndex| path::is_within(&project.stages[stage].file, &resolved);
        return Ok(graph.order().into_iter().filter(below).collect());
    }
    let parsed = if options.glob { parse_pattern(target) } else { parse(target)? };
    let written = parsed.file.unwrap_or("dvc.yaml");
    let path = path::resolve(&project.root, cwd, written);
    let file = project.files.iter().find(|file| file.path == path).ok_or_else(|| {
        let extension = path::file_name(written).rsplit_once('.').map(|(_, extension)| extension);
        if !path::is_stage_file(written) && matches!(extension, Some("yaml" | "yml")) {
            return TargetError::BadName { file: written.to_owned() };
        }
        if files.kind(&path) == Some(FileKind::File) && path::is_stage_file(written) {
            let by = if files.is_git_ignored(&path, false).unwrap_or(false) { "git" } else { "dvc" };
            return TargetError::Ignored { file: written.to_owned(), by };
        }
        no_file(project, cwd, written, target)
    })?;
    let all = || stages_of(project, file);
    let name = match parsed.name {
        Some(name) if !name.is_empty() && !path::is_dvc_file(&file.path) => name,
        _ => return Ok(all()),
    };
    let has_name =
        |stage: StageIndex, accepts: &dyn Fn(&str) -> bool| project.stages[stage].name.as_deref().is_some_and(accepts);
    if file.groups.iter().any(|group| group.name == name) {
        let prefix = format!("{name}@");
        return Ok(all().into_iter().filter(|&stage| has_name(stage, &|name| name.starts_with(&prefix))).collect());
    }
    if options.glob {
        return Ok(all()
            .into_iter()
            .filter(|&stage| has_name(stage, &|other| python_text::fnmatch(other, &name)))
            .collect());
    }
    match all().into_iter().find(|&stage| has_name(stage, &|other| other == name)) {
        Some(stage) => Ok(vec![stage]),
        None => Err(no_stage(project, cwd, file, &name)),
    }
}

/// A target's parts, as DVC takes it apart.
struct Parsed<'t> {
    file: Option<&'t str>,
    name: Option<String>,
}

/// Cuts at the first `@`; before it, the last `:` separates the file from the name, unless a slash follows.
fn parse(target: &str) -> Result<Parsed<'_>, TargetError> {
    let (group, key) = target.split_once('@').unwrap_or((target, ""));
    let (path, name) = match group.rsplit_once(':') {
        Some((path, name)) if !name.contains(['/', '\\']) => (path, Some(name)),
        _ => (group, None),
    };
    if !path.is_empty() && path::file_name(path) == "dvc.lock" {
        let meant = target.replacen(".lock", ".yaml", 1);
        return Err(TargetError::LockFile { file: target.to_owned(), meant });
    }
    match name {
        Some(name) if !name.is_empty() => {
            let name = if key.is_empty() { name.to_owned() } else { format!("{name}@{key}") };
            Ok(Parsed { file: (!path.is_empty()).then_some(path), name: Some(name) })
        }
        _ if path.is_empty() => Ok(Parsed { file: None, name: None }),
        _ if path::is_stage_file(target) => Ok(Parsed { file: Some(target), name: None }),
        _ => Ok(Parsed { file: None, name: Some(target.to_owned()) }),
    }
}

fn parse_pattern(target: &str) -> Parsed<'_> {
    let (path, pattern) = target.rsplit_once(':').unwrap_or(("", target));
    Parsed { file: (!path.is_empty()).then_some(path), name: Some(pattern.to_owned()) }
}

fn no_file(project: &Project, cwd: &str, written: &str, target: &str) -> TargetError {
    let files: Vec<String> = project.files.iter().map(|file| path::relative(&project.root, cwd, &file.path)).collect();
    let misses = suggest::misses(written, files.iter().map(String::as_str));
    let elsewhere = || {
        let stages = project.stages.iter().filter(|stage| stage.name.as_deref() == Some(target));
        let addresses: Vec<String> = stages.map(|stage| stage.address_from(&project.root, cwd)).take(3).collect();
        suggest::hint(&addresses.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let everything = || {
        let hint = "`-P` takes all pipelines of the project; a folder or `PATH/dvc.yaml` is one of them";
        (!project.files.is_empty()).then(|| hint.to_owned())
    };
    TargetError::NoFile {
        file: written.to_owned(),
        hint: suggest::hint(&misses).or_else(elsewhere).or_else(everything),
    }
}

fn no_stage(project: &Project, cwd: &str, file: &StageFile, name: &str) -> TargetError {
    let names = StageIndex::each(file.stages.clone()).filter_map(|stage| project.stages[stage].name.as_deref());
    let known = file.groups.iter().map(|group| group.name.as_str()).chain(names);
    let mut misses: Vec<String> = suggest::misses(name, known).into_iter().map(str::to_owned).collect();
    if misses.is_empty() {
        let elsewhere = project.stages.iter().filter(|stage| stage.name.as_deref() == Some(name));
        misses = elsewhere.map(|stage| stage.address.0.clone()).take(3).collect();
    }
    let maker = || {
        let path = path::resolve(&project.root, cwd, name);
        let makes = |stage: &&Stage| stage.outs.iter().any(|out| out.resolved.as_deref() == Some(&path));
        let maker = project.stages.iter().find(makes)?;
        Some(format!("`{name}` is an out of stage `{}`", maker.address_from(&project.root, cwd)))
    };
    let hint = suggest::hint(&misses.iter().map(String::as_str).collect::<Vec<_>>()).or_else(maker);
    TargetError::NoStage { name: name.to_owned(), file: file.path.clone(), hint }
}
