//! What the program computes. Pure: no files, processes, clock, environment or randomness.

pub(crate) mod config;
pub(crate) mod pipeline;
pub(crate) mod plan;
pub(crate) mod projection;
pub(crate) mod value;
