//! What the commands of stages read on standard input.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The word for the launcher's own.
const INHERIT: &str = "inherit";

/// What commands read on standard input, where that is not its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// What the launcher would read, as under `dvc repro`.
    Inherit,
    /// A file, which each stage reads from its beginning.
    File(PathBuf),
}

impl FromStr for Stdin {
    type Err = Infallible;

    /// A file of the name of the word is `./inherit`.
    fn from_str(text: &str) -> Result<Stdin, Infallible> {
        Ok(if text == INHERIT { Stdin::Inherit } else { Stdin::File(text.into()) })
    }
}

impl fmt::Display for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stdin::Inherit => f.write_str(INHERIT),
            Stdin::File(path) => write!(f, "{}", path.display()),
        }
    }
}
