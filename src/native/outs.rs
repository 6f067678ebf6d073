//! Outs of a stage in its workspace: removing them, taking them into the cache, linking them back, restoring them
//! (`dvc/output.py`, `dvc_data/hashfile/checkout.py`, DVC 3.67).

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Place;
use crate::adapters::dvc::hash::Content;
use crate::adapters::dvc::store::{self, Added, Links, StoreError};
use crate::adapters::fs::{self, At as _, FsError};
use crate::dvc::config::LinkType;
use crate::dvc::hash::{HashName, Hashed, Md5};
use crate::dvc::oid::Oid;
use crate::dvc::pipeline::stage::{Out, OutKind};

/// Bytes of a metric that are looked at to tell text from data.
const LOOK: usize = 512;

/// Why DVC has to handle an out: what lies there, or on the way.
pub(super) fn unusual(place: &Place<'_>, out: &Out) -> Option<String> {
    let path = out.resolved.as_deref()?;
    let full = place.root.join(path);
    if full.is_symlink() && full.is_dir() {
        return Some(format!("its out `{}` is a symlink to a directory", out.path));
    }
    let above = Path::new(path).ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    let mut above = above.map(|above| place.root.join(above));
    above.any(|above| above.is_symlink()).then(|| format!("its out `{}` is below a symlink", out.path))
}

/// Removes an out before the command makes it; a persistent one is made writable instead.
pub(super) fn remove(place: &Place<'_>, out: &Out) -> Result<(), FsError> {
    let full = place.root.join(out.resolved.as_deref().unwrap_or_default());
    if !out.persist {
        return fs::remove(&full);
    }
    if out.cache && full.exists() { unprotect(&full, place.store.file_mode()) } else { Ok(()) }
}

/// Makes files of their own from links, with the cache's mode; what is executable is so no longer, as in DVC.
fn unprotect(path: &Path, mode: u32) -> Result<(), FsError> {
    if !path.is_dir() {
        return store::unprotect(path, mode);
    }
    for entry in std::fs::read_dir(path).at("list", path)? {
        let path = entry.at("list", path)?.path();
        if !(path.is_symlink() && path.is_dir()) {
            unprotect(&path, mode)?;
        }
    }
    Ok(())
}

/// Why a metric cannot be one.
pub(super) fn metric_problem(place: &Place<'_>, out: &Out) -> Option<String> {
    use std::io::Read as _;
    if out.kind != OutKind::Metric {
        return None;
    }
    let full = place.root.join(out.resolved.as_deref()?);
    let mut beginning = vec![];
    let file = full.is_file().then(|| std::fs::File::open(&full).ok())??;
    file.take(LOOK as u64).read_to_end(&mut beginning).ok()?;
    let is_text = crate::dvc::hash::is_text(&beginning);
    (!is_text).then(|| format!("binary file '{}' cannot be used as metrics.", full.display()))
}

/// What was found of a file before its content went into the cache.
struct AsFound {
    is_symlink: bool,
    /// Of what it is, or of what it leads to.
    links: u64,
    inode: u64,
    target: Option<PathBuf>,
}

impl AsFound {
    fn of(path: &Path) -> Result<AsFound, FsError> {
        let own = path.symlink_metadata().at("look at", path)?;
        let is_symlink = own.is_symlink();
        let real = if is_symlink { path.metadata().at("look at", path)? } else { own };
        let target = if is_symlink { path.read_link().ok() } else { None };
        Ok(AsFound { is_symlink, links: real.nlink(), inode: real.ino(), target })
    }

    /// Whether DVC makes the file of a directory anew: the first type in the order that fits says so.
    fn needs_link(&self, types: &[LinkType], object: &Path) -> bool {
        let is_hardlink = self.links > 1;
        for kind in types {
            match kind {
                LinkType::Copy | LinkType::Reflink if !self.is_symlink && !is_hardlink => return false,
                LinkType::Hardlink if is_hardlink => {
                    return object.metadata().is_ok_and(|object| object.ino() != self.inode);
                }
                LinkType::Symlink if self.is_symlink => return self.target.as_deref() != Some(object),
                _ => {}
            }
        }
        true
    }
}

/// Takes an out into the cache and makes it one of the links that are configured.
pub(super) fn commit(place: &Place<'_>, out: &Out, content: &Content, types: &[LinkType]) -> Result<(), StoreError> {
    let full = place.root.join(out.resolved.as_deref().unwrap_or_default());
    match &content.hashed {
        Hashed::File { md5, is_exec, .. } => commit_file(place, &full, *md5, *is_exec, types),
        Hashed::Directory { .. } => commit_directory(place, &full, content, types),
    }
}

fn commit_file(place: &Place<'_>, full: &Path, md5: Md5, is_exec: bool, types: &[LinkType]) -> Result<(), StoreError> {
    let is_own = |metadata: &Metadata| metadata.is_file() && metadata.nlink() == 1;
    let added = place.store.add_file(full, md5, types[0] == LinkType::Hardlink, &place.hasher())?;
    let now = full.symlink_metadata().at("look at", full)?;
    if types[0] == LinkType::Copy && is_own(&now) {
        set_mode(full, &now, place.store.file_mode())?;
    } else if LinkType::make_copies(types) && is_own(&now) && added == Added::Same {
        // A copy of the object would be no other than this.
        set_mode(full, &now, place.store.copy_mode())?;
    } else {
        place.store.link(Oid::file(md5), full, &Links::new(types))?;
    }
    if is_exec { Ok(make_executable(full)?) } else { Ok(()) }
}

fn set_mode(path: &Path, now: &Metadata, mode: u32) -> Result<(), FsError> {
    if now.mode() & 0o7777 == mode { Ok(()) } else { fs::set_mode(path, mode) }
}

/// Sets the owner's executable bit, of what a link leads to as well: with links into the cache that is the object.
fn make_executable(path: &Path) -> Result<(), FsError> {
    let mode = path.metadata().at("look at", path)?.permissions().mode() & 0o7777;
    if mode & 0o100 == 0 { fs::set_mode(path, mode | 0o100) } else { Ok(()) }
}

fn commit_directory(place: &Place<'_>, full: &Path, content: &Content, types: &[LinkType]) -> Result<(), StoreError> {
    let hasher = place.hasher();
    let mut found = Vec::with_capacity(content.members.len());
    for member in &content.members {
        found.push(AsFound::of(&full.join(&member.relpath))?);
    }
    for member in &content.members {
        let hardlink = types[0] == LinkType::Hardlink;
        place.store.add_file(&full.join(&member.relpath), member.md5, hardlink, &hasher)?;
    }
    place.store.add_text(content.hashed.oid().by(HashName::Md5), &content.text, &hasher)?;
    let links = Links::new(types);
    for (member, found) in content.members.iter().zip(found) {
        let oid = Oid::file(member.md5);
        if found.needs_link(types, &place.store.object(oid)) {
            place.store.link(oid, &full.join(&member.relpath), &links)?;
        }
    }
    Ok(())
}

/// Makes an out that is not there from the cache.
pub(super) fn restore(place: &Place<'_>, path: &str, oid: Oid, is_exec: bool) -> Result<(), StoreError> {
    let full = place.root.join(path);
    let links = Links::new(place.store.types());
    if !oid.is_directory() {
        place.store.link(oid, &full, &links)?;
        return if is_exec { Ok(make_executable(&full)?) } else { Ok(()) };
    }
    fs::create_dir(&full)?;
    for member in place.store.cache().members(oid.by(HashName::Md5)).unwrap_or_default() {
        place.store.link(Oid::file(member.md5), &full.join(&member.relpath), &links)?;
    }
    Ok(())
}
