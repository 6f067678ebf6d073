//! What real DVC said of many small projects, held against what `dvc-fanout` says: `fixtures/conformance/`.
//!
//! Each line is a project (`files`, `files_b64`, `dirs`, `symlinks`, `modes`, `git`, `cwd`) and what DVC 3.67.1 made of
//! it (`expected`).

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{Project, Ran};

/// The fields of a stage that must be as DVC has them; others say more than DVC.
const STAGE_FIELDS: [&str; 10] = [
    "address",
    "group",
    "path",
    "wdir",
    "cmd_raw",
    "deps_resolved",
    "params_resolved",
    "frozen",
    "always_changed",
    "callback",
];
const OUT_FIELDS: [&str; 6] = ["path", "resolved", "kind", "cache", "persist", "push"];

#[test]
fn stages_are_those_that_dvc_sees() {
    check("parse.jsonl", differences);
}

#[test]
fn stages_changed_are_those_that_dvc_would_reproduce() {
    check("status.jsonl", status_differences);
}

#[test]
fn files_and_directories_hash_as_in_dvc() {
    check("hash.jsonl", hash_differences);
}

/// Asks for the differences of every case of a file, and expects none.
fn check(file: &str, differences: impl Fn(&Value) -> Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/conformance");
    let cases = std::fs::read_to_string(folder.join(file)).expect("the fixture is there");
    let mut report = String::new();
    let mut failed = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("each line is a case");
        let differences = differences(&case);
        if !differences.is_empty() {
            failed += 1;
            writeln!(report, "{}\n  {}", case["id"], differences.join("\n  ")).expect("a String takes every text");
        }
    }
    assert!(report.is_empty(), "{failed} of {} cases differ from DVC:\n{report}", cases.lines().count());
}

fn differences(case: &Value) -> Vec<String> {
    let project = materialise(case);
    let expected = &case["expected"];
    let ran = stages(&project, case, &[]);
    if expected["error"] == true {
        return failure(&ran).into_iter().collect();
    }
    let got: Value = match serde_json::from_str(&ran.stdout) {
        Ok(got) => got,
        Err(_) => return vec![format!("exit {:?}: {}", ran.code, ran.stderr)],
    };
    let mut differences = vec![];
    let mut check = |what: &str, got: &Value, expected: &Value| {
        if got != expected {
            differences.push(format!("{what}: got {got}, DVC {expected}"));
        }
    };
    check("stages", &addresses(&got["stages"]), &addresses(&expected["stages"]));
    for (got, expected) in items(&got["stages"]).iter().zip(items(&expected["stages"])) {
        for field in STAGE_FIELDS {
            check(&format!("{} {field}", expected["address"]), &got[field], &expected[field]);
        }
        check(&format!("{} outs", expected["address"]), &outs(&got["outs"]), &outs(&expected["outs"]));
    }
    check("edges", &sorted(&got["edges"]), &sorted(&expected["edges"]));
    check("order", &got["order"], &expected["order"]);
    for (target, meant) in expected["targets"].as_object().into_iter().flatten() {
        let glob: &[&str] = if case["glob_targets"].is_null() { &[] } else { &["--glob"] };
        let ran = stages(&project, case, &[glob, &[target]].concat());
        if meant["repro"].is_array() {
            let got: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
            check(&format!("target {target}"), &sorted(&got["selected"]), &sorted(&meant["repro"]));
        } else {
            check(&format!("target {target}"), &failure(&ran).into(), &Value::Null);
        }
    }
    differences
}

fn status_differences(case: &Value) -> Vec<String> {
    let project = materialise(case);
    let ran = stages(&project, case, &["--changed"]);
    if case["error"] == true {
        return failure(&ran).into_iter().collect();
    }
    let got: Value = match serde_json::from_str(&ran.stdout) {
        Ok(got) => got,
        Err(_) => return vec![format!("exit {:?}: {}", ran.code, ran.stderr)],
    };
    let changed = |stage: &Value| (stage["address"].as_str().expect("text").to_owned(), stage["changed"].clone());
    let got: serde_json::Map<String, Value> = items(&got["stages"]).iter().map(changed).collect();
    let expected = case["expected"]["changed"].as_object().expect("a map");
    let differs = |(address, expected): (&String, &Value)| {
        (got.get(address) != Some(expected)).then(|| format!("{address}: DVC says {expected}"))
    };
    expected.iter().filter_map(differs).collect()
}

