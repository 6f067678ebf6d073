//! The `dvc` program as a script: whether it does nothing but start DVC, and which interpreter runs it.
//!
//! Such a script is run by a Python program of our own, which keeps a fault of DVC from doing harm where several DVCs
//! share a cache; its head says how it is called.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::adapters::fs::{self, FsError};
use crate::adapters::process::Program;

/// Runs the script.
const PROCESS: &str = include_str!("process.py");

/// The largest file that is looked at; what installers write has a few hundred bytes.
const MAX_SIZE: u64 = 4096;

/// The two lines that matter.
const IMPORT: &str = "from dvc.cli import main";
const START: &str = "sys.exit(main())";

/// How a line of such a script may begin, as pip, uv and conda write them.
const LINES: [&str; 9] = [
    "#",
    "import re",
    "import sys",
    IMPORT,
    "if __name__ == ",
    "if sys.argv[0].endswith(",
    "elif sys.argv[0].endswith(",
    "sys.argv[0] = ",
    START,
];

/// The script that an installer made of DVC's entry point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DvcScript {
    pub path: PathBuf,
    /// The interpreter and its argument, if there is one.
    pub interpreter: Vec<OsString>,
}

impl DvcScript {
    /// Reads the script; `None` for anything that may do more than start DVC: a shell script, a binary, a wrapper.
    pub(crate) fn read(path: &Path) -> Option<DvcScript> {
        if path.metadata().ok()?.len() > MAX_SIZE {
            return None;
        }
        let interpreter = interpreter(&std::fs::read(path).ok()?)?;
        Some(DvcScript { path: path.to_owned(), interpreter })
    }

    /// The program that runs the script, which is written into `folder`; what it is to do comes as its arguments.
    pub(crate) fn process(&self, folder: &Path) -> Result<Program, FsError> {
        let file = folder.join("dvc.py");
        fs::write_plain(&file, PROCESS.as_bytes())?;
        let mut words = self.interpreter.iter().cloned();
        let mut program = Program::new(words.next().unwrap_or_default());
        program.arguments.extend(words);
        Ok(program.arg(file).arg(&self.path))
    }
}

/// The interpreter of a text that is such a script.
fn interpreter(text: &[u8]) -> Option<Vec<OsString>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next()?.strip_prefix(b"#!")?.trim_ascii();
    let interpreter = if first == b"/bin/sh" {
        // What the kernel cannot start for its length is started so: `'''exec' PATH "$0" "$@"`, then `' '''`.
        let path = lines.next()?.strip_prefix(b"'''exec' ")?.strip_suffix(b" \"$0\" \"$@\"")?;
        lines.next().filter(|line| *line == b"' '''")?;
        let path = path.strip_prefix(b"\"").and_then(|path| path.strip_suffix(b"\"")).unwrap_or(path);
        vec![OsStr::from_bytes(path).to_owned()]
    } else {
        // As the kernel does it: all after the first blank is one argument.
        let (path, argument) = match first.iter().position(|byte| b" \t".contains(byte)) {
            Some(at) => (&first[..at], first[at..].trim_ascii()),
            None => (first, &b""[..]),
        };
        let words = [path, argument].into_iter().filter(|word| !word.is_empty());
        words.map(|word| OsStr::from_bytes(word).to_owned()).collect()
    };
    let lines: Vec<&str> = lines.map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    let lines = || lines.iter().map(|line| line.trim());
    let known = |line: &str| line.is_empty() || LINES.iter().any(|begin| line.starts_with(begin));
    let is_start = lines().all(known) && [IMPORT, START].iter().all(|wanted| lines().any(|line| line == *wanted));
    (is_start && is_python(&interpreter)).then_some(interpreter)
}

/// Whether it is a Python, by itself or found by `env`.
fn is_python(interpreter: &[OsString]) -> bool {
    let begins =
        |word: &OsString| Path::new(word).file_name().is_some_and(|name| name.as_bytes().starts_with(b"python"));
    match interpreter {
        [env, name] if env == "/usr/bin/env" => begins(name),
        [path, ..] => Path::new(path).is_absolute() && begins(path),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIP: &str = "# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom dvc.cli import main\nif __name__ == \
                       '__main__':\n    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    \
                       sys.exit(main())\n";
    const UV: &str = "# -*- coding: utf-8 -*-\nimport sys\nfrom dvc.cli import main\nif __name__ == \"__main__\":\n    if \
                      sys.argv[0].endswith(\"-script.pyw\"):\n        sys.argv[0] = sys.argv[0][:-11]\n    elif \
                      sys.argv[0].endswith(\".exe\"):\n        sys.argv[0] = sys.argv[0][:-4]\n    sys.exit(main())\n";

    #[track_caller]
    fn check(text: &str, wanted: Option<&[&str]>) {
        let found = interpreter(text.as_bytes());
        assert_eq!(found, wanted.map(|words| words.iter().map(OsString::from).collect::<Vec<_>>()), "{text}");
    }

    #[test]
    fn what_installers_write_is_known_by_its_interpreter() {
        check(&format!("#!/v/bin/python3\n{PIP}"), Some(&["/v/bin/python3"]));
        check(&format!("#!/v/bin/python\n{UV}"), Some(&["/v/bin/python"]));
        check(&format!("#! /v/bin/python3.11 -sE\n{PIP}"), Some(&["/v/bin/python3.11", "-sE"]));
        check(&format!("#!/usr/bin/env python3\n{PIP}"), Some(&["/usr/bin/env", "python3"]));
        check(&format!("#!/bin/sh\n'''exec' /a/long/python \"$0\" \"$@\"\n' '''\n{PIP}"), Some(&["/a/long/python"]));
        check(&format!("#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''\n{PIP}"), Some(&["/a b/python"]));
    }

    #[test]
    fn what_may_do_more_is_not_taken_for_one() {
        check("#!/bin/sh\nexec /v/bin/dvc \"$@\"\n", None);
        check("#!/usr/bin/env bash\nexec pyenv exec dvc \"$@\"\n", None);
        check(&format!("#!/v/bin/pypy\n{PIP}"), None);
        check(&format!("#!/v/bin/python3\nimport os\n{PIP}"), None);
        check(&format!("#!/v/bin/python3\n{}", PIP.replace("dvc.cli", "dvc_wrapper")), None);
        check(&format!("#!/v/bin/python3\n{}", PIP.replace("    sys.exit(main())\n", "")), None);
        check("#!/v/bin/python3\n", None);
        check("\u{7f}ELF", None);
    }
}
