//! Runs over an object store: workers see nothing of the project, and it ends as `dvc repro` leaves it.

mod azure;
mod by_hand;
mod clusters;
mod data;
mod elsewhere;
mod faults;
mod google;
mod kills;
mod whole_job;
