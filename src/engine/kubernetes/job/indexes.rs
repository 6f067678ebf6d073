//! Lists of completion indexes as in a Job's status: `0,3-5,9`.

use std::ops::RangeInclusive;

/// A completion index: which part of a Job a pod does, from 0.
pub(crate) type CompletionIndex = u32;

/// Ascending, disjoint ranges; 100,000 finished indexes in one range cost as much as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexSet(Vec<RangeInclusive<CompletionIndex>>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an ascending list of indexes such as `0,3-5`")]
pub(crate) struct IndexSetError(String);

impl IndexSet {
    /// Reads `completedIndexes` or `failedIndexes`; `""` is the empty set.
    pub(crate) fn parse(text: &str) -> Result<Self, IndexSetError> {
        let mut ranges: Vec<RangeInclusive<CompletionIndex>> = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) if first <= last => first..=last,
                _ => return Err(IndexSetError(part.to_owned())),
            };
            match ranges.last_mut() {
                Some(before) if range.start() <= before.end() => return Err(IndexSetError(part.to_owned())),
                Some(before) if *range.start() == before.end() + 1 => *before = *before.start()..=*range.end(),
                _ => ranges.push(range),
            }
        }
        Ok(IndexSet(ranges))
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.iter().fold(0, |all, range| all.saturating_add((range.end() - range.start()).saturating_add(1)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = CompletionIndex> + '_ {
        self.0.iter().cloned().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[CompletionIndex]) {
        let set = IndexSet::parse(text).expect("a list");
        assert_eq!(set.iter().collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn lists_are_read_as_the_job_controller_writes_them() {
        check("", &[]);
        check("0", &[0]);
        check("0,1", &[0, 1]);
        check("0,3-5,9", &[0, 3, 4, 5, 9]);
        for wrong in [",", "a", "1-", "5-3", "1,1", "3,2", "1-3,2", "-1"] {
            assert!(IndexSet::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Writes a list as the Job controller does: runs of three or more as `a-b`, two neighbours as `a,b`.
    fn written(indexes: &[CompletionIndex]) -> String {
        let runs = indexes.chunk_by(|a, b| a + 1 == *b);
        let parts = runs.flat_map(|run| match run {
            [first, _, .., last] => vec![format!("{first}-{last}")],
            short => short.iter().map(ToString::to_string).collect(),
        });
        parts.collect::<Vec<_>>().join(",")
    }

    proptest! {
        #[test]
        fn what_the_controller_writes_comes_back(indexes in prop::collection::btree_set(0u32..60, 0..40)) {
            let indexes: Vec<_> = indexes.into_iter().collect();
            let set = IndexSet::parse(&written(&indexes)).expect("a list");
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), indexes);
        }
    }
}
