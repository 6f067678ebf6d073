//! Texts that nobody would write, for what reads texts of others: stage files, lock files, results.
//!
//! Each target begins with real files (`fixtures/conformance`) and holds what comes of them to a rule. As tests, they are
//! changed by chance; `contrib/fuzz` builds a program that notes which ways a text takes, and goes on from those that take
//! new ones.

#[cfg(not(fuzzing))]
pub(crate) mod mutation;

use serde_json::Value as Json;

use crate::dvc::config::{ConfigFile, DvcConfig};
use crate::dvc::formats;
use crate::dvc::lockfile::{Lockfile, splice};
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::source::MemoryFiles;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::format::WorkResult;
use crate::state::published::Published;
use crate::state::vetting;

/// Longer texts only make each try slower.
const MAX_BYTES: usize = 4 << 10;

/// Calls a target, `fn(&str)`, with texts made of seeds: under `contrib/fuzz` with those that take new ways through the
/// program, else with those that are made by chance.
macro_rules! fuzz {
    ($name:literal, $seeds:expr, $target:expr) => {{
        let (seeds, target) = ($crate::fuzz::with_kept($name, $seeds), $target);
        #[cfg(fuzzing)]
        {
            $crate::fuzz::plant(&seeds);
            bolero::check!().for_each(|bytes: &[u8]| target(&String::from_utf8_lossy(bytes)));
        }
        #[cfg(not(fuzzing))]
        $crate::fuzz::mutation::fuzz($name, &seeds, &target);
    }};
}

pub(crate) use fuzz;

/// The seeds of a reader, and what `contrib/fuzz --keep` has found beside them.
pub(crate) fn with_kept(name: &str, seeds: impl IntoIterator<Item = String>) -> Vec<String> {
    let file = format!("{}/fixtures/fuzz/{}.jsonl", env!("CARGO_MANIFEST_DIR"), name.replace(' ', "-"));
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    let kept = kept.lines().map(|line| serde_json::from_str(line).expect("a string"));
    seeds.into_iter().chain(kept).collect()
}

/// Writes seeds to where the fuzzer looks for them.
#[cfg(fuzzing)]
pub(crate) fn plant(seeds: &[String]) {
    let Some(folder) = crate::env::read_text("DVC_FANOUT_FUZZ_CORPUS") else { return };
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(format!("{folder}/seed-{number}"), seed).expect("written");
    }
}

