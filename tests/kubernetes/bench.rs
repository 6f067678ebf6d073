//! A run and a cluster for tests of the engine: the worklist is made up and pods do no work of DVC's, so that what
//! happens between launcher and cluster is all there is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::apiserver::{ApiServer, Options, Simulated};
use crate::support::{Project, Ran};

pub(super) const RUN: &str = "20261122-184000-abcd";
const DIRECTORY: &str = ".dvc/fanout/runs/20261122-184000-abcd";

/// How a simulated work item ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Succeed,
    /// A stage's command fails.
    Fail,
    /// A service fails.
    BreakDown,
    /// The worker dies before it publishes.
    Vanish,
}

impl Does {
    fn outcome(self) -> Option<Value> {
        match self {
            Does::Succeed => Some(json!({ "kind": "succeeded" })),
            Does::Fail => Some(json!({ "kind": "stage_failed", "stage": "a", "message": "exited with 1" })),
            Does::BreakDown => Some(json!({ "kind": "tool_failed", "message": "no space left" })),
            Does::Vanish => None,
        }
    }

    fn exit_code(self) -> i32 {
        match self {
            Does::Succeed => 0,
            Does::Fail => 1,
            Does::BreakDown => 5,
            Does::Vanish => 137,
        }
    }
}

pub(super) struct Bench {
    pub(super) project: Project,
    pub(super) server: ApiServer,
    kubeconfig: PathBuf,
}

impl Bench {
    /// A run of so many work items; `work` says how attempts (from 1) at them end.
    pub(super) fn new(items: usize, work: impl Fn(usize, u32) -> Does + Send + Sync + 'static) -> Self {
        Self::in_phases(&[items], work)
    }

    /// A run of so many work items in each phase, none of which needs another.
    pub(super) fn in_phases(counts: &[usize], work: impl Fn(usize, u32) -> Does + Send + Sync + 'static) -> Self {
        let project = Project::empty();
        write_run(&project, counts);
        let (run, jobs) = (project.path(DIRECTORY), JobFiles::default());
        let simulated: Simulated = Arc::new(move |index, pod| simulate(&run, &jobs, index, pod, &work));
        Self::with(project, |options| options.simulated = Some(simulated))
    }

    /// A cluster whose pods are real processes.
    pub(super) fn with(project: Project, change: impl FnOnce(&mut Options)) -> Self {
        let node = project.path(".dvc/tmp/node");
        fs::create_dir_all(&node).expect("made");
        let mut options = Options::new(&node);
        change(&mut options);
        let server = ApiServer::start(options);
        let kubeconfig = project.path(".dvc/tmp/kubeconfig");
        server.write_kubeconfig(&kubeconfig, "science");
        Bench { project, server, kubeconfig }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(["launch", "--engine", "kubernetes", "--image", "worker:1", "--run-as", "1000"]);
        let root = self.project.root().canonicalize().expect("it is there");
        command.arg("--volume").arg(format!("hostPath:{}", root.display()));
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        command
    }

    pub(super) fn launch(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Runs another command, which finds the cluster by `KUBECONFIG`.
    pub(super) fn other<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
        let mut command = self.project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        Ran::of(command.env("KUBECONFIG", &self.kubeconfig).args(arguments))
    }

    /// Launches in the background; stderr goes to a file that [`Bench::said`] reads.
    pub(super) fn start(&self, arguments: &[&str]) -> Child {
        let said = fs::File::create(self.project.path(".dvc/tmp/said")).expect("made");
        self.command(arguments).stdout(Stdio::null()).stderr(said).spawn().expect("it starts")
    }

    pub(super) fn said(&self) -> String {
        self.project.read(".dvc/tmp/said")
    }

