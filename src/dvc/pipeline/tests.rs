//! Whole projects in memory: what stages they make, and that no text makes the reader fall over.

use proptest::prelude::*;

use super::graph::target::{self, TargetOptions};
use super::graph::{Graph, Reach};
use super::project::Project;
use super::source::MemoryFiles;
use super::stage_index::StageIndex;
use crate::diagnostic::Diagnostic;
use crate::dvc::config::DvcConfig;
use crate::dvc::lockfile::Lockfile;

fn config() -> DvcConfig {
    DvcConfig::from_files(&[], "/home/me/project", &|_| None).expect("the defaults are valid")
}

fn load(files: &[(&str, &str)]) -> Result<(Project, Graph), Diagnostic> {
    let project = Project::load(&MemoryFiles::new(files), &config())?;
    let graph = Graph::build(&project)?;
    Ok((project, graph))
}

fn addresses(project: &Project, stages: &[StageIndex]) -> Vec<String> {
    stages.iter().map(|&stage| project.stages[stage].address.0.clone()).collect()
}

#[track_caller]
fn check_names(files: &[(&str, &str)], expected: &[&str]) {
    let (project, _) = load(files).unwrap_or_else(|error| panic!("{error:?}"));
    let all: Vec<StageIndex> = project.stages.indexes().collect();
    assert_eq!(addresses(&project, &all), expected);
}

#[track_caller]
fn check_error(files: &[(&str, &str)], message: &str) {
    let error = load(files).map(|(project, _)| project.stages.len()).expect_err("DVC refuses it");
    assert!(error.message.contains(message), "{error:?}");
}

#[test]
fn stages_come_in_the_order_of_the_walk() {
    let stage = "stages: {s: {cmd: x}}";
    let files = [("b/dvc.yaml", stage), ("a/c/dvc.yaml", stage), ("a/x.dvc", ""), ("dvc.yaml", stage)];
    check_names(&files, &["s", "a/x.dvc", "a/c/dvc.yaml:s", "b/dvc.yaml:s"]);
}

#[test]
fn an_output_directory_hides_what_is_in_it() {
    let files = [("dvc.yaml", "stages: {s: {cmd: x, outs: [d]}}"), ("d/dvc.yaml", "no: [")];
    check_names(&files, &["s"]);
}

#[test]
fn bools_from_variables_are_named_as_python_spells_them() {
    let yaml = "stages:\n  a: {foreach: [true, 1.0], do: {cmd: x}}\n  b: {foreach: '${l}', do: {cmd: x}}\n";
    check_names(&[("dvc.yaml", yaml), ("params.yaml", "l: [true, 1.0]")], &["a@true", "a@1.0", "b@True", "b@1.0"]);
}

#[test]
fn keys_that_are_no_text_vanish_from_variables() {
    let yaml = "stages:\n  a: {foreach: '${m}', do: {cmd: x}}\n  b: {foreach: {1: x}, do: {cmd: x}}\n";
    check_names(&[("dvc.yaml", yaml), ("params.yaml", "m: {1: x, k: y}")], &["a@k", "b@1"]);
}

#[test]
fn the_last_axis_varies_fastest() {
    let yaml = "stages: {m: {matrix: {x: [1, 2], y: [[0], b]}, cmd: x}}";
    check_names(&[("dvc.yaml", yaml)], &["m@1-y0", "m@1-b", "m@2-y0", "m@2-b"]);
}

#[test]
fn a_variable_is_defined_once() {
    let yaml = "vars: [{a: {x: 1}}, {a: {y: 2}}]\nstages: {s: {cmd: 'x ${a.x} ${a.y}'}}";
    check_names(&[("dvc.yaml", yaml)], &["s"]);
    check_error(&[("dvc.yaml", "vars: [{a: 1}, {a: 1}]")], "cannot redefine `a` from `vars[1]`");
    let yaml = "stages: {s: {foreach: [1], do: {cmd: x, vars: [{item: 1}]}}}";
    check_error(&[("dvc.yaml", yaml)], "`item` is set by foreach or matrix");
}

