//! `merge-driver` and `install-merge-driver`: git merges `dvc.lock` entry by entry.

use std::path::Path;

use crate::adapters::{fs, git_merge};
use crate::cli::{Cli, MergeDriverArgs};
use crate::diagnostic::Diagnostic;
use crate::dvc::lockfile::LockfileError;
use crate::dvc::lockfile::git_merge::{GitMerge, merge_files};
use crate::env;
use crate::exit::Exit;
use crate::output;
use crate::state::home::ProjectHome;

/// The driver's name in `.gitattributes` and in git's configuration.
const DRIVER: &str = "dvc-fanout";
/// Which files it merges: every lock file at or below the project's root.
const PATTERN: &str = "dvc.lock";

/// Merges three versions of a lock file into the file of ours, as gitattributes(5) asks of a driver.
pub(crate) fn run(args: &MergeDriverArgs) -> Result<Exit, Diagnostic> {
    let path = args.path.display();
    match merge(args)? {
        Ok(merged) => {
            fs::write_plain(&args.ours, merged.text.as_bytes())?;
            for stage in &merged.conflicts {
                output::text::note(&format!("conflict: stage `{stage}` of `{path}` changed on both sides"));
            }
            if !merged.conflicts.is_empty() {
                output::text::note("hint: keep either entry of a stage, or none; what does not fit runs again");
            }
            Ok(if merged.conflicts.is_empty() { Exit::Success } else { Exit::ConflictMarkers })
        }
        Err(error) => {
            output::text::note(&format!("warning: `{path}` line {}: {error}; merged by lines instead", error.line));
            let (merged, is_clean) = git_merge::by_lines(&args.base, &args.ours, &args.theirs, args.marker_size)?;
            fs::write_plain(&args.ours, &merged)?;
            Ok(if is_clean { Exit::Success } else { Exit::ConflictMarkers })
        }
    }
}

/// Merges by entries; the inner error is a file that is not for that.
fn merge(args: &MergeDriverArgs) -> Result<Result<GitMerge, LockfileError>, Diagnostic> {
    let read = |path: &Path| fs::read(path).map(String::from_utf8);
    match (read(&args.base)?, read(&args.ours)?, read(&args.theirs)?) {
        (Ok(base), Ok(ours), Ok(theirs)) => Ok(merge_files(&base, &ours, &theirs, args.marker_size)),
        _ => Ok(Err(LockfileError { line: 1, what: "not valid UTF-8".into() })),
    }
}

/// Makes git use the driver in this clone, and says so in `.gitattributes` for all clones.
pub(crate) fn install(cli: &Cli) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    if project.config.no_scm {
        return Err(Diagnostic::usage(
            "git merges with the driver, and the project does without git (`core.no_scm` is set)",
        )
        .hint("run `git init` and `dvc config --unset core.no_scm` first"));
    }
    let command = format!("{} merge-driver %O %A %B %P %L", program()?);
    let config = git_merge::set_driver(&project.root, DRIVER, "DVC lock files, entry by entry", &command)?;
    let attributes = project.root.join(".gitattributes");
    let text = fs::read_text_if_any(&attributes)?.unwrap_or_default();
    match with_attribute(&text) {
        Some(text) => {
            fs::write(&attributes, text.as_bytes())?;
            output::text::result(&format!("`.gitattributes` says now that {DRIVER} merges every `{PATTERN}`"));
        }
        None => output::text::result(&format!("`.gitattributes` says already that {DRIVER} merges every `{PATTERN}`")),
    }
    output::text::result(&format!("`{}` holds the command; run this in other clones too", config.display()));
    Ok(Exit::Success)
}

/// Adds the attribute to the text of a `.gitattributes`; `None` where it has it.
fn with_attribute(text: &str) -> Option<String> {
    let line = format!("{PATTERN} merge={DRIVER}");
    if text.lines().any(|other| other.split_whitespace().eq(line.split_whitespace())) {
        return None;
    }
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Some(format!("{text}{separator}{line}\n"))
}

/// This program as a shell finds it: by its name where the `PATH` leads to it, else by its path.
fn program() -> Result<String, Diagnostic> {
    let here = std::env::current_exe()
        .and_then(|path| path.canonicalize())
        .map_err(|error| Diagnostic::tool("cannot find this program's own path").source(&error))?;
    let name = "dvc-fanout";
    let path = env::read(env::PATH).unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find_map(|path| path.canonicalize().ok());
    Ok(if found.as_deref() == Some(here.as_path()) { name.to_owned() } else { quote(&here) })
}

/// Quotes a path for the shell that git starts drivers with.
fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_is_added_once() {
        let once = with_attribute("*.png binary").expect("it is new");
        assert_eq!(once, "*.png binary\ndvc.lock merge=dvc-fanout\n");
        assert_eq!(with_attribute(&once), None);
        assert_eq!(with_attribute("").as_deref(), Some("dvc.lock merge=dvc-fanout\n"));
    }

    #[test]
    fn a_path_is_quoted_for_the_shell() {
        assert_eq!(quote(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