fn hash_differences(case: &Value) -> Vec<String> {
    let project = materialise(case);
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let name = case["hash_name"].as_str().unwrap_or("md5");
    let path = case["path"].as_str().expect("text");
    let ran = Ran::of(command.current_dir(project.root()).args(["debug", "hash", "--name", name, path]));
    if case["error"] == true {
        return failure(&ran).into_iter().collect();
    }
    let got: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let expected = &case["expected"];
    let fields =
        [("md5", &expected["md5"]), ("size", &expected["meta"]["size"]), ("nfiles", &expected["meta"]["nfiles"])];
    let differs = |(field, expected): &(&str, &Value)| got[*field] != **expected;
    fields
        .into_iter()
        .filter(differs)
        .map(|(field, expected)| format!("{field}: got {}, DVC {expected}", got[field]))
        .collect()
}

fn stages(project: &Project, case: &Value, arguments: &[&str]) -> Ran {
    let cwd = project.path(case["cwd"].as_str().unwrap_or("."));
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    Ran::of(command.current_dir(cwd).args(["stages", "--format", "json"]).args(arguments))
}

/// Says how a run was no proper failure; DVC fails here.
fn failure(ran: &Ran) -> Option<String> {
    match ran.code {
        Some(0) => Some("DVC fails here, dvc-fanout does not".to_owned()),
        Some(2 | 4) if ran.stderr.starts_with("error: ") => None,
        code => Some(format!("exit {code:?}: {}", ran.stderr)),
    }
}

/// Writes the project of a case.
fn materialise(case: &Value) -> Project {
    let project = Project::bare();
    let root = project.root();
    let git = case["git"] == true;
    if git {
        project.git(["init", "--quiet"]);
    }
    if case["files"][".dvc/config"].is_null() {
        project.write(".dvc/config", if git { "" } else { "[core]\n    no_scm = True\n" });
    }
    for directory in items(&case["dirs"]) {
        std::fs::create_dir_all(root.join(directory.as_str().expect("a path"))).expect("made");
    }
    for (path, text) in case["files"].as_object().into_iter().flatten() {
        project.write(path, &placed(root, text.as_str().expect("text")));
    }
    for (path, base64) in case["files_b64"].as_object().into_iter().flatten() {
        project.write(path, "");
        std::fs::write(root.join(path), decode(base64.as_str().expect("text"))).expect("written");
    }
    for path in case["files"].as_object().into_iter().flatten().map(|(path, _)| path) {
        let is_object = path.starts_with(".dvc/cache/") && !path.starts_with(".dvc/cache/runs/");
        let mode = if is_object { 0o444 } else { 0o644 };
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).expect("set");
    }
    for (path, target) in case["symlinks"].as_object().into_iter().flatten() {
        let target = placed(root, target.as_str().expect("a path"));
        std::os::unix::fs::symlink(target, root.join(path)).expect("linked");
    }
    for (path, mode) in case["modes"].as_object().into_iter().flatten() {
        let mode = u32::from_str_radix(mode.as_str().expect("text"), 8).expect("octal");
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).expect("set");
    }
    project
}

fn placed(root: &Path, text: &str) -> String {
    let parent = root.parent().expect("it has one");
    text.replace("<ROOT>", &root.display().to_string()).replace("<PARENT>", &parent.display().to_string())
}

fn decode(base64: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = base64.bytes().filter(|byte| *byte != b'=');
    let digits = digits.map(|byte| DIGITS.iter().position(|digit| *digit == byte).expect("base64"));
    let mut bytes = vec![];
    let (mut buffer, mut bits) = (0_usize, 0);
    for digit in digits {
        buffer = (buffer << 6) | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).expect("masked"));
        }
    }
    bytes
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn addresses(stages: &Value) -> Value {
    items(stages).iter().map(|stage| stage["address"].clone()).collect()
}

fn outs(outs: &Value) -> Value {
    items(outs).iter().map(|out| OUT_FIELDS.iter().map(|field| out[*field].clone()).collect::<Value>()).collect()
}

fn sorted(value: &Value) -> Value {
    let mut values = items(value).to_vec();
    values.sort_by_key(Value::to_string);
    Value::Array(values)
}
