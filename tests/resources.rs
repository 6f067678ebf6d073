//! What stages ask for, and settings: from `meta.fanout`, the configuration file, the environment and flags to what runs.

use serde_json::Value;

use crate::support::same::assert_clean;
use crate::support::{Project, Ran};

const CONFIG: &str = ".dvc/fanout/config.yaml";

/// The journal of the latest run.
fn journal(project: &Project) -> Vec<Value> {
    let runs = project.path(".dvc/fanout/runs");
    let mut names: Vec<_> =
        std::fs::read_dir(&runs).expect("runs").map(|run| run.expect("listed").file_name()).collect();
    names.sort();
    let text =
        std::fs::read_to_string(runs.join(names.last().expect("a run")).join("events.jsonl")).expect("a journal");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The ids of work items of phase 0 in the order in which they started.
fn started(journal: &[Value]) -> Vec<String> {
    let ids = journal.iter().filter(|line| line["event"] == "attempt_started").map(|line| &line["id"]);
    ids.filter_map(|id| id.as_str()).filter(|id| id.starts_with('s') && id.len() == 2).map(str::to_owned).collect()
}

/// The most work items that ran at the same time, by the journal.
fn most_at_once(journal: &[Value]) -> i32 {
    let step = |line: &Value| match line["event"].as_str() {
        Some("attempt_started") => 1,
        Some("attempt_finished") => -1,
        _ => 0,
    };
    let mut now = 0;
    journal
        .iter()
        .map(|line| {
            now += step(line);
            now
        })
        .max()
        .unwrap_or(0)
}

fn with_meta(meta: &str) -> Project {
    let project = Project::from_fixture("sessions");
    project.edit(
        "dvc.yaml",
        "      - raw/${item}.txt\n",
        &format!("      - raw/${{item}}.txt\n      meta: {{fanout: {meta}}}\n"),
    );
    project
}

#[test]
fn work_items_of_a_group_take_turns_and_the_others_do_not_wait() {
    let project = with_meta("{group: api}");
    project.fanout(["run", "-j", "4", "--group", "api=1"]).succeeded();
    assert_eq!(most_at_once(&journal(&project)), 1);
    project.write(CONFIG, "groups: {api: 2}\njobs: 4\n");
    project.fanout(["run", "--force"]).succeeded();
    assert_eq!(most_at_once(&journal(&project)), 2, "as the file says");
    assert_clean(&project, &[]);
}

#[test]
fn work_items_share_cpus_and_see_the_gpus_they_asked_for() {
    let project = with_meta("{gpus: 1, cpus: 2}");
    project.edit(
        "dvc.yaml",
        "mkdir -p work &&",
        &format!("echo \"$CUDA_VISIBLE_DEVICES\" >> {}; mkdir -p work &&", project.path("../gpus").display()),
    );
    project.fanout(["run", "-j", "3", "--gpus", "7,9"]).succeeded();
    assert_eq!(most_at_once(&journal(&project)), 1, "two of them need four CPUs");
    let seen = project.read("../gpus");
    assert!(seen.lines().count() == 4 && seen.lines().all(|gpu| gpu == "7" || gpu == "9"), "{seen}");
    let said = project.fanout(["run", "-j", "3", "--gpus", "7", "--force"]);
    assert!(!said.stderr.contains("asks for more"), "{said:?}");
    project.edit("dvc.yaml", "gpus: 1", "gpus: 4");
    let said = project.fanout(["run", "-j", "3", "--gpus", "7", "--force"]);
    assert!(said.stderr.contains("s1 and 3 more ask for more GPUs than the 1 here"), "{said:?}");
}

#[test]
fn the_longest_sessions_of_the_last_run_start_first() {
    let project = Project::from_fixture("sessions");
    project.fanout(["run", "-j", "1"]).succeeded();
    let first = journal(&project);
    let mut took: Vec<(f64, String)> = first
        .iter()
        .filter(|line| line["event"] == "attempt_finished")
        .map(|line| (line["seconds"].as_f64().expect("a number"), line["id"].as_str().expect("an id").to_owned()))
        .filter(|(_, id)| id != "summary")
        .collect();
    took.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    project.fanout(["run", "-j", "1", "--force"]).succeeded();
    assert_eq!(started(&journal(&project)), took.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

#[test]
fn a_stage_that_takes_longer_than_it_may_fails_and_the_others_go_on() {
    let project = with_meta("{timeout: 1s}");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: if [ ${item} = s2 ]; then sleep 600; fi; mkdir -p work &&");
    project.write(CONFIG, "stages: {extract: {timeout: 20s}, extract@s2: {timeout: 2s}}\n");
    let ran = project.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("failed: s2 (it took longer than 2 s)"), "{ran:?}");
    assert!(project.fanout(["logs", "extract@s2"]).succeeded().contains("ERROR: it took longer than 2 s"));
    assert!(project.read("dvc.lock").contains("score@s4"), "{ran:?}");
    // A flag wins over what stages ask for.
    let ran = project.fanout(["run", "-j", "2", "--force", "--timeout", "1"]);
    assert!(ran.stderr.contains("it took longer than 1 s"), "{ran:?}");
}

#[test]
fn a_hint_that_is_wrong_is_refused_with_its_place() {
    let project = with_meta("{cpu: 2}");
    let ran = project.fanout(["plan"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("`meta.fanout` of stage `extract@s1`: there is no `cpu`"), "{ran:?}");
    assert!(ran.stderr.contains("--> dvc.yaml:3") && ran.stderr.contains("did you mean `cpus`?"), "{ran:?}");
    let project = with_meta("{group: a}");
    project.write(CONFIG, "stages: {score: {group: b}}\n");
    let ran = project.fanout(["plan"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("in two groups: `a` and `b`"), "{ran:?}");
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file_which_wins_over_meta() {
    let project = with_meta("{cpus: 1, memory: 2Gi}");
    project.write(CONFIG, "jobs: 5\nretries: 1\nnice: 3\nstages: {extract: {cpus: 3}}\n");
    let config = |arguments: &[&str]| {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.env("DVC_FANOUT_JOBS", "6").env("DVC_FANOUT_RETRIES", "2").env("DVC_FANOUT_FAIL_FAST", "yes");
        let said = Ran::of(command.arg("config").args(arguments).args(["--format", "json"])).succeeded();
        serde_json::from_str::<Value>(&said).expect("JSON")
    };
    let of = |all: &Value, name: &str| {
        let settings = all["settings"].as_array().expect("a list");
        let setting =
            settings.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("no {name}: {all}"));
        format!("{} {}", setting["value"], setting["origin"].as_str().unwrap_or_default())
    };
    let all = config(&["--jobs", "7"]);
    assert_eq!(of(&all, "jobs"), "7 --jobs");
    assert_eq!(of(&all, "retries"), "2 DVC_FANOUT_RETRIES");
    assert_eq!(of(&all, "fail-fast"), "true DVC_FANOUT_FAIL_FAST");
    assert_eq!(of(&all, "nice"), "3 .dvc/fanout/config.yaml");
    assert_eq!(of(&all, "max-failed"), "null default");
    assert_eq!(of(&all, "stages.extract.cpus"), "3.0 .dvc/fanout/config.yaml");
    assert_eq!(of(&all, "stages.extract.memory"), "\"2048Mi\" meta in dvc.yaml:3");
    assert_eq!(of(&config(&[]), "jobs"), "6 DVC_FANOUT_JOBS");
    let table = project.fanout(["config"]).succeeded();
    assert!(table.lines().any(|line| line.starts_with("jobs ") && line.ends_with(CONFIG)), "{table}");
}

#[test]
fn a_switch_can_be_turned_off_and_lists_say_where_they_are_from() {
    let project = with_meta("{cpus: 1}");
    project.write(CONFIG, "fail-fast: true\ngroups: {b: 6}\nstages: {extract@s2: {memory: 2Gi}}\n");
    let config = |variable: (&str, &str), arguments: &[&str]| {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        Ran::of(command.env(variable.0, variable.1).arg("config").args(arguments)).succeeded()
    };
    let has = |table: &str, name: &str, rest: &[&str]| {
        let line = table.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name}:\n{table}"));
        assert!(rest.iter().all(|part| line.contains(part)), "{line}");
    };
    let off = config(("DVC_FANOUT_FAIL_FAST", "false"), &["--group", "a=3"]);
    has(&off, "fail-fast", &["false", "DVC_FANOUT_FAIL_FAST"]);
    has(&off, "group", &["b=6, a=3", "--group, .dvc/fanout/config.yaml"]);
    has(&off, "stages.extract@s2.memory", &["2048Mi"]);
    assert!(!off.contains("stages.extract.memory"), "{off}");
    has(&config(("DVC_FANOUT_GROUP", "a=3"), &[]), "group", &["DVC_FANOUT_GROUP"]);
}

/// Who asks for a node's memory does not mean this machine.
#[test]
fn flags_of_an_engine_that_is_not_used_are_refused() {
    let project = with_meta("{cpus: 1}");
    for flag in ["--partition=cpu", "--mem=4G", "--then=finalize", "--image=x"] {
        let ran = project.fanout(["run", flag]);
        let name = flag.split('=').next().unwrap_or_default();
        assert!(ran.code == Some(2) && ran.stderr.contains(&format!("`{name}` is for ")), "{ran:#?}");
        assert!(ran.stderr.contains("and the engine is `local`"), "{ran:#?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_its_place() {
    let project = Project::without_init();
    let refused = |said: &str| {
        let ran = project.fanout(["run"]);
        assert!(ran.code == Some(4) && ran.stderr.contains(said), "{ran:#?}");
        assert!(ran.stderr.contains(&format!("\n  --> {CONFIG}")) && !ran.stderr.contains("os error"), "{ran:#?}");
    };
    project.write(CONFIG, "retries: 1\njobs: many\n");
    refused("`jobs`: it is a number from 1, not `many`\n  --> .dvc/fanout/config.yaml:2:7\nhint: ");
    std::fs::write(project.path(CONFIG), b"jobs: 1\n# \xff\n").expect("written");
    refused("is not YAML");
    std::fs::remove_file(project.path(CONFIG)).expect("removed");
    std::fs::create_dir(project.path(CONFIG)).expect("made");
    refused("a folder where a file should be");
}

#[test]
fn the_schema_of_the_configuration_file_is_up_to_date() {
    let project = Project::bare();
    let said = project.fanout(["config", "--schema"]).succeeded();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/config.schema.json");
    if std::env::var_os("DVC_FANOUT_UPDATE").is_some() {
        std::fs::write(&path, &said).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == said || cfg!(not(feature = "kubernetes")), "DVC_FANOUT_UPDATE=1 writes {} anew", path.display());
}

#[test]
fn a_name_in_the_settings_that_is_no_stage_is_told() {
    let project = Project::from_fixture("sessions");
    project.write(CONFIG, "stages:\n  extrakt: {cpus: 1}\n  extract@gone: {cpus: 1}\n  extract: {cpus: 1}\n");
    let said = project.fanout(["plan"]);
    let told = "`stages.extrakt` in `.dvc/fanout/config.yaml` is no stage of this project (did you mean `extract`?)";
    assert!(said.stderr.contains(told) && !said.stderr.contains("gone"), "{said:?}");
}
