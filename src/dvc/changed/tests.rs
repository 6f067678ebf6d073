use std::collections::HashMap;

use super::*;
use crate::dvc::hash::Md5;
use crate::dvc::lockfile::LockItem;
use crate::dvc::oid::{ObjectKey, Oid};
use crate::dvc::pipeline::stage::{Dep, Out, OutKind, ParamsDep, Recorded, StageAddress};
use crate::dvc::pipeline::stage_index::{PerStage, StageIndex};
use crate::dvc::value::Map;

/// A workspace and a cache in memory; the content of a file is a text.
#[derive(Default)]
struct World {
    files: HashMap<&'static str, &'static str>,
    params: HashMap<&'static str, Arc<ParamsFile>>,
    cached: Vec<&'static str>,
    runs: HashMap<String, LockEntry>,
}

impl Facts for World {
    fn hash(&self, path: &str, _: HashName) -> Result<Option<Hashed>, FactError> {
        if self.files.get(path) == Some(&"broken") {
            return Err(FactError::new(std::io::Error::other("broken")));
        }
        Ok(self.files.get(path).map(|text| Hashed::File { md5: Md5::of(text.as_bytes()), size: 1, is_exec: false }))
    }

    fn params(&self, path: &str) -> Result<Option<Arc<ParamsFile>>, FactError> {
        Ok(self.params.get(path).cloned())
    }

    fn is_cached(&self, object: ObjectKey) -> Result<bool, FactError> {
        Ok(self.cached.iter().any(|text| Oid::parse(&md5(text)) == Some(object.oid)))
    }

    fn cached_members(&self, _: ObjectKey) -> Option<Vec<Member>> {
        None
    }

    fn run_cache(&self, key: &str) -> Option<LockEntry> {
        self.runs.get(key).cloned()
    }

    fn root(&self) -> &'static str {
        "/p"
    }
}

fn md5(text: &str) -> String {
    Md5::of(text.as_bytes()).to_string()
}

fn recorded(path: &str, text: &str) -> LockItem {
    let recorded = Recorded { hash: Some("md5".into()), md5: Some(md5(text)), ..Recorded::default() };
    LockItem { path: path.into(), recorded }
}

/// A stage `dep -> out` whose command is its name.
fn stage(name: &str, deps: &[&str], outs: &[&str]) -> Stage {
    let dep = |path: &&str| Dep { path: (*path).into(), resolved: Some((*path).into()), recorded: None, repo: None };
    let out = |path: &&str| Out {
        path: (*path).into(),
        resolved: Some((*path).into()),
        kind: OutKind::Out,
        cache: true,
        persist: false,
        push: true,
        remote: None,
        flags: vec![],
        recorded: None,
    };
    Stage {
        address: StageAddress(name.into()),
        file: "dvc.yaml".into(),
        line: 1,
        name: Some(name.into()),
        generated: None,
        wdir: String::new(),
        cmd: Some(Value::str(name)),
        deps: deps.iter().map(dep).collect(),
        outs: outs.iter().map(out).collect(),
        params: vec![],
        frozen: false,
        md5: None,
        always_changed: false,
        desc: None,
        meta: None,
    }
}

fn entry(name: &str, deps: &[(&str, &str)], outs: &[(&str, &str)]) -> LockEntry {
    let items = |items: &[(&str, &str)]| items.iter().map(|(path, text)| recorded(path, text)).collect();
    LockEntry { cmd: Value::str(name), deps: items(deps), params: vec![], outs: items(outs) }
}

const A: StageIndex = StageIndex::new(0);
const B: StageIndex = StageIndex::new(1);

/// The stages `a: raw -> mid`, `b: mid -> end`, both run and nothing changed since.
struct Chain {
    world: World,
    stages: [Stage; 2],
    entries: [Option<LockEntry>; 2],
}

impl Chain {
    fn settled() -> Self {
        let world = World {
            files: [("raw", "r"), ("mid", "m"), ("end", "e")].into(),
            cached: vec!["m", "e"],
            ..World::default()
        };
        let a = entry("a", &[("raw", "r")], &[("mid", "m")]);
        let b = entry("b", &[("mid", "m")], &[("end", "e")]);
        Chain {
            world,
            stages: [stage("a", &["raw"], &["mid"]), stage("b", &["mid"], &["end"])],
            entries: [Some(a), Some(b)],
        }
    }