/// All strings in a JSON value that look like files.
fn texts(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::String(text) if text.contains('\n') && text.len() < MAX_BYTES => found.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Json::Object(entries) => entries.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

fn seeds(corpus: &str) -> Vec<String> {
    let mut found = vec![];
    for line in corpus.lines() {
        texts(&serde_json::from_str(line).expect("JSON"), &mut found);
    }
    assert!(found.len() > 50, "{} seeds", found.len());
    found
}

#[test]
fn no_stage_file_makes_the_loader_fall_over() {
    let config = DvcConfig::from_files(&[], "/p", &|_| None).expect("the defaults are valid");
    let seeds = seeds(include_str!("../../fixtures/conformance/parse.jsonl"));
    let params = "keys: [a, b]\nmap: {x: {y: 1}}\nitem: 1\n";
    fuzz!("loader", seeds, |text: &str| {
        let files = MemoryFiles::new(&[("dvc.yaml", text), ("params.yaml", params), ("sub/x.dvc", text)]);
        if let Ok(project) = Project::load(&files, &config) {
            drop(Graph::build(&project));
        }
    });
}

#[test]
fn no_params_file_makes_its_reader_fall_over() {
    let seeds = [
        "a = 1\nclass B:\n    c: int = 0x1f\n    d = {'e': [1, -2.5e3, None, True], **{}}\n\n    def __init__(self):\n        \
         self.f = ('g', \"\"\"h\ni\"\"\")  # j\n",
        "a = 1\n[b]\nc = [1, 2.5, true]\nd = {e = \"f\", g = '''h'''}\n[[i.j]]\nk = 1979-05-27T07:32:00Z\n",
        "{\"a\": [1, 2.5e-3, null, true, \"\\u00e9\\n\"], \"b\": {\"c\": NaN}}",
        "a: &x [1, 0o17, 1_000, .inf, ~, 2001-12-14]\nb: {<<: {c: *x}}\nd: |-\n  e\n   f\n? g\n: >+\n  h\n\ni: !!str 1\n",
    ];
    fuzz!("params reader", seeds.map(str::to_owned), |text: &str| {
        for path in ["p.py", "p.toml", "p.json", "p.yaml"] {
            drop(formats::load(path, text.as_bytes()));
        }
    });
}

#[test]
fn no_settings_of_dvc_make_their_reader_fall_over() {
    let seeds =
        ["[core]\n    remote = r\n    autostage = true\n['remote \"r\"']\n    url = ../s\n[cache]\n    type = \
                  \"reflink,copy\"\n    dir = %(x)s\n# note\n[a]\n[[b]]\nc = '''d\ne'''\n"];
    fuzz!("settings reader", seeds.map(str::to_owned), |text: &str| {
        let file = ConfigFile { path: ".dvc/config".to_owned(), dir: "/p/.dvc".to_owned(), text: text.to_owned() };
        drop(DvcConfig::from_files(&[file], "/p", &|user| user.is_empty().then(|| "/home/u".to_owned())));
    });
}

#[test]
fn splicing_an_entry_changes_no_other_byte() {
    let seeds = seeds(include_str!("../../fixtures/conformance/lock.jsonl"));
    fuzz!("lock splicer", seeds, |text: &str| {
        // A last line without an end gets one.
        let text = &format!("{}\n", text.trim_end_matches('\n'));
        // DVC numbers its anchors anew with every write, and so do we.
        let Some(lock) = Lockfile::parse(text).ok().filter(|_| !text.contains("&id")) else { return };
        let names: Vec<String> = lock.names().map(str::to_owned).collect();
        for name in &names {
            let own = lock.entry(name).expect("it has a name");
            own.assert_read_the_same();
            let own = own.text();
            let Ok(same) = splice(Some(text), &[(name, own)]) else { continue };
            assert_eq!(&same, text, "an entry in place of itself");
        }
        let Some(first) = names.first() else { return };
        let own = lock.entry(first).expect("it has a name").text();
        let Some((head, _)) = own.split_once('\n').filter(|(head, _)| head.ends_with(':')) else { return };
        let other = format!("{head}\n    cmd: other\n");
        let Ok(changed) = splice(Some(text), &[(first, &other)]) else { return };
        let after = Lockfile::parse(&changed).expect("what was spliced can be read");
        assert_eq!(after.names().collect::<Vec<_>>(), names, "no stage is lost");
        for name in &names[1..] {
            let entry = |lock: &Lockfile<'_>| Some(lock.entry(name)?.text().replace("\r\n", "\n"));
            assert_eq!(entry(&after), entry(&lock));
        }
    });
}

#[test]
fn a_result_that_is_believed_names_only_paths_inside_the_project() {
    let result = serde_json::json!({
        "version": 1, "run": "r", "index": 0, "id": "k", "attempt": 1, "outcome": {"kind": "succeeded"},
        "stages": [{"address": "a@k", "state": "ran", "entry": "  a@k:\n    cmd: x\n", "executable": ["d/x"]}],
        "files": [{"path": "m/k.json", "blob": "0", "size": 3, "md5": "d41d8cd98f00b204e9800998ecf8427e", "executable": false,
            "symlink": null, "stage": "a@k", "before": null}],
        "partial": [], "deleted": ["gone.txt"], "ignore": [{"path": "m/.gitignore", "lines": ["/x"]}],
        "dvc": "3.67.1", "host": "h", "started": "2024-01-01T00:00:00Z", "finished": "2024-01-01T00:00:01Z",
    });
    let text = serde_json::to_string_pretty(&result).expect("plain data");
    let seeds = [
        text.clone(),
        text.replace("m/k.json", "../k"),
        text.replace("m/k.json", "/etc/k"),
        text.replace("gone.txt", ".git/config"),
    ];
    fuzz!("result reader", seeds, |text: &str| {
        let Ok(result) = serde_json::from_str::<WorkResult>(text) else { return };
        let mut published = Published { directory: "/".into(), result, left_out: vec![] };
        vetting::sift(&mut published);
        let result = published.result;
        if vetting::sound(&result, "r", ItemIndex::new(0), AttemptNumber::FIRST).is_err() {
            return;
        }
        let is_inside =
            |path: &str| !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let is_internal = |path: &str| path.split('/').any(|part| matches!(part, ".git" | ".dvc"));
        let undeclared = result.files.iter().filter(|file| file.stage.is_none()).map(|file| &file.path);
        for path in undeclared.chain(&result.deleted).chain(result.ignore.iter().map(|lines| &lines.path)) {
            assert!(is_inside(path) && !is_internal(path), "`{path}` was believed");
        }
        // Whether it lies in an out, which may hold anything, is for `fits` to tell.
        for file in &result.files {
            assert!(is_inside(&file.path), "`{}` was believed", file.path);
        }
    });
}
