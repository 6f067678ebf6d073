//! The log of an attempt while it runs, for those who want to see from elsewhere how far it is.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Mailbox;
use crate::diagnostic::Diagnostic;
use crate::state::paths::RunDir;

/// How often a log that has grown is put in.
const PAUSE: Duration = Duration::from_secs(15);
/// How long that may take: the next one says more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts the log of an attempt in now and then, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Logbook {
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Logbook {
    pub(super) fn keep(mailbox: &Arc<Mailbox>, run: &RunDir, index: usize, attempt: u32) -> Logbook {
        let (end, ended) = mpsc::channel();
        let (mailbox, run) = (Arc::clone(mailbox), run.clone());
        let keeper = std::thread::spawn(move || {
            let (mut impatient, mut sent) = (None, 0);
            while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let size = run.log(index, attempt).metadata().map_or(0, |found| found.len());
                if size == sent {
                    continue;
                }
                let mut send = || -> Result<(), Diagnostic> {
                    if impatient.is_none() {
                        impatient = Some(mailbox.again(PATIENCE)?);
                    }
                    impatient.iter().try_for_each(|mailbox| mailbox.send_log(&run, index, attempt))
                };
                if send().is_ok() {
                    sent = size;
                }
            }
        });
        Logbook { end: Some(end), keeper: Some(keeper) }
    }
}

impl Drop for Logbook {
    fn drop(&mut self) {
        drop(self.end.take());
        // What is put in at the end is not to be overtaken.
        drop(self.keeper.take().map(JoinHandle::join));
    }
}
