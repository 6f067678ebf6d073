//! Stages done without DVC, held against real DVC: everything that is left on disk, whoever does them.
//!
//! `dvc-fanout debug repro` does in place what a worker does in its workspace.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use serde_json::Value;

use crate::support::oracle::Oracle;
use crate::support::same::{assert_clean, assert_same, listing};
use crate::support::{Project, Ran, tool};

/// Stages of every kind that is done without DVC.
const PIPELINE: &str = r#"
stages:
  file:
    cmd: cat in > out
    deps: [in]
    outs: [out]
  tree:
    cmd:
    - mkdir -p tree/s tree/nothing
    - cat in > tree/a; cat in in > tree/s/b; cat in > tree/same; touch tree/empty
    - chmod 755 tree/a; chmod 600 tree/s/b
    deps: [in]
    outs: [tree]
  program:
    cmd: cat in > program && chmod 750 program
    deps: [in]
    params: [rate, p.json: [a.b, list]]
    outs: [program]
  numbers:
    wdir: sub
    cmd: |
      echo '{}' > metric.json

      cp ../in plot.csv && chmod 600 plot.csv
    deps: [../in]
    metrics: [metric.json: {cache: false}]
    plots: [plot.csv]
  both:
    cmd: cat out program > both
    deps: [out, program, tree/s]
    outs: [both]
  plain:
    cmd: cat both > plain
    deps: [both]
    outs: [plain: {cache: false}]
  grows:
    cmd: cat in >> grows
    deps: [in]
    outs: [grows: {persist: true}]
  always:
    cmd: echo x > always
    always_changed: true
    outs: [always]
  each:
    matrix:
      n: [1, 2]
      kind: [a, b]
    cmd: echo ${item.n}${item.kind} > ${item.kind}${item.n}
    deps: [in]
    outs: ["${item.kind}${item.n}"]
"#;

/// Two copies of one project: DVC does one, this program the other.
struct Pair {
    dvc: Project,
    own: Project,
    oracle: Oracle,
}

impl Pair {
    /// `None` where there is no DVC.
    fn of(files: &[(&str, &str)]) -> Option<Pair> {
        let oracle = Oracle::start()?;
        let made = || {
            let project = Project::without_init();
            files.iter().for_each(|(path, text)| project.write(path, text));
            project
        };
        Some(Pair { dvc: made(), own: made(), oracle })
    }

    fn both(&self, change: impl Fn(&Project)) {
        change(&self.dvc);
        change(&self.own);
    }

    /// Does both, each in its way, and compares them.
    #[track_caller]
    fn repro(&mut self, what: &str) {
        self.repro_by(what, &native);
    }

    /// The same by another command than `debug repro`.
    #[track_caller]
    fn repro_by(&mut self, what: &str, reproduce: &dyn Fn(&Project) -> Ran) {
        let answer = self.oracle.repro(self.dvc.root());
        let ran = reproduce(&self.own);
        let failed = answer.events.iter().flatten().any(|(what, _)| what == "failed");
        assert_eq!(ran.code == Some(0), !failed, "{what}: DVC {answer:?}, own {ran:#?}");
        self.compare(&format!("{what}\n{}{}", ran.stdout, ran.stderr));
    }

    #[track_caller]
    fn compare(&self, what: &str) {
        let (dvc, own) = (listing(&self.dvc), listing(&self.own));
        let mut differences = String::new();
        for path in dvc.keys().chain(own.keys()).collect::<std::collections::BTreeSet<_>>() {
            if dvc.get(path) != own.get(path) {
                writeln!(differences, "{path}\n  DVC {:?}\n  own {:?}", dvc.get(path), own.get(path))
                    .expect("a String");
            }
        }
        assert!(differences.is_empty(), "{what}\ndiffer:\n{differences}");
    }
}

/// Does everything without DVC; what only DVC could do is an error.
fn native(project: &Project) -> Ran {
    project.fanout(["debug", "repro", "-P", "--executor", "native"])
}

