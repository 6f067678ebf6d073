//! `launch`: runs the work items of a plan, phase after phase, and watches them to the end.

pub(crate) mod base;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
mod local;
mod ready;

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

#[cfg(feature = "kubernetes")]
pub(crate) use kubernetes::access;

use crate::adapters::dvc::Dvc;
use crate::adapters::signals::{self, Asked, Signals};
use crate::adapters::{clock, fs};
use crate::cli::settings::{EngineArg, RunningArgs};
use crate::cli::{Cli, EngineArgs, Format, LaunchArgs};
use crate::commands::settings::Settings;
use crate::commands::summary;
use crate::diagnostic::Diagnostic;
use crate::engine::{Channels, Engine, PhaseEnd};
use crate::env;
use crate::exit::Exit;
use crate::model::event::{Ending, Event, Stop};
use crate::output::progress::{Progress, Style};
use crate::output::text;
use crate::plan::preflight;
use crate::state::format::{Outcome, Plan, WorkItem};
use crate::state::home::ProjectHome;
use crate::state::journal::{EndingKind, Journal, Journaled};
use crate::state::paths::RunDir;
use crate::state::run_lock::RunLock;
use crate::state::{durations, results, worklist};

/// How often is looked whether the heartbeat is due.
const TICK: Duration = Duration::from_millis(500);
/// How long an engine may take for what is left to do after the last phase.
const FINISH_LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn run(cli: &Cli, args: &LaunchArgs) -> Result<Exit, Diagnostic> {
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let (run, plan) = worklist::open(&project.fanout(), args.run.as_deref())?;
    if plan.work_items == 0 {
        text::note("nothing to do: no stage has changed");
        return Ok(Exit::Success);
    }
    let phases: Vec<usize> = match args.phase {
        Some(phase) if phase >= plan.phases.len() => {
            return Err(Diagnostic::usage(format!("there is no phase {phase}: the run has {}", plan.phases.len())));
        }
        Some(phase) => vec![phase],
        None => (0..plan.phases.len()).filter(|phase| !plan.phases[*phase].trailing).collect(),
    };
    base::check(&project.root, &run, &plan)?;
    let settings = Settings::read(&project.root)?;
    let running = settings.running(&args.running)?;
    #[cfg_attr(not(feature = "kubernetes"), expect(unused_mut, reason = "nothing is changed in the local engine"))]
    let mut engine = choose(&project, &plan, &settings, &args.engine, &running)?;
    #[cfg(feature = "kubernetes")]
    match &mut engine {
        EngineChoice::Kubernetes(config) if args.dry_run => {
            return kubernetes::dry_run((**config).clone(), &run, &plan, &phases);
        }
        EngineChoice::Kubernetes(config) => config.detach = args.detach,
        EngineChoice::Local if args.dry_run || args.detach => {
            return Err(Diagnostic::usage("`--dry-run` and `--detach` are for `--engine kubernetes`"));
        }
        EngineChoice::Local => {}
    }
    let lock = hold(&run)?;
    let Launched { exit, .. } = launch(cli, &project, &lock, &plan, &phases, &running, engine)?;
    if cli.format == Format::Text {
        summary::print(&run, &plan, &phases)?;
    }
    Ok(exit)
}

/// What runs the work items.
pub(crate) enum EngineChoice {
    Local,
    #[cfg(feature = "kubernetes")]
    Kubernetes(Box<crate::engine::kubernetes::KubernetesConfig>),
}

/// The engine that was asked for, as configured.
#[cfg_attr(not(feature = "kubernetes"), expect(unused_variables, reason = "only a cluster is configured from them"))]
pub(crate) fn choose(
    project: &ProjectHome,
    plan: &Plan,
    settings: &Settings,
    args: &EngineArgs,
    running: &RunningArgs,
) -> Result<EngineChoice, Diagnostic> {
    match settings.engine(args.engine)? {
        EngineArg::Local => Ok(EngineChoice::Local),
        #[cfg(feature = "kubernetes")]
        EngineArg::Kubernetes => {
            let config = kubernetes::resolve(project, plan, &settings.kubernetes(&args.kubernetes)?, running)?;
            Ok(EngineChoice::Kubernetes(Box::new(config)))
        }
    }
}

