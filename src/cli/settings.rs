//! Flags that are also settings: each may stand in `.dvc/fanout/config.yaml` under its own name, or in the environment
//! as `DVC_FANOUT_` and its name.

use std::collections::HashMap;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error};
use serde::{Deserialize, Serialize};

use crate::engine::EngineArgs;
use crate::engine::args::{RunningArgs, flags};
use crate::model::executor::Executor;

/// The commands whose flags the environment sets.
const COMMANDS: [&str; 5] = ["run", "plan", "launch", "finalize", "config"];

/// The help of the settings' section says what they share.
const PLANNING: &str = "Planning (also as DVC_FANOUT_OVER and so on, or in .dvc/fanout/config.yaml)";

/// What a project plans, unless asked for something else.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[command(next_help_heading = PLANNING)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(crate) struct PlanningArgs {
    /// Fan out only templates whose foreach expression or matrix axes mention this
    #[arg(long, value_name = "EXPR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// Run stages that gather keys even if some keys failed, where their dep is the folder of what they gather. A stage that
    /// names the file of each key fails without it
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing_keys: bool,
    /// Refuse a plan of more than N work items
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<usize>,
    /// What workers see of the files and folders that git ignores and no stage declares: patterns as in ignore files,
    /// of which `!` takes out (can be repeated). By default, all
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub carry: Vec<String>,
    /// What does the stages: this program where it is sure of DVC's result and DVC else (auto), only one of them, or both
    /// to be compared (check)
    #[arg(long, value_enum, value_name = "EXECUTOR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,
}

/// The variable that stands for a flag.
pub(crate) fn variable(flag: &str) -> String {
    format!("DVC_FANOUT_{}", flag.replace('-', "_").to_uppercase())
}

/// The flags of all settings.
fn all() -> Vec<Arg> {
    let own = EngineArgs::sections().into_iter().flat_map(|section| section.flags);
    let all = flags::<PlanningArgs>().into_iter().chain(flags::<RunningArgs>()).chain(own);
    all.chain([Arg::new("engine").long("engine")]).collect()
}

/// The long names of all settings.
fn names() -> Vec<String> {
    all().iter().filter_map(|flag| flag.get_long().map(str::to_owned)).collect()
}

/// Lets the environment set what are settings.
pub(crate) fn with_environment(command: Command) -> Command {
    let names = names();
    COMMANDS.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| {
            subcommand.mut_args(|flag| {
                let Some(name) = flag.get_long().filter(|name| names.iter().any(|other| other == name)) else {
                    return flag;
                };
                let variable = variable(name);
                let is_switch = matches!(flag.get_action(), ArgAction::SetTrue);
                let flag = flag.env(variable).hide_env(true);
                if is_switch { flag.value_parser(BoolishValueParser::new()) } else { flag }
            })
        })
    })
}

/// Names the variable instead of the flag in an error about a value that came from there: `typed` is the error, if any,
/// that the command line is for by itself.
pub(super) fn naming_the_variable(mut error: Error, typed: Option<Error>) -> Error {
    if typed.is_some_and(|typed| typed.kind() == error.kind() && at_fault(&typed) == at_fault(&error)) {
        return error;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    let name = flag.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    if names().iter().any(|other| other == name) {
        let variable = ContextValue::String(variable(name));
        error.insert(ContextKind::InvalidArg, variable);
    }
    error
}

/// The argument and the value that an error is about.
fn at_fault(error: &Error) -> [Option<&ContextValue>; 2] {
    [ContextKind::InvalidArg, ContextKind::InvalidValue].map(|kind| error.get(kind))
}

/// Which settings were given how, by the flag's long name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(HashMap<String, Origin>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
}

impl Origins {
    /// Looks at what was parsed.
    pub(crate) fn of(matches: &ArgMatches) -> Origins {
        let Some((_, matches)) = matches.subcommand() else { return Origins::default() };
        let origin = |flag: Arg| {
            let (id, name) = (flag.get_id().as_str(), flag.get_long()?.to_owned());
            let source = matches.try_contains_id(id).ok().and_then(|_| matches.value_source(id));
            match source? {
                ValueSource::CommandLine => Some((name, Origin::Flag)),
                ValueSource::EnvVariable => Some((name, Origin::Environment)),
                _ => None,
            }
        };
        Origins(all().into_iter().filter_map(origin).collect())
    }

    pub(crate) fn get(&self, flag: &str) -> Option<Origin> {
        self.0.get(flag).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_read_from_the_environment() {
        let command = super::super::Cli::whole();
        let run = command.find_subcommand("run").expect("there is one");
        let missing: Vec<String> = names()
            .into_iter()
            .filter(|name| {
                let flag = run.get_arguments().find(|flag| flag.get_long() == Some(name)).expect("run has all");
                flag.get_env().is_none_or(|set| set != variable(name).as_str())
            })
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        command.debug_assert();
    }
}
