//! Flags that all engines keep to, and the spelling of their values.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use clap::{Arg, Args, Command};
use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;
use crate::model::duration::Limit;
use crate::model::nice::Nice;
use crate::model::quantity::Memory;
use crate::model::stdin::Stdin;
use crate::model::workspace_kind::WorkspaceKind;

/// The help of the section says what its flags share.
const RUNNING: &str = "Running (also as DVC_FANOUT_JOBS and so on, or in .dvc/fanout/config.yaml)";

/// What engines keep to; some of it concerns the local engine alone.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[command(next_help_heading = RUNNING)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(crate) struct RunningArgs {
    /// How many work items run at the same time; by default the number of CPUs, or 10 pods in a cluster
    #[arg(short, long, value_name = "N", value_parser = parse_jobs)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<NonZeroUsize>,
    /// Retries after the first attempt. By default 2 if a tool failed and none if a command did; this flag sets both
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Stop a work item after this long: 90s, 15m, 2h
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Limit>,
    /// Start no more work items after the first failure (by default, all of them run even if others fail)
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fail_fast: bool,
    /// Start no more work items once this many, or this share of them, have failed; in a cluster, also stop those that
    /// are running
    #[arg(long, value_name = "N|P%")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub max_failed: Option<MaxFailed>,
    /// Memory that work items on this machine share (those that ask for memory); all of it by default
    #[arg(long, value_name = "SIZE")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// GPUs that work items on this machine share, as `CUDA_VISIBLE_DEVICES` names them; by default what that variable
    /// says here, else all
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Let at most N work items of a group run at the same time (can be repeated)
    #[arg(long = "group", visible_alias = "groups", value_name = "NAME=N")]
    #[serde(rename = "group", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupLimit>,
    /// Lower the priority of the stages by this much, from 0 to 19, as nice(1) does
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<Nice>,
    /// Where stages run: in a workspace that their commands see at the project's own path (mounted), in one at a path of its
    /// own (linked), or mounted where this machine allows it (auto, the default)
    #[arg(long, value_enum, value_name = "KIND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceKind>,
    /// What commands read on standard input, where they find its end by default: a file, which each stage reads from its
    /// beginning, or, with `-j 1`, what this program would read (inherit), be it a terminal. On this machine alone
    #[arg(long, value_name = "FILE|inherit")]
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// Do without a folder that workers see: an object store takes them the plan and brings results back, and data go
    /// through the project's remote. `s3://BUCKET/FOLDER`, also with `gs:`, `az:` or `file:`
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
}

impl RunningArgs {
    /// How many work items run at a time on this machine.
    pub(crate) fn slots(&self) -> usize {
        self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, Into::into), Into::into)
    }

    /// Refuses what only workers of this machine can have their commands read.
    pub(crate) fn refuse_stdin(&self, engine: &str) -> Result<(), Diagnostic> {
        let Some(stdin) = &self.stdin else { return Ok(()) };
        Err(Diagnostic::usage(format!("`--stdin {stdin}` is not for {engine}"))
            .cause("commands on other machines cannot read what is read here")
            .hint("use `--engine local`, or have the command itself read a file that is a dep of its stage"))
    }

    /// The limits of groups, by name.
    pub(crate) fn groups(&self) -> BTreeMap<String, usize> {
        self.groups.iter().map(|group| (group.name.clone(), group.limit)).collect()
    }

    /// After how many failures no more is started.
    pub(crate) fn max_failed(&self, work_items: usize) -> Option<usize> {
        if self.fail_fast { Some(1) } else { self.max_failed.map(|limit| limit.of(work_items)) }
    }
}

fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "it is a number from 1".to_owned())
}

/// How many failures are too many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MaxFailed {
    Count(usize),
    Percent(f64),
}

impl MaxFailed {
    /// The number of failures after which no more is started, at least 1.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rounded part of a number of work items"
    )]
    pub(crate) fn of(self, work_items: usize) -> usize {
        match self {
            MaxFailed::Count(count) => count.max(1),
            MaxFailed::Percent(percent) => ((work_items as f64 * percent / 100.0).ceil() as usize).max(1),
        }
    }
}

impl FromStr for MaxFailed {
    type Err = String;

    fn from_str(text: &str) -> Result<MaxFailed, String> {
        let bad = || format!("`{text}` is neither a number nor a percentage such as 10%");
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxFailed::Percent(percent)),
                _ => Err(bad()),
            },
            None => text.parse().map(MaxFailed::Count).map_err(|_| bad()),
        }
    }
}

impl fmt::Display for MaxFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxFailed::Count(count) => write!(f, "{count}"),
            MaxFailed::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The number of work items of a group that may run at the same time: `NAME=N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct GroupLimit {
    pub name: String,
    pub limit: usize,
}

impl FromStr for GroupLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<GroupLimit, String> {
        let (name, limit) = parse_pair(text)?;
        match limit.parse() {
            Ok(limit) if limit > 0 => Ok(GroupLimit { name, limit }),
            _ => Err(format!("the limit of group `{name}` is a number from 1, not `{limit}`")),
        }
    }
}

impl fmt::Display for GroupLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.limit)
    }
}

impl TryFrom<String> for GroupLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<GroupLimit> for String {
    fn from(limit: GroupLimit) -> String {
        limit.to_string()
    }
}

/// Values as they are typed, which YAML may take for numbers.
pub(crate) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }

    #[expect(clippy::ref_option, reason = "what serde calls")]
    pub(crate) fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map(Some).map_err(serde::de::Error::custom)
    }
}

/// Splits `NAME=VALUE`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no `=`")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The flags of a section of the configuration file, in the order of the help.
pub(crate) fn flags<T: Args>() -> Vec<Arg> {
    T::augment_args(Command::new("")).get_arguments().filter(|flag| flag.get_long().is_some()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_shown_the_same() {
        for text in ["3", "10%", "2.5%"] {
            assert_eq!(text.parse::<MaxFailed>().expect("a limit").to_string(), text);
        }
        assert!("101%".parse::<MaxFailed>().is_err() && "few".parse::<MaxFailed>().is_err());
        assert_eq!("2.5%".parse::<MaxFailed>().expect("a limit").of(100), 3);
        assert_eq!("api=4".parse::<GroupLimit>().expect("a limit").to_string(), "api=4");
        assert!("api".parse::<GroupLimit>().is_err() && "api=0".parse::<GroupLimit>().is_err());
    }
}
