//! What `stages --changed` says against what real DVC then does, on random small projects and random edits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::support::oracle::{Answer, Oracle};

/// A project of a few stages; stage `i` makes `oi` from inputs and from the outs of stages before it.
#[derive(Clone, Debug)]
struct Project {
    stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
struct Stage {
    /// 0 to 2 are the inputs, others the outs of earlier stages (taken modulo what there is).
    deps: Vec<usize>,
    params: Vec<&'static str>,
    out: Out,
    /// Makes the same out from different deps of one length.
    lossy: bool,
    frozen: bool,
    always_changed: bool,
    /// Changes the command without changing what it does.
    version: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Out {
    File,
    /// With two files inside; the next stages read one of them.
    Directory,
    Uncached,
    Metric,
    Persistent,
    None,
}

#[derive(Clone, Debug)]
enum Edit {
    Input(usize, &'static str),
    RemoveInput(usize),
    Param(&'static str, &'static str),
    RemoveOut(usize),
    Overwrite(usize),
    Command(usize),
    Freeze(usize),
    AlwaysChanged(usize),
    AddDep(usize, usize),
    RemoveDep(usize),
    AddParam(usize, &'static str),
    Kind(usize, Out),
    AddStage(Stage),
    RemoveObject(usize),
    DamageObject(usize),
    UnprotectObject(usize),
    RemoveLock,
    RemoveRuns,
}

const INPUTS: usize = 3;

fn out() -> impl Strategy<Value = Out> {
    prop_oneof![
        4 => Just(Out::File),
        2 => Just(Out::Directory),
        1 => Just(Out::Uncached),
        1 => Just(Out::Metric),
        1 => Just(Out::Persistent),
        1 => Just(Out::None),
    ]
}

fn param() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b.c", "b", "l.0", "b.*", "size"])
}

fn stage() -> impl Strategy<Value = Stage> {
    let deps = prop::collection::vec(0..8_usize, 0..3);
    let params = prop::collection::vec(param(), 0..2);
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (deps, params, out(), flags).prop_map(|(deps, params, out, (lossy, frozen, always_changed))| Stage {
        deps,
        params,
        out,
        lossy,
        frozen,
        always_changed,
        version: 0,
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let text = || prop::sample::select(vec!["1", "2", "11"]);
    let value = prop::sample::select(vec!["1", "1.0", "true", "'1'", "2", "[1, 2]"]);
    prop_oneof![
        6 => (0..INPUTS, text()).prop_map(|(input, text)| Edit::Input(input, text)),
        1 => (0..INPUTS).prop_map(Edit::RemoveInput),
        4 => (prop::sample::select(vec!["a", "c", "size", "l"]), value).prop_map(|(key, value)| Edit::Param(key, value)),
        4 => (0..6_usize).prop_map(Edit::RemoveOut),
        2 => (0..6_usize).prop_map(Edit::Overwrite),
        2 => (0..6_usize).prop_map(Edit::Command),
        1 => (0..6_usize).prop_map(Edit::Freeze),
        1 => (0..6_usize).prop_map(Edit::AlwaysChanged),
        1 => (0..6_usize, 0..8_usize).prop_map(|(stage, dep)| Edit::AddDep(stage, dep)),
        1 => (0..6_usize).prop_map(Edit::RemoveDep),
        1 => (0..6_usize, param()).prop_map(|(stage, param)| Edit::AddParam(stage, param)),
        1 => (0..6_usize, out()).prop_map(|(stage, out)| Edit::Kind(stage, out)),
        1 => stage().prop_map(Edit::AddStage),
        2 => any::<usize>().prop_map(Edit::RemoveObject),
        1 => any::<usize>().prop_map(Edit::DamageObject),
        1 => any::<usize>().prop_map(Edit::UnprotectObject),
        1 => Just(Edit::RemoveLock),
        1 => Just(Edit::RemoveRuns),
    ]
}

impl Project {
    /// The path that stage `user` reads for a dep, and the file in it.
    fn dep(&self, user: usize, dep: usize) -> (String, String) {
        let dep = dep % (INPUTS + user);
        match dep.checked_sub(INPUTS) {
            None if dep == 2 => ("i2".into(), "i2/x".into()),
            None => (format!("i{dep}"), format!("i{dep}")),
            Some(maker) => match self.stages[maker].out {
                Out::Directory if user.is_multiple_of(2) => (format!("o{maker}/x"), format!("o{maker}/x")),
                Out::Directory => (format!("o{maker}"), format!("o{maker}/x")),
                Out::None => ("i0".into(), "i0".into()),
                Out::File | Out::Uncached | Out::Metric | Out::Persistent => (format!("o{maker}"), format!("o{maker}")),
            },
        }
    }

    fn dvc_yaml(&self) -> String {
        let mut text = "stages:\n".to_owned();
        for (index, stage) in self.stages.iter().enumerate() {
            let deps: BTreeMap<String, String> = stage.deps.iter().map(|dep| self.dep(index, *dep)).collect();
            let files = deps.values().cloned().collect::<Vec<_>>().join(" ");
            let make = format!("cat {files} /dev/null{}", if stage.lossy { " | wc -c" } else { "" });
            let cmd = match stage.out {
                Out::Directory => format!("mkdir -p o{index} && {make} > o{index}/x && echo {index} > o{index}/y"),
                Out::None => make,
                Out::File | Out::Uncached | Out::Metric | Out::Persistent => format!("{make} > o{index}"),
            };
            writeln!(text, "  s{index}:\n    cmd: {cmd} # {}", stage.version).expect("a String");
            let mut list = |key: &str, items: Vec<String>| {
                if !items.is_empty() {
                    writeln!(text, "    {key}: [{}]", items.join(", ")).expect("a String");
                }
            };
            list("deps", deps.into_keys().collect());
            list("params", stage.params.iter().map(|param| format!("'{param}'")).collect());
            match stage.out {
                Out::File | Out::Directory => list("outs", vec![format!("o{index}")]),
                Out::Uncached => list("outs", vec![format!("o{index}: {{cache: false}}")]),
                Out::Metric => list("metrics", vec![format!("o{index}: {{cache: false}}")]),
                Out::Persistent => list("outs", vec![format!("o{index}: {{persist: true}}")]),
                Out::None => {}
            }
            if stage.frozen {
                text.push_str("    frozen: true\n");
            }
            if stage.always_changed {
                text.push_str("    always_changed: true\n");
            }
        }
        text
    }
}

/// A project on disk.
struct Scene {
    folder: tempfile::TempDir,
    project: Project,
    params: BTreeMap<&'static str, &'static str>,
}

impl Scene {
    fn new(project: Project) -> Self {
        let params = [("a", "1"), ("c", "1"), ("size", "1"), ("l", "[1]")].into();
        let scene = Scene { folder: tempfile::tempdir().expect("a temporary folder"), project, params };
        fs::create_dir_all(scene.root().join(".dvc")).expect("a folder");
        fs::create_dir_all(scene.root().join("i2/sub")).expect("a folder");
        scene.write(".dvc/config", "[core]\n    no_scm = True\n");
        scene.write(".dvcignore", "ignored\n");
        for path in ["i0", "i1", "i2/x", "i2/sub/y", "i2/ignored"] {
            scene.write(path, "1");
        }
        scene.write_definitions();
        scene
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("it is there").join("p")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("in the project")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn remove(&self, path: &str) {
        let path = self.root().join(path);
        drop(if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) });
    }

    fn write_definitions(&self) {
        self.write("dvc.yaml", &self.project.dvc_yaml());
        let params = &self.params;
        let text = format!(
            "a: {}\nb: {{c: {}}}\nsize: {}\nl: {}\n",
            params["a"],
            params["c"],
            params["size"],
            if params["l"].starts_with('[') { params["l"] } else { "[3]" }
        );
        self.write("params.yaml", &text);
    }

    fn edit(&mut self, edit: &Edit) {
        let count = self.project.stages.len();
        let input = |input: usize| if input == 2 { "i2/x".to_owned() } else { format!("i{input}") };
        match edit {
            Edit::Input(index, text) => self.write(&input(*index), text),
            Edit::RemoveInput(index) => self.remove(&input(*index)),
            Edit::Param(key, value) => drop(self.params.insert(key, value)),
            Edit::RemoveOut(stage) => self.remove(&format!("o{}", stage % count)),
            Edit::Overwrite(stage) => {
                let out = format!("o{}", stage % count);
                let out = if self.root().join(&out).is_dir() { format!("{out}/x") } else { out };
                self.remove(&out);
                self.write(&out, "2");
            }
            Edit::Command(stage) => self.project.stages[stage % count].version ^= 1,
            Edit::Freeze(stage) => self.project.stages[stage % count].frozen ^= true,
            Edit::AlwaysChanged(stage) => self.project.stages[stage % count].always_changed ^= true,
            Edit::AddDep(stage, dep) => self.project.stages[stage % count].deps.push(*dep),
            Edit::RemoveDep(stage) => drop(self.project.stages[stage % count].deps.pop()),
            Edit::AddParam(stage, param) => self.project.stages[stage % count].params.push(param),
            Edit::Kind(stage, out) => self.project.stages[stage % count].out = *out,
            Edit::AddStage(stage) => self.project.stages.push(stage.clone()),
            Edit::RemoveObject(choice) => {
                self.with_object(*choice, |path| fs::remove_file(path).expect("it is there"));
            }
            Edit::DamageObject(choice) => self.with_object(*choice, |path| {
                fs::remove_file(path).expect("it is there");
                fs::write(path, "[]").expect("a file");
            }),
            Edit::UnprotectObject(choice) => self.with_object(*choice, |path| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
            }),
            Edit::RemoveLock => self.remove("dvc.lock"),
            Edit::RemoveRuns => self.remove(".dvc/cache/runs"),
        }
        self.write_definitions();
    }

    fn with_object(&self, choice: usize, act: impl Fn(&Path)) {
        let objects = files_below(&self.root().join(".dvc/cache/files"));
        if !objects.is_empty() {
            act(&objects[choice % objects.len()]);
        }
    }

    /// Everything but our own state: path, mode, content.
    fn snapshot(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let own = self.root().join(".dvc/fanout");
        let files = files_below(&self.root()).into_iter().filter(|path| !path.starts_with(&own));
        let read = |path: PathBuf| {
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            let content = fs::read(&path).expect("a file");
            (path, mode, content)
        };
        files.map(read).collect()
    }

    /// Asks a copy, since DVC deletes damaged objects when it looks.
    fn changed_by_dvc(&self, oracle: &mut Oracle) -> Answer {
        let copy = self.root().with_file_name("copy");
        let status = std::process::Command::new("cp").arg("-a").arg(self.root()).arg(&copy).status();
        assert!(status.expect("cp starts").success());
        let answer = oracle.changed(&copy);
        fs::remove_dir_all(&copy).expect("it is ours");
        answer
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// What the program says of a stage.
struct Said {
    address: String,
    changed: bool,
    outlook: String,
    /// The only reasons are objects that are not in the cache.
    only_cache: bool,
}

/// Returns what the program says of each stage; an error's text where it fails.
fn ours(root: &Path) -> Result<Vec<Said>, String> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_dvc-fanout"))
        .args(["stages", "--changed", "--format", "json"])
        .current_dir(root)
        .output()
        .expect("the program starts");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |stage: &serde_json::Value, key: &str| stage[key].as_str().expect("a text").to_owned();
    let stages = document["stages"].as_array().expect("a list");
    let read = |stage: &serde_json::Value| Said {
        address: text(stage, "address"),
        changed: stage["changed"].as_bool().expect("a bool"),
        outlook: text(stage, "outlook"),
        only_cache: stage["reasons"].as_array().expect("a list").iter().all(|why| why["change"] == "not_in_cache"),
    };
    Ok(stages.iter().map(read).collect())
}

/// Whether DVC may do `event` with a stage of which this was said.
fn agrees(said: &Said, event: &str) -> bool {
    // Another stage may make the same object first.
    if said.changed && said.only_cache && event == "skipped" {
        return true;
    }
    match said.outlook.as_str() {
        "unchanged" => event == "skipped",
        "restore" => event == "restored",
        "record" => matches!(event, "saved" | "failed"),
        // Deps that upstream makes may turn out to be those of an earlier run.
        "run" => matches!(event, "run" | "restored" | "failed"),
        "may_run" => matches!(event, "skipped" | "run" | "restored" | "saved" | "failed"),
        _ => false,
    }
}

fn check(oracle: &mut Oracle, scene: &Scene) -> Result<(), TestCaseError> {
    let before = scene.snapshot();
    let ours = ours(&scene.root());
    prop_assert_eq!(before, scene.snapshot(), "asking changed something");
    let changed = scene.changed_by_dvc(oracle);
    let stages = match (ours, changed.error) {
        (Err(_), Some(_)) => return Ok(()),
        (Err(ours), None) => return Err(TestCaseError::fail(format!("DVC sees no problem, but: {ours}"))),
        (Ok(_), Some(error)) => return Err(TestCaseError::fail(format!("no problem, but DVC: {error}"))),
        (Ok(stages), None) => stages,
    };
    let now: BTreeMap<String, bool> = stages.iter().map(|said| (said.address.clone(), said.changed)).collect();
    prop_assert_eq!(Some(now), changed.changed);
    let answer = oracle.repro(&scene.root());
    let events = answer.events.expect("the project could be read");
    for (what, address) in &events {
        let said = stages.iter().find(|said| said.address == *address).expect("DVC has the same stages");
        prop_assert!(agrees(said, what), "{}: {}, but DVC: {}\n{:?}", address, said.outlook, what, events);
    }
    Ok(())
}

#[test]
fn what_changed_is_what_dvc_then_runs() {
    let Some(oracle) = Oracle::start() else { return };
    let oracle = std::cell::RefCell::new(oracle);
    let project = prop::collection::vec(stage(), 1..5).prop_map(|stages| Project { stages });
    let rounds = prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..5);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let mut runner =
        TestRunner::new(Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(project, rounds), |(project, rounds)| {
        let oracle = &mut *oracle.borrow_mut();
        let mut scene = Scene::new(project);
        check(oracle, &scene)?;
        for edits in &rounds {
            for edit in edits {
                scene.edit(edit);
            }
            check(oracle, &scene)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
