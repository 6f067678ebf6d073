//! The names of objects in DVC's cache and in its remotes.

use std::fmt::{Display, Formatter};

use crate::dvc::hash::{HashName, Hashed, Md5, Member};

/// The name of an object: the MD5 of a file, or that of the list of a directory's files with `.dir` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Oid {
    md5: Md5,
    is_directory: bool,
}

impl Oid {
    pub(crate) fn file(md5: Md5) -> Self {
        Oid { md5, is_directory: false }
    }

    pub(crate) fn directory(md5: Md5) -> Self {
        Oid { md5, is_directory: true }
    }

    /// Reads a name; `None` for what is none, such as upper-case digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let directory = text.strip_suffix(".dir");
        Some(Oid { md5: Md5::parse(directory.unwrap_or(text))?, is_directory: directory.is_some() })
    }

    pub(crate) fn md5(self) -> Md5 {
        self.md5
    }

    pub(crate) fn is_directory(self) -> bool {
        self.is_directory
    }

    /// The object of this name that was hashed so.
    pub(crate) fn by(self, hash: HashName) -> ObjectKey {
        ObjectKey { oid: self, hash }
    }
}

impl Display for Oid {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.md5, if self.is_directory { ".dir" } else { "" })
    }
}

/// An object's name, and how its content was hashed: both say where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    pub oid: Oid,
    pub hash: HashName,
}

impl ObjectKey {
    /// Reads what is recorded of an object, `legacy` where DVC 2 recorded it; `None` for what is no name.
    pub(crate) fn parse(md5: &str, legacy: bool) -> Option<Self> {
        Some(Oid::parse(md5)?.by(if legacy { HashName::Md5Dos2unix } else { HashName::Md5 }))
    }

    /// A file of this directory.
    pub(crate) fn member(self, member: &Member) -> Self {
        Oid::file(member.md5).by(self.hash)
    }
}

impl Hashed {
    pub(crate) fn oid(&self) -> Oid {
        match self {
            Hashed::File { md5, .. } => Oid::file(*md5),
            Hashed::Directory { md5, .. } => Oid::directory(*md5),
        }
    }

    /// Whether this is what a lock file records as `md5`.
    pub(crate) fn is(&self, md5: &str) -> bool {
        Oid::parse(md5) == Some(self.oid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn names_are_read_and_written() {
        let md5 = Md5::of(b"");
        let directory = format!("{EMPTY}.dir");
        assert_eq!(Oid::parse(EMPTY), Some(Oid::file(md5)));
        assert_eq!(Oid::parse(&directory), Some(Oid::directory(md5)));
        assert_eq!([Oid::file(md5), Oid::directory(md5)].map(|oid| oid.to_string()), [EMPTY, &directory]);
        for odd in ["", ".dir", &EMPTY.to_uppercase(), &EMPTY[1..], &format!("{directory}.dir")] {
            assert_eq!(Oid::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_directory_is_not_the_file_of_the_same_digest() {
        let md5 = Md5::of(b"");
        let directory = Hashed::Directory { md5, size: 0, nfiles: 0 };
        assert!(directory.is(&format!("{EMPTY}.dir")) && !directory.is(EMPTY));
        assert!(!Hashed::File { md5, size: 0, is_exec: false }.is(&format!("{EMPTY}.dir")));
    }
}