fn files(cache: &str) -> Vec<(&'static str, String)> {
    vec![
        ("dvc.yaml", PIPELINE.to_owned()),
        ("in", "1\n".to_owned()),
        ("params.yaml", "rate: 0.5\nother: 1\n".to_owned()),
        ("p.json", r#"{"a": {"b": {"c": [1, null, true]}}, "list": [1.5, "x: y"]}"#.to_owned()),
        ("sub/.keep", String::new()),
        (".dvc/config", format!("[cache]\n    {cache}\n")),
    ]
}

/// Runs, skips, restores and runs again, with everything that is changed in between.
#[track_caller]
fn check_cache(setting: &str) {
    let files = files(setting);
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let Some(mut pair) = Pair::of(&files) else { return };
    pair.repro("first");
    pair.repro("again");
    pair.both(|project| project.write("in", "2\n"));
    pair.repro("another input");
    pair.both(|project| project.write("in", "1\n"));
    pair.repro("the first input again");
    pair.both(|project| {
        std::fs::remove_file(project.path("out")).expect("there");
        std::fs::remove_dir_all(project.path("tree")).expect("there");
        std::fs::remove_file(project.path("sub/metric.json")).expect("there");
    });
    pair.repro("outs are gone");
    pair.both(|project| project.write("params.yaml", "rate: 0.25\n"));
    pair.repro("another param");
    pair.both(|project| std::fs::remove_file(project.path("dvc.lock")).expect("there"));
    pair.repro("the lock file is gone");
    pair.both(|project| {
        let object = project.path(".dvc/cache/files/md5/b0/26324c6904b2a9cb4b88d6d61c81d1");
        std::fs::set_permissions(&object, std::fs::Permissions::from_mode(0o644)).expect("there");
        std::fs::write(&object, "spoilt\n").expect("written");
    });
    pair.repro("an object is spoilt");
}

#[test]
fn native_stages_leave_what_dvc_leaves_by_default() {
    check_cache("slow_link_warning = false");
}

#[test]
fn native_stages_leave_what_dvc_leaves_with_copies() {
    check_cache("type = copy");
}

#[test]
fn native_stages_leave_what_dvc_leaves_with_hard_links() {
    check_cache("type = hardlink");
}

#[test]
fn native_stages_leave_what_dvc_leaves_with_symlinks() {
    check_cache("type = symlink");
}

#[test]
fn native_stages_leave_what_dvc_leaves_with_hard_links_or_copies() {
    check_cache("type = \"hardlink,copy\"");
}

#[test]
fn native_stages_leave_what_dvc_leaves_in_a_cache_of_a_group() {
    check_cache("shared = group");
}

#[test]
fn the_executors_take_turns_on_one_project() {
    let files = files("slow_link_warning = false");
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let Some(mut pair) = Pair::of(&files) else { return };
    for round in 0..6 {
        pair.both(|project| project.write("in", &format!("{}\n", round % 4)));
        pair.oracle.repro(pair.dvc.root());
        if round % 2 == 0 {
            assert_eq!(native(&pair.own).code, Some(0));
        } else {
            pair.oracle.repro(pair.own.root());
        }
        pair.compare(&format!("round {round}"));
        let events = pair.oracle.repro(pair.own.root()).events.unwrap_or_default();
        let ran: Vec<_> = events.iter().filter(|(what, stage)| what != "skipped" && stage != "always").collect();
        assert!(ran.is_empty(), "round {round}: DVC does again {ran:?}");
        pair.oracle.repro(pair.dvc.root());
    }
}

/// DVC takes an out that the entry does not have for one of DVC 2, until it has hashed it.
#[test]
fn an_out_that_the_lock_entry_does_not_have_leaves_what_dvc_leaves() {
    let yaml = |out: &str| {
        format!(
            "stages:\n  a:\n    cmd: mkdir {out} && printf 'a\\r\\n' > {out}/f && cp in {out}/g\n    deps: [in]\n    outs: [{out}]\n"
        )
    };
    let Some(mut pair) = Pair::of(&[("dvc.yaml", &yaml("one")), ("in", "1\n")]) else { return };
    pair.repro("first");
    pair.both(|project| project.write("dvc.yaml", &yaml("two")));
    pair.repro("another out");
    pair.both(|project| project.write("dvc.yaml", &yaml("one")));
    pair.repro("the first out again");
}

/// DVC takes a dep or an out that the entry does not have for one of DVC 2, until it has hashed it.
#[track_caller]
fn check_unrecorded(reproduce: impl Fn(&Project) -> Ran) {
    let yaml = |cmd: &str, rest: &str| {
        format!(
            "stages:\n  made:\n    cmd: mkdir -p made && cp in made/f\n    deps: [in]\n    outs: [made]\n  b:\n    \
             foreach: [k]\n    do:\n      cmd: mkdir -p two && {cmd}\n{}",
            rest.lines().fold(String::new(), |text, line| text + "      " + line + "\n")
        )
    };
    let (usual, other, fails) = ("cat in > out && cp in two/g", "cat made/f > out", "cat in > out && false");
    let steps = [
        ("another dep", usual, "deps: [in, made]\nouts: [out]"),
        ("an out that is there", usual, "deps: [in, made]\nouts: [out, two]"),
        ("one that is not cached", other, "deps: [in, made]\nouts: [out, two: {cache: false}]"),
        ("no dep left", usual, "outs: [out]"),
        ("deps, always changed", usual, "deps: [other, in, made]\nalways_changed: true\nouts: [out]"),
        ("no run cache", usual, "deps: [in]\nouts: [out: {persist: true}]"),
        ("two deps without the run cache", usual, "deps: [other, in, made]\nouts: [out: {persist: true}]"),
        ("an out beside", usual, "deps: [in]\nouts: [out: {persist: true}]"),
        ("a dep of a command that fails", fails, "deps: [in, other, made]\nouts: [out: {persist: true}]"),
    ];
    let first = yaml(usual, "deps: [in]\nouts: [out]");
    let Some(mut pair) = Pair::of(&[("dvc.yaml", &first), ("in", "1\n"), ("other/f", "a\r\n")]) else { return };
    pair.repro_by("first", &reproduce);
    for (round, (what, cmd, rest)) in steps.into_iter().enumerate() {
        pair.both(|project| project.write("dvc.yaml", &yaml(cmd, rest)));
        pair.both(|project| project.write("other/f", &format!("{round}\r\n")));
        pair.both(|project| project.write("two/h", &format!("{round}\n")));
        pair.repro_by(what, &reproduce);
    }
}

#[test]
fn a_directory_that_the_lock_entry_does_not_have_leaves_what_dvc_leaves() {
    check_unrecorded(native);
}

#[test]
fn a_directory_that_the_lock_entry_does_not_have_leaves_the_same_from_a_workspace() {
    check_unrecorded(|project| project.fanout(["run", "-P", "--executor", "native"]));
}

#[test]
fn failures_leave_what_dvc_leaves() {
    let stages = [
        ("exits", "cmd: echo 1 > a; exit 3\n    deps: [in]\n    outs: [a]"),
        ("killed", "cmd: kill -9 $$\n    deps: [in]\n    outs: [a]"),
        ("missing", "cmd: echo 1 > a\n    deps: [in]\n    outs: [a, z]"),
        ("special", "cmd: mkfifo a\n    deps: [in]\n    outs: [a]"),
        ("broken", "cmd: ln -s nowhere a\n    deps: [in]\n    outs: [a]"),
        ("binary", "cmd: printf '\\0' > a\n    deps: [in]\n    metrics: [a]"),
        ("gone", "cmd: rm in; echo 1 > a\n    deps: [in]\n    outs: [a]"),
    ];
    for (name, stage) in stages {
        let good = "good:\n    cmd: cat in > good\n    deps: [in]\n    outs: [good]";
        let yaml = format!("stages:\n  {good}\n  {name}:\n    {stage}\n");
        let Some(mut pair) = Pair::of(&[("dvc.yaml", &yaml), ("in", "1\n"), ("a", "old\n")]) else { return };
        pair.repro(name);
    }
}

#[test]
fn what_only_dvc_can_do_is_left_to_it_and_refused_where_it_must_not_be_used() {
    let project = Project::without_init();
    project.write("dvc.yaml", "stages:\n  a:\n    cmd: echo 1 > a\n    params: [q.yaml: [when]]\n    outs: [a]\n");
    project.write("q.yaml", "when: 2020-01-01\n");
    let ran = native(&project);
    assert_eq!(ran.code, Some(255), "{ran:#?}");
    assert!(ran.stdout.contains("Only DVC can do 'a': one of its params is unusual: it has a date\n"), "{ran:#?}");
    assert!(!project.path("a").exists());
    project.write("q.yaml", "when: {no: date}\n");
    assert_eq!(native(&project).code, Some(0));
}

/// Texts that DVC's writer quotes, folds and escapes in its own ways.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => "[a-z]{1,12}",
        1 => "[-:#'\"\\\\?!&*%@`|>{}\\[\\],.~=0-9 \t]{1,6}",
        1 => "[é日🚀\u{85}\u{2028}\u{a0}\u{7f}\u{1b}]{1,3}",
        1 => "\n| |  ",
    ];
    proptest::collection::vec(word, 0..30).prop_map(|words| words.join(" "))
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        // Ten digits: DVC's writer may move the last of seventeen, and this program keeps them, as the README says.
        (any::<i32>(), -120..120).prop_map(|(digits, exponent)| {
            format!("{digits}e{exponent}").parse::<f64>().expect("it is a number").into()
        }),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec(("[a-z]{1,8}", inner), 0..4)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

