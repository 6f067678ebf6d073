//! Settings with where each came from: a table, or a JSON document.

use serde_json::Value as Json;

/// A setting that holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    /// As the configuration file names it, with its section: `jobs`, `kubernetes.image`, `stages.extract.cpus`.
    pub name: String,
    /// Null where nothing is set.
    pub value: Json,
    /// A flag, a variable, a file, or `default`.
    pub origin: String,
}

/// Renders settings in three columns.
pub(crate) fn table(settings: &[Setting]) -> String {
    let rows: Vec<[String; 3]> =
        settings.iter().map(|setting| [setting.name.clone(), shown(&setting.value), setting.origin.clone()]).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1).min(60));
    let line = |[name, value, origin]: &[String; 3]| format!("{name:first$}  {value:second$}  {origin}");
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Renders settings as one document.
pub(crate) fn json(settings: &[Setting]) -> String {
    let list: Vec<Json> = settings
        .iter()
        .map(|setting| serde_json::json!({"name": setting.name, "value": setting.value, "origin": setting.origin}))
        .collect();
    serde_json::json!({"version": 1, "settings": list}).to_string()
}

fn shown(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(items) if items.is_empty() => "none".to_owned(),
        Json::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Json::Bool(_) | Json::Number(_) | Json::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must() {
        let setting =
            |name: &str, value: Json, origin: &str| Setting { name: name.to_owned(), value, origin: origin.to_owned() };
        let settings = [
            setting("jobs", 8.into(), "--jobs"),
            setting("gpus", serde_json::json!(["0", "1"]), "default"),
            setting("over", Json::Null, "default"),
        ];
        assert_eq!(table(&settings), "jobs  8     --jobs\ngpus  0, 1  default\nover  -     default");
    }
}
