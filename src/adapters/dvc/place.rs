//! Brings outs from DVC's cache into a workspace, linked as the project links.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use crate::adapters::dvc::cache::Cache;
use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;
use crate::dvc::config::LinkType;
use crate::dvc::oid::{ObjectKey, Oid};
use crate::dvc::pipeline::path::is_within;

/// How a file comes about that is no link.
const OWN: &[LinkType] = &[LinkType::Reflink, LinkType::Copy];

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("`{path}` is not in the cache: no object {md5}")]
    NotInCache { path: String, md5: String },
    #[error("the cache object {md5} of the directory `{path}` is not readable")]
    BrokenObject { path: String, md5: String },
}

impl From<PlaceError> for Diagnostic {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Fs(error) => error.into(),
            PlaceError::NotInCache { .. } | PlaceError::BrokenObject { .. } => {
                Diagnostic::project(error.to_string()).hint("fetch it with `dvc fetch`, then plan again")
            }
        }
    }
}

/// Where cached data come from, and how.
pub(crate) struct Placing<'a> {
    /// The project's cache.
    pub cache: &'a Path,
    pub links: &'a [LinkType],
}

/// An out whose content is in the cache.
pub(crate) struct CachedOut<'a> {
    /// Relative to the project's root.
    pub path: &'a str,
    pub md5: &'a str,
    pub legacy: bool,
    pub isexec: bool,
    /// Files with the executable bit inside of a directory, relative to the project's root.
    pub executable: &'a [String],
    /// Empty directories inside of it, likewise.
    pub empty: &'a [String],
    /// Files inside of it that are no links into the cache, or itself if none is.
    pub own: &'a [String],
}

/// Links a cached file or directory (or one member of it) to its path below `root`, which must be free.
pub(crate) fn place_cached(
    root: &Path,
    out: &CachedOut<'_>,
    member: Option<&str>,
    placing: &Placing<'_>,
) -> Result<(), PlaceError> {
    let cache = Cache::new(placing.cache);
    let object = |md5: &str, path: &str| {
        let object = ObjectKey::parse(md5, out.legacy).map(|key| cache.object(key)).filter(|object| object.is_file());
        object.ok_or_else(|| PlaceError::NotInCache { path: path.to_owned(), md5: md5.to_owned() })
    };
    let to = root.join(out.path);
    if !Oid::parse(out.md5).is_some_and(Oid::is_directory) {
        to.parent().map_or(Ok(()), fs::create_dir)?;
        let is_own = out.own.iter().any(|own| own == out.path);
        fs::link(&object(out.md5, out.path)?, &to, if is_own { OWN } else { placing.links })?;
        if out.isexec {
            fs::set_executable(&to, true)?;
        }
        return Ok(());
    }
    let broken = || PlaceError::BrokenObject { path: out.path.to_owned(), md5: out.md5.to_owned() };
    let bytes = fs::read(&object(out.md5, out.path)?)?;
    let listing: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&bytes).map_err(|_| broken())?;
    let inside = |relpath: &str| {
        member.is_none_or(|member| {
            relpath == member || relpath.strip_prefix(member).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let mut files = vec![];
    for entry in &listing {
        let text = |key: &str| entry.get(key).and_then(serde_json::Value::as_str);
        let (relpath, md5) = text("relpath").zip(text("md5")).ok_or_else(broken)?;
        if Path::new(relpath).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(broken());
        }
        if inside(relpath) {
            files.push((relpath, md5));
        }
    }
    fs::create_dir(&to)?;
    for parent in files
        .iter()
        .filter_map(|(relpath, _)| relpath.rsplit_once('/'))
        .map(|(parent, _)| parent)
        .collect::<HashSet<_>>()
    {
        fs::create_dir(&to.join(parent))?;
    }
    let own: HashSet<&str> = out.own.iter().map(String::as_str).collect();
    files.par_iter().try_for_each(|(relpath, md5)| {
        let path = format!("{}/{relpath}", out.path);
        let to = root.join(&path);
        if out.executable.contains(&path) {
            // A link has the mode of the object, which is no program elsewhere.
            fs::link(&object(md5, &path)?, &to, &[LinkType::Copy])?;
            return Ok(fs::set_executable(&to, true)?);
        }
        let is_own = own.contains(out.path) || own.contains(path.as_str());
        let links = if is_own { OWN } else { placing.links };
        Ok::<_, PlaceError>(fs::link(&object(md5, &path)?, &to, links)?)
    })?;
    Ok(make_empty(root, out.path, member, out.empty)?)
}

/// Makes the empty directories of a directory, or of one member of it, which is in place.
pub(crate) fn make_empty(root: &Path, path: &str, member: Option<&str>, empty: &[String]) -> Result<(), FsError> {
    let top = member.map_or_else(|| path.to_owned(), |member| format!("{path}/{member}"));
    let inside = empty.iter().filter(|directory| is_within(directory, &top));
    inside.map(|directory| root.join(directory)).try_for_each(|directory| fs::create_dir(&directory))
}
