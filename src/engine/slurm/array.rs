//! Names and index lists of job arrays. Pure.

use crate::engine::remote::classes::digest;

/// The longest name; Slurm takes more, but shows it to people.
const NAME_MAX: usize = 64;
/// What all names of arrays begin with.
const PREFIX: &str = "dvcf";
/// The most indexes that one line of `squeue` may stand for; no cluster has larger arrays.
const INDEXES_MAX: usize = 4_000_001;

/// The beginning of the names of a phase's arrays.
pub(super) fn phase_name(run: &str, phase: usize) -> String {
    format!("{}-p{phase}-", run_name(run))
}

/// The name of the job that launches a run from within the cluster.
pub(super) fn controller(run: &str) -> String {
    format!("{}-controller", run_name(run))
}

fn run_name(run: &str) -> String {
    let plain: String =
        run.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let kept = if plain == run && run.len() <= NAME_MAX / 2 {
        plain
    } else {
        let digest: String = digest(run).chars().take(8).collect();
        format!("{}-{digest}", plain.chars().take(NAME_MAX / 2 - 9).collect::<String>())
    };
    format!("{PREFIX}-{kept}")
}

/// The name of an array. It is how the array is found again: Slurm gives the same id to another job after a crash.
pub(super) fn name(run: &str, phase: usize, class: Option<&str>, generation: u32, chunk: usize) -> String {
    let class = class.map_or_else(String::new, |class| format!("{class}-"));
    let chunk = if chunk == 0 { String::new() } else { format!("-c{chunk}") };
    format!("{}{class}g{generation}{chunk}", phase_name(run, phase))
}

/// Reads the indexes of a line of `squeue`: `3`, `0-4`, `0-400:2`, `0,2,5-7`, each also with a throttle as in `5-19%5`.
/// Returns `None` where there are none, as in `N/A`.
pub(super) fn parse(text: &str) -> Option<Vec<usize>> {
    let list = text.split_once('%').map_or(text, |(list, _)| list);
    let mut indexes = vec![];
    for part in list.split(',') {
        let (range, step) = part.split_once(':').map_or((part, "1"), |(range, step)| (range, step));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last, step): (usize, usize, usize) = (first.parse().ok()?, last.parse().ok()?, step.parse().ok()?);
        if step == 0 || last < first || (last - first) / step + indexes.len() >= INDEXES_MAX {
            return None;
        }
        indexes.extend((first..=last).step_by(step));
    }
    Some(indexes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_index_lists_are_read() {
        #[track_caller]
        fn check(text: &str, indexes: &[usize]) {
            assert_eq!(parse(text).as_deref(), Some(indexes), "{text}");
        }
        check("3", &[3]);
        check("0-3", &[0, 1, 2, 3]);
        check("0-8:4", &[0, 4, 8]);
        check("0,2,5-7%3", &[0, 2, 5, 6, 7]);
        check("5-6%5", &[5, 6]);
        for bad in ["N/A", "", "1-", "3-1", "0-9:0", "1,x", "0-99999999999", "1-2-3", "0-18446744073709551615"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_say_where_an_array_belongs() {
        assert_eq!(name("20261126-1", 1, None, 1, 0), "dvcf-20261126-1-p1-g1");
        assert_eq!(name("r", 0, Some("a2e907"), 3, 2), "dvcf-r-p0-a2e907-g3-c2");
        assert_ne!(name("a/b", 0, None, 1, 0), name("a-b", 0, None, 1, 0));
        let long = name(&"x".repeat(300), 9999, Some("a2e907"), 99, 999);
        assert!(long.len() <= NAME_MAX, "{long}");
    }
}
