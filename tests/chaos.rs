//! Killing runs at random moments until they are through all the same.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, say};

/// How often runs are cut off at the least, all in all and in each step.
const KILLS: usize = 50;
const KILLS_PER_STEP: usize = 8;
/// How often each step is cut off at the most, in a round and all in all.
const KILLS_PER_ROUND: usize = 5;
const ENOUGH: usize = 15;
/// How long a run may take that nobody kills.
const LIMIT: Duration = Duration::from_mins(2);
/// How often a run is looked at.
const POLL: Duration = Duration::from_millis(4);
/// Another seed than one from the clock, to see a failure again.
const SEED: &str = "DVC_FANOUT_TEST_SEED";

/// The steps of a run, by what the disk says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// There is no plan yet, or none that is not done.
    Plan,
    /// Work items have no result yet.
    Launch,
    /// All have one, and nothing is collected yet.
    Collect,
    /// The rest runs and the run ends.
    Finalize,
}

const STEPS: [Step; 4] = [Step::Plan, Step::Launch, Step::Collect, Step::Finalize];

impl Step {
    /// How long after it was reached it is cut off at the latest; a new process takes a moment to come to it.
    fn spread(self, begins_here: bool) -> Duration {
        Duration::from_millis(match self {
            Step::Plan => 150,
            Step::Launch => 700,
            Step::Collect if begins_here => 120,
            Step::Collect => 10,
            Step::Finalize => 150,
        })
    }
}

/// Random numbers that a seed brings back, as `SplitMix64` makes them.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn within(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(limit.as_micros()).expect("it is short")))
    }
}

/// A project whose runs are killed. Its commands note that they run.
struct Victim {
    project: Project,
}

impl Victim {
    fn new() -> Victim {
        Victim { project: project() }
    }

    /// The folder of the latest run that has a plan.
    fn run(&self) -> Option<PathBuf> {
        let runs = std::fs::read_dir(self.project.path(".dvc/fanout/runs")).ok()?.flatten().map(|run| run.path());
        runs.filter(|run| run.join("plan.json").exists()).max()
    }

    /// The journal of the latest run.
    fn journal(&self) -> String {
        let read = |run: PathBuf| std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
        self.run().map(read).unwrap_or_default()
    }

    fn step(&self) -> Step {
        let (Some(run), journal) = (self.run(), self.journal()) else { return Step::Plan };
        let has = |event: &str| journal.contains(&format!("\"event\":\"{event}\""));
        if has("finalized") {
            return Step::Plan;
        }
        if has("collected") {
            return Step::Finalize;
        }
        // A plan of which nothing ran goes when the project is planned anew.
        let Ok(plan) = std::fs::read(run.join("plan.json")) else { return Step::Plan };
        let plan: Value = serde_json::from_slice(&plan).expect("JSON");
        let phases = plan["phases"].as_array().expect("a list").iter();
        let wanted: u64 =
            phases.filter(|phase| phase["trailing"] != true).filter_map(|phase| phase["count"].as_u64()).sum();
        if (self.published().len() as u64) < wanted { Step::Launch } else { Step::Collect }
    }

    /// The keys whose last attempt was published as a success.
    fn published(&self) -> Vec<String> {
        let mut published = vec![];
        let items = self.run().and_then(|run| std::fs::read_dir(run.join("results")).ok());
        for item in items.into_iter().flatten().flatten().map(|entry| entry.path()) {
            let names = std::fs::read_dir(&item).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let attempts = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse::<u32>().ok());
            let Some(last) = attempts.max() else { continue };
            let Ok(text) = std::fs::read(item.join(last.to_string()).join("result.json")) else { continue };
            let result: Value = serde_json::from_slice(&text).expect("what is published is whole");
            if result["outcome"]["kind"] == "succeeded" {
                published.push(result["id"].as_str().expect("text").to_owned());
            }
        }
        published
    }

    /// How often the commands of each key have run.
    fn ran(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in std::fs::read_to_string(self.project.path("../home/ran")).unwrap_or_default().lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Starts `run` in a process group of its own.
    fn start(&self) -> Killed {
        let log = self.project.path("../stderr");
        let mut command = self.project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(["run", "-j", "2"]).stdout(Stdio::null()).process_group(0);
        let child = command.stderr(std::fs::File::create(&log).expect("created")).spawn().expect("started");
        Killed { child, log }
    }
}

