//! Why a project cannot be read, with the place, the lines around it and what may have been meant.

use thiserror::Error;

use super::ignore::IgnoreError;
use super::read::schema::SchemaError;
use super::resolve::context::ContextError;
use super::resolve::expand::ExpandError;
use super::resolve::expression::SyntaxError;
use super::resolve::template::{FillError, Located};
use super::resolve::url::UrlError;
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::suggest;
use crate::dvc::yaml::{Position, YamlError};

/// A project that cannot be read.
#[derive(Debug)]
pub(crate) struct LoadError {
    problem: Problem,
    place: Place,
    /// The key path of the value that was being resolved: `stages.train.cmd`.
    field: Option<String>,
    excerpt: Vec<String>,
    /// Whether git has left conflict markers in the file.
    is_unmerged: bool,
}

#[derive(Debug, Error)]
pub(crate) enum Problem {
    #[error("this is not YAML that DVC can read")]
    Yaml(#[source] YamlError),
    #[error("{0}")]
    Schema(SchemaError),
    #[error(transparent)]
    Syntax(SyntaxError),
    #[error(transparent)]
    Fill(FillError),
    #[error("the loop's data cannot be used")]
    Expand(#[source] ExpandError),
    #[error(transparent)]
    Context(ContextError),
    #[error(transparent)]
    Stage(StageProblem),
    #[error(transparent)]
    Ignore(IgnoreError),
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    #[error("the file is ignored by git, so DVC refuses it")]
    GitIgnored,
    #[error("this is not a regular file")]
    NotRegular,
    #[error("the file does not exist: a broken link")]
    BrokenLink,
}

/// What schema and interpolation let pass and no stage can be made of.
#[derive(Debug, Error)]
pub(crate) enum StageProblem {
    #[error("a stage needs a name")]
    EmptyName,
    #[error(
        "stage `{name}` cannot be found again: the part before the last `@` must name a foreach or matrix with that key"
    )]
    AtInName { name: String },
    #[error("interpolation is not allowed in `vars`")]
    InterpolatedVars,
    #[error("expected a path, got a {kind}")]
    NoPath { kind: &'static str },
    #[error("the path of a dependency cannot be empty")]
    EmptyPath,
    #[error("expected a map of flags, got a {kind}")]
    NoFlags { kind: &'static str },
    #[error("expected a list of params of `{file}`, got a {kind}")]
    NoKeys { file: String, kind: &'static str },
    #[error("expected the name of a param or a map of files, got a {kind}")]
    NoParam { kind: &'static str },
    #[error("`{path}` is a stage file and cannot be a dependency or an output")]
    StageFile { path: String },
    #[error("output `{path}` is ignored by `{rule}`")]
    IgnoredOut { path: String, rule: String },
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    #[error(transparent)]
    Url(UrlError),
    #[error("DVC needs its plugin for `{scheme}://`, which is not installed")]
    NoPlugin { scheme: &'static str },
    #[error("an entry of `{section}` has no `path`")]
    NoPathKey { section: &'static str },
    #[error("a database can only be the one dependency of one output")]
    Database,
    #[error("`{key}` must be text")]
    NoText { key: &'static str },
    #[error("expected a list of `{section}`, got a {kind}")]
    NoList { section: &'static str, kind: &'static str },
    #[error("the name of an artifact must be text, got a {kind}")]
    ArtifactName { kind: &'static str },
}

/// A problem on its way up to where the file's text is known.
#[derive(Debug)]
pub(crate) struct Fault {
    problem: Problem,
    position: Option<Position>,
    field: Option<String>,
}

impl Fault {
    pub(super) fn new(problem: Problem) -> Self {
        Fault { problem, position: None, field: None }
    }

    pub(super) fn at(position: Position, problem: Problem) -> Self {
        Fault { problem, position: Some(position), field: None }
    }

    pub(super) fn stage(problem: StageProblem) -> Self {
        Fault::new(Problem::Stage(problem))
    }

    /// Names the value that was being resolved, unless something further in did.
    pub(super) fn in_field(mut self, field: &str) -> Self {
        self.field.get_or_insert_with(|| field.to_owned());
        self
    }

    /// Puts the problem where it is known to be, unless something further in did.
    pub(super) fn or_at(mut self, position: Position) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// Adds the file and the lines around the place.
    pub(super) fn in_file(self, path: &str, text: &[u8]) -> LoadError {
        if let Problem::Context(ContextError::Invalid { path: vars, text, source }) = &self.problem {
            let text = String::from_utf8_lossy(text);
            let spot = Spot::find(&text, source.position, None);
            let excerpt = spot.excerpt(&text);
            let place = Place::at(vars, spot.line, spot.column);
            return LoadError { problem: self.problem, place, field: self.field, excerpt, is_unmerged: false };
        }
        let text = String::from_utf8_lossy(text);
        let position = match (&self.problem, self.position) {
            (Problem::Yaml(error), _) => Some(error.position),
            (Problem::Schema(error), _) => Some(error.position()),
            (_, position) => position,
        };
        let found = position.map(|position| Spot::find(&text, position, self.problem.expression()));
        let place = match &found {
            Some(spot) => Place::at(path, spot.line, spot.column),
            None => Place::file(path),
        };
        let excerpt = found.map(|spot| spot.excerpt(&text)).unwrap_or_default();
        let is_unmerged =
            matches!(self.problem, Problem::Yaml(_)) && text.lines().any(|line| line.starts_with("<<<<<<< "));
        LoadError { problem: self.problem, place, field: self.field, excerpt, is_unmerged }
    }
}

impl From<StageProblem> for Fault {
    fn from(problem: StageProblem) -> Self {
        Fault::stage(problem)
    }
}

impl From<Located<SyntaxError>> for Fault {
    fn from(error: Located<SyntaxError>) -> Self {
        Fault::at(error.position, Problem::Syntax(error.problem))
    }
}

impl From<Located<FillError>> for Fault {
    fn from(error: Located<FillError>) -> Self {
        Fault::at(error.position, Problem::Fill(error.problem))
    }
}

impl From<Located<ExpandError>> for Fault {
    fn from(error: Located<ExpandError>) -> Self {
        let problem = match error.problem {
            ExpandError::Fill(problem) => Problem::Fill(problem),
            problem => Problem::Expand(problem),
        };
        Fault::at(error.position, problem)
    }
}

impl Problem {
    /// The expression that is to blame, as it stands in the file.
    fn expression(&self) -> Option<String> {
        let source_text = match self {
            Problem::Syntax(error) => &error.source_text,
            Problem::Fill(
                FillError::NotFound { source_text, .. }
                | FillError::WrongType { source_text, .. }
                | FillError::Arguments { source_text, .. },
            ) => source_text,
            _ => return None,
        };
        Some(format!("${{{source_text}}}"))
    }

    /// What else the reader should know.
    fn details(&self) -> Vec<String> {
        match self {
            Problem::Fill(FillError::NotFound { missing, .. }) => missing.explain().into_iter().collect(),
            Problem::Schema(error) => error.more().collect(),
            _ => vec![],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Problem::Fill(FillError::NotFound { source_text, missing, .. }) => {
                let misses = suggest::misses(&missing.word, missing.known.iter().map(String::as_str));
                let parent = source_text.trim_end().strip_suffix(&missing.word).unwrap_or_default();
                let full: Vec<String> = misses.iter().map(|miss| format!("{parent}{miss}")).collect();
                suggest::hint(&full.iter().map(String::as_str).collect::<Vec<_>>()).or_else(|| {
                    source_text
                        .contains([':', '#', '%', '/', '$'])
                        .then(|| format!("write `\\${{{source_text}}}` if it is meant for the shell"))
                })
            }
            Problem::Context(ContextError::NoKey { key, known, .. }) => {
                suggest::hint(&suggest::misses(key, known.iter().map(String::as_str)))
            }
            Problem::Schema(error) => error.hint(),
            _ => None,
        }
    }
}

/// A place in a text, found again for the reader.
struct Spot {
    line: usize,
    column: usize,
    /// How much to underline, in characters.
    width: usize,
}

impl Spot {
    /// Finds the expression at or after the position of its string, in which it may stand lines below.
    fn find(text: &str, position: Position, expression: Option<String>) -> Spot {
        let (line, column) = (position.line as usize, position.column as usize);
        let plain = Spot { line, column, width: 1 };
        let Some(expression) = expression else { return plain };
        let mut skip = column.saturating_sub(1);
        for (number, content) in text.lines().enumerate().skip(line - 1).take(MAX_SEARCHED_LINES) {
            let start = content.char_indices().nth(skip).map_or(content.len(), |(start, _)| start);
            if let Some(found) = content[start..].find(&expression) {
                let column = content[..start + found].chars().count() + 1;
                return Spot { line: number + 1, column, width: expression.chars().count() };
            }
            skip = 0;
        }
        plain
    }

    /// Renders the line before, the line itself and a caret.
    fn excerpt(&self, text: &str) -> Vec<String> {
        let digits = self.line.to_string().len();
        let mut lines = vec![];
        for (number, content) in (1..).zip(text.lines()).skip(self.line.saturating_sub(2)).take(2) {
            if number <= self.line {
                lines.push(format!("{number:digits$} | {}", shown(content)));
            }
        }
        let caret = " ".repeat(self.column - 1) + &"^".repeat(self.width);
        lines.push(format!("{:digits$} | {}", "", shown(&caret)));
        lines
    }
}

/// How far below the start of a string an expression is looked for.
const MAX_SEARCHED_LINES: usize = 200;

/// The most characters of a line that are shown.
const MAX_SHOWN: usize = 160;

fn shown(line: &str) -> String {
    line.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What to do about a stage file with conflict markers.
const UNMERGED: &str = "finish the merge that git left here: write what both sides want, without its markers, then run the \
                        same command again";
/// The same of a `dvc.lock`.
const UNMERGED_LOCK: &str = "finish the merge that git left here: keep either entry of a stage, or none; what does not fit \
                             runs again";

impl From<LoadError> for Diagnostic {
    fn from(error: LoadError) -> Self {
        let is_lock = error.place.path.rsplit('/').next() == Some("dvc.lock");
        let mut diagnostic = Diagnostic::project(error.problem.to_string()).at(error.place);
        if error.is_unmerged {
            diagnostic = diagnostic.hint(if is_lock { UNMERGED_LOCK } else { UNMERGED });
        }
        for line in error.excerpt {
            diagnostic = diagnostic.detail(line);
        }
        if let Some(field) = error.field {
            diagnostic = diagnostic.detail(format!("in `{field}`"));
        }
        for line in error.problem.details() {
            diagnostic = diagnostic.detail(line);
        }
        if let Some(source) = std::error::Error::source(&error.problem) {
            diagnostic = diagnostic.source(source);
        }
        match error.problem.hint() {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    }
}
