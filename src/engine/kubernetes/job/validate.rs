//! The API server's rules for Indexed Jobs, checked before anything is sent (pkg/apis/batch/validation, Kubernetes 1.36).
//!
//! The server says some of these things badly: a quantity that does not parse is a `400` without a field, an object
//! beyond etcd's limit a complaint about its selector.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Problem;
use super::name::{is_dns_label, is_dns_subdomain, is_label_key, is_label_value};
use crate::model::quantity::Quantity;

/// The most pods of one Job at a time.
const MAX_PARALLELISM: u64 = 100_000;
/// Beyond this many completions, indexes that fail must be few.
const MANY_COMPLETIONS: u64 = 100_000;
const MAX_PARALLELISM_OF_MANY: u64 = 10_000;
const MAX_FAILED_OF_MANY: u64 = 10_000;
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;
/// What etcd takes for one object.
const MAX_OBJECT_BYTES: usize = 1_500_000;
/// Linux's limit of one argument or one variable of the environment.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024;

/// Returns everything that the server would refuse a Job for.
pub(super) fn job(job: &Value) -> Vec<Problem> {
    let mut check = Check { problems: vec![] };
    check.metadata("metadata", &job["metadata"]);
    check.name(&job["metadata"], &job["spec"]);
    check.numbers(&job["spec"]);
    check.failure_policy(&job["spec"]);
    check.metadata("spec.template.metadata", &job["spec"]["template"]["metadata"]);
    check.pod("spec.template.spec", &job["spec"]["template"]["spec"]);
    let size = job.to_string().len();
    if size > MAX_OBJECT_BYTES {
        check.problem("spec", format!("the Job has {size} bytes, a cluster takes at most {MAX_OBJECT_BYTES}"));
    }
    check.problems
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn problem(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { field: field.into(), message: message.into() });
    }

    fn metadata(&mut self, field: &str, metadata: &Value) {
        for (key, value) in entries(&metadata["labels"]) {
            if !is_label_key(key) {
                self.problem(format!("{field}.labels"), format!("`{key}` is not a label key"));
            }
            if !value.as_str().is_some_and(is_label_value) {
                let message = format!("`{key}` has the value {value}; a label takes at most 63 of `[A-Za-z0-9._-]`");
                self.problem(format!("{field}.labels"), message);
            }
        }
        let annotations = entries(&metadata["annotations"]);
        let size: usize = annotations.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
        if size > MAX_ANNOTATIONS_BYTES {
            self.problem(format!("{field}.annotations"), format!("may not be more than {MAX_ANNOTATIONS_BYTES} bytes"));
        }
    }

    /// The last pod's host name is the Job's name and the highest index.
    fn name(&mut self, metadata: &Value, spec: &Value) {
        let name = metadata["name"].as_str().unwrap_or_default();
        let last = spec["completions"].as_u64().unwrap_or(1).saturating_sub(1);
        let host = format!("{name}-{last}");
        if !is_dns_label(&host) {
            self.problem("metadata.name", format!("pods cannot be named `{host}`: at most 63 of `[a-z0-9-]`"));
        }
        if let Some(namespace) = metadata["namespace"].as_str().filter(|namespace| !is_dns_label(namespace)) {
            self.problem("metadata.namespace", format!("`{namespace}` is not the name of a namespace"));
        }
    }

    fn numbers(&mut self, spec: &Value) {
        let Some(completions) = spec["completions"].as_u64().filter(|count| i32::try_from(*count).is_ok()) else {
            return self
                .problem("spec.completions", "must be a number up to 2147483647 when completion mode is Indexed");
        };
        let parallelism = spec["parallelism"].as_u64().unwrap_or(1);
        let per_index = spec["backoffLimitPerIndex"].is_u64();
        let max_failed = spec["maxFailedIndexes"].as_u64();
        let many = per_index && completions > MANY_COMPLETIONS;
        let limit = if many { MAX_PARALLELISM_OF_MANY } else { MAX_PARALLELISM };
        if parallelism > limit {
            self.problem("spec.parallelism", format!("must be at most {limit} with {completions} completions"));
        }
        match max_failed {
            Some(_) if !per_index => self.problem("spec.maxFailedIndexes", "needs `backoffLimitPerIndex`"),
            Some(failed) if failed > completions => {
                self.problem("spec.maxFailedIndexes", format!("must be at most {completions}, the completions"));
            }
            Some(failed) if many && failed > MAX_FAILED_OF_MANY => {
                let message = format!("must be at most {MAX_FAILED_OF_MANY} with {completions} completions");
                self.problem("spec.maxFailedIndexes", message);
            }
            None if many => {
                self.problem("spec.maxFailedIndexes", format!("is required with {completions} completions"));
            }
            Some(_) | None => {}
        }
        if spec["activeDeadlineSeconds"].as_u64() == Some(0) {
            self.problem("spec.activeDeadlineSeconds", "must be greater than 0");
        }
    }

    fn failure_policy(&mut self, spec: &Value) {
        // `OnFailure` is accepted with `backoffLimitPerIndex`, but does not work.
        if spec["template"]["spec"]["restartPolicy"] != "Never" {
            self.problem("spec.template.spec.restartPolicy", "must be `Never`");
        }
        let Some(rules) = spec["podFailurePolicy"]["rules"].as_array() else { return };
        if spec["podReplacementPolicy"] != "Failed" {
            self.problem("spec.podReplacementPolicy", "must be `Failed` with a `podFailurePolicy`");
        }
        if rules.len() > MAX_RULES {
            self.problem("spec.podFailurePolicy.rules", format!("at most {MAX_RULES} rules"));
        }
        for (index, rule) in rules.iter().enumerate() {
            let field = format!("spec.podFailurePolicy.rules[{index}]");
            if rule["action"] == "FailIndex" && !spec["backoffLimitPerIndex"].is_u64() {
                self.problem(format!("{field}.action"), "`FailIndex` needs `backoffLimitPerIndex`");
            }
            let Some(codes) = rule["onExitCodes"]["values"].as_array() else { continue };
            let ascending = codes.windows(2).all(|pair| pair[0].as_i64() < pair[1].as_i64());
            if codes.is_empty() || codes.len() > MAX_EXIT_CODES || !ascending {
                self.problem(format!("{field}.onExitCodes.values"), "must be 1 to 255 ascending exit codes");
            }
        }
    }

    fn pod(&mut self, field: &str, spec: &Value) {
        for name in ["serviceAccountName", "priorityClassName", "runtimeClassName"] {
            if let Some(value) = spec[name].as_str().filter(|value| !is_dns_subdomain(value)) {
                self.problem(format!("{field}.{name}"), format!("`{value}` is not the name of an object"));
            }
        }
        for (key, value) in entries(&spec["nodeSelector"]) {
            if !is_label_key(key) || !value.as_str().is_some_and(is_label_value) {
                self.problem(format!("{field}.nodeSelector"), format!("`{key}={}` is not a label", text(value)));
            }
        }
        let volumes: HashSet<&str> = list(&spec["volumes"]).filter_map(|volume| volume["name"].as_str()).collect();
        if volumes.len() != list(&spec["volumes"]).count() {
            self.problem(format!("{field}.volumes"), "two volumes have the same name, or one has none");
        }
        for (index, volume) in list(&spec["volumes"]).enumerate() {
            let claim = volume["persistentVolumeClaim"]["claimName"].as_str();
            if let Some(claim) = claim.filter(|claim| !is_dns_subdomain(claim)) {
                self.problem(format!("{field}.volumes[{index}]"), format!("`{claim}` is not the name of a claim"));
            }
        }
        if list(&spec["containers"]).next().is_none() {
            self.problem(format!("{field}.containers"), "there is none");
        }
        for (index, container) in list(&spec["containers"]).enumerate() {
            self.container(&format!("{field}.containers[{index}]"), container, &volumes);
        }
    }

    fn container(&mut self, field: &str, container: &Value, volumes: &HashSet<&str>) {
        let image = container["image"].as_str().unwrap_or_default();
        if image.trim() != image || image.is_empty() {
            self.problem(format!("{field}.image"), "is empty or has blanks around it");
        }
        if container["workingDir"].as_str().is_some_and(|folder| !folder.starts_with('/')) {
            self.problem(format!("{field}.workingDir"), "must be an absolute path");
        }
        for argument in list(&container["command"]).chain(list(&container["args"])) {
            if text(argument).len() >= MAX_ARGUMENT_BYTES {
                self.problem(format!("{field}.command"), format!("an argument has {MAX_ARGUMENT_BYTES} bytes or more"));
            }
        }
        for variable in list(&container["env"]) {
            let name = text(&variable["name"]);
            if name.is_empty() || name.contains('=') || !name.chars().all(|c| c.is_ascii_graphic()) {
                self.problem(format!("{field}.env"), format!("`{name}` is not the name of a variable"));
            }
            if name.len() + text(&variable["value"]).len() + 2 > MAX_ARGUMENT_BYTES {
                self.problem(format!("{field}.env"), format!("`{name}` has {MAX_ARGUMENT_BYTES} bytes or more"));
            }
        }
        let mut paths = HashSet::new();
        for mount in list(&container["volumeMounts"]) {
            let (name, path) = (text(&mount["name"]), text(&mount["mountPath"]));
            if !volumes.contains(name) {
                self.problem(format!("{field}.volumeMounts"), format!("there is no volume `{name}`"));
            }
            if !paths.insert(path) {
                self.problem(format!("{field}.volumeMounts"), format!("two volumes are mounted at `{path}`"));
            }
        }
        self.resources(&format!("{field}.resources"), &container["resources"]);
    }

    fn resources(&mut self, field: &str, resources: &Value) {
        for kind in ["requests", "limits"] {
            for (name, amount) in entries(&resources[kind]) {
                match amount.as_str().map(Quantity::parse) {
                    Some(Ok(amount)) if name.contains('/') && !amount.is_whole() => {
                        self.problem(format!("{field}.{kind}"), format!("`{name}` must be a whole number"));
                    }
                    Some(Err(error)) => self.problem(format!("{field}.{kind}.{name}"), error.to_string()),
                    // A patch may say `cpu: 2`, which the server takes.
                    Some(Ok(_)) | None => {}
                }
            }
        }
        for (name, request) in entries(&resources["requests"]) {
            let parse = |amount: &Value| amount.as_str().and_then(|amount| Quantity::parse(amount).ok());
            if let (Some(request), Some(limit)) = (parse(request), parse(&resources["limits"][name]))
                && request > limit
            {
                let message = format!("{name} {request} is more than the limit {limit}");
                self.problem(format!("{field}.requests"), message);
            }
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "metadata": {"name": "run", "namespace": "ns", "labels": {"a": "b"}},
            "spec": {
                "completions": 4, "parallelism": 2, "backoffLimitPerIndex": 1, "maxFailedIndexes": 4,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": [
                    {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [2, 3]}},
                ]},
                "template": {"spec": {
                    "restartPolicy": "Never",
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "containers": [{
                        "name": "worker", "image": "i",
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                        "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "nvidia.com/gpu": "1"}},
                    }],
                }},
            },
        })
    }

    /// Changes one field of a good Job and expects a problem with that field, or none.
    #[track_caller]
    fn check(pointer: &str, value: Value, field: &str) {
        let mut changed = good();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        changed.pointer_mut(parent).expect("the parent exists")[name] = value;
        let problems = job(&changed);
        assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), [field], "{problems:?}");
    }

    #[test]
    fn a_good_job_has_no_problems() {
        assert_eq!(job(&good()), []);
    }

    #[test]
    fn each_rule_of_the_server_is_known() {
        let container = "/spec/template/spec/containers/0";
        let at = |field: &str| format!("{container}/{field}");
        let field = |name: &str| format!("spec.template.spec.containers[0].{name}");
        check("/metadata/name", json!("Bad_Name"), "metadata.name");
        check("/metadata/name", json!("a".repeat(62)), "metadata.name");
        check("/metadata/labels", json!({"a": "b c"}), "metadata.labels");
        check("/metadata/annotations", json!({"a": "x".repeat(262_144)}), "metadata.annotations");
        check("/spec/completions", Value::Null, "spec.completions");
        check("/spec/parallelism", json!(100_001), "spec.parallelism");
        check("/spec/maxFailedIndexes", json!(5), "spec.maxFailedIndexes");
        check("/spec/activeDeadlineSeconds", json!(0), "spec.activeDeadlineSeconds");
        check("/spec/podReplacementPolicy", json!("TerminatingOrFailed"), "spec.podReplacementPolicy");
        check("/spec/template/spec/restartPolicy", json!("OnFailure"), "spec.template.spec.restartPolicy");
        check("/spec/template/spec/nodeSelector", json!({"gpu": "a b"}), "spec.template.spec.nodeSelector");
        check("/spec/template/spec/volumes", json!([]), &field("volumeMounts"));
        check(&at("image"), json!(""), &field("image"));
        check(&at("command"), json!(["x".repeat(200_000)]), &field("command"));
        check(&at("env"), json!([{"name": "A=B", "value": ""}]), &field("env"));
        check(&at("resources"), json!({"limits": {"memory": "10GB"}}), &field("resources.limits.memory"));
        check(&at("resources"), json!({"limits": {"nvidia.com/gpu": "1500m"}}), &field("resources.limits"));
        check(
            &at("resources"),
            json!({"requests": {"cpu": "3"}, "limits": {"cpu": "2"}}),
            &field("resources.requests"),
        );
    }

    #[test]
    fn per_index_rules_need_the_per_index_limit() {
        let mut changed = good();
        changed["spec"]["backoffLimitPerIndex"] = Value::Null;
        let fields: Vec<_> = job(&changed).into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["spec.maxFailedIndexes", "spec.podFailurePolicy.rules[0].action"]);
    }

    #[test]
    fn beyond_a_hundred_thousand_completions_failures_must_be_few() {
        let mut changed = good();
        changed["spec"]["completions"] = json!(100_001);
        changed["spec"]["parallelism"] = json!(10_001);
        changed["spec"]["maxFailedIndexes"] = json!(10_001);
        let fields: Vec<_> = job(&changed).into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["spec.parallelism", "spec.maxFailedIndexes"]);
    }
}
