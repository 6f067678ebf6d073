//! `debug repro`: what `dvc repro` does, in place, by the executor that workers use.

use std::path::Path;

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::dvc::store::Store;
use crate::adapters::process::{self, Ending, Program};
use crate::cli::{Cli, ReproArgs};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::graph::target::{self, TargetOptions};
use crate::dvc::pipeline::project::Project;
use crate::exit::Exit;
use crate::model::executor::Executor as Choice;
use crate::native::repro::{self, Executor, Locks, Turn};
use crate::native::{Became, Commands, Ignores, Interrupted, Log, OnFailure, Options, ParamsMemory, Place, Shell};
use crate::output::text;
use crate::state::home::ProjectHome;

/// The code that DVC exits with where stages failed.
const FAILED: u8 = 255;

pub(crate) fn run(cli: &Cli, args: &ReproArgs) -> Result<Exit, Diagnostic> {
    let home = ProjectHome::find(cli.directory.as_deref())?;
    match native(&home, args) {
        Ok(exit) => Ok(exit),
        Err(Instead::Fail(diagnostic)) => Err(diagnostic),
        Err(Instead::Dvc(why)) if args.executor == Choice::Native => {
            Err(Diagnostic::project("only DVC can do this").cause(why))
        }
        Err(Instead::Dvc(why)) => {
            text::note(&format!("DVC does it: {why}"));
            let ending = process::run_here(&whole(args)?, &home.root.join(&home.cwd));
            Ok(exit_of(&ending))
        }
    }
}

/// Why nothing is done here.
enum Instead {
    Dvc(String),
    Fail(Diagnostic),
}

impl<E: Into<Diagnostic>> From<E> for Instead {
    fn from(error: E) -> Self {
        Instead::Fail(error.into())
    }
}

fn native(home: &ProjectHome, args: &ReproArgs) -> Result<Exit, Instead> {
    let for_dvc = |error: Diagnostic| Instead::Dvc(error.one_line());
    if args.executor.is_always_dvc() {
        return Err(Instead::Dvc("it is asked for".to_owned()));
    }
    if home.config.autostage {
        return Err(Instead::Dvc("`core.autostage` is set".to_owned()));
    }
    if let Some(why) = repro::unusual_setting(&home.config, &home.root) {
        return Err(Instead::Dvc(why));
    }
    let files = DiskFiles::open(&home.root, home.config.no_scm).map_err(|error| for_dvc(error.into()))?;
    let project = Project::load(&files, &home.config).map_err(|error| for_dvc(error.into()))?;
    let graph = Graph::build(&project).map_err(|error| for_dvc(error.into()))?;
    let options = TargetOptions {
        all_pipelines: args.all_pipelines,
        single_item: args.single_item && !args.all_pipelines,
        downstream: args.downstream && !args.all_pipelines,
        ..TargetOptions::default()
    };
    let order = target::select(&project, &files, &graph, &home.cwd, &args.targets, options);
    let order = order.map_err(|error| for_dvc(error.into()))?;
    let git = if home.config.no_scm { None } else { Some(home.git()?) };
    let config = &home.config;
    let store = Store::of(config);
    let shell = Shell::find(vec![]);
    let place = Place {
        root: &home.root,
        seen_root: &home.root,
        locks: &home.root,
        root_text: &project.root,
        cwd: &home.cwd,
        store: &store,
        params: &ParamsMemory::default(),
        shell: &shell,
    };
    let locks = Locks::read(&home.root, order.iter().map(|stage| &project.stages[*stage]));
    let turns: Vec<Turn<'_>> = order
        .iter()
        .enumerate()
        .map(|(at, stage)| Turn { stage: &project.stages[*stage], entry: locks.entry(at), unusual: locks.unusual(at) })
        .collect();
    let mut ignores = Ignores::new(&home.root, git.as_ref().map(|(git, prefix)| (git, prefix.as_str())));
    ignores.add_own()?;
    let dependents = |failed: usize| {
        let needs = |at: &usize| graph.upstream(order[*at]).contains(&order[failed]);
        (failed + 1..order.len()).filter(needs).collect()
    };
    let dependents: &dyn Fn(usize) -> Vec<usize> = if args.single_item { &|_| vec![] } else { &dependents };
    let on_failure = match (args.ignore_errors, args.keep_going) {
        (true, _) => OnFailure::Ignore,
        (false, true) => OnFailure::KeepGoing(dependents),
        (false, false) => OnFailure::Stop,
    };
    let done = repro::run(
        &place,
        &turns,
        Options { force: args.force, no_run_cache: args.no_run_cache, no_commit: args.no_commit },
        on_failure,
        &mut ignores,
        &mut Here { args, directory: &home.root.join(&home.cwd) },
        &mut Log(&mut |line| text::line(line)),
    )?;
    let by_dvc = done.stages.iter().flatten().filter(|outcome| outcome.by_dvc.is_some()).count();
    if by_dvc > 0 {
        text::note(&format!("{} done by DVC", text::count(by_dvc, "stage")));
    }
    let has_failed = done.has_failed() && !args.ignore_errors;
    Ok(if has_failed || done.interrupted { Exit::OfProgram(FAILED) } else { Exit::Success })
}

/// Runs everything as this process would run it itself.
struct Here<'a> {
    args: &'a ReproArgs,
    directory: &'a Path,
}

impl Commands for Here<'_> {
    fn run(&mut self, program: &Program, directory: &Path) -> Result<Ending, Interrupted> {
        Ok(process::run_here(program, directory))
    }
}

impl Executor for Here<'_> {
    fn dvc(&mut self, _: usize, address: &str, why: &str) -> Became {
        if self.args.executor == Choice::Native {
            return Became::Failed(format!("only DVC can do it: {why}"));
        }
        let Ok(dvc) = Dvc::find() else { return Became::Failed("there is no `dvc` on the PATH".to_owned()) };
        let mut words = vec!["repro", "--single-item"];
        words.extend(self.args.force.then_some("--force"));
        words.extend(self.args.no_run_cache.then_some("--no-run-cache"));
        words.extend(self.args.no_commit.then_some("--no-commit"));
        words.push(address);
        match process::run_here(&dvc.command(&words), self.directory) {
            Ending::Exited(0) => Became::Ran,
            ending => Became::Failed(format!("`dvc repro` {ending}")),
        }
    }
}

/// The same as a plain `dvc repro`.
fn whole(args: &ReproArgs) -> Result<Program, Diagnostic> {
    let mut words = vec!["repro"];
    for (flag, on) in [
        ("--force", args.force),
        ("--keep-going", args.keep_going),
        ("--all-pipelines", args.all_pipelines),
        ("--single-item", args.single_item),
        ("--no-run-cache", args.no_run_cache),
        ("--no-commit", args.no_commit),
        ("--ignore-errors", args.ignore_errors),
        ("--downstream", args.downstream),
    ] {
        words.extend(on.then_some(flag));
    }
    words.extend(args.targets.iter().map(String::as_str));
    Ok(Dvc::find()?.command(&words))
}

fn exit_of(ending: &Ending) -> Exit {
    match ending {
        Ending::Exited(0) => Exit::Success,
        Ending::Exited(code) => Exit::OfProgram(u8::try_from(*code).unwrap_or(FAILED)),
        Ending::Signalled(signal) => Exit::Signal(u8::try_from(*signal).unwrap_or(15)),
        Ending::NotStarted(_) => Exit::Tool,
    }
}
