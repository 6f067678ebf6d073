//! Hashing files and directories of the workspace, as DVC would find them now.

use std::ffi::OsStr;
use std::fs::{File, FileType, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::adapters::dvc::files::DiskFiles;
use crate::dvc::hash::{BLOCK, FileHash, HashName, Hashed, Md5, Member, directory_text};
use crate::dvc::pipeline::ignore::{DvcIgnore, IgnoreError};
use crate::dvc::pipeline::path;

/// Why something cannot be hashed; DVC fails there too.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    #[error("cannot read `{path}`")]
    Unreadable {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is a broken symlink")]
    BrokenLink { path: String },
    #[error("`{path}` is neither a file nor a directory")]
    Special { path: String },
    #[error("`{path}` has an entry whose name is not UTF-8")]
    Name { path: String },
    #[error("`{path}/.dvcignore` is in a directory that DVC hashes, where it must not be")]
    IgnoreFileInside { path: String },
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
}

/// What lies at a path.
pub(crate) struct Content {
    pub hashed: Hashed,
    /// The files of a directory, sorted by path.
    pub members: Vec<Member>,
    /// The text of a directory's object.
    pub text: String,
}

/// Remembers hashes of files; `state::hash_memo` does so between runs.
pub(crate) trait Memory: Sync {
    /// The hash of the file with this metadata, if it was hashed before and has not been written to since.
    fn get(&self, metadata: &Metadata, name: HashName) -> Option<Md5>;

    /// Takes a new hash, with the file's metadata from before and after it was read.
    fn remember(&self, before: &Metadata, after: &Metadata, name: HashName, md5: Md5);
}

/// Forgets at once.
pub(crate) struct Forgetful;

impl Memory for Forgetful {
    fn get(&self, _: &Metadata, _: HashName) -> Option<Md5> {
        None
    }

    fn remember(&self, _: &Metadata, _: &Metadata, _: HashName, _: Md5) {}
}

/// A hasher of files wherever they lie, which remembers nothing.
pub(crate) fn forgetful() -> Hasher<'static> {
    Hasher::new(Path::new("/"), &Forgetful)
}

/// Hashes what lies in a project; paths are the model's.
pub(crate) struct Hasher<'a> {
    root: &'a Path,
    memory: &'a dyn Memory,
}

impl<'a> Hasher<'a> {
    pub(crate) fn new(root: &'a Path, memory: &'a dyn Memory) -> Self {
        Hasher { root, memory }
    }

    /// Hashes a file or directory; `None` where nothing lies.
    pub(crate) fn hash(&self, path: &str, name: HashName) -> Result<Option<Hashed>, HashError> {
        Ok(self.content(path, name)?.map(|content| content.hashed))
    }

    /// Hashes a file or directory and tells what it is made of; `None` where nothing lies.
    pub(crate) fn content(&self, path: &str, name: HashName) -> Result<Option<Content>, HashError> {
        let full = self.root.join(path);
        if full.symlink_metadata().is_err() {
            return Ok(None);
        }
        let metadata = metadata(&full, path)?;
        if !metadata.is_dir() {
            let is_exec = metadata.permissions().mode() & 0o111 != 0;
            let md5 = self.hash_file(&full, path, &metadata, name)?;
            let hashed = Hashed::File { md5, size: metadata.len(), is_exec };
            return Ok(Some(Content { hashed, members: vec![], text: String::new() }));
        }
        // Without git, which has no say in what a directory holds.
        let files = DiskFiles::open(self.root, true).map_err(|_| HashError::Name { path: path.to_owned() })?;
        let ignore = DvcIgnore::new(&files);
        let mut found = Vec::new();
        if !is_in_subproject(path, &ignore) {
            walk(path, &full, &ignore, &mut found)?;
        }
        let prefix = full.as_os_str().len() + usize::from(!full.as_os_str().as_encoded_bytes().ends_with(b"/"));
        let hash = |(full, metadata): &(PathBuf, Metadata)| {
            let shown = || full.display().to_string();
            let text = full.to_str().ok_or_else(|| HashError::Name { path: shown() })?;
            let md5 = self.hash_file(full, text, metadata, name)?;
            Ok(Member { relpath: text[prefix..].to_owned(), md5 })
        };
        let mut members = found.par_iter().map(hash).collect::<Result<Vec<_>, HashError>>()?;
        let size = found.iter().map(|(_, metadata)| metadata.len()).sum();
        let text = directory_text(&mut members);
        let md5 = Md5::of(text.as_bytes());
        let hashed = Hashed::Directory { md5, size, nfiles: members.len() as u64 };
        Ok(Some(Content { hashed, members, text }))
    }

