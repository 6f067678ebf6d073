//! What may stand in a `dvc.yaml`, a `.dvc` file and a `dvc.lock`: `dvc/schema.py` of DVC 3.67, checked before
//! interpolation and with Python's exact types (a bool passes for an int, nothing else for anything else).

use std::fmt;

use crate::dvc::pipeline::resolve::text;
use crate::dvc::suggest;
use crate::dvc::value::Value;
use crate::dvc::yaml::{Node, NodeValue, Position};

/// Everything that is wrong with a file.
#[derive(Debug)]
pub(crate) struct SchemaError {
    first: Violation,
    more: Vec<Violation>,
}

#[derive(Debug)]
struct Violation {
    position: Position,
    /// The keys that lead there, joined with `.`.
    path: String,
    message: String,
    hint: Option<String>,
}

impl SchemaError {
    pub(crate) fn position(&self) -> Position {
        self.first.position
    }

    /// The other things that are wrong, a line each.
    pub(crate) fn more(&self) -> impl Iterator<Item = String> {
        self.more.iter().map(|violation| format!("line {}: {violation}", violation.position.line))
    }

    pub(crate) fn hint(&self) -> Option<String> {
        self.first.hint.clone()
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, " in `{}`", self.path) }
    }
}

/// Checks a `dvc.yaml`.
pub(super) fn check_pipeline(node: &Node) -> Result<(), SchemaError> {
    check(node, &Shape::Fields(PIPELINE))
}

/// Checks a `.dvc` file.
pub(super) fn check_dvc_file(node: &Node) -> Result<(), SchemaError> {
    check(node, &Shape::Fields(DVC_FILE))
}

/// Checks a `dvc.lock`.
pub(super) fn check_lock(node: &Node) -> Result<(), SchemaError> {
    check(node, &Shape::Fields(LOCK))
}

