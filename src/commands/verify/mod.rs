//! `verify`: the promise, checked on the user's own project. In copies of it `dvc repro` and `dvc-fanout run` do the same
//! stages, and what both have left is compared; where something differs, a second `dvc repro` tells whether DVC differs
//! from itself.

mod copy;
mod ends;
mod left;
mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::fs;
use crate::adapters::process::{self, Program};
use crate::cli::verify::VerifyArgs;
use crate::cli::{Cli, Format};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::graph::target::{self, TargetOptions};
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::env;
use crate::exit::Exit;
use crate::output::text::{self, count};
use crate::output::verify::{self as output, Verified};
use crate::state::home::ProjectHome;
use copy::Copying;
use ends::Ends;
use left::Left;
use sample::Sample;

/// Lines of a program that failed that are shown.
const SAID_LINES: usize = 15;

pub(crate) fn run(cli: &Cli, args: &VerifyArgs) -> Result<Exit, Diagnostic> {
    let home = ProjectHome::find(cli.directory.as_deref())?;
    let dvc = Dvc::find()?;
    let files = DiskFiles::open(&home.root, home.config.no_scm)?;
    let project = Project::load(&files, &home.config)?;
    let graph = Graph::build(&project)?;
    let options = TargetOptions { all_pipelines: args.targets.is_empty(), ..TargetOptions::default() };
    let order = target::select(&project, &files, &graph, &home.cwd, &args.targets, options)?;
    let locks = sample::locks(&home, &project);
    let sample = Sample::choose(&project, &graph, &order, args.sample.get(), &|out| copy::is_there(&home, &locks, out));
    if sample.chosen.is_empty() {
        return Err(nothing(&sample));
    }
    // It listens until the copies are gone.
    let ends = Ends::listen()?;
    let scratch = Scratch::make(args)?;
    let bench = Bench {
        home: &home,
        project: &project,
        graph: &graph,
        sample: &sample,
        dvc: &dvc,
        args,
        scratch: &scratch,
        ends: &ends,
    };
    let verified = bench.verify(&locks)?;
    match cli.format {
        Format::Text => text::result(&output::text(&verified)),
        Format::Json => text::result(&output::json(&verified)),
    }
    if verified.differences.is_empty() && !args.keep {
        return Ok(Exit::Success);
    }
    let kept = scratch.keep();
    text::note(&format!("the copies are in `{}`", kept.display()));
    if verified.differences.is_empty() {
        return Ok(Exit::Success);
    }
    let (one, other) = (kept.join("dvc"), kept.join("fanout"));
    Err(Diagnostic::internal("`dvc-fanout run` left something else than `dvc repro`, which left the same twice")
        .hint(format!("look at both sides: `diff -r {} {}`", one.display(), other.display()))
        .hint("report this as a bug, if the command is deterministic: it may have come out the same twice by chance"))
}

fn nothing(sample: &Sample) -> Diagnostic {
    let diagnostic = Diagnostic::project("there is no stage that could be compared");
    let lines = sample.left_out.iter().take(SAID_LINES).map(|(stage, why)| format!("{stage}: {why}"));
    lines.fold(diagnostic, Diagnostic::detail)
}

/// The folder of the copies, which goes unless it is kept.
struct Scratch {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Scratch {
    fn make(args: &VerifyArgs) -> Result<Scratch, Diagnostic> {
        let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let parent = std::path::absolute(&parent).unwrap_or(parent);
        if !parent.is_dir() {
            return Err(Diagnostic::usage(format!("`{}` is no folder", parent.display()))
                .hint("make it, or name another with `--scratch DIR`"));
        }
        let folder = fs::temporary_dir(&parent).map_err(|error| copy::cannot_copy(&error))?;
        let path = folder.path().canonicalize().unwrap_or_else(|_| folder.path().to_owned());
        Ok(Scratch { folder, path })
    }

    fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// What a verification works with.
struct Bench<'a> {
    home: &'a ProjectHome,
    project: &'a Project,
    graph: &'a Graph,
    sample: &'a Sample,
    dvc: &'a Dvc,
    args: &'a VerifyArgs,
    scratch: &'a Scratch,
    ends: &'a Ends,
}

impl Bench<'_> {
    fn verify(&self, locks: &sample::Locks) -> Result<Verified, Diagnostic> {
        let copying = Copying::new(self.home, self.project, self.graph, self.sample, locks, self.ends)?;
        let copy = |name: &str| copying.make(&self.scratch.path.join(name));
        let (serial, fanned) = (copy("dvc")?, copy("fanout")?);
        text::note(&format!("`dvc repro` does {} in a copy", count(self.sample.chosen.len(), "stage")));
        let by_dvc = self.run(&self.repro(), "dvc", &serial)?;
        text::note("`dvc-fanout run` does the same in another copy");
        let by_fanout = self.run(&self.fanout()?, "fanout", &fanned)?;
        let mut verified = Verified {
            compared: self.sample.chosen.iter().map(|stage| self.address(*stage)).collect(),
            left_out: self.sample.left_out.clone(),
            ..Verified::default()
        };
        if let (Err(one), Err(_)) = (&by_dvc, &by_fanout) {
            return Err(one.clone().hint("repair the stage first: it fails in a copy of the project, whoever runs it"));
        }
        let left = |root: &Path| Left::of(&copying.top(root), root, &|| self.ends.look());
        let (one, other) = (left(&serial)?, left(&fanned)?);
        let mut differing = one.differences(&other);
        for (ended, by, name) in [(&by_dvc, "dvc repro", "DVC"), (&by_fanout, "dvc-fanout run", "dvc-fanout")] {
            if let Err(error) = ended {
                differing.insert(format!("`{by}` fails"), format!("only {name} does: {}", said(error)));
            }
        }
        if differing.is_empty() {
            return Ok(verified);
        }
        text::note("something differs; `dvc repro` does it once more, to see whether DVC differs from itself");
        let again = copy("again")?;
        let ended = self.run(&self.repro(), "again", &again)?;
        let mut unstable = one.differences(&left(&again)?);
        if by_dvc.is_ok() != ended.is_ok() {
            unstable.insert("`dvc repro` fails".to_owned(), "only sometimes".to_owned());
        }
        self.tell_apart(differing, &unstable, &mut verified);
        Ok(verified)
    }

    /// Tells what comes of stages that are not deterministic from what is this program's.
    fn tell_apart(
        &self,
        differing: BTreeMap<String, String>,
        unstable: &BTreeMap<String, String>,
        verified: &mut Verified,
    ) {
        let mut stages = BTreeSet::new();
        for (name, value) in unstable {
            if let Some(stage) = self.stage_of(name) {
                verified.not_deterministic.entry(format!("`{stage}`")).or_default().push(format!("{name}: {value}"));
                stages.insert(stage);
            } else if !left::is_in_cache(name) {
                verified.not_deterministic.insert(name.clone(), vec![]);
            }
        }
        // Objects have the names of their contents: those of such stages have others each time.
        verified.without_cache = !unstable.is_empty();
        for (name, value) in differing {
            let is_unstable = unstable.contains_key(&name)
                || self.stage_of(&name).is_some_and(|stage| stages.contains(&stage))
                || (verified.without_cache && left::is_in_cache(&name));
            if !is_unstable {
                verified.differences.push(format!("{name}: {value}"));
            }
        }
    }

    /// The stage that made what has this name in a list.
    fn stage_of(&self, name: &str) -> Option<String> {
        let made = self.sample.chosen.iter().find(|stage| left::is_of(name, &self.project.stages[**stage]));
        made.map(|stage| self.address(*stage))
    }

    fn address(&self, stage: StageIndex) -> String {
        self.project.stages[stage].address_from(&self.project.root, &self.home.cwd)
    }

    /// The stages, as they are named at the root of a copy.
    fn targets(&self) -> impl Iterator<Item = &str> {
        self.sample.chosen.iter().map(|stage| self.project.stages[*stage].address.0.as_str())
    }

    fn repro(&self) -> Program {
        let program = self.dvc.command(&["repro", "--force", "--single-item"]);
        self.targets().fold(program, Program::arg)
    }

    fn fanout(&self) -> Result<Program, Diagnostic> {
        let own = process::own_path().map_err(|error| Diagnostic::tool("cannot find this program").source(&error))?;
        let words = ["run", "--force", "--single-item", "--engine", "local"];
        let mut program = words.iter().fold(Program::new(own), |program, word| program.arg(*word));
        if let Some(jobs) = self.args.jobs {
            program = program.arg("--jobs").arg(jobs.to_string());
        }
        Ok(self.targets().fold(program, Program::arg))
    }

    /// Runs a program in a copy; what it says goes into a file beside that. The inner error is the program's own.
    fn run(&self, program: &Program, name: &str, root: &Path) -> Result<Result<(), Diagnostic>, Diagnostic> {
        let site_cache = self.scratch.path.join(format!("{name}.site-cache"));
        let program = program.clone().env(env::DVC_SITE_CACHE_DIR, site_cache);
        let shown = format!("cannot run `{}`", program.shown());
        let output = self.ends.output(&program, root)?.map_err(|error| Diagnostic::tool(shown).source(&error))?;
        let log = self.scratch.path.join(format!("{name}.log"));
        fs::write_plain(&log, &[output.stdout.as_slice(), &output.stderr].concat())?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let lines: Vec<&str> = words.lines().collect();
        let last = lines[lines.len().saturating_sub(SAID_LINES)..].iter().copied();
        let what = if name == "fanout" { "dvc-fanout run" } else { "dvc repro" };
        let error = Diagnostic::new(Exit::WorkItemsFailed, format!("`{what}` failed in a copy of the project"));
        Ok(Err(last.fold(error, Diagnostic::detail)))
    }
}

/// The last words of a program that failed.
fn said(error: &Diagnostic) -> &str {
    error.detail.last().map_or(error.message.as_str(), String::as_str)
}
