//! A user's changes to the pod template, merged as `kubectl patch --type strategic` does.
//!
//! Maps are merged, `null` removes a field, lists whose items have a merge key are merged by it, other lists are
//! replaced. A patch is given for the whole template (`metadata`, `spec`) or for its `spec` alone.

use serde_json::{Map, Value};

/// The lists of a pod that are merged item by item, and by which field (`patchMergeKey` in k8s.io/api/core/v1).
const MERGE_KEYS: [(&str, &str); 10] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("imagePullSecrets", "name"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// Merges a patch into a pod template.
pub(super) fn apply(template: &mut Value, patch: &Value) {
    let whole = patch.get("spec").is_some() || patch.get("metadata").is_some();
    let target = if whole { template } else { &mut template["spec"] };
    merge(target, patch);
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.shift_remove(name);
            continue;
        }
        let key = MERGE_KEYS.iter().find(|(list, _)| list == name).map(|(_, key)| *key);
        match (fields.get_mut(name), change, key) {
            (Some(Value::Array(items)), Value::Array(changes), Some(key)) => merge_list(items, changes, key),
            (Some(field), _, _) => merge(field, change),
            (None, _, _) => {
                let mut added = Value::Null;
                merge(&mut added, change);
                fields.insert(name.clone(), added);
            }
        }
    }
}

fn merge_list(items: &mut Vec<Value>, changes: &[Value], key: &str) {
    for change in changes {
        let same = |item: &&mut Value| item.get(key).is_some() && item.get(key) == change.get(key);
        match items.iter_mut().find(same) {
            Some(item) => merge(item, change),
            None => items.push(change.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(patch: &Value, expected: &Value) {
        let mut template = json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {
                "containers": [{"name": "worker", "image": "i", "env": [{"name": "A", "value": "1"}]}],
                "tolerations": [{"key": "gpu"}],
            },
        });
        apply(&mut template, patch);
        assert_eq!(&template, expected);
    }

    #[test]
    fn lists_with_a_merge_key_are_merged_by_it() {
        check(
            &json!({"containers": [{"name": "worker", "env": [{"name": "B", "value": "2"}]}, {"name": "side"}]}),
            &json!({
                "metadata": {"labels": {"a": "1"}},
                "spec": {
                    "containers": [
                        {"name": "worker", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                        {"name": "side"},
                    ],
                    "tolerations": [{"key": "gpu"}],
                },
            }),
        );
    }

    #[test]
    fn other_lists_are_replaced_and_null_removes() {
        check(
            &json!({"metadata": {"labels": {"b": "2"}}, "spec": {"tolerations": [{"key": "spot"}], "containers": null, "dnsConfig": {"x": {"y": 1}}}}),
            &json!({
                "metadata": {"labels": {"a": "1", "b": "2"}},
                "spec": {"tolerations": [{"key": "spot"}], "dnsConfig": {"x": {"y": 1}}},
            }),
        );
    }
}
