//! The manual: examples of every command, for its help and its man page, and the sections that man pages share.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// A command line and what it does.
pub(crate) struct Example {
    pub line: &'static str,
    pub what: &'static str,
}

const fn example(line: &'static str, what: &'static str) -> Example {
    Example { line, what }
}

/// Examples by command, in the order in which somebody might type them in a project with a template `extract` and a
/// session `s1`.
pub(crate) const EXAMPLES: [(&str, &[Example]); 17] = [
    (
        "run",
        &[
            example(
                "dvc-fanout run",
                "Runs what `dvc repro` would run, as many work items at a time as there are CPUs.",
            ),
            example("dvc-fanout run -j 2 --max-failed 10% -P", "All pipelines; gives up after a tenth has failed."),
            example("dvc-fanout run extract@s1", "One stage and what it needs."),
            example("dvc-fanout run --full --commit 'Nightly run'", "Checks with `dvc repro` and commits."),
        ],
    ),
    (
        "plan",
        &[
            example("dvc-fanout plan", "Says what would run, by template, and saves the plan."),
            example("dvc-fanout plan --force --explain s1", "Says why each stage of one work item runs."),
            example("dvc-fanout plan --force --format mermaid", "Draws the phases for a Markdown page."),
            example("dvc-fanout plan --check", "Only checks for problems."),
        ],
    ),
    (
        "launch",
        &[
            example(
                "dvc-fanout launch --engine kubernetes --image worker:1 --volume \"hostPath:$PWD\" --dry-run > jobs.yaml",
                "Writes what would be sent to a cluster.",
            ),
            example("dvc-fanout launch -j 2 --timeout 2h --fail-fast", "Runs the plan on this machine."),
        ],
    ),
    (
        "work",
        &[
            example("dvc-fanout work 0", "Runs the first work item."),
            example("JOB_COMPLETION_INDEX=1 dvc-fanout work", "The same by index, as in an Indexed Job."),
        ],
    ),
    (
        "collect",
        &[
            example("dvc-fanout collect --dry-run", "Says what would be merged into the project."),
            example("dvc-fanout collect", "Merges what is published so far."),
            example("dvc-fanout collect --only s1 --theirs", "Takes one work item's results where both sides changed."),
        ],
    ),
    (
        "finalize",
        &[example(
            "dvc-fanout finalize",
            "Runs the remaining stages, brings outs into the workspace, and finishes the run.",
        )],
    ),
    (
        "report",
        &[
            example("dvc-fanout report", "Reports the outcome of the latest run."),
            example("dvc-fanout report --format html --output report.html", "One page with everything."),
            example("dvc-fanout report --format junit > junit.xml", "For Jenkins."),
        ],
    ),
    (
        "status",
        &[
            example("dvc-fanout status", "Counts, what is running, and what failed and why."),
            example("dvc-fanout status --all --format json", "Every work item, for programs."),
        ],
    ),
    (
        "logs",
        &[
            example("dvc-fanout logs s1", "The log of the last attempt."),
            example("dvc-fanout logs s1 --attempt 1", "The log of the first attempt."),
        ],
    ),
    ("retry", &[example("dvc-fanout retry", "Has the next launch try everything that failed again.")]),
    ("cancel", &[example("dvc-fanout cancel", "Stops the latest run from another terminal.")]),
    (
        "runs",
        &[
            example("dvc-fanout runs", "Lists all runs."),
            example("dvc-fanout runs prune --keep 3", "Removes all but the latest three."),
        ],
    ),
    (
        "stages",
        &[
            example("dvc-fanout stages", "Lists templates and stages."),
            example("dvc-fanout stages --changed", "Says what `dvc repro` would run, and why."),
            example("dvc-fanout stages extract --expand", "Every stage of one template."),
        ],
    ),
    (
        "config",
        &[
            example("dvc-fanout config", "Shows all settings and where they came from."),
            example("DVC_FANOUT_JOBS=4 dvc-fanout config --format json", "The same for programs."),
        ],
    ),
    ("doctor", &[example("dvc-fanout doctor", "Checks the project, DVC, the cache and the cluster.")]),
    (
        "verify",
        &[
            example("dvc-fanout verify", "Compares with `dvc repro`, for three keys of each foreach and matrix."),
            example("dvc-fanout verify extract --sample 1 --format json", "One key of one template, for programs."),
        ],
    ),
    (
        "install-merge-driver",
        &[example("dvc-fanout install-merge-driver", "From now on, `git merge` merges dvc.lock stage by stage.")],
    ),
];

/// The meaning of exit codes; `exit.rs` gives them out.
const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "Done, or nothing to do."),
    ("1", "Some work items failed; good results are kept. merge-driver: conflicts remain."),
    ("2", "The command line is wrong."),
    ("3", "Conflicts remain; nothing was written."),
    ("4", "The project cannot be used as it is; trying again does not help."),
    ("5", "A tool or a service failed; worth trying again."),
    ("10", "plan --exit-code: there is something to do."),
    ("70", "An internal error."),
    ("128+n", "Ended by signal n."),
];

