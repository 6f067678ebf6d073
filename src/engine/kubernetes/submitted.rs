//! Jobs of this run in the cluster, and how they go.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::engine::kubernetes::api::{Cluster, Propagation};
use crate::engine::kubernetes::job::observed::{JobEnd, SeenJob};
use crate::engine::kubernetes::{Keep, KubernetesConfig};
use crate::model::numbers::ItemIndex;
use crate::state::shards::Shards;

/// How long a Job that is being deleted may take to go.
pub(super) const DELETION_LIMIT: Duration = Duration::from_mins(2);
pub(super) const DELETION_POLL: Duration = Duration::from_millis(500);

/// A Job of this run in the cluster.
pub(super) struct Submitted {
    pub seen: SeenJob,
    pub shards: Shards,
    /// Those of its work items that this launch asked for.
    pub wanted: BTreeSet<ItemIndex>,
    pub retries: u32,
}

/// Deletes a Job that is over, as far as it is not to be kept.
pub(super) async fn clean_up(
    config: &KubernetesConfig,
    cluster: &Cluster,
    seen: &SeenJob,
    end: Option<&JobEnd>,
) -> Result<(), Diagnostic> {
    let keep = match config.keep {
        Keep::Always => true,
        Keep::Failed => end.is_none_or(|end| !end.is_complete),
        Keep::Never => false,
    };
    if !keep {
        cluster.delete_job(seen, Propagation::Background).await?;
    }
    Ok(())
}

/// Ends a Job and its pods, and waits until they are gone.
pub(super) async fn cancel(cluster: &Cluster, seen: &SeenJob, grace: Duration) -> Result<(), Diagnostic> {
    cluster.delete_job(seen, Propagation::Foreground).await?;
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < grace + DELETION_LIMIT {
        match cluster.job(&seen.name).await? {
            Some(found) if found.uid == seen.uid => tokio::time::sleep(DELETION_POLL).await,
            Some(_) | None => return Ok(()),
        }
    }
    Err(Diagnostic::tool(format!("Job `{}` was deleted, but its pods do not end", seen.name))
        .hint(format!("look at it with `{}`", cluster.kubectl("describe", &seen.name))))
}
