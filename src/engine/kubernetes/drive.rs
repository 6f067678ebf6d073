//! Watches one Job to its end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::diagnostic::Diagnostic;
use crate::engine::kubernetes::KubernetesConfig;
use crate::engine::kubernetes::api::{Change, Cluster, Propagation};
use crate::engine::kubernetes::job::explain;
use crate::engine::kubernetes::job::observed::{JobEnd, PodPhase, SeenJob, SeenPod};
use crate::engine::kubernetes::stuck::Watchman;
use crate::engine::kubernetes::submitted::{Submitted, cancel, clean_up};
use crate::engine::remote::Late;
use crate::engine::remote::files::RunFiles;
use crate::engine::remote::items::{Items, ShardEnd};
use crate::engine::{Channels, Failures, PhaseEnd, until_asked};
use crate::exit::Exit;
use crate::model::event::{Event, Stop};
use crate::model::run::Ending;
use crate::state::shards::Shards;

/// How often running pods' results are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How often pods that do not run are asked for their reason.
const ASK: Duration = Duration::from_secs(5);
/// How long a Job may go on after all its work items have ended.
const END_LIMIT: Duration = Duration::from_mins(1);
/// How long the cluster may take to end a Job in which too many indexes have failed.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(10);
/// How long what the pod of a check wrote may take until it is seen here.
const CHECK_LIMIT: Duration = Duration::from_secs(70);
/// How long the second Ctrl-C is waited for.
const DETACH_DELAY: Duration = Duration::from_secs(5);

pub(super) struct Drive<'a> {
    config: &'a KubernetesConfig,
    files: &'a RunFiles,
    cluster: &'a Cluster,
    channels: Channels,
    /// Those of all Jobs.
    failures: &'a Failures,
    /// How many of them are this Job's.
    failed: usize,
    /// Since when there are too many.
    failing_since: Option<Instant>,
    job: SeenJob,
    retries: u32,
    retry_commands: bool,
    items: Items,
    /// Pods that are pending or running, by name.
    pods: BTreeMap<String, SeenPod>,
    /// The uids of pods whose end was taken in.
    settled: HashSet<String>,
    late: BTreeMap<usize, Late>,
    watchman: Watchman,
    /// Since when all work items have ended.
    finished_at: Option<Instant>,
    /// It has no work items, and is over with its Job.
    is_check: bool,
}

