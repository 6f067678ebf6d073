//! The `dvc repro` of a worker: forked from a loaded DVC or started, and watched to its end; nothing of it stays behind.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::adapters::dvc::Dvc;
use crate::adapters::dvc::warm::WarmDvc;
use crate::adapters::process::{self, Ending, Program, Running, descendants};
use crate::adapters::signals::{Asked, Signals};
use crate::diagnostic::Diagnostic;
use crate::state::paths::SlotDir;

/// How long a stopped `dvc` gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// How long processes that a command left behind are chased.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// How a `dvc repro` came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    Ended(Ending),
    TimedOut(u64),
    Signalled(u8),
}

impl Stopped {
    pub(super) fn is_success(&self) -> bool {
        *self == Stopped::Ended(Ending::Exited(0))
    }
}

/// Where a `dvc repro` runs.
pub(super) struct Place<'a> {
    pub directory: &'a Path,
    /// Takes all that is printed.
    pub log: &'a File,
    pub nice: Option<i32>,
}

/// What runs one `dvc repro` after another.
pub(super) struct Runner {
    runtime: Runtime,
    signals: Signals,
    /// What runs the `dvc` script, where it is one.
    script: Option<Program>,
    warm: Warm,
}

/// Whether there is a DVC to fork from.
enum Warm {
    /// Each `dvc` is started.
    Off,
    Wanted,
    Loading(Box<WarmDvc>),
}

impl Runner {
    /// From now on requests to end do not end this process; `run`, `wait_for` and `asked` tell of them.
    pub(super) fn new(warm: bool) -> Result<Runner, Diagnostic> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Diagnostic::tool("cannot start the async runtime").source(&error))?;
        let signals = Signals::listen().map_err(|error| Diagnostic::tool("cannot listen to signals").source(&error))?;
        descendants::adopt_orphans().map_err(|error| Diagnostic::tool("cannot adopt orphans").source(&error))?;
        Ok(Runner { runtime, signals, script: None, warm: if warm { Warm::Wanted } else { Warm::Off } })
    }

    /// Waits for something else, unless this process is asked to end.
    pub(super) fn wait_for<T>(&mut self, something: impl Future<Output = T>) -> Result<T, Asked> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                asked = self.signals.next() => Err(asked),
                thing = something => Ok(thing),
            }
        })
    }

    /// Waits for something that takes no time.
    pub(super) fn finish<T>(&self, something: impl Future<Output = T>) -> T {
        self.runtime.block_on(something)
    }

    /// The request to end that has come meanwhile.
    pub(super) fn asked(&mut self) -> Option<Asked> {
        self.signals.came()
    }

    /// Makes something that belongs to the runtime.
    pub(super) fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        make()
    }

    /// Gets ready to run DVC; it begins to load, if that is wanted and possible, and goes on while the workspace is filled.
    pub(super) fn prepare(&mut self, dvc: &Dvc, slot: &SlotDir, program: &Program, place: &Place<'_>) {
        let folder = slot.dvc_process();
        if self.script.is_none() {
            match dvc.script().map(|script| script.process(&folder)) {
                Some(Ok(script)) => self.script = Some(script),
                Some(Err(error)) => tracing::debug!("`{}` is started as it is: {error}", program.shown()),
                None => tracing::debug!("`{}` is not a script that only starts DVC", program.shown()),
            }
        }
        if !matches!(self.warm, Warm::Wanted) {
            return;
        }
        self.warm = Warm::Off;
        let Some(script) = self.script.clone() else { return };
        match self.within(|| WarmDvc::load(&script, folder.join("said"), program, place.directory, place.nice)) {
            Ok(warm) => self.warm = Warm::Loading(Box::new(warm)),
            Err(error) => tracing::debug!("cannot load DVC: {error}"),
        }
    }

    /// Runs the stages to their end, or to the timeout, or to a request to end.
    pub(super) fn run(
        &mut self,
        program: &Program,
        place: &Place<'_>,
        timeout_seconds: Option<u64>,
    ) -> Result<Stopped, Diagnostic> {
        let stopped = self.runtime.block_on(async {
            let begun = tokio::select! {
                biased;
                asked = self.signals.next() => Err(asked),
                child = begin(&mut self.warm, self.script.as_ref(), program, place) => Ok(child?),
            };
            let server = if let Warm::Loading(warm) = &self.warm { warm.id() } else { None };
            let mut child = match begun {
                Ok(child) => child,
                Err(asked) => {
                    descendants::end_orphans(None, server, ORPHAN_GRACE).await;
                    return Ok(Stopped::Signalled(asked.signal()));
                }
            };
            let group = child.id();
            let limit = Duration::from_secs(timeout_seconds.unwrap_or(u64::MAX / 4));
            let stopped = tokio::select! {
                ending = process::wait(&mut child) => Stopped::Ended(ending),
                () = tokio::time::sleep(limit), if timeout_seconds.is_some() => {
                    process::stop(&mut child, GRACE).await;
                    Stopped::TimedOut(limit.as_secs())
                }
                asked = self.signals.next() => {
                    process::stop(&mut child, GRACE).await;
                    Stopped::Signalled(asked.signal())
                }
            };
            descendants::end_orphans(group, server, ORPHAN_GRACE).await;
            Ok::<_, io::Error>(stopped)
        });
        // Whatever it was: the next one does not depend on it.
        if matches!(stopped, Ok(Stopped::Ended(Ending::Signalled(_)))) {
            self.warm = Warm::Off;
        }
        stopped.map_err(|error| Diagnostic::tool(format!("cannot run `{}`", program.shown())).source(&error))
    }
}

/// Forks the program from the loaded DVC, or starts it where there is none; a DVC that fails is not asked again.
async fn begin(warm: &mut Warm, script: Option<&Program>, program: &Program, place: &Place<'_>) -> io::Result<Running> {
    if let Warm::Loading(loaded) = warm {
        match loaded.call(program, place.directory, place.log).await {
            Ok(child) => return Ok(child),
            Err(error) => tracing::debug!("`{}` is started from now on: {error}", program.shown()),
        }
        *warm = Warm::Off;
    }
    let through = script.map(|script| {
        let mut script = script.clone().arg("run");
        script.arguments.extend(program.arguments.iter().cloned());
        script.environment.clone_from(&program.environment);
        script
    });
    process::start(through.as_ref().unwrap_or(program), place.directory, place.log, place.nice)
}
