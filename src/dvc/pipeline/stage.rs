//! Stages as they come out of interpolation and expansion.

use std::fmt;

use super::path;
use crate::dvc::oid::ObjectKey;
use crate::dvc::value::Value;

/// The address of a stage as seen from the project's root: `name@key`, `sub/dvc.yaml:name@key` or `data/raw.dvc`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StageAddress(pub String);

impl fmt::Display for StageAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StageAddress {
    /// The address of stage `name` of `file` (`dvc.yaml`, `sub/dvc.yaml`).
    pub(crate) fn of(file: &str, name: &str) -> Self {
        if file == "dvc.yaml" { StageAddress(name.to_owned()) } else { StageAddress(format!("{file}:{name}")) }
    }
}

/// What `foreach` or `matrix` made a stage from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Generated {
    /// The template's name: the part of the stage's name before the last `@`.
    pub group: String,
    /// The part after it.
    pub key: String,
    pub expansion: Expansion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expansion {
    Foreach,
    Matrix,
}

/// A stage of a `dvc.yaml`, or a `.dvc` file.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub address: StageAddress,
    /// The file that defines it, relative to the project's root.
    pub file: String,
    /// The line of its definition in that file, from 1: the template's for a generated stage.
    pub line: usize,
    /// `None` for a `.dvc` file.
    pub name: Option<String>,
    /// `None` for a stage that is written out.
    pub generated: Option<Generated>,
    /// The working directory relative to the project's root, normalised, `""` for the root; absolute if outside.
    pub wdir: String,
    /// The resolved value as it goes into the lock; `None` for a `.dvc` file.
    pub cmd: Option<Value>,
    pub deps: Vec<Dep>,
    /// `outs`, then `metrics`, then `plots`.
    pub outs: Vec<Out>,
    /// One entry per params file, in order of first appearance.
    pub params: Vec<ParamsDep>,
    /// The recorded MD5 of the definition itself, in a `.dvc` file only.
    pub md5: Option<String>,
    pub frozen: bool,
    pub always_changed: bool,
    pub desc: Option<Value>,
    pub meta: Option<Value>,
}

/// A dependency other than params.
#[derive(Clone, Debug)]
pub(crate) struct Dep {
    /// As written; lock entries are matched by this text.
    pub path: String,
    /// Normalised and relative to the project's root, absolute if far outside; `None` for a URL.
    pub resolved: Option<String>,
    /// The recorded hash, in a `.dvc` file only: apart, since most have none.
    pub recorded: Option<Box<Recorded>>,
    /// `dvc import`: the `repo` section of a `.dvc` file's dep.
    pub repo: Option<Box<Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutKind {
    Out,
    Metric,
    Plot,
}

/// An output, metric or plot.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    /// As written; lock entries are matched by this text.
    pub path: String,
    /// Normalised and relative to the project's root, absolute if far outside; `None` for a URL.
    pub resolved: Option<String>,
    pub kind: OutKind,
    pub cache: bool,
    pub persist: bool,
    pub push: bool,
    pub remote: Option<String>,
    /// Every other flag as written: `desc`, `type`, `labels`, `meta` and a plot's own.
    pub flags: Vec<(String, Value)>,
    /// The recorded hash, in a `.dvc` file only: apart, since most have none.
    pub recorded: Option<Box<Recorded>>,
}

/// The params of one file.
#[derive(Clone, Debug)]
pub(crate) struct ParamsDep {
    /// As written; lock entries are matched by this text.
    pub path: String,
    /// Normalised and relative to the project's root, absolute if far outside.
    pub resolved: String,
    /// Dotted keys in order, duplicates kept; empty means the whole file.
    pub keys: Vec<String>,
}

/// What a lock entry or a `.dvc` file records of a dep or out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// `md5` where the entry says so; `None` is the old hash of DVC 2 (`md5-dos2unix`).
    pub hash: Option<Box<str>>,
    /// The digest; ends in `.dir` for a directory.
    pub md5: Option<String>,
    pub size: Option<u64>,
    pub nfiles: Option<u64>,
    pub isexec: bool,
    /// `files`: the members of a directory with their digests, instead of `md5`.
    pub files: Box<[(String, String)]>,
    /// The entry has `etag`, `checksum`, `version_id`, `cloud` or `files`: a dep or out that is not local.
    pub is_remote: bool,
}

impl Recorded {
    /// The object that it is; `None` where that is not known by its MD5.
    pub(crate) fn object(&self) -> Option<ObjectKey> {
        ObjectKey::parse(self.md5.as_deref()?, self.hash.is_none())
    }
}

impl Dep {
    /// Whether it is written with a remote: `remote://NAME/PATH`.
    pub(crate) fn is_in_remote(&self) -> bool {
        self.has_scheme("remote")
    }

    /// Whether it is a dataset of the project: `ds://NAME`.
    pub(crate) fn is_dataset(&self) -> bool {
        self.has_scheme("ds")
    }

    fn has_scheme(&self, scheme: &str) -> bool {
        self.path
            .trim_start_matches(|c: char| c <= ' ')
            .split_once("://")
            .is_some_and(|(own, _)| own.eq_ignore_ascii_case(scheme))
    }
}

impl Stage {
    /// Whether `foreach` or `matrix` made it.
    pub(crate) fn is_map(&self) -> bool {
        self.generated.is_some()
    }

    /// The address as DVC writes it in the directory `cwd`, a path of the model.
    pub(crate) fn address_from(&self, root: &str, cwd: &str) -> String {
        if cwd.is_empty() {
            return self.address.0.clone();
        }
        let file = path::relative(root, cwd, &self.file);
        match &self.name {
            Some(name) => StageAddress::of(&file, name).0,
            None => file,
        }
    }

    /// Whether DVC brings its out from elsewhere: `dvc import`, `dvc import-url`.
    pub(crate) fn is_import(&self) -> bool {
        self.cmd.as_ref().is_none_or(Value::is_false) && self.deps.len() == 1 && self.outs.len() == 1
    }

    /// Whether it has a command but neither deps, params nor outs, so that it always runs.
    pub(crate) fn is_callback(&self) -> bool {
        self.cmd.as_ref().is_some_and(|cmd| !cmd.is_false())
            && self.deps.is_empty()
            && self.params.is_empty()
            && self.outs.is_empty()
    }
}
