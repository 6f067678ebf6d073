//! What reading a stage file and resolving its stages need: the project's files, its config and what it ignores.

use super::error::{Fault, LoadError, Problem};
use super::ignore::{DvcIgnore, IgnoreError};
use super::resolve::context::VarsFiles;
use super::source::{FileKind, ProjectFiles};
use crate::dvc::config::DvcConfig;
use crate::dvc::yaml::{self, Node};

/// What reading a stage file needs.
pub(super) struct Env<'e> {
    pub files: &'e dyn ProjectFiles,
    pub config: &'e DvcConfig,
    pub ignore: DvcIgnore<'e>,
    pub vars: VarsFiles<'e>,
}

impl<'e> Env<'e> {
    pub(super) fn new(files: &'e dyn ProjectFiles, config: &'e DvcConfig) -> Self {
        Env { files, config, ignore: DvcIgnore::new(files), vars: VarsFiles::new(files) }
    }

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

    /// Reads a file as YAML; returns its text as well.
    pub(super) fn read_yaml(&self, path: &str) -> Result<(Node, Vec<u8>), LoadError> {
        let text = self.files.read(path).map_err(|error| Fault::new(Problem::Read(error)).in_file(path, b""))?;
        match yaml::parse(&text) {
            Ok(node) => Ok((node, text)),
            Err(error) => Err(Fault::new(Problem::Yaml(error)).in_file(path, &text)),
        }
    }
}
