//! Params and vars files: JSON, TOML, Python, and YAML for everything else, each as DVC reads it.
//!
//! The format follows from the extension, which for DVC starts at the *first* dot of the name: `params.json` is JSON,
//! `my.params.json` is YAML (`dvc_objects/fs/base.py: suffix`).

mod json;
mod python;
#[cfg(test)]
mod tests;
mod toml;

use super::value::{Map, Value};
use super::yaml::{self, Position, YamlError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Json,
    Toml,
    Python,
}

impl Format {
    /// The format of a file by its path.
    pub(crate) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name.split_once('.').map(|(_, extension)| extension.to_lowercase()).as_deref() {
            Some("json") => Format::Json,
            Some("toml") => Format::Toml,
            Some("py") => Format::Python,
            _ => Format::Yaml,
        }
    }

    /// What the format is called in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Yaml => "YAML",
            Format::Json => "JSON",
            Format::Toml => "TOML",
            Format::Python => "Python",
        }
    }
}

/// Why and where a file is not of its format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {}: {message}", format.name())]
pub(crate) struct FormatError {
    pub format: Format,
    pub message: String,
    pub position: Position,
}

/// Reads a file by its extension. An empty or false value at the top level is an empty map.
pub(crate) fn load(path: &str, bytes: &[u8]) -> Result<Value, FormatError> {
    let format = Format::of(path);
    if format == Format::Yaml {
        return yaml::load(bytes).map_err(|error| FormatError::of(format, error));
    }
    let text = yaml::decode_text(bytes).map_err(|error| FormatError::of(format, error))?;
    let value = match format {
        Format::Json => json::parse(&text),
        Format::Toml => toml::parse(&text),
        Format::Python | Format::Yaml => python::parse(&text),
    };
    match value {
        Ok(value) if value.is_false() => Ok(Value::Map(Box::new(Map::new()))),
        Ok(value) => Ok(value),
        Err(error) => Err(FormatError { format, message: error.message, position: position_at(&text, error.offset) }),
    }
}

impl FormatError {
    fn of(format: Format, error: YamlError) -> Self {
        FormatError { format, message: error.message, position: error.position }
    }
}

/// An error at a byte of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SyntaxError {
    offset: usize,
    message: String,
}

impl SyntaxError {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        SyntaxError { offset, message: message.into() }
    }
}

fn position_at(text: &str, offset: usize) -> Position {
    let before = String::from_utf8_lossy(&text.as_bytes()[..offset.min(text.len())]);
    let lines = before.matches('\n').count();
    let columns = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let from_one = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    Position { line: from_one(lines), column: from_one(columns) }
}
