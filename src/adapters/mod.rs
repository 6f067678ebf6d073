//! One file or folder for each outside thing: thin, no decisions.

pub(crate) mod archive;
pub(crate) mod beat;
pub(crate) mod beneath;
pub(crate) mod bucket;
pub(crate) mod claim;
pub(crate) mod clock;
pub(crate) mod dvc;
pub(crate) mod file_system;
pub(crate) mod fs;
pub(crate) mod git;
pub(crate) mod git_merge;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod odd_names;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod usage;
pub(crate) mod watch;
