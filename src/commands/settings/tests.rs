//! The configuration file: shapes that are natural in YAML, and errors that name what is wrong.

use super::*;

fn parse(text: &str) -> Result<Settings, Diagnostic> {
    Settings::parse(text.as_bytes())
}

fn running(text: &str) -> Result<Json, Diagnostic> {
    let args = parse(text)?.running(&RunningArgs::default())?;
    Ok(serde_json::to_value(args).expect("plain data"))
}

#[test]
fn running_settings_may_have_the_shape_that_is_natural_in_yaml() {
    let text = "jobs: 8\nretries: 1\ntimeout: 2h\nmax-failed: 10%\nfail-fast: true\nmemory: 64Gi\ngpus: [0, 1]\n\
                groups: {api: 4, db: 1}\nnice: 5\nover: sessions\n";
    let expected = serde_json::json!({
        "jobs": 8, "retries": 1, "timeout": "2h", "max-failed": "10%", "fail-fast": true, "memory": "64Gi",
        "gpus": ["0", "1"], "group": ["api=4", "db=1"], "nice": 5,
    });
    assert_eq!(running(text).expect("good settings"), expected);
    assert_eq!(running("timeout: 90\nmax-failed: 3").expect("good settings")["timeout"], "1m30s");
    assert_eq!(running("").expect("an empty file"), serde_json::json!({}));
}

#[test]
fn a_flag_wins_over_the_file() {
    let settings = parse("jobs: 8\nretries: 1\n").expect("good settings");
    let typed = RunningArgs { jobs: std::num::NonZeroUsize::new(2), ..RunningArgs::default() };
    let args = settings.running(&typed).expect("good settings");
    assert_eq!((args.jobs.map(usize::from), args.retries), (Some(2), Some(1)));
}

/// Somebody else needs one of the licences today; the others have the limits that they have.
#[test]
fn a_limit_on_the_command_line_leaves_those_of_other_groups() {
    let settings = parse("groups: {licence: 2, api: 1}\n").expect("good settings");
    let groups = ["licence=1", "new=3"].map(|group| group.parse().expect("a limit")).to_vec();
    let args = settings.running(&RunningArgs { groups, ..RunningArgs::default() }).expect("good settings");
    let limits: Vec<(String, usize)> = args.groups().into_iter().collect();
    assert_eq!(limits, [("api".to_owned(), 1), ("licence".to_owned(), 1), ("new".to_owned(), 3)]);
}

