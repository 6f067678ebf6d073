//! What a stage asks for: `meta: {fanout: {…}}` in `dvc.yaml`, or the section `stages` of `.dvc/fanout/config.yaml`.
//!
//! | key | value |
//! |---|---|
//! | `cpus` | CPUs: `4`, `0.5`, `500m` |
//! | `memory` | with a unit: `10Gi`, `500M` |
//! | `gpus` | a whole number |
//! | `timeout` | `90s`, `15m`, `2h`; a number alone counts seconds |
//! | `retries` | tries after the first, also after a failed command |
//! | `group` | the name of a group with a limit of its own |
//! | `keep-running` | `true`: what its commands leave running stays until the run ends |
//! | `slurm` | options of Slurm's `sbatch`: `{partition: gpu, gres: "gpu:a100:1"}` |
//!
//! A work item asks for the most that one of its stages asks for, since its stages run one after another; its timeout
//! is the sum of theirs. Where several name an option of `sbatch`, the first one's holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dvc::suggest;
use crate::dvc::value::Value;
use crate::model::duration::Limit;
use crate::model::quantity::{Memory, Quantity};
use crate::model::run::Resources;

/// The keys that a stage may set.
pub(crate) const KEYS: [&str; 8] = ["cpus", "memory", "gpus", "timeout", "retries", "group", KEEP_RUNNING, "slurm"];

/// The key of stages that leave something running.
pub(crate) const KEEP_RUNNING: &str = "keep-running";

/// The options of `sbatch` that a stage may set.
pub(crate) const SLURM_OPTIONS: [&str; 10] =
    ["partition", "account", "qos", "reservation", "constraint", "nodelist", "licenses", "gres", "time", "tmp"];

/// What is wrong with a hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("it is not a mapping of {}", KEYS.join(", "))]
    NoMapping,
    #[error("there is no `{key}`")]
    Unknown { key: String },
    #[error("`{key}` is `{value}`: {expected}")]
    Wrong { key: &'static str, value: String, expected: &'static str },
}

impl RequestError {
    /// What the user may have meant.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            RequestError::Unknown { key } => {
                suggest::hint(&suggest::misses(key, KEYS)).or_else(|| Some(format!("the keys are {}", KEYS.join(", "))))
            }
            RequestError::NoMapping | RequestError::Wrong { .. } => None,
        }
    }
}

/// Two stages of one work item are in different groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupClash(pub String, pub String);

/// Reads the requests of a stage.
pub(crate) fn parse(value: &Value) -> Result<Resources, RequestError> {
    let entries = match value {
        Value::Null => return Ok(Resources::default()),
        Value::Map(entries) => entries,
        _ => return Err(RequestError::NoMapping),
    };
    let mut resources = Resources::default();
    for (key, value) in entries.iter() {
        let text = value.to_text();
        let wrong = |key, expected| RequestError::Wrong { key, value: text.clone().unwrap_or_default(), expected };
        let number = || text.as_deref().and_then(|text| text.parse::<u32>().ok());
        match key.as_str().unwrap_or_default() {
            "cpus" => {
                let cpus = text
                    .as_deref()
                    .and_then(|text| Quantity::parse(text).ok())
                    .map(|cpus| cpus.to_f64())
                    .filter(|cpus| *cpus > 0.0);
                resources.cpus = Some(cpus.ok_or_else(|| wrong("cpus", "not a number of CPUs such as 4 or 500m"))?);
            }
            "memory" => {
                let memory = text.as_deref().and_then(|text| text.parse::<Memory>().ok()).map(|memory| memory.mib);
                let expected = "not an amount with a unit such as 10Gi or 500M";
                resources.memory_mib = Some(memory.ok_or_else(|| wrong("memory", expected))?);
            }
            "gpus" => resources.gpus = Some(number().ok_or_else(|| wrong("gpus", "not a whole number"))?),
            "retries" => resources.retries = Some(number().ok_or_else(|| wrong("retries", "not a whole number"))?),
            "timeout" => {
                let limit = text.as_deref().and_then(|text| text.parse::<Limit>().ok());
                let limit = limit.ok_or_else(|| wrong("timeout", "not a duration such as 90s, 15m or 2h"))?;
                resources.timeout = Some(limit.0);
            }
            "group" => {
                let name = text.clone().filter(|name| !name.is_empty());
                resources.group = Some(name.ok_or_else(|| wrong("group", "not a name"))?);
            }
            KEEP_RUNNING => {
                let Value::Bool(keeps) = value else { return Err(wrong(KEEP_RUNNING, "neither true nor false")) };
                resources.keep_running = Some(*keeps);
            }
            "slurm" => resources.slurm = slurm(value)?,
            key => return Err(RequestError::Unknown { key: key.to_owned() }),
        }
    }
    Ok(resources)
}

/// Reads the options of `sbatch`.
fn slurm(value: &Value) -> Result<BTreeMap<String, String>, RequestError> {
    let wrong = |value: String, expected| RequestError::Wrong { key: "slurm", value, expected };
    let Value::Map(entries) = value else {
        return Err(wrong(value.to_text().unwrap_or_default(), "not a mapping such as {partition: gpu}"));
    };
    let mut options = BTreeMap::new();
    for (name, value) in entries.iter() {
        let name = name.as_str().unwrap_or_default();
        if !SLURM_OPTIONS.contains(&name) {
            return Err(wrong(
                name.to_owned(),
                "a stage sets partition, account, qos, reservation, constraint, nodelist, licenses, gres, time or tmp",
            ));
        }
        let text = value.to_text().filter(|text| !text.is_empty());
        options.insert(name.to_owned(), text.ok_or_else(|| wrong(name.to_owned(), "it has no value"))?);
    }
    Ok(options)
}

