//! The run's directory, as far as an engine of a cluster has to do with it; and the object store that takes its place for
//! workers which see no folder of the launcher's.

use std::sync::Arc;

use serde_json::Value as Json;
use tokio::time::Instant;

use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::engine::remote::LAG_LIMIT;
use crate::engine::remote::items::{ItemFiles, Volume};
use crate::engine::remote::post::{Post, Round};
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::format::Plan;
use crate::state::mailbox::Mailbox;
use crate::state::paths::RunDir;
use crate::state::results;
use crate::state::shards::{self, Shards};

/// The directory of a run.
#[derive(Clone, Debug)]
pub(crate) struct RunFiles {
    run: RunDir,
    engine: &'static str,
    /// How the cluster is reached, for whoever asks later.
    cluster: Json,
    post: Option<Post>,
}

impl RunFiles {
    pub(crate) fn new(run: &RunDir, engine: &'static str, cluster: Json) -> Self {
        RunFiles { run: run.clone(), engine, cluster, post: None }
    }

    /// The same where workers publish into an object store.
    pub(crate) fn over(self, mailbox: Option<&Arc<Mailbox>>, plan: &Plan) -> Self {
        RunFiles { post: mailbox.map(|mailbox| Post::new(mailbox, &self.run, plan.work_items)), ..self }
    }

    /// Brings results from the object store for as long as what this returns lives.
    pub(crate) fn bring_results(&self) -> Option<Round> {
        self.post.as_ref().map(Post::rounds)
    }

    /// Fails where the object store does not answer any more.
    pub(crate) fn look_after_store(&self) -> Result<(), Diagnostic> {
        self.post.as_ref().map_or(Ok(()), Post::failure)
    }

    /// Whether a result may still come of what ended then.
    pub(crate) fn may_still_come(&self, ended: Instant) -> bool {
        match &self.post {
            Some(post) => !post.has_seen_all_until(ended),
            None => ended.elapsed() < LAG_LIMIT,
        }
    }

    /// Whether workers publish into an object store.
    pub(crate) fn is_over_store(&self) -> bool {
        self.post.is_some()
    }

    /// Whether nobody has looked since for what came through the object store: whatever has ended then may have more to say.
    pub(crate) fn is_behind(&self, ended: Instant) -> bool {
        self.post.as_ref().is_some_and(|post| !post.has_looked_since(ended))
    }

    /// Lets workers know which work items a job does, where they see no folder of the launcher's.
    pub(crate) async fn post_job(&self, job: &str) -> Result<(), Diagnostic> {
        let job = job.to_owned();
        self.ask_store(move |mailbox, run| mailbox.send_job(run, &job)).await.map(drop)
    }

    /// Takes that back of a job that was not made after all.
    pub(crate) async fn take_back_job(&self, job: &str) -> Result<(), Diagnostic> {
        let job = job.to_owned();
        self.ask_store(move |mailbox, _| mailbox.forget_job(&job)).await.map(drop)
    }

    /// Asks the object store, if there is one, while others go on.
    async fn ask_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Mailbox, &RunDir) -> Result<T, Diagnostic> + Send + 'static,
    ) -> Result<Option<T>, Diagnostic> {
        let Some(post) = &self.post else { return Ok(None) };
        let (mailbox, run) = (Arc::clone(&post.mailbox), self.run.clone());
        let asked = tokio::task::spawn_blocking(move || ask(&mailbox, &run)).await;
        asked.map_err(|error| Diagnostic::internal("a request to the object store broke").source(&error))?.map(Some)
    }

    /// Which work items the job of this name does; `None` where there is no such job.
    pub(crate) fn shards(&self, job: &str) -> Result<Option<Shards>, Diagnostic> {
        shards::read(&self.run, job)
    }

    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "other engines remember more of each job"))]
    pub(crate) fn write_shards(&self, job: &str, list: &Shards) -> Result<(), Diagnostic> {
        Ok(shards::write(&self.run, self.engine, job, list, &self.cluster)?)
    }

    /// Writes down which work items a job does, with what the engine is to remember of it.
    pub(crate) fn write_job(&self, job: &str, list: &Shards, cluster: &Json) -> Result<(), Diagnostic> {
        Ok(shards::write(&self.run, self.engine, job, list, cluster)?)
    }

    /// What the engine remembers of a job; `None` where there is no such job.
    pub(crate) fn cluster_of(&self, job: &str) -> Result<Option<Json>, Diagnostic> {
        shards::cluster_of(&self.run, job)
    }

    /// Forgets a job that was not made after all.
    pub(crate) fn forget_job(&self, job: &str) -> Result<(), Diagnostic> {
        Ok(shards::forget(&self.run, job)?)
    }

    /// Whether the task of a shard left some of its work items alone, since what they need was not there.
    pub(crate) fn were_skipped(&self, job: &str, list: &Shards, shard: usize) -> Result<bool, Diagnostic> {
        for item in list.of(shard) {
            if results::skipped_by(&self.run, item.index)?.as_deref() == Some(job) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether all work items of a shard have succeeded.
    pub(crate) fn are_done(&self, list: &Shards, shard: usize) -> Result<bool, Diagnostic> {
        for item in list.of(shard) {
            if !results::is_done(&self.run, item.index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The number of a work item's next attempt.
    pub(crate) fn next_attempt(&self, index: ItemIndex) -> Result<AttemptNumber, Diagnostic> {
        Ok(results::next_attempt(&self.run, index)?)
    }

    /// The jobs of which nobody has seen the end yet.
    pub(crate) fn open_jobs(&self) -> Result<Vec<String>, Diagnostic> {
        shards::open_of(&self.run, self.engine)
    }

    /// Remembers that a job is over.
    pub(crate) fn close_job(&self, job: &str) -> Result<(), Diagnostic> {
        Ok(shards::close(&self.run, job)?)
    }

    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only pods check by themselves"))]
    pub(crate) async fn forget_check(&self, job: &str) -> Result<(), Diagnostic> {
        fs::remove(&self.run.check(job))?;
        let job = job.to_owned();
        self.ask_store(move |mailbox, _| mailbox.forget_check(&job)).await.map(drop)
    }

    /// Whether the worker of the check of this name has written to the directory, or into the store.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only pods check by themselves"))]
    pub(crate) async fn was_checked(&self, job: &str) -> Result<bool, Diagnostic> {
        let name = job.to_owned();
        match self.ask_store(move |mailbox, _| mailbox.was_checked(&name)).await? {
            Some(was_checked) => Ok(was_checked),
            None => Ok(fs::read_text_if_any(&self.run.check(job))?.is_some()),
        }
    }
}

impl Volume for RunFiles {
    fn item(&self, index: ItemIndex) -> Result<ItemFiles, Diagnostic> {
        let begun = results::attempts(&self.run, index)?.last().copied();
        let best = results::best(&self.run, index)?;
        let result = best.map(|published| (published.result.attempt, published.result.outcome.ending()));
        Ok(ItemFiles { begun, result })
    }
}
