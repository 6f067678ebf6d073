//! Start, watch and cancel the work items of a phase and report events.
//!
//! Every engine starts the same `dvc-fanout work`. What counts is what workers published; an engine only says how
//! attempts ended.
//!
//! An engine is a folder with its flags, what they mean, its run, its end and its health: a type of flags that is
//! [`Flags`] and a type that is [`Engine`]. It is named here alone: its module, and its line in the list of
//! `engines!`.
//!
//! | file | |
//! |---|---|
//! | `args.rs` | flags that all engines keep to |
//! | `launch.rs` | the loop over phases: what next, and who asked for an end |
//! | `recorder.rs` | what happened: into the journal, then to the people who watch |
//! | `ready.rs` | what a phase begins with |
//! | `remote/` | what engines have in common whose workers are on other machines |

pub(crate) mod args;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
pub(crate) mod launch;
pub(crate) mod local;
mod ready;
pub(crate) mod recorder;
mod remote;
mod settle;
mod slurm;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::diagnostic::Diagnostic;
use crate::engine::args::RunningArgs;
use crate::model::event::{Event, Stop, Task};
use crate::model::numbers::ItemIndex;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;
use crate::state::mailbox::Mailbox;
use crate::state::paths::RunDir;
use crate::state::run_lock::RunLock;

