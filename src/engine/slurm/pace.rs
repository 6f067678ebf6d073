//! How often Slurm is asked.

use std::time::Duration;

use crate::adapters::clock;

/// The first pause between two questions, and the shortest.
pub(super) const FIRST: Duration = Duration::from_secs(5);

/// The pause until the next question. While tasks end all the time, it is a tenth of the time so far: nobody waits much longer
/// for that, and what takes hours is not asked about every few seconds.
pub(super) fn next(last: Duration, has_changed: bool, so_far: Duration) -> Duration {
    if has_changed { (so_far / 10).max(FIRST) } else { last * 2 }
}

/// A pause of about this length, so that not all launchers of a site ask at the same time.
pub(super) fn jittered(pause: Duration) -> Duration {
    let percent = 80 + u32::try_from(clock::nanoseconds() / 1000 % 41).unwrap_or(20);
    pause * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rarer_the_longer_it_takes() {
        let seconds = |last: u64, has_changed: bool, so_far: u64| {
            next(Duration::from_secs(last), has_changed, Duration::from_secs(so_far)).as_secs()
        };
        assert_eq!((seconds(5, false, 5), seconds(20, true, 40), seconds(40, true, 3600)), (10, 5, 360));
    }
}