const FILES: [(&str, &str); 5] = [
    (".dvc/fanout/config.yaml", "Settings of the project; the only file there that git sees."),
    (".dvc/fanout/runs/RUN/", "Plan, worklist, journal (events.jsonl), results and reports of a run."),
    (
        ".dvc/fanout/slots/N/",
        "The workspace of a slot, made once and reset between work items. A large one is left to the next run, which brings it up to date. It can be deleted while no run is on.",
    ),
    (".dvc/fanout/hashes.jsonl", "Hashes of files, computed once. It can be deleted at any time."),
    (".dvc/fanout/runs/RUN/snapshot/", "The workspace as planned, until the run is finalized with everything done."),
];

const ENVIRONMENT: [(&str, &str); 7] = [
    ("DVC_FANOUT_NAME", "The setting NAME, as in DVC_FANOUT_JOBS for --jobs. A flag wins over it."),
    ("DVC_FANOUT_DVC", "The dvc program to use instead of the first on the PATH."),
    ("DVC_FANOUT_TRANSFER", "With dvc, data go to and from the remote by dvc fetch and dvc push, whatever the remote."),
    ("DVC_FANOUT_WARM", "With 0, dvc is started for each work item, not forked from one that was loaded."),
    ("DVC_FANOUT_LOG", "What is logged to stderr, as in dvc_fanout=debug."),
    ("JOB_COMPLETION_INDEX, SLURM_ARRAY_TASK_ID", "The index of work where none is given."),
    ("CI, NO_COLOR", "With CI set, a line per change instead of a progress bar; output has no colours."),
];

/// Gives every command its examples as the end of its help, and the program the meaning of exit codes.
pub(crate) fn with_examples(command: Command) -> Command {
    let codes: Vec<String> = EXIT_STATUS.iter().map(|(code, meaning)| format!("  {code:<6} {meaning}")).collect();
    let command = command.after_help(format!("Exit codes:\n{}", codes.join("\n")));
    EXAMPLES.iter().fold(command, |command, (name, examples)| {
        let lines: Vec<String> =
            examples.iter().map(|example| format!("  {}\n      {}", example.line, example.what)).collect();
        let text = format!("Examples:\n{}", lines.join("\n"));
        command.mut_subcommand(*name, |subcommand| subcommand.after_help(text))
    })
}

/// The man pages, as file name and text: one of the program and one of each command.
pub(crate) fn pages(command: &Command) -> Vec<(String, Vec<u8>)> {
    let name = command.get_name().to_owned();
    let mut pages = vec![(format!("{name}.1"), page(command.clone(), &[]))];
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let examples = EXAMPLES.iter().find(|(other, _)| *other == subcommand.get_name());
        let full = format!("{name}-{}", subcommand.get_name());
        let page = page(subcommand.clone().name(full.clone()), examples.map_or(&[], |(_, examples)| examples));
        pages.push((format!("{full}.1"), page));
    }
    pages
}

fn page(command: Command, examples: &[Example]) -> Vec<u8> {
    // The section for examples replaces them at the end of the help.
    let command = command.after_help("").disable_help_flag(true).version(env!("CARGO_PKG_VERSION"));
    let has_subcommands = command.has_subcommands();
    let usage =
        command.clone().bin_name(command.get_name().replacen("fanout-", "fanout ", 1)).render_usage().to_string();
    let man = Man::new(command).manual("dvc-fanout").source(concat!("dvc-fanout ", env!("CARGO_PKG_VERSION")));
    let mut text = vec![];
    man.render_title(&mut text).expect("a Vec takes every text");
    man.render_name_section(&mut text).expect("a Vec takes every text");
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]).text([roman(usage.trim_start_matches("Usage: "))]);
    synopsis.to_writer(&mut text).expect("a Vec takes every text");
    man.render_description_section(&mut text).expect("a Vec takes every text");
    man.render_options_section(&mut text).expect("a Vec takes every text");
    if has_subcommands {
        man.render_subcommands_section(&mut text).expect("a Vec takes every text");
    }
    let mut rest = Roff::new();
    for (title, terms) in [("EXIT STATUS", &EXIT_STATUS[..]), ("FILES", &FILES), ("ENVIRONMENT", &ENVIRONMENT)] {
        rest.control("SH", [title]);
        for (term, meaning) in terms {
            rest.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
        }
    }
    if !examples.is_empty() {
        rest.control("SH", ["EXAMPLES"]);
        for example in examples {
            rest.control("TP", []).text([bold(example.line)]).text([roman(example.what)]);
        }
    }
    rest.control("SH", ["SEE ALSO"]).text([bold("dvc-fanout"), roman("(1), "), bold("dvc"), roman("(1)")]);
    rest.to_writer(&mut text).expect("a Vec takes every text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example() {
        let command = <crate::cli::Cli as clap::CommandFactory>::command();
        let without: Vec<&str> = command
            .get_subcommands()
            .filter(|subcommand| !subcommand.is_hide_set() && subcommand.get_name() != "merge-driver")
            .map(Command::get_name)
            .filter(|name| EXAMPLES.iter().all(|(other, _)| other != name))
            .collect();
        assert!(without.is_empty(), "{without:?}");
    }
}
