//! What the first work item may make for all: of what git ignores and what is not there, that which commands may make.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Situation, survey};
use crate::adapters::fs;
use crate::dvc::pipeline::path;
use crate::dvc::value::Value;
use crate::model::making;

/// The number of stages of one template whose commands are looked at.
const OF_TEMPLATE: usize = 8;
/// The number of scripts that are looked at, and the longest of them in bytes.
const MAX_SCRIPTS: usize = 64;
const MAX_SCRIPT: u64 = 256 << 10;

/// Of the awaited paths those that a stage which may run could make.
pub(super) fn expected(situation: &Situation<'_>, awaited: &[String]) -> Vec<String> {
    if awaited.is_empty() {
        return vec![];
    }
    let mut texts: VecDeque<(String, String)> = commands(situation).into();
    if texts.iter().any(|(_, command)| making::runs_a_maker(command)) {
        return awaited.to_vec();
    }
    let mut left: Vec<&String> = awaited.iter().collect();
    let root = situation.home.root.to_string_lossy();
    let (mut tried, mut scripts) = (HashSet::new(), 0);
    while let Some((folder, text)) = texts.pop_front() {
        left.retain(|path| !making::names(&text, path));
        for word in making::paths(&text) {
            if scripts == MAX_SCRIPTS {
                break;
            }
            let script = path::resolve(&root, &folder, word);
            if !tried.insert(script.clone()) {
                continue;
            }
            let Some(text) = read(situation, &script) else { continue };
            if making::is_script(&script, &text) && making::runs_a_maker(&text) {
                return awaited.to_vec();
            }
            texts.push_back((folder.clone(), text));
            scripts += 1;
        }
    }
    awaited.iter().filter(|path| !left.contains(path)).cloned().collect()
}

/// The commands of stages that may run, some of each template, each with the folder that it runs in.
fn commands(situation: &Situation<'_>) -> Vec<(String, String)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut commands = vec![];
    for (stage, forecast) in situation.project.stages.iter().zip(&situation.changes.forecasts) {
        let Some(cmd) = stage.cmd.as_ref().filter(|_| forecast.is_some()) else { continue };
        let count = counts.entry(survey::template(stage)).or_default();
        *count += 1;
        if *count <= OF_TEMPLATE {
            commands.extend(texts(cmd).map(|text| (stage.wdir.clone(), text.to_owned())));
        }
    }
    commands
}

/// The commands of a stage.
pub(super) fn texts(cmd: &Value) -> impl Iterator<Item = &str> {
    let all = match cmd {
        Value::List(commands) => commands.as_slice(),
        one => std::slice::from_ref(one),
    };
    all.iter().filter_map(|command| match command {
        Value::Str(text) => Some(text.as_str()),
        _ => None,
    })
}

/// Reads a script of the project; `None` for what is none, as a text with a NUL.
pub(super) fn read(situation: &Situation<'_>, script: &str) -> Option<String> {
    let at = situation.home.root.join(script);
    let is_short = at.metadata().is_ok_and(|found| found.is_file() && found.len() <= MAX_SCRIPT);
    let text = if is_short { fs::read_text_if_any(&at).ok().flatten() } else { None };
    text.filter(|text| !text.contains('\0'))
}
