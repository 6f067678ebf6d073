//! Random small graphs end as serial `dvc repro` leaves them, and no stage starts before its inputs are final.
//!
//! A dozen cases; `DVC_FANOUT_GRAPHS=300` asks for more, `DVC_FANOUT_SEED=N` for others. DVC runs in one process.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::Project;
use crate::support::oracle::Oracle;
use crate::support::same::assert_same;

const KEYS: [&str; 4] = ["k1", "k2", "k3", "k4"];
const CASES: u32 = 12;

/// Templates in the order of what they need; template `i` makes `oI/KEY`, a shared one `oI/all`.
#[derive(Clone, Debug)]
struct Graph {
    templates: Vec<Template>,
    /// Counts up with edits of the params file.
    weight: u32,
}

#[derive(Clone, Debug)]
struct Template {
    /// One bit per key; `None` for a shared stage.
    keys: Option<u8>,
    wires: Vec<Wire>,
    out: Out,
    /// Makes the same from inputs of the same size.
    lossy: bool,
    params: bool,
    /// In `sub/dvc.yaml`.
    in_folder: bool,
    /// Only an edit freezes a template, once its stages have run.
    frozen: bool,
}

/// Where a dep comes from. Templates are taken modulo those that come before.
#[derive(Clone, Copy, Debug)]
enum Wire {
    /// The same key of a template (a shared one's only out).
    Same(usize),
    /// The key before, of a template.
    Before(usize),
    /// The key before, of this template: a rolling window.
    Rolling,
    /// All that a template made.
    Gathered(usize),
    /// `raw/shared.txt`.
    Shared,
    /// The key's file in `data`, which DVC tracks.
    Tracked,
    /// All of `data`.
    AllTracked,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Out {
    File,
    Uncached,
    Directory,
}

#[derive(Clone, Copy, Debug)]
enum Edit {
    Raw(usize),
    Shared,
    Weight,
    Keys(usize, u8),
    Lossy(usize),
    RemoveOuts(usize),
    Tracked(usize),
    Frozen(usize),
}

fn template() -> impl Strategy<Value = Template> {
    let wire = prop_oneof![
        4 => (0..8_usize).prop_map(Wire::Same),
        2 => (0..8_usize).prop_map(Wire::Before),
        1 => Just(Wire::Rolling),
        2 => (0..8_usize).prop_map(Wire::Gathered),
        1 => Just(Wire::Shared),
        1 => Just(Wire::Tracked),
        1 => Just(Wire::AllTracked),
    ];
    let out = prop_oneof![3 => Just(Out::File), 1 => Just(Out::Uncached), 1 => Just(Out::Directory)];
    let keys = prop_oneof![2 => (1..16_u8).prop_map(Some), 1 => Just(None)];
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    (keys, prop::collection::vec(wire, 0..3), out, flags).prop_map(|(keys, wires, out, (lossy, params, in_folder))| {
        Template { keys, wires, out, lossy, params, in_folder, frozen: false }
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..KEYS.len()).prop_map(Edit::Raw),
        2 => Just(Edit::Shared),
        1 => Just(Edit::Weight),
        2 => (0..8_usize, 1..16_u8).prop_map(|(template, keys)| Edit::Keys(template, keys)),
        1 => (0..8_usize).prop_map(Edit::Lossy),
        1 => (0..8_usize).prop_map(Edit::RemoveOuts),
        1 => (0..KEYS.len()).prop_map(Edit::Tracked),
        1 => (0..8_usize).prop_map(Edit::Frozen),
    ]
}

/// A stage: its address, its deps, and the addresses of the stages that make them.
struct Stage {
    address: String,
    deps: Vec<String>,
    makers: Vec<String>,
}

impl Graph {
    fn keys(&self, template: usize) -> Vec<&'static str> {
        match self.templates[template].keys {
            Some(bits) => (0..KEYS.len()).filter(|at| bits & (1 << at) != 0).map(|at| KEYS[at]).collect(),
            None => vec!["all"],
        }
    }

    fn address(&self, template: usize, key: &str) -> String {
        let name =
            if self.templates[template].keys.is_some() { format!("t{template}@{key}") } else { format!("t{template}") };
        if self.templates[template].in_folder { format!("sub/dvc.yaml:{name}") } else { name }
    }

    /// The stages of a template, one per key.
    fn stages(&self, template: usize) -> Vec<Stage> {
        let keys = self.keys(template);
        let stage = |(position, key): (usize, &&'static str)| {
            let mut stage = Stage { address: self.address(template, key), deps: vec![], makers: vec![] };
            for (number, wire) in self.templates[template].wires.iter().enumerate() {
                self.connect(&mut stage, template, position, *wire, number);
            }
            stage
        };
        keys.iter().enumerate().map(stage).collect()
    }

