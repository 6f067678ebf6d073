//! Killing runs, or a part of them, at random moments until they are through all the same.
//!
//! `DVC_FANOUT_TEST_KILLS=1000` asks for more kills than in CI, `DVC_FANOUT_TEST_EXECUTOR=native` for another executor than
//! `auto`, `DVC_FANOUT_TEST_STORE=1` for workers that have nothing but a folder as an object store.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, say};

/// How often something is killed at the least, and in each step at the least.
const KILLS: usize = 50;
const KILLS_PER_STEP: usize = 8;
/// How often something is killed in each step of a round at the most.
const KILLS_PER_ROUND: usize = 5;
/// How long a run that nobody kills may write nothing into its journal; far longer than on the slowest machine.
const LIMIT: Duration = Duration::from_mins(10);
/// How often a run is looked at.
const POLL: Duration = Duration::from_millis(4);
/// Another seed than one from the clock, to see a failure again.
const SEED: &str = "DVC_FANOUT_TEST_SEED";

/// A number that the environment may have.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    /// The launcher and all it has started that did not leave its process group.
    All,
    Launcher,
    Worker,
    /// A process of a stage's command, or DVC itself where it does a stage.
    Command,
}

const ALL_OF_THEM: [Whom; 4] = [Whom::All, Whom::Launcher, Whom::Worker, Whom::Command];

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
    arguments: Vec<String>,
    /// The last run of the rounds before, which may lack its end in the journal: all was done when it was killed.
    before: Option<PathBuf>,
    /// Whether a command or a worker was killed in this round.
    lost_a_command: Cell<bool>,
}

impl Victim {
    fn new() -> Victim {
        let project = project();
        let mut arguments: Vec<String> = ["run", "-j", "2", "--executor"].map(str::to_owned).to_vec();
        arguments.push(std::env::var("DVC_FANOUT_TEST_EXECUTOR").unwrap_or_else(|_| "auto".to_owned()));
        if number("DVC_FANOUT_TEST_STORE").is_some() {
            let folder = |name: &str| project.path(&format!("../{name}")).display().to_string();
            project.dvc(["remote", "add", "--global", "--default", "remote", &folder("remote")]);
            std::fs::create_dir_all(folder("store")).expect("made");
            arguments.extend(["--store".to_owned(), format!("file://{}", folder("store"))]);
        }
        Victim { project, arguments, before: None, lost_a_command: Cell::new(false) }
    }

    /// What was run until now is of no interest any more.
    fn forget(&mut self) {
        self.lost_a_command.set(false);
        self.before = self.run().or(self.before.take());
    }

    /// Whether what ran twice in this round may have come to two ends.
    fn may_differ(&self) -> bool {
        self.lost_a_command.get() && self.arguments.iter().any(|argument| argument == "check")
    }

    /// The folder of this round's latest run that has a plan.
    fn run(&self) -> Option<PathBuf> {
        let runs = std::fs::read_dir(self.project.path(".dvc/fanout/runs")).ok()?.flatten().map(|run| run.path());
        let is_new = |run: &PathBuf| self.before.as_ref().is_none_or(|before| run > before);
        runs.filter(|run| run.join("plan.json").exists() && is_new(run)).max()
    }

    /// The journal of the latest run.
    fn journal(&self) -> String {
        let read = |run: PathBuf| std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
        self.run().map(read).unwrap_or_default()
    }

    /// The journals of the latest runs, for people who look for what went wrong.
    fn last_journals(&self) -> String {
        let runs = std::fs::read_dir(self.project.path(".dvc/fanout/runs")).expect("listed").flatten();
        let mut runs: Vec<PathBuf> = runs.map(|run| run.path()).collect();
        runs.sort_unstable();
        let read = |run: &PathBuf| {
            let journal = std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
            format!("{}\n{journal}", run.display())
        };
        runs[runs.len().saturating_sub(3)..].iter().map(read).collect()
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
        command.args(&self.arguments).stdout(Stdio::null()).process_group(0);
        let child = command.stderr(std::fs::File::create(&log).expect("created")).spawn().expect("started");
        Killed { child, log, lost_a_command: false }
    }

    /// Some process of the run of this kind.
    fn some(&self, whom: Whom, random: &mut Random) -> Option<Pid> {
        let is_ours = |line: &str| line.contains("dvc-fanout") || line.contains("/proc/self/exe");
        let is_meant = |line: &str| match whom {
            Whom::Worker => is_ours(line) && line.contains(" work "),
            _ => !is_ours(line) && !line.is_empty(),
        };
        let mut meant: Vec<i32> =
            self.project.processes().into_iter().filter(|(_, line)| is_meant(line)).map(|(id, _)| id).collect();
        meant.sort_unstable();
        let at = random.below(meant.len().max(1) as u64);
        meant.get(usize::try_from(at).expect("few")).and_then(|id| Pid::from_raw(*id))
    }

    /// Kills some of a run, and says whether the launcher was among them.
    fn strike(&self, running: &mut Killed, whom: Whom, random: &mut Random) -> bool {
        match whom {
            Whom::All => running.kill(),
            Whom::Launcher => running.kill_alone(),
            Whom::Worker | Whom::Command => {
                if let Some(process) = self.some(whom, random) {
                    running.lost_a_command = true;
                    self.lost_a_command.set(true);
                    // It may have ended by itself since.
                    let _gone = kill_process(process, Signal::KILL);
                }
                return false;
            }
        }
        true
    }
}

