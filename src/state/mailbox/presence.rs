//! That a run is being launched, as the object store says it to other clones of the project; and whether one of them wants
//! an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Mailbox;
use super::elsewhere::LAUNCHER;
use crate::adapters::beat::Beat;
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
    mailbox: Arc<Mailbox>,
    run: RunDir,
    beat: Beat,
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
        let patient = Arc::new(mailbox.again(PATIENCE)?);
        let (mailbox, kept) = (Arc::clone(&patient), run.clone());
        let mut keeper = Keeper { mailbox, run: kept, own, was_told: false, said: Instant::now(), sent: 0 };
        // What cannot be said now is said at the next beat.
        let beat = Beat::every(LOOK, move || drop(keeper.beat()));
        Ok(Presence { mailbox: patient, run: run.clone(), beat })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.beat.stop();
        // Where the store is away, others see in time that nobody says it any more.
        if self.mailbox.send_journal(&self.run).is_ok() {
            drop(self.mailbox.mark(LAUNCHER, b""));
        }
    }
}

struct Keeper {
    mailbox: Arc<Mailbox>,
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
        let size = fs::size(&self.run.events());
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
