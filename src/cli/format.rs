//! `--format`: each command offers those that it has.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Arg, ArgMatches, Command, ValueEnum};

/// The id of the flag.
const FORMAT: &str = "format";

/// What a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// For people.
    #[default]
    Text,
    /// For programs: one document, or one event a line.
    Json,
    /// The phases of a plan as a Mermaid flowchart.
    Mermaid,
    /// The phases of a plan for Graphviz.
    Dot,
    /// A test case per work item, for Jenkins and other CI servers.
    Junit,
    /// A comment for a pull request.
    Markdown,
    /// One page with everything.
    Html,
    /// Metrics for Prometheus.
    Prometheus,
}

/// Who reads the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

impl From<FormatArg> for Format {
    fn from(typed: FormatArg) -> Format {
        if typed == FormatArg::Json { Format::Json } else { Format::Text }
    }
}

/// The formats of a command, the default first.
fn formats(command: &str) -> &'static [FormatArg] {
    use FormatArg::{Dot, Html, Json, Junit, Markdown, Mermaid, Prometheus, Text};
    match command {
        "plan" => &[Text, Json, Mermaid, Dot],
        "report" => &[Text, Json, Junit, Markdown, Html, Prometheus],
        "run" | "launch" | "stages" | "collect" | "finalize" | "status" | "logs" | "retry" | "cancel" | "runs"
        | "config" | "doctor" | "verify" => &[Text, Json],
        _ => &[],
    }
}

/// Adds the flag to every command that has a choice.
pub(super) fn with_formats(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        let formats = formats(&name);
        if formats.is_empty() { command } else { command.mut_subcommand(name, |command| with_format(command, formats)) }
    })
}

/// Adds it to a command and to those that it has itself.
fn with_format(command: Command, formats: &'static [FormatArg]) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(command.arg(flag(formats)), |command, name| {
        command.mut_subcommand(name, |command| command.arg(flag(formats)))
    })
}

fn flag(formats: &'static [FormatArg]) -> Arg {
    let values = formats.iter().filter_map(ValueEnum::to_possible_value);
    let read = |name: String| FormatArg::from_str(&name, false);
    Arg::new(FORMAT)
        .long(FORMAT)
        .value_name("FORMAT")
        .help("How results are printed")
        .default_value("text")
        .value_parser(PossibleValuesParser::new(values).try_map(read))
}

/// The format that was typed.
pub(super) fn typed(matches: &ArgMatches) -> FormatArg {
    let Some((_, matches)) = matches.subcommand() else { return FormatArg::default() };
    let matches = matches.subcommand().map_or(matches, |(_, inner)| inner);
    matches.try_get_one(FORMAT).ok().flatten().copied().unwrap_or_default()
}
