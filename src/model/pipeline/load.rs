//! A whole project: every stage file found, read and resolved.

use std::ops::Range;

use rayon::prelude::*;

use super::context::{Context, VarsFiles};
use super::define::{self, Definitions, VarsItem};
use super::discover;
use super::dvc_file;
use super::error::{Fault, LoadError, Problem, StageProblem};
use super::ignore::{DvcIgnore, IgnoreError};
use super::path;
use super::schema;
use super::source::{FileKind, ProjectFiles};
use super::stage::Stage;
use super::top::TopLevel;
use crate::model::config::DvcConfig;
use crate::model::lockfile::Lockfile;
use crate::model::value::StrKey;
use crate::model::yaml::{self, Node};

/// A DVC project.
#[derive(Debug)]
pub(crate) struct Project {
    /// The absolute path of its root.
    pub root: String,
    /// All stages, in the order in which DVC collects them.
    pub stages: Vec<Stage>,
    /// The stage files, in that order too.
    pub files: Vec<StageFile>,
    /// Stages that DVC lists once more than they are: indices into `stages`.
    pub repeated: Vec<usize>,
}

/// A `dvc.yaml` or `.dvc` file.
#[derive(Debug)]
pub(crate) struct StageFile {
    /// Relative to the project's root.
    pub path: String,
    /// The stages of the file in [`Project::stages`].
    pub stages: Range<usize>,
    /// The names of its foreach and matrix definitions, those without stages included.
    pub groups: Vec<String>,
    pub top: TopLevel,
}

/// What reading a stage file needs.
pub(super) struct Env<'e> {
    pub files: &'e dyn ProjectFiles,
    pub config: &'e DvcConfig,
    pub ignore: DvcIgnore<'e>,
    pub vars: VarsFiles<'e>,
}

impl Env<'_> {
    pub(super) fn root(&self) -> &str {
        self.files.root()
    }

    /// Returns the `.dvcignore` rule that hides an output, which must not be.
    pub(super) fn ignored_out(&self, path: &str) -> Result<Option<String>, IgnoreError> {
        let rule = match (self.ignore.ignored_by(path, false)?, self.ignore.ignored_by(path, true)?) {
            (None, None) => return Ok(None),
            (as_file, as_directory) => match self.files.kind(path) {
                Some(FileKind::Directory) => as_directory,
                Some(FileKind::File | FileKind::Other) | None => as_file,
            },
        };
        Ok(rule)
    }
}

impl Project {
    /// Reads a project as DVC does; the first file that cannot be read is the error.
    pub(crate) fn load(files: &dyn ProjectFiles, config: &DvcConfig) -> Result<Project, LoadError> {
        let env = Env { files, config, ignore: DvcIgnore::new(files), vars: VarsFiles::new(files) };
        let mut project = Project { root: files.root().to_owned(), stages: vec![], files: vec![], repeated: vec![] };
        discover::walk(&env, |path| {
            let start = project.stages.len();
            let read = read(&env, path)?;
            project.stages.extend(read.stages);
            let stages = start..project.stages.len();
            project.repeated.extend(repeated(&project.stages, stages.clone()));
            let outs = project.stages[stages.clone()].iter().flat_map(|stage| &stage.outs);
            let outs = outs.filter_map(|out| out.resolved.clone()).collect();
            project.files.push(StageFile { path: path.to_owned(), stages, groups: read.groups, top: read.top });
            Ok(outs)
        })?;
        Ok(project)
    }
}

/// The content of one stage file.
pub(super) struct Content {
    pub stages: Vec<Stage>,
    pub groups: Vec<String>,
    pub top: TopLevel,
}

/// Returns the stages whose name came before: only a name with `@` can be given twice.
fn repeated(stages: &[Stage], of_file: Range<usize>) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    let names = of_file.filter(|&stage| stages[stage].generated.is_some());
    names.filter(|&stage| !seen.insert(stages[stage].name.as_deref())).collect()
}

