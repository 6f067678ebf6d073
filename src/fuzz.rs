//! Texts that nobody would write, for what reads texts of others: stage files, lock files, results.
//!
//! Each target mutates real files (`fixtures/conformance`) and holds what comes out to a rule: for a minute with `CI` set,
//! else for two seconds, and always the same texts, up to a number that is known to pass, so that a change is told from
//! chance. `DVC_FANOUT_FUZZ_SECONDS` and `DVC_FANOUT_FUZZ_SEED` ask for more and for others. What fails is printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::Value as Json;

use crate::dvc::config::DvcConfig;
use crate::dvc::lockfile::{Lockfile, splice};
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::source::MemoryFiles;
use crate::env;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::format::WorkResult;
use crate::state::published::Published;
use crate::state::vetting;

/// The number of texts that are tried unless a seed is given.
const TRIES: u64 = 400_000;
/// Longer texts only make each try slower.
const MAX_BYTES: usize = 4 << 10;

/// What makes parsers think.
const TOKENS: [&str; 32] = [
    "\n", "  ", "- ", ": ", "{", "}", "[", "]", "'", "\"", "|\n", ">\n", "#", "&a ", "*a", "<<: ", "!!", "%", "@",
    "\\", "\t", "\r\n", "\u{feff}", "\u{2028}", "${", "${item}", "...\n", "---\n", "null", "../", "/etc/x", "\0",
];

/// Mutates texts for as long as it is given, and calls the target with each.
fn fuzz(name: &str, seeds: &[String], target: &dyn Fn(&str)) {
    let number = |variable: &str| env::read_text(variable).and_then(|text| text.parse::<u64>().ok());
    let in_ci = env::read(env::CI).is_some();
    let seconds = number("DVC_FANOUT_FUZZ_SECONDS").unwrap_or(if in_ci { 60 } else { 2 });
    let given = number("DVC_FANOUT_FUZZ_SEED");
    let (seed, most) = given.map_or((1, TRIES), |seed| (seed, u64::MAX));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = Random(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tries = 0_u64;
    while tries < most && Instant::now() < end {
        let text = random.mutated(seeds);
        tries += 1;
        let is_fine = catch_unwind(AssertUnwindSafe(|| target(&text))).is_ok();
        assert!(is_fine, "{name}: seed {seed}, try {tries}, on {text:?}");
    }
    assert!(tries > 10, "{name}: {tries} tries");
}

struct Random(TestRng);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next_u64()).unwrap_or(usize::MAX) % limit.max(1)
    }

    /// A place in a text where a character begins.
    fn place(&mut self, text: &str) -> usize {
        let place = self.below(text.len() + 1);
        (0..=place).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    }

    fn range(&mut self, text: &str) -> std::ops::Range<usize> {
        let (a, b) = (self.place(text), self.place(text));
        a.min(b)..a.max(b)
    }

    fn mutated(&mut self, seeds: &[String]) -> String {
        let mut text = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            match self.below(6) {
                0 => {
                    let at = self.place(&text);
                    text.insert_str(at, TOKENS[self.below(TOKENS.len())]);
                }
                1 => {
                    let range = self.range(&text);
                    text.replace_range(range, "");
                }
                2 => {
                    let (range, at) = (self.range(&text), self.place(&text));
                    let again = text[range].to_owned();
                    text.insert_str(at, &again);
                }
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    let (range, at) = (self.range(other), self.place(&text));
                    text.insert_str(at, &other[range]);
                }
                4 => {
                    let range = self.range(&text);
                    text.replace_range(range, TOKENS[self.below(TOKENS.len())]);
                }
                _ => text.truncate(self.place(&text)),
            }
            if text.len() > MAX_BYTES {
                text.truncate((0..=MAX_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
            }
        }
        text
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
    let config = DvcConfig::from_files(&[], "/p", None).expect("the defaults are valid");
    let seeds = seeds(include_str!("../fixtures/conformance/parse.jsonl"));
    let params = "keys: [a, b]\nmap: {x: {y: 1}}\nitem: 1\n";
    fuzz("loader", &seeds, &|text| {
        let files = MemoryFiles::new(&[("dvc.yaml", text), ("params.yaml", params), ("sub/x.dvc", text)]);
        if let Ok(project) = Project::load(&files, &config) {
            drop(Graph::build(&project));
        }
    });
}

#[test]
fn splicing_an_entry_changes_no_other_byte() {
    let seeds = seeds(include_str!("../fixtures/conformance/lock.jsonl"));
    fuzz("lock splicer", &seeds, &|text| {
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
            assert_eq!(after.entry(name).map(|entry| entry.text()), lock.entry(name).map(|entry| entry.text()));
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
    fuzz("result reader", &seeds, &|text| {
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