/// The list of engines: what `--engine` calls each, and its module.
macro_rules! engines {
    ($( $(#[doc = $doc:literal])* $(#[cfg($cfg:meta)])? $name:ident => $module:ident, )*) => {
        /// What runs work items.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) enum EngineName {
            #[default]
            $( $(#[doc = $doc])* $(#[cfg($cfg)])? $name, )*
        }

        /// Where work items run.
        #[derive(Clone, Debug, Default, Args)]
        pub(crate) struct EngineArgs {
            /// What runs the work items; `local` by default
            #[arg(long, value_enum)]
            pub engine: Option<EngineName>,
            $( $(#[cfg($cfg)])? #[command(flatten)] pub $module: $module::Args, )*
        }

        /// What is said of an engine whose work is to be ended.
        #[derive(Clone, Debug, Default, Args)]
        pub(crate) struct EngineCancelArgs {
            $( $(#[cfg($cfg)])? #[command(flatten)] pub $module: <$module::Args as Flags>::Cancel, )*
        }

        /// An engine with what it keeps to.
        pub(crate) enum AnyEngine {
            $( $(#[cfg($cfg)])? $name(Box<<$module::Args as Flags>::Engine>), )*
        }

        impl EngineArgs {
            /// The sections of the configuration file that say what flags of engines do.
            pub(crate) fn sections() -> Vec<Section> {
                EngineArgs::default().values()
            }

            /// The same with what these flags say.
            pub(crate) fn values(&self) -> Vec<Section> {
                let all = [$( $(#[cfg($cfg)])? Section::of(&self.$module), )*];
                all.into_iter().filter(|section| !section.flags.is_empty()).collect()
            }

            /// Completes the flags of each engine by what its section says.
            pub(crate) fn completed(&self, file: &impl Completion) -> Result<EngineArgs, Diagnostic> {
                Ok(EngineArgs {
                    engine: Some(file.engine(self.engine)?),
                    $( $(#[cfg($cfg)])? $module: file.complete(&self.$module)?, )*
                })
            }

            /// The engine that was asked for.
            pub(crate) fn resolve(&self, scene: &Scene<'_>) -> Result<AnyEngine, Diagnostic> {
                match self.engine.unwrap_or_default() {
                    $( $(#[cfg($cfg)])? EngineName::$name => {
                        Ok(AnyEngine::$name(Box::new(self.$module.resolve(scene)?)))
                    } )*
                }
            }

            /// What is in the queues of clusters of a run, one line for each job.
            pub(crate) async fn queued(&self, run: &RunDir) -> Result<Vec<String>, Diagnostic> {
                let mut said: Vec<String> = vec![];
                $( $(#[cfg($cfg)])? said.extend(self.$module.queued(run).await?); )*
                Ok(said)
            }

            /// Whether an engine can end what waits and nothing else; also where no engine has this name.
            pub(crate) fn drains(name: &str) -> bool {
                $( $(#[cfg($cfg)])? if name == $module::Args::NAME {
                    return $module::Args::DRAINS;
                } )*
                true
            }

            /// Looks whether engines can be used that were asked for or have a section.
            pub(crate) async fn examine(
                &self,
                project: &ProjectHome,
                has_section: impl Fn(&str) -> bool,
            ) -> Vec<(&'static str, Result<String, Diagnostic>)> {
                let mut found = vec![];
                $( $(#[cfg($cfg)])? {
                    let is_wanted = self.engine == Some(EngineName::$name) || has_section($module::Args::NAME);
                    if is_wanted && let Some(said) = self.$module.examine(project).await.transpose() {
                        found.push(($module::Args::CALLED, said));
                    }
                } )*
                found
            }
        }

        impl EngineCancelArgs {
            /// Ends what earlier launches left to clusters, what runs of it or what waits alone; returns the names of what
            /// has ended.
            pub(crate) async fn cancel(
                &self,
                file: &impl Completion,
                run: &RunDir,
                plan: &Plan,
                drain: Option<Duration>,
            ) -> Result<Vec<String>, Diagnostic> {
                let mut ended: Vec<String> = vec![];
                $( $(#[cfg($cfg)])? {
                    let flags: $module::Args = self.$module.clone().into();
                    let flags = file.complete(&flags)?;
                    ended.extend(match drain {
                        None => flags.cancel(run, plan).await?,
                        Some(limit) => flags.drain(run, limit).await?,
                    });
                } )*
                Ok(ended)
            }
        }

        impl Engine for AnyEngine {
            fn name(&self) -> &'static str {
                match self { $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.name(), )* }
            }

            fn draining(&self) -> &'static str {
                match self { $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.draining(), )* }
            }

            fn image(&self) -> Option<&str> {
                match self { $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.image(), )* }
            }

            fn unsettled(&self) -> Result<HashSet<ItemIndex>, Diagnostic> {
                match self { $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.unsettled(), )* }
            }

            async fn run_phase(
                &mut self,
                phase: usize,
                tasks: Vec<Task>,
                channels: Channels,
            ) -> Result<PhaseEnd, Diagnostic> {
                match self {
                    $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.run_phase(phase, tasks, channels).await, )*
                }
            }

            async fn finish(&mut self) -> Result<(), Diagnostic> {
                match self { $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.finish().await, )* }
            }

            async fn hand_over(
                &mut self,
                phases: Vec<(usize, Vec<Task>)>,
                lock: RunLock,
            ) -> Result<HandedOver, Diagnostic> {
                match self {
                    $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.hand_over(phases, lock).await, )*
                }
            }

            async fn manifests(&mut self, phase: usize, tasks: Vec<Task>) -> Result<Vec<String>, Diagnostic> {
                match self { $( $(#[cfg($cfg)])? AnyEngine::$name(engine) => engine.manifests(phase, tasks).await, )* }
            }
        }
    };
}

engines! {
    /// Processes on this machine.
    Local => local,
    /// Pods of Indexed Jobs in a Kubernetes cluster.
    #[cfg(feature = "kubernetes")]
    Kubernetes => kubernetes,
    /// Tasks of job arrays in a Slurm cluster.
    Slurm => slurm,
}

impl AnyEngine {
    /// The engine of this machine.
    pub(crate) fn local(scene: &Scene<'_>) -> Result<AnyEngine, Diagnostic> {
        EngineArgs { engine: Some(EngineName::Local), ..EngineArgs::default() }.resolve(scene)
    }
}

/// The flags of an engine, and what they say by themselves.
pub(crate) trait Flags: Args + Serialize + DeserializeOwned + Clone + Default {
    /// What `--engine`, the journal and the section of the configuration file call it.
    const NAME: &'static str;
    /// What people call it.
    const CALLED: &'static str;
    /// Whether it can end what waits and let what runs come to its end.
    const DRAINS: bool = true;
    type Engine: Engine;
    /// Those of them that `cancel` takes.
    type Cancel: Args + Clone + Default + Into<Self>;

    /// Looks up what was meant.
    fn resolve(&self, scene: &Scene<'_>) -> Result<Self::Engine, Diagnostic>;

    /// Ends what earlier launches of a run left to a cluster; returns the names of what it ended.
    async fn cancel(&self, _run: &RunDir, _plan: &Plan) -> Result<Vec<String>, Diagnostic> {
        Ok(vec![])
    }

    /// Ends what waits of a run in a cluster, and waits at most so long for what runs; returns the names of what has ended.
    async fn drain(&self, _run: &RunDir, _limit: Duration) -> Result<Vec<String>, Diagnostic> {
        Ok(vec![])
    }

    /// What is in the cluster's queue of a run, one line for each job whose end nobody has taken in.
    async fn queued(&self, _run: &RunDir) -> Result<Vec<String>, Diagnostic> {
        Ok(vec![])
    }

    /// Looks whether the engine can be used, and says what there is; `None` where there is nothing to look at.
    async fn examine(&self, _project: &ProjectHome) -> Result<Option<String>, Diagnostic> {
        Ok(None)
    }
}

/// What a launch is about.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub project: &'a ProjectHome,
    pub run: &'a RunDir,
    pub plan: &'a Plan,
    pub running: &'a RunningArgs,
    /// Whether the launcher is to leave the work items alone once they are on their way.
    pub detach: bool,
    /// Whether stages run in the project itself, one work item after another in their order.
    pub in_project: bool,
    /// What takes the run to workers that see nothing of the project, and their results back.
    pub mailbox: Option<&'a Arc<Mailbox>>,
}

impl<'a> Scene<'a> {
    /// A launch that stays, in workspaces, with workers that see the project.
    pub(crate) fn new(project: &'a ProjectHome, run: &'a RunDir, plan: &'a Plan, running: &'a RunningArgs) -> Self {
        Scene { project, run, plan, running, detach: false, in_project: false, mailbox: None }
    }
}

/// What completes flags: the configuration file.
pub(crate) trait Completion {
    /// The engine that was typed, else the one of the file, else the local one.
    fn engine(&self, typed: Option<EngineName>) -> Result<EngineName, Diagnostic>;
    /// Flags of an engine with what only its section says.
    fn complete<T: Flags>(&self, typed: &T) -> Result<T, Diagnostic>;
}

/// The section of an engine in the configuration file.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub name: &'static str,
    /// What people call the engine.
    pub called: &'static str,
    /// In the order of the help.
    pub flags: Vec<Arg>,
    /// What they say, by name.
    pub values: serde_json::Value,
}

impl Section {
    fn of<T: Flags>(typed: &T) -> Section {
        let values = serde_json::to_value(typed).unwrap_or_default();
        Section { name: T::NAME, called: T::CALLED, flags: args::flags::<T>(), values }
    }
}

/// What an engine works with while a phase runs.
#[derive(Clone)]
pub(crate) struct Channels {
    /// Takes events; what is sent is journaled before anything else happens to it.
    pub events: mpsc::UnboundedSender<Event>,
    /// How far to stop; may change at any time, only upwards.
    pub stop: watch::Receiver<Stop>,
}

/// Waits until the engine is asked for something, and says what that is.
///
/// It is a copy: what `wait_for` returns keeps anybody from asking for more, and all of this thread with them, for as long as
/// it lives; in a `select!`, that is to the end of its branch.
#[expect(clippy::disallowed_methods, reason = "what it returns goes at once")]
pub(crate) async fn until_asked(stop: &mut watch::Receiver<Stop>, is_meant: impl Fn(Stop) -> bool) -> Stop {
    stop.wait_for(|stop| is_meant(*stop)).await.map_or(Stop::Now, |stop| *stop)
}

impl Channels {
    /// Sends an event; nobody listens where the launch is over already.
    pub(crate) fn send(&self, event: Event) {
        drop(self.events.send(event));
    }

    pub(crate) fn send_all(&self, events: Vec<Event>) {
        events.into_iter().for_each(|event| self.send(event));
    }

    /// Says something that a person should know.
    pub(crate) fn notice(&self, message: String) {
        self.send(Event::Noticed { message });
    }
}

/// Counts the work items that have failed for good, in all phases of a launch.
#[derive(Debug)]
pub(crate) struct Failures {
    limit: Option<usize>,
    count: Cell<usize>,
}

impl Failures {
    /// No more is to be started once as many work items have failed as the limit says.
    pub(crate) fn up_to(limit: Option<usize>) -> Self {
        Failures { limit, count: Cell::new(0) }
    }

    pub(crate) fn take(&self, event: &Event) {
        self.count.set(self.count.get() + usize::from(event.failed().is_some()));
    }

    pub(crate) fn are_too_many(&self) -> bool {
        self.limit_is_reached(self.count.get())
    }

    /// Whether that many would be too many by themselves.
    fn limit_is_reached(&self, count: usize) -> bool {
        self.limit.is_some_and(|limit| count >= limit)
    }
}

/// How a phase came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseEnd {
    /// Each task has ended for good, or the engine was stopped.
    Done,
    /// So many work items have failed that no more were started.
    GaveUp,
    /// The work items go on without the launcher.
    Detached,
}

/// Who goes on with a run that was to be handed over.
#[derive(Debug)]
pub(crate) enum HandedOver {
    /// This process: the engine leaves nothing to its cluster before it has begun.
    Here(RunLock),
    /// The cluster, and what to say about that.
    There(Vec<String>),
}

/// A way to run work items that do not need one another.
pub(crate) trait Engine {
    /// What journal and status call it.
    fn name(&self) -> &'static str;
    /// What the first Ctrl-C does, and what a second one would.
    fn draining(&self) -> &'static str;

    /// The image that workers run in, where they run in one.
    fn image(&self) -> Option<&str> {
        None
    }

    /// The work items of jobs whose end nobody has taken in: a failure of theirs may be worth another try.
    fn unsettled(&self) -> Result<HashSet<ItemIndex>, Diagnostic> {
        Ok(HashSet::new())
    }

    /// Runs the tasks of a phase until each has ended for good or the engine was stopped.
    ///
    /// Fails only where the engine itself cannot go on; work items that fail are events.
    async fn run_phase(&mut self, phase: usize, tasks: Vec<Task>, channels: Channels) -> Result<PhaseEnd, Diagnostic>;

    /// Does what is left to do when no phase is left.
    async fn finish(&mut self) -> Result<(), Diagnostic> {
        Ok(())
    }

    /// Leaves all phases that are left to the cluster instead of this process, and gives the lock of the run up to it.
    ///
    /// The tasks are those of each phase, of which some may turn out to lack what they need.
    async fn hand_over(&mut self, _phases: Vec<(usize, Vec<Task>)>, lock: RunLock) -> Result<HandedOver, Diagnostic> {
        Ok(HandedOver::Here(lock))
    }

    /// What `launch --dry-run` prints of a phase; an engine that has nothing to show refuses.
    async fn manifests(&mut self, _phase: usize, _tasks: Vec<Task>) -> Result<Vec<String>, Diagnostic> {
        Err(Diagnostic::usage(format!("`--dry-run` is not for `--engine {}`", self.name()))
            .hint("`dvc-fanout plan` says what would run"))
    }
}
