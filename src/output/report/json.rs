//! A report as one JSON document; the HTML page carries the same.
//!
//! Times are in seconds, `begin` since the plan was made. `lane` is an index into `lanes`.

use std::io;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value, json};

use crate::model::report::{Attempt, Report, Template, WorkItem, end_name};

/// The version of the document.
const VERSION: u32 = 1;

/// Writes the document, one work item after another: of very many the whole would not fit into memory beside them.
pub(crate) fn write(report: &Report, to: &mut dyn io::Write) -> io::Result<()> {
    Ok(serde_json::to_writer(to, &Document(report))?)
}

struct Document<'r>(&'r Report);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (names, lanes) = self.0.lanes();
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in head(self.0, &names) {
            map.serialize_entry(&name, &value)?;
        }
        map.serialize_entry("work_items", &WorkItems { report: self.0, lanes: &lanes })?;
        map.end()
    }
}

struct WorkItems<'r> {
    report: &'r Report,
    /// Of the attempts of each.
    lanes: &'r [Vec<usize>],
}

impl Serialize for WorkItems<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.report.work_items.iter().zip(self.lanes).map(|(item, lanes)| work_item(item, lanes)))
    }
}

/// All but the work items.
fn head(report: &Report, lanes: &[String]) -> serde_json::Map<String, Value> {
    let from = &report.provenance;
    let head = json!({
        "version": VERSION,
        "run": report.run,
        "project": report.project,
        "created": report.created,
        "seconds": rounded(report.seconds),
        "ended": report.ended,
        "on": report.is_on,
        "counts": report.counts().named().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "provenance": {
            "program": from.program,
            "dvc": from.dvc,
            "commit": from.commit,
            "snapshot": from.snapshot,
            "targets": from.targets,
            "engines": from.engines,
            "images": from.images,
            "hosts": from.hosts,
            "object_store": from.traffic.map(|traffic| json!({
                "requests": traffic.requests,
                "sent_bytes": traffic.sent,
                "received_bytes": traffic.received,
            })),
            "data": (!from.moved.is_nothing()).then(|| json!({
                "native_objects": from.moved.native,
                "dvc_objects": from.moved.by_dvc,
                "why_dvc": from.moved.why,
                "requests": from.moved.traffic.requests,
                "sent_bytes": from.moved.traffic.sent,
                "received_bytes": from.moved.traffic.received,
            })),
            "executors": {
                "native": from.executors.native,
                "dvc": from.executors.dvc,
                "check": from.executors.check,
            },
        },
        "templates": report.by_template().iter().map(template).collect::<Vec<_>>(),
        "phases": report.phases.iter()
            .map(|phase| json!({ "kind": phase.kind.name(), "trailing": phase.trailing }))
            .collect::<Vec<_>>(),
        "lanes": lanes,
    });
    let Value::Object(head) = head else { unreachable!("it is an object") };
    head
}

fn template(template: &Template<'_>) -> Value {
    let states: serde_json::Map<String, Value> =
        template.states.iter().map(|(state, stages)| (state.name().to_owned(), json!(stages))).collect();
    let reasons: Vec<Value> =
        template.reasons.iter().map(|(reason, stages)| json!({ "reason": reason, "stages": stages })).collect();
    json!({
        "address": template.address,
        "stages": template.stages,
        "states": states,
        "reasons": reasons,
        "other_reasons": template.other_reasons,
    })
}

fn work_item(item: &WorkItem, lanes: &[usize]) -> Value {
    let stages: Vec<Value> = item
        .stages
        .iter()
        .map(|stage| json!({ "address": stage.address, "state": stage.state.name(), "reason": stage.reason }))
        .collect();
    json!({
        "index": item.index,
        "id": item.id,
        "phase": item.phase,
        "outcome": item.outcome.name(),
        "running": item.is_running,
        "message": item.outcome.message(),
        "seconds": rounded(item.seconds()),
        "attempts": item.attempts.iter().zip(lanes).map(|(tried, lane)| attempt(tried, *lane)).collect::<Vec<_>>(),
        "stages": stages,
        "log": item.log,
        "tail": item.tail,
        "used": item.used,
        "difference": item.difference,
    })
}

fn attempt(attempt: &Attempt, lane: usize) -> Value {
    json!({
        "attempt": attempt.number,
        "place": attempt.place,
        "lane": lane,
        "begin": rounded(attempt.begin),
        "seconds": rounded(attempt.seconds),
        "end": end_name(attempt.end),
        "message": attempt.message,
    })
}

/// To milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::tests::{HOSTILE, sample};

    #[test]
    fn the_document_has_every_work_item() {
        let document = serde_json::to_value(Document(&sample())).expect("plain data");
        assert_eq!(document["version"], 1);
        assert_eq!(document["counts"], json!({ "failed": 1, "not_run": 1, "skipped": 1, "succeeded": 1 }));
        assert_eq!(
            document["provenance"]["executors"],
            json!({ "native": 1, "dvc": { "it is an import": 2 }, "check": 0 })
        );
        assert_eq!(document["work_items"][1]["id"], HOSTILE);
        assert_eq!(document["work_items"][0]["attempts"][1]["lane"], 0);
        assert_eq!(document["lanes"], json!(["slot 0", "slot 1"]));
    }
}
