//! A success is told once its result would outlive the machine.
//!
//! Workers publish without syncing: that takes longer than everything else about a short work item. What was published is
//! synced here, all that came meanwhile at once, while the workers go on. Whatever is not told as done is done again.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::adapters::fs;
use crate::model::event::Event;

/// Ends that wait to be told.
pub(super) struct Settling {
    /// On the file system that workers publish to.
    folder: PathBuf,
    waiting: Vec<Event>,
    /// What is being synced.
    running: Option<Syncing>,
    /// When to sync again: others need the disk as well, so half of the time is left to them.
    next: Instant,
}

struct Syncing {
    events: Vec<Event>,
    /// How long it took; else what went wrong.
    synced: JoinHandle<Result<Duration, String>>,
}

impl Settling {
    pub(super) fn new(folder: PathBuf) -> Settling {
        Settling { folder, waiting: vec![], running: None, next: Instant::now() }
    }

    /// Has an event told as soon as everything is durable that happened before it.
    pub(super) fn add(&mut self, event: Event) {
        self.waiting.push(event);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    /// Waits for the next events that may be told, for ever while there are none; loses nothing where nobody waits to the
    /// end.
    pub(super) async fn next(&mut self) -> Vec<Event> {
        if self.is_empty() {
            std::future::pending::<()>().await;
        }
        if self.running.is_none() {
            tokio::time::sleep_until(self.next).await;
            let (events, folder) = (std::mem::take(&mut self.waiting), self.folder.clone());
            let synced = tokio::task::spawn_blocking(move || {
                let begun = Instant::now();
                let synced = fs::sync_file_system(&folder);
                synced.map(|()| begun.elapsed()).map_err(|error| format!("{error}: {}", error.source))
            });
            self.running = Some(Syncing { events, synced });
        }
        let running = self.running.as_mut().expect("it was just begun");
        let synced = (&mut running.synced).await.unwrap_or_else(|error| Err(error.to_string()));
        let mut events = self.running.take().map(|running| running.events).unwrap_or_default();
        match synced {
            Ok(took) => self.next = Instant::now() + took,
            Err(error) => {
                let message = format!("results may not outlive this machine: {error}");
                events.insert(0, Event::Noticed { message });
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::numbers::{AttemptNumber, ItemIndex};
    use crate::model::run::Ending;

    fn finished(index: usize) -> Event {
        Event::AttemptFinished {
            index: ItemIndex::new(index),
            attempt: AttemptNumber::FIRST,
            ending: Ending::Succeeded,
            retry_after: None,
        }
    }

    fn indexes(events: &[Event]) -> Vec<usize> {
        let index = |event: &Event| match event {
            Event::AttemptFinished { index, .. } => Some(index.get()),
            Event::AttemptStarted { .. } | Event::Noticed { .. } => None,
        };
        events.iter().filter_map(index).collect()
    }

    #[tokio::test]
    async fn everything_is_told_once_also_where_nobody_waited_to_the_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut settling = Settling::new(dir.path().to_owned());
        settling.add(finished(0));
        {
            // Somebody waits, but not to the end.
            let mut waiting = std::pin::pin!(settling.next());
            assert!(is_pending(&mut waiting));
        }
        settling.add(finished(1));
        settling.add(finished(2));
        let mut told = vec![];
        while !settling.is_empty() {
            told.extend(indexes(&settling.next().await));
        }
        assert_eq!(told, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_told_with_the_events() {
        let mut settling = Settling::new(PathBuf::from("/nothing/here"));
        settling.add(finished(0));
        let events = settling.next().await;
        assert!(matches!(&events[0], Event::Noticed { message } if message.contains("/nothing/here")), "{events:?}");
        assert_eq!(indexes(&events), [0]);
    }

    /// Lets a future begin; it cannot be done yet.
    fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(future).poll(&mut context).is_pending()
    }
}
