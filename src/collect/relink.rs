//! Leaves changed data of `.dvc` files and frozen stages as DVC leaves them once they are in its cache: as links of the
//! configured type, with the modes of its own.

use std::path::Path;

use crate::adapters::dvc::store::{Links, Store};
use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::dvc::config::LinkType;
use crate::dvc::hash::HashName;
use crate::dvc::oid::Oid;
use crate::dvc::pipeline::stage::Recorded;
use crate::state::format::{PlannedOut, PlannedStage};
use crate::state::published::Published;

/// Gives the outs of a stage that was only recorded the links that DVC would give them. What was edited again since stays.
pub(super) fn outs(
    root: &Path,
    store: &Store,
    planned: &PlannedStage,
    published: &Published,
) -> Result<(), Diagnostic> {
    let own = published.own_of(&planned.address);
    for out in planned.outs.iter().filter(|out| out.cache && !own.contains(&out.resolved)) {
        let Some(recorded) = published.recorded_out(&planned.address, &out.path) else { continue };
        relink(root, store, out, &recorded, own)?;
    }
    Ok(())
}

fn relink(root: &Path, store: &Store, out: &PlannedOut, recorded: &Recorded, own: &[String]) -> Result<(), Diagnostic> {
    let Some(object) = recorded.object().filter(|object| object.hash == HashName::Md5) else { return Ok(()) };
    let makes_copies = LinkType::make_copies(store.types());
    let links = Links::new(store.types());
    if !object.oid.is_directory() {
        let at = root.join(&out.resolved);
        if !is_still(&at, object.oid)? {
            return Ok(());
        }
        if makes_copies {
            let is_copied = store.types().first() == Some(&LinkType::Copy);
            set_mode(&at, if is_copied { store.file_mode() } else { store.copy_mode() })?;
        } else {
            link(store, object.oid, &at, &links)?;
        }
        if recorded.isexec {
            fs::set_executable(&at, true)?;
        }
        return Ok(());
    }
    if makes_copies {
        return Ok(());
    }
    for member in store.cache().members(object).unwrap_or_default() {
        let path = format!("{}/{}", out.resolved, member.relpath);
        let (at, oid) = (root.join(&path), Oid::file(member.md5));
        if !own.contains(&path) && is_still(&at, oid)? {
            link(store, oid, &at, &links)?;
        }
    }
    Ok(())
}

/// Whether a file of its own is there that has the content of an object.
fn is_still(at: &Path, oid: Oid) -> Result<bool, Diagnostic> {
    Ok(at.is_file() && !at.is_symlink() && Some(oid) == Oid::parse(&fs::digest(at)?.0))
}

fn set_mode(at: &Path, mode: u32) -> Result<(), Diagnostic> {
    if fs::mode(at)? == mode { Ok(()) } else { Ok(fs::set_mode(at, mode)?) }
}

fn link(store: &Store, oid: Oid, at: &Path, links: &Links) -> Result<(), Diagnostic> {
    store.link(oid, at, links).map_err(|error| Diagnostic::project(error.to_string()))
}
