//! The files of a work tree that git does not track and does not ignore.
//!
//! libgit2 decides, but it tries each line of a `.gitignore` on each file, and DVC writes one line for each out: where
//! ten thousand outs lie in a folder, that is a hundred million tries. So what a line names outright is left out before.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{DiffOptions, Index, IndexEntry, Repository};

use super::{Doing as _, Git, GitError};

impl Git {
    /// The files of the work tree that git neither tracks nor ignores, from its top; folders that have a repository of
    /// their own with a `/` at their end.
    pub(crate) fn untracked(&self) -> Result<Vec<String>, GitError> {
        let Some(opened) = &self.opened else { return Ok(vec![]) };
        let index = opened.index()?;
        let tracked: Vec<IndexEntry> = index.iter().collect();
        let tracked = tracked.iter().map(|entry| entry.path.as_slice()).collect();
        Ok(self.beside(&tracked)?.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect())
    }

    /// The paths that are neither among the `tracked` nor ignored; folders that have a repository of their own with a `/`
    /// at their end.
    pub(super) fn beside(&self, tracked: &HashSet<&[u8]>) -> Result<Vec<Vec<u8>>, GitError> {
        let Some(opened) = &self.opened else { return Ok(vec![]) };
        let Candidates { files, mut repositories } = candidates(&opened.repository, &self.workdir, tracked)?;
        // Without any path, all would be meant.
        if files.is_empty() {
            return Ok(repositories);
        }
        let mut options = DiffOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).ignore_submodules(true);
        options.disable_pathspec_match(true);
        for path in files {
            options.pathspec(path);
        }
        // Against an index with nothing in it there is nothing to compare, so no file is read.
        let empty = Index::new().doing("make an index")?;
        let diff =
            opened.repository.diff_index_to_workdir(Some(&empty), Some(&mut options)).doing("list the work tree")?;
        let files = diff.deltas().filter_map(|delta| delta.new_file().path_bytes().map(<[u8]>::to_owned));
        repositories.extend(files);
        Ok(repositories)
    }
}

/// What may be untracked.
#[derive(Default)]
struct Candidates {
    /// Files that git does not track, and that no line of a `.gitignore` names outright.
    files: Vec<PathBuf>,
    /// Folders with a repository of their own that are not ignored, with a `/` at their end.
    repositories: Vec<Vec<u8>>,
}

fn candidates(repository: &Repository, top: &Path, tracked: &HashSet<&[u8]>) -> Result<Candidates, GitError> {
    let mut candidates = Candidates::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let at = top.join(&folder);
        // What may not be looked into has nothing that can be taken.
        let Ok(entries) = at.read_dir() else { continue };
        let text = read_rules(&at.join(".gitignore"));
        let ignored = names(&text);
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == ".git" || ignored.contains(name.as_bytes()) {
                continue;
            }
            let path = folder.join(name);
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !tracked.contains(path.as_os_str().as_bytes()) {
                    candidates.files.push(path);
                }
                continue;
            }
            if repository.is_path_ignored(&path).doing("ask what is ignored")? {
                continue;
            }
            if entry.path().join(".git").symlink_metadata().is_ok() {
                if !tracked.contains(path.as_os_str().as_bytes()) {
                    candidates.repositories.push([path.as_os_str().as_bytes(), b"/"].concat());
                }
            } else {
                folders.push(path);
            }
        }
    }
    Ok(candidates)
}

/// The text of a folder's `.gitignore`; empty where it is not a plain file, or where one of its lines takes names back in.
fn read_rules(path: &Path) -> Vec<u8> {
    if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return vec![];
    }
    let text = std::fs::read(path).unwrap_or_default();
    if text.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_start().starts_with(b"!")) { vec![] } else { text }
}

/// What the lines of a `.gitignore` name in its own folder, letter by letter: `/name`, as DVC writes them.
fn names(rules: &[u8]) -> HashSet<&[u8]> {
    let is_plain = |name: &&[u8]| {
        let is_special = |byte: &u8| byte.is_ascii_whitespace() || b"/*?[]\\".contains(byte);
        !name.is_empty() && !name.iter().any(is_special)
    };
    rules.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"/")).filter(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: &str, expected: &[&str]) {
        let mut found: Vec<&[u8]> = names(rules.as_bytes()).into_iter().collect();
        found.sort_unstable();
        let expected: Vec<&[u8]> = expected.iter().map(|name| name.as_bytes()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_plain_names_in_the_own_folder_are_taken() {
        check("/a\n/b.txt\nc\n/d/e\n/f/\n#/g\n", &["a", "b.txt"]);
        check("/a*\n/[b]\n/c?\n/d\\ \n/e \n/f\r\n/g", &["g"]);
        check("/\n\n", &[]);
    }
}
