//! How the work items of one cluster job are dealt out to its indexes.

use crate::state::shards::{ShardItem, Shards};

/// Up to here every work item has an index of its own.
const MOST_SINGLE: usize = 500;
/// Shards for each worker beyond that.
const PER_WORKER: usize = 8;

/// Deals items out: one a shard up to `MOST_SINGLE`, beyond that a few shards for each worker, so that cluster
/// bookkeeping stays small and the last shards still end at about the same time.
pub(crate) fn deal(items: Vec<ShardItem>, workers: usize, retry_commands: bool) -> Shards {
    let count = items.len().min(MOST_SINGLE.max(workers.saturating_mul(PER_WORKER)));
    Shards { count, items, retry_commands }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::numbers::{AttemptNumber, ItemIndex};

    #[track_caller]
    fn check(items: usize, workers: usize, count: usize) {
        let all: Vec<ShardItem> =
            ItemIndex::each(0..items).map(|index| ShardItem { index, attempt: AttemptNumber::FIRST }).collect();
        let shards = deal(all.clone(), workers, false);
        assert_eq!(shards.count, count);
        let mut dealt: Vec<ShardItem> = (0..count).flat_map(|shard| shards.of(shard).copied()).collect();
        dealt.sort_unstable_by_key(|item| item.index);
        assert_eq!(dealt, all, "every work item is in one shard");
    }

    #[test]
    fn few_items_have_a_shard_each_and_many_share() {
        check(0, 4, 0);
        check(1, 4, 1);
        check(500, 4, 500);
        check(10_000, 4, 500);
        check(10_000, 200, 1_600);
        check(100_000, 200, 1_600);
    }
}