/// A `run` on its way.
struct Killed {
    child: Child,
    log: PathBuf,
}

impl Killed {
    /// Its exit code, once it has ended by itself; 0 is all that is expected.
    #[track_caller]
    fn has_ended(&mut self) -> bool {
        let Some(status) = self.child.try_wait().expect("looked at") else { return false };
        assert!(status.success(), "{status}: {}", std::fs::read_to_string(&self.log).expect("read"));
        true
    }

    fn kill(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).expect("a small number")).expect("not 0");
        kill_process_group(group, Signal::KILL).expect("killed");
        self.child.wait().expect("ended");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn project() -> Project {
    let project = Project::from_fixture("sessions");
    // The home is each project's own, so that the command is the same in both.
    project.edit(
        "dvc.yaml",
        "cmd: mkdir -p work &&",
        "cmd: echo ${item} >> $HOME/ran && sleep 0.3 && mkdir -p work &&",
    );
    project.edit("params.yaml", "s1, s2, s3, s4", "s1, s2, s3");
    project.commit("it notes what runs");
    project
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
        u64::from(now.subsec_nanos())
    });
    say(&format!("{SEED}={seed}"));
    let mut random = Random(seed);
    let (calm, victim) = (project(), Victim::new());
    let mut kills: BTreeMap<Step, usize> = STEPS.into_iter().map(|step| (step, 0)).collect();
    let mut round = 0;
    while kills.values().sum::<usize>() < KILLS || kills.values().any(|count| *count < KILLS_PER_STEP) {
        round += 1;
        for project in [&calm, &victim.project] {
            for session in ["s1", "s2", "s3"] {
                project.write(&format!("raw/{session}.txt"), &format!("{session}, round {round}\n"));
            }
        }
        calm.fanout(["run", "-j", "2"]).succeeded();
        let goal = ENOUGH.min(KILLS_PER_ROUND * round);
        let before = victim.ran();
        let mut settled: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let begin = victim.step();
            let mut running = victim.start();
            // The first step that is not cut off often enough yet is next, if this life comes to it.
            let goals = STEPS.into_iter().filter(|step| kills[step] < goal && *step >= begin);
            let target = goals.min();
            let limit = Instant::now() + LIMIT;
            let mut moment = None;
            let killed = loop {
                if running.has_ended() {
                    break false;
                }
                assert!(Instant::now() < limit, "it never ended: {:?}\n{}", victim.step(), victim.journal());
                if let Some(target) = target.filter(|_| moment.is_none()) {
                    let step = victim.step();
                    moment = (step >= target).then(|| Instant::now() + random.within(step.spread(step == begin)));
                }
                if moment.is_some_and(|moment| Instant::now() >= moment) {
                    running.kill();
                    break true;
                }
                std::thread::sleep(POLL);
            };
            if !killed {
                break;
            }
            let step = victim.step();
            *kills.entry(step).or_default() += 1;
            if step == Step::Plan {
                continue;
            }
            // Whose result is published now will not run again.
            let ran = victim.ran();
            for key in victim.published() {
                settled.entry(key.clone()).or_insert_with(|| ran.get(&key).copied().unwrap_or_default());
            }
        }
        say(&format!("round {round}: {kills:?}"));
        let ran = victim.ran();
        for (key, count) in settled.iter().filter(|(key, _)| before.contains_key(*key) || ran.contains_key(*key)) {
            assert_eq!(ran.get(key), Some(count), "`{key}` ran again although its result was published");
        }
        assert_same(&calm, &victim.project, &format!("round {round}"));
        assert_clean(&victim.project, &[]);
    }
    assert_eq!(victim.project.processes(), []);
}