/// Waits for the Job of a check and for what its pod writes.
pub(super) async fn check(
    config: &KubernetesConfig,
    files: &RunFiles,
    cluster: &Cluster,
    job: SeenJob,
    channels: Channels,
) -> Result<(), Diagnostic> {
    let nothing = Shards { count: 1, items: vec![], retry_commands: false };
    let submitted = Submitted { seen: job, shards: nothing, wanted: BTreeSet::new(), retries: 0 };
    let failures = Failures::up_to(None);
    let mut drive = Drive::new(config, files, cluster, &failures, submitted, channels);
    drive.is_check = true;
    let over = drive.watch().await?;
    let name = drive.job.name.clone();
    let failed = |message: &str| Diagnostic::project(format!("pods do not see what they need: {message}"));
    match over {
        Over::Ended(end) if end.is_complete => {}
        Over::Ended(end) => {
            let why = match cluster.pods(&drive.job).await?.last().map(explain::ending) {
                Some(Ending::Failed { message } | Ending::ToolFailed { message } | Ending::Lost { message }) => message,
                Some(Ending::Succeeded | Ending::Stopped) | None => end.message,
            };
            return Err(failed(&why).hint(format!("look at it with `{}`", cluster.kubectl("logs", &name))));
        }
        Over::Deleted => return Err(Diagnostic::tool(format!("Job `{name}` was deleted by somebody"))),
        Over::Finished => return Err(Diagnostic::internal("a check has no work items")),
        Over::Cancelled | Over::Detached => {
            cancel(cluster, &drive.job, Duration::ZERO).await?;
            return Err(Diagnostic::new(Exit::Signal(2), "stopped while a pod was checking the volumes"));
        }
    }
    let begun = Instant::now();
    while !files.was_checked(&name).await? {
        if begun.elapsed() > CHECK_LIMIT {
            return Err(match &config.store {
                Some(url) => failed(&format!("what a pod wrote into `{url}` is not seen from here"))
                    .cause("the object store of the pods is another than the one this machine reaches")
                    .hint("compare endpoints and credentials of the pods (`--pod-env`) with those here"),
                None => failed("what a pod wrote into the run's directory is not here")
                    .cause("the volume of the pods is another than the one this machine sees")
                    .hint("compare `--volume` and `--map` with what is mounted here"),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(cluster.delete_job(&drive.job, Propagation::Background).await?)
}

/// Why the loop ends.
enum Over {
    Ended(JobEnd),
    Deleted,
    /// Everything is published; the Job's status lags behind.
    Finished,
    Cancelled,
    Detached,
}

impl<'a> Drive<'a> {
    pub(super) fn new(
        config: &'a KubernetesConfig,
        files: &'a RunFiles,
        cluster: &'a Cluster,
        failures: &'a Failures,
        submitted: Submitted,
        channels: Channels,
    ) -> Self {
        let Submitted { seen, shards, wanted, retries } = submitted;
        Drive {
            config,
            files,
            cluster,
            channels,
            failures,
            failed: 0,
            failing_since: None,
            job: seen,
            retries,
            retry_commands: shards.retry_commands,
            items: Items::new(&shards, |index| wanted.contains(&index)).listed(files.is_over_store()),
            pods: BTreeMap::new(),
            settled: HashSet::new(),
            late: BTreeMap::new(),
            watchman: Watchman::new(),
            finished_at: None,
            is_check: false,
        }
    }

    /// Follows the Job until it is over, or the launcher is told to stop.
    pub(super) async fn run(mut self) -> Result<PhaseEnd, Diagnostic> {
        match self.watch().await? {
            Over::Ended(end) => {
                self.files.close_job(&self.job.name)?;
                self.settle_rest(Some(&end)).await?;
                clean_up(self.config, self.cluster, &self.job, Some(&end)).await?;
                Ok(PhaseEnd::Done)
            }
            Over::Deleted => {
                self.channels.notice(format!("Job `{}` was deleted by somebody", self.job.name));
                self.files.close_job(&self.job.name)?;
                self.settle_rest(None).await?;
                Ok(PhaseEnd::Done)
            }
            Over::Finished => {
                let complete = JobEnd { is_complete: true, reason: String::new(), message: String::new() };
                self.files.close_job(&self.job.name)?;
                clean_up(self.config, self.cluster, &self.job, Some(&complete)).await?;
                Ok(PhaseEnd::Done)
            }
            Over::Cancelled => {
                let grace = Duration::from_secs(self.config.pods.grace_seconds.into());
                cancel(self.cluster, &self.job, grace).await?;
                self.files.close_job(&self.job.name)?;
                let end = ShardEnd {
                    place: self.job.name.clone(),
                    ending: Ending::Stopped,
                    again: false,
                    spares_others: false,
                };
                let events = self.items.settle_all(&end, self.files)?;
                self.tell(events);
                Ok(PhaseEnd::Done)
            }
            Over::Detached => Ok(PhaseEnd::Detached),
        }
    }

    async fn watch(&mut self) -> Result<Over, Diagnostic> {
        let mut jobs = self.cluster.follow_job(&self.job.name);
        let mut pods = self.cluster.follow_pods(&self.job);
        let mut stop = self.channels.stop.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asks = interval(ASK);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let over = tokio::select! {
                biased;
                requested = until_asked(&mut stop, |stop| stop != Stop::No) => Some(self.stop(requested).await),
                change = pods.next() => {
                    self.on_pods(change?)?;
                    None
                }
                change = jobs.next() => self.on_job(change?),
                _ = looks.tick() => self.look()?,
                _ = asks.tick() => {
                    self.ask().await?;
                    None
                }
            };
            if let Some(over) = over {
                return Ok(over);
            }
        }
    }

    /// The first request lets the Job go on unless a second one follows.
    async fn stop(&mut self, requested: Stop) -> Over {
        if requested == Stop::Now {
            return Over::Cancelled;
        }
        let mut stop = self.channels.stop.clone();
        if timeout(DETACH_DELAY, until_asked(&mut stop, |stop| stop == Stop::Now)).await.is_ok() {
            return Over::Cancelled;
        }
        self.channels.notice(format!("Job `{}` continues without this launcher", self.job.name));
        Over::Detached
    }

    fn on_job(&mut self, change: Change<SeenJob>) -> Option<Over> {
        let seen = match change {
            Change::Changed(seen) => Some(seen),
            Change::Listed(all) => all.into_iter().next(),
            Change::Deleted(_) => None,
            Change::Away(why) => {
                let (server, limit) = (&self.cluster.server, self.config.access.patience.as_secs());
                let message = format!("the API server at {server} does not answer ({why}); trying for up to {limit} s");
                self.channels.notice(message);
                return None;
            }
            Change::Back => {
                self.channels.notice(format!("the API server at {} answers again", self.cluster.server));
                return None;
            }
        };
        match seen.filter(|seen| seen.uid == self.job.uid) {
            Some(seen) => {
                if seen.completed != self.job.completed {
                    self.watchman.progressed();
                }
                self.job = seen;
                self.job.end.clone().map(Over::Ended)
            }
            None => Some(Over::Deleted),
        }
    }

    fn on_pods(&mut self, change: Change<SeenPod>) -> Result<(), Diagnostic> {
        match change {
            Change::Changed(pod) => self.on_pod(pod),
            Change::Deleted(pod) => self.on_gone(pod),
            // Told where the Job is followed.
            Change::Away(_) | Change::Back => Ok(()),
            Change::Listed(all) => {
                let listed: HashSet<String> = all.iter().map(|pod| pod.name.clone()).collect();
                for pod in all {
                    self.on_pod(pod)?;
                }
                let gone: Vec<SeenPod> =
                    self.pods.values().filter(|pod| !listed.contains(&pod.name)).cloned().collect();
                gone.into_iter().try_for_each(|pod| self.on_gone(pod))
            }
        }
    }

    fn on_pod(&mut self, pod: SeenPod) -> Result<(), Diagnostic> {
        if pod.index.is_none() || self.settled.contains(&pod.uid) {
            return Ok(());
        }
        if pod.phase.is_over() {
            return self.settle(&pod);
        }
        if pod.is_at_work() {
            self.watchman.progressed();
        }
        self.pods.insert(pod.name.clone(), pod);
        Ok(())
    }

    /// A pod that vanished before its end was seen.
    fn on_gone(&mut self, pod: SeenPod) -> Result<(), Diagnostic> {
        if pod.index.is_none() || self.settled.contains(&pod.uid) {
            self.pods.remove(&pod.name);
            return Ok(());
        }
        self.settle(&SeenPod { phase: PodPhase::Failed, ..pod })
    }

    /// Takes in the end of a pod.
    fn settle(&mut self, pod: &SeenPod) -> Result<(), Diagnostic> {
        self.pods.remove(&pod.name);
        self.settled.insert(pod.uid.clone());
        let Some(shard) = pod.index.map(|index| index as usize) else { return Ok(()) };
        let end = if pod.phase == PodPhase::Succeeded {
            ShardEnd { place: pod.name.clone(), ending: Ending::Succeeded, again: false, spares_others: false }
        } else {
            match &self.job.failing {
                // The controller ends what runs when it gives a Job up.
                Some(reason) if pod.is_deleted && pod.disrupted.is_none() => ShardEnd {
                    place: pod.name.clone(),
                    ending: ending_of_rest(reason, ""),
                    again: false,
                    spares_others: false,
                },
                Some(_) | None => {
                    let again = explain::is_tried_again(pod, self.retries, self.retry_commands);
                    ShardEnd { place: pod.name.clone(), ending: explain::ending(pod), again, spares_others: false }
                }
            }
        };
        if self.files.is_behind(Instant::now()) {
            self.late.insert(shard, Late::new(end));
            return Ok(());
        }
        match self.items.settle(shard, &end, self.files, true)? {
            Some(events) => self.tell(events),
            None => drop(self.late.insert(shard, Late::new(end))),
        }
        Ok(())
    }

    /// Looks for results: of running pods, and of those that ended well but left none to be seen.
    fn look(&mut self) -> Result<Option<Over>, Diagnostic> {
        self.files.look_after_store()?;
        let mut told = vec![];
        for pod in self.pods.values().filter(|pod| pod.phase == PodPhase::Running) {
            let Some(shard) = pod.index else { continue };
            told.extend(self.items.look(shard as usize, &pod.name, self.files)?);
        }
        self.tell(told);
        let mut still_late = BTreeMap::new();
        for (shard, late) in std::mem::take(&mut self.late) {
            if self.files.is_behind(late.since) {
                still_late.insert(shard, late);
                continue;
            }
            let is_patient = late.is_patient(self.files);
            match self.items.settle(shard, &late.end, self.files, is_patient)? {
                Some(events) => self.tell(events),
                None => drop(still_late.insert(shard, late)),
            }
        }
        self.late = still_late;
        if self.items.left() > 0 || self.is_check {
            return Ok(self.is_given_up().then_some(Over::Cancelled));
        }
        let since = *self.finished_at.get_or_insert_with(Instant::now);
        Ok((since.elapsed() > END_LIMIT).then_some(Over::Finished))
    }

    /// Whether the Job is to be ended since too many work items have failed.
    ///
    /// The cluster ends a Job by itself in which too many indexes have failed, and keeps it to be looked at; it neither
    /// knows of other Jobs nor of several work items of one index.
    fn is_given_up(&mut self) -> bool {
        if !self.failures.are_too_many() {
            return false;
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        !self.failures.limit_is_reached(self.failed) || since.elapsed() > GIVE_UP_LIMIT
    }

    /// Says what pods wait for; gives up when that has lasted too long.
    async fn ask(&mut self) -> Result<(), Diagnostic> {
        let has_queue = self.config.pods.queue.is_some();
        for message in self.watchman.look(self.cluster, &self.job, &self.pods, has_queue).await? {
            self.channels.notice(message);
        }
        let Some((cause, waited)) = self.watchman.is_stuck(self.config.stuck_limit) else { return Ok(()) };
        let stuck = Diagnostic::tool(format!("Job `{}` made no progress for {} s", self.job.name, waited.as_secs()))
            .cause(cause);
        if self.is_check {
            self.cluster.delete_job(&self.job, Propagation::Background).await?;
            return Err(stuck.hint("fix that and launch again"));
        }
        Err(stuck
            .hint("fix that and launch again: the Job was left in place, and continues when it can")
            .hint(format!("or end it: `dvc-fanout cancel {}`", self.config.run)))
    }

    /// Settles what is left when the Job is over: by its last pods, then by its status.
    async fn settle_rest(&mut self, end: Option<&JobEnd>) -> Result<(), Diagnostic> {
        if self.items.left() == 0 {
            return Ok(());
        }
        // The pods' last updates may come after the Job's.
        for pod in self.cluster.pods(&self.job).await? {
            if pod.phase.is_over() {
                self.on_pod(pod)?;
            }
        }
        let begun = Instant::now();
        while self.files.is_behind(begun) {
            self.files.look_after_store()?;
            tokio::time::sleep(LOOK).await;
        }
        self.look()?;
        let completed: Vec<usize> = self.job.completed.iter().map(|index| index as usize).collect();
        loop {
            let is_patient = self.files.may_still_come(begun);
            let open: HashSet<usize> = self.items.open_shards().collect();
            let mut missing = false;
            for &shard in completed.iter().filter(|shard| open.contains(shard)) {
                let place = format!("index {shard} of Job `{}`", self.job.name);
                let end = ShardEnd { place, ending: Ending::Succeeded, again: false, spares_others: false };
                match self.items.settle(shard, &end, self.files, is_patient)? {
                    Some(events) => self.tell(events),
                    None => missing = true,
                }
            }
            if !missing {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let ending = match end {
            Some(JobEnd { reason, message, .. }) => ending_of_rest(reason, message),
            None => Ending::Lost { message: format!("Job `{}` was deleted", self.job.name) },
        };
        let end = ShardEnd { place: self.job.name.clone(), ending, again: false, spares_others: false };
        let events = self.items.settle_all(&end, self.files)?;
        self.tell(events);
        Ok(())
    }

    fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            self.failures.take(&event);
            self.failed += usize::from(event.failed().is_some());
            self.channels.send(event);
        }
    }
}

/// What the end of a Job means for work items of which neither a result nor a pod says more.
fn ending_of_rest(reason: &str, message: &str) -> Ending {
    match reason {
        "MaxFailedIndexesExceeded" => Ending::Stopped,
        "DeadlineExceeded" => Ending::Failed { message: "the Job took longer than its deadline".to_owned() },
        _ => Ending::ToolFailed { message: format!("{reason}: {}", explain::excerpt(message)) },
    }
}
