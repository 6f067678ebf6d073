//! `work --serve`: does one work item after another as the launcher asks for them, in one process.
//!
//! Standard input is a socket, or standard output where commands read standard input. An order is what the command line of a `work` for one work item would be, each word ended
//! by a NUL and the last by two; the answer is one byte, the code that such a process would exit with. What is printed
//! goes to the log of the attempt. The launcher wants no more when it closes its end.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::adapters::{fs, process, signals};
use crate::cli::work::{WorkArgs, WorkOrder};
use crate::commands::work::turns::worse;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::numbers::ItemIndex;
use crate::model::run::Outcome;
use crate::output::text;
use crate::state::paths::RunDir;
use crate::worker::child::Watch;

/// Does what is asked for, each with `work`, until the launcher wants no more or a signal ends it. `is_inherited` where
/// commands read what the launcher would read.
pub(super) fn run(
    run: &RunDir,
    is_inherited: bool,
    watch: &mut Watch,
    mut work: impl FnMut(ItemIndex, &WorkArgs, &mut Watch) -> Result<Outcome, Diagnostic>,
) -> Result<Exit, Diagnostic> {
    let broken = |error: std::io::Error| Diagnostic::tool("the line to the launcher is broken").source(&error);
    let line = if is_inherited {
        // The launcher is in the same group, and tells what Ctrl-C means.
        signals::leave_interrupts();
        std::io::stdout().as_fd().try_clone_to_owned()
    } else {
        std::io::stdin().as_fd().try_clone_to_owned()
    };
    let line = StdUnixStream::from(line.map_err(broken)?);
    line.set_nonblocking(true).map_err(broken)?;
    let mut line = watch.within(|| UnixStream::from_std(line)).map(BufReader::new).map_err(broken)?;
    loop {
        let order = match watch.wait_for(read_order(&mut line)) {
            Err(asked) => return Ok(Exit::Signal(asked.signal())),
            Ok(order) => order.map_err(broken)?,
        };
        let Some(order) = order else { return Ok(Exit::Success) };
        let args = WorkOrder::read(&order).map_err(|error| Diagnostic::internal(error.to_string()))?;
        let (Some(index), Some(attempt)) = (args.index.map(ItemIndex::new), args.attempt) else {
            return Err(Diagnostic::internal("an order names no work item or attempt"));
        };
        process::print_into(&fs::append(&run.log(index, attempt))?).map_err(broken)?;
        let exit = match work(index, &args, watch) {
            Ok(outcome) => worse(Exit::Success, &outcome),
            Err(diagnostic) => {
                text::error(&diagnostic);
                diagnostic.exit
            }
        };
        watch.finish(line.write_all(&[exit.code()])).map_err(broken)?;
        if matches!(exit, Exit::Signal(_)) {
            return Ok(exit);
        }
    }
}

/// Reads the words of an order; `None` when there is no other.
async fn read_order(line: &mut BufReader<UnixStream>) -> std::io::Result<Option<Vec<String>>> {
    let mut words = vec![];
    loop {
        let mut word = vec![];
        line.read_until(0, &mut word).await?;
        match word.pop() {
            None => return Ok(None),
            Some(_) if word.is_empty() => return Ok(Some(words)),
            Some(_) => words.push(String::from_utf8(word).map_err(std::io::Error::other)?),
        }
    }
}
