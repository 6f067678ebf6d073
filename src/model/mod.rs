//! What fanning out is about: plans, events, requests, reports. Pure: no files, processes, clock, environment or randomness.

pub(crate) mod carry;
pub(crate) mod collection;
pub(crate) mod duration;
pub(crate) mod event;
pub(crate) mod executor;
pub(crate) mod making;
pub(crate) mod nice;
pub(crate) mod numbers;
pub(crate) mod plan;
pub(crate) mod quantity;
pub(crate) mod report;
pub(crate) mod requests;
pub(crate) mod result_path;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod stdin;
pub(crate) mod workspace_kind;
