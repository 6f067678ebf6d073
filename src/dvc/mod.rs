//! What is known of DVC, and nothing of fanning out: files as DVC reads and writes them, without a disk.
//!
//! Pure: no files, processes, clock, environment or randomness. It names no other room but the base.

pub(crate) mod changed;
pub(crate) mod config;
pub(crate) mod formats;
pub(crate) mod git_ignore;
pub(crate) mod hash;
pub(crate) mod ignore_lines;
pub(crate) mod lockfile;
pub(crate) mod oid;
pub(crate) mod pipeline;
pub(crate) mod projection;
pub(crate) mod python_text;
pub(crate) mod record;
pub(crate) mod stage_file;
pub(crate) mod suggest;
pub(crate) mod value;
pub(crate) mod yaml;
