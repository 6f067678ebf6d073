//! `.dvc` files: one stage without a command, hashes included.

use crate::dvc::pipeline::env::Env;
use crate::dvc::pipeline::error::{Fault, StageProblem};
use crate::dvc::pipeline::path;
use crate::dvc::pipeline::resolve::build::Place;
use crate::dvc::pipeline::stage::{Dep, Out, OutKind, Recorded, Stage, StageAddress};
use crate::dvc::value::Value;
use crate::dvc::yaml::{self, Entries, Node, NodeValue};

/// Makes the stage of a validated `.dvc` file.
pub(super) fn stage(env: &Env<'_>, file: &str, node: &Node) -> Result<Stage, Fault> {
    let text = |name: &str| node.get(name).and_then(|entry| scalar(&entry.node)).and_then(Value::as_str);
    let wdir = path::resolve(env.root(), path::parent(file), text("wdir").unwrap_or_default());
    let place = Place { env, wdir: &wdir };
    let deps =
        entries(node, "deps").map(|(item, fields)| dep(&place, &fields).map_err(|fault| fault.or_at(item.position)));
    let deps = deps.collect::<Result<Vec<_>, _>>()?;
    let outs =
        entries(node, "outs").map(|(item, fields)| out(&place, &fields).map_err(|fault| fault.or_at(item.position)));
    let outs = outs.collect::<Result<Vec<_>, _>>()?;
    if entries(node, "deps").any(|(_, item)| item.value("db").is_some()) && (deps.len(), outs.len()) != (1, 1) {
        return Err(Fault::stage(StageProblem::Database));
    }
    let value = |name: &str| node.get(name).map(|entry| entry.node.clone().into_value());
    let flag = |name: &str| matches!(value(name), Some(Value::Bool(true)));
    Ok(Stage {
        address: StageAddress(file.to_owned()),
        file: file.to_owned(),
        line: 1,
        name: None,
        generated: None,
        cmd: None,
        deps,
        outs,
        params: vec![],
        md5: text("md5").map(str::to_owned),
        frozen: flag("frozen") || flag("locked"),
        always_changed: flag("always_changed"),
        desc: value("desc"),
        meta: value("meta"),
        wdir,
    })
}

/// Reads what the text of a `.dvc` file records of its outs, by their paths as written.
pub(crate) fn recorded_outs(text: &str) -> Vec<(String, Recorded)> {
    let Ok(node) = yaml::parse(text.as_bytes()) else { return vec![] };
    let outs = entries(&node, "outs").filter_map(|(_, item)| Some((item.text("path")?, item.recorded().ok()?)));
    outs.collect()
}

fn entries<'n>(node: &'n Node, section: &str) -> impl Iterator<Item = (&'n Node, Item<'n>)> {
    let items = node.get(section).and_then(|entry| entry.node.as_list()).unwrap_or_default();
    items.iter().filter_map(|item| item.as_map().map(|fields| (item, Item { fields })))
}

/// An entry of `deps` or `outs`.
struct Item<'n> {
    fields: &'n Entries,
}

impl Item<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let entry = self.fields.get(&Value::str(name))?;
        Some(entry.node.clone().into_value())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name)?.as_str().map(str::to_owned)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.value(name).map_or(default, |value| !value.is_false())
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.value(name)? {
            Value::Int(number) => u64::try_from(number).ok(),
            Value::Bool(flag) => Some(u64::from(flag)),
            _ => None,
        }
    }

    /// `files`: the members of a directory with their digests.
    fn members(&self) -> Vec<(String, String)> {
        let Some(Value::List(files)) = self.value("files") else { return vec![] };
        let text = |file: &Value, key: &str| file.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        files.iter().map(|file| (text(file, "relpath"), text(file, "md5"))).collect()
    }

    fn recorded(&self) -> Result<Recorded, Fault> {
        let md5 = self.value("md5").filter(|md5| !md5.is_false());
        let has_files = self.number("nfiles").is_some_and(|files| files > 0);
        let md5 = match md5 {
            None => None,
            Some(Value::Str(md5)) => Some(md5),
            // DVC looks for `.dir` at its end, unless the entry says that it is a directory.
            Some(_) if has_files || self.text("hash").is_some_and(|hash| hash != "md5") => None,
            Some(_) => return Err(Fault::stage(StageProblem::NoText { key: "md5" })),
        };
        Ok(Recorded {
            hash: self.text("hash").map(Into::into),
            md5,
            size: self.number("size"),
            nfiles: self.number("nfiles"),
            isexec: self.flag("isexec", false),
            files: self.members().into(),
            is_remote: ["etag", "checksum", "version_id", "cloud", "files"]
                .iter()
                .any(|name| self.fields.contains_key(&Value::str(*name))),
        })
    }
}

fn dep(place: &Place<'_>, item: &Item<'_>) -> Result<Dep, Fault> {
    let recorded = Some(Box::new(item.recorded()?));
    if let Some(db) = item.value("db") {
        return Ok(Dep {
            path: item.text("path").unwrap_or_default(),
            resolved: None,
            recorded,
            repo: Some(Box::new(db)),
        });
    }
    let Some(text) = item.text("path") else { return Err(Fault::stage(StageProblem::NoPathKey { section: "deps" })) };
    let located = place.dep_path(&text)?;
    let repo = item.value("repo").map(Box::new);
    // The path of an import is one of the other repository, whatever the working directory.
    let resolved = if repo.is_some() { Some(path::resolve(place.env.root(), "", &text)) } else { located.resolved };
    Ok(Dep { path: located.path, resolved, recorded, repo })
}

fn out(place: &Place<'_>, item: &Item<'_>) -> Result<Out, Fault> {
    let Some(text) = item.text("path") else { return Err(Fault::stage(StageProblem::NoPathKey { section: "outs" })) };
    let located = place.out_path(&text)?;
    let annotations = ["desc", "type", "labels", "meta"];
    Ok(Out {
        path: located.path,
        resolved: located.resolved,
        kind: OutKind::Out,
        cache: item.flag("cache", true),
        persist: item.flag("persist", false),
        push: item.flag("push", true),
        remote: item.text("remote"),
        flags: annotations.iter().filter_map(|name| Some(((*name).to_owned(), item.value(name)?))).collect(),
        recorded: Some(Box::new(item.recorded()?)),
    })
}

fn scalar(node: &Node) -> Option<&Value> {
    match &node.value {
        NodeValue::Scalar(value) => Some(value),
        NodeValue::List(_) | NodeValue::Map(_) => None,
    }
}
