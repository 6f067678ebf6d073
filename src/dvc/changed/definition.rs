//! Whether a `.dvc` file was edited (`dvc/stage/utils.py: compute_md5`, DVC 3.67).
//!
//! The file of an import records the MD5 of its own definition as JSON. A file without deps has no such MD5; one that
//! has it all the same (DVC 0 wrote it) is changed for ever.

use super::expected::Expected;
use super::run_cache::push_json;
use crate::dvc::hash::{HashName, Md5};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::stage::{Out, Recorded, Stage};
use crate::dvc::value::{Map, Value};

/// Whether the recorded MD5 of a `.dvc` file is another than that of its definition.
///
/// Imports from elsewhere than the file system are believed: only DVC can tell.
pub(super) fn is_edited(stage: &Stage, root: &str) -> bool {
    if stage.cmd.is_some() {
        return false;
    }
    let ([dep], [out]) = (&stage.deps[..], &stage.outs[..]) else { return stage.md5.is_some() };
    let is_local = |recorded: Option<&Recorded>| recorded.is_none_or(|recorded| !recorded.is_remote);
    let (Some(dep_path), Some(out_path)) = (&dep.resolved, &out.resolved) else { return false };
    if dep.repo.is_some() || !is_local(dep.recorded.as_deref()) || !is_local(out.recorded.as_deref()) {
        return false;
    }
    let dep = item(stage, root, &dep.path, dep_path, dep.recorded.as_deref());
    let mut made = item(stage, root, &out.path, out_path, out.recorded.as_deref());
    made.extend(flags(out));
    let list = |item: Map| Value::List(vec![Value::Map(Box::new(item))]);
    let mut definition: Map = [(Value::str("deps"), list(dep)), (Value::str("outs"), list(made))].into_iter().collect();
    let wdir = path::relative(root, path::parent(&stage.file), &stage.wdir);
    if wdir != "." {
        definition.insert(Value::str("wdir"), Value::Str(wdir));
    }
    if stage.always_changed {
        definition.insert(Value::str("always_changed"), Value::Bool(true));
    }
    let mut text = String::new();
    let written = push_json(&mut text, &Value::Map(Box::new(definition)));
    written.is_some() && stage.md5.as_deref() != Some(Md5::of(text.as_bytes()).to_string().as_str())
}

/// What a dep or out has in the definition: hash and path.
fn item(stage: &Stage, root: &str, written: &str, resolved: &str, recorded: Option<&Recorded>) -> Map {
    let expected = recorded.and_then(|recorded| Expected::of(recorded, resolved));
    let is_inside = path::is_inside(resolved);
    let is_old = is_inside && recorded.is_some_and(|recorded| recorded.hash.is_none());
    let mut item = Map::new();
    match expected {
        Some(expected) => drop(item.insert(Value::str("md5"), Value::Str(expected.md5))),
        None if is_old => drop(item.insert(Value::str("md5"), Value::Null)),
        None => {}
    }
    if !is_old {
        item.insert(Value::str("hash"), Value::str(HashName::Md5.name()));
    }
    let shown = if is_inside { path::relative(root, &stage.wdir, resolved) } else { written.to_owned() };
    item.insert(Value::str("path"), Value::Str(shown));
    item
}

fn flags(out: &Out) -> impl Iterator<Item = (Value, Value)> {
    let no = |name: &str, flag: bool| (!flag).then(|| (Value::str(name), Value::Bool(false)));
    let remote = out.remote.as_ref().map(|remote| (Value::str("remote"), Value::str(remote)));
    [no("cache", out.cache), no("push", out.push), remote].into_iter().flatten()
}
