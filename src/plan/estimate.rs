//! What a run will take, as far as earlier ones tell. Pure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::dvc::lockfile::EntryRef;
use crate::state::format::WorkItem;

/// What a run will take.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// On so many slots, the longest work items first; work items that are not known take what others of their phase do on
    /// average.
    pub duration: Duration,
    pub slots: usize,
    /// The number of work items whose duration is known.
    pub known: usize,
    /// The longest of these.
    pub longest: (String, Duration),
    /// The bytes of all outs as they were last recorded.
    pub bytes: u64,
}

impl Estimate {
    /// Estimates from the seconds of earlier work items by id; `None` where none of these is known.
    pub(crate) fn of(items: &[WorkItem], before: &HashMap<String, f64>, slots: usize) -> Option<Estimate> {
        let known = || {
            let seconds = |item: &WorkItem| Duration::try_from_secs_f64(*before.get(&item.id)?).ok();
            items.iter().filter_map(move |item| Some((item, seconds(item)?)))
        };
        let (longest, its_duration) = known().max_by_key(|(_, duration)| *duration)?;
        let phases = items.iter().map(|item| item.phase).max()?;
        let total = (0..=phases).map(|phase| {
            let known: Vec<Duration> =
                known().filter(|(item, _)| item.phase == phase).map(|(_, duration)| duration).collect();
            let unknown = items.iter().filter(|item| item.phase == phase).count() - known.len();
            makespan(known, unknown, slots)
        });
        Some(Estimate {
            duration: total.sum(),
            slots,
            known: known().count(),
            longest: (longest.id.clone(), its_duration),
            bytes: items.iter().map(bytes).sum(),
        })
    }
}

/// What work items of one phase take, each in the slot that is free first.
fn makespan(mut known: Vec<Duration>, unknown: usize, slots: usize) -> Duration {
    let average = known.iter().sum::<Duration>() / u32::try_from(known.len()).unwrap_or(u32::MAX).max(1);
    known.extend(std::iter::repeat_n(average, unknown));
    known.sort_unstable_by_key(|duration| Reverse(*duration));
    let mut free = BinaryHeap::from(vec![Reverse(Duration::ZERO); slots.max(1)]);
    for duration in known {
        if let Some(mut first) = free.peek_mut() {
            first.0 += duration;
        }
    }
    free.into_iter().map(|Reverse(end)| end).max().unwrap_or_default()
}

/// The bytes of a work item's outs by the lock entries that its stages had.
fn bytes(item: &WorkItem) -> u64 {
    let entries = item.stages.iter().filter_map(|stage| Some((stage.name.as_ref()?, stage.base.as_ref()?)));
    let outs = entries.filter_map(|(name, text)| Some(EntryRef::of(name, text).parse().ok()?.outs));
    outs.flatten().filter_map(|out| out.recorded.size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_begin_first_and_what_is_not_known_is_average() {
        let makespan = |known: &[u64], unknown, slots| {
            makespan(known.iter().map(|seconds| Duration::from_secs(*seconds)).collect(), unknown, slots).as_secs()
        };
        assert_eq!(makespan(&[1, 1, 2], 0, 2), 2);
        assert_eq!(makespan(&[3, 1], 2, 2), 4);
        assert_eq!(makespan(&[], 5, 2), 0);
        assert_eq!(makespan(&[2], 0, 0), 2);
    }
}
