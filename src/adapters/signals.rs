//! What asks this process to end: signals, and a file that another terminal writes.
//!
//! One thread listens for as long as the process lives. While nobody holds a [`Signals`], a request simply ends the
//! process: whatever it does may be cut off anywhere, and its children end with it.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::broadcast;

/// How often a request to cancel is looked for.
const POLL: Duration = Duration::from_millis(200);
/// Requests that may wait for whoever listens; a person presses Ctrl-C less often.
const WAITING: usize = 16;

/// The number of the signal that says so.
pub(crate) const TIME_IS_UP: u8 = 10;

/// Whether somebody has said so.
static IS_TIME_UP: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C is somebody else's business.
static IS_INTERRUPT_LEFT: AtomicBool = AtomicBool::new(false);

/// Takes no notice of Ctrl-C from now on: whoever started this process is in its group, and says what becomes of it.
pub(crate) fn leave_interrupts() {
    IS_INTERRUPT_LEFT.store(true, Ordering::Relaxed);
}

/// Whether the time that a batch system gives this process is nearly over.
pub(crate) fn is_time_up() -> bool {
    IS_TIME_UP.load(Ordering::Relaxed)
}

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A person pressed Ctrl-C.
    Interrupt,
    /// TERM or HUP, by its number.
    Signal(u8),
    /// USR1: the time that a batch system gives this process is nearly over.
    TimeIsUp,
    /// Another terminal cancelled the run.
    Cancel,
    /// Another terminal wants nothing more of the run to begin.
    Drain,
}

impl Asked {
    /// The signal by whose number the process says why it ended.
    pub(crate) fn signal(self) -> u8 {
        match self {
            Asked::Interrupt | Asked::Cancel | Asked::Drain => number(Signal::INT),
            Asked::Signal(signal) => signal,
            Asked::TimeIsUp => TIME_IS_UP,
        }
    }
}

/// Takes requests to end; while it lives, they do nothing else.
pub(crate) struct Signals {
    requests: broadcast::Receiver<Asked>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Signals> {
        Ok(Signals { requests: listener()?.subscribe() })
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            match self.requests.recv().await {
                Ok(asked) => return asked,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                // The sender is a static; it outlives everything.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// The next request that has come already.
    pub(crate) fn came(&mut self) -> Option<Asked> {
        self.requests.try_recv().ok()
    }
}

/// What the file says where what runs is to come to its end.
pub(crate) const DRAIN: &str = "drain\n";

/// Takes the appearance of a file for a request to end, and what it says for how.
pub(crate) fn watch_for(file: PathBuf) -> io::Result<()> {
    let requests = listener()?;
    std::thread::Builder::new().name("cancel".into()).spawn(move || {
        let mut is_draining = false;
        loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if text != DRAIN => break,
                Ok(_) if !std::mem::replace(&mut is_draining, true) => ask(requests, Asked::Drain),
                Ok(_) | Err(_) => {}
            }
            std::thread::sleep(POLL);
        }
        ask(requests, Asked::Cancel);
    })?;
    Ok(())
}

/// Where requests are handed on; the first call starts the thread that listens.
fn listener() -> io::Result<&'static broadcast::Sender<Asked>> {
    static REQUESTS: OnceLock<broadcast::Sender<Asked>> = OnceLock::new();
    if let Some(requests) = REQUESTS.get() {
        return Ok(requests);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup, mut time) = {
        use tokio::signal::unix::{SignalKind, signal};
        let _inside = runtime.enter();
        // Who starts this process with hangups ignored (`nohup`) means it and its commands. A shell that starts it in the
        // background has it ignore Ctrl-C, which says nothing of whoever sends it one.
        let hangup = (!is_ignored(SignalKind::hangup())).then(|| signal(SignalKind::hangup())).transpose()?;
        let usual = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        (usual.0, usual.1, hangup, signal(SignalKind::user_defined1())?)
    };
    let requests = REQUESTS.get_or_init(|| broadcast::channel(WAITING).0);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                let asked = tokio::select! {
                    _ = interrupt.recv() => Asked::Interrupt,
                    _ = terminate.recv() => Asked::Signal(number(Signal::TERM)),
                    () = received(&mut hangup) => Asked::Signal(number(Signal::HUP)),
                    _ = time.recv() => Asked::TimeIsUp,
                };
                ask(requests, asked);
            }
        });
    })?;
    Ok(requests)
}

/// Waits for a signal; without a listener for ever.
async fn received(listener: &mut Option<tokio::signal::unix::Signal>) {
    match listener {
        Some(listener) => drop(listener.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started with a signal ignored, as far as the kernel tells.
fn is_ignored(kind: tokio::signal::unix::SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    ignored >> (kind.as_raw_value() - 1) & 1 == 1
}

/// Hands a request on to whoever listens, else ends the process.
#[expect(clippy::exit, reason = "nobody is there to be told, and what is cut off is gone on with later")]
fn ask(requests: &broadcast::Sender<Asked>, asked: Asked) {
    if asked == Asked::Interrupt && IS_INTERRUPT_LEFT.load(Ordering::Relaxed) {
        return;
    }
    if asked == Asked::TimeIsUp {
        IS_TIME_UP.store(true, Ordering::Relaxed);
    }
    if requests.send(asked).is_err() {
        std::process::exit(128 + i32::from(asked.signal()));
    }
}

fn number(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).expect("standard signals have small numbers")
}
