//! The Kubernetes engine against the fake API server, and that against the recorded traffic of a real one.

mod bench;
mod engine;
mod recorded;
mod scale;
mod whole_job;
