//! Which links can be made from a cache into a project: tried out with a file that is removed again.

#![expect(clippy::disallowed_methods, reason = "tries out which links work")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::adapters::fs::{At as _, FsError};
use crate::dvc::config::LinkType;

/// Returns those of the link types that work between two directories, in their order.
///
/// Fails where one of the directories cannot be written to.
pub(crate) fn working(from: &Path, to: &Path, types: &[LinkType]) -> Result<Vec<LinkType>, FsError> {
    let mut object = tempfile::Builder::new().prefix(".tmp-").tempfile_in(from).at("create a file in", from)?;
    object.write_all(b"dvc-fanout").at("write to", object.path())?;
    let folder = tempfile::Builder::new().prefix(".tmp-").tempdir_in(to).at("create a directory in", to)?;
    let works = |kind: &LinkType| {
        let link = folder.path().join(kind.name());
        match kind {
            LinkType::Reflink => {
                File::create(&link).is_ok_and(|link| rustix::fs::ioctl_ficlone(link, object.as_file()).is_ok())
            }
            LinkType::Hardlink => std::fs::hard_link(object.path(), &link).is_ok(),
            LinkType::Symlink => std::os::unix::fs::symlink(object.path(), &link).is_ok(),
            LinkType::Copy => std::fs::copy(object.path(), &link).is_ok(),
        }
    };
    Ok(types.iter().copied().filter(works).collect())
}

/// The bytes that are free in the file system of a path; `None` where that cannot be told.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(path).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}
