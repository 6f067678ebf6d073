//! `debug`: the parts that other commands rest on, to be tried by hand and by tests.

mod repro;

use std::path::Path;

use crate::adapters::dvc::hash::Hasher;
use crate::adapters::{clock, fs};
use crate::cli::{Cli, DebugCommand, HashArgs, manual};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path;
use crate::exit::Exit;
use crate::output::json;
use crate::state::hash_memo::Memo;
use crate::state::home::ProjectHome;

pub(crate) fn run(cli: &Cli, command: &DebugCommand) -> Result<Exit, Diagnostic> {
    match command {
        DebugCommand::Hash(args) => hash(cli, args),
        DebugCommand::Man { folder } => man(folder),
        DebugCommand::Repro(args) => repro::run(cli, args),
    }
}

/// Writes the man pages.
fn man(folder: &Path) -> Result<Exit, Diagnostic> {
    for (name, text) in manual::pages(&Cli::whole()) {
        fs::write(&folder.join(name), &text)?;
    }
    Ok(Exit::Success)
}

/// Prints the hash of a path as JSON.
fn hash(cli: &Cli, args: &HashArgs) -> Result<Exit, Diagnostic> {
    let home = ProjectHome::find(cli.directory.as_deref())?;
    let memo = Memo::load(home.fanout().hashes(), &home.root, clock::nanoseconds());
    let path = path::resolve(&home.root.display().to_string(), &home.cwd, &args.path);
    let hashed = Hasher::new(&home.root, &memo).hash(&path, args.name);
    let hashed = hashed.map_err(|error| Diagnostic::project("it cannot be hashed").source(&error))?;
    let hashed = hashed.ok_or_else(|| Diagnostic::usage(format!("there is nothing at `{}`", args.path)))?;
    json::hash(&hashed);
    Ok(Exit::Success)
}
