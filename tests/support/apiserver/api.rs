//! The API server's routes and verbs.

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};

use super::http::{Answer, Request, Response, is_too_large};
use super::store::{Kind, Store, now};
use super::{Cluster, State, admission, kubelet, status, watch};

/// A request that was understood: `/api/v1/namespaces/NS/KIND[/NAME[/SUB]]`.
struct Target<'a> {
    kind: Kind,
    namespace: &'a str,
    name: Option<&'a str>,
    subresource: Option<&'a str>,
}

pub(super) fn answer(cluster: &Arc<Cluster>, request: &Request) -> Answer {
    let mut state = cluster.lock();
    if state.faults.away || cluster.is_stopped() {
        return Answer::HangUp;
    }
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let target = match parts[..] {
        ["version"] => return count(&mut state, "get version", |state| Answer::Whole(version(state))),
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => {
            return count(&mut state, "create selfsubjectaccessreviews", |state| {
                Answer::Whole(access_review(state, &request.body))
            });
        }
        ["apis", "batch", "v1", "namespaces", namespace, resource, ref rest @ ..]
        | ["api", "v1", "namespaces", namespace, resource, ref rest @ ..] => Kind::of_resource(resource)
            .map(|kind| Target { kind, namespace, name: rest.first().copied(), subresource: rest.get(1).copied() }),
        _ => None,
    };
    let Some(target) = target else {
        return Answer::Whole(Response::text(404, b"404 page not found\n".to_vec()));
    };
    let verb = verb(request, &target);
    let resource = match target.subresource {
        Some(sub) => format!("{}/{sub}", target.kind.resource()),
        None => target.kind.resource().to_owned(),
    };
    *state.requests.entry(format!("{verb} {resource}")).or_default() += 1;
    if state.faults.unauthorized {
        return Answer::Whole(status::unauthorized());
    }
    if let Some(retry_after) = state.faults.take_overload() {
        return Answer::Whole(status::too_many_requests(retry_after));
    }
    if state.faults.is_forbidden(verb, &resource) {
        return Answer::Whole(status::forbidden(target.kind, verb, target.namespace));
    }
    let before = state.store.version();
    let answer = match (verb, target.name, target.subresource) {
        ("watch", _, _) => watch::start(cluster, &state.faults, target.kind, target.namespace, request),
        ("list", _, _) => Answer::Whole(watch::list(&state.store, target.kind, target.namespace, request)),
        ("get", Some(name), Some("log")) => {
            drop(state);
            return kubelet::log(cluster, name, request);
        }
        ("create", Some(name), Some("eviction")) => Answer::Whole(evict(&mut state.store, name)),
        ("create", None, None) => Answer::Whole(create(&mut state, &target, request)),
        ("get", Some(name), None) => Answer::Whole(match state.store.get(target.kind, name) {
            Some(object) => Response::json(200, &object),
            None => status::not_found(target.kind, name),
        }),
        ("patch", Some(name), None) => Answer::Whole(patch(&mut state.store, target.kind, name, &request.body)),
        ("delete", Some(name), None) => Answer::Whole(delete(&mut state.store, target.kind, name, request)),
        _ => Answer::Whole(Response::text(405, b"method not allowed\n".to_vec())),
    };
    if state.store.version() != before {
        cluster.changed.notify_all();
    }
    answer
}

fn count(state: &mut State, what: &str, answer: impl FnOnce(&State) -> Answer) -> Answer {
    *state.requests.entry(what.to_owned()).or_default() += 1;
    answer(state)
}

