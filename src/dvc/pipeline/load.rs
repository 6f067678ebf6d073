//! A whole project: every stage file found, read and resolved.

use std::ops::Range;

use super::context::{Context, VarsFiles};
use super::define::{self, Definitions};
use super::discover;
use super::dvc_file;
use super::error::{Fault, LoadError, Problem, StageProblem};
use super::ignore::{DvcIgnore, IgnoreError};
use super::lock;
use super::path;
use super::schema;
use super::source::{FileKind, ProjectFiles};
use super::stage::Stage;
use super::top::TopLevel;
use crate::dvc::config::DvcConfig;
use crate::dvc::value::StrKey;
use crate::dvc::yaml::{self, Node};

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
    /// Its foreach and matrix definitions, those without stages included.
    pub groups: Vec<Group>,
    pub top: TopLevel,
}

/// A `foreach` or `matrix`.
#[derive(Debug)]
pub(crate) struct Group {
    pub name: String,
    /// What its keys come from: axes of a matrix by name, and every text with a variable, as written.
    pub sources: Vec<String>,
}

impl Group {
    /// Whether the keys come from a variable or an axis: `sessions` is one of `${config.sessions}`, not of
    /// `${old_sessions}`.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        let name = name.strip_prefix("${").and_then(|name| name.strip_suffix('}')).unwrap_or(name).trim();
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let stands_alone = |source: &str, at: usize| {
            !source[..at].ends_with(is_word) && !source[at + name.len()..].starts_with(is_word)
        };
        !name.is_empty()
            && self.sources.iter().any(|source| source.match_indices(name).any(|(at, _)| stands_alone(source, at)))
    }
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
            if project.stages.is_empty() {
                project.stages = read.stages;
            } else {
                project.stages.extend(read.stages);
            }
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

impl Project {
    /// Reads some stage files alone, each as [`Project::load`] reads it.
    pub(crate) fn load_files<'p>(
        files: &dyn ProjectFiles,
        config: &DvcConfig,
        paths: impl Iterator<Item = &'p str>,
    ) -> Result<Project, LoadError> {
        let env = Env { files, config, ignore: DvcIgnore::new(files), vars: VarsFiles::new(files) };
        let mut project = Project { root: files.root().to_owned(), stages: vec![], files: vec![], repeated: vec![] };
        for path in paths {
            let start = project.stages.len();
            let read = read(&env, path)?;
            project.stages.extend(read.stages);
            let stages = start..project.stages.len();
            project.files.push(StageFile { path: path.to_owned(), stages, groups: read.groups, top: read.top });
        }
        Ok(project)
    }
}

/// The content of one stage file.
pub(super) struct Content {
    pub stages: Vec<Stage>,
    pub groups: Vec<Group>,
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
    let content = if discover::is_dvc_file(path) {
        schema::check_dvc_file(&node)
            .map_err(|error| Fault::new(Problem::Schema(error)))
            .and_then(|()| dvc_file::stage(env, path, &node))
            .map(|stage| Content { stages: vec![stage], groups: vec![], top: TopLevel::default() })
    } else {
        schema::check_pipeline(&node).map_err(|error| Fault::new(Problem::Schema(error)).in_file(path, &text))?;
        let lock = lock::check(env, path)?;
        let content = pipeline(env, path, &node);
        if let (Some(lock), Ok(content)) = (&lock, &content) {
            lock.check_digests(&content.stages)?;
        }
        content
    };
    content.map_err(|fault| fault.in_file(path, &text))
}

pub(super) fn read_yaml(env: &Env<'_>, path: &str) -> Result<(Node, Vec<u8>), LoadError> {
    let text = env.files.read(path).map_err(|error| Fault::new(Problem::Read(error)).in_file(path, b""))?;
    match yaml::parse(&text) {
        Ok(node) => Ok((node, text)),
        Err(error) => Err(Fault::new(Problem::Yaml(error)).in_file(path, &text)),
    }
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
        let merged = context.merge_file(&env.vars, &default, "params.yaml");
        merged.map_err(|error| Fault::new(Problem::Context(error)))?;
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
