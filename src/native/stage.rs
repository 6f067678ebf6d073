//! One stage, from the question whether it changed to its entry in the lock file.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::facts::{Values, may_share};
use super::{Became, Commands, Ignores, Log, Options, Place, command, fit, outs, unrecorded};
use crate::adapters::dvc::hash::{Content, HashError};
use crate::adapters::dvc::store::StoreError;
use crate::adapters::fs::{self, At as _, FsError};
use crate::adapters::process::Ending;
use crate::dvc::changed::run_cache;
use crate::dvc::changed::{FactError, FirstChange, ParamsFile, Subject, first_change};
use crate::dvc::config::LinkType;
use crate::dvc::hash::{HashName, Hashed};
use crate::dvc::lockfile::{LockEntry, LockItem, parse_run, reads_back, render_entry, render_run, splice};
use crate::dvc::oid::Oid;
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::stage::{OutKind, Stage};
use crate::dvc::record::{self, Params};
use crate::dvc::value::{Map, Value};

/// The hexadecimal digits of a name in the run cache.
const NAME_DIGITS: usize = 64;

/// Does for one stage what `dvc repro` does.
pub(crate) fn reproduce(
    place: &Place<'_>,
    subject: Subject<'_>,
    options: Options,
    ignores: &mut Ignores<'_>,
    commands: &mut dyn Commands,
    log: &mut Log<'_>,
) -> Became {
    let address = subject.stage.address_from(place.root_text, place.cwd);
    let Subject { stage, entry } = subject;
    let mut doing = Doing { place, stage, entry, options, ignores, address, has_noted_deps: false };
    match doing.reproduce(commands, log) {
        Ok(became) => became,
        Err(Stop::ForDvc(why)) => Became::ForDvc(why),
        Err(Stop::Failed(why)) => Became::Failed(why),
        Err(Stop::Interrupted) => Became::Interrupted,
    }
}

/// Why it does not go on.
enum Stop {
    ForDvc(String),
    Failed(String),
    Interrupted,
}

/// What a stage's deps and params are at some moment.
struct Inputs {
    deps: Vec<Hashed>,
    params: Params,
}

/// Outs that lie in the cache: path, hash, executable.
type Restorable = Vec<(String, Oid, bool)>;

struct Doing<'a, 'i> {
    place: &'a Place<'a>,
    stage: &'a Stage,
    entry: Option<&'a LockEntry>,
    options: Options,
    ignores: &'a mut Ignores<'i>,
    address: String,
    /// Whether it was left what DVC leaves of deps that the entry does not have.
    has_noted_deps: bool,
}

impl Doing<'_, '_> {
    fn reproduce(&mut self, commands: &mut dyn Commands, log: &mut Log<'_>) -> Result<Became, Stop> {
        if self.stage.frozen && !self.stage.is_import() {
            let what = if self.stage.name.is_some() { "stage: '" } else { "'" };
            log.line(&format!(
                "WARNING: {what}{}' is frozen. Its dependencies are not going to be reproduced.",
                self.address
            ));
        }
        let change = if self.options.force {
            Some(FirstChange::Other)
        } else {
            first_change(self.subject(), self.place).map_err(for_dvc)?
        };
        let Some(change) = change else {
            let what = if self.stage.name.is_some() { "Stage " } else { "" };
            log.line(&format!("{what}'{}' didn't change, skipping", self.address));
            return Ok(Became::Unchanged);
        };
        if let Some(why) = self.unusual() {
            return Err(Stop::ForDvc(why));
        }
        unrecorded::note_change(self.place, self.subject(), change).map_err(for_dvc)?;
        let restorable = self.look_before()?;
        for out in &self.stage.outs {
            outs::remove(self.place, out).map_err(failed)?;
        }
        let is_restored = restorable.is_some();
        match restorable {
            Some(outs) => {
                log.line(&format!("Stage '{}' is cached - skipping run, checking out outputs", self.address));
                for (path, oid, is_exec) in outs {
                    outs::restore(self.place, &path, oid, is_exec).map_err(failed)?;
                }
            }
            None => self.run(commands, log)?,
        }
        self.save(log)?;
        Ok(if is_restored { Became::Restored } else { Became::Ran })
    }

