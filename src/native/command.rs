//! The commands of a stage, and how its shell is called (`dvc/stage/run.py`, DVC 3.67).

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::adapters::process::Program;
use crate::dvc::value::Value;
use crate::env;

/// The shell where none is named.
const DEFAULT: &str = "/bin/sh";

/// The shell of commands, and what is added to their environment.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    path: OsString,
    options: &'static [&'static str],
    /// `LC_CTYPE`, where Python would set it.
    coerced: Option<&'static str>,
    /// Whether the environment has a `DVC_ROOT` that stays.
    has_root: bool,
    /// For all commands.
    environment: Vec<(OsString, OsString)>,
    /// Why only DVC knows how to call the shell.
    unusual: Option<&'static str>,
}

impl Shell {
    /// Looks at the environment of this process; `environment` is set for all commands beside it.
    pub(crate) fn find(environment: Vec<(OsString, OsString)>) -> Shell {
        let of = |name: &str| environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let read = |name: &str| of(name).or_else(|| env::read(name)).filter(|value| !value.is_empty());
        let path = read(env::SHELL).unwrap_or_else(|| DEFAULT.into());
        let name = Path::new(&path).file_name().unwrap_or_default().to_ascii_lowercase();
        let options: &[&str] = match name.to_str() {
            Some("bash") => &["--noprofile", "--norc"],
            Some("zsh") => &["--no-rcs"],
            _ => &[],
        };
        let coercion = super::locale::coercion(&read);
        let unusual = if name == "fish" {
            Some("fish is asked for its version")
        } else if is_pyenv(&read) {
            Some("pyenv changes the PATH")
        } else {
            coercion.err()
        };
        let has_root = read(env::DVC_ROOT).is_some() || env::is_set(env::DVC_ROOT);
        Shell { path, options, coerced: coercion.ok().flatten(), has_root, environment, unusual }
    }

    pub(crate) fn unusual(&self) -> Option<&'static str> {
        self.unusual
    }

    /// The call for one command.
    pub(super) fn call(&self, command: &str, root: &Path, address: &str) -> Program {
        let mut program = self.options.iter().fold(Program::new(&self.path), |program, option| program.arg(*option));
        program = program.arg("-c").arg(command);
        program.environment.clone_from(&self.environment);
        if let Some(locale) = self.coerced {
            program = program.env(env::LC_CTYPE, locale);
        }
        if !self.has_root {
            program = program.env(env::DVC_ROOT, root);
        }
        program.env(env::DVC_STAGE, address)
    }

    pub(super) fn path(&self) -> &OsStr {
        &self.path
    }
}

/// The commands of a stage; `None` where DVC would not run it, or fail over it.
pub(super) fn commands(cmd: &Value) -> Option<Vec<&str>> {
    let commands = match cmd {
        Value::Str(text) => lines(text),
        Value::List(items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    (!commands.is_empty() && commands.iter().all(|command| !command.contains('\0'))).then_some(commands)
}

/// Python's `str.splitlines`.
fn lines(text: &str) -> Vec<&str> {
    let is_break = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = vec![];
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_break).unwrap_or(rest.len());
        lines.push(&rest[..end]);
        rest = &rest[end..];
        let length = if rest.starts_with("\r\n") { 2 } else { rest.chars().next().map_or(0, char::len_utf8) };
        rest = &rest[length..];
    }
    lines
}

/// Whether DVC takes entries of pyenv's out of the `PATH` (`dvc/utils/__init__.py: fix_env`).
fn is_pyenv(read: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let path = read(env::PATH).unwrap_or_default();
    let parts: Vec<_> = std::env::split_paths(&path).collect();
    env::PYENV.iter().all(|name| read(name).is_some())
        && parts.len() > 2
        && parts[1].file_name().is_some_and(|name| name == "libexec")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(lines(text), expected, "{text:?}");
    }

    #[test]
    fn lines_are_those_of_python() {
        check("a", &["a"]);
        check("a\n", &["a"]);
        check("a\n\nb\r\nc\rd", &["a", "", "b", "c", "d"]);
        check("\n", &[""]);
        check("", &[]);
        check("a\u{b}b\u{c}c\u{1c}d\u{1d}e\u{1e}f\u{1f}g", &["a", "b", "c", "d", "e", "f\u{1f}g"]);
        check("a\u{85}b\u{2028}c\u{2029}", &["a", "b", "c"]);
    }

    #[test]
    fn what_dvc_does_not_run_has_no_commands() {
        assert_eq!(commands(&Value::str("")), None);
        assert_eq!(commands(&Value::List(vec![])), None);
        assert_eq!(commands(&Value::List(vec![Value::Int(1)])), None);
        assert_eq!(commands(&Value::str("a\0b")), None);
        assert_eq!(commands(&Value::List(vec![Value::str("a\nb"), Value::str("")])), Some(vec!["a\nb", ""]));
    }
}
