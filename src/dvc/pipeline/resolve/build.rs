//! From the filled-in fields of a definition to a [`Stage`]: paths, flags, params.
//!
//! As in `StageLoader.load_stage`, `output.load_from_pipeline` and `dependency._merge_params` of DVC 3.67.

use indexmap::IndexMap;

use super::context::kind_of;
use super::text;
use super::url::{self, Location, UrlError};
use crate::dvc::pipeline::env::Env;
use crate::dvc::pipeline::error::StageProblem;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::stage::{Dep, Generated, Out, OutKind, ParamsDep, Stage, StageAddress};
use crate::dvc::value::{Map, Value};

/// The file of params that have none.
pub(super) const DEFAULT_PARAMS: &str = "params.yaml";

/// The fields of a definition after interpolation, in file order.
pub(super) type Fields = Vec<(&'static str, Value)>;

/// Builds a stage of a `dvc.yaml`; an error comes with the field that it is in.
pub(super) fn build(
    env: &Env<'_>,
    file: &str,
    line: usize,
    name: &str,
    generated: Option<Generated>,
    mut fields: Fields,
) -> Result<Stage, (&'static str, StageProblem)> {
    let mut take =
        |wanted: &str| fields.iter().position(|(field, _)| *field == wanted).map(|at| fields.swap_remove(at).1);
    let wdir = wdir(env, file, take("wdir")).map_err(|problem| ("wdir", problem))?;
    let place = Place { env, wdir: &wdir };
    let mut list = |field: &str| match take(field) {
        Some(Value::List(items)) => items,
        _ => vec![],
    };
    let deps = exactly(list("deps"), |dep| place.dep(&dep)).map_err(|problem| ("deps", problem))?;
    let params = place.params(&list("params")).map_err(|problem| ("params", problem))?;
    let mut outs = vec![];
    for (field, kind) in [("outs", OutKind::Out), ("metrics", OutKind::Metric), ("plots", OutKind::Plot)] {
        let more = place.outs(&list(field), kind).map_err(|problem| (field, problem))?;
        outs.reserve_exact(more.len());
        outs.extend(more);
    }
    Ok(Stage {
        address: StageAddress::of(file, name),
        file: file.to_owned(),
        line,
        generated,
        cmd: take("cmd"),
        deps,
        outs,
        params,
        frozen: matches!(take("frozen"), Some(Value::Bool(true))),
        md5: None,
        always_changed: matches!(take("always_changed"), Some(Value::Bool(true))),
        desc: take("desc"),
        meta: take("meta"),
        name: Some(name.to_owned()),
        wdir,
    })
}

/// Resolves a working directory; DVC takes a false value for none.
fn wdir(env: &Env<'_>, file: &str, wdir: Option<Value>) -> Result<String, StageProblem> {
    let directory = path::parent(file);
    match wdir {
        Some(Value::Str(wdir)) => Ok(path::resolve(env.root(), directory, &wdir)),
        Some(other) if !other.is_false() => Err(StageProblem::NoPath { kind: kind_of(&other) }),
        Some(_) | None => Ok(directory.to_owned()),
    }
}

/// Where the paths of a stage are relative to.
pub(crate) struct Place<'p> {
    pub env: &'p Env<'p>,
    pub wdir: &'p str,
}

/// A path of a dep or out: as the lock file spells it, and the path of the model where it is one.
pub(crate) struct Located {
    pub path: String,
    pub resolved: Option<String>,
}