/// What a value may be.
enum Shape {
    Anything,
    Null,
    Text,
    Flag,
    Int,
    /// A list of anything.
    List,
    /// A map of anything.
    Map,
    /// Null, empty text, or text or a number of three characters at least.
    Checksum,
    /// The text `2.0`, in quotes.
    LockVersion,
    ListOf(&'static Shape),
    /// A map with text as keys.
    MapOf(&'static Shape),
    /// The same, not empty.
    SomeOf(&'static Shape),
    /// The same, one entry at most.
    AtMostOneOf(&'static Shape),
    Fields(Fields),
    OneOf(&'static [Shape]),
    /// A stage, or a foreach with its template.
    StageOrForeach,
}

struct Field {
    name: &'static str,
    required: bool,
    shape: Shape,
}

const fn may(name: &'static str, shape: Shape) -> Field {
    Field { name, required: false, shape }
}

const fn must(name: &'static str, shape: Shape) -> Field {
    Field { name, required: true, shape }
}

const TEXTS: Shape = Shape::ListOf(&Shape::Text);
const TEXT_OR_LIST: Shape = Shape::OneOf(&[Shape::Text, Shape::List]);
const VARS: Shape = Shape::ListOf(&Shape::OneOf(&[Shape::Text, Shape::Map]));

/// The fields of a map: groups of them, as DVC's own schema is put together.
type Fields = &'static [&'static [Field]];

/// What is recorded of a file or folder.
const RECORD: &[Field] = &[
    may("md5", Shape::Checksum),
    may("checksum", Shape::Checksum),
    may("etag", Shape::Checksum),
    may("size", Shape::Int),
    may("nfiles", Shape::Int),
    may("isexec", Shape::Flag),
    may("version_id", Shape::Text),
];

/// What people say of an out.
const ANNOTATIONS: &[Field] =
    &[may("desc", Shape::Text), may("type", Shape::Text), may("labels", TEXTS), may("meta", Shape::Anything)];

/// Where an out is kept.
const KEEPING: &[Field] = &[
    may("cache", Shape::Flag),
    may("persist", Shape::Flag),
    may("checkpoint", Shape::Flag),
    may("remote", Shape::Text),
    may("push", Shape::Flag),
];

const PIPELINE: Fields = &[&[
    may("vars", VARS),
    may("stages", Shape::MapOf(&Shape::StageOrForeach)),
    may("params", TEXTS),
    may("metrics", TEXTS),
    may("plots", Shape::ListOf(&Shape::OneOf(&[Shape::Text, Shape::SomeOf(&TOP_PLOT)]))),
    may("artifacts", Shape::MapOf(&Shape::Fields(ARTIFACT))),
    may("datasets", Shape::Anything),
]];

const TOP_PLOT: Shape = Shape::OneOf(&[Shape::Null, Shape::Fields(TOP_PLOT_FIELDS)]);

const TOP_PLOT_FIELDS: Fields = &[&[
    may("x", Shape::OneOf(&[Shape::Text, Shape::MapOf(&Shape::Text)])),
    may("y", Shape::OneOf(&[Shape::Text, TEXTS, Shape::MapOf(&Shape::OneOf(&[Shape::Text, TEXTS]))])),
    may("x_label", Shape::Text),
    may("y_label", Shape::Text),
    may("title", Shape::Text),
    may("template", Shape::Text),
]];

const ARTIFACT: Fields = &[&[must("path", Shape::Text)], ANNOTATIONS];

const STAGE: Fields = &[&[
    must("cmd", TEXT_OR_LIST),
    may("matrix", Shape::MapOf(&TEXT_OR_LIST)),
    may("wdir", Shape::Text),
    may("deps", TEXTS),
    may("params", Shape::ListOf(&Shape::OneOf(&[Shape::Text, Shape::Map]))),
    may("vars", VARS),
    may("frozen", Shape::Flag),
    may("meta", Shape::Anything),
    may("desc", Shape::Text),
    may("always_changed", Shape::Flag),
    may("outs", Shape::ListOf(&Shape::OneOf(&[Shape::Text, Shape::MapOf(&Shape::Fields(OUT_FLAGS))]))),
    may("metrics", Shape::ListOf(&Shape::OneOf(&[Shape::Text, Shape::MapOf(&Shape::Fields(OUT_FLAGS))]))),
    may("plots", Shape::ListOf(&Shape::OneOf(&[Shape::Text, Shape::MapOf(&STAGE_PLOT)]))),
]];

const STAGE_PLOT: Shape = Shape::OneOf(&[Shape::Fields(PLOT_FLAGS), Shape::ListOf(&Shape::Fields(PLOT_FLAGS))]);

const FOREACH: Fields =
    &[&[must("foreach", Shape::OneOf(&[Shape::Map, Shape::List, Shape::Text])), must("do", Shape::Fields(STAGE))]];

const OUT_FLAGS: Fields = &[ANNOTATIONS, KEEPING];

const PLOT_FLAGS: Fields = &[
    ANNOTATIONS,
    KEEPING,
    &[
        may("template", Shape::Text),
        may("x", Shape::Text),
        may("y", Shape::Text),
        may("x_label", Shape::Text),
        may("y_label", Shape::Text),
        may("title", Shape::Text),
        may("header", Shape::Flag),
    ],
];

const DVC_FILE: Fields = &[&[
    may("md5", Shape::Checksum),
    may("wdir", Shape::OneOf(&[Shape::Text, Shape::Null])),
    may("deps", Shape::OneOf(&[Shape::ListOf(&Shape::Fields(DVC_FILE_DEP)), Shape::Null])),
    may("outs", Shape::OneOf(&[Shape::ListOf(&Shape::Fields(DVC_FILE_OUT)), Shape::Null])),
    may("locked", Shape::Flag),
    may("frozen", Shape::Flag),
    may("meta", Shape::Anything),
    may("always_changed", Shape::Flag),
    may("desc", Shape::Text),
]];

const DVC_FILE_DEP: Fields = &[
    RECORD,
    &[
        may("path", Shape::Text),
        may("persist", Shape::Flag),
        may("cloud", CLOUD),
        may("hash", Shape::Text),
        may("repo", Shape::Fields(REPO)),
        may("db", Shape::Fields(DB)),
        may("files", Shape::ListOf(&Shape::Fields(DIR_FILE))),
        may("fs_config", Shape::Map),
    ],
];

const DVC_FILE_OUT: Fields = &[
    RECORD,
    &[may("path", Shape::Text), may("persist", Shape::Flag), may("cloud", CLOUD), may("hash", Shape::Text)],
    ANNOTATIONS,
    &[
        may("cache", Shape::Flag),
        may("remote", Shape::Text),
        may("push", Shape::Flag),
        may("files", Shape::ListOf(&Shape::Fields(DIR_FILE))),
        may("fs_config", Shape::Map),
    ],
];

const REPO: Fields = &[&[
    must("url", Shape::Text),
    may("rev", Shape::Text),
    may("rev_lock", Shape::Text),
    may("config", Shape::OneOf(&[Shape::Text, Shape::Map])),
    may("remote", Shape::OneOf(&[Shape::Text, Shape::Map])),
]];

const DB: Fields = &[&[
    may("query", Shape::Text),
    may("connection", Shape::Text),
    may("file_format", Shape::Text),
    may("table", Shape::Text),
]];

const CLOUD: Shape = Shape::AtMostOneOf(&Shape::Fields(CLOUD_ENTRY));

const CLOUD_ENTRY: Fields = &[RECORD];

const DIR_FILE: Fields = &[&[must("relpath", Shape::Text)], RECORD, &[may("cloud", CLOUD)]];

const LOCK: Fields = &[&[
    must("schema", Shape::LockVersion),
    may("datasets", Shape::Anything),
    may("stages", Shape::MapOf(&Shape::Fields(LOCK_ENTRY))),
]];

const LOCK_ENTRY: Fields = &[&[
    must("cmd", TEXT_OR_LIST),
    may("deps", Shape::ListOf(&Shape::Fields(LOCK_ITEM))),
    may("params", Shape::MapOf(&Shape::MapOf(&Shape::Anything))),
    may("outs", Shape::ListOf(&Shape::Fields(LOCK_ITEM))),
]];

const LOCK_ITEM: Fields = &[
    &[must("path", Shape::Text)],
    RECORD,
    &[
        may("cloud", CLOUD),
        may("files", Shape::ListOf(&Shape::Fields(DIR_FILE))),
        may("hash", Shape::Text),
        may("dataset", Shape::Map),
    ],
];

fn check(node: &Node, shape: &Shape) -> Result<(), SchemaError> {
    let mut checker = Checker { path: vec![], violations: vec![] };
    checker.check(node, shape);
    let mut violations = checker.violations.into_iter();
    match violations.next() {
        None => Ok(()),
        Some(first) => Err(SchemaError { first, more: violations.take(MAX_REPORTED).collect() }),
    }
}

/// The most violations that are reported besides the first.
const MAX_REPORTED: usize = 20;

struct Checker {
    path: Vec<String>,
    violations: Vec<Violation>,
}

impl Checker {
    fn check(&mut self, node: &Node, shape: &Shape) {
        match shape {
            Shape::OneOf(shapes) => match shapes.iter().find(|shape| shape.has_kind_of(node)) {
                Some(shape) => self.check(node, shape),
                None => self.wrong_kind(node, shape),
            },
            _ if !shape.has_kind_of(node) => self.wrong_kind(node, shape),
            Shape::ListOf(shape) => {
                for (index, item) in node.as_list().unwrap_or_default().iter().enumerate() {
                    self.within(&index.to_string(), |checker| checker.check(item, shape));
                }
            }
            Shape::MapOf(shape) => self.check_entries(node, shape),
            Shape::SomeOf(shape) => {
                if node.as_map().is_some_and(indexmap::IndexMap::is_empty) {
                    self.violation(node.position, "expected an entry".to_owned(), None);
                }
                self.check_entries(node, shape);
            }
            Shape::AtMostOneOf(shape) => {
                if node.as_map().is_some_and(|map| map.len() > 1) {
                    self.violation(node.position, "expected one entry at most".to_owned(), None);
                }
                self.check_entries(node, shape);
            }
            Shape::Fields(fields) => self.check_fields(node, fields),
            Shape::StageOrForeach => {
                let is_foreach = ["foreach", "do"].iter().any(|key| node.get(key).is_some());
                self.check_fields(node, if is_foreach { FOREACH } else { STAGE });
            }
            Shape::Anything
            | Shape::Null
            | Shape::Text
            | Shape::Flag
            | Shape::Int
            | Shape::List
            | Shape::Map
            | Shape::Checksum
            | Shape::LockVersion => {}
        }
    }

    fn check_entries(&mut self, node: &Node, shape: &Shape) {
        for (key, entry) in node.as_map().into_iter().flatten() {
            if let Value::Str(name) = key {
                self.within(name, |checker| checker.check(&entry.node, shape));
            } else {
                self.violation(entry.key_position, "expected text as the key".to_owned(), None);
            }
        }
    }

    fn check_fields(&mut self, node: &Node, fields: Fields) {
        let fields = || fields.iter().copied().flatten();
        for (key, entry) in node.as_map().into_iter().flatten() {
            let name = key.as_str().unwrap_or_default();
            if let Some(field) = fields().find(|field| field.name == name) {
                self.within(name, |checker| checker.check(&entry.node, &field.shape));
            } else {
                let hint = suggest::hint(&suggest::misses(name, fields().map(|field| field.name)));
                self.violation(entry.key_position, format!("`{}` is not allowed here", written(key)), hint);
            }
        }
        for field in fields().filter(|field| field.required && node.get(field.name).is_none()) {
            self.violation(node.position, format!("`{}` is missing", field.name), None);
        }
    }

    fn within(&mut self, key: &str, check: impl FnOnce(&mut Checker)) {
        self.path.push(key.to_owned());
        check(self);
        self.path.pop();
    }

    fn wrong_kind(&mut self, node: &Node, shape: &Shape) {
        let found = match &node.value {
            NodeValue::List(_) => "a list".to_owned(),
            NodeValue::Map(_) => "a map".to_owned(),
            NodeValue::Scalar(Value::Null) => "nothing".to_owned(),
            NodeValue::Scalar(value) => format!("`{}`", written(value)),
        };
        self.violation(node.position, format!("expected {}, got {found}", shape.expected()), None);
    }

    fn violation(&mut self, position: Position, message: String, hint: Option<String>) {
        self.violations.push(Violation { position, path: self.path.join("."), message, hint });
    }
}

impl Shape {
    /// Whether the value is of the right kind, whatever is inside.
    fn has_kind_of(&self, node: &Node) -> bool {
        let scalar = match &node.value {
            NodeValue::Scalar(value) => Some(value),
            NodeValue::List(_) | NodeValue::Map(_) => None,
        };
        match self {
            Shape::Anything => true,
            Shape::Null => matches!(scalar, Some(Value::Null)),
            Shape::Text => matches!(scalar, Some(Value::Str(_))),
            Shape::Flag => matches!(scalar, Some(Value::Bool(_))),
            Shape::Int => matches!(scalar, Some(Value::Int(_) | Value::BigInt(_) | Value::Bool(_))),
            Shape::Checksum => match scalar {
                Some(Value::Str(text)) => text.is_empty() || text.chars().count() >= 3,
                Some(Value::Int(number)) => number.to_string().len() >= 3,
                scalar => matches!(scalar, Some(Value::Null | Value::BigInt(_) | Value::Bool(_))),
            },
            Shape::LockVersion => matches!(scalar, Some(Value::Str(text)) if text == "2.0"),
            Shape::List | Shape::ListOf(_) => matches!(node.value, NodeValue::List(_)),
            Shape::Map
            | Shape::MapOf(_)
            | Shape::SomeOf(_)
            | Shape::AtMostOneOf(_)
            | Shape::Fields(_)
            | Shape::StageOrForeach => matches!(node.value, NodeValue::Map(_)),
            Shape::OneOf(shapes) => shapes.iter().any(|shape| shape.has_kind_of(node)),
        }
    }

    fn expected(&self) -> String {
        match self {
            Shape::Anything => "a value".to_owned(),
            Shape::Null => "nothing".to_owned(),
            Shape::Text => "text".to_owned(),
            Shape::Flag => "`true` or `false`".to_owned(),
            Shape::Int => "an integer".to_owned(),
            Shape::Checksum => "a checksum".to_owned(),
            Shape::LockVersion => "the version `'2.0'` in quotes".to_owned(),
            Shape::List | Shape::ListOf(_) => "a list".to_owned(),
            Shape::Map | Shape::MapOf(_) | Shape::SomeOf(_) | Shape::AtMostOneOf(_) | Shape::Fields(_) => {
                "a map".to_owned()
            }
            Shape::StageOrForeach => "a stage".to_owned(),
            Shape::OneOf(shapes) => shapes.iter().map(Shape::expected).collect::<Vec<_>>().join(" or "),
        }
    }
}

/// A scalar for a message.
fn written(value: &Value) -> String {
    let mut text = String::new();
    text::push(&mut text, value);
    text
}
