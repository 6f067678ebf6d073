//! Which hash a lock entry or a `.dvc` file records for a dep or out.

use super::{FactError, Facts};
use crate::dvc::hash::{HashName, Hashed, Md5, Member, directory_text};
use crate::dvc::lockfile::LockItem;
use crate::dvc::oid::{ObjectKey, Oid};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::stage::Recorded;

/// A recorded hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub name: HashName,
    /// As it is recorded, which may be no MD5; ends in `.dir` for a directory.
    pub md5: String,
    pub size: Option<u64>,
    pub is_exec: bool,
}

impl Expected {
    /// Reads what is recorded of the path `resolved`; `None` where that is no hash DVC could compare with.
    ///
    /// Without `hash` it is the old one of DVC 2, except outside of the project (`output.py:
    /// _compute_hash_info_from_meta`).
    pub(super) fn of(recorded: &Recorded, resolved: &str) -> Option<Self> {
        let name = match recorded.hash.as_deref() {
            _ if !path::is_inside(resolved) => HashName::Md5,
            Some("md5") => HashName::Md5,
            None => HashName::Md5Dos2unix,
            Some(_) => return None,
        };
        let md5 = if recorded.files.is_empty() {
            recorded.md5.clone().filter(|md5| !md5.is_empty())?
        } else {
            oid_of_files(&recorded.files)?.to_string()
        };
        Some(Expected { name, md5, size: recorded.size, is_exec: recorded.isexec })
    }

    pub(crate) fn is_met_by(&self, found: &Hashed) -> bool {
        found.is(&self.md5)
    }

    pub(crate) fn object(&self) -> Option<ObjectKey> {
        Some(Oid::parse(&self.md5)?.by(self.name))
    }

    /// Whether the cache has it, which has nothing by what is no MD5.
    pub(super) fn is_cached(&self, facts: &dyn Facts) -> Result<bool, FactError> {
        self.object().map_or(Ok(false), |object| facts.is_cached(object))
    }
}

fn oid_of_files(files: &[(String, String)]) -> Option<Oid> {
    let member = |(relpath, md5): &(String, String)| Some(Member { relpath: relpath.clone(), md5: Md5::parse(md5)? });
    let mut members = files.iter().map(member).collect::<Option<Vec<_>>>()?;
    Some(Oid::directory(Md5::of(directory_text(&mut members).as_bytes())))
}

/// Finds the item of a path by its text as written; of duplicates the last one counts.
pub(super) fn item<'a>(items: &'a [LockItem], path: &str) -> Option<&'a Recorded> {
    items.iter().rev().find(|item| item.path == path).map(|item| &item.recorded)
}
