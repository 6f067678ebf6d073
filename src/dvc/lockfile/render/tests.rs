use super::*;
use crate::dvc::formats;
use crate::dvc::lockfile::Lockfile;

/// What DVC's serializer wrote for many entries.
const CASES: &str = include_str!("../../../../fixtures/conformance/lock.jsonl");

/// Puts in what JSON lacks, for which `$`-keys stand; `None` for one object in two places.
fn untagged(value: &Value) -> Option<Value> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(match value {
        Value::List(items) => Value::List(items.iter().map(untagged).collect::<Option<_>>()?),
        Value::Map(map) => match map.iter().next().map(|(key, inner)| (key.as_str().unwrap_or_default(), inner)) {
            Some(("$float", inner)) => Value::Float(text(inner)?.parse().expect("a float")),
            Some(("$date", inner)) => Value::Date(text(inner)?),
            Some(("$map", Value::List(pairs))) => {
                let pairs = pairs.iter().filter_map(Value::as_list);
                let pairs = pairs.map(|pair| Some((untagged(&pair[0])?, untagged(&pair[1])?)));
                Value::Map(Box::new(pairs.collect::<Option<_>>()?))
            }
            Some((key, _)) if key.starts_with('$') => return None,
            _ => {
                let entries = map.iter().map(|(key, inner)| Some((key.clone(), untagged(inner)?)));
                Value::Map(Box::new(entries.collect::<Option<_>>()?))
            }
        },
        other => other.clone(),
    })
}

/// A case in which DVC wrote entries, one after another.
struct Case {
    id: String,
    value: Value,
}

impl Case {
    fn text(&self, name: &str) -> &str {
        self.value.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The lines of the entry that was written last, and whether they read back; `None` for what is left to DVC.
    fn rendered(&self) -> Option<(String, String, bool)> {
        let last = self.value.get("writes")?.as_list()?.last()?.as_list()?;
        let (name, entry) = (last[0].as_str()?.to_owned(), untagged(&last[1])?);
        let lines = render_entry(&name, &entry).ok()?;
        let reads_back = reads_back(&name, &lines, &entry);
        Some((name, lines, reads_back))
    }

    /// Says how the rendered entry differs from what DVC wrote.
    fn difference(&self, name: &str, lines: &str, reads_back: bool) -> Option<String> {
        let expected = self.value.get("expected")?;
        let after = expected.get("after").and_then(Value::as_str)?;
        let is_single = self.value.get("writes")?.as_list()?.len() == 1 && self.text("before").is_empty();
        let is_same = if is_single {
            after == format!("schema: '2.0'\nstages:\n{lines}")
        } else {
            // What DVC does to the other entries when it writes the file again is not looked at.
            Lockfile::parse(after).ok()?.entry(name).is_some_and(|entry| entry.text() == lines)
        };
        let is_lossy = expected.get("reads_back_as").is_some() || expected.get("reads_back_error").is_some();
        (!is_same || is_single && reads_back == is_lossy)
            .then(|| format!("{}: reads back {reads_back}\n{lines}{after}", self.id))
    }
}

#[test]
fn entries_are_written_as_dvc_writes_them() {
    let (mut differing, mut count, mut left) = (vec![], 0, vec![]);
    for line in CASES.lines() {
        let value = formats::load("case.json", line.as_bytes()).expect("a case");
        let id = value.get("id").and_then(Value::as_str).expect("it has one").to_owned();
        let case = Case { id, value };
        if case.text("kind") != "emit" {
            continue;
        }
        match case.rendered() {
            Some((name, lines, reads_back)) => {
                count += 1;
                differing.extend(case.difference(&name, &lines, reads_back));
            }
            None => left.push(case.id),
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(count > 500, "{count} rendered");
    let unknown =
        ["emit/param/bytes", "emit/param-nested/bytes", "emit/alias/shared-dict", "emit/alias/then-second-write"];
    left.retain(|id| !unknown.contains(&id.as_str()) && !id.starts_with("random/"));
    assert!(left.is_empty(), "left to DVC beside bytes and aliases: {left:?}");
}
