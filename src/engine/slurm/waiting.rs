//! What tasks wait for that have not started: said, helped along where that can be done, and given up where it never comes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::diagnostic::Diagnostic;
use crate::engine::slurm::seen::{self, Line, Obstacle};
use crate::engine::slurm::watch::Watch;
use crate::output::text::count;

/// How long an array may be one that never runs; partitions are changed now and then.
const DOOMED: Duration = Duration::from_secs(60);
/// How often a task that Slurm holds is released.
const MAX_RELEASES: u32 = 3;
/// How often Slurm may start a task again.
const MAX_RESTARTS: u32 = 10;

impl Watch<'_> {
    /// Gives up on tasks that Slurm has started again and again.
    pub(super) async fn count_restarts(&mut self, number: usize, line: &Line) -> Result<(), Diagnostic> {
        let tracked = &mut self.arrays[number];
        let mut lost = vec![];
        for shard in &line.indexes {
            if !tracked.started.remove(shard) {
                continue;
            }
            let restarts = tracked.restarts.entry(*shard).or_default();
            *restarts += 1;
            if *restarts > MAX_RESTARTS && tracked.given_up.insert(*shard) {
                lost.push(format!("{}_{shard}", line.array));
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let name = &tracked.array.name;
        self.channels.notice(format!("tasks of `{name}` were started {MAX_RESTARTS} times: {}", lost.join(", ")));
        if let Err(away) = self.slurm.cancel(&lost).await {
            self.outage.goes_on(away, &self.channels)?;
        }
        Ok(())
    }

    /// Says what tasks wait for, lets those go on that Slurm holds, and gives up on those that never run.
    pub(super) async fn explain(&mut self, waiting: &[(usize, Line)], runs: bool) -> Result<(), Diagnostic> {
        let mut is_site_asked = None;
        let mut doomed: BTreeMap<usize, String> = BTreeMap::new();
        for (number, line) in waiting {
            let obstacle = seen::obstacle(&line.reason);
            match obstacle {
                Obstacle::RequeuedHeld => self.release(*number, line).await?,
                Obstacle::Never => drop(doomed.insert(*number, line.reason.clone())),
                Obstacle::Site | Obstacle::HeldByAdmin | Obstacle::Unknown => is_site_asked = Some(line.reason.clone()),
                Obstacle::Turn | Obstacle::HeldByUser => {}
            }
            let is_news = obstacle != Obstacle::Turn || (!runs && !matches!(&*line.reason, "None" | "Dependency"));
            if is_news && self.told.insert(line.reason.clone()) {
                let tasks = count(line.indexes.len(), "task");
                let (name, reason) = (&line.name, &line.reason);
                self.channels.notice(format!("{tasks} of `{name}` wait: {reason} ({})", seen::explanation(reason)));
            }
        }
        for number in 0..self.arrays.len() {
            let Some(reason) = doomed.get(&number).filter(|_| !runs) else {
                self.arrays[number].doomed = None;
                continue;
            };
            let since = *self.arrays[number].doomed.get_or_insert_with(Instant::now);
            if since.elapsed() >= DOOMED.min(self.config.pending_limit) {
                let name = self.arrays[number].array.name.clone();
                self.cancel().await?;
                return Err(Diagnostic::usage(format!("the tasks of array `{name}` would never start: {reason}"))
                    .cause(seen::explanation(reason))
                    .hint("launch again with other options; the arrays were cancelled"));
            }
        }
        if let Some(reason) = is_site_asked.filter(|_| self.progress.elapsed() > self.config.pending_limit) {
            let waited = self.config.pending_limit.as_secs();
            return Err(Diagnostic::tool(format!("nothing has run for {waited} s: {reason}"))
                .cause(seen::explanation(&reason))
                .hint("launch again when that has changed: the arrays were left as they are, and start when they can")
                .hint(format!("or end them: `dvc-fanout cancel {}`", self.config.run)));
        }
        Ok(())
    }

    /// Lets tasks go on whose node could not start them; after some times, the next array is to have them.
    async fn release(&mut self, number: usize, line: &Line) -> Result<(), Diagnostic> {
        for &shard in &line.indexes {
            let tracked = &mut self.arrays[number];
            let task = format!("{}_{shard}", line.array);
            let releases = tracked.releases.entry(shard).or_default();
            *releases += 1;
            let done = if *releases <= MAX_RELEASES {
                self.slurm.release(&task).await
            } else {
                tracked.given_up.insert(shard);
                self.slurm.cancel(&[task]).await
            };
            if let Err(away) = done {
                self.outage.goes_on(away, &self.channels)?;
            }
        }
        Ok(())
    }
}
