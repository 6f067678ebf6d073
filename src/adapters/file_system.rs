//! What kind of file system a path is on.

use std::path::Path;

/// The kinds whose numbers are known, and whether a lock may hold on one machine only.
const KINDS: [(u64, &str, bool); 12] = [
    (0xef53, "ext4", false),
    (0x5846_5342, "XFS", false),
    (0x9123_683e, "btrfs", false),
    (0x2fc1_2fc1, "ZFS", false),
    (0x794c_7630, "overlayfs", false),
    (0x0102_1994, "tmpfs", false),
    (0x6969, "NFS", true),
    (0x0bd0_0bd0, "Lustre", true),
    (0x4750_3653, "GPFS", true),
    (0x1983_0326, "BeeGFS", true),
    (0x6573_5546, "FUSE", true),
    (0xff53_4d42, "CIFS", true),
];

/// A kind of file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub name: String,
    /// Whether a lock that is taken on one machine may not be seen on another.
    pub has_local_locks: bool,
}

/// The kind of the file system that a path is on; `None` where it cannot be told.
pub(crate) fn of(path: &Path) -> Option<Kind> {
    let status = rustix::fs::statfs(path).ok()?;
    #[expect(clippy::cast_sign_loss, reason = "a number of 32 bits, whatever its type")]
    let number = status.f_type as u64 & 0xffff_ffff;
    let known = KINDS.iter().find(|(kind, _, _)| *kind == number);
    Some(known.map_or_else(
        || Kind { name: format!("a file system of type {number:#x}"), has_local_locks: false },
        |(_, name, has_local_locks)| Kind { name: (*name).to_owned(), has_local_locks: *has_local_locks },
    ))
}