    fn subject(&self, index: usize) -> Subject<'_> {
        Subject { stage: &self.stages[index], entry: self.entries[index].as_ref() }
    }

    fn observe(&self, index: usize) -> Observation {
        observe(self.subject(index), &self.world).expect("nothing is broken")
    }

    #[track_caller]
    fn check(&self, changed: [bool; 2], outlooks: [&str; 2]) {
        let observations: PerStage<_> = [0, 1].map(|index| Some(self.observe(index))).into_iter().collect();
        let now = observations.iter().map(|seen| seen.as_ref().is_some_and(Observation::is_changed));
        assert_eq!(now.collect::<Vec<_>>(), changed, "{observations:#?}");
        let subject = |index: StageIndex| self.subject(usize::from(index == B));
        let needs = |index: StageIndex| if index == B { &[A][..] } else { &[] };
        let (order, allow_missing) = (&[A, B], false);
        let distrusts = |_| false;
        let selection = Selection {
            order,
            subject: &subject,
            observations: &observations,
            needs: &needs,
            allow_missing,
            distrusts: &distrusts,
        };
        let forecasts = forecast(&selection, &self.world).of;
        let named = forecasts.iter().flatten().map(|forecast| match forecast.outlook {
            Outlook::Unchanged => "unchanged",
            Outlook::Restore(_) => "restore",
            Outlook::Record => "record",
            Outlook::Run => "run",
            Outlook::MayRun => "may run",
        });
        assert_eq!(named.collect::<Vec<_>>(), outlooks);
        for (forecast, outlook) in forecasts.iter().flatten().zip(outlooks) {
            assert!(outlook != "may run" || forecast.upstream == [A], "{forecast:?}");
        }
    }
}

#[test]
fn nothing_changed() {
    Chain::settled().check([false, false], ["unchanged", "unchanged"]);
}

#[test]
fn behind_a_stage_that_runs_a_stage_may_run() {
    let mut chain = Chain::settled();
    chain.stages[0].cmd = Some(Value::str("other"));
    chain.check([true, false], ["run", "may run"]);
    chain.stages[1].cmd = Some(Value::str("other"));
    chain.check([true, true], ["run", "run"]);
}

#[test]
fn outs_that_are_only_missing_are_restored_one_after_the_other() {
    let mut chain = Chain::settled();
    chain.world.files = [("raw", "r")].into();
    chain.check([true, true], ["restore", "restore"]);
    chain.world.cached = vec!["m"];
    chain.check([true, true], ["restore", "run"]);
    chain.world.cached = vec!["e"];
    chain.check([true, true], ["run", "run"]);
}

#[test]
fn a_stage_behind_a_restored_one_is_unchanged_if_it_then_finds_what_is_recorded() {
    let mut chain = Chain::settled();
    chain.world.files.insert("mid", "touched");
    chain.check([true, true], ["restore", "unchanged"]);
}

#[test]
fn an_earlier_run_with_these_deps_is_restored_from_the_run_cache() {
    let mut chain = Chain::settled();
    chain.world.files.insert("raw", "r2");
    chain.check([true, false], ["run", "may run"]);
    let dep =
        [("path", "raw"), ("hash", "md5"), ("md5", &md5("r2"))].map(|(key, text)| (Value::str(key), Value::str(text)));
    let dep = Value::Map(Box::new(dep.into_iter().collect()));
    let key = run_cache::key(&Value::str("a"), vec![dep], Map::new(), vec!["mid"]).expect("JSON says it");
    chain.world.runs.insert(key, entry("a", &[("raw", "r2")], &[("mid", "m2")]));
    chain.check([true, false], ["run", "may run"]);
    chain.world.cached.push("m2");
    chain.check([true, false], ["restore", "run"]);
}

#[test]
fn a_frozen_stage_is_recorded_and_looks_at_no_deps() {
    let mut chain = Chain::settled();
    chain.stages[0].frozen = true;
    chain.world.files.insert("raw", "r2");
    chain.check([false, false], ["unchanged", "unchanged"]);
    chain.world.files.insert("mid", "m2");
    chain.check([true, true], ["record", "run"]);
}

#[test]
fn a_problem_behind_a_reason_is_only_noted() {
    let mut chain = Chain::settled();
    chain.world.files.insert("end", "broken");
    assert!(observe(chain.subject(1), &chain.world).is_err());
    chain.stages[1].cmd = Some(Value::str("other"));
    assert!(chain.observe(1).problem.is_some());
    chain.check([false, true], ["unchanged", "run"]);
}

#[test]
fn reasons_tell_what_was_and_what_is() {
    let mut chain = Chain::settled();
    chain.world.files.insert("raw", "r2");
    chain.world.files.remove("mid");
    chain.stages[0].cmd = Some(Value::str("a2"));
    let expected = |text| Expected { name: HashName::Md5, md5: md5(text), size: None, is_exec: false };
    let now = Hashed::File { md5: Md5::of(b"r2"), size: 1, is_exec: false };
    assert_eq!(
        chain.observe(0).reasons,
        [
            Reason::Command { recorded: Value::str("a"), now: Value::str("a2") },
            Reason::Dep { path: "raw".into(), change: DataChange::Modified { recorded: Some(expected("r")), now } },
            Reason::Out { path: "mid".into(), change: DataChange::Deleted { recorded: Some(expected("m")) } },
        ]
    );
    chain.entries[0] = None;
    assert_eq!(chain.observe(0).reasons, [Reason::New]);
}