fn read(env: &Env<'_>, path: &str) -> Result<Content, LoadError> {
    match env.files.kind(path) {
        Some(FileKind::File) => {}
        Some(FileKind::Directory | FileKind::Other) => return Err(Fault::new(Problem::NotRegular).in_file(path, b"")),
        None => return Err(Fault::new(Problem::BrokenLink).in_file(path, b"")),
    }
    let (node, text) = read_yaml(env, path)?;
    let content = if path.ends_with(".dvc") {
        schema::check_dvc_file(&node)
            .map_err(|error| Fault::new(Problem::Schema(error)))
            .and_then(|()| dvc_file::stage(env, path, &node))
            .map(|stage| Content { stages: vec![stage], groups: vec![], top: TopLevel::default() })
    } else {
        schema::check_pipeline(&node).map_err(|error| Fault::new(Problem::Schema(error)).in_file(path, &text))?;
        check_lock(env, path)?;
        pipeline(env, path, &node)
    };
    content.map_err(|fault| fault.in_file(path, &text))
}

fn read_yaml(env: &Env<'_>, path: &str) -> Result<(Node, Vec<u8>), LoadError> {
    let text = env.files.read(path).map_err(|error| Fault::new(Problem::Read(error)).in_file(path, b""))?;
    match yaml::parse(&text) {
        Ok(node) => Ok((node, text)),
        Err(error) => Err(Fault::new(Problem::Yaml(error)).in_file(path, &text)),
    }
}

/// Checks the lock file beside a `dvc.yaml`: DVC reads no stage without it.
fn check_lock(env: &Env<'_>, pipeline: &str) -> Result<(), LoadError> {
    let lock = format!("{}lock", pipeline.strip_suffix("yaml").unwrap_or(pipeline));
    if env.files.is_git_ignored(&lock, false) {
        return Err(Fault::new(Problem::GitIgnored).in_file(&lock, b""));
    }
    let ignored = env.ignore.ignored_by(&lock, false);
    let ignored = ignored.map_err(|error| Fault::new(Problem::Ignore(error)).in_file(&lock, b""))?;
    match env.files.kind(&lock) {
        None => return Ok(()),
        Some(_) if ignored.is_some() => return Ok(()),
        Some(FileKind::File) => {}
        Some(FileKind::Directory | FileKind::Other) => return Err(Fault::new(Problem::NotRegular).in_file(&lock, b"")),
    }
    let text = env.files.read(&lock).map_err(|error| Fault::new(Problem::Read(error)).in_file(&lock, b""))?;
    if is_plainly_valid(&text) {
        return Ok(());
    }
    let node = yaml::parse(&text).map_err(|error| Fault::new(Problem::Yaml(error)).in_file(&lock, &text))?;
    schema::check_lock(&node).map_err(|error| Fault::new(Problem::Schema(error)).in_file(&lock, &text))
}

/// Whether a lock file is as DVC writes it, which is told many times faster than by reading it as YAML.
fn is_plainly_valid(text: &[u8]) -> bool {
    let Ok(lockfile) = std::str::from_utf8(text).map_err(drop).and_then(|text| Lockfile::parse(text).map_err(drop))
    else {
        return false;
    };
    let names: Vec<&str> = lockfile.names().collect();
    !names.is_empty() && names.par_iter().all(|name| lockfile.entry(name).is_some_and(|entry| entry.parse().is_ok()))
}

/// Resolves a validated `dvc.yaml`.
fn pipeline(env: &Env<'_>, path: &str, node: &Node) -> Result<Content, Fault> {
    let directory = path::parent(path);
    let vars = match node.get("vars") {
        Some(entry) => define::vars_items(&entry.node).map_err(|fault| fault.in_field("vars"))?,
        None => vec![],
    };
    let mut context = Context::default();
    let default = path::resolve(env.root(), directory, "params.yaml");
    if env.vars.exists(&default) {
        define::merge_vars(&mut context, &[VarsItem::File("params.yaml".to_owned())], env, directory, "vars")?;
    }
    define::merge_vars(&mut context, &vars, env, directory, "vars")?;
    let mut read = Content { stages: vec![], groups: vec![], top: TopLevel::default() };
    if let Some(stages) = node.as_map().and_then(|map| map.get(&StrKey("stages"))).and_then(|entry| entry.node.as_map())
    {
        let mut definitions = Definitions::of(stages, &context)?;
        read.stages = definitions.stages(env, path, &context)?;
        read.groups = definitions.groups();
    }
    read.top = TopLevel::of(node, &context)?;
    Ok(read)
}

impl From<StageProblem> for Fault {
    fn from(problem: StageProblem) -> Self {
        Fault::stage(problem)
    }
}
