//! Where Slurm writes what tasks print: a worker until it has its log, and `slurmstepd` about it.

use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::state::paths::RunDir;

/// What `--job-output` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Output {
    /// One file for all tasks of an array: thousands of small ones would be too many for a quota.
    #[default]
    Array,
    Task,
    /// As for `sbatch --output`.
    Pattern(String),
}

impl Output {
    pub(super) fn read(text: &str) -> Result<Output, Diagnostic> {
        let is_path = |text: &str| text.contains('/') || text.contains('%');
        match text {
            "array" => Ok(Output::Array),
            "task" => Ok(Output::Task),
            text if is_path(text) && folder(text).is_some() => Ok(Output::Pattern(text.to_owned())),
            text if is_path(text) => Err(Diagnostic::usage(format!("`--job-output {text}` names many folders"))
                .cause("Slurm makes none: a task whose folder is not there fails without a word")
                .hint("use `%` in the name of the file alone")),
            text => Err(Diagnostic::usage(format!("`--job-output {text}` is neither `array`, `task` nor a path"))
                .hint(format!("`./{text}` is a path"))),
        }
    }

    /// What `sbatch` is told of an array.
    pub(super) fn pattern(&self, run: &RunDir, array: &str) -> String {
        match self {
            Output::Array => run.job_output(array).display().to_string(),
            Output::Task => run.job_output(&format!("{array}-%a")).display().to_string(),
            Output::Pattern(pattern) => pattern.clone(),
        }
    }

    /// The folder that has to be there before a task starts, where it is not the run's own.
    pub(super) fn folder(&self, project: &Path) -> Option<PathBuf> {
        match self {
            Output::Array | Output::Task => None,
            Output::Pattern(pattern) => folder(pattern).map(|folder| project.join(folder)),
        }
    }

    /// The file of a task, and whether it is its own; `None` where only Slurm knows.
    pub(super) fn file(&self, run: &RunDir, project: &Path, task: &TaskName<'_>) -> Option<(PathBuf, bool)> {
        match self {
            Output::Array => Some((run.job_output(task.array), false)),
            Output::Task => Some((run.job_output(&format!("{}-{}", task.array, task.shard)), true)),
            Output::Pattern(pattern) => {
                let name = filled(pattern, task)?;
                Some((project.join(name), pattern.contains("%a")))
            }
        }
    }
}

/// A task as file names call it.
pub(super) struct TaskName<'a> {
    /// The array's name.
    pub array: &'a str,
    /// The array's id, where it is known.
    pub id: Option<u64>,
    pub shard: usize,
}

/// The folder of a pattern; `None` where that is a pattern as well.
fn folder(pattern: &str) -> Option<&Path> {
    let folder = Path::new(pattern).parent()?;
    (!folder.to_string_lossy().contains('%')).then_some(folder)
}

/// A pattern of `sbatch` as Slurm fills it in; `None` where it has parts that are not known here.
fn filled(pattern: &str, task: &TaskName<'_>) -> Option<String> {
    let mut parts = pattern.split('%');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (width, rest) = part.split_at(digits);
        let mut rest = rest.chars();
        let width: usize = if width.is_empty() { 0 } else { width.parse().ok()? };
        match rest.next()? {
            'A' => text.push_str(&format!("{:0width$}", task.id?)),
            'a' => text.push_str(&format!("{:0width$}", task.shard)),
            'x' if width == 0 => text.push_str(task.array),
            _ => return None,
        }
        text.push_str(rest.as_str());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled_in_as_slurm_does() {
        #[track_caller]
        fn check(pattern: &str, wanted: Option<&str>) {
            let task = TaskName { array: "dvcf-r-p0-g1", id: Some(12), shard: 3 };
            assert_eq!(filled(pattern, &task).as_deref(), wanted, "{pattern}");
        }
        check("logs/%A_%a.out", Some("logs/12_3.out"));
        check("/x/%x-%3a", Some("/x/dvcf-r-p0-g1-003"));
        check("plain", Some("plain"));
        for unknown in ["%j.out", "%N-%a", "%%", "a%", "%5x"] {
            check(unknown, None);
        }
    }

    #[test]
    fn a_pattern_is_told_from_the_words() {
        assert_eq!(Output::read("array").ok(), Some(Output::Array));
        assert_eq!(Output::read("task").ok(), Some(Output::Task));
        assert_eq!(Output::read("logs/%A.out").ok(), Some(Output::Pattern("logs/%A.out".to_owned())));
        assert_eq!(Output::read("%A.out").ok(), Some(Output::Pattern("%A.out".to_owned())));
        assert!(Output::read("tasks").is_err() && Output::read("%A/out").is_err());
    }
}
