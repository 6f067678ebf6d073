//! Brings results from an object store while a phase runs, in a thread of its own: what is asked of a store may take long.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::diagnostic::Diagnostic;
use crate::state::mailbox::{Mailbox, Receiving};
use crate::state::paths::RunDir;
use crate::state::results::Durability;

/// The pauses between two looks; long ones follow looks that take long.
const SHORTEST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(30);
/// How many times as long as a look took is waited until the next one.
const REST: u32 = 4;
/// How long a listing may lag behind what was written.
const LISTING_LAG: Duration = Duration::from_secs(10);

/// What a launcher hears of workers through an object store.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub mailbox: Arc<Mailbox>,
    run: RunDir,
    work_items: usize,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    /// When the last look began that came to its end.
    looked: Option<Instant>,
    /// Why there are no more.
    failure: Option<Diagnostic>,
}

impl Post {
    pub(super) fn new(mailbox: &Arc<Mailbox>, run: &RunDir, work_items: usize) -> Self {
        Post { mailbox: Arc::clone(mailbox), run: run.clone(), work_items, heard: Arc::default() }
    }

    /// Looks again and again for as long as what this returns lives.
    pub(super) fn rounds(&self) -> Round {
        let (end, ended) = mpsc::channel();
        let post = self.clone();
        // Nobody waits for its end: it may hang on a store that is away, and what it brings is whole or not there.
        std::thread::spawn(move || {
            loop {
                let begun = Instant::now();
                if let Err(failure) = post.look() {
                    post.hear(|heard| heard.failure = Some(failure));
                    return;
                }
                post.hear(|heard| heard.looked = Some(begun));
                let pause = (begun.elapsed() * REST).clamp(SHORTEST, LONGEST);
                if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Round { _end: end }
    }

    fn look(&self) -> Result<(), Diagnostic> {
        let receiving = Receiving { run: &self.run, durability: Durability::Now };
        self.mailbox.receive_all(&receiving, self.work_items).map(drop)
    }

    /// Whether what was written until then has been brought, as far as a listing showed it.
    pub(super) fn has_looked_since(&self, time: Instant) -> bool {
        self.hear(|heard| heard.looked.is_some_and(|looked| looked > time))
    }

    /// Whether it has been, however long listings lag behind.
    pub(super) fn has_seen_all_until(&self, time: Instant) -> bool {
        self.has_looked_since(time + LISTING_LAG)
    }

    /// The error with which the last look ended, if it was the last one.
    pub(super) fn failure(&self) -> Result<(), Diagnostic> {
        self.hear(|heard| heard.failure.take()).map_or(Ok(()), Err)
    }

    fn hear<T>(&self, hear: impl FnOnce(&mut Heard) -> T) -> T {
        hear(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Looks that are made until this goes.
pub(crate) struct Round {
    _end: Sender<()>,
}