/// Takes what is missing in the first from the second.
pub(crate) fn or(first: Resources, second: Resources) -> Resources {
    Resources {
        cpus: first.cpus.or(second.cpus),
        memory_mib: first.memory_mib.or(second.memory_mib),
        gpus: first.gpus.or(second.gpus),
        timeout: first.timeout.or(second.timeout),
        retries: first.retries.or(second.retries),
        group: first.group.or(second.group),
        keep_running: first.keep_running.or(second.keep_running),
        slurm: second.slurm.into_iter().chain(first.slurm).collect(),
    }
}

/// What a work item asks for whose stages ask for these.
pub(crate) fn join(stages: impl IntoIterator<Item = Resources>) -> Result<Resources, GroupClash> {
    let mut all = Resources::default();
    for stage in stages {
        if let (Some(a), Some(b)) = (&all.group, &stage.group)
            && a != b
        {
            return Err(GroupClash(a.clone(), b.clone()));
        }
        let sum = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).reduce(Duration::saturating_add);
        all = Resources {
            cpus: all.cpus.into_iter().chain(stage.cpus).reduce(f64::max),
            memory_mib: all.memory_mib.max(stage.memory_mib),
            gpus: all.gpus.max(stage.gpus),
            timeout: sum(all.timeout, stage.timeout),
            retries: all.retries.max(stage.retries),
            group: all.group.or(stage.group),
            keep_running: all.keep_running.max(stage.keep_running),
            slurm: stage.slurm.into_iter().chain(all.slurm).collect(),
        };
    }
    Ok(all)
}

/// The requests of the section `stages`, by template or stage address.
pub(crate) type ByStage = BTreeMap<String, Resources>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvc::yaml;

    fn read(text: &str) -> Result<Resources, RequestError> {
        parse(&yaml::load(text.as_bytes()).expect("YAML"))
    }

    #[test]
    fn options_of_sbatch_are_taken_as_they_are() {
        let found = read("{slurm: {partition: gpu, time: 30}}").expect("good requests").slurm;
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("partition", "gpu"), ("time", "30")].map(|(a, b)| (a.into(), b.into()))
        );
        assert!(read("{slurm: {array: 1}}").is_err() && read("{slurm: gpu}").is_err());
        let of = |name: &str, value: &str| Resources {
            slurm: [(name.to_owned(), value.to_owned())].into(),
            ..Resources::default()
        };
        let joined = join([of("partition", "a"), of("partition", "b"), of("qos", "c")]).expect("no clash");
        assert_eq!((&*joined.slurm["partition"], &*joined.slurm["qos"]), ("a", "c"));
        assert_eq!(or(of("qos", "meta"), of("qos", "file")).slurm["qos"], "meta");
    }

    #[test]
    fn hints_are_read_in_the_shapes_that_yaml_gives_them() {
        let all = read("{cpus: 4, memory: 10Gi, gpus: 1, timeout: 2h, retries: 2, group: api, keep-running: true}")
            .expect("good requests");
        let expected = Resources {
            cpus: Some(4.0),
            memory_mib: Some(10240),
            gpus: Some(1),
            timeout: Some(Duration::from_secs(7200)),
            retries: Some(2),
            group: Some("api".into()),
            keep_running: Some(true),
            slurm: BTreeMap::new(),
        };
        assert_eq!(all, expected);
        assert_eq!(read("{cpus: 500m, timeout: 90}").expect("good requests").cpus, Some(0.5));
        assert_eq!(read("cpus: 1.5").expect("good requests").cpus, Some(1.5));
        assert_eq!(read("memory: 1M").expect("good requests").memory_mib, Some(1), "rounded up");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |text: &str| read(text).expect_err("a bad request").to_string();
        assert_eq!(message("{cpu: 4}"), "there is no `cpu`");
        assert_eq!(read("{cpu: 4}").expect_err("a bad request").hint().as_deref(), Some("did you mean `cpus`?"));
        assert!(message("memory: 10").contains("a unit"));
        assert!(message("gpus: 1.5").contains("whole number"));
        assert!(message("timeout: soon").contains("duration"));
        assert!(message("keep-running: soon").contains("neither true nor false"));
        assert!(message("[1]").contains("not a mapping"));
        assert!(message("cpus: [1]").contains("CPUs"));
    }

    #[test]
    fn a_work_item_asks_for_the_most_of_its_stages() {
        let joined = join([
            Resources { cpus: Some(1.0), timeout: Some(Duration::from_secs(5)), ..Resources::default() },
            Resources { cpus: Some(4.0), group: Some("api".into()), ..Resources::default() },
            Resources { gpus: Some(1), timeout: Some(Duration::from_secs(6)), ..Resources::default() },
        ]);
        let joined = joined.expect("one group");
        assert_eq!((joined.cpus, joined.gpus, joined.timeout), (Some(4.0), Some(1), Some(Duration::from_secs(11))));
        assert_eq!(joined.group.as_deref(), Some("api"));
        let group = |name: &str| Resources { group: Some(name.into()), ..Resources::default() };
        assert_eq!(join([group("a"), group("b")]), Err(GroupClash("a".into(), "b".into())));
    }
}