    /// Waits until pods were watched so often.
    #[track_caller]
    pub(super) fn wait_for_watches(&self, watches: usize) {
        let end = Instant::now() + Duration::from_mins(1);
        while self.server.requests("watch pods") < watches {
            assert!(Instant::now() < end, "no new watch: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for what a launch in the background is to say.
    #[track_caller]
    pub(super) fn wait_until_said(&self, text: &str) {
        let end = Instant::now() + Duration::from_mins(1);
        while !self.said().contains(text) {
            assert!(Instant::now() < end, "waited for `{text}`: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The events of the journal, in short: `1.1 failed` for an ending, `1.1 tool_failed again` for one that is tried
    /// again.
    pub(super) fn endings(&self) -> Vec<String> {
        let journal = self.project.read(&format!("{DIRECTORY}/events.jsonl"));
        let events = journal.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let mut endings: Vec<String> = events
            .filter(|event| event["event"] == "attempt_finished")
            .map(|event| {
                let again = if event["retry_after_seconds"].is_null() { "" } else { " again" };
                format!("{}.{} {}{again}", event["index"], event["attempt"], event["ending"].as_str().unwrap_or("?"))
            })
            .collect();
        endings.sort();
        endings
    }

    /// What was said to people, as the journal has it.
    pub(super) fn notices(&self) -> Vec<String> {
        let journal = self.project.read(&format!("{DIRECTORY}/events.jsonl"));
        let events = journal.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events.filter(|event| event["event"] == "noticed").map(|event| text(&event["message"])).collect()
    }

    pub(super) fn job(&self) -> Value {
        let jobs = self.server.objects("jobs");
        jobs.into_iter().find(|job| !text(&job["metadata"]["name"]).contains("check")).expect("there is a Job")
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Writes a plan, as `plan` would.
fn write_run(project: &Project, counts: &[usize]) {
    let items: usize = counts.iter().sum();
    let firsts = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count)));
    let phases: Vec<Value> = firsts
        .zip(counts)
        .map(|(first, count)| json!({ "kind": "map", "trailing": false, "first": first, "count": count }))
        .collect();
    let plan = json!({
        "version": 1, "run": RUN, "created": "2026-11-22T18:40:00Z", "program": "0.1.0", "dvc": "3.67.1",
        "root": project.root(), "prefix": "", "head": null, "snapshot": null, "workspace": null, "targets": [],
        "options": {
            "over": null, "force": false, "single_item": false, "pipeline": false, "all_pipelines": false,
            "recursive": false, "downstream": false, "glob": false, "no_run_cache": false, "pull": false,
            "allow_missing_keys": false, "cwd": "",
        },
        "base": [], "work_items": items,
        "phases": phases, "templates": [],
    });
    let resources = json!({ "cpus": null, "memory_mib": null, "gpus": null, "timeout_seconds": null, "retries": null, "group": null });
    let (mut worklist, mut offsets) = (String::new(), String::new());
    let phase_of = counts.iter().enumerate().flat_map(|(phase, count)| std::iter::repeat_n(phase, *count));
    for (index, phase) in phase_of.enumerate() {
        writeln!(offsets, "{:015}", worklist.len()).expect("a String takes every text");
        let item = json!({
            "version": 1, "index": index, "id": format!("k{index:05}"), "phase": phase, "stages": [], "files": [], "inputs": [],
            "directories": [], "needs": [], "resources": resources,
        });
        writeln!(worklist, "{item}").expect("a String takes every text");
    }
    project.write(&format!("{DIRECTORY}/plan.json"), &plan.to_string());
    project.write(&format!("{DIRECTORY}/worklist.jsonl"), &worklist);
    project.write(&format!("{DIRECTORY}/worklist.index"), &offsets);
}

/// Which work items Jobs do. A large Job's file is not read for each of its pods: there are many, in one process.
#[derive(Default)]
struct JobFiles(Mutex<BTreeMap<PathBuf, (SystemTime, Arc<Value>)>>);

impl JobFiles {
    fn read(&self, file: &Path) -> Arc<Value> {
        let changed = file.metadata().and_then(|metadata| metadata.modified()).expect("the launcher wrote it");
        let mut known = self.0.lock().expect("nobody panics while reading");
        if let Some((_, job)) = known.get(file).filter(|(at, _)| *at == changed) {
            return Arc::clone(job);
        }
        let text = fs::read_to_string(file).expect("the launcher wrote it");
        let job: Arc<Value> = Arc::new(serde_json::from_str(&text).expect("JSON"));
        known.insert(file.to_owned(), (changed, Arc::clone(&job)));
        job
    }
}

/// Does what `dvc-fanout work` does on the volume, without DVC.
fn simulate(run: &Path, jobs: &JobFiles, shard: u32, pod: &Value, work: &dyn Fn(usize, u32) -> Does) -> i32 {
    let command = &pod["spec"]["containers"][0]["command"];
    let words: Vec<&str> = command.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let job = words.iter().position(|word| *word == "--job").map(|at| words[at + 1]).expect("a worker of a Job");
    if words.contains(&"--check") {
        fs::create_dir_all(run.join("jobs")).expect("made");
        fs::write(run.join("jobs").join(format!("{job}.checked")), "seen").expect("written");
        return 0;
    }
    let job = jobs.read(&run.join("jobs").join(format!("{job}.json")));
    let items = job["items"].as_array().expect("items");
    let shards = usize::try_from(job["shards"].as_u64().expect("a number")).expect("it fits");
    let mut code = 0;
    for item in items.iter().skip(shard as usize).step_by(shards) {
        let index = usize::try_from(item["index"].as_u64().expect("a number")).expect("it fits");
        let did = attempt(run, index, work);
        code = did.map_or(code, |did| code.max(did.exit_code()));
        if did == Some(Does::Vanish) {
            return code;
        }
    }
    code
}

/// One attempt at a work item; `None` where it has succeeded before.
fn attempt(run: &Path, index: usize, work: &dyn Fn(usize, u32) -> Does) -> Option<Does> {
    let folder = run.join("results").join(index.to_string());
    fs::create_dir_all(&folder).expect("made");
    let number = (1..100).find(|number| !folder.join(format!("{number}.log")).exists()).expect("few attempts");
    let succeeded = |number: u32| {
        let result = fs::read_to_string(folder.join(number.to_string()).join("result.json"));
        result.is_ok_and(|result| result.contains("succeeded"))
    };
    if (1..number).any(succeeded) {
        return None;
    }
    fs::write(folder.join(format!("{number}.log")), "").expect("written");
    let does = work(index, number);
    if let Some(outcome) = does.outcome() {
        let result = json!({
            "version": 1, "run": RUN, "index": index, "id": format!("k{index:05}"), "attempt": number, "outcome": outcome,
            "stages": [], "files": [], "deleted": [], "ignore": [], "dvc": "3.67.1", "host": "pod", "started": "", "finished": "",
        });
        let draft = folder.join(format!(".{number}"));
        fs::create_dir_all(&draft).expect("made");
        fs::write(draft.join("result.json"), result.to_string()).expect("written");
        fs::rename(draft, folder.join(number.to_string())).expect("published");
    }
    Some(does)
}
