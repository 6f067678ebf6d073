//! How a run and its work items stand, as far as the disk tells.

use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::Ending;

/// What `status` says of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunStatus {
    pub run: String,
    /// RFC 3339.
    pub created: String,
    pub state: RunState,
    pub phases: Vec<PhaseStatus>,
    /// In index order.
    pub items: Vec<ItemStatus>,
    /// What stopped the job in a cluster that was to see to the end of the run.
    pub stopped: Option<String>,
}

/// Where a run is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    Planned,
    /// A `launch`, `run` or `finalize` is at work.
    Running {
        engine: String,
        host: String,
        process: u32,
    },
    /// It was launched, and nobody is at work now.
    Idle,
    /// Nobody watches it, but these Jobs may go on in a cluster.
    Left {
        engine: String,
        jobs: Vec<String>,
    },
    Finalized,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PhaseStatus {
    /// The number of its work items.
    pub total: usize,
    /// Whether `finalize` runs it.
    pub trailing: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ItemStatus {
    pub index: ItemIndex,
    pub id: String,
    pub phase: usize,
    pub state: ItemState,
    /// How long its last finished attempt took.
    pub seconds: Option<f64>,
    /// The log of its last attempt, relative to the project's root.
    pub log: Option<String>,
    /// The end of that log, of a work item that failed.
    pub tail: Vec<String>,
}

/// How a work item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemState {
    Waiting,
    Running {
        attempt: AttemptNumber,
        place: String,
        /// RFC 3339.
        since: String,
    },
    Done {
        attempt: AttemptNumber,
    },
    Failed {
        attempt: AttemptNumber,
        why: String,
        /// Whether the next `launch` tries it again without being asked to.
        again: bool,
    },
    /// An attempt was cut off; the next `launch` tries it again.
    Interrupted {
        attempt: AttemptNumber,
    },
    /// It cannot run, since these have failed.
    Skipped {
        because: Vec<String>,
    },
}

/// What the disk tells of a work item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The last attempt that has begun.
    pub begun: Option<AttemptNumber>,
    /// The result that counts, and how it says that the attempt ended.
    pub published: Option<(AttemptNumber, Ending)>,
    /// What the journal says last.
    pub journal: Journal,
    /// Failures of attempts up to this one are set aside.
    pub set_aside: Option<AttemptNumber>,
}

/// What the journal says last of a work item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Journal {
    #[default]
    Nothing,
    Started {
        attempt: AttemptNumber,
        place: String,
        time: String,
    },
    Finished {
        attempt: AttemptNumber,
        /// Why it failed; `None` where it was only stopped, or succeeded.
        failure: Option<String>,
        retried: bool,
    },
    Skipped {
        because: Vec<String>,
    },
}

impl Facts {
    /// Tells how a work item stands; `is_launched` says whether somebody is at work on the run.
    ///
    /// The first row that applies:
    ///
    /// | published | journal, last | state |
    /// |---|---|---|
    /// | succeeded | any | done |
    /// | any | started a later attempt, run at work | running |
    /// | failed, not set aside, not about to be retried | any | failed |
    /// | any, last attempt | finished, about to be retried | waiting |
    /// | a tool failed, or none | finished, failed | failed, launched again |
    /// | any | skipped | skipped |
    /// | none | finished before it began, failed, not set aside | failed, launched again |
    /// | set aside, or nothing has begun | any | waiting |
    /// | anything else | | interrupted |
    pub(crate) fn state(&self, is_launched: bool) -> ItemState {
        let published = self.published.as_ref().map(|(attempt, _)| *attempt);
        if let Some((attempt, Ending::Succeeded)) = self.published {
            return ItemState::Done { attempt };
        }
        if let Journal::Started { attempt, place, time } = &self.journal
            && is_launched
            && Some(*attempt) > published
        {
            return ItemState::Running { attempt: *attempt, place: place.clone(), since: time.clone() };
        }
        if self.is_given_up()
            && let Some((attempt, Ending::Failed { message: why })) = &self.published
        {
            return ItemState::Failed { attempt: *attempt, why: why.clone(), again: false };
        }
        match (&self.journal, &self.published) {
            (Journal::Finished { attempt, retried: true, .. }, _) if is_launched && Some(*attempt) >= self.begun => {
                ItemState::Waiting
            }
            (Journal::Skipped { because }, _) => ItemState::Skipped { because: because.clone() },
            // A worker may fail before it begins.
            (Journal::Finished { attempt, failure: Some(why), .. }, None)
                if Some(*attempt) > self.begun.max(self.set_aside) =>
            {
                ItemState::Failed { attempt: *attempt, why: why.clone(), again: true }
            }
            _ if self.begun <= self.set_aside => ItemState::Waiting,
            (_, Some((attempt, Ending::ToolFailed { message: why }))) if Some(*attempt) >= self.begun => {
                ItemState::Failed { attempt: *attempt, why: why.clone(), again: true }
            }
            (Journal::Finished { attempt, failure: Some(why), .. }, _) if Some(*attempt) >= self.begun => {
                ItemState::Failed { attempt: *attempt, why: why.clone(), again: true }
            }
            _ => self.begun.map_or(ItemState::Waiting, |attempt| ItemState::Interrupted { attempt }),
        }
    }

