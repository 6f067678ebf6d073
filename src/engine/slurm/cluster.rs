//! The programs of a Slurm cluster: how they are called, and what they answered. Nothing is decided here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::adapters::process::{self, Program};
use crate::diagnostic::Diagnostic;
use crate::engine::slurm::refused::{self, Refusal};
use crate::engine::slurm::script;
use crate::engine::slurm::seen::{self, Line};
use crate::env;

/// The limit of a question; Slurm itself gives up after less than twenty seconds.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// The limit of a submission, which `sbatch` tries for two minutes where the controller has no room.
const SUBMIT_LIMIT: Duration = Duration::from_mins(3);
/// The limit of a question to the accounting, on which nothing depends.
const ACCOUNTING_LIMIT: Duration = Duration::from_secs(30);
/// Ids in one command line.
const IDS_PER_CALL: usize = 100;

/// Nobody answered.
#[derive(Clone, Debug)]
pub(super) struct Away {
    program: &'static str,
    why: String,
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {}", self.program, self.why)
    }
}

impl From<Away> for Diagnostic {
    fn from(away: Away) -> Self {
        let said = &away.why;
        let diagnostic = Diagnostic::tool(format!("Slurm does not answer: {away}"));
        if said.contains("cannot start") {
            diagnostic.hint("start this on a login node of the cluster, or load what provides Slurm's programs")
        } else if said.contains("Could not establish a configuration source") || said.contains("resolve_ctls_from_dns")
        {
            diagnostic.hint("set SLURM_CONF to the cluster's slurm.conf")
        } else {
            diagnostic.hint("launch again when it answers: arrays go on without the launcher, and are found again")
        }
    }
}

/// What came of a submission.
#[derive(Clone, Debug)]
pub(super) enum Submitted {
    As(u64),
    /// Surely not; what `sbatch` said.
    Refused(Refusal, String),
    /// Surely not: there is no `sbatch`.
    NotAtAll(String),
    /// Nobody knows before somebody has looked.
    Unknown(String),
}

