//! The log of an attempt while it runs, for those who want to see from elsewhere how far it is.

use std::sync::Arc;
use std::time::Duration;

use super::Mailbox;
use crate::adapters::beat::Beat;
use crate::adapters::fs;
use crate::diagnostic::Diagnostic;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::state::paths::RunDir;

/// How often a log that has grown is put in.
const PAUSE: Duration = Duration::from_secs(15);
/// How long that may take: the next one says more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts the log of an attempt in now and then, for as long as what this returns lives: what is put in at the end is not
/// overtaken.
pub(super) fn keep(mailbox: &Arc<Mailbox>, run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Beat {
    let (mailbox, run) = (Arc::clone(mailbox), run.clone());
    let (mut impatient, mut sent) = (None, 0);
    Beat::every(PAUSE, move || {
        let size = fs::size(&run.log(index, attempt));
        if size == sent {
            return;
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
    })
}
