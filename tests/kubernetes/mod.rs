//! The Kubernetes engine against the fake API server, and that against the recorded traffic of a real one.
//!
//! `anywhere.rs` and `whole_job.rs` run against a real cluster too, when one is named (`support/cluster.rs`).

mod anywhere;
mod bench;
mod engine;
mod recorded;
mod scale;
mod whole_job;
