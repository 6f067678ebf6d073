//! Random small graphs end as serial `dvc repro` leaves them, and no stage starts before its inputs are final.
//!
//! A dozen cases; `DVC_FANOUT_GRAPHS=300` asks for more, `DVC_FANOUT_SEED=N` begins with others, and
//! `DVC_FANOUT_GRAPHS_EXECUTOR=native` has stages done by another executor than `auto`. Each case has a seed of its own,
//! which is said before it begins. DVC runs in one process.

mod graph;

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::oracle::Oracle;
use crate::support::same::{Listed, assert_same, assert_same_listing};
use crate::support::{Project, say};
use graph::{Edit, Graph};

const CASES: u64 = 12;

/// The stages that were planned in the latest run started only after those that make their inputs had succeeded.
fn assert_inputs_were_final(project: &Project, graph: &Graph) {
    let runs = project.path(".dvc/fanout/runs");
    let latest = std::fs::read_dir(runs).expect("runs").map(|run| run.expect("listed").path()).max().expect("a run");
    let lines = |file: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(latest.join(file)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let mut place: HashMap<String, (u64, usize)> = HashMap::new();
    for item in lines("worklist.jsonl") {
        let index = item["index"].as_u64().expect("an index");
        for (at, stage) in item["stages"].as_array().expect("stages").iter().enumerate() {
            place.insert(stage["address"].as_str().expect("an address").to_owned(), (index, at));
        }
    }
    let mut times: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for (time, event) in lines("events.jsonl").iter().enumerate() {
        let index = || event["index"].as_u64().expect("an index");
        match event["event"].as_str() {
            Some("attempt_started") => times.entry(index()).or_default().0 = time,
            Some("attempt_finished") => times.entry(index()).or_default().1 = time,
            _ => {}
        }
    }
    let runs = |template: &usize| !graph.templates[*template].frozen;
    for stage in (0..graph.templates.len()).filter(runs).flat_map(|template| graph.stages(template)) {
        let Some(&(own, at)) = place.get(&stage.address) else { continue };
        for (maker, at_maker) in stage.makers.iter().filter_map(|maker| place.get(maker)) {
            if *maker == own {
                assert!(*at_maker < at, "{} comes after what it needs in its work item", stage.address);
            } else {
                assert!(times[maker].1 < times[&own].0, "{} started before its inputs were final", stage.address);
            }
        }
    }
}

/// What is different after a failure, and from then on: where a line stands that DVC took back and wrote again.
fn is_ignore_file(path: &str) -> bool {
    path.ends_with(".gitignore")
}

/// What the stages of one work item add to a common text stands together there, wherever `dvc repro` would have others between
/// them.
fn sort_common_notes(project: &Project) {
    let text = project.read(graph::COMMON);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    project.write(graph::COMMON, &(lines.join("\n") + "\n"));
}

fn check(oracle: &mut Oracle, mut graph: Graph, edits: &[Vec<Edit>], executor: &str) {
    let source = tempfile::NamedTempFile::new().expect("made");
    std::fs::write(source.path(), "imported\n").expect("written");
    let (serial, fanned) = (Project::without_init(), Project::without_init());
    [&serial, &fanned].into_iter().for_each(|project| graph.make(project, oracle, source.path()));
    let nothing = vec![];
    let mut fails = false;
    for (round, edits) in std::iter::once(&nothing).chain(edits).enumerate() {
        // A template is frozen as it was run.
        let (frozen, others): (Vec<Edit>, Vec<Edit>) = edits.iter().partition(|edit| matches!(edit, Edit::Frozen(_)));
        for edit in frozen.into_iter().chain(others) {
            graph.apply(oracle, edit, round, [&serial, &fanned]);
        }
        let said = oracle.keep_going(serial.root());
        assert!(said.error.is_none(), "{said:?}");
        fails = said.events.iter().flatten().any(|(what, _)| what == "failed");
        graph.has_failed |= fails;
        let ran = fanned.fanout(["run", "-P", "-j", "2", "--executor", executor]);
        // By itself it refuses what only DVC can do, a frozen stage that changed, and says so; the rounds before were compared.
        if executor == "native" && ran.stderr.contains("only DVC can do it") {
            return;
        }
        assert_eq!(ran.code, Some(i32::from(fails)), "round {round}: {ran:#?}\n{said:?}");
        [&serial, &fanned].into_iter().for_each(sort_common_notes);
        let is_compared: Listed = if graph.has_failed { &|path| !is_ignore_file(path) } else { &|_| true };
        assert_same_listing(&serial, &fanned, is_compared, &format!("round {round}"));
        if !graph.has_failed {
            assert_same(&serial, &fanned, &format!("round {round}"));
        }
        if !fails {
            assert_inputs_were_final(&fanned, &graph);
        }
    }
    if !fails {
        let changed = oracle.changed(fanned.root());
        let left: Vec<_> = changed.changed.into_iter().flatten().filter(|(_, changed)| *changed).collect();
        assert!(left.is_empty() && changed.error.is_none(), "left to do: {left:?} {:?}", changed.error);
    }
}

#[test]
fn random_graphs_end_as_serial_repro_leaves_them() {
    let Some(oracle) = Oracle::start() else { return };
    let oracle = std::cell::RefCell::new(oracle);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let executor = std::env::var("DVC_FANOUT_GRAPHS_EXECUTOR").unwrap_or_else(|_| "auto".to_owned());
    let first = number("DVC_FANOUT_SEED").unwrap_or(1);
    for seed in (first..).take(usize::try_from(number("DVC_FANOUT_GRAPHS").unwrap_or(CASES)).expect("few")) {
        say(&format!("DVC_FANOUT_SEED={seed} DVC_FANOUT_GRAPHS=1 DVC_FANOUT_GRAPHS_EXECUTOR={executor}"));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 24, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let edits = prop::collection::vec(prop::collection::vec(graph::edit(), 1..3), 1..4);
        let outcome = runner.run(&(graph::graph(), edits), |(graph, edits)| {
            check(&mut oracle.borrow_mut(), graph, &edits, &executor);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