#[test]
fn lists_are_split_as_on_the_command_line() {
    for text in ["gpus: 0,1", "gpus: '0, 1'", "gpus: [0, 1]", "gpus: ['0,1']"] {
        assert_eq!(running(text).expect("good settings")["gpus"], serde_json::json!(["0", "1"]), "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let message = |text: &str| running(text).expect_err("a bad setting").message;
    let hint = |text: &str| running(text).expect_err("an unknown key").hints[0].clone();
    assert!(message("timeout: soon").contains("`timeout`: `soon` is not a duration"), "{}", message("timeout: soon"));
    assert!(message("memory: 10").contains("`memory`"));
    assert!(message("jobs: 0").contains("`jobs`"));
    assert!(message("groups: {api: 0}").contains("the limit of group `api`"));
    assert!(message("[1]").contains("not a mapping"));
    assert_eq!(hint("job: 1"), "did you mean `jobs`?");
    assert_eq!(hint("max_failed: 1"), "did you mean `max-failed`?");
    assert!(hint("nonsense: 1").contains("dvc-fanout config"));
    let engine = parse("engine: lightning").expect("known keys").engine(None);
    assert!(engine.expect_err("no engine").message.contains("`engine`"));
}

#[test]
fn what_is_wanted_is_said_in_the_words_of_people_and_where() {
    let check = |text: &str, wanted: &str, at: &str| {
        let error = running(text).expect_err(text);
        let place = error.place.as_ref().map(ToString::to_string);
        assert_eq!(error.message, format!("the configuration is not as it should be: {wanted}"), "{text}");
        assert_eq!(place.as_deref(), Some(format!("{FILE}:{at}").as_str()), "{text}");
        assert_eq!(error.hints, ["`dvc-fanout config --help` says what each setting takes"], "{text}");
    };
    check("jobs: many", "`jobs`: it is a number from 1, not `many`", "1:7");
    check("\njobs: '2'", "`jobs`: it is a number, without quotes, not `\"2\"`", "2:7");
    check("jobs: 0", "`jobs`: it is a number from 1, not `0`", "1:7");
    check("jobs: 2.0", "`jobs`: it is a whole number, not `2.0`", "1:7");
    check("jobs: [2]", "`jobs`: it is one value, not a list", "1:7");
    check("retries: x", "`retries`: it is a number from 0, not `x`", "1:10");
    check("retries: -1", "`retries`: it is a number from 0, not `-1`", "1:10");
    check("nice: 99999999999999999999", "`nice`: it is a number from 0 to 19, not `99999999999999999999`", "1:7");
    check("fail-fast: x", "`fail-fast`: it is true or false, not `x`", "1:12");
    check("workspace: x", "`workspace`: it is `auto`, `mounted` or `linked`, not `x`", "1:12");
    check("timeout: -1", "`timeout`: `-1` is not a duration such as `90s`, `15m`, `2h` or `1h30m`", "1:10");
    check("memory: 10", "`memory`: `10` is not an amount of memory with a unit, such as 10Gi or 500M", "1:9");
}

#[test]
fn hints_are_kept_by_template_and_stage() {
    let settings = parse("stages:\n  extract: {cpus: 4}\n  extract@big: {memory: 8Gi}\n").expect("known keys");
    let requests = settings.requests().expect("good requests");
    assert_eq!((requests["extract"].cpus, requests["extract@big"].memory_mib), (Some(4.0), Some(8192)));
    let wrong = parse("stages: {extract: {cpu: 4}}").expect("known keys").requests().expect_err("a bad request");
    assert!(wrong.message.contains("`stages.extract`: there is no `cpu`"), "{}", wrong.message);
    assert_eq!(wrong.hints, ["did you mean `cpus`?"]);
}

#[cfg(feature = "kubernetes")]
mod kubernetes {
    use super::*;
    use crate::engine::kubernetes::Args as KubernetesArgs;

    fn read(text: &str) -> Result<Json, Diagnostic> {
        let args = parse(text)?.complete(&KubernetesArgs::default())?;
        Ok(serde_json::to_value(args).expect("plain data"))
    }

    #[test]
    fn settings_may_have_the_shape_that_is_natural_in_yaml() {
        let text = "kubernetes:\n  image: worker:1\n  machine: 2-4Gi\n  volume: pvc:data:/data\n  node-selector: {zone: a, n: 1}\n  \
                    toleration:\n  - spot\n  - {key: gpu, operator: Exists}\n  affinity: {nodeAffinity: {}}\n  pod-gpus: 2\n  \
                    no-limits: true\n  keep: always\n  run-as: 1000\n  grace: 90\n  ttl: 0\n  job-timeout: 2h\n";
        let expected = serde_json::json!({
            "image": "worker:1", "machine": "2-4Gi", "pod-gpus": 2, "no-limits": true, "volume": ["pvc:data:/data"],
            "node-selector": ["zone=a", "n=1"], "toleration": ["spot", "{\"key\":\"gpu\",\"operator\":\"Exists\"}"],
            "affinity": "{\"nodeAffinity\":{}}", "keep": "always", "run-as": "1000",
            "grace": "1m30s", "ttl": "0s", "job-timeout": "2h",
        });
        assert_eq!(read(text).expect("good settings"), expected);
    }

    #[test]
    fn a_key_that_is_nearly_right_is_named() {
        let hint = |text: &str| read(text).expect_err("an unknown key").hints[0].clone();
        assert_eq!(hint("kubernetes: {imagee: a}"), "did you mean `kubernetes.image`?");
        assert_eq!(hint("kubernetes: {node_selector: {a: b}}"), "did you mean `kubernetes.node-selector`?");
        assert!(hint("kubernetes: {xyz: 1}").contains("dvc-fanout config"));
        assert!(read("kubernetes: {detach: true}").is_err(), "that is said with each launch");
    }

    #[test]
    fn the_sample_is_good() {
        let sample = read(include_str!("../../../contrib/kubernetes/config.yaml")).expect("good settings");
        assert_eq!(sample["map"], serde_json::json!(["/mnt/projects=/data"]));
    }

    #[test]
    fn every_flag_is_a_setting_that_the_args_take() {
        let sample = |flag: Arg| {
            let value = match Kind::of(&flag) {
                Kind::List => serde_json::json!(["a"]),
                Kind::Text => "a".into(),
                Kind::Switch | Kind::Other => return None,
            };
            Some((flag.get_long()?.to_owned(), value))
        };
        let settings: Map<String, Json> = flags::<KubernetesArgs>().into_iter().filter_map(sample).collect();
        assert!(settings.len() > 25, "{settings:?}");
        serde_json::from_value::<KubernetesArgs>(Json::Object(settings)).expect("names agree");
    }
}
