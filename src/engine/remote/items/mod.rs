//! What became of the work items of a Job.
//!
//! Results on the volume come first. Where a pod ended and left none, its end explains it; where there is no pod, the
//! Job's status does.
//!
//! | on the volume | the pod of its shard | event |
//! |---|---|---|
//! | a success, or a failed command that is not to be tried again | any | finished, for good |
//! | another result | runs | none yet: the worker goes on, the shard may be tried again |
//! | another result | ended | finished; again if the shard is |
//! | a failed command, after as many attempts as its worker makes | ended | finished, for good |
//! | begun, no result | ended | finished as the pod ended; again if the shard is |
//! | not begun | ended, not tried again | finished as the pod ended |
//! | nothing | ended well | waited for: the volume may lag behind |
//! | nothing in an object store | ended | waited for: its listing may lag behind |

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::model::event::Event;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::Ending;
use crate::state::shards::{ShardItem, Shards};

/// About how long the Job controller waits before it tries an index again.
pub(crate) const RETRY_DELAY: Duration = Duration::from_secs(10);

/// What there is of a work item on the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemFiles {
    /// The last attempt that has begun.
    pub begun: Option<AttemptNumber>,
    /// The last attempt that has published, and how it ended. A success counts as the last whatever came after it.
    pub result: Option<(AttemptNumber, Ending)>,
}

/// Where workers publish.
pub(crate) trait Volume {
    fn item(&self, index: ItemIndex) -> Result<ItemFiles, Diagnostic>;
}

/// A work item on its way.
#[derive(Debug)]
struct Item {
    index: ItemIndex,
    /// The first attempt that belongs to this Job.
    first: AttemptNumber,
    /// The last attempts that were told as begun and as finished.
    begun: Option<AttemptNumber>,
    finished: Option<AttemptNumber>,
    /// Nothing more will be told.
    is_done: bool,
}

impl Item {
    fn new(item: &ShardItem) -> Self {
        Item { index: item.index, first: item.attempt, begun: None, finished: None, is_done: false }
    }

    /// What the volume holds of this Job's attempts.
    fn look(&self, files: &impl Volume) -> Result<ItemFiles, Diagnostic> {
        let ItemFiles { begun, result } = files.item(self.index)?;
        let ours = |attempt: &AttemptNumber| *attempt >= self.first;
        let counts =
            |(attempt, ending): &(AttemptNumber, Ending)| *attempt >= self.first || *ending == Ending::Succeeded;
        Ok(ItemFiles { begun: begun.filter(ours), result: result.filter(counts) })
    }

    fn tell_begun(&mut self, attempt: AttemptNumber, place: &str, events: &mut Vec<Event>) {
        if Some(attempt) > self.begun {
            self.begun = Some(attempt);
            events.push(Event::AttemptStarted { index: self.index, attempt, place: place.to_owned() });
        }
    }

    fn tell_finished(&mut self, attempt: AttemptNumber, ending: Ending, again: bool, events: &mut Vec<Event>) {
        self.finished = self.finished.max(Some(attempt));
        self.is_done = !again;
        let retry_after = again.then_some(RETRY_DELAY);
        events.push(Event::AttemptFinished { index: self.index, attempt, ending, retry_after });
    }
}

/// How a shard's pod ended.
#[derive(Clone, Debug)]
pub(crate) struct ShardEnd {
    pub place: String,
    /// What it means for a work item without a result.
    pub ending: Ending,
    /// Whether the shard is tried again.
    pub again: bool,
    /// Whether work items that had not begun are left to another job: they have nothing to do with the end.
    pub spares_others: bool,
}

/// The work items of a Job, by shard.
pub(crate) struct Items {
    shards: Vec<Vec<Item>>,
    /// Whether a command that failed is tried again with its shard.
    retry_commands: bool,
    /// Whether what a shard left that did not end well may come late, too.
    is_listed: bool,
    /// How many attempts at a command its worker makes before it gives it up; `None` where it makes one.
    tries: Option<u32>,
    left: usize,
}

