//! A worker process of the local engine, and what its answers and its end mean.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::adapters::process::{self, Program, Running};
use crate::diagnostic::{OPEN_MORE, is_too_many_open};
use crate::engine::until_asked;
use crate::exit::Exit;
use crate::model::event::Stop;
use crate::model::run::Ending;

/// How long a worker gets between TERM and KILL; it stops its own stages in that time.
const GRACE: Duration = Duration::from_secs(20);

/// A worker process, which does one work item after another.
pub(super) struct Worker {
    child: Running,
    line: UnixStream,
}

impl Worker {
    pub(super) fn start(program: &Program, project: &Path, log: &File, kept: &Path) -> Result<Worker, String> {
        let start = || {
            let (child, line) = process::start_overseen(program, project, log, GRACE, kept)?;
            line.set_nonblocking(true)?;
            Ok(Worker { child, line: UnixStream::from_std(line)? })
        };
        start().map_err(|error: std::io::Error| cannot_start(&program.shown(), &error.to_string()))
    }

    /// Has an attempt done, or ends the worker when the engine is told to stop now. Also returns the worker if it can do
    /// more.
    pub(super) async fn work(mut self, order: &[String], mut stop: watch::Receiver<Stop>) -> (Ending, Option<Worker>) {
        let answer = tokio::select! {
            answer = ask(&mut self.line, order) => answer,
            _ = until_asked(&mut stop, |stop| stop == Stop::Now) => {
                process::stop_overseen(&mut self.child, GRACE).await;
                return (Ending::Stopped, None);
            }
        };
        let ending = match answer {
            Ok(code) => classify(&process::Ending::Exited(i32::from(code))),
            // A worker that does not answer is about to end, or has ended.
            Err(_) => match tokio::time::timeout(GRACE, process::wait(&mut self.child)).await {
                Ok(ending) => classify(&ending),
                Err(_) => {
                    process::stop_overseen(&mut self.child, GRACE).await;
                    Ending::Lost { message: "the worker hung".into() }
                }
            },
        };
        if answer.is_err() {
            return (ending, None);
        }
        // It answers so when it was told to end, and ends then.
        if matches!(ending, Ending::Lost { .. }) {
            self.end().await;
            return (ending, None);
        }
        (ending, Some(self))
    }

    /// Lets a worker end that does nothing.
    pub(super) async fn end(mut self) {
        drop(self.line);
        if tokio::time::timeout(GRACE, process::wait(&mut self.child)).await.is_err() {
            process::stop_overseen(&mut self.child, GRACE).await;
        }
    }
}

/// Says why a worker could not be started, and what to do where that is known.
fn cannot_start(program: &str, error: &str) -> String {
    let advice = if is_too_many_open(error) { format!(": {OPEN_MORE}") } else { String::new() };
    format!("cannot start `{program}`: {error}{advice}")
}

/// Gives a worker an order and waits for its answer: the code that a process of its own would have exited with.
async fn ask(line: &mut UnixStream, order: &[String]) -> std::io::Result<u8> {
    let words: String = order.iter().flat_map(|word| [word, "\0"]).collect();
    line.write_all(format!("{words}\0").as_bytes()).await?;
    line.read_u8().await
}

/// Tells from a worker's exit what kind of end it was.
fn classify(ending: &process::Ending) -> Ending {
    let code = |exit: Exit| i32::from(exit.code());
    match ending {
        process::Ending::Exited(0) => Ending::Succeeded,
        process::Ending::Exited(exit) if *exit == code(Exit::WorkItemsFailed) => {
            Ending::Failed { message: "a stage failed".into() }
        }
        process::Ending::Exited(exit) if *exit > 128 => {
            Ending::Lost { message: format!("the worker was ended by signal {}", exit - 128) }
        }
        process::Ending::Exited(exit) if *exit == code(Exit::Project) || *exit == code(Exit::Usage) => {
            Ending::Failed { message: format!("the worker {ending}") }
        }
        process::Ending::Exited(_) | process::Ending::NotStarted(_) => {
            Ending::ToolFailed { message: format!("the worker {ending}") }
        }
        process::Ending::Signalled(_) => Ending::Lost { message: format!("the worker {ending}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_cannot_be_started_for_want_of_open_files_says_what_to_do() {
        let said = |number| cannot_start("w", &std::io::Error::from_raw_os_error(number).to_string());
        assert!(said(24).ends_with(OPEN_MORE), "{}", said(24));
        assert!(said(2).ends_with("(os error 2)"), "{}", said(2));
    }

    #[test]
    fn a_workers_exit_tells_the_class_of_its_end() {
        assert_eq!(classify(&process::Ending::Exited(0)), Ending::Succeeded);
        assert!(matches!(classify(&process::Ending::Exited(1)), Ending::Failed { .. }));
        assert!(matches!(classify(&process::Ending::Exited(5)), Ending::ToolFailed { .. }));
        assert!(matches!(classify(&process::Ending::Signalled(9)), Ending::Lost { .. }));
    }
}
