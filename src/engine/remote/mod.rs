//! What engines have in common whose workers are on other machines and publish into a shared folder, or an object store.
//!
//! | file | |
//! |---|---|
//! | `classes.rs` | which work items share a job |
//! | `shards.rs` | how a job's work items are dealt out to its indexes |
//! | `items.rs` | what became of them: results first, the cluster's word second |
//! | `files.rs` | the run's directory, as far as such engines have to do with it |
//! | `post.rs` | results that come through an object store |

pub(crate) mod classes;
pub(crate) mod files;
pub(crate) mod items;
mod post;
pub(crate) mod shards;

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::remote::files::RunFiles;
use crate::engine::remote::items::ShardEnd;

/// How long a shared folder may lag behind the machine that wrote to it. NFS clients cache a directory for up to a
/// minute.
const LAG_LIMIT: Duration = Duration::from_secs(70);

/// A shard that ended well, whose results are not here yet.
pub(crate) struct Late {
    pub end: ShardEnd,
    pub since: Instant,
}

impl Late {
    pub(crate) fn new(end: ShardEnd) -> Self {
        Late { end, since: Instant::now() }
    }

    /// Whether its results may still come.
    pub(crate) fn is_patient(&self, files: &RunFiles) -> bool {
        files.may_still_come(self.since)
    }
}
