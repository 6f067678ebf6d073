//! That a run is being launched, as the object store says it to other clones of the project; and whether one of them wants
//! an end.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Mailbox;
use super::elsewhere::LAUNCHER;
use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::state::paths::RunDir;
use crate::state::run_lock;

/// How often is looked whether somebody wants an end.
const LOOK: Duration = Duration::from_secs(5);
/// How long a request of no great weight may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a journal for which another second passes until it is put in again.
const JOURNAL_A_SECOND: u64 = 50_000;

/// Said by a launcher from its first phase to its last.
#[derive(Debug)]
pub(crate) struct Presence {
    run: RunDir,
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<Mailbox>>,
}

impl Presence {
    /// Says that this process launches a run, whose lock it holds; fails where another clone does that.
    pub(crate) fn announce(mailbox: &Mailbox, run: &RunDir) -> Result<Presence, Diagnostic> {
        mailbox.look_for_launcher(run)?;
        if run_lock::is_held_elsewhere(run) {
            return Err(run_lock::held(run));
        }
        let own = fs::read(&run.launch_claim())?;
        mailbox.mark(LAUNCHER, &own)?;
        let (end, ended) = mpsc::channel();
        let (patient, kept) = (mailbox.again(PATIENCE)?, run.clone());
        let keeper = std::thread::spawn(move || {
            let mut keeper =
                Keeper { mailbox: patient, run: kept, own, was_told: false, said: Instant::now(), sent: 0 };
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                // What cannot be said now is said at the next beat.
                drop(keeper.beat());
            }
            keeper.mailbox
        });
        Ok(Presence { run: run.clone(), end: Some(end), keeper: Some(keeper) })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        drop(self.end.take());
        let Some(mailbox) = self.keeper.take().and_then(|keeper| keeper.join().ok()) else { return };
        // Where the store is away, others see in time that nobody says it any more.
        if mailbox.send_journal(&self.run).is_ok() {
            drop(mailbox.mark(LAUNCHER, b""));
        }
    }
}

struct Keeper {
    mailbox: Mailbox,
    run: RunDir,
    /// What is said.
    own: Vec<u8>,
    /// Whether the launcher knows that somebody wants an end.
    was_told: bool,
    said: Instant,
    /// Bytes of the journal that was put in last.
    sent: u64,
}

impl Keeper {
    fn beat(&mut self) -> Result<(), Diagnostic> {
        if !self.was_told && self.mailbox.is_asked_to_end()? {
            fs::write(&self.run.cancel(), b"")?;
            self.was_told = true;
        }
        let size = self.run.events().metadata().map_or(0, |found| found.len());
        let pause = run_lock::PULSE.beat + Duration::from_secs(size / JOURNAL_A_SECOND);
        // Soon after the beginning, too: others are to see who it was that began.
        if self.sent == 0 || self.said.elapsed() >= pause {
            self.mailbox.mark(LAUNCHER, &self.own)?;
            if size != self.sent {
                self.mailbox.send_journal(&self.run)?;
                self.sent = size;
            }
            self.said = Instant::now();
        }
        Ok(())
    }
}
