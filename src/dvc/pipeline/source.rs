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

    /// Returns whether git ignores the path; always false in a project without git. Fails where a `.gitignore` cannot
    /// be read.
    fn is_git_ignored(&self, path: &str, is_dir: bool) -> io::Result<bool>;

    /// Whether DVC can use URLs of this type (`s3`, `ssh`, …); `http` and `https` it always can.
    fn supports_scheme(&self, scheme: &str) -> bool;

    /// Returns the absolute path of the project's root, with `/`.
    fn root(&self) -> &str;
}

/// A project in memory, for tests.
#[cfg(test)]
pub(crate) struct MemoryFiles {
    files: std::collections::BTreeMap<String, Vec<u8>>,
}

#[cfg(test)]
impl MemoryFiles {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        MemoryFiles { files }
    }
}

#[cfg(test)]
impl ProjectFiles for MemoryFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        if self.files.contains_key(path) {
            return Some(FileKind::File);
        }
        let directory = format!("{path}/");
        (path.is_empty() || self.files.keys().any(|file| file.starts_with(&directory))).then_some(FileKind::Directory)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut entries = std::collections::BTreeMap::new();
        for rest in self.files.keys().filter_map(|file| file.strip_prefix(&prefix)) {
            let (name, is_dir) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
            entries.insert(name.to_owned(), is_dir);
        }
        Ok(entries.into_iter().map(|(name, is_dir)| DirEntry { name, is_dir, is_symlink: false }).collect())
    }

    fn is_git_ignored(&self, _path: &str, _is_dir: bool) -> io::Result<bool> {
        Ok(false)
    }

    fn supports_scheme(&self, scheme: &str) -> bool {
        scheme.starts_with("http")
    }

    fn root(&self) -> &'static str {
        "/home/me/project"
    }
}
