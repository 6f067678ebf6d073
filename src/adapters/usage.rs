//! What the children of this process use of the machine, as the kernel counts it.

use std::fs;

use crate::adapters::process::descendants;

/// Ticks of a second in `/proc/PID/stat`; the kernel shows the same everywhere.
const TICKS: f64 = 100.0;

/// The CPU time, in seconds, of all children so far: of those that have ended, and of those that run.
pub(crate) fn children_cpu_seconds() -> f64 {
    let ended = times("self").map_or(0, |[_, _, user, system]| user + system);
    let children = descendants::children().into_iter().map(|child| child.as_raw_nonzero().to_string());
    let running: u64 = children.filter_map(|id| times(&id)).map(|times| times.iter().sum::<u64>()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a number of hundredths of a second")]
    let ticks = (ended + running) as f64;
    ticks / TICKS
}

/// The ticks of a process in user and system mode, and those of the children that it has waited for.
fn times(id: &str) -> Option<[u64; 4]> {
    times_in(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

fn times_in(stat: &str) -> Option<[u64; 4]> {
    // The name of a program may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<u64> = fields.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    fields.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 11 12 13 14 20 0 1 0 99\n";
        assert_eq!(times_in(stat), Some([11, 12, 13, 14]));
        assert_eq!(times_in("42 (cut"), None);
        assert!(times("self").is_some() && children_cpu_seconds() >= 0.0);
    }
}
