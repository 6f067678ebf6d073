//! `guard`: ties the life of a program to that of the process that starts it.

use crate::adapters::process;
use crate::cli::GuardArgs;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;

/// Becomes the program; returns only where that fails.
pub(crate) fn run(args: &GuardArgs) -> Result<Exit, Diagnostic> {
    let error = process::become_guarded(args.parent, args.nice, &args.command);
    let program = args.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    Err(Diagnostic::tool(format!("cannot start `{program}`")).source(&error))
}
