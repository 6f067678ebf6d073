//! A whole project: every stage file found, read and resolved.

mod discover;
pub(crate) mod dvc_file;
mod lock;
pub(crate) mod schema;
pub(crate) mod sections;

use std::ops::Range;

use self::sections::TopLevel;
use crate::dvc::config::DvcConfig;
use crate::dvc::pipeline::env::Env;
use crate::dvc::pipeline::error::{Fault, LoadError, Problem};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::project::{Group, LockEntries, Project, StageFile};
use crate::dvc::pipeline::resolve::context::Context;
use crate::dvc::pipeline::resolve::define::{self, Definitions};
use crate::dvc::pipeline::source::{FileKind, ProjectFiles};
use crate::dvc::pipeline::stage::Stage;
use crate::dvc::pipeline::stage_index::{PerStage, StageIndex};
use crate::dvc::value::StrKey;
use crate::dvc::yaml::Node;

impl Project {
    /// Reads a project as DVC does; the first file that cannot be read is the error.
    pub(crate) fn load(files: &dyn ProjectFiles, config: &DvcConfig) -> Result<Project, LoadError> {
        let env = Env::new(files, config);
        let mut project = Project::empty(files);
        discover::walk(&env, |path| {
            let mut read = read(&env, path)?;
            let stages = project.stages.append(&mut read.stages);
            project.repeated.extend(repeated(&project.stages, stages.clone()));
            let outs = StageIndex::each(stages.clone()).flat_map(|stage| &project.stages[stage].outs);
            let outs = outs.filter_map(|out| out.resolved.clone()).collect();
            project.files.push(read.file(path, stages));
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
        let env = Env::new(files, config);
        let mut project = Project::empty(files);
        for path in paths {
            let mut read = read(&env, path)?;
            let stages = project.stages.append(&mut read.stages);
            project.files.push(read.file(path, stages));
        }
        Ok(project)
    }

    fn empty(files: &dyn ProjectFiles) -> Project {
        Project { root: files.root().to_owned(), stages: PerStage::new(), files: vec![], repeated: vec![] }
    }
}

/// The content of one stage file.
pub(super) struct Content {
    pub stages: Vec<Stage>,
    pub groups: Vec<Group>,
    pub top: TopLevel,
    pub lock: Option<LockEntries>,
}

impl Content {
    /// The file at a path; these are its stages.
    fn file(self, path: &str, stages: Range<StageIndex>) -> StageFile {
        StageFile { path: path.to_owned(), stages, groups: self.groups, top: self.top, lock: self.lock }
    }
}

/// Returns the stages whose name came before: only a name with `@` can be given twice.
fn repeated(stages: &PerStage<Stage>, of_file: Range<StageIndex>) -> Vec<StageIndex> {
    let mut seen = std::collections::HashSet::new();
    let names = StageIndex::each(of_file).filter(|&stage| stages[stage].generated.is_some());
    names.filter(|&stage| !seen.insert(stages[stage].name.as_deref())).collect()
}

fn read(env: &Env<'_>, path: &str) -> Result<Content, LoadError> {
    match env.files.kind(path) {
        Some(FileKind::File) => {}
        Some(FileKind::Directory | FileKind::Other) => return Err(Fault::new(Problem::NotRegular).in_file(path, b"")),
        None => return Err(Fault::new(Problem::BrokenLink).in_file(path, b"")),
    }
    let (node, text) = env.read_yaml(path)?;
    let content = if path::is_dvc_file(path) {
        schema::check_dvc_file(&node)
            .map_err(|error| Fault::new(Problem::Schema(error)))
            .and_then(|()| dvc_file::stage(env, path, &node))
            .map(|stage| Content { stages: vec![stage], groups: vec![], top: TopLevel::default(), lock: None })
    } else {
        schema::check_pipeline(&node).map_err(|error| Fault::new(Problem::Schema(error)).in_file(path, &text))?;
        let lock = lock::check(env, path)?;
        let mut content = pipeline(env, path, &node);
        if let Ok(content) = &mut content {
            match lock {
                lock::Found::Nothing => {}
                lock::Found::Entries(entries) => content.lock = Some(entries),
                lock::Found::Unusual(lock) => lock.check_digests(&content.stages)?,
            }
        }
        content
    };
    content.map_err(|fault| fault.in_file(path, &text))
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
    let mut read = Content { stages: vec![], groups: vec![], top: TopLevel::default(), lock: None };
    if let Some(stages) = node.as_map().and_then(|map| map.get(&StrKey("stages"))).and_then(|entry| entry.node.as_map())
    {
        let mut definitions = Definitions::of(stages, &context)?;
        read.stages = definitions.stages(env, path, &context)?;
        read.groups = definitions.groups();
    }
    read.top = TopLevel::of(node, &context)?;
    Ok(read)
}