    /// Adds the dep of one wire; an input of its own where the wire leads nowhere or to a dep that is there already.
    fn connect(&self, stage: &mut Stage, template: usize, position: usize, wire: Wire, number: usize) {
        let key = self.keys(template)[position];
        let has = |other: usize, key: &str| self.keys(other).contains(&key);
        let at = KEYS.iter().position(|other| *other == key);
        let before = at.and_then(|at| at.checked_sub(1)).map(|at| KEYS[at]);
        let from = |other: usize| (template > 0).then(|| other % template.max(1));
        let found = match wire {
            Wire::Same(other) => from(other).and_then(|other| {
                let key = if has(other, "all") { "all" } else { key };
                has(other, key).then(|| (format!("o{other}/{key}"), vec![self.address(other, key)]))
            }),
            Wire::Before(other) => from(other).zip(before).and_then(|(other, key)| {
                has(other, key).then(|| (format!("o{other}/{key}"), vec![self.address(other, key)]))
            }),
            Wire::Rolling => before
                .filter(|key| has(template, key))
                .map(|key| (format!("o{template}/{key}"), vec![self.address(template, key)])),
            Wire::Gathered(other) => from(other).map(|other| {
                (format!("o{other}"), self.keys(other).iter().map(|key| self.address(other, key)).collect())
            }),
            Wire::Shared => Some(("raw/shared.txt".to_owned(), vec![])),
            Wire::Tracked => Some((format!("data/{key}.txt"), vec![])),
            Wire::AllTracked => Some(("data".to_owned(), vec![])),
        };
        let overlaps = |path: &str| {
            stage
                .deps
                .iter()
                .any(|dep| dep == path || dep.starts_with(&format!("{path}/")) || path.starts_with(&format!("{dep}/")))
        };
        let raw = if number == 0 { format!("raw/{key}.txt") } else { format!("raw/other{number}.txt") };
        let (dep, makers) = found.filter(|(path, _)| !overlaps(path)).unwrap_or((raw, vec![]));
        stage.deps.push(dep);
        stage.makers.extend(makers);
    }

    fn pipeline(&self, in_folder: bool) -> String {
        let mut text = "stages:\n".to_owned();
        for (number, template) in self.templates.iter().enumerate().filter(|(_, one)| one.in_folder == in_folder) {
            let up = if in_folder { "../" } else { "" };
            let is_map = template.keys.is_some();
            let deps: Vec<String> = (0..template.wires.len()).map(|at| format!("${{item.d{at}}}")).collect();
            let shared = self.stages(number).remove(0).deps;
            let deps = if is_map { deps } else { shared };
            let deps: Vec<String> = deps.into_iter().map(|dep| format!("{up}{dep}")).collect();
            let (key, indent) = if is_map { ("${key}", "      ") } else { ("all", "    ") };
            let out = format!("{up}o{number}/{key}");
            writeln!(text, "  t{number}:").expect("a String");
            if is_map {
                text.push_str("    foreach:\n");
                for (key, stage) in self.keys(number).iter().zip(self.stages(number)) {
                    let deps = stage.deps.iter().enumerate().map(|(at, dep)| format!("d{at}: {dep}"));
                    writeln!(text, "      {key}: {{{}}}", deps.collect::<Vec<_>>().join(", ")).expect("a String");
                }
                text.push_str("    do:\n");
            }
            let (make, to) = match template.out {
                Out::File | Out::Uncached => (format!("mkdir -p {up}o{number}"), out.clone()),
                Out::Directory => (format!("mkdir -p {out}"), format!("{out}/f")),
            };
            let read = if deps.is_empty() {
                format!("echo {key}")
            } else {
                format!("cat $(find {} -type f ! -name .gitignore | LC_ALL=C sort) /dev/null", deps.join(" "))
            };
            let reduce = if template.lossy { "wc -c" } else { "cat" };
            let weight = if template.params { format!(" && echo ${{weight}} >> {to}") } else { String::new() };
            writeln!(text, "{indent}cmd: {make} && ({read}) | {reduce} > {to}{weight}").expect("a String");
            if !deps.is_empty() {
                let quoted: Vec<String> = deps.iter().map(|dep| format!("'{dep}'")).collect();
                writeln!(text, "{indent}deps: [{}]", quoted.join(", ")).expect("a String");
            }
            if template.params {
                writeln!(text, "{indent}params: [weight]").expect("a String");
            }
            if template.frozen {
                writeln!(text, "{indent}frozen: true").expect("a String");
            }
            let flags = if template.out == Out::Uncached { ": {cache: false}" } else { "" };
            writeln!(text, "{indent}outs: ['{out}'{flags}]").expect("a String");
        }
        if text == "stages:\n" { String::new() } else { text }
    }

