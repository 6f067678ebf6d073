//! `launch --detach`: everything is submitted at once, so that nothing of the run is left on the login node.
//!
//! | job | begins when |
//! |---|---|
//! | the arrays of each phase | all arrays of the phase before are over, however they ended |
//! | the controller, which launches the run | the last arrays are over |
//!
//! A worker leaves a work item alone for which what it needs is not there. The controller finds what is done, tries again
//! what is worth it, and does what comes after the launch. Where failures are to be counted while the run goes on, the
//! controller is there from the beginning and submits the phases one by one.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::engine::slurm::args::Settle;
use crate::engine::slurm::limits::Limits;
use crate::engine::slurm::record::{Record, RecordState};
use crate::engine::slurm::refused::refused;
use crate::engine::slurm::submit::Submitter;
use crate::engine::slurm::{Args, SlurmEngine, array, script};
use crate::engine::{Channels, Flags as _};
use crate::model::event::{Event, Stop, Task};
use crate::output::text::count;
use crate::state::run_lock::RunLock;
use crate::state::shards::Shards;

impl SlurmEngine {
    /// Submits the phases, each behind the one before, and a job that launches the run behind them. Returns what to say
    /// about it.
    pub(super) async fn submit_all(
        &mut self,
        phases: Vec<(usize, Vec<Task>)>,
        lock: RunLock,
    ) -> Result<Vec<String>, Diagnostic> {
        let limits = self.limits().await?;
        let (events, mut told) = mpsc::unbounded_channel();
        let stop = tokio::sync::watch::Sender::new(Stop::No);
        let channels = Channels { events, stop: stop.subscribe() };
        let behind = if self.config.settle == Settle::EachPhase {
            vec![]
        } else {
            self.chain(&limits, &channels, phases).await?
        };
        // The controller takes it, and may begin before this process has ended.
        drop(lock);
        let submitter = Submitter { behind, ..self.submitter(&limits, 0, channels) };
        let id = submitter.controller().await?;
        let mut lines = vec![];
        while let Ok(Event::Noticed { message }) = told.try_recv() {
            lines.push(message);
        }
        let run = &self.config.run;
        let when = if submitter.behind.is_empty() { "launches" } else { "then sees to the end of" };
        lines.push(format!("job {id} {when} run {run}: `dvc-fanout status` says how it stands"));
        let name = Args::NAME;
        lines.push(format!("`dvc-fanout launch {run} --engine {name}` watches it, `dvc-fanout cancel {run}` ends it"));
        lines.push(format!("what goes wrong is in `{}`", self.run.job_output(&array::controller(run)).display()));
        Ok(lines)
    }

    /// Submits the arrays of phases one behind the other, as far as the site takes them; returns the last jobs.
    async fn chain(
        &self,
        limits: &Limits,
        channels: &Channels,
        phases: Vec<(usize, Vec<Task>)>,
    ) -> Result<Vec<u64>, Diagnostic> {
        let mut behind: Vec<u64> = vec![];
        for (phase, mut tasks) in phases {
            let mut submitter = Submitter {
                behind: behind.clone(),
                is_patient: false,
                ..self.submitter(limits, phase, channels.clone())
            };
            submitter.dealer.is_ahead = true;
            let adopted = submitter.adopt(&mut tasks).await?;
            let names: Vec<String> = adopted.iter().map(|array| array.name.clone()).collect();
            // What Slurm does not know any more is over, and it refuses to wait for that.
            let lines = if names.is_empty() { vec![] } else { self.slurm.list(&names).await? };
            let is_own = |id: &u64| adopted.iter().any(|array| array.record.ids.contains(id));
            let mut ids: BTreeSet<u64> = lines.iter().map(|line| line.array).filter(is_own).collect();
            let wanted = tasks.len();
            let arrays = submitter.submit(tasks, 1).await?;
            ids.extend(arrays.iter().flat_map(|array| &array.record.ids));
            if !ids.is_empty() {
                behind = ids.into_iter().collect();
            }
            let submitted: usize = arrays.iter().map(|array| array.shards.items.len()).sum();
            if submitted < wanted {
                let left = count(wanted - submitted, "work item");
                channels.notice(format!("the site takes no more jobs just now: {left} and what comes after are left to the job that launches the run"));
                break;
            }
        }
        Ok(behind)
    }
}

impl Submitter<'_> {
    /// Submits a job that launches the run; returns its id.
    async fn controller(&self) -> Result<u64, Diagnostic> {
        let name = array::controller(&self.dealer.config.run);
        let args = &self.dealer.config.args;
        let variables = self.dealer.write_variables(&name)?;
        let script = script::controller(self.dealer.config, variables.as_deref());
        let record = Record::new(&name, String::new(), RecordState::Submitting, args.clusters.clone());
        let mut words: Vec<String> = ["--parsable", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--requeue"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        let memory = Some("1G".to_owned()).filter(|_| args.mem.as_deref() != Some("none"));
        let partition = args.controller_partition.as_ref().or(args.partition.as_ref()).cloned();
        for (flag, value) in [
            ("mem", &memory),
            ("time", &args.controller_time),
            ("partition", &partition),
            ("account", &args.account),
            ("qos", &args.qos),
            ("reservation", &args.reservation),
            ("clusters", &args.clusters),
        ] {
            words.extend(value.as_ref().map(|value| format!("--{flag}={value}")));
        }
        // As if somebody pressed Ctrl-C once: the arrays go on, and the next launcher finds them.
        let signal = if args.then.is_some() { "USR1" } else { "INT" };
        words.push(format!("--signal=B:{signal}@60"));
        words.push(format!("--chdir={}", self.dealer.config.project));
        words.push("--open-mode=append".to_owned());
        words.push(format!("--job-name={name}"));
        words.push(format!("--comment=dvc-fanout {} controller {}", self.dealer.config.run, record.nonce));
        words.push(script::SINGLETON.to_owned());
        words.push(format!("--output={}", self.dealer.run.job_output(&name).display()));
        words.push(self.dealer.run.job_script(&name).display().to_string());
        let shards = Shards { count: 0, items: vec![], retry_commands: false };
        fs::write(&self.dealer.run.job_script(&name), script.as_bytes())?;
        self.dealer.files.write_job(&name, &shards, &record.to_json())?;
        let behind: Vec<String> = self.behind.iter().map(u64::to_string).collect();
        match self.send(&name, &record, &script::after(&words, &behind)).await? {
            Ok(ids) => {
                let id = ids[0];
                self.dealer.files.write_job(&name, &shards, &record.submitted(ids).to_json())?;
                Ok(id)
            }
            Err((refusal, said)) => {
                self.dealer.files.forget_job(&name)?;
                Err(refused(refusal, &said, &words))
            }
        }
    }
}
