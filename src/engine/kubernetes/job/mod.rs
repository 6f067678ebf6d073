//! The way from a run's phase to the manifest of an Indexed Job. Pure.
//!
//! | file | |
//! |---|---|
//! | `options.rs` | what a user can say about pods |
//! | `machine.rs`, `volume.rs` | resources and volumes and their one-line spellings |
//! | `name.rs` | names and label values within the limits |
//! | `manifest.rs` | the Job, as JSON |
//! | `yaml.rs` | the same as YAML |
//! | `patch.rs` | a user's own changes to the pod template |
//! | `validate.rs` | the API server's rules, checked before anything is sent |
//! | `observed.rs`, `explain.rs` | what is seen in a cluster, and why it is so |
//! | `indexes.rs` | `completedIndexes` and `failedIndexes` of a Job's status |

pub(crate) mod explain;
pub(crate) mod indexes;
pub(crate) mod machine;
pub(crate) mod manifest;
pub(crate) mod name;
pub(crate) mod observed;
pub(crate) mod options;
mod patch;
mod validate;
pub(crate) mod volume;
mod yaml;

use std::fmt;

/// What the API server would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// As the server writes it: `spec.template.spec.containers[0].image`.
    pub field: String,
    /// A lowercase fragment.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.message)
    }
}