#[test]
fn a_lock_file_has_to_be_in_order() {
    let with_lock = |lock: &'static str| [("dvc.yaml", "stages: {s: {cmd: x, deps: [a]}}"), ("dvc.lock", lock)];
    for empty in ["schema: '2.0'\nstages:\n", "schema: '2.0'\nstages:\n# none\n"] {
        check_error(&with_lock(empty), "expected a map, got nothing in `stages`");
    }
    for fine in ["schema: '2.0'\n", "schema: '2.0'\nstages: {}\n"] {
        check_names(&with_lock(fine), &["s"]);
    }
    let unrecorded =
        "schema: '2.0'\nstages:\n  s:\n    cmd: x\n    deps:\n    - path: a\n      hash: md5\n      md5: null\n";
    check_names(&with_lock(unrecorded), &["s"]);
    let entry = Lockfile::parse(unrecorded).expect("a lock file").entry("s").expect("it is there").parse();
    assert_eq!(entry.expect("an entry").deps[0].recorded.md5, None);
}

#[test]
fn checks_of_the_graph_come_in_dvcs_order() {
    let two = |a: &str, b: &str| format!("stages:\n  a: {{cmd: x, {a}}}\n  b: {{cmd: x, {b}}}\n");
    let check = |a: &str, b: &str, message: &str| check_error(&[("dvc.yaml", &two(a, b))], message);
    check("outs: [d]", "outs: [./d]", "output `./d` is made twice");
    check("outs: [d]", "outs: [d/x]", "output `d/x` lies in output `d`");
    check("outs: [d], deps: [e]", "outs: [e], deps: [d]", "stages need each other in a circle");
    check("outs: [.]", "deps: [q]", "is defined in a file inside output");
}

#[test]
fn a_selection_reaches_up_down_or_everywhere() {
    let yaml = "stages:\n  c: {cmd: x, deps: [b]}\n  b: {cmd: x, deps: [a], outs: [b]}\n  a: {cmd: x, outs: [a]}\n  \
                z: {cmd: x}\n";
    let (project, graph) = load(&[("dvc.yaml", yaml)]).unwrap_or_else(|error| panic!("{error:?}"));
    let check = |reach: Reach, expected: &[&str]| {
        assert_eq!(addresses(&project, &graph.order_from(&[StageIndex::new(1)], reach)), expected, "{reach:?}");
    };
    check(Reach::Upstream, &["a", "b"]);
    check(Reach::Downstream, &["b", "c"]);
    check(Reach::Pipeline, &["a", "b", "c"]);
    assert_eq!(addresses(&project, &graph.order()), ["a", "b", "c", "z"]);
}

#[test]
fn targets_are_taken_apart_as_dvc_does() {
    let files = [
        ("dvc.yaml", "stages: {g: {foreach: ['e:f', k], do: {cmd: x}}, gg: {cmd: x}, 'p/q': {cmd: x}}"),
        ("sub/dvc.yaml", "stages: {s: {cmd: x}}"),
        ("sub/r.dvc", ""),
    ];
    let (project, graph) = load(&files).unwrap_or_else(|error| panic!("{error:?}"));
    let named = |cwd: &str, target: &str, options: TargetOptions| {
        let named = target::name(&project, &MemoryFiles::new(&files), &graph, cwd, &[target.to_owned()], options);
        named.map(|stages| addresses(&project, &stages)).map_err(|error| error.to_string())
    };
    let plain = TargetOptions::default();
    let glob = TargetOptions { glob: true, ..plain };
    let recursive = TargetOptions { recursive: true, ..plain };
    let ok = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(named("", "g", plain), ok(&["g@e:f", "g@k"]));
    assert_eq!(named("", "g@e:f", plain), ok(&["g@e:f"]));
    assert_eq!(named("", "p/q", plain), ok(&["p/q"]));
    assert_eq!(named("sub", "../dvc.yaml:gg", plain), ok(&["gg"]));
    assert_eq!(named("sub", "s", plain), ok(&["sub/dvc.yaml:s"]));
    assert_eq!(named("", "sub/r.dvc", plain), ok(&["sub/r.dvc"]));
    assert_eq!(named("", "g*", glob), ok(&["g@e:f", "g@k", "gg"]));
    assert_eq!(named("", "sub", plain), ok(&["sub/dvc.yaml:s"]), "the pipeline in it, for which DVC has no word");
    assert_eq!(named("sub", "..", plain), ok(&["g@e:f", "g@k", "gg", "p/q"]));
    assert_eq!(named("", "sub", recursive), ok(&["sub/dvc.yaml:s", "sub/r.dvc"]));
    assert_eq!(named("", "dvc.lock", plain), Err("`dvc.lock` is a lock file".to_owned()));
    assert_eq!(named("", "nope", plain), Err("there is no stage `nope` in `dvc.yaml`".to_owned()));
    assert!(named("", "x.yaml:a", plain).is_err());
}

