//! One file per outside thing: thin, no decisions.

pub(crate) mod beneath;
pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod dvc;
pub(crate) mod dvc_lock;
pub(crate) mod dvc_script;
pub(crate) mod facts;
pub(crate) mod fs;
pub(crate) mod git;
pub(crate) mod git_merge;
pub(crate) mod hash;
#[cfg(feature = "kubernetes")]
pub(crate) mod kube;
pub(crate) mod links;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod project;
pub(crate) mod signals;
pub(crate) mod warm_dvc;
