//! `--commit` and `--push`: what runs changed becomes a commit, and nothing else does.
//!
//! `collect` notes every file that it is about to change. A commit takes those that differ from HEAD, so that one which
//! was refused (by a hook, for want of an identity) is made by the next command that is asked to. What the user has
//! staged stays staged, and what the user has changed stays changed.

use std::collections::HashSet;
use std::path::Path;

use crate::adapters::dvc::Dvc;
use crate::adapters::fs;
use crate::adapters::git::Git;
use crate::adapters::process::{self, Program};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::path;
use crate::output::text::{self, count};
use crate::state::home::ProjectHome;
use crate::state::uncommitted::{self, Uncommitted};

/// Lines of a failed step that are shown.
const SAID_LINES: usize = 12;

/// Commits what runs changed, and pushes where asked to, each step only after the one before. A message that is empty
/// names the run.
pub(crate) fn commit(project: &ProjectHome, run: &str, message: &str, push: bool) -> Result<(), Diagnostic> {
    let (git, _) = project.git()?;
    let fanout = project.make_fanout()?;
    let known = uncommitted::still(&git, uncommitted::read(&fanout)?)?;
    let top = git.workdir();
    let mut changed = dirty(&git)?;
    changed.retain(|(path, _)| known.contains_key(path));
    if changed.is_empty() {
        text::note("nothing to commit");
    } else {
        let list = |name: &str, paths: &mut dyn Iterator<Item = &str>| -> Result<Program, Diagnostic> {
            let file = fanout.commit().join(name);
            let paths: String = paths.flat_map(|path| [path, "\0"]).collect();
            fs::write(&file, paths.as_bytes())?;
            let git = Program::new("git").arg("--literal-pathspecs");
            let from = format!("--pathspec-from-file={}", file.display());
            Ok(git.arg(name).arg(from).arg("--pathspec-file-nul"))
        };
        // A commit of certain paths takes only those that git knows.
        let mut new = changed.iter().filter(|(_, is_new)| *is_new).map(|(path, _)| path.as_str()).peekable();
        if new.peek().is_some() {
            step(&list("add", &mut new)?, top)?;
        }
        let message = if message.is_empty() { format!("Run {run} with dvc-fanout") } else { message.to_owned() };
        let program = list("commit", &mut changed.iter().map(|(path, _)| path.as_str()))?;
        step(&program.arg("--quiet").arg("--only").arg("--message").arg(message), top)?;
        fs::remove(&fanout.commit())?;
        text::note(&format!("committed {}", count(changed.len(), "changed file")));
    }
    uncommitted::write(&fanout, &Uncommitted::new())?;
    if push {
        step(&Dvc::find()?.command(&["push"]), &project.root)?;
        step(&Program::new("git").arg("push"), &project.root)?;
    }
    Ok(())
}

/// The files that differ from HEAD, from the top of the work tree, each with whether git does not know it yet.
fn dirty(git: &Git) -> Result<Vec<(String, bool)>, Diagnostic> {
    // What is untracked git finds itself too, but it tries each line of a `.gitignore` on each out.
    let status = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=all"];
    let program = status.into_iter().fold(Program::new("git").arg("--no-optional-locks"), Program::arg);
    let said = said_by(&program, git.workdir(), "")?;
    // `XY path`, where X is the index and Y the work tree.
    let path = |entry: &str| Some((entry.get(3..)?.to_owned(), false));
    let mut dirty: Vec<(String, bool)> = said.split('\0').filter_map(path).collect();
    dirty.extend(git.untracked()?.into_iter().map(|path| (path, true)));
    Ok(dirty)
}

/// Runs a step of what ends a run.
fn step(program: &Program, directory: &Path) -> Result<(), Diagnostic> {
    said_by(program, directory, "; the steps before it are done")
        .map(drop)
        .map_err(|error| error.hint("the next `dvc-fanout run` or `finalize` with the same flags resumes from here"))
}

/// Runs a program and returns all that it wrote; where it fails, `when` goes on from "failed".
pub(crate) fn said_by(program: &Program, directory: &Path, when: &str) -> Result<String, Diagnostic> {
    let output = process::output(program, Some(directory))
        .map_err(|error| Diagnostic::tool(format!("cannot run `{}`", program.shown())).source(&error))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(said);
    }
    let lines: Vec<&str> = said.lines().collect();
    let last = &lines[lines.len().saturating_sub(SAID_LINES)..];
    let diagnostic = Diagnostic::tool(format!("`{}` failed{when}", program.shown()));
    Err(last.iter().copied().fold(diagnostic, Diagnostic::detail))
}

/// What a program that is not this one changes, found by looking before and after.
///
/// Where git cannot tell (no repository, another user's, no `git` program) nothing is noted: then a commit fails too.
pub(crate) struct Watched {
    before: Option<Stamps>,
}

type Stamps = Vec<(String, Option<Stamp>)>;

/// Size, inode and times of change: another one is another content.
type Stamp = (u64, u64, i64, i64);

impl Watched {
    pub(crate) fn begin(project: &ProjectHome) -> Result<Watched, Diagnostic> {
        let before = if project.config.no_scm { None } else { stamps(&project.git()?.0).ok() };
        Ok(Watched { before })
    }

    /// Notes what has changed since, and returns it.
    pub(crate) fn end(self, project: &ProjectHome) -> Result<Vec<String>, Diagnostic> {
        let Some(before) = self.before else { return Ok(vec![]) };
        let (git, prefix) = project.git()?;
        let Ok(after) = stamps(&git) else { return Ok(vec![]) };
        let before: HashSet<_> = before.iter().collect();
        let changed = after.iter().filter(|entry| !before.contains(entry)).map(|(path, _)| path.as_str());
        let changed: Vec<String> = changed.filter_map(|path| path::inside(&prefix, path)).map(str::to_owned).collect();
        uncommitted::note(project, &changed.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(changed)
    }
}

fn stamps(git: &Git) -> Result<Stamps, Diagnostic> {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |path: &String| {
        let found = git.workdir().join(path).symlink_metadata().ok()?;
        Some((found.size(), found.ino(), found.ctime(), found.ctime_nsec()))
    };
    Ok(dirty(git)?.into_iter().map(|(path, _)| (path.clone(), stamp(&path))).collect())
}