/// Takes the lock of a run, from its first phase to its last; an earlier wish to cancel it is forgotten.
pub(crate) fn hold(run: &RunDir) -> Result<RunLock, Diagnostic> {
    let lock = RunLock::acquire(run)?;
    fs::remove(&run.cancel())?;
    signals::watch_for(run.cancel()).map_err(|error| cannot_listen(&error))?;
    Ok(lock)
}

fn cannot_listen(error: &std::io::Error) -> Diagnostic {
    Diagnostic::tool("cannot listen to signals").source(error)
}

/// Runs the work items of some phases that have no good result yet, but for those whose failure stands.
///
/// Also what `finalize` uses for the trailing phases.
#[cfg_attr(
    not(feature = "kubernetes"),
    expect(clippy::needless_pass_by_value, reason = "a cluster's engine takes its configuration")
)]
pub(crate) fn launch(
    cli: &Cli,
    project: &ProjectHome,
    lock: &RunLock,
    plan: &Plan,
    phases: &[usize],
    args: &RunningArgs,
    engine: EngineChoice,
) -> Result<Launched, Diagnostic> {
    let run = lock.run();
    let items = worklist::read_all(run)?;
    let (git, _) = project.git()?;
    preflight::operation(&git)?;
    if let Some(commit) = &plan.snapshot {
        git.keep(&plan.run, commit)?;
    }
    ready::check_data(project, phases.iter().flat_map(|phase| &items[plan.phases[*phase].indexes()]))?;
    let mut launch = Launch {
        cli,
        run,
        plan,
        items: &items,
        expected: durations::before(&project.fanout(), &plan.run)?,
        args,
        journal: Journal::open(run)?,
        started: HashMap::new(),
        exit: Exit::Success,
        asked: None,
        gave_up: false,
        stop: watch::Sender::new(Stop::No),
    };
    match engine {
        EngineChoice::Local => {
            Dvc::find()?;
            block_on(launch.drive(&mut local::engine(project, run, plan, args), phases))?;
        }
        #[cfg(feature = "kubernetes")]
        EngineChoice::Kubernetes(config) => {
            let files = Box::new(kubernetes::Files::new(run, &config.access));
            let mut engine = crate::engine::kubernetes::KubernetesEngine::new(*config, files);
            block_on(launch.drive(&mut engine, phases))?;
        }
    }
    Ok(Launched { exit: launch.exit, gave_up: launch.gave_up })
}

/// How a launch ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launched {
    pub exit: Exit,
    /// Whether no more was started since too many work items have failed.
    pub gave_up: bool,
}

/// Runs what is asynchronous to its end, on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Diagnostic>>) -> Result<T, Diagnostic> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Diagnostic::tool("cannot start the async runtime").source(&error))?;
    LocalSet::new().block_on(&runtime, future)
}

/// The limits of groups, by name.
fn groups(args: &RunningArgs) -> BTreeMap<String, usize> {
    args.groups.iter().map(|group| (group.name.clone(), group.limit)).collect()
}

/// After how many failures no more is started.
fn max_failed(args: &RunningArgs, plan: &Plan) -> Option<usize> {
    if args.fail_fast { Some(1) } else { args.max_failed.map(|limit| limit.of(plan.work_items)) }
}

/// A launch under way: the one loop that journals events and then shows them.
struct Launch<'a> {
    cli: &'a Cli,
    run: &'a RunDir,
    plan: &'a Plan,
    items: &'a [WorkItem],
    /// How long work items took in earlier runs, in seconds, by id.
    expected: HashMap<String, f64>,
    args: &'a RunningArgs,
    journal: Journal,
    /// When the running attempts began.
    started: HashMap<usize, String>,
    exit: Exit,
    /// The signal that ends this launch, or stands for what ends it.
    asked: Option<u8>,
    /// Whether no more was started since too many work items have failed.
    gave_up: bool,
    stop: watch::Sender<Stop>,
}

