//! `guard` and `oversee`: tie the life of a program to that of the process that starts it. `keep`: lets what it leaves running
//! stay. `inside`: what it sees.

use std::ffi::OsString;
use std::time::Duration;

use crate::adapters::mounts::Bind;
use crate::adapters::process::oversee::{Overseen, Oversight};
use crate::adapters::{fs, process};
use crate::cli::work::{GuardArgs, InsideArgs, KeepArgs, OverseeArgs};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::state::kept;
use crate::state::paths::RunDir;

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
        kept: args.kept.clone(),
    };
    let code = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match process::oversee::oversee(&oversight, &args.command) {
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

/// Runs the program to its end, and stays with what it left for as long as the run wants that.
pub(crate) fn keep(args: &KeepArgs) -> Result<Exit, Diagnostic> {
    let run = RunDir::of_kept(&args.kept);
    match process::keep::keep(args.parent, &args.kept, || kept::is_wanted(&run), &args.command) {
        Ok(_) => Ok(Exit::Success),
        Err(error) => Err(Diagnostic::tool(format!("cannot start {}", shown(&args.command))).source(&error)),
    }
}

/// Becomes the program in a namespace of its own; returns only where that fails, or no program is named.
pub(crate) fn inside(args: &InsideArgs) -> Result<Exit, Diagnostic> {
    let binds = args.bind.chunks(2).filter_map(Bind::of).collect::<Vec<_>>();
    match process::inside::become_inside(&binds, &args.directory, &args.command) {
        Ok(_) if args.command.is_empty() => Ok(Exit::Success),
        // As a shell says it.
        Ok(error) => Err(Diagnostic::tool(format!("cannot start {}", shown(&args.command))).source(&error)),
        Err(error) => {
            if let Some(file) = &args.failure {
                fs::write(file, error.to_string().as_bytes())?;
            }
            Err(Diagnostic::tool(error.to_string()))
        }
    }
}

fn shown(command: &[OsString]) -> String {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}
