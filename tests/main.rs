//! The real `dvc-fanout` against real DVC and real git; one test binary, a module per capability.
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files by themselves")]

mod attempts;
mod carry;
mod changed;
mod chaos;
mod check;
#[cfg(feature = "store")]
mod ci;
mod collect;
mod committing;
mod conformance;
mod contrib;
mod data;
mod dvc_state;
mod edited_texts;
mod elsewhere;
mod failures;
mod flags;
mod frozen_state;
mod graphs;
mod ignores;
mod jenkins;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod last_stages;
mod left_as_made;
mod licences;
mod live_report;
mod looking_around;
mod manual;
mod merge_driver;
mod misbehaviour;
mod mounted;
mod native;
mod nonsense;
mod odd_inputs;
mod odd_paths;
mod plan;
mod projection;
mod random_graphs;
mod report;
mod resources;
mod running;
mod runs;
mod services;
mod signals;
mod slurm;
mod slurm_faults;
mod slurm_queue;
mod snapshot;
mod stages;
mod standard_input;
#[cfg(feature = "store")]
mod store;
mod support;
mod tidy;
mod undeclared;
mod users;
mod verify;
mod warm;
mod whole_job;
mod workspaces;