#[test]
fn random_values_are_written_as_dvc_writes_them() {
    const STAGES: usize = 20;
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let mut draw = |strategy: &dyn Fn() -> BoxedStrategy<serde_json::Value>| {
        strategy().new_tree(&mut runner).expect("a value").current()
    };
    let mut stages = serde_json::Map::new();
    let mut params = serde_json::Map::new();
    for number in 0..STAGES {
        // A comment may say anything but the end of its line; what is split at is tried elsewhere.
        let comment = draw(&|| text().prop_map(Into::into).boxed());
        let comment = comment.as_str().unwrap_or_default().replace(['\n', '\u{85}', '\u{2028}', '\u{7f}'], " ");
        let comment = comment.replace("${", "$");
        params.insert(format!("p{number}"), serde_json::json!({"v": draw(&|| json().boxed())}));
        let out = format!("o{number}");
        let stage = serde_json::json!({
            "cmd": [format!("echo {number} > {out}"), format!("true # {comment}")],
            "params": [{"p.json": [format!("p{number}")]}],
            "outs": [out],
        });
        stages.insert(format!("s{number}"), stage);
    }
    let yaml = serde_json::json!({ "stages": stages }).to_string();
    let params = serde_json::Value::Object(params).to_string();
    let Some(mut pair) = Pair::of(&[("dvc.yaml", &yaml), ("p.json", &params)]) else { return };
    pair.oracle.repro(pair.dvc.root());
    // What does not read back is left to DVC.
    let ran = pair.own.fanout(["debug", "repro", "-P"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let by_dvc = ran.stdout.matches("Only DVC can do '").count();
    assert!(by_dvc < STAGES / 2, "{by_dvc} of {STAGES} stages were left to DVC:\n{}", ran.stdout);
    pair.compare(&ran.stdout);
}

/// Kills the program before each of its changes to the disk, one after another, and lets it try again.
#[test]
fn a_kill_between_any_two_steps_leaves_nothing_or_the_whole() {
    let Some(strace) = tool("strace") else { return };
    let yaml = "stages:\n  a:\n    cmd: mkdir d && cat in > d/x && cat in > f\n    deps: [in]\n    outs: [f, d]\n    \
                metrics: [m: {cache: false}]\n";
    let yaml = yaml.replace("cat in > f", "cat in > f && cat in > m");
    let Some(whole) = Pair::of(&[("dvc.yaml", &yaml), ("in", "1\n")]) else { return };
    assert_eq!(native(&whole.own).code, Some(0));
    let expected = listing(&whole.own);
    let mut oracle = whole.oracle;
    for call in ["renameat2", "rename", "linkat", "mkdir", "fchmod", "chmod", "unlink", "openat"] {
        for nth in (1..).step_by(if call == "openat" { 7 } else { 1 }) {
            let project = Project::without_init();
            project.write("dvc.yaml", &yaml);
            project.write("in", "1\n");
            let mut command = project.command(&strace);
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={call}:signal=KILL:when={nth}")]);
            let own = env!("CARGO_BIN_EXE_dvc-fanout");
            let killed = Ran::of(command.args([own, "debug", "repro", "-P", "--executor", "native"]));
            let is_done = killed.code == Some(0);
            let again = if nth % 2 == 0 {
                oracle.repro(project.root()).error
            } else {
                let ran = native(&project);
                (ran.code != Some(0)).then(|| format!("{ran:#?}"))
            };
            assert_eq!(again, None, "{call} {nth}: {killed:#?}");
            let mut left = listing(&project);
            left.retain(|path, _| !path.ends_with(".tmp") && !path.contains(".tmp-") && !path.contains(".tmp/"));
            // A command that is killed half-way is no concern of this program's.
            assert_eq!(left, expected, "{call} {nth}");
            if is_done {
                break;
            }
        }
    }
}

#[test]
fn a_run_needs_no_dvc_where_no_stage_does() {
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    serial.dvc(["repro"]);
    let mut command = fanned.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let ran = Ran::of(command.args(["run", "-j", "2"]).env("DVC_FANOUT_DVC", "/no/such/dvc"));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "without dvc");
    assert_clean(&fanned, &[]);
    let report: Value = serde_json::from_str(&fanned.fanout(["report", "--format", "json"]).succeeded()).expect("JSON");
    assert_eq!(report["provenance"]["executors"], serde_json::json!({ "native": 9, "dvc": {}, "check": 0 }));
}
