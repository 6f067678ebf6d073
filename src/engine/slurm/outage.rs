//! A controller that does not answer: said once, and waited for, but not for ever.

use std::time::Duration;

use tokio::time::Instant;

use crate::diagnostic::Diagnostic;
use crate::engine::Channels;
use crate::engine::slurm::cluster::Away;

/// How long nobody has answered.
#[derive(Debug)]
pub(super) struct Outage {
    limit: Duration,
    since: Option<Instant>,
}

impl Outage {
    pub(super) fn new(limit: Duration) -> Self {
        Outage { limit, since: None }
    }

    /// Takes in that nobody answered. Fails where that has lasted too long.
    pub(super) fn goes_on(&mut self, away: Away, channels: &Channels) -> Result<(), Diagnostic> {
        match self.since {
            Some(since) if since.elapsed() > self.limit => return Err(away.into()),
            Some(_) => {}
            None => {
                let limit = self.limit.as_secs();
                channels.notice(format!("Slurm does not answer ({away}); trying for up to {limit} s"));
                self.since = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Takes in that somebody answered.
    pub(super) fn is_over(&mut self, channels: &Channels) {
        if self.since.take().is_some() {
            channels.notice("Slurm answers again".to_owned());
        }
    }
}
