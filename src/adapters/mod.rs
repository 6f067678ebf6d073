//! One file per outside thing: thin, no decisions.

pub(crate) mod config;
