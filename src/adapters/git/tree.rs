//! What a work tree holds, as read once.

use git2::Index;

/// The files of a work tree, by path relative to its top.
pub(crate) struct WorkTree {
    pub(super) index: Index,
    /// Files that cannot be read.
    pub unreadable: Vec<String>,
    /// Files that workers see by a link.
    pub linked: Vec<String>,
    /// Folders that have a repository of their own.
    pub nested: Vec<String>,
}

impl WorkTree {
    /// Whether it has a file at a path, relative to its top; at one that leads out of it, it has none.
    pub(crate) fn has(&self, path: &str) -> bool {
        let leads_out = path.starts_with('/') || path.split('/').any(|part| part == "..");
        !leads_out && super::is_in(&self.index, path)
    }

    /// Whether it has a file below a folder, relative to its top.
    pub(crate) fn has_below(&self, folder: &str) -> bool {
        self.index.find_prefix(format!("{folder}/")).is_ok()
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn into_index(self) -> Index {
        self.index
    }
}

/// Which files are not looked at, by path relative to the top.
pub(crate) type Skip<'a> = dyn Fn(&str) -> bool + 'a;
