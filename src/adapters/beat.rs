//! Something that is done again and again in a thread of its own.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lasts as long as this value, whose end waits for what is just being done.
#[derive(Debug)]
pub(crate) struct Beat {
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Beat {
    /// Does it after each pause, the first one included.
    pub(crate) fn every(pause: Duration, mut act: impl FnMut() + Send + 'static) -> Beat {
        let (end, ended) = mpsc::channel();
        let keeper = std::thread::spawn(move || {
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                act();
            }
        });
        Beat { end: Some(end), keeper: Some(keeper) }
    }

    /// Ends it, and waits until it has ended.
    pub(crate) fn stop(&mut self) {
        drop(self.end.take());
        drop(self.keeper.take().map(JoinHandle::join));
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.stop();
    }
}