impl Place<'_> {
    fn dep(&self, value: &Value) -> Result<Dep, StageProblem> {
        let Value::Str(text) = value else { return Err(StageProblem::NoPath { kind: kind_of(value) }) };
        let located = self.dep_path(text)?;
        Ok(Dep { path: located.path, resolved: located.resolved, recorded: None, repo: None })
    }

    /// Resolves the path of a dep.
    pub(crate) fn dep_path(&self, text: &str) -> Result<Located, StageProblem> {
        if text.is_empty() {
            return Err(StageProblem::EmptyPath);
        }
        match self.location(text)? {
            Location::Dataset => Ok(Located { path: text.to_owned(), resolved: None }),
            location => self.locate(text, location),
        }
    }

    fn location(&self, text: &str) -> Result<Location, StageProblem> {
        let url_of = |remote: &str| self.env.config.remotes.get(remote).map(String::as_str);
        url::locate(text, url_of).map_err(StageProblem::Url)
    }

    /// Resolves the path of a dep, an out or a params file, which no stage file may be.
    fn locate(&self, text: &str, location: Location) -> Result<Located, StageProblem> {
        if path::is_stage_file(text) {
            return Err(StageProblem::StageFile { path: text.to_owned() });
        }
        let resolved = match location {
            Location::Path => return Ok(self.local(text)),
            Location::Url { scheme } if self.env.files.supports_scheme(scheme) => None,
            Location::Url { scheme } => return Err(StageProblem::NoPlugin { scheme }),
            Location::InRemote { path } => Some(path::resolve(self.env.root(), "", &path)),
            Location::Dataset => {
                return Err(StageProblem::Url(UrlError::UnknownScheme { scheme: "ds".to_owned() }));
            }
        };
        Ok(Located { path: text.to_owned(), resolved })
    }

    fn local(&self, text: &str) -> Located {
        let resolved = path::resolve(self.env.root(), self.wdir, text);
        let is_inside = text.starts_with('/') && path::is_inside(&resolved) && !resolved.is_empty();
        let path = if is_inside { path::relative(self.env.root(), self.wdir, &resolved) } else { text.to_owned() };
        Located { path, resolved: Some(resolved) }
    }

    /// Resolves the path of an out, which no `.dvcignore` may hide.
    pub(crate) fn out_path(&self, text: &str) -> Result<Located, StageProblem> {
        let located = self.locate(text, self.location(text)?)?;
        if let Some(path) = &located.resolved
            && let Some(rule) = self.env.ignored_out(path)?
        {
            return Err(StageProblem::IgnoredOut { path: text.to_owned(), rule });
        }
        Ok(located)
    }

    /// Reads one of `outs`, `metrics` and `plots`; entries of one path are merged, later flags win.
    fn outs(&self, items: &[Value], kind: OutKind) -> Result<Vec<Out>, StageProblem> {
        let mut merged: IndexMap<&Value, Map> = IndexMap::new();
        for item in items {
            match item {
                Value::Map(entries) => {
                    for (path, flags) in entries.iter() {
                        let Value::Map(flags) = flags else {
                            return Err(StageProblem::NoFlags { kind: kind_of(flags) });
                        };
                        merged.entry(path).or_default().extend(flags.iter().map(|(k, v)| (k.clone(), v.clone())));
                    }
                }
                path => {
                    merged.entry(path).or_default();
                }
            }
        }
        exactly(merged, |(path, flags)| self.out(path, flags, kind))
    }

    fn out(&self, path: &Value, mut flags: Map, kind: OutKind) -> Result<Out, StageProblem> {
        let Value::Str(text) = path else { return Err(StageProblem::NoPath { kind: kind_of(path) }) };
        let located = self.out_path(text)?;
        let mut flag = |name: &str, default: bool| match flags.shift_remove(&Value::str(name)) {
            Some(value) => !value.is_false(),
            None => default,
        };
        let (cache, persist, push) = (flag("cache", true), flag("persist", false), flag("push", true));
        flag("checkpoint", false);
        let remote = flags.shift_remove(&Value::str("remote")).map(|remote| text_of(&remote));
        let flags = flags.into_iter().map(|(name, value)| (text_of(&name), value)).collect();
        Ok(Out {
            path: located.path,
            resolved: located.resolved,
            kind,
            cache,
            persist,
            push,
            remote,
            flags,
            recorded: None,
        })
    }

    /// Reads `params`: keys by file; a file that is named without keys counts whole, whatever else is said of it.
    fn params(&self, items: &[Value]) -> Result<Vec<ParamsDep>, StageProblem> {
        let mut whole: Vec<&Value> = vec![];
        for item in items {
            if let Value::Map(files) = item {
                whole.extend(files.iter().filter(|(_, keys)| keys.is_false()).map(|(file, _)| file));
            }
        }
        let default = Value::str(DEFAULT_PARAMS);
        let mut files: IndexMap<Value, Vec<String>> = IndexMap::new();
        for item in items {
            match item {
                Value::Str(_) if whole.contains(&&default) => {}
                Value::Str(key) => files.entry(default.clone()).or_default().push(key.clone()),
                Value::Map(entries) => {
                    for (file, keys) in entries.iter() {
                        let of_file = files.entry(file.clone()).or_default();
                        if whole.contains(&file) {
                            of_file.clear();
                        } else if let Value::List(keys) = keys {
                            of_file.extend(keys.iter().map(text_of));
                        } else {
                            return Err(StageProblem::NoKeys { file: text_of(file), kind: kind_of(keys) });
                        }
                    }
                }
                other => return Err(StageProblem::NoParam { kind: kind_of(other) }),
            }
        }
        exactly(files, |(file, keys)| self.params_of(&file, keys))
    }

    fn params_of(&self, file: &Value, keys: Vec<String>) -> Result<ParamsDep, StageProblem> {
        let located = match file {
            Value::Str(file) if !file.is_empty() => self.locate(file, self.location(file)?)?,
            other if other.is_false() => self.local(&path::absolute(self.env.root(), DEFAULT_PARAMS)),
            other => return Err(StageProblem::NoPath { kind: kind_of(other) }),
        };
        let resolved = located.resolved.unwrap_or_else(|| located.path.clone());
        Ok(ParamsDep { path: located.path, resolved, keys })
    }
}

/// Collects into no more room than there is need for: a project may have some hundred thousand stages.
fn exactly<T, U, E>(
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    make: impl FnMut(T) -> Result<U, E>,
) -> Result<Vec<U>, E> {
    let items = items.into_iter();
    let mut made = Vec::with_capacity(items.len());
    for item in items.map(make) {
        made.push(item?);
    }
    Ok(made)
}

fn text_of(value: &Value) -> String {
    let mut string = String::new();
    text::push(&mut string, value);
    string
}
