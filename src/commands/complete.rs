//! Completion by the shell: targets, runs and work items of the project at hand.
//!
//! The shell calls the program with `COMPLETE` set; what cannot be read completes to nothing.

use std::path::Path;

use clap::Command;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::adapters::dvc::files::DiskFiles;
use crate::dvc::pipeline::project::Project;
use crate::plan::requests;
use crate::state::home::ProjectHome;
use crate::state::worklist;

/// The most candidates of a kind; a longer list helps nobody.
const MOST: usize = 2_000;

/// Lists candidates; `None` where they cannot be read.
type List = fn() -> Option<Vec<String>>;

/// Arguments by their names, with what completes them.
const COMPLETED: [(&[&str], List); 3] =
    [(&["targets"], targets), (&["run"], runs), (&["item", "items", "only", "explain"], items)];

/// Tells the shell's completion where values come from.
pub(crate) fn with_candidates(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| {
            subcommand.mut_args(|argument| {
                let found = COMPLETED.iter().find(|(ids, _)| ids.contains(&argument.get_id().as_str()));
                match found {
                    Some(&(_, list)) => argument.add(ArgValueCandidates::new(move || candidates(list))),
                    None => argument,
                }
            })
        })
    })
}

fn candidates(list: List) -> Vec<CompletionCandidate> {
    list().unwrap_or_default().into_iter().take(MOST).map(CompletionCandidate::new).collect()
}

fn home() -> Option<ProjectHome> {
    ProjectHome::at(Path::new(".")).ok()
}

/// Templates, then stages.
fn targets() -> Option<Vec<String>> {
    let home = home()?;
    let files = DiskFiles::open(&home.root, home.config.no_scm).ok()?;
    let project = Project::load(&files, &home.config).ok()?;
    let mut targets: Vec<String> = project.stages.iter().filter_map(requests::template).collect();
    targets.dedup();
    targets.extend(project.stages.iter().map(|stage| stage.address_from(&project.root, &home.cwd)));
    Some(targets)
}

fn runs() -> Option<Vec<String>> {
    let mut runs = worklist::runs(&home()?.fanout()).ok()?;
    runs.reverse();
    Some(runs)
}

fn items() -> Option<Vec<String>> {
    let (run, _) = worklist::open_to_show(&home()?.fanout(), None).ok()?;
    Some(worklist::read_all(&run).ok()?.into_iter().map(|item| item.id).collect())
}
