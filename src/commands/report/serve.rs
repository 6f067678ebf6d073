//! `report --serve`: the report as a page that stays up to date, with the logs of work items, for a browser.
//!
//! | below the address | what |
//! |---|---|
//! | nothing | the page, as the files of the run tell it now |
//! | `log?item=INDEX&attempt=N&from=OFFSET` | what the log of its latest attempt has from there on; from near the end where it is another attempt. `x-attempt` and `x-next` say what to ask for next |

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use super::gather::gather;
use crate::adapters::http::{Answer, Asked, Server};
use crate::cli::{ReportArgs, Serve};
use crate::commands::store;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::output::report::{self, Origin};
use crate::output::text;
use crate::state::home::ProjectHome;
use crate::state::paths::RunDir;
use crate::state::{results, worklist};

/// Bytes of a log in an answer.
const BLOCK: u64 = 1 << 16;

/// Serves the report of a run, or of the latest one at the time, until this process is ended.
pub(super) fn run(project: ProjectHome, args: &ReportArgs, at: Serve) -> Result<Exit, Diagnostic> {
    // Where there is nothing to show, it is said here.
    store::open_to_show(&project, args.run.as_deref(), args.elsewhere.store.as_deref())?;
    let server = Server::bind(at.0).map_err(|error| {
        Diagnostic::tool(format!("cannot serve at {}", at.0))
            .source(&error)
            .hint("`--serve` alone takes a port that is free")
    })?;
    text::result(&server.url());
    text::note("open that address in a browser; Ctrl-C ends it");
    let mut shown = Shown { project, named: args.run.clone(), looked: Instant::now() };
    server.serve(move |asked| shown.answer(asked))
}

/// What is shown.
struct Shown {
    project: ProjectHome,
    named: Option<String>,
    /// When an object store was last asked for news.
    looked: Instant,
}

impl Shown {
    fn answer(&mut self, asked: Asked<'_>) -> Answer {
        let found = match asked.path {
            "" => self.page(),
            "log" => log(&self.project, self.named.as_deref(), asked),
            _ => return Answer::nothing("there is no such page"),
        };
        found.unwrap_or_else(|error| Answer::nothing(&error.message))
    }

    fn page(&mut self) -> Result<Answer, Diagnostic> {
        let (run, plan) = worklist::open_to_show(&self.project.fanout(), self.named.as_deref())?;
        if self.looked.elapsed() > store::LOOK {
            store::refresh(&run, &plan)?;
            self.looked = Instant::now();
        }
        let mut page = vec![];
        let rendered = report::html(&gather(&run, &plan)?, Origin::Server, &mut page);
        rendered.map_err(|error| Diagnostic::internal("cannot render the report").source(&error))?;
        Ok(Answer::page(page))
    }
}

fn log(project: &ProjectHome, named: Option<&str>, asked: Asked<'_>) -> Result<Answer, Diagnostic> {
    let number = |name| asked.value(name).and_then(|value| u64::from_str(value).ok());
    let index = number("item").and_then(|index| usize::try_from(index).ok()).map(ItemIndex::new);
    let index = index.ok_or_else(|| Diagnostic::usage("no work item is named"))?;
    let (run, plan) = worklist::open_to_show(&project.fanout(), named)?;
    let last = results::attempts(&run, index)?.last().copied().filter(|_| plan.has(index));
    let Some(attempt) = last else { return Ok(Answer::text(vec![])) };
    let from = number("from").filter(|_| number("attempt") == Some(attempt.get().into()));
    let (body, next) = part(&run, index, attempt, from).unwrap_or_default();
    let headers = vec![("x-attempt", attempt.to_string()), ("x-next", next.to_string())];
    Ok(Answer { headers, ..Answer::text(body) })
}

/// What a log has from a place on, and the place behind that.
fn part(run: &RunDir, index: ItemIndex, attempt: AttemptNumber, from: Option<u64>) -> std::io::Result<(Vec<u8>, u64)> {
    let path = run.log(index, attempt);
    if !is_file(&path) {
        return Ok((vec![], 0));
    }
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let from = from.filter(|from| *from <= length).unwrap_or(length.saturating_sub(BLOCK));
    file.seek(SeekFrom::Start(from))?;
    let mut block = vec![];
    file.take(BLOCK).read_to_end(&mut block)?;
    let next = from + block.len() as u64;
    Ok((block, next))
}

/// Whether it is what a worker has written, and nothing that leads elsewhere or waits for somebody.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}
