//! How a file comes from the cache into a workspace.

use std::fs;
use std::io;
use std::path::Path;

use super::{At as _, FsError, copy, reflink};
use crate::dvc::config::LinkType;

/// Brings a cache object into a workspace by the first link type that works; the path must be free.
///
/// An empty file is never a hard link, as in DVC.
pub(crate) fn link(object: &Path, to: &Path, types: &[LinkType]) -> Result<(), FsError> {
    let mut last = None;
    for (at, kind) in types.iter().enumerate() {
        let made = match kind {
            LinkType::Hardlink if fs::metadata(object).is_ok_and(|metadata| metadata.len() == 0) => copy(object, to),
            LinkType::Hardlink => fs::hard_link(object, to).at("link", to),
            LinkType::Symlink => std::os::unix::fs::symlink(object, to).at("link", to),
            // A reflink that is not possible becomes a copy, unless it may become another link.
            LinkType::Reflink if !matches!(types.get(at + 1), None | Some(LinkType::Copy)) => match reflink(object, to)
            {
                Ok(true) => Ok(()),
                Ok(false) => Err(io::Error::from(io::ErrorKind::Unsupported)).at("link", to),
                Err(error) => Err(error),
            },
            LinkType::Reflink | LinkType::Copy => copy(object, to),
        };
        match made {
            Ok(()) => return Ok(()),
            Err(error) if error.is_full() => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| FsError {
        action: "link",
        path: to.to_owned(),
        source: io::Error::other("no link type is configured"),
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::adapters::fs::write;

    #[test]
    fn where_a_reflink_is_refused_the_next_type_is_tried() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (object, probe) = (dir.path().join("object"), dir.path().join("probe"));
        write(&object, b"x").expect("written");
        if reflink(&object, &probe).expect("tried") {
            return;
        }
        for (at, (types, links)) in [
            (&[LinkType::Reflink, LinkType::Hardlink][..], 2),
            (&[LinkType::Reflink, LinkType::Copy, LinkType::Hardlink], 1),
            (&[LinkType::Reflink], 1),
        ]
        .into_iter()
        .enumerate()
        {
            let to = dir.path().join(at.to_string());
            link(&object, &to, types).expect("linked");
            assert_eq!(to.metadata().expect("there").nlink(), links, "{types:?}");
        }
        let to = dir.path().join("symlink");
        link(&object, &to, &[LinkType::Reflink, LinkType::Symlink]).expect("linked");
        assert!(to.is_symlink());
    }

    #[test]
    fn an_object_comes_by_the_first_link_type_that_works() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let object = dir.path().join("object");
        write(&object, b"x").expect("written");
        link(&object, &dir.path().join("s"), &[LinkType::Symlink, LinkType::Copy]).expect("linked");
        assert!(dir.path().join("s").is_symlink());
        link(&object, &dir.path().join("c"), &[LinkType::Reflink, LinkType::Copy]).expect("copied");
        assert_eq!(fs::metadata(dir.path().join("c")).expect("there").nlink(), 1);
        assert!(link(&object, &dir.path().join("c"), &[LinkType::Copy]).is_err(), "the path is taken");
    }
}
