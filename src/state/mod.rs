//! `.dvc/fanout`: paths, the run lock, the journal, file formats and their versions.

pub(crate) mod decided;
pub(crate) mod declared;
pub(crate) mod durations;
pub(crate) mod dvc_version;
pub(crate) mod format;
pub(crate) mod hash_memo;
pub(crate) mod home;
pub(crate) mod journal;
pub(crate) mod kept;
pub(crate) mod log;
pub(crate) mod looks;
pub(crate) mod mailbox;
pub(crate) mod needs;
pub(crate) mod open_runs;
pub(crate) mod paths;
pub(crate) mod published;
pub(crate) mod results;
pub(crate) mod run_lock;
pub(crate) mod shards;
pub(crate) mod slots;
pub(crate) mod status;
pub(crate) mod uncommitted;
pub(crate) mod unsettled;
pub(crate) mod vetting;
pub(crate) mod worklist;
