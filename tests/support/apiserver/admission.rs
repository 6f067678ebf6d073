//! What the server checks and fills in when a Job is created, and whether it lets a Job's pod in.

use serde_json::{Value, json};

use super::http::Response;
use super::store::{Kind, Store};
use super::{pod, status};

/// A `422` for a field.
fn invalid(job: &Value, field: &str, message: &str) -> Response {
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    status::invalid(Kind::Job, name, field, message)
}

/// Checks a Job and completes it as the server does.
pub(super) fn job(job: &mut Value) -> Result<(), Response> {
    check(job)?;
    let (name, uid) = (job["metadata"]["name"].clone(), job["metadata"]["uid"].clone());
    job["metadata"]["generation"] = 1.into();
    let spec = &mut job["spec"];
    default(spec, "parallelism", 1.into());
    default(spec, "backoffLimit", i32::MAX.into());
    default(spec, "manualSelector", false.into());
    default(spec, "suspend", false.into());
    default(spec, "podReplacementPolicy", "TerminatingOrFailed".into());
    spec["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
    let labels = &mut spec["template"]["metadata"]["labels"];
    for prefix in ["batch.kubernetes.io/", ""] {
        labels[format!("{prefix}controller-uid")] = uid.clone();
        labels[format!("{prefix}job-name")] = name.clone();
    }
    if let Some(rules) = spec["podFailurePolicy"]["rules"].as_array_mut() {
        for condition in rules.iter_mut().filter_map(|rule| rule["onPodConditions"].as_array_mut()).flatten() {
            default(condition, "status", "True".into());
        }
    }
    let pod = &mut spec["template"]["spec"];
    default(pod, "terminationGracePeriodSeconds", 30.into());
    default(pod, "dnsPolicy", "ClusterFirst".into());
    default(pod, "securityContext", json!({}));
    default(pod, "schedulerName", "default-scheduler".into());
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        default(container, "resources", json!({}));
        default(container, "terminationMessagePath", "/dev/termination-log".into());
        default(container, "terminationMessagePolicy", "File".into());
        default(container, "imagePullPolicy", "IfNotPresent".into());
    }
    job["status"] = json!({});
    Ok(())
}

fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    } else {
        let given = object[field].take();
        object[field] = given;
    }
}

/// The rules that the launcher could break; it checks them itself, so few are enough here.
fn check(job: &Value) -> Result<(), Response> {
    let spec = &job["spec"];
    let Some(completions) = spec["completions"].as_u64() else {
        return Err(invalid(job, "spec.completions", "Required value: when completion mode is Indexed"));
    };
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    let host = format!("{name}-{}", completions.saturating_sub(1));
    let fine = host.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') && host.len() <= 63;
    if !fine || name.is_empty() {
        let message = format!("Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {host}");
        return Err(invalid(job, "metadata.name", &message));
    }
    let has_limit = spec["backoffLimitPerIndex"].is_u64();
    for (index, rule) in spec["podFailurePolicy"]["rules"].as_array().into_iter().flatten().enumerate() {
        if rule["action"] == "FailIndex" && !has_limit {
            let field = format!("spec.podFailurePolicy.rules[{index}].action");
            return Err(invalid(
                job,
                &field,
                "Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
            ));
        }
    }
    let replacement = &spec["podReplacementPolicy"];
    if spec["podFailurePolicy"].is_object() && !replacement.is_null() && replacement != "Failed" {
        let message = format!("Unsupported value: {replacement}: supported values: \"Failed\"");
        return Err(invalid(job, "spec.podReplacementPolicy", &message));
    }
    if spec["maxFailedIndexes"].as_u64().is_some_and(|failed| failed > completions || !has_limit) {
        return Err(invalid(job, "spec.maxFailedIndexes", "Invalid value"));
    }
    Ok(())
}

/// Why a pod of a Job is refused, if it is: a priority class that nobody made, a quota that is used up.
pub(super) fn refusal(store: &Store, job: &Value) -> Option<String> {
    if let Some(class) = job["spec"]["template"]["spec"]["priorityClassName"].as_str()
        && !class.starts_with("system-")
    {
        return Some(format!("no PriorityClass with name {class} was found"));
    }
    let used = store.list(Kind::Pod).filter(|pod| !pod::is_over(pod)).count();
    store.list(Kind::Quota).find_map(|quota| {
        let limited: usize = quota["spec"]["hard"]["pods"].as_str()?.parse().ok()?;
        let name = pod::name(quota);
        let message = format!("exceeded quota: {name}, requested: pods=1, used: pods={used}, limited: pods={limited}");
        (used >= limited).then_some(message)
    })
}
