//! The lines that DVC adds to `.gitignore` files, and takes out again after a failure (`scmrepo`, DVC 3.67).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::adapters::fs::{self, FsError};
use crate::adapters::git::{Git, GitError};
use crate::dvc::ignore_lines;

/// What git ignores, and the paths that got lines, so that these can be taken out again.
pub(crate) struct Ignores<'a> {
    /// The repository and the project's folder in its work tree; `None` with `core.no_scm`.
    git: Option<(&'a Git, &'a str)>,
    /// The project's root.
    root: &'a Path,
    /// In the order in which they were added; relative to the project's root.
    added: Vec<String>,
}

/// Why a path cannot be ignored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IgnoreFailure {
    #[error(
        " output '{0}' is already tracked by SCM (e.g. Git).\n    You can remove it from Git, then add to DVC.\n        \
         To stop tracking from Git:\n            git rm -r --cached '{0}'\n            git commit -m \"stop tracking \
         {0}\" "
    )]
    Tracked(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl<'a> Ignores<'a> {
    pub(crate) fn new(root: &'a Path, git: Option<(&'a Git, &'a str)>) -> Self {
        Ignores { git, root, added: vec![] }
    }

    /// Adds the lines for DVC's own files, as DVC does whenever it opens a project. Returns whether there were any to add.
    pub(crate) fn add_own(&mut self) -> Result<bool, IgnoreFailure> {
        [".dvc/config.local", ".dvc/tmp", ".dvc/cache"].into_iter().try_for_each(|path| self.add_line(path))?;
        Ok(!self.added.is_empty())
    }

    /// Adds the line of an out that git does not ignore yet; `shown` is how messages name it.
    pub(super) fn add(&mut self, out: &str, shown: &str) -> Result<(), IgnoreFailure> {
        let Some((git, prefix)) = self.git else { return Ok(()) };
        let in_tree = if prefix.is_empty() { out.to_owned() } else { format!("{prefix}/{out}") };
        if git.is_tracked(&in_tree)? {
            return Err(IgnoreFailure::Tracked(shown.to_owned()));
        }
        self.add_line(out)
    }

    fn add_line(&mut self, out: &str) -> Result<(), IgnoreFailure> {
        let Some((git, prefix)) = self.git else { return Ok(()) };
        let in_tree = if prefix.is_empty() { out.to_owned() } else { format!("{prefix}/{out}") };
        if git.ignores().is_ignored(&in_tree)? {
            return Ok(());
        }
        let (file, line) = ignore_lines::line_of(out);
        let file = self.root.join(file);
        let before = fs::read_text_if_any(&file)?.unwrap_or_default();
        let begin = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        fs::append_text(&file, &format!("{begin}{line}\n"))?;
        self.added.push(out.to_owned());
        Ok(())
    }

    /// Takes out every line that names a path to which one was added, also those that were there before.
    pub(crate) fn take_back(&mut self) -> Result<(), FsError> {
        for out in std::mem::take(&mut self.added) {
            let (folder, name) = out.rsplit_once('/').unwrap_or(("", &out));
            let file = self.root.join(folder).join(".gitignore");
            let Some(text) = fs::read_text_if_any(&file)? else { continue };
            // Python reads every line end as one.
            let text = text.replace("\r\n", "\n").replace('\r', "\n");
            let entry = format!("/{name}");
            let kept: String = text.split_inclusive('\n').filter(|line| line.trim() != entry.trim()).collect();
            if kept.is_empty() {
                fs::remove(&file)?;
            } else {
                fs::write_plain(&file, kept.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Takes note of lines that DVC has added: the texts of some `.gitignore` files from before and what they are now.
    pub(super) fn note(&mut self, before: &HashMap<PathBuf, String>, outs: &[&str]) {
        for out in outs {
            let (file, line) = ignore_lines::line_of(out);
            let has = |text: &str| text.lines().any(|known| known == line);
            let was_there = before.get(Path::new(&file)).is_some_and(|text| has(text));
            let is_there = fs::read_text_if_any(&self.root.join(&file)).ok().flatten().is_some_and(|text| has(&text));
            if is_there && !was_there {
                self.added.push((*out).to_owned());
            }
        }
    }

    /// Why DVC has to add the line of an out: a file on the way that is read in another way here.
    pub(super) fn unusual(&self, out: &str) -> Option<String> {
        self.git?;
        let (file, _) = ignore_lines::line_of(out);
        let at = self.root.join(&file);
        let shown = |what: &str| Some(format!("`{file}` {what}"));
        match at.symlink_metadata() {
            Err(_) => None,
            Ok(metadata) if !metadata.is_file() => shown("is not a file"),
            Ok(_) => match std::fs::read(&at).map(String::from_utf8) {
                Ok(Ok(text)) if text.replace("\r\n", "").contains('\r') => shown("has a lone carriage return"),
                Ok(Ok(text)) if text.starts_with('\u{feff}') => shown("begins with a byte order mark"),
                Ok(Ok(text)) if !text.is_empty() && !text.is_char_boundary(text.len() - 1) => {
                    shown("ends in a letter of several bytes")
                }
                Ok(Ok(_)) => None,
                Ok(Err(_)) | Err(_) => shown("is not text"),
            },
        }
    }
}

impl From<IgnoreFailure> for crate::diagnostic::Diagnostic {
    fn from(failure: IgnoreFailure) -> Self {
        match failure {
            IgnoreFailure::Tracked(_) => crate::diagnostic::Diagnostic::project(failure.to_string()),
            IgnoreFailure::Git(error) => error.into(),
            IgnoreFailure::Fs(error) => error.into(),
        }
    }
}
