//! What commands read on standard input, and what they say where they miss it.

use std::io;

use crate::adapters::process::Input;
use crate::model::stdin::Stdin;

/// What programs say at the end of an input that they did not expect to be over.
const MISSES_INPUT: [&str; 3] = ["eof when reading a line", "no more input", "end of file on standard input"];
/// What programs say that ask at a terminal only.
const MISSES_TERMINAL: [&str; 7] = [
    "not a tty",
    "not a terminal",
    "not from a terminal",
    "terminal is required",
    "no tty present",
    "standard input': inappropriate ioctl",
    "standard input: inappropriate ioctl",
];

/// What a stage's commands read; a file is opened anew.
pub(crate) fn open(stdin: Option<&Stdin>) -> io::Result<Input> {
    match stdin {
        None => Ok(Input::Nothing),
        Some(Stdin::Inherit) => Ok(Input::Own),
        Some(Stdin::File(path)) => Input::open(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read `{}` on standard input: {error}", path.display()))
        }),
    }
}

/// What to add to the failure of a command whose last words say that it wanted another standard input than it had.
pub(super) fn missed(stdin: Option<&Stdin>, words: &str) -> Option<&'static str> {
    let words = words.to_lowercase();
    let is_said = |all: &[&str]| all.iter().any(|said| words.contains(said));
    match stdin {
        None if is_said(&MISSES_TERMINAL) => Some(
            "; it seems to want a terminal, and commands have none: `--stdin inherit -j 1` lends them yours, and \
             `--stdin FILE` has them read answers from a file",
        ),
        None if is_said(&MISSES_INPUT) => Some(
            "; it seems to read standard input, where commands find nothing: `--stdin FILE`, or `--stdin inherit` with \
             `-j 1`, gives them some",
        ),
        Some(Stdin::File(_)) if is_said(&MISSES_TERMINAL) => {
            Some("; it seems to want a terminal: `--stdin inherit -j 1` lends it yours")
        }
        None | Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stdin: Option<&str>, words: &str, hint: Option<&str>) {
        let stdin = stdin.map(|text| text.parse().expect("any text will do"));
        let missed = missed(stdin.as_ref(), words);
        assert_eq!(missed.is_some(), hint.is_some(), "{words}: {missed:?}");
        assert!(missed.unwrap_or_default().contains(hint.unwrap_or_default()), "{missed:?}");
    }

    #[test]
    fn what_commands_miss_is_heard() {
        check(None, "EOFError: EOF when reading a line\n", Some("`--stdin FILE`"));
        check(None, "the input device is not a TTY\n", Some("`--stdin inherit -j 1`"));
        check(None, "stty: 'standard input': Inappropriate ioctl for device\n", Some("`--stdin inherit -j 1`"));
        check(None, "sudo: a terminal is required to read the password\n", Some("`--stdin inherit -j 1`"));
        check(None, "something else\n", None);
        check(None, "cannot open a.txt: Inappropriate ioctl for device\n", None);
        check(Some("answers"), "EOFError: EOF when reading a line\n", None);
        check(Some("answers"), "stdin is not a terminal\n", Some("`--stdin inherit -j 1`"));
        check(Some("inherit"), "stdin is not a terminal\n", None);
    }
}