fn verb(request: &Request, target: &Target<'_>) -> &'static str {
    match (request.method.as_str(), target.name) {
        ("GET", _) if request.flag("watch") => "watch",
        ("GET", Some(_)) => "get",
        ("GET", None) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "unknown",
    }
}

fn version(state: &State) -> Response {
    let minor = state.faults.minor_version.unwrap_or(36);
    let body = json!({
        "major": "1", "minor": minor.to_string(), "gitVersion": format!("v1.{minor}.2"), "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
    });
    Response::json(200, &body)
}

fn access_review(state: &State, body: &[u8]) -> Response {
    if state.faults.unauthorized {
        return status::unauthorized();
    }
    let Ok(mut review) = serde_json::from_slice::<Value>(body) else { return status::bad_request("no JSON") };
    let asked = &review["spec"]["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let (verb, mut resource) = (text("verb"), text("resource"));
    if !text("subresource").is_empty() {
        resource = format!("{resource}/{}", text("subresource"));
    }
    review["status"] = if state.faults.is_forbidden(&verb, &resource) {
        json!({ "allowed": false })
    } else {
        json!({ "allowed": true, "reason": "RBAC: allowed by the fake" })
    };
    Response::json(201, &review)
}

fn create(state: &mut State, target: &Target<'_>, request: &Request) -> Response {
    if is_too_large(request) {
        return status::too_large();
    }
    let Ok(mut object) = serde_json::from_slice::<Value>(&request.body) else {
        return status::bad_request("the object provided is unrecognized");
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if state.store.get(target.kind, &name).is_some() {
        return status::already_exists(target.kind, &name);
    }
    object["kind"] = target.kind.name().into();
    object["apiVersion"] = target.kind.api_version().into();
    object["metadata"]["namespace"] = target.namespace.into();
    object["metadata"]["uid"] = state.store.new_uid().into();
    object["metadata"]["creationTimestamp"] = now();
    match target.kind {
        Kind::Job => {
            if let Err(response) = admission::job(&mut object) {
                return response;
            }
        }
        Kind::Claim => object["status"] = json!({ "phase": "Bound" }),
        Kind::Quota => object["status"] = json!({ "hard": object["spec"]["hard"] }),
        Kind::Pod | Kind::Event | Kind::ConfigMap => {}
    }
    if request.query("dryRun") == Some("All") {
        return Response::json(201, &object);
    }
    let stored = state.store.put(target.kind, object);
    if state.faults.take_lost_answer() { status::timeout() } else { Response::json(201, &stored) }
}

/// A merge patch, of a Job's spec or metadata.
fn patch(store: &mut Store, kind: Kind, name: &str, body: &[u8]) -> Response {
    let Ok(changes) = serde_json::from_slice::<Value>(body) else { return status::bad_request("no JSON") };
    match store.update(kind, name, |object| merge(object, &changes)) {
        Some(object) => Response::json(200, &object),
        None => status::not_found(kind, name),
    }
}

fn merge(target: &mut Value, changes: &Value) {
    let Value::Object(fields) = changes else {
        *target = changes.clone();
        return;
    };
    for (name, change) in fields {
        merge(&mut target[name], change);
    }
}

/// Marks an object for deletion; finalizers decide when it goes.
pub(super) fn mark_deleted(object: &mut Value) {
    if object["metadata"]["deletionTimestamp"].is_null() {
        object["metadata"]["deletionTimestamp"] = now();
        let grace = object["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(0);
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    }
}

fn delete(store: &mut Store, kind: Kind, name: &str, request: &Request) -> Response {
    let Some(object) = store.get(kind, name) else { return status::not_found(kind, name) };
    let options: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    if let Some(wanted) = options["preconditions"]["uid"].as_str().filter(|wanted| *wanted != uid) {
        return status::uid_conflict(kind, name, wanted, uid);
    }
    let policy = options["propagationPolicy"].as_str().or_else(|| request.query("propagationPolicy"));
    match (kind, policy) {
        (Kind::Job, Some("Background")) => {
            store.delete(kind, name);
            let details = json!({ "name": name, "group": "batch", "kind": "jobs", "uid": uid });
            Response::json(200, &status::success(Some(details)))
        }
        (Kind::Job, Some("Foreground")) => Response::json(200, &finalize(store, name, "foregroundDeletion")),
        (Kind::Job, _) => {
            let mut response = Response::json(200, &finalize(store, name, "orphan"));
            let warning = "299 - \"child pods are preserved by default when jobs are deleted; set \
                           propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning\"";
            response.headers.push(("Warning", warning.to_owned()));
            response
        }
        (Kind::Pod, _) => match store.update(kind, name, mark_deleted) {
            Some(pod) => Response::json(200, &pod),
            None => status::not_found(kind, name),
        },
        (Kind::Event | Kind::Claim | Kind::ConfigMap | Kind::Quota, _) => {
            store.delete(kind, name);
            Response::json(200, &status::success(None))
        }
    }
}

fn finalize(store: &mut Store, name: &str, finalizer: &str) -> Value {
    let job = store.update(Kind::Job, name, |job| {
        mark_deleted(job);
        job["metadata"]["finalizers"] = json!([finalizer]);
    });
    job.map_or(Value::Null, |job| (*job).clone())
}

fn evict(store: &mut Store, name: &str) -> Response {
    let condition = kubelet::disruption("EvictionByEvictionAPI", "Eviction API: evicting");
    let evicted = store.update(Kind::Pod, name, |pod| {
        kubelet::set_condition(pod, condition);
        mark_deleted(pod);
    });
    match evicted {
        Some(_) => {
            let mut body = status::success(None);
            body["code"] = 201.into();
            Response::json(201, &body)
        }
        None => status::not_found(Kind::Pod, name),
    }
}

/// Reads the log of a pod as far as it is written: a time and a line each.
pub(super) fn read_log(cluster: &Cluster, uid: &str) -> String {
    let file = cluster.options.node.join("pods").join(uid).join("log");
    fs::read_to_string(file).unwrap_or_default()
}
