//! The project at hand: what every command finds out first.

use std::path::{Path, PathBuf};

use crate::adapters::dvc::config;
use crate::adapters::fs;
use crate::adapters::git::Git;
use crate::diagnostic::Diagnostic;
use crate::dvc::config::DvcConfig;
use crate::state::paths::FanoutDir;

/// What `.dvc/fanout/.gitignore` holds: git sees nothing there but the optional configuration.
const GITIGNORE: &str = "*\n!/config.yaml\n";

/// A DVC project that was found from the current directory upwards.
pub(crate) struct ProjectHome {
    /// Absolute, symlinks resolved.
    pub root: PathBuf,
    /// The current directory relative to the root, `""` at the root.
    pub cwd: String,
    pub config: DvcConfig,
}

impl ProjectHome {
    /// Finds the project at or above the current directory, or the one that `--cd` names.
    pub(crate) fn find(directory: Option<&Path>) -> Result<ProjectHome, Diagnostic> {
        Self::at(directory.unwrap_or(Path::new(".")))
    }

    /// Finds the project at or above a directory.
    pub(crate) fn at(start: &Path) -> Result<ProjectHome, Diagnostic> {
        let cwd = start
            .canonicalize()
            .map_err(|error| Diagnostic::usage(format!("cannot start in `{}`", start.display())).source(&error))?;
        let root = cwd.ancestors().find(|directory| directory.join(".dvc").is_dir()).ok_or_else(|| {
            Diagnostic::project(format!("`{}` is not in a DVC project", cwd.display()))
                .cause("no directory `.dvc` here or above")
                .hint("change to the project's directory, use `--cd DIR`, or run `dvc init`")
        })?;
        let inside = cwd.strip_prefix(root).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        Ok(ProjectHome { root: root.to_owned(), cwd: inside, config: config::load(root)? })
    }

    pub(crate) fn fanout(&self) -> FanoutDir {
        FanoutDir::of(&self.root)
    }

    /// Makes `.dvc/fanout`, which ignores itself.
    pub(crate) fn make_fanout(&self) -> Result<FanoutDir, Diagnostic> {
        let fanout = self.fanout();
        if !fanout.gitignore().is_file() {
            fs::write(&fanout.gitignore(), GITIGNORE.as_bytes())?;
        }
        Ok(fanout)
    }

    /// The git repository that the project lies in, and the project's folder in its work tree.
    pub(crate) fn git(&self) -> Result<(Git, String), Diagnostic> {
        if self.config.no_scm {
            return Err(Diagnostic::project("the project is not under git (`core.no_scm` is set)")
                .cause("workers see the project through a git snapshot of the workspace")
                .hint("run `git init` and `dvc config --unset core.no_scm`"));
        }
        let git = Git::discover(&self.root)?;
        let top = git.workdir().canonicalize().unwrap_or_else(|_| git.workdir().to_owned());
        let prefix = self.root.strip_prefix(&top).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        Ok((git, prefix))
    }

    /// The texts of `.dvc/config` and `.dvc/config.local` for a worker's workspace: the same settings, with paths that
    /// mean the same from there, the project's own cache, and nothing that runs beside the stages.
    pub(crate) fn worker_config(&self) -> Result<(String, String), Diagnostic> {
        let config = self.config.render_absolute()?;
        let cache = &self.config.cache_dir;
        let local = format!("[cache]\n    dir = {cache}\n[core]\n    autostage = false\n    check_update = false\n");
        Ok((config, local))
    }
}
