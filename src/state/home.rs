//! The project at hand: what every command finds out first.

use std::path::{Path, PathBuf};

use crate::adapters::dvc::config;
use crate::adapters::fs;
use crate::adapters::git::Git;
use crate::diagnostic::Diagnostic;
use crate::dvc::config::{DvcConfig, LinkType};
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
    /// Whether its cache is linked by other links than the project's own settings say.
    pub is_linked_otherwise: bool,
}

impl ProjectHome {
    /// Finds the project at or above the current directory, or the one that `--cd` names.
    pub(crate) fn find(directory: Option<&Path>) -> Result<ProjectHome, Diagnostic> {
        Self::at(directory.unwrap_or(Path::new(".")))
    }

    /// Finds the project at or above a directory.
    pub(crate) fn at(start: &Path) -> Result<ProjectHome, Diagnostic> {
        let refused = || Diagnostic::usage(format!("cannot start in `{}`", start.display()));
        let cwd = start.canonicalize().map_err(|error| refused().source(&error))?;
        if !cwd.is_dir() {
            return Err(refused().cause("it is no folder"));
        }
        let root = cwd.ancestors().find(|directory| directory.join(".dvc").is_dir()).ok_or_else(|| {
            Diagnostic::project(format!("`{}` is not in a DVC project", cwd.display()))
                .cause("no directory `.dvc` here or above")
                .hint("change to the project's directory, use `--cd DIR`, or run `dvc init`")
        })?;
        // DVC's config, the plan and git's settings name it as text.
        if root.to_str().is_none() {
            return Err(Diagnostic::project(format!("the project's path is not UTF-8: `{}`", root.display()))
                .hint("rename the folder in it that is not"));
        }
        let inside = cwd.strip_prefix(root).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        Ok(ProjectHome { root: root.to_owned(), cwd: inside, config: config::load(root)?, is_linked_otherwise: false })
    }

    /// Has workspaces get what is in the cache by other links than those of the project.
    pub(crate) fn link_by(&mut self, types: Vec<LinkType>) {
        self.config.cache_types = types;
        self.is_linked_otherwise = true;
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

    /// The git repository that the project lies in, and the project's folder in its work tree; with `core.no_scm` none,
    /// whatever lies above.
    pub(crate) fn git(&self) -> Result<(Git, String), Diagnostic> {
        if self.config.no_scm {
            return Ok((Git::none(&self.root), String::new()));
        }
        let git = Git::discover(&self.root)?;
        let top = git.workdir().canonicalize().unwrap_or_else(|_| git.workdir().to_owned());
        let prefix = self.root.strip_prefix(&top).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        Ok((git, prefix))
    }

    /// The texts of `.dvc/config` and `.dvc/config.local` for the DVC project at `root`, a worker's: the same settings,
    /// with paths that mean the same from there, the project's own cache, and nothing that runs beside the stages.
    pub(crate) fn worker_config(&self, root: &Path) -> Result<(String, String), Diagnostic> {
        // DVC sees the real path of where it is started.
        let config = self.config.render_for(&real(root).join(".dvc").to_string_lossy()).map_err(|error| {
            Diagnostic::project(error.to_string())
                .cause("workers have a copy of DVC's config with absolute paths, in the syntax of these files")
                .hint("give the folders on the way to the project and its remotes plainer names")
        })?;
        let mut local = "[core]\n    autostage = false\n    check_update = false\n".to_owned();
        if self.is_linked_otherwise {
            let types: Vec<&str> = self.config.cache_types.iter().map(|kind| kind.name()).collect();
            local.push_str(&format!("[cache]\n    type = {}\n", types.join(",")));
        }
        Ok((config, local))
    }
}

/// The path with symlinks resolved, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match found {
        Some((above, real)) => real.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
        None => path.to_owned(),
    }
}
