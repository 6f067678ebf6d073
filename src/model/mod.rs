//! What the program computes. Pure: no files, processes, clock, environment or randomness.

pub(crate) mod changed;
pub(crate) mod collection;
pub(crate) mod config;
pub(crate) mod duration;
pub(crate) mod event;
pub(crate) mod formats;
pub(crate) mod hash;
pub(crate) mod hints;
pub(crate) mod ignore_lines;
#[cfg(feature = "kubernetes")]
pub(crate) mod job;
pub(crate) mod lockfile;
pub(crate) mod near;
pub(crate) mod pipeline;
pub(crate) mod plan;
pub(crate) mod projection;
pub(crate) mod python_text;
pub(crate) mod quantity;
pub(crate) mod report;
pub(crate) mod result_path;
pub(crate) mod shards;
pub(crate) mod standing;
pub(crate) mod value;
pub(crate) mod yaml;