impl Items {
    /// Takes those work items of a Job that are still to be told about.
    pub(crate) fn new(list: &Shards, wanted: impl Fn(ItemIndex) -> bool) -> Self {
        let mut left = 0;
        let shards = (0..list.count).map(|shard| {
            let items: Vec<Item> = list.of(shard).filter(|item| wanted(item.index)).map(Item::new).collect();
            left += items.len();
            items
        });
        Items { shards: shards.collect(), retry_commands: list.retry_commands, is_listed: false, tries: None, left }
    }

    /// The same where what workers leave is listed by an object store, which may lag behind.
    pub(crate) fn listed(self, is_listed: bool) -> Self {
        Items { is_listed, ..self }
    }

    /// The same where workers try commands again by themselves, so many attempts in all.
    pub(crate) fn tried(self, tries: u32) -> Self {
        Items { tries: Some(tries), ..self }
    }

    /// How many work items have not ended for good.
    #[cfg_attr(
        not(any(feature = "kubernetes", test)),
        expect(dead_code, reason = "only Jobs end before their items are looked at")
    )]
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Looks what a running pod has done since the last look.
    pub(crate) fn look(&mut self, shard: usize, place: &str, files: &impl Volume) -> Result<Vec<Event>, Diagnostic> {
        let mut events = vec![];
        let before = self.left_of(shard).count();
        let retry_commands = self.retry_commands;
        for item in self.left_of(shard) {
            let found = item.look(files)?;
            if let (Some((attempt, ending)), Some(begun)) = (&found.result, found.begun)
                && *attempt < begun
                && Some(*attempt) > item.finished
                && !is_final(ending, retry_commands)
            {
                // Its worker is at the next one.
                item.tell_begun(*attempt, place, &mut events);
                item.tell_finished(*attempt, ending.clone(), true, &mut events);
            }
            if let Some(begun) = found.begun {
                item.tell_begun(begun, place, &mut events);
            }
            match found.result {
                Some((attempt, ending)) if is_final(&ending, retry_commands) => {
                    item.tell_finished(attempt, ending, false, &mut events);
                }
                // It may be tried again; its attempt is over and the worker is at a later work item.
                Some((attempt, _)) if Some(attempt) == found.begun => {}
                // A worker does one after another: what comes behind this one has not begun.
                Some(_) | None => break,
            }
        }
        self.count(before, shard);
        Ok(events)
    }

    /// Settles a shard whose pod ended. Returns `None` where results are missing that should be there.
    pub(crate) fn settle(
        &mut self,
        shard: usize,
        end: &ShardEnd,
        files: &impl Volume,
        is_patient: bool,
    ) -> Result<Option<Vec<Event>>, Diagnostic> {
        let mut events = vec![];
        let mut found = vec![];
        let mut is_cut = false;
        let before = self.left_of(shard).count();
        let retry_commands = self.retry_commands;
        let tries = self.tries;
        let is_awaited = self.is_listed || end.ending == Ending::Succeeded;
        for item in self.left_of(shard) {
            let files = item.look(files)?;
            let is_last = |attempt: &AttemptNumber| files.begun.is_none_or(|begun| *attempt >= begun);
            let last =
                files.result.as_ref().filter(|(attempt, ending)| is_last(attempt) || is_final(ending, retry_commands));
            // A worker that was told to end begins nothing more.
            is_cut |= matches!(last, Some((_, Ending::Lost { .. })));
            let is_missing = last.is_none() && is_awaited && !is_cut;
            if is_missing && is_patient {
                return Ok(None);
            }
            found.push(files);
        }
        for (item, found) in self.left_of(shard).zip(found) {
            if let Some(begun) = found.begun {
                item.tell_begun(begun, &end.place, &mut events);
            }
            match (found.result, found.begun) {
                (Some((attempt, ending)), _) if is_final(&ending, retry_commands) => {
                    item.tell_finished(attempt, ending, false, &mut events);
                }
                (Some((attempt, ending)), begun) if begun.is_none_or(|begun| attempt >= begun) => {
                    // A tool may do better on another machine.
                    let is_tried = matches!(ending, Ending::Failed { .. })
                        && tries.is_some_and(|tries| attempt.next() >= item.first.after(tries));
                    let again = end.again && !is_tried;
                    if Some(attempt) > item.finished || !again {
                        // A worker that was told to end knows no more than that.
                        let is_told = matches!(ending, Ending::Lost { .. });
                        let is_known = matches!(end.ending, Ending::Lost { .. } | Ending::Failed { .. });
                        let is_explained = is_told && is_known || end.ending == Ending::Stopped;
                        let ending = if is_explained { end.ending.clone() } else { ending };
                        item.tell_finished(attempt, ending, again, &mut events);
                    }
                }
                (_, Some(begun)) if Some(begun) > item.finished || !end.again => {
                    item.tell_finished(begun, without_result(&end.ending, &end.place), end.again, &mut events);
                }
                // What was never begun in a run that was stopped is nothing to speak of.
                (_, None) if end.ending == Ending::Stopped => item.is_done = true,
                (_, None) if !end.again && !end.spares_others => {
                    let (attempt, ending) = (item.first, without_result(&end.ending, &end.place));
                    item.tell_finished(attempt, ending, false, &mut events);
                }
                (_, Some(_) | None) => {}
            }
        }
        self.count(before, shard);
        Ok(Some(events))
    }

    /// Settles every shard that is left.
    pub(crate) fn settle_all(&mut self, end: &ShardEnd, files: &impl Volume) -> Result<Vec<Event>, Diagnostic> {
        let mut events = vec![];
        for shard in 0..self.shards.len() {
            events.extend(self.settle(shard, end, files, false)?.unwrap_or_default());
        }
        Ok(events)
    }

    /// The work items that have not ended for good, by their index.
    pub(crate) fn open(&self) -> impl Iterator<Item = ItemIndex> + '_ {
        self.shards.iter().flatten().filter(|item| !item.is_done).map(|item| item.index)
    }

    /// The shards that have work items left.
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only Jobs end before their pods"))]
    pub(crate) fn open_shards(&self) -> impl Iterator<Item = usize> + '_ {
        let is_open = |items: &[Item]| items.iter().any(|item| !item.is_done);
        self.shards.iter().enumerate().filter(move |(_, items)| is_open(items)).map(|(shard, _)| shard)
    }

    /// Whether all of a shard has ended for good.
    pub(crate) fn is_done(&self, shard: usize) -> bool {
        self.shards.get(shard).into_iter().flatten().all(|item| item.is_done)
    }

    fn left_of(&mut self, shard: usize) -> impl Iterator<Item = &mut Item> {
        self.shards.get_mut(shard).into_iter().flatten().filter(|item| !item.is_done)
    }

    /// Takes off what has ended of a shard; to count all of them would cost more the larger the run is.
    fn count(&mut self, before: usize, shard: usize) {
        self.left -= before - self.left_of(shard).count();
    }
}

/// Whether a published ending stands: no other attempt at the work item follows in this Job.
fn is_final(ending: &Ending, retry_commands: bool) -> bool {
    match ending {
        Ending::Succeeded => true,
        Ending::Failed { .. } => !retry_commands,
        Ending::ToolFailed { .. } | Ending::Lost { .. } | Ending::Stopped => false,
    }
}

/// A pod that ended well and a volume without the result do not go together.
fn without_result(ending: &Ending, place: &str) -> Ending {
    match ending {
        Ending::Succeeded => Ending::ToolFailed {
            message: format!("`{place}` ended well, but its result is not here: pods see another volume"),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