    fn subject(&self) -> Subject<'_> {
        Subject { stage: self.stage, entry: self.entry }
    }

    /// Leaves what DVC leaves of deps that the entry does not have, once.
    fn note_deps(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.has_noted_deps, true) {
            Ok(())
        } else {
            unrecorded::note_deps(self.place, self.subject())
        }
    }

    /// Why DVC has to do a changed stage, as far as no file has to be read for it.
    fn unusual(&self) -> Option<String> {
        let stage = self.stage;
        let lock = self.lock();
        let own = fit::unusual(self.place, stage, self.entry);
        let outs = || stage.outs.iter().find_map(|out| outs::unusual(self.place, out));
        let lock = || lock.is_symlink().then(|| "its lock file is a symlink".to_owned());
        let cached = || stage.outs.iter().filter(|out| out.cache).filter_map(|out| out.resolved.as_deref());
        let ignores = || cached().find_map(|out| self.ignores.unusual(out));
        own.or_else(outs).or_else(lock).or_else(ignores)
    }

    /// Looks at deps, params and the run cache before anything is touched; returns what can be restored.
    fn look_before(&mut self) -> Result<Option<Restorable>, Stop> {
        let files = self.place.params_files(self.stage).map_err(for_dvc)?;
        if self.options.force {
            self.check_params(&files)?;
            return Ok(None);
        }
        let mut deps = vec![];
        for dep in &self.stage.deps {
            let path = dep.resolved.as_deref().unwrap_or_default();
            let found = self.place.hasher().hash(path, HashName::Md5).map_err(for_dvc)?;
            deps.push(found.ok_or_else(|| Stop::ForDvc(lacks(&dep.path)))?);
        }
        let params = self.check_params(&files)?;
        let inputs = Inputs { deps, params };
        let entry = record::entry(self.stage, &inputs.deps, &inputs.params, None);
        let name = self.stage.name.as_deref().unwrap_or_default();
        let as_value = Value::Map(Box::new(entry.clone()));
        if !render_entry(name, &as_value).is_ok_and(|lines| reads_back(name, &lines, &as_value)) {
            return Err(Stop::ForDvc("its entry does not read back from the lock file as it is written".to_owned()));
        }
        if !self.has_run_cache() {
            return Ok(None);
        }
        let items = match self.recorded(&inputs, &files)? {
            Some(items) => items,
            None if self.options.no_run_cache => return Ok(None),
            None => {
                self.note_deps().map_err(for_dvc)?;
                let Some(items) = self.earlier_run(&entry)? else { return Ok(None) };
                items
            }
        };
        self.restorable(&items)
    }

    /// The params with their values; only what is usual.
    fn check_params(&self, files: &[Option<Arc<ParamsFile>>]) -> Result<Params, Stop> {
        let values = Values::of(self.stage, files).map_err(for_dvc)?;
        if let Some((file, key)) = values.missing.first() {
            return Err(Stop::ForDvc(format!("its param `{key}` is not in `{file}`")));
        }
        let params = Params::of(self.place.root_text, self.stage, values.found);
        if let Some(why) = params.unusual() {
            return Err(Stop::ForDvc(format!("one of its params is unusual: {why}")));
        }
        let mut known = self.stage.params.iter().zip(files);
        let shares = known.any(|(dep, file)| file.as_ref().is_some_and(|file| may_share(dep, file)));
        if shares && params.has_equal_collections() {
            return Err(Stop::ForDvc("two of its params may be one list or map".to_owned()));
        }
        Ok(params)
    }

    /// Whether DVC looks the stage up in the run cache, and writes it there (`dvc/stage/cache.py: _can_hash`).
    fn has_run_cache(&self) -> bool {
        let stage = self.stage;
        let has_inputs = !stage.deps.is_empty() || !stage.params.is_empty();
        !stage.always_changed && has_inputs && !stage.outs.is_empty() && stage.outs.iter().all(|out| !out.persist)
    }

    /// The outs of the entry, if the stage is what was recorded but for its outs.
    fn recorded(&self, inputs: &Inputs, files: &[Option<Arc<ParamsFile>>]) -> Result<Option<Vec<LockItem>>, Stop> {
        let Some(entry) = self.entry else { return Ok(None) };
        let item = |items: &[LockItem], path: &str| items.iter().rev().find(|item| item.path == path).cloned();
        let is_same = |path: &str, hashed: &Hashed| {
            item(&entry.deps, path).and_then(|item| item.recorded.md5).is_some_and(|md5| hashed.is(&md5))
        };
        let has_deps = self.stage.deps.iter().zip(&inputs.deps).all(|(dep, hashed)| is_same(&dep.path, hashed));
        if Some(&entry.cmd) != self.stage.cmd.as_ref() || !has_deps || !self.has_params(entry, files)? {
            return Ok(None);
        }
        let outs = self.stage.outs.iter().map(|out| item(&entry.outs, &out.path));
        Ok(outs.collect::<Option<Vec<_>>>().filter(|outs| outs.iter().all(|out| out.recorded.md5.is_some())))
    }

    fn has_params(&self, entry: &LockEntry, files: &[Option<Arc<ParamsFile>>]) -> Result<bool, Stop> {
        for (dep, file) in self.stage.params.iter().zip(files) {
            let is_same = crate::dvc::changed::are_params_recorded(dep, entry, file.as_deref()).map_err(for_dvc)?;
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The outs of the newest run with the same command and inputs.
    fn earlier_run(&self, entry: &Map) -> Result<Option<Vec<LockItem>>, Stop> {
        let odd = |what: &str| Stop::ForDvc(format!("its key in the run cache {what}"));
        let Some((key, _)) = run_cache::names(entry) else { return Err(odd("cannot be computed")) };
        let folder = self.place.store.runs(&key);
        let mut newest: Option<(std::time::SystemTime, PathBuf)> = None;
        for name in fs::names(&folder).map_err(for_dvc)? {
            let path = folder.join(name);
            let modified =
                path.metadata().and_then(|metadata| metadata.modified()).at("look at", &path).map_err(for_dvc)?;
            if newest.as_ref().is_none_or(|(time, _)| modified > *time) {
                newest = Some((modified, path));
            }
        }
        let Some((_, path)) = newest else {
            return if folder.is_dir() { Err(odd("is empty, at which DVC fails")) } else { Ok(None) };
        };
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.len() != NAME_DIGITS || !name.iter().all(u8::is_ascii_hexdigit) {
            return Err(odd("has a newer file that is none of DVC's"));
        }
        let entry = parse_run(&fs::read(&path).map_err(for_dvc)?).ok_or_else(|| odd("has a damaged entry"))?;
        let mut paths: Vec<&str> = entry.outs.iter().map(|out| out.path.as_str()).collect();
        let mut own: Vec<&str> = self.stage.outs.iter().map(|out| out.path.as_str()).collect();
        paths.sort_unstable();
        own.sort_unstable();
        if paths != own {
            return Err(odd("has an entry with other outs"));
        }
        Ok(Some(entry.outs))
    }

    /// What has to be made from the cache, if all of it is there.
    fn restorable(&self, items: &[LockItem]) -> Result<Option<Restorable>, Stop> {
        let hasher = self.place.hasher();
        let mut restorable = vec![];
        for item in items {
            let recorded = &item.recorded;
            let Some(md5) = recorded.md5.as_deref().filter(|_| recorded.hash.as_deref() == Some("md5")) else {
                return Err(Stop::ForDvc("an earlier run of it has another hash than DVC 3's".to_owned()));
            };
            // The cache has nothing by what is no MD5.
            let Some(oid) = Oid::parse(md5) else { return Ok(None) };
            if !self.place.store.check(oid, &hasher).map_err(for_dvc)? {
                return Ok(None);
            }
            let path = path::resolve(self.place.root_text, &self.stage.wdir, &item.path);
            restorable.push((path, oid, recorded.isexec));
        }
        Ok(Some(restorable))
    }

    fn run(&self, commands: &mut dyn Commands, log: &mut Log<'_>) -> Result<(), Stop> {
        log.line(&format!("Running stage '{}':", self.address));
        let directory = self.place.root.join(&self.stage.wdir);
        let directory = if self.stage.wdir.is_empty() { self.place.root } else { directory.as_path() };
        let all = self.stage.cmd.as_ref().and_then(command::commands).unwrap_or_default();
        commands.begin_stage(&self.address);
        for command in all {
            log.line(&format!("> {command}"));
            let call = self.place.shell.call(command, self.place.seen_root, &self.address);
            match commands.run(&call, directory).map_err(|_| Stop::Interrupted)? {
                Ending::Exited(0) => {}
                Ending::Exited(code) => {
                    return Err(Stop::Failed(format!("failed to run: {command}, exited with {code}")));
                }
                Ending::Signalled(signal) => {
                    return Err(Stop::Failed(format!("failed to run: {command}, exited with -{signal}")));
                }
                Ending::NotStarted(why) => {
                    let shell = Path::new(self.place.shell.path());
                    let missing = if directory.is_dir() { shell } else { directory };
                    return Err(Stop::Failed(if missing.exists() { why } else { not_found(missing) }));
                }
            }
        }
        commands.end_stage().map_err(failed)
    }

    /// Records what is there after the command: the cache, the links, the run cache, the lock file.
    fn save(&mut self, log: &mut Log<'_>) -> Result<(), Stop> {
        let inputs = self.inputs()?;
        self.note_deps().map_err(failed)?;
        let mut contents = vec![];
        for at in 0..self.stage.outs.len() {
            contents.push(self.save_out(at, log)?);
        }
        let hashes: Vec<Hashed> = contents.iter().map(|content| content.hashed).collect();
        let entry = record::entry(self.stage, &inputs.deps, &inputs.params, Some(&hashes));
        let is_kept = !self.options.no_commit
            && self.has_run_cache()
            && self.stage.outs.iter().all(|out| out.cache || matches!(out.kind, OutKind::Metric | OutKind::Plot));
        let all = || self.stage.outs.iter().zip(&contents);
        if is_kept {
            // As if nothing were known of the file but its content.
            for (out, content) in all().filter(|(out, _)| !out.cache) {
                outs::commit(self.place, out, content, &[LinkType::Copy]).map_err(failed)?;
            }
        }
        for (out, content) in all().filter(|(out, _)| out.cache && !self.options.no_commit) {
            outs::commit(self.place, out, content, self.place.store.types()).map_err(failed)?;
        }
        let value = Value::Map(Box::new(entry));
        if is_kept {
            self.write_run(&value)?;
        }
        self.write_entry(&value, log)
    }

    /// The deps and params as they are after the command.
    fn inputs(&self) -> Result<Inputs, Stop> {
        let mut deps = vec![];
        for dep in &self.stage.deps {
            let path = dep.resolved.as_deref().unwrap_or_default();
            let found = self.place.hasher().hash(path, HashName::Md5).map_err(failed)?;
            deps.push(found.ok_or_else(|| Stop::Failed(format!("dependency '{}' does not exist", self.shown(path))))?);
        }
        let files = self.place.params_files(self.stage).map_err(failed)?;
        let values = Values::of(self.stage, &files).map_err(failed)?;
        if let Some((file, _)) = values.missing.first() {
            let keys: Vec<&str> = values.missing.iter().filter(|(of, _)| of == file).map(|(_, key)| *key).collect();
            return Err(Stop::Failed(format!("Parameters '{}' are missing from '{file}'.", keys.join(", "))));
        }
        let params = Params::of(self.place.root_text, self.stage, values.found);
        match params.unusual() {
            Some(why) => Err(Stop::Failed(format!("a param that cannot be recorded: {why}"))),
            None => Ok(Inputs { deps, params }),
        }
    }

    /// Looks at an out that was made.
    fn save_out(&mut self, at: usize, log: &mut Log<'_>) -> Result<Content, Stop> {
        let out = &self.stage.outs[at];
        let path = out.resolved.as_deref().unwrap_or_default();
        let shown = self.shown(path);
        let full = self.place.root.join(path);
        if !fs::exists(&full) {
            return Err(Stop::Failed(format!("output '{shown}' does not exist")));
        }
        let metadata = full.metadata().ok().filter(|metadata| metadata.is_file() || metadata.is_dir());
        let Some(metadata) = metadata else {
            return Err(Stop::Failed(format!("output '{shown}' is not a file or directory")));
        };
        let is_empty = if metadata.is_dir() {
            full.read_dir().is_ok_and(|mut entries| entries.next().is_none())
        } else {
            metadata.len() == 0
        };
        if is_empty {
            log.line(&format!("WARNING: '{shown}' is empty."));
        }
        if out.cache {
            self.ignores.add(path, &shown).map_err(failed)?;
        }
        if let Some(problem) = outs::metric_problem(self.place, out) {
            return Err(Stop::Failed(problem));
        }
        unrecorded::note_out(self.place, self.subject(), at).map_err(failed)?;
        let content = self.place.hasher().content(path, HashName::Md5).map_err(failed)?;
        content.ok_or_else(|| Stop::Failed(format!("output '{shown}' does not exist")))
    }

    fn write_run(&self, entry: &Value) -> Result<(), Stop> {
        let names = entry.as_map().and_then(run_cache::names);
        let Some((key, value)) = names else { return Err(Stop::Failed("its run cannot be named".to_owned())) };
        let path = self.place.store.run(&key, &value);
        // An entry that can be read stays as it is, its time included.
        if std::fs::read(&path).is_ok_and(|text| parse_run(&text).is_some()) {
            return Ok(());
        }
        let text = render_run(entry).map_err(failed)?;
        self.place.store.add_run(&key, &value, &text).map_err(failed)
    }

    fn lock(&self) -> PathBuf {
        self.place.locks.join(path::lock_path(&self.stage.file))
    }

    /// Puts the entry into the lock file as it is now.
    fn write_entry(&self, entry: &Value, log: &mut Log<'_>) -> Result<(), Stop> {
        let lock = self.lock();
        let name = self.stage.name.as_deref().unwrap_or_default();
        let lines = render_entry(name, entry).map_err(failed)?;
        let before = fs::read_text_if_any(&lock).map_err(failed)?;
        let after = splice(before.as_deref(), &[(name, &lines)]).map_err(failed)?;
        let shown = self.shown(&path::lock_path(&self.stage.file));
        if before.is_none() {
            log.line(&format!("Generating lock file '{shown}'"));
        }
        if before.as_deref() == Some(&after) {
            return Ok(());
        }
        log.line(&format!("Updating lock file '{shown}'"));
        if let Some(folder) = lock.parent() {
            fs::create_dir(folder).map_err(failed)?;
        }
        fs::replace(&lock, after.as_bytes()).map_err(failed)
    }

    /// A path of the model as DVC shows it.
    fn shown(&self, path: &str) -> String {
        path::relative(self.place.root_text, self.place.cwd, path)
    }
}

/// Why DVC has to do a stage that lacks a dep.
fn lacks(dep: &str) -> String {
    format!("its dep `{dep}` does not exist")
}

/// The dep that a stage lacks, where that is why DVC has to do it.
pub(crate) fn lacked(why: &str) -> Option<&str> {
    why.strip_prefix("its dep `")?.strip_suffix("` does not exist")
}

/// What went wrong before anything was touched: DVC says it in its own words.
fn for_dvc(error: impl Error) -> Stop {
    Stop::ForDvc(format!("it would fail: {error}"))
}

/// What went wrong, as DVC says it.
fn failed(error: impl Error + 'static) -> Stop {
    let error: &(dyn Error + 'static) = &error;
    Stop::Failed(words(error).unwrap_or_else(|| error.to_string()))
}

/// An error of the system as Python shows it.
fn words(error: &(dyn Error + 'static)) -> Option<String> {
    let path = match (error.downcast_ref::<FsError>(), error.downcast_ref::<StoreError>()) {
        (Some(error), _) | (None, Some(StoreError::Fs(error))) => error.path.display().to_string(),
        (None, Some(StoreError::Hash(HashError::Unreadable { path, .. }))) => path.clone(),
        _ => String::new(),
    };
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            let text = io::Error::from_raw_os_error(code).to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            return Some(format!("[Errno {code}] {text}: '{path}'"));
        }
        at = error.source();
    }
    None
}

fn not_found(path: &Path) -> String {
    format!("[Errno 2] No such file or directory: '{}'", path.display())
}

impl From<FactError> for Stop {
    fn from(error: FactError) -> Self {
        failed(error)
    }
}
