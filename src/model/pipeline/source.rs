//! What the model asks of a project's files. `adapters::project` answers from the disk, tests from memory.

use std::io;

/// What lies at a path, after following symlinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    File,
    Directory,
    /// A FIFO, socket or device.
    Other,
}

/// One entry of a listing; a symlink is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirEntry {
    /// The last path component; names that are not UTF-8 are left out of listings.
    pub name: String,
    pub is_dir: bool,
    pub is_symlink: bool,
}

/// Read access to the tree of a project.
///
/// Paths are relative to the project's root, with `/`, normalised, `""` for the root itself; paths outside the
/// project begin with `../` or are absolute.
pub(crate) trait ProjectFiles {
    /// Returns the bytes of a file, following symlinks.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Returns what lies at a path, following symlinks; `None` where nothing does (a broken symlink included).
    fn kind(&self, path: &str) -> Option<FileKind>;

    /// Returns the entries of a directory sorted by name.
    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>>;

    /// Returns whether git ignores the path; always false in a project without git.
    fn is_git_ignored(&self, path: &str, is_dir: bool) -> bool;

    /// Returns the absolute path of the project's root, with `/`.
    fn root(&self) -> &str;
}
