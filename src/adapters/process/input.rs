//! What a program finds on its standard input.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

/// What a program reads on standard input.
#[derive(Clone, Debug, Default)]
pub(crate) enum Input {
    /// Its end.
    #[default]
    Nothing,
    /// What this process would read. Such a program stays in the process group of this one: a terminal stops who reads from
    /// it in another, and means by Ctrl-C and Ctrl-Z those of one group.
    Own,
    /// A file that is open; who has it next reads on from there.
    File(Arc<File>),
}

impl Input {
    /// Opens a file, to be read from its beginning.
    pub(crate) fn open(path: &Path) -> io::Result<Input> {
        Ok(Input::File(Arc::new(File::open(path)?)))
    }

    /// Whether each program could open a file anew: it is no pipe, and no terminal.
    pub(crate) fn is_for_many(path: &Path) -> io::Result<bool> {
        use std::io::IsTerminal as _;
        use std::os::unix::fs::FileTypeExt as _;

        let kind = path.metadata()?.file_type();
        // To open a pipe would be to wait for who writes to it.
        Ok((kind.is_file() || kind.is_char_device()) && !File::open(path)?.is_terminal())
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self, Input::Own)
    }

    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        Ok(match self {
            Input::Nothing => Stdio::null(),
            Input::Own => Stdio::inherit(),
            Input::File(file) => file.try_clone()?.into(),
        })
    }
}
