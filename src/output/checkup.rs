//! What `doctor` found: a line each, with what to do below it.

use serde_json::Value as Json;

use crate::diagnostic::Diagnostic;

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(crate) enum Finding {
    /// As it should be.
    Good { what: &'static str, found: String },
    /// It works, but somebody should know.
    Note { what: &'static str, found: String, hint: String },
    /// A run would not work.
    Bad { what: &'static str, problem: Diagnostic },
}

impl Finding {
    pub(crate) fn good(what: &'static str, found: String) -> Finding {
        Finding::Good { what, found }
    }

    pub(crate) fn note(what: &'static str, found: String, hint: String) -> Finding {
        Finding::Note { what, found, hint }
    }

    pub(crate) fn bad(what: &'static str, problem: Diagnostic) -> Finding {
        Finding::Bad { what, problem }
    }
}

/// Renders findings for people.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut lines = vec![];
    for finding in findings {
        match finding {
            Finding::Good { what, found } => lines.push(format!("ok     {what}: {found}")),
            Finding::Note { what, found, hint } => {
                lines.push(format!("note   {what}: {found}"));
                lines.push(format!("       hint: {hint}"));
            }
            Finding::Bad { what, problem } => {
                lines.push(format!("error  {what}: {}", problem.message));
                lines.extend(problem.place.iter().map(|place| format!("         --> {place}")));
                lines.extend(problem.detail.iter().map(|detail| format!("         {detail}")));
                lines.extend(problem.causes.iter().map(|cause| format!("       cause: {cause}")));
                lines.extend(problem.hints.iter().map(|hint| format!("       hint: {hint}")));
            }
        }
    }
    lines.join("\n")
}

/// Renders findings as one document.
pub(crate) fn json(findings: &[Finding]) -> String {
    let list: Vec<Json> = findings
        .iter()
        .map(|finding| match finding {
            Finding::Good { what, found } => serde_json::json!({"what": what, "state": "ok", "found": found}),
            Finding::Note { what, found, hint } => {
                serde_json::json!({"what": what, "state": "note", "found": found, "hints": [hint]})
            }
            Finding::Bad { what, problem } => serde_json::json!({
                "what": what, "state": "error", "found": problem.message, "causes": problem.causes, "hints": problem.hints,
            }),
        })
        .collect();
    serde_json::json!({"version": 1, "findings": list}).to_string()
}
