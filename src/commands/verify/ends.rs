//! Requests to end this process, taken between and within its steps: so the copies go before the process does.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::adapters::process::{self, Program};
use crate::adapters::signals::Asked;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::worker::child::Watch;

/// What takes them.
pub(super) struct Ends(RefCell<Watch>);

impl Ends {
    /// From now on a request ends the process only where somebody looks for one.
    pub(super) fn listen() -> Result<Ends, Diagnostic> {
        Watch::new(PathBuf::new()).map(|watch| Ends(RefCell::new(watch)))
    }

    /// Fails where this process was asked to end.
    pub(super) fn look(&self) -> Result<(), Diagnostic> {
        self.0.borrow_mut().asked().map_or(Ok(()), |asked| Err(cut_off(asked)))
    }

    /// Runs a program to its end, or to a request. The inner error says why it could not be run.
    pub(super) fn output(&self, program: &Program, directory: &Path) -> Result<io::Result<Output>, Diagnostic> {
        match self.0.borrow_mut().unless_asked(|asked| process::output_unless(program, directory, asked)) {
            Ok(Ok(output)) => Ok(Ok(output)),
            Ok(Err(asked)) => Err(cut_off(asked)),
            Err(error) => Ok(Err(error)),
        }
    }
}

fn cut_off(asked: Asked) -> Diagnostic {
    Diagnostic::new(Exit::Signal(asked.signal()), "stopped before everything was compared; the copies are removed")
}
