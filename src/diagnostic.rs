//! The error a user sees: what happened, where, the values that prove it, why, and what to do.
//!
//! Rooms have `thiserror` enums of their own and convert them into a [`Diagnostic`] with `From`; `main.rs` prints
//! the one that ends the program, through `output::text`.

use std::fmt;

use crate::exit::Exit;

/// What to do where a process has as many files open as it may.
pub(crate) const OPEN_MORE: &str = "let a process open more files, as by `ulimit -n 1024`";

/// A place in a text file; line and column count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Relative to the project's root where it lies in there.
    pub path: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
}

impl Place {
    /// A place that is a whole file.
    pub(crate) fn file(path: impl Into<String>) -> Self {
        Place { path: path.into(), line: None, column: None }
    }

    /// A line and column of a file, both from 1.
    pub(crate) fn at(path: impl Into<String>, line: usize, column: usize) -> Self {
        Place { path: path.into(), line: Some(line), column: Some(column) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        Ok(())
    }
}

/// A user-visible error.
///
/// `message` is a lowercase fragment without a full stop. `detail` lines are printed as they are (source excerpts,
/// values, log tails). Each hint is one action.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostic {
    pub exit: Exit,
    pub message: String,
    pub place: Option<Place>,
    pub detail: Vec<String>,
    pub causes: Vec<String>,
    pub hints: Vec<String>,
}

impl Diagnostic {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Diagnostic { exit, message: message.into(), place: None, detail: vec![], causes: vec![], hints: vec![] }
    }

    /// The project is not usable as it is.
    pub(crate) fn project(message: impl Into<String>) -> Self {
        Self::new(Exit::Project, message)
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A tool or a service failed.
    pub(crate) fn tool(message: impl Into<String>) -> Self {
        Self::new(Exit::Tool, message)
    }

    /// A bug of this program.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }

    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    #[must_use]
    pub(crate) fn detail(mut self, line: impl Into<String>) -> Self {
        self.detail.push(line.into());
        self
    }

    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What happened and why, in one line.
    pub(crate) fn one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// Adds the error and its sources, once each, as causes.
    #[must_use]
    pub(crate) fn source(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        if self.causes.iter().any(|cause| is_too_many_open(cause)) { self.hint(OPEN_MORE) } else { self }
    }
}

/// Whether an error says that this process has too many files open. By its text: it may come from anywhere, and not everybody
/// keeps the error of the system.
pub(crate) fn is_too_many_open(error: &str) -> bool {
    error.contains("Too many open files") && !error.contains("open files in system")
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_a_reason_to_allow_more() {
        let hints = |number| Diagnostic::tool("cannot read").source(&std::io::Error::from_raw_os_error(number)).hints;
        assert_eq!(hints(24), [OPEN_MORE]);
        assert!(hints(23).is_empty(), "too many in the system");
        assert!(hints(5).is_empty());
    }
}
