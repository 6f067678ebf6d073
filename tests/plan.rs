//! `plan`: what it says, what it refuses, and the phases one by one.

use crate::support::Project;
use crate::support::same::{assert_clean, fails_with};

#[test]
fn plan_counts_by_template_and_explains_on_demand() {
    let project = Project::from_fixture("sessions");
    let new = project.fanout(["plan"]).succeeded();
    for line in [
        "extract: 4 of 4 changed: 4 new",
        "summary: changed: new",
        "phase 0  map     4 work items  extract ×4 → score ×4",
        "phase 1  shared   1 work item  summary  (finalize)",
    ] {
        assert!(new.lines().any(|other| other == line), "`{line}` in\n{new}");
    }
    project.fanout(["run", "-j", "2"]).succeeded();
    project.write("raw/s2.txt", "changed\n");
    project.edit("dvc.yaml", "wc -c < work", "wc -l < work");
    project.edit("params.yaml", "s4", "s4, s5");
    project.write("raw/s5.txt", "five\n");
    let text = project.fanout(["plan"]).succeeded();
    for line in [
        "extract: 2 of 5 changed: 1 dep changed, 1 new",
        "score: 5 of 5 changed: 4 command changed, 1 new",
        "summary: changed: upstream",
    ] {
        assert!(text.lines().any(|other| other == line), "`{line}` in\n{text}");
    }

    let why = project.fanout(["plan", "--explain", "s2"]).succeeded();
    assert!(why.starts_with("extract@s2: runs\n  dep raw/s2.txt: md5 "), "{why}");
    assert!(why.contains(" → 8 bytes\nscore@s2: runs\n  command:\n    - mkdir"), "{why}");
    assert!(why.contains("\n    + mkdir") && why.ends_with("  upstream extract@s2\n"), "{why}");
    assert!(!why.contains("s1"), "only what was asked for:\n{why}");
    fails_with(&project, 2, ["plan", "--explain", "s9"]);

    let json: serde_json::Value =
        serde_json::from_str(&project.fanout(["plan", "--format", "json"]).succeeded()).expect("JSON");
    let items = json["work_items"].as_array().expect("a list");
    let s2 = &items.iter().find(|item| item["id"] == "s2").expect("it is planned")["stages"][0];
    assert_eq!(s2["address"], "extract@s2");
    assert_eq!(s2["outlook"], "run");
    assert_eq!(s2["reasons"][0]["path"], "raw/s2.txt");
    assert_eq!(s2["reasons"][0]["now"]["size"], 8);

    let mermaid = project.fanout(["plan", "--format", "mermaid"]).succeeded();
    assert!(
        mermaid.contains("[\"extract<br>2 changed\"]") && mermaid.contains("[\"extract<br>3 unchanged\"]"),
        "{mermaid}"
    );
    let dot = project.fanout(["plan", "--format", "dot"]).succeeded();
    assert!(dot.starts_with("digraph plan {"), "{dot}");

    let refused = fails_with(&project, 4, ["plan", "--max-items", "3"]);
    assert!(refused.stderr.contains("the plan has 6 work items, more than 3"), "{refused:#?}");
    assert_clean_plan(&project);
}

/// Planning changed nothing that git or DVC would see.
#[track_caller]
fn assert_clean_plan(project: &Project) {
    let status = project.git(["status", "--porcelain"]);
    assert!(!status.contains("fanout"), "{status}");
}

#[test]
fn only_templates_over_an_expression_fan_out() {
    let project = Project::from_fixture("window");
    let text = project.fanout(["plan", "--over", "days"]).succeeded();
    assert!(text.contains("map     7 work items  prepare ×7"), "{text}");
    assert!(text.contains("roll ×6  (finalize)"), "what rolls is shared now:\n{text}");
    let ran = fails_with(&project, 2, ["plan", "--over", "day"]);
    assert!(ran.stderr.contains("mentions `day`"), "{ran:#?}");
}

