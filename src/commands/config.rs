//! `config`: the settings in effect, and where each one comes from.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value as Json;

use crate::adapters::dvc::files::DiskFiles;
use crate::adapters::machine;
use crate::cli::settings::{self, Origin};
use crate::cli::{Cli, ConfigArgs, Format};
use crate::commands::settings::{self as file, Settings};
use crate::diagnostic::Diagnostic;
use crate::dvc::pipeline::project::Project;
use crate::engine::Completion as _;
use crate::engine::args::flags;
use crate::exit::Exit;
use crate::model::requests::KEEP_RUNNING;
use crate::model::run::Resources;
use crate::output::settings::{self as output, Setting};
use crate::output::text;
use crate::plan::requests;
use crate::state::home::ProjectHome;

pub(crate) fn run(cli: &Cli, args: &ConfigArgs) -> Result<Exit, Diagnostic> {
    if args.schema {
        text::result(&serde_json::to_string_pretty(&file::schema()).expect("a schema is plain data"));
        return Ok(Exit::Success);
    }
    let project = ProjectHome::find(cli.directory.as_deref())?;
    let settings = Settings::read(&project.root)?;
    let all = effective(cli, args, &project, &settings)?;
    match cli.format {
        Format::Text => text::result(&output::table(&all)),
        Format::Json => text::result(&output::json(&all)),
    }
    Ok(Exit::Success)
}

/// All settings, in the order of the help: planning, running, the engine's own, those of stages.
fn effective(
    cli: &Cli,
    args: &ConfigArgs,
    project: &ProjectHome,
    settings: &Settings,
) -> Result<Vec<Setting>, Diagnostic> {
    let section = Section { cli, settings, name: None };
    let mut all = section.list(&settings.planning(&args.planning)?, &|_| None);
    let engine = settings.engine(args.engine.engine)?;
    let origin = cli.origins.get(file::ENGINE);
    let flag = clap::Arg::new(file::ENGINE).long(file::ENGINE);
    all.push(Setting {
        name: file::ENGINE.to_owned(),
        value: serde_json::to_value(engine).unwrap_or_default(),
        origin: section.origin(origin, &flag),
    });
    all.extend(section.list(&settings.running(&args.running)?, &default));
    for set in args.engine.completed(settings)?.values() {
        let section = Section { cli, settings, name: Some(set.name) };
        let listed = section.settings(set.flags, &set.values, &|_| None);
        all.extend(listed.into_iter().filter(|setting| !setting.value.is_null()));
    }
    all.extend(of_stages(project, settings)?);
    Ok(all)
}

/// A group of flags with the file's section of the same names.
struct Section<'a> {
    cli: &'a Cli,
    settings: &'a Settings,
    name: Option<&'a str>,
}

impl Section<'_> {
    /// Lists all flags of the group with their values; null where nothing is set.
    fn list<T: clap::Args + Serialize>(&self, args: &T, default: &dyn Fn(&str) -> Option<Json>) -> Vec<Setting> {
        let values = serde_json::to_value(args).unwrap_or_default();
        self.settings(flags::<T>(), &values, default)
    }

    fn settings(&self, flags: Vec<clap::Arg>, values: &Json, default: &dyn Fn(&str) -> Option<Json>) -> Vec<Setting> {
        let setting = |flag: clap::Arg| {
            let name = flag.get_long()?.to_owned();
            let set = values.get(&name).cloned();
            let origin = match (&set, self.cli.origins.get(&name)) {
                (None, None) => "default".to_owned(),
                // A switch that is off has no value of its own.
                (Some(_), origin) | (None, origin @ Some(_)) => self.origin(origin, &flag),
            };
            let value = set.or_else(|| default(&name)).unwrap_or_default();
            let name = self.name.map_or_else(|| name.clone(), |section| format!("{section}.{name}"));
            Some(Setting { name, value, origin })
        };
        flags.into_iter().filter_map(setting).collect()
    }

    fn origin(&self, origin: Option<Origin>, flag: &clap::Arg) -> String {
        let name = flag.get_long().unwrap_or_default();
        let also = if self.settings.adds_to(self.name, flag) { format!(", {}", file::FILE) } else { String::new() };
        match origin {
            Some(Origin::Flag) => format!("--{name}{also}"),
            Some(Origin::Environment) => settings::variable(name) + &also,
            None if self.settings.sets(self.name, flag) => file::FILE.to_owned(),
            None => "default".to_owned(),
        }
    }
}

/// What running settings come to on this machine where nobody says anything.
fn default(name: &str) -> Option<Json> {
    match name {
        "jobs" => std::thread::available_parallelism().ok().map(|jobs| jobs.get().into()),
        "memory" => Some(format!("{}Mi", machine::memory_mib()).into()),
        "gpus" => Some(machine::gpus().into()),
        "fail-fast" | "quiet" => Some(false.into()),
        _ => None,
    }
}

/// What the stages of each template ask for, the lowest and the highest where they differ.
fn of_stages(project: &ProjectHome, settings: &Settings) -> Result<Vec<Setting>, Diagnostic> {
    let by_stage = settings.requests()?;
    let files = DiskFiles::open(&project.root, project.config.no_scm)?;
    let loaded = Project::load(&files, &project.config)?;
    let mut values: IndexMap<(String, &str), Vec<(Json, String)>> = IndexMap::new();
    for stage in &loaded.stages {
        // One of which the file speaks by itself is shown so.
        let own = Some(stage.address.0.clone()).filter(|address| by_stage.contains_key(address));
        let template = own.or_else(|| requests::template(stage)).unwrap_or_else(|| stage.address.0.clone());
        let meta = format!("meta in {}:{}", stage.file, stage.line);
        for (resources, origin) in
            [(requests::of_file(stage, &by_stage), file::FILE), (requests::of_meta(stage)?, &meta)]
        {
            for (key, value) in spelled(&resources) {
                values.entry((template.clone(), key)).or_default().push((value, origin.to_owned()));
            }
        }
    }
    requests::tell_unknown(loaded.stages.iter(), &by_stage);
    let setting = |((template, key), said): ((String, &str), Vec<(Json, String)>)| {
        // What the file says of a stage hides what its meta says.
        let from_file = said.iter().any(|(_, origin)| origin == file::FILE);
        let mut said: Vec<_> = said.into_iter().filter(|(_, origin)| !from_file || origin == file::FILE).collect();
        let origin = said[0].1.clone();
        said.dedup_by(|a, b| a.0 == b.0);
        let value = match said.as_slice() {
            [(only, _)] => only.clone(),
            several => several.iter().map(|(value, _)| value.clone()).collect(),
        };
        Setting { name: format!("{}.{template}.{key}", file::STAGES), value, origin }
    };
    Ok(values.into_iter().map(setting).collect())
}

/// Hints as a person would write them.
fn spelled(resources: &Resources) -> Vec<(&'static str, Json)> {
    let Resources { cpus, memory_mib, gpus, timeout, retries, group, keep_running, slurm } = resources;
    let all = [
        ("cpus", cpus.map(Json::from)),
        ("memory", memory_mib.map(|mib| format!("{mib}Mi").into())),
        ("gpus", gpus.map(Json::from)),
        ("timeout", timeout.map(|timeout| crate::model::duration::Limit(timeout).to_string().into())),
        ("retries", retries.map(Json::from)),
        ("group", group.clone().map(Json::from)),
        (KEEP_RUNNING, keep_running.map(Json::from)),
        (
            "slurm",
            (!slurm.is_empty()).then(|| slurm.iter().map(|(name, value)| (name.clone(), value.clone())).collect()),
        ),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}