/// The programs of a cluster.
#[derive(Clone)]
pub(super) struct Slurm {
    clusters: Option<String>,
    directory: PathBuf,
    /// Variables of the jobs that are submitted.
    variables: Vec<(String, String)>,
}

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Slurm {
    pub(super) fn new(clusters: Option<String>, directory: PathBuf) -> Self {
        Slurm { clusters, directory, variables: vec![] }
    }

    /// The same with variables for what it submits.
    pub(super) fn with(self, variables: &[(String, String)]) -> Self {
        Slurm { variables: variables.to_vec(), ..self }
    }

    /// The controller's configuration.
    pub(super) async fn configuration(&self) -> Result<BTreeMap<String, String>, Away> {
        let answer = self.ask("scontrol", &["show".into(), "config".into()]).await?;
        let entries = answer.lines().filter_map(|line| line.split_once('='));
        Ok(entries.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// The partitions, each with what is said of it.
    pub(super) async fn partitions(&self) -> Result<Vec<BTreeMap<String, String>>, Away> {
        let answer = self.ask("scontrol", &["show".into(), "partition".into(), "-o".into()]).await?;
        let fields = |line: &str| -> BTreeMap<String, String> {
            let pairs = line.split_whitespace().filter_map(|field| field.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        Ok(answer.lines().map(fields).filter(|partition| partition.contains_key("PartitionName")).collect())
    }

    pub(super) async fn submit(&self, words: &[String]) -> Submitted {
        let answer = match self.call("sbatch", words, SUBMIT_LIMIT).await {
            Ok(answer) => answer,
            Err(away) if away.why.contains("cannot start") => return Submitted::NotAtAll(away.to_string()),
            Err(away) => return Submitted::Unknown(away.to_string()),
        };
        if answer.code == Some(0)
            && let Some(id) = script::submitted(&answer.stdout)
        {
            return Submitted::As(id);
        }
        let said = said(&answer);
        match refused::refusal(&said, answer.code) {
            Some(refusal) => Submitted::Refused(refusal, said),
            None => Submitted::Unknown(format!("`sbatch` said: {said}")),
        }
    }

    /// All that is seen of arrays of these names, one question for all of them.
    pub(super) async fn list(&self, names: &[String]) -> Result<Vec<Line>, Away> {
        let words = ["--me", "-a", "-h", "-t", "all", "-o", seen::FORMAT, "-n"].map(str::to_owned);
        let words: Vec<String> = words.into_iter().chain([names.join(",")]).collect();
        Ok(seen::parse(&self.ask("squeue", &words).await?))
    }

    /// Ends jobs and array tasks; what is gone already is fine.
    pub(super) async fn cancel(&self, ids: &[String]) -> Result<(), Away> {
        for ids in ids.chunks(IDS_PER_CALL) {
            // The exit code proves nothing: whoever cancels looks again.
            self.call("scancel", ids, CALL_LIMIT).await?;
        }
        Ok(())
    }

    /// Ends the tasks of arrays that have not begun, and leaves those that run.
    pub(super) async fn cancel_waiting(&self, arrays: &[String]) -> Result<(), Away> {
        for ids in arrays.chunks(IDS_PER_CALL) {
            let words = ["-t", "PENDING"].into_iter().map(str::to_owned).chain(ids.iter().cloned());
            self.call("scancel", &words.collect::<Vec<_>>(), CALL_LIMIT).await?;
        }
        Ok(())
    }

    /// Lets a task go on that Slurm holds; one that cannot be released is looked at again later.
    pub(super) async fn release(&self, task: &str) -> Result<(), Away> {
        self.call("scontrol", &["release".into(), task.into()], CALL_LIMIT).await.map(drop)
    }

    /// Keeps the tasks of an array that wait away from some nodes; those that run refuse, which is fine.
    pub(super) async fn exclude(&self, array: u64, nodes: &str) -> Result<(), Away> {
        let words = ["update".to_owned(), format!("JobId={array}"), format!("ExcNodeList={nodes}")];
        self.call("scontrol", &words, CALL_LIMIT).await.map(drop)
    }

    /// What the accounting knows of the tasks of arrays: `ARRAY_INDEX` and the state. Nothing where there is none.
    pub(super) async fn accounting(&self, ids: &[String]) -> Vec<(String, String)> {
        let words = ["-n", "-P", "-X", "-S", "now-30days", "-o", "JobID,State", "-j"].map(str::to_owned);
        let words: Vec<String> = words.into_iter().chain([ids.join(",")]).collect();
        let Ok(answer) = self.call("sacct", &words, ACCOUNTING_LIMIT).await else { return vec![] };
        if answer.code != Some(0) {
            return vec![];
        }
        let fields = answer.stdout.lines().filter_map(|line| line.split_once('|'));
        // `CANCELLED by 1000` says no more than its first word here.
        fields.map(|(id, state)| (id.to_owned(), state.split(' ').next().unwrap_or_default().to_owned())).collect()
    }

    /// Asks something, and takes the answer only where the program succeeded.
    async fn ask(&self, program: &'static str, words: &[String]) -> Result<String, Away> {
        let answer = self.call(program, words, CALL_LIMIT).await?;
        if answer.code == Some(0) {
            return Ok(answer.stdout);
        }
        Err(Away { program, why: format!("said: {}", said(&answer)) })
    }

    async fn call(&self, program: &'static str, words: &[String], limit: Duration) -> Result<Answer, Away> {
        let mut command = Program::new(program).limit(limit);
        if let Some(clusters) = self.clusters.as_ref().filter(|_| program != "sbatch") {
            command = command.arg("-M").arg(clusters);
        }
        for word in words {
            command = command.arg(word);
        }
        for (name, value) in [("LC_ALL", "C"), ("SLURM_BITSTR_LEN", "0"), ("SLURM_TIME_FORMAT", "standard")] {
            command = command.env(name, value);
        }
        for (name, value) in self.variables.iter().filter(|_| program == "sbatch") {
            command = command.env(name, value);
        }
        command.removed = env::names().into_iter().filter(|name| is_misleading(name)).map(Into::into).collect();
        let directory = self.directory.clone();
        let output = tokio::task::spawn_blocking(move || process::output(&command, Some(&directory))).await;
        let output = output.map_err(|error| Away { program, why: format!("could not be waited for: {error}") })?;
        let output = output.map_err(|error| Away { program, why: format!("cannot start: {error}") })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let answer = Answer { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        let is_overseers = answer.stderr.starts_with("error: ");
        if is_overseers && answer.code == Some(i32::from(crate::exit::Exit::Tool.code())) {
            return Err(Away { program, why: answer.stderr.trim().trim_start_matches("error: ").replace('\n', "; ") });
        }
        Ok(answer)
    }
}

/// Whether a variable of this process would change what Slurm's programs print or submit.
///
/// A job that submits another would hand its own limits on; where the cluster is stays, and so do the user's defaults.
fn is_misleading(name: &str) -> bool {
    let is_output = name.starts_with("SQUEUE_") || name.starts_with("SACCT_");
    let is_waiting = matches!(name, "SBATCH_WAIT" | "SBATCH_ARRAY_INX" | "SBATCH_JOB_NAME");
    let is_of_job = name.starts_with("SLURM_") && env::read(env::SLURM_JOB_ID).is_some();
    is_output || is_waiting || (is_of_job && !matches!(name, "SLURM_CONF" | "SLURM_CLUSTERS"))
}

/// What a program said about what went wrong, in one line.
fn said(answer: &Answer) -> String {
    let text = if answer.stderr.trim().is_empty() { &answer.stdout } else { &answer.stderr };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join("; ");
    if last.is_empty() { format!("nothing, and exited with {}", answer.code.unwrap_or(-1)) } else { last }
}