impl Launch<'_> {
    async fn drive<E: Engine>(&mut self, engine: &mut E, phases: &[usize]) -> Result<(), Diagnostic> {
        let mut signals = Signals::listen().map_err(|error| cannot_listen(&error))?;
        let mut tick = tokio::time::interval(TICK);
        let (host, process) = (crate::adapters::process::host(), std::process::id());
        let image = engine.image().map(str::to_owned);
        self.record(Journaled::Launched { engine: E::NAME.into(), image, host, process })?;
        let total = phases.iter().map(|phase| self.plan.phases[*phase].count).sum();
        let quiet = self.args.quiet || self.cli.format == Format::Json;
        let style = Style::choose(quiet, std::io::stderr().is_terminal(), env::read(env::CI).is_some());
        let mut progress = Progress::new(style, total);
        #[cfg_attr(not(feature = "kubernetes"), expect(unused_mut, reason = "only a cluster goes on by itself"))]
        let mut is_left = false;
        for &number in phases {
            let phase = &self.plan.phases[number];
            let mut ready = ready::of_phase(self.run, self.plan, self.items, phase)?;
            for task in &mut ready.tasks {
                task.expected_seconds = self.expected.get(&task.id).copied();
            }
            if ready.given_up > 0 {
                let what = text::count(ready.given_up, "work item");
                progress
                    .note(&format!("{what} failed before and will not run again (`dvc-fanout retry` wants them to)"));
                self.exit = Exit::WorkItemsFailed;
            }
            if phase.count > 0 {
                self.record(Journaled::PhaseStarted { phase: number, work_items: ready.tasks.len() })?;
            }
            for (index, because) in ready.skipped {
                let id = self.items[index].id.clone();
                let names: Vec<&str> = because.iter().take(3).map(|index| self.items[*index].id.as_str()).collect();
                progress.skipped(&id, &names.join(", "));
                self.record(Journaled::WorkItemSkipped { index, id, because })?;
                self.exit = Exit::WorkItemsFailed;
            }
            if ready.tasks.is_empty() || *self.stop.borrow() != Stop::No {
                continue;
            }
            let (sender, mut events) = mpsc::unbounded_channel();
            let channels = Channels { events: sender, stop: self.stop.subscribe() };
            let running = engine.run_phase(number, ready.tasks, channels);
            let mut running = std::pin::pin!(running);
            let mut ended = None;
            loop {
                tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Some(event) => self.take(event, &mut progress)?,
                        None => break,
                    },
                    result = &mut running, if ended.is_none() => {
                        ended = Some(result);
                        events.close();
                    }
                    asked = signals.next() => self.on_request(asked, E::DRAINING, &progress)?,
                    _ = tick.tick() => progress.heartbeat(),
                }
            }
            match ended.transpose()? {
                Some(PhaseEnd::Done) | None => {}
                Some(PhaseEnd::GaveUp) => {
                    progress.note("too many work items have failed: starting no more");
                    self.gave_up = true;
                    break;
                }
                #[cfg(feature = "kubernetes")]
                Some(PhaseEnd::Detached) => {
                    let (run, engine) = (&self.plan.run, E::NAME);
                    progress.note(&format!("watch the run again with `dvc-fanout launch {run} --engine {engine}`"));
                    progress.note(&format!("or end it with `dvc-fanout cancel {run}`"));
                    is_left = true;
                    break;
                }
            }
        }
        while let Some(asked) = signals.came() {
            self.on_request(asked, E::DRAINING, &progress)?;
        }
        if !is_left && *self.stop.borrow() == Stop::No {
            let finished = tokio::time::timeout(FINISH_LIMIT, engine.finish()).await;
            if let Ok(Err(diagnostic)) = finished {
                progress.note(&format!("what is left in the cluster was not looked after: {diagnostic}"));
            }
        }
        progress.finish();
        if let Some(signal) = self.asked {
            self.exit = Exit::Signal(signal);
        }
        Ok(())
    }

    /// Journals an event, then shows it.
    fn take(&mut self, event: Event, progress: &mut Progress) -> Result<(), Diagnostic> {
        if event.is_failure() {
            self.exit = Exit::WorkItemsFailed;
        }
        match event {
            Event::AttemptStarted { index, attempt, place } => {
                let id = self.items[index].id.clone();
                self.started.insert(index, clock::now());
                progress.started(index, &id, attempt, &place);
                self.record(Journaled::AttemptStarted { index, id, attempt, place })
            }
            Event::AttemptFinished { index, attempt, ending, retry_after } => {
                let id = self.items[index].id.clone();
                let message = self.message(index, attempt, &ending);
                let begun = self.started.remove(&index).unwrap_or_default();
                let kind = match &ending {
                    Ending::Succeeded => EndingKind::Succeeded,
                    Ending::Failed { .. } => EndingKind::Failed,
                    Ending::ToolFailed { .. } => EndingKind::ToolFailed,
                    Ending::Lost { .. } => EndingKind::Lost,
                    Ending::Stopped => EndingKind::Stopped,
                };
                progress.finished(index, &id, &ending, &message, retry_after);
                self.record(Journaled::AttemptFinished {
                    index,
                    id,
                    attempt,
                    ending: kind,
                    message: Some(message).filter(|message| !message.is_empty()),
                    seconds: clock::seconds_between(&begun, &clock::now()),
                    retry_after_seconds: retry_after.map(|wait| wait.as_secs_f64()),
                })
            }
            Event::Noticed { message } => {
                progress.note(&message);
                self.record(Journaled::Noticed { message })
            }
        }
    }

    /// Why an attempt did not succeed: in the words of its result, else in the engine's, else in the worker's last.
    fn message(&self, index: usize, attempt: u32, ending: &Ending) -> String {
        let fallback = match ending {
            Ending::Succeeded | Ending::Stopped => return String::new(),
            Ending::Failed { message } | Ending::ToolFailed { message } | Ending::Lost { message } => message,
        };
        let published = results::best(self.run, index).ok().flatten();
        let published = published.filter(|published| published.result.attempt == attempt);
        match published.map(|published| published.result.outcome) {
            // The engine knows why the worker was told to end.
            Some(Outcome::Interrupted { .. }) => fallback.clone(),
            Some(outcome) if outcome != Outcome::Succeeded => outcome.to_string(),
            Some(_) | None => {
                let log = self.run.log(index, attempt);
                match summary::last_error(&log) {
                    Some(error) => format!("{fallback}: {error}"),
                    // The worker may have had no room to say why.
                    None if fs::exists(&log) => match fs::append_line(&log, fallback) {
                        Err(error) if error.is_full() => format!("{fallback}: {}", Diagnostic::from(error).one_line()),
                        Ok(()) | Err(_) => fallback.clone(),
                    },
                    None => fallback.clone(),
                }
            }
        }
    }

    fn on_request(&mut self, asked: Asked, draining: &str, progress: &Progress) -> Result<(), Diagnostic> {
        self.asked = Some(asked.signal());
        // The first Ctrl-C lets what runs come to its end; a second one, or TERM, does not.
        let (how, what) = match asked {
            Asked::Interrupt if *self.stop.borrow() == Stop::No => (Stop::Draining, draining),
            Asked::Interrupt | Asked::Signal(_) => (Stop::Now, "ending what runs"),
            Asked::Cancel => (Stop::Now, "cancelled from another terminal: ending what runs"),
        };
        progress.note(what);
        self.stop(how)
    }

    fn stop(&mut self, how: Stop) -> Result<(), Diagnostic> {
        self.stop.send_replace(how);
        self.record(Journaled::Stopping { now: how == Stop::Now })
    }

    fn record(&mut self, event: Journaled) -> Result<(), Diagnostic> {
        let line = self.journal.append(event)?;
        if self.cli.format == Format::Json {
            text::result(&serde_json::to_string(&line).expect("an event is plain data"));
        }
        Ok(())
    }
}
