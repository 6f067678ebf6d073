//! What a copy of the project holds after its stages were done, as a list that can be compared with another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::adapters::fs::{self, FoundKind};
use crate::diagnostic::Diagnostic;
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::path::{inside, is_within, lock_path};
use crate::dvc::pipeline::stage::Stage;
use crate::output::text;

/// The folders of DVC and of this program that say nothing.
const OWN: [&str; 3] = [".dvc/tmp", ".dvc/fanout", ".dvc/config"];
/// Where objects and the run cache lie.
const CACHE: &str = ".dvc/cache/";
/// Characters of a line that are shown.
const LENGTH: usize = 120;

/// What is there by its name: a lock entry, or a path.
pub(super) struct Left(BTreeMap<String, String>);

impl Left {
    /// Lists what is below the top of a work tree with the project at `root`, for as long as `look` finds it worth that.
    pub(super) fn of(top: &Path, root: &Path, look: &dyn Fn() -> Result<(), Diagnostic>) -> Result<Left, Diagnostic> {
        let prefix = root.strip_prefix(top).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        let skip = |path: &str| path == ".git" || inside(&prefix, path).is_some_and(|path| OWN.contains(&path));
        let mut left = BTreeMap::new();
        for found in fs::walk(top, &skip)? {
            look()?;
            let full = top.join(&found.path);
            let path = inside(&prefix, &found.path).map_or_else(|| format!("../{}", found.path), str::to_owned);
            let mode = found.mode & 0o777;
            if found.kind == FoundKind::File && (path == "dvc.lock" || path.ends_with("/dvc.lock")) {
                lock(&path, &fs::read_text_if_any(&full)?.unwrap_or_default(), &mut left);
                continue;
            }
            let said = match found.kind {
                FoundKind::Directory => format!("directory, mode {mode:03o}"),
                FoundKind::Other => "neither file nor directory".to_owned(),
                FoundKind::File => {
                    let link = if fs::names_of(&full) > 1 { "link, " } else { "" };
                    format!("{link}mode {mode:03o}, md5 {}", fs::digest(&full)?.0)
                }
                FoundKind::Symlink => {
                    let target = std::fs::read_link(&full).unwrap_or_default();
                    let target = target.strip_prefix(root).unwrap_or(&target).display().to_string();
                    let md5 = if full.is_file() { fs::digest(&full)?.0 } else { "none".to_owned() };
                    format!("symlink to {target}, md5 {md5}")
                }
            };
            left.insert(format!("`{path}`"), said);
        }
        Ok(Left(left))
    }

    /// What is not the same, and how.
    pub(super) fn differences(&self, other: &Left) -> BTreeMap<String, String> {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differing = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        differing.map(|name| (name.clone(), words(self.0.get(name), other.0.get(name)))).collect()
    }
}

/// The first line of two that is not the same.
fn words(one: Option<&String>, other: Option<&String>) -> String {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (Some(_), None) => return "only the first has it".to_owned(),
        _ => return "only the second has it".to_owned(),
    };
    let (one, other) = text::first_difference(one, other, LENGTH);
    format!("{one} / {other}")
}

/// Lists the entries of a lock file and what else is in it.
fn lock(path: &str, text: &str, left: &mut BTreeMap<String, String>) {
    let Ok(lock) = Lockfile::parse(text) else {
        left.insert(format!("`{path}`"), text.to_owned());
        return;
    };
    left.insert(format!("`{path}`"), lock.without_entries());
    let names: Vec<&str> = lock.names().collect();
    left.insert(format!("order of `{path}`"), names.join("\n"));
    for name in names {
        let text = lock.entry(name).map(|entry| entry.text().to_owned()).unwrap_or_default();
        left.insert(entry_name(path, name), text);
    }
}

fn entry_name(path: &str, name: &str) -> String {
    format!("entry `{name}` of `{path}`")
}

/// Whether something is an object or an entry of the run cache.
pub(super) fn is_in_cache(name: &str) -> bool {
    name.trim_matches('`').starts_with(CACHE)
}

/// Whether a stage made what has this name.
pub(super) fn is_of(name: &str, stage: &Stage) -> bool {
    if stage.name.as_ref().is_some_and(|own| name == entry_name(&lock_path(&stage.file), own)) {
        return true;
    }
    let path = name.trim_matches('`');
    stage.outs.iter().filter_map(|out| out.resolved.as_deref()).any(|out| is_within(path, out))
}