/// A `run` on its way.
struct Killed {
    child: Child,
    log: PathBuf,
    /// Whether a command was killed: to DVC, and so to us, that is one that failed.
    lost_a_command: bool,
}

impl Killed {
    /// Whether all is done, once it has ended by itself. Where a command may be lost that is run twice to be compared, the
    /// two may differ.
    #[track_caller]
    fn has_ended(&mut self, may_differ: bool) -> Option<bool> {
        let status = self.child.try_wait().expect("looked at")?;
        let has_failed_stages = status.code() == Some(1) && self.lost_a_command;
        let said = || std::fs::read_to_string(&self.log).expect("read");
        let differs = || may_differ && status.code() == Some(70) && said().contains("DVC did work item");
        assert!(status.success() || has_failed_stages || differs(), "{status}: {}", said());
        Some(status.success())
    }

    fn kill_alone(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
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

/// How often something was killed, by step and by whom.
struct Kills {
    by_step: BTreeMap<Step, usize>,
    by_whom: BTreeMap<Whom, usize>,
    wanted: usize,
}

impl Kills {
    fn new() -> Kills {
        let by_step = STEPS.into_iter().map(|step| (step, 0)).collect();
        let wanted = number("DVC_FANOUT_TEST_KILLS").map_or(KILLS, |kills| usize::try_from(kills).expect("it fits"));
        Kills { by_step, by_whom: BTreeMap::new(), wanted }
    }

    fn count(&mut self, step: Step, whom: Whom) {
        *self.by_step.entry(step).or_default() += 1;
        *self.by_whom.entry(whom).or_default() += 1;
    }

    fn are_enough(&self) -> bool {
        self.by_step.values().sum::<usize>() >= self.wanted
            && self.by_step.values().all(|count| *count >= KILLS_PER_STEP)
    }

    /// The step in which something is killed next in a round, given the first that the run comes to: the one that was cut
    /// off least.
    fn next(&self, round: usize, begin: Step) -> Option<Step> {
        let goal = KILLS_PER_ROUND * round;
        let possible = STEPS.into_iter().filter(|step| self.by_step[step] < goal && *step >= begin);
        possible.min_by_key(|step| self.by_step[step])
    }
}

/// Waits for a moment in a step and then has somebody killed; `None` where the run ended before, with whether all is done.
fn cut_off(victim: &Victim, kills: &mut Kills, round: usize, random: &mut Random) -> Option<bool> {
    let begin = victim.step();
    let mut running = victim.start();
    let mut target = kills.next(round, begin);
    let (mut limit, mut written) = (Instant::now() + LIMIT, 0);
    let mut moment = None;
    loop {
        if let Some(is_done) = running.has_ended(victim.may_differ()) {
            return Some(is_done);
        }
        let journal = victim.journal().len();
        if journal != written {
            (written, limit) = (journal, Instant::now() + LIMIT);
        }
        assert!(Instant::now() < limit, "it never ended: {:?}\n{}", victim.step(), victim.journal());
        if let Some(target) = target.filter(|_| moment.is_none()) {
            let step = victim.step();
            moment = (step >= target).then(|| Instant::now() + random.within(step.spread(step == begin)));
        }
        if moment.is_some_and(|moment| Instant::now() >= moment) {
            let whom = match victim.step() {
                Step::Launch if !running.lost_a_command => ALL_OF_THEM[usize::try_from(random.below(4)).expect("few")],
                _ => Whom::All,
            };
            let has_lost_launcher = victim.strike(&mut running, whom, random);
            kills.count(victim.step(), whom);
            if has_lost_launcher {
                return None;
            }
            // The others go on, and come to the next steps.
            (target, moment) = (kills.next(round, Step::Collect), None);
        }
        std::thread::sleep(POLL);
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened() {
    let seed = number(SEED).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
        u64::from(now.subsec_nanos())
    });
    say(&format!("{SEED}={seed}"));
    let mut random = Random(seed);
    let (calm, mut victim) = (project(), Victim::new());
    let mut kills = Kills::new();
    let mut round = 0;
    while !kills.are_enough() {
        round += 1;
        victim.forget();
        for project in [&calm, &victim.project] {
            for session in ["s1", "s2", "s3"] {
                project.write(&format!("raw/{session}.txt"), &format!("{session}, round {round}\n"));
            }
        }
        calm.dvc(["repro", "--quiet"]);
        let before = victim.ran();
        let mut settled: BTreeMap<String, usize> = BTreeMap::new();
        while cut_off(&victim, &mut kills, round, &mut random) != Some(true) {
            if victim.step() == Step::Plan {
                continue;
            }
            // Whose result is published now will not run again.
            let ran = victim.ran();
            for key in victim.published() {
                settled.entry(key.clone()).or_insert_with(|| ran.get(&key).copied().unwrap_or_default());
            }
        }
        say(&format!("round {round}: {:?} {:?}", kills.by_step, kills.by_whom));
        let ran = victim.ran();
        for (key, count) in settled.iter().filter(|(key, _)| before.contains_key(*key) || ran.contains_key(*key)) {
            assert_eq!(
                ran.get(key),
                Some(count),
                "`{key}` ran again although its result was published\n{}",
                victim.last_journals()
            );
        }
        assert_same(&calm, &victim.project, &format!("round {round}"));
        assert_clean(&victim.project, &[]);
    }
    assert_eq!(victim.project.processes(), []);
}
