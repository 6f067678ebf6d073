//! The bodies of failed requests, in the server's own words.

use serde_json::{Value, json};

use super::http::Response;
use super::store::Kind;

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn about(kind: Kind, name: &str) -> Value {
    let mut details = json!({ "name": name });
    if !kind.group().is_empty() {
        details["group"] = kind.group().into();
    }
    details["kind"] = kind.resource().into();
    details
}

fn with_details(mut status: Value, details: Value) -> Value {
    status["details"] = details;
    status
}

pub(super) fn not_found(kind: Kind, name: &str) -> Response {
    let message = format!("{} \"{name}\" not found", kind.qualified());
    Response::json(404, &with_details(failure(404, "NotFound", &message), about(kind, name)))
}

pub(super) fn already_exists(kind: Kind, name: &str) -> Response {
    let message = format!("{} \"{name}\" already exists", kind.qualified());
    Response::json(409, &with_details(failure(409, "AlreadyExists", &message), about(kind, name)))
}

pub(super) fn uid_conflict(kind: Kind, name: &str, wanted: &str, found: &str) -> Response {
    let message = format!(
        "Operation cannot be fulfilled on {}.{} \"{name}\": the UID in the precondition ({wanted}) does not match the UID \
         in record ({found}). The object might have been deleted and then recreated",
        kind.name(),
        kind.group(),
    );
    Response::json(409, &with_details(failure(409, "Conflict", &message), about(kind, name)))
}

pub(super) fn forbidden(kind: Kind, verb: &str, namespace: &str) -> Response {
    let message = format!(
        "{} is forbidden: User \"system:serviceaccount:{namespace}:launcher\" cannot {verb} resource \"{}\" in API group \
         \"{}\" in the namespace \"{namespace}\"",
        kind.qualified(),
        kind.resource(),
        kind.group(),
    );
    Response::json(403, &with_details(failure(403, "Forbidden", &message), json!({ "kind": kind.resource() })))
}

pub(super) fn unauthorized() -> Response {
    Response::json(401, &failure(401, "Unauthorized", "Unauthorized"))
}

pub(super) fn too_many_requests(retry_after: u32) -> Response {
    let message = "Too many requests, please try again later.";
    let details = json!({ "retryAfterSeconds": retry_after });
    let mut response = Response::json(429, &with_details(failure(429, "TooManyRequests", message), details));
    response.headers.push(("Retry-After", retry_after.to_string()));
    response
}

pub(super) fn timeout() -> Response {
    let message = "Timeout: request did not complete within the allotted timeout";
    Response::json(504, &failure(504, "Timeout", message))
}

pub(super) fn bad_request(message: &str) -> Response {
    Response::json(400, &failure(400, "BadRequest", message))
}

pub(super) fn too_large() -> Response {
    Response::json(413, &failure(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"))
}

pub(super) fn invalid(kind: Kind, name: &str, field: &str, message: &str) -> Response {
    let whole = format!("{}.{} \"{name}\" is invalid: {field}: {message}", kind.name(), kind.group());
    let mut details = about(kind, name);
    details["kind"] = kind.name().into();
    details["causes"] = json!([{ "reason": "FieldValueInvalid", "message": message, "field": field }]);
    Response::json(422, &with_details(failure(422, "Invalid", &whole), details))
}

/// The object of the event that ends a watch from a version that is forgotten.
pub(super) fn expired(version: u64, oldest: u64) -> Value {
    failure(410, "Expired", &format!("too old resource version: {version} ({oldest})"))
}

pub(super) fn success(details: Option<Value>) -> Value {
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    if let Some(details) = details {
        status["details"] = details;
    }
    status
}