#[test]
fn an_empty_selection_means_everything() {
    let files = [("dvc.yaml", "stages: {g: {foreach: [], do: {cmd: x}}, s: {cmd: x}}"), ("plain/x.txt", "")];
    let (project, graph) = load(&files).unwrap_or_else(|error| panic!("{error:?}"));
    let select_by = |target: &str, options: TargetOptions| {
        let files = MemoryFiles::new(&files);
        let stages = target::select(&project, &files, &graph, "", &[target.to_owned()], options);
        addresses(&project, &stages.unwrap_or_else(|error| panic!("{error}")))
    };
    let select = |options: TargetOptions| select_by("g", options);
    assert_eq!(select(TargetOptions::default()), ["s"]);
    assert_eq!(select_by("plain", TargetOptions { recursive: true, ..TargetOptions::default() }), ["s"]);
    assert_eq!(select(TargetOptions { single_item: true, ..TargetOptions::default() }), Vec::<String>::new());
}

/// Bits of `dvc.yaml` files that a random text is made of.
const BITS: [&str; 40] = [
    "stages:\n",
    "  s:\n",
    "  g:\n",
    "    cmd: ",
    "    foreach: ",
    "    do:\n",
    "      cmd: ",
    "    matrix:\n",
    "      x: ",
    "${item}",
    "${a.b}",
    "${a[0]}",
    "\\${",
    "${",
    "}",
    "[a, b]\n",
    "{k: v, 1: w}\n",
    "x\n",
    "\n",
    "    deps: ",
    "    outs: ",
    "    wdir: ",
    "    params: ",
    "    vars: ",
    "vars: ",
    "[params.yaml]\n",
    "[{a: {b: 1}}]\n",
    "'",
    "\"",
    "- ",
    ": ",
    "*x",
    "&x ",
    "<<: ",
    "true\n",
    "null\n",
    "  'a@b':\n",
    "plots: ",
    "../x\n",
    "[.]\n",
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&BITS[..]), 0..30).prop_map(|bits| bits.concat())
}

/// A project that is mostly well-formed: random stages on few names and paths, so that they meet.
fn stages() -> impl Strategy<Value = String> {
    let path = prop::sample::select(&["a", "b", "a/x", "b/y", "c", "../o", ".", "d/../a", "/tmp/q"][..]);
    let paths = || prop::collection::vec(path.clone(), 0..3).prop_map(|paths| format!("{paths:?}"));
    let stage = (paths(), paths(), any::<bool>(), 0..3_usize).prop_map(|(deps, outs, frozen, keys)| {
        let fields = format!("cmd: x, deps: {deps}, outs: {outs}, frozen: {frozen}");
        let loop_over: Vec<usize> = (0..keys).collect();
        if keys == 0 { format!("{{{fields}}}") } else { format!("{{foreach: {loop_over:?}, do: {{{fields}}}}}") }
    });
    prop::collection::vec(stage, 1..6).prop_map(|stages| {
        let lines = stages.iter().enumerate().map(|(index, stage)| format!("  s{index}: {stage}\n"));
        format!("stages:\n{}", lines.collect::<String>())
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_fall_over(yaml in text(), params in text(), ignore in "[a-z*!/\\[\\]\\\\#\n ]{0,20}") {
        let files = [("dvc.yaml", yaml.as_str()), ("params.yaml", &params), (".dvcignore", &ignore)];
        drop(load(&files));
        drop(load(&[("a.dvc", yaml.as_str()), ("dvc.yaml", "stages: {s: {cmd: x}}"), ("dvc.lock", &params)]));
    }

    #[test]
    fn every_stage_comes_once_and_after_what_it_needs(yaml in stages(), from in any::<prop::sample::Index>()) {
        if let Ok((project, graph)) = load(&[("dvc.yaml", &yaml)]) {
            let order = graph.order();
            let mut place = project.stages.filled(None);
            for (position, &stage) in order.iter().enumerate() {
                prop_assert_eq!(place[stage].replace(position), None);
            }
            for (stage, _) in project.stages.indexed().filter(|(_, stage)| !stage.frozen) {
                for &needed in graph.needs(stage) {
                    prop_assert!(place[needed] < place[stage]);
                }
            }
            let start = StageIndex::new(from.index(project.stages.len()));
            let upstream = graph.order_from(&[start], Reach::Upstream);
            prop_assert_eq!(upstream.last(), Some(&start));
        }
    }
}
