//! `guard` and `oversee`: tie the life of a program to that of the process that starts it.

use std::ffi::OsString;
use std::time::Duration;

use crate::adapters::process;
use crate::adapters::process::oversee::{Overseen, Oversight};
use crate::cli::work::{GuardArgs, OverseeArgs};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;

/// Becomes the program; returns only where that fails.
pub(crate) fn run(args: &GuardArgs) -> Result<Exit, Diagnostic> {
    let error = process::become_guarded(args.parent, args.nice, &args.command);
    Err(Diagnostic::tool(format!("cannot start {}", shown(&args.command))).source(&error))
}

/// Runs the program to its end, and ends all that came of it.
pub(crate) fn oversee(args: &OverseeArgs) -> Result<Exit, Diagnostic> {
    let oversight = Oversight {
        parent: args.parent,
        is_tied: args.tied,
        grace: Duration::from_secs(args.grace_seconds),
        limit: args.limit_seconds.map(Duration::from_secs),
    };
    let code = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match process::oversee::oversee(oversight, &args.command) {
        Ok(Overseen::Ended(process::Ending::Exited(exit))) => Ok(Exit::OfProgram(code(exit))),
        Ok(Overseen::Ended(process::Ending::Signalled(signal))) => Ok(Exit::Signal(code(signal))),
        Ok(Overseen::Ended(process::Ending::NotStarted(why))) => {
            Err(Diagnostic::tool(format!("cannot wait for {}", shown(&args.command))).cause(why))
        }
        Ok(Overseen::TookTooLong) => Err(Diagnostic::tool(format!(
            "{} did not end within {} s",
            shown(&args.command),
            args.limit_seconds.unwrap_or_default()
        ))),
        Err(error) => Err(Diagnostic::tool(format!("cannot start {}", shown(&args.command))).source(&error)),
    }
}

fn shown(command: &[OsString]) -> String {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}
