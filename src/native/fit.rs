//! Which stages are done here, and why DVC has to do the others.
//!
//! A reason is a fragment that follows "DVC does it: ". What only a look at the workspace tells is asked in `stage.rs`,
//! right before the stage's turn.

use std::path::Path;

use super::{Place, command};
use crate::dvc::config::{DvcConfig, LinkType};
use crate::dvc::lockfile::{LockEntry, LockItem, Lockfile, foreign_style};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::stage::{Dep, Out, ParamsDep, Stage};

/// Why DVC has to do all stages of a project.
pub(crate) fn unusual_setting(config: &DvcConfig, root: &Path) -> Option<String> {
    let key = config.unusual_cache_key().map(|key| format!("`cache.{key}` is set"));
    key.or_else(|| unusable_links(Path::new(&config.cache_dir), root, &config.cache_types))
}

/// Why DVC has to do all stages of a file whose lock file is this.
pub(super) fn unusual_lock(text: &str) -> Option<String> {
    let why = |what: String| Some(format!("its lock file is not as DVC writes it: {what}"));
    match Lockfile::parse(text) {
        Err(error) => why(error.what),
        Ok(_) if text.contains('\r') || !(text.is_empty() || text.starts_with("schema: '2.0'\n")) => {
            why("somebody has changed it".to_owned())
        }
        Ok(lock) => {
            let mut entries = lock.names().filter_map(|name| lock.entry(name));
            entries.find_map(|entry| foreign_style(entry.text())).and_then(|what| why(what.to_owned()))
        }
    }
}

/// Why DVC has to do a stage if it is changed; what the stage's own definition, its entry and the links tell.
pub(super) fn unusual(place: &Place<'_>, stage: &Stage, entry: Option<&LockEntry>) -> Option<String> {
    if let Some(why) = place.shell.unusual() {
        return Some(why.to_owned());
    }
    if stage.name.is_none() {
        return Some("a `.dvc` file is changed".to_owned());
    }
    if stage.frozen {
        return Some("a frozen stage is changed".to_owned());
    }
    let Some(cmd) = &stage.cmd else { return Some("it has no command".to_owned()) };
    if command::commands(cmd).is_none() {
        return Some("its command is empty, or no text".to_owned());
    }
    if !path::is_inside(&stage.wdir) {
        return Some("its `wdir` is outside of the project".to_owned());
    }
    let deps = stage.deps.iter().find_map(unusual_dep);
    let params = || stage.params.iter().find_map(unusual_params);
    let outs = || stage.outs.iter().find_map(unusual_out);
    let recorded = || entry.into_iter().flat_map(|entry| entry.deps.iter().chain(&entry.outs)).find_map(unusual_item);
    deps.or_else(params).or_else(outs).or_else(recorded)
}

fn unusual_dep(dep: &Dep) -> Option<String> {
    let is_usual = !dep.path.starts_with('/') && dep.resolved.as_deref().is_some_and(path::is_inside);
    (!is_usual || dep.repo.is_some()).then(|| format!("its dep `{}` is not a path in the project", dep.path))
}

fn unusual_params(params: &ParamsDep) -> Option<String> {
    if params.path.starts_with('/') || !path::is_inside(&params.resolved) {
        return Some(format!("its params file `{}` is outside of the project", params.path));
    }
    let has_pattern = |key: &&String| key.is_empty() || key.contains(['*', '?', '[', '/']);
    params.keys.iter().find(has_pattern).map(|key| format!("its param `{key}` is a pattern"))
}

fn unusual_out(out: &Out) -> Option<String> {
    let is_usual = |resolved: &str| path::is_inside(resolved) && !resolved.is_empty();
    if out.path.starts_with('/') || !out.resolved.as_deref().is_some_and(is_usual) {
        return Some(format!("its out `{}` is not a path in the project", out.path));
    }
    let resolved = out.resolved.as_deref().unwrap_or_default();
    let is_odd = resolved.contains(['\\', '\n', '\r']) || resolved.ends_with(char::is_whitespace);
    is_odd.then(|| format!("its out `{}` has an unusual name", out.path))
}

fn unusual_item(item: &LockItem) -> Option<String> {
    let recorded = &item.recorded;
    let is_usual = recorded.hash.as_deref() == Some("md5") && !recorded.is_remote;
    (!is_usual).then(|| format!("its entry has `{}` in another way than DVC 3 records files", item.path))
}

/// Why none of the link types may work between a cache and a project; asked where a plain copy is not among them.
fn unusable_links(cache: &Path, root: &Path, types: &[LinkType]) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| path.ancestors().find_map(|path| path.metadata().ok()).map(|metadata| metadata.dev());
    let is_same = device(cache) == device(root);
    let works = |kind: &LinkType| match kind {
        LinkType::Copy | LinkType::Symlink => true,
        LinkType::Hardlink => is_same,
        LinkType::Reflink => false,
    };
    (!types.iter().any(works)).then(|| "perhaps no type of `cache.type` works here".to_owned())
}