#[test]
fn preflight_finds_what_would_be_lost() {
    let project = Project::from_fixture("sessions");
    let fine = project.fanout(["plan", "--check"]).succeeded();
    assert!(fine.contains("no problem was found: 9 stages may run"), "{fine}");
    assert!(!project.path(".dvc/fanout/runs").exists(), "a check writes no plan");
    project.write("work/s1.txt", "tracked\n");
    project.write(
        "data.txt.dvc",
        "outs:\n- md5: 0123456789abcdef0123456789abcdef\n  size: 3\n  hash: md5\n  path: data.txt\n",
    );
    project.edit("dvc.yaml", "  summary:\n    cmd: cat", "  summary:\n    cmd: cat data.txt");
    project.edit("dvc.yaml", "    - scores\n    metrics:", "    - scores\n    - data.txt\n    metrics:");
    project.commit("an out is tracked, data is nowhere");
    let checked = fails_with(&project, 4, ["plan", "--check"]);
    for message in
        ["git tracks `work/s1.txt`, a cached out of stage `extract@s1`", "the data of `data.txt.dvc` is missing"]
    {
        assert!(checked.stderr.contains(message), "{message} in {checked:#?}");
    }
    let refused = fails_with(&project, 4, ["run"]);
    assert!(refused.stderr.contains("lists 1 more problem"), "{refused:#?}");
}

#[test]
fn phases_run_one_by_one_from_separate_shells() {
    let project = Project::from_fixture("split-merge");
    let plan: serde_json::Value =
        serde_json::from_str(&project.fanout(["plan", "--format", "json"]).succeeded()).expect("JSON");
    let phases = plan["phases"].as_array().expect("a list");
    assert_eq!(phases.len(), 5);
    let run = plan["run"].as_str().expect("an id");
    for (number, phase) in phases.iter().enumerate().filter(|(_, phase)| phase["trailing"] == false) {
        let number = number.to_string();
        project.fanout(["launch", run, "--phase", &number, "-j", "2"]).succeeded();
        assert!(phase["count"].as_u64().is_some());
    }
    project.fanout(["collect", run]).succeeded();
    project.fanout(["finalize", run]).succeeded();
    assert_clean(&project, &[]);
}

#[test]
fn a_plan_says_what_the_run_will_take_where_earlier_ones_tell() {
    let project = Project::empty();
    let pipeline = "stages:\n  make:\n    foreach: [p, q, r]\n    do:\n      cmd: sleep ${item}.1 && head -c 2000 /dev/zero > \
                    ${item}.out\n      deps: [raw]\n      outs: [\"${item}.out\"]\n";
    project.write("dvc.yaml", &pipeline.replace("${item}.1", "0.1"));
    project.write("raw", "1");
    project.commit("one");
    assert!(!project.fanout(["plan"]).succeeded().contains("about"), "nothing is known yet");
    project.fanout(["run", "-j", "2"]).succeeded();
    project.write("raw", "2");
    project.write("dvc.yaml", &project.read("dvc.yaml").replace("[p, q, r]", "[p, q, r, s]"));
    let plan = project.fanout(["plan"]).succeeded();
    let line = plan.lines().find(|line| line.starts_with("about ")).unwrap_or_else(|| panic!("{plan}"));
    assert!(line.contains("longest: `"), "{line}");
    assert!(line.ends_with("6.0 kB of outs (by earlier runs of 3 of 4 work items)"), "{line}");
    let dry = project.fanout(["run", "--dry", "-j", "8"]).succeeded();
    assert!(dry.contains(" on 8 slots, "), "{dry}");
    let json: serde_json::Value =
        serde_json::from_str(&project.fanout(["plan", "--format", "json"]).succeeded()).expect("JSON");
    assert_eq!((&json["estimate"]["known"], &json["estimate"]["out_bytes"]), (&3.into(), &6000.into()), "{json}");
}