    /// Takes an attempt that has begun while nobody wrote the journal for one that runs.
    pub(crate) fn begin_unwatched(&mut self, time: String) {
        let told = match &self.journal {
            Journal::Started { attempt, .. } | Journal::Finished { attempt, .. } => Some(*attempt),
            Journal::Nothing | Journal::Skipped { .. } => None,
        };
        let published = self.published.as_ref().map(|(attempt, _)| *attempt);
        if let Some(attempt) = self.begun
            && self.begun > told.max(published).max(self.set_aside)
        {
            self.journal = Journal::Started { attempt, place: "the cluster".to_owned(), time };
        }
    }

    /// Whether its failure stands: no `launch` tries it again unless somebody asks for that.
    pub(crate) fn is_given_up(&self) -> bool {
        let Some((attempt, Ending::Failed { .. })) = self.published else { return false };
        let is_retried =
            matches!(self.journal, Journal::Finished { attempt: last, retried: true, .. } if last >= attempt);
        Some(attempt) > self.set_aside && !is_retried && self.begun <= Some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(facts: &Facts, while_launched: &ItemState, else_: &ItemState) {
        assert_eq!((&facts.state(true), &facts.state(false)), (while_launched, else_), "{facts:?}");
    }

    fn started(attempt: u32) -> Journal {
        Journal::Started { attempt: AttemptNumber::new(attempt), place: "slot 0".into(), time: "now".into() }
    }

    fn finished(attempt: u32, failure: Option<&str>, retried: bool) -> Journal {
        Journal::Finished { attempt: AttemptNumber::new(attempt), failure: failure.map(str::to_owned), retried }
    }

    fn running(attempt: u32, place: &str) -> ItemState {
        ItemState::Running { attempt: AttemptNumber::new(attempt), place: place.into(), since: "now".into() }
    }

    fn failed(attempt: u32, again: bool) -> ItemState {
        ItemState::Failed { attempt: AttemptNumber::new(attempt), why: "why".into(), again }
    }

    fn interrupted(attempt: u32) -> ItemState {
        ItemState::Interrupted { attempt: AttemptNumber::new(attempt) }
    }

    /// What the disk tells; `begun` is 0 where nothing has.
    fn facts(begun: u32, published: Option<(u32, Ending)>, journal: Journal) -> Facts {
        let published = published.map(|(attempt, ending)| (AttemptNumber::new(attempt), ending));
        Facts { begun: (begun > 0).then(|| AttemptNumber::new(begun)), published, journal, set_aside: None }
    }

    #[test]
    fn a_work_item_stands_as_its_result_journal_and_logs_say() {
        let bad = || Ending::Failed { message: "why".into() };
        let same = |facts: Facts, state: ItemState| check(&facts, &state, &state);

        same(facts(0, None, Journal::Nothing), ItemState::Waiting);
        same(facts(2, Some((1, Ending::Succeeded)), started(2)), ItemState::Done { attempt: AttemptNumber::FIRST });
        check(&facts(1, None, started(1)), &running(1, "slot 0"), &interrupted(1));
        check(&facts(2, Some((1, bad())), started(2)), &running(2, "slot 0"), &interrupted(2));
        same(facts(1, Some((1, bad())), finished(1, Some("x"), false)), failed(1, false));
        same(facts(1, Some((1, bad())), started(1)), failed(1, false));
        check(&facts(1, Some((1, bad())), finished(1, Some("why"), true)), &ItemState::Waiting, &failed(1, true));
        same(facts(1, Some((1, Ending::ToolFailed { message: "why".into() })), Journal::Nothing), failed(1, true));
        same(facts(1, None, finished(1, Some("why"), false)), failed(1, true));
        same(facts(0, None, finished(1, Some("why"), false)), failed(1, true));
        same(facts(1, Some((1, Ending::Lost { message: "stopped".into() })), finished(1, None, false)), interrupted(1));
        let because = vec!["s1".to_owned()];
        same(facts(0, None, Journal::Skipped { because: because.clone() }), ItemState::Skipped { because });
    }

    #[test]
    fn what_begins_while_nobody_watches_runs() {
        let begun = |begun, published, journal| {
            let mut facts = facts(begun, published, journal);
            facts.begin_unwatched("now".into());
            facts.state(true)
        };
        assert_eq!(begun(0, None, Journal::Nothing), ItemState::Waiting);
        assert_eq!(begun(1, None, Journal::Nothing), running(1, "the cluster"));
        assert_eq!(begun(1, None, started(1)), running(1, "slot 0"));
        assert_eq!(begun(2, None, started(1)), running(2, "the cluster"));
        assert_eq!(
            begun(2, Some((1, Ending::Failed { message: "why".into() })), finished(1, None, true)),
            running(2, "the cluster")
        );
        assert_eq!(
            begun(1, Some((1, Ending::Succeeded)), Journal::Nothing),
            ItemState::Done { attempt: AttemptNumber::FIRST }
        );
    }

    #[test]
    fn a_failure_that_was_set_aside_waits_and_a_later_one_stands() {
        let facts = |begun, published| Facts {
            set_aside: Some(AttemptNumber::new(2)),
            ..facts(
                begun,
                Some((published, Ending::Failed { message: "why".into() })),
                finished(published, Some("why"), false),
            )
        };
        check(&facts(2, 2), &ItemState::Waiting, &ItemState::Waiting);
        check(&facts(3, 3), &failed(3, false), &failed(3, false));
        assert!(facts(3, 3).is_given_up() && !facts(2, 2).is_given_up());
    }
}