#[test]
fn an_import_is_changed_once_its_file_is_edited() {
    let mut chain = Chain::settled();
    let md5 = "c81e728d9d4c2f636f067f89cc14862c";
    let recorded = || Some(Recorded { hash: Some("md5".into()), md5: Some(md5.into()), ..Recorded::default() });
    let import = &mut chain.stages[0];
    *import =
        Stage { cmd: None, name: None, frozen: true, file: "raw.dvc".into(), ..stage("raw.dvc", &["src"], &["raw"]) };
    import.deps[0].recorded = recorded().map(Box::new);
    import.outs[0].recorded = recorded().map(Box::new);
    // As `dvc import-url src raw` wrote it, DVC 3.67.1.
    import.md5 = Some("21ad14d3b52ca30081fea5c321fab1ec".into());
    chain.entries[0] = None;
    chain.world.files.insert("raw", "2");
    chain.world.cached.push("2");
    assert_eq!(chain.observe(0).reasons, []);
    chain.stages[0].wdir = "sub".into();
    assert_eq!(chain.observe(0).reasons, [Reason::Definition]);
}

/// Checks which keys of `keys` are changed: `file` now, `lock` as recorded.
#[track_caller]
fn params(keys: &[&str], file: &str, lock: &[(&str, Value)], expected: &[(&str, &str)]) {
    let mut chain = Chain::settled();
    let values = crate::dvc::yaml::load(file.as_bytes()).expect("valid YAML");
    chain.world.params.insert("params.yaml", Arc::new(ParamsFile::new(values, false)));
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    chain.stages[0].params = vec![ParamsDep { path: "params.yaml".into(), resolved: "params.yaml".into(), keys }];
    let recorded = lock.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    chain.entries[0].as_mut().expect("a has one").params = vec![("params.yaml".into(), recorded)];
    let reasons = chain.observe(0).reasons;
    let changed = reasons.iter().map(|reason| match reason {
        Reason::Param { key, change: ParamChange::New { .. }, .. } => (key.as_str(), "new"),
        Reason::Param { key, change: ParamChange::Deleted { .. }, .. } => (key.as_str(), "deleted"),
        Reason::Param { key, change: ParamChange::Modified { .. }, .. } => (key.as_str(), "modified"),
        reason => panic!("{reason:?}"),
    });
    assert_eq!(changed.collect::<Vec<_>>(), expected);
}

#[test]
fn params_are_looked_up_by_dpath_and_compared_by_python() {
    let one = || Value::Int(1);
    params(&["a"], "a: 1.0", &[("a", one())], &[]);
    params(&["a"], "a: true", &[("a", one())], &[]);
    params(&["a"], "a: '1'", &[("a", one())], &[("a", "modified")]);
    params(&["a"], "a: .nan", &[("a", Value::Float(f64::NAN))], &[("a", "modified")]);
    params(&["a"], "a:", &[("a", Value::Null)], &[]);
    params(&["a"], "{}", &[("a", one())], &[("a", "deleted")]);
    params(&["a", "b"], "{a: 1, b: 1}", &[("a", one())], &[("b", "new")]);
    params(&["x.y", ".x.y"], "x: {y: 1}", &[("x.y", one()), (".x.y", one())], &[]);
    params(&["x.1", "x.-1"], "x: [0, 1]", &[("x.1", one()), ("x.-1", one())], &[]);
    params(&["x.1"], "x: {1: 1}", &[("x.1", one())], &[]);
    params(&["x.1"], "x: {true: 1}", &[("x.1", one())], &[]);
    params(&["x.True"], "x: {true: 1}", &[("x.True", one())], &[]);
    params(&["x.1"], "x: {1.0: 1}", &[("x.1", one())], &[("x.1", "deleted")]);
    params(
        &["x.-3", "x.2"],
        "x: [0, 1]",
        &[("x.-3", one()), ("x.2", one())],
        &[("x.-3", "deleted"), ("x.2", "deleted")],
    );
    params(&["tr*.l[xr]", "**.lr"], "train: {lr: 1}", &[("tr*.l[xr]", one()), ("**.lr", one())], &[]);
    params(&["x.y"], "x.y: 1", &[("x.y", one())], &[("x.y", "deleted")]);
    params(&[], "{b: 1, a: 2}", &[("a", one()), ("c", one())], &[("b", "new"), ("a", "modified"), ("c", "deleted")]);
}

#[test]
fn params_that_dpath_cannot_look_up_are_a_problem() {
    for (key, file) in [("*", "{a: 1, b: 2}"), ("a", "{a: 1, b: {'': 2}}"), ("**.**", "a: 1")] {
        let mut chain = Chain::settled();
        let values = crate::dvc::yaml::load(file.as_bytes()).expect("valid YAML");
        chain.world.params.insert("p.yaml", Arc::new(ParamsFile::new(values, false)));
        let keys = vec![key.to_owned()];
        chain.stages[0].params = vec![ParamsDep { path: "p.yaml".into(), resolved: "p.yaml".into(), keys }];
        chain.entries[0].as_mut().expect("a has one").params = vec![("p.yaml".into(), vec![])];
        assert!(observe(chain.subject(0), &chain.world).is_err(), "{key}");
    }
}