    fn write(&self, project: &Project) {
        project.write("params.yaml", &format!("weight: {}\n", self.weight));
        project.write("dvc.yaml", &self.pipeline(false));
        project.write("sub/params.yaml", &format!("weight: {}\n", self.weight));
        project.write("sub/dvc.yaml", &self.pipeline(true));
    }

    fn has_tracked(&self) -> bool {
        let mut wires = self.templates.iter().flat_map(|template| &template.wires);
        wires.any(|wire| matches!(wire, Wire::Tracked | Wire::AllTracked))
    }

    fn apply(&mut self, oracle: &mut Oracle, edit: Edit, round: usize, projects: [&Project; 2]) {
        let count = self.templates.len();
        // What a frozen stage made cannot be made again.
        if let Edit::RemoveOuts(template) | Edit::Keys(template, _) = edit
            && self.templates[template % count].frozen
        {
            return;
        }
        for project in projects {
            match edit {
                Edit::Raw(key) => project.write(&format!("raw/{}.txt", KEYS[key]), &format!("round {round}\n")),
                Edit::Shared => project.write("raw/shared.txt", &format!("shared {round}\n")),
                Edit::RemoveOuts(template) => {
                    drop(std::fs::remove_dir_all(project.path(&format!("o{}", template % count))));
                }
                Edit::Tracked(key) if self.has_tracked() => {
                    project.write(&format!("data/{}.txt", KEYS[key]), &format!("tracked {round}\n"));
                    oracle.add(project.root());
                }
                Edit::Weight | Edit::Keys(..) | Edit::Lossy(_) | Edit::Tracked(_) | Edit::Frozen(_) => {}
            }
        }
        match edit {
            Edit::Weight => self.weight += 1,
            Edit::Keys(template, keys) => {
                let bits = &mut self.templates[template % count].keys;
                *bits = bits.map(|_| keys);
            }
            Edit::Lossy(template) => self.templates[template % count].lossy ^= true,
            Edit::Frozen(template) => self.templates[template % count].frozen ^= true,
            Edit::Raw(_) | Edit::Shared | Edit::RemoveOuts(_) | Edit::Tracked(_) => {}
        }
        projects.into_iter().for_each(|project| self.write(project));
    }
}

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

fn check(oracle: &mut Oracle, mut graph: Graph, edits: &[Vec<Edit>]) {
    let (serial, fanned) = (Project::without_init(), Project::without_init());
    for project in [&serial, &fanned] {
        for name in KEYS.into_iter().chain(["all", "shared", "other1", "other2"]) {
            project.write(&format!("raw/{name}.txt"), &format!("{name}\n"));
        }
        graph.write(project);
        if graph.has_tracked() {
            for name in KEYS.into_iter().chain(["all"]) {
                project.write(&format!("data/{name}.txt"), &format!("tracked {name}\n"));
            }
            oracle.add(project.root());
        }
        project.commit("random");
    }
    let nothing = vec![];
    for (round, edits) in std::iter::once(&nothing).chain(edits).enumerate() {
        // A template is frozen as it was run.
        let (frozen, others): (Vec<Edit>, Vec<Edit>) = edits.iter().partition(|edit| matches!(edit, Edit::Frozen(_)));
        for edit in frozen.into_iter().chain(others) {
            graph.apply(oracle, edit, round, [&serial, &fanned]);
        }
        let said = oracle.repro(serial.root());
        assert!(said.error.is_none(), "{said:?}");
        let failed: Vec<_> = said.events.iter().flatten().filter(|(what, _)| what == "failed").collect();
        assert!(failed.is_empty(), "{failed:?}");
        let ran = fanned.fanout(["run", "-P", "-j", "2"]);
        assert_eq!(ran.code, Some(0), "round {round}: {ran:#?}");
        assert_same(&serial, &fanned, &format!("round {round}"));
        assert_inputs_were_final(&fanned, &graph);
    }
    let changed = oracle.changed(fanned.root());
    let left: Vec<_> = changed.changed.into_iter().flatten().filter(|(_, changed)| *changed).collect();
    assert!(left.is_empty() && changed.error.is_none(), "left to do: {left:?} {:?}", changed.error);
}

#[test]
fn random_graphs_end_as_serial_repro_leaves_them() {
    let Some(oracle) = Oracle::start() else { return };
    let oracle = std::cell::RefCell::new(oracle);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = number("DVC_FANOUT_GRAPHS").map_or(CASES, |cases| u32::try_from(cases).expect("a small number"));
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("DVC_FANOUT_SEED").unwrap_or(1).to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 24, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let graph = prop::collection::vec(template(), 2..6).prop_map(|templates| Graph { templates, weight: 1 });
    let edits = prop::collection::vec(prop::collection::vec(edit(), 1..3), 1..3);
    let outcome = runner.run(&(graph, edits), |(graph, edits)| {
        check(&mut oracle.borrow_mut(), graph, &edits);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