    /// Hashes one regular file, wherever it lies; `path` is how errors name it.
    pub(crate) fn hash_file(
        &self,
        full: &Path,
        path: &str,
        before: &Metadata,
        name: HashName,
    ) -> Result<Md5, HashError> {
        if !before.is_file() {
            return Err(HashError::Special { path: path.to_owned() });
        }
        if let Some(md5) = self.memory.get(before, name) {
            return Ok(md5);
        }
        let (md5, after) = read_hash(full, before.len(), name)
            .map_err(|source| HashError::Unreadable { path: path.to_owned(), source })?;
        self.memory.remember(before, &after, name, md5);
        Ok(md5)
    }
}

/// Whether a directory belongs to another project inside this one: DVC sees nothing there.
fn is_in_subproject(path: &str, ignore: &DvcIgnore<'_>) -> bool {
    let is_subproject = |path: &&str| !path.is_empty() && ignore.is_subproject(path);
    path::is_inside(path)
        && std::iter::successors(Some(path), |path| (!path.is_empty()).then(|| path::parent(path)))
            .any(|path| is_subproject(&path))
}

fn metadata(full: &Path, path: &str) -> Result<Metadata, HashError> {
    std::fs::metadata(full).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => HashError::BrokenLink { path: path.to_owned() },
        _ => HashError::Unreadable { path: path.to_owned(), source },
    })
}

fn read_hash(full: &Path, size: u64, name: HashName) -> io::Result<(Md5, Metadata)> {
    let mut file = File::open(full)?;
    let mut hash = FileHash::new(name);
    // With room for one byte more, the end is found by the first look for it.
    let mut block = Vec::with_capacity(usize::try_from(size).unwrap_or(BLOCK).min(BLOCK) + 1);
    loop {
        block.clear();
        if (&mut file).take(BLOCK as u64).read_to_end(&mut block)? == 0 {
            return Ok((hash.finish(), file.metadata()?));
        }
        hash.update(&block);
    }
}

/// Collects the files below a directory that DVC would hash.
///
/// Symlinks to files count as files; symlinks to directories, ignored entries and other projects are left out.
fn walk(
    path: &str,
    full: &Path,
    ignore: &DvcIgnore<'_>,
    found: &mut Vec<(PathBuf, Metadata)>,
) -> Result<(), HashError> {
    let unreadable = |source| HashError::Unreadable { path: path.to_owned(), source };
    // What may not be read is left out without a word, as by Python's `os.walk`.
    let Ok(entries) = std::fs::read_dir(full) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let file_type = entry.file_type().map_err(unreadable)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let name = as_python_counts(&name);
            let inner = if path.is_empty() { name } else { format!("{path}/{name}") };
            if ignore.ignored_by(&inner, file_type.is_dir())?.is_some() || holds_nothing(&entry.path(), file_type) {
                continue;
            }
            return Err(HashError::Name { path: path.to_owned() });
        };
        let inner = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let full = entry.path();
        if file_type.is_dir() {
            if ignore.ignored_by(&inner, true)?.is_none() && !ignore.is_subproject(&inner) {
                walk(&inner, &full, ignore, found)?;
            }
            continue;
        }
        if file_type.is_symlink() && full.is_dir() || ignore.ignored_by(&inner, false)?.is_some() {
            continue;
        }
        if name == ".dvcignore" {
            return Err(HashError::IgnoreFileInside { path: path.to_owned() });
        }
        let metadata = metadata(&full, &inner)?;
        found.push((full, metadata));
    }
    Ok(())
}

/// A name that is not UTF-8 with a character for each byte that is part of none, as patterns are matched against it.
fn as_python_counts(name: &OsStr) -> String {
    let chunks = name.as_encoded_bytes().utf8_chunks();
    chunks.map(|chunk| chunk.valid().to_owned() + &"\u{fffd}".repeat(chunk.invalid().len())).collect()
}

/// Whether DVC finds no file there: a symlink to a directory, or a directory without files.
fn holds_nothing(path: &Path, kind: FileType) -> bool {
    let is_empty = |path: &Path| -> bool {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.into_iter().all(|entry| entry.file_type().is_ok_and(|kind| holds_nothing(&entry.path(), kind)))
    };
    if kind.is_dir() { is_empty(path) } else { kind.is_symlink() && path.is_dir() }
}
