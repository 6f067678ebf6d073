//! DVC's config: the files of four levels merged into one, checked and typed (`dvc/config.py`, DVC 3.67).
//!
//! Later files win, key by key: system, global, `.dvc/config`, `.dvc/config.local`. Paths are relative to the
//! directory of the file that names them.

pub(crate) mod ini;
pub(crate) mod remote;
mod schema;

use indexmap::IndexMap;

use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::pipeline::path;
use ini::{Entry, Item, Section};

/// A config file that DVC would refuse (its exit code 251).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ConfigError {
    pub place: Place,
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        ConfigError { place, message: message.into() }
    }
}

impl From<ConfigError> for Diagnostic {
    fn from(error: ConfigError) -> Self {
        Diagnostic::project(format!("DVC's config is not valid: {}", error.message)).at(error.place)
    }
}

/// One config file, read already.
pub(crate) struct ConfigFile {
    /// How errors name it.
    pub path: String,
    /// The absolute directory it lies in: its paths are relative to it.
    pub dir: String,
    pub text: String,
}

/// How a file comes from the cache into the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkType {
    Reflink,
    Hardlink,
    Symlink,
    Copy,
}

impl LinkType {
    fn from_name(name: &str) -> Option<Self> {
        let all = [LinkType::Reflink, LinkType::Hardlink, LinkType::Symlink, LinkType::Copy];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// Reads a list as `cache.type` has it, separated by commas; `None` where something else is in it.
    pub(crate) fn list(text: &str) -> Option<Vec<Self>> {
        text.split(',').map(|name| LinkType::from_name(name.trim())).collect()
    }

    /// Whether files come out as copies by the first of these types that fits, whatever the file system can.
    pub(crate) fn make_copies(types: &[Self]) -> bool {
        matches!(types, [LinkType::Copy, ..] | [LinkType::Reflink, LinkType::Copy, ..])
    }

    /// As `cache.type` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LinkType::Reflink => "reflink",
            LinkType::Hardlink => "hardlink",
            LinkType::Symlink => "symlink",
            LinkType::Copy => "copy",
        }
    }
}

/// How a map in `cmd` becomes arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ParsingConfig {
    pub bool: BoolStyle,
    pub list: ListStyle,
}

/// `parsing.bool`: what becomes of `key: false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BoolStyle {
    /// Nothing.
    #[default]
    StoreTrue,
    /// `--no-key`.
    BooleanOptional,
}

/// `parsing.list`: what becomes of `key: [a, b]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListStyle {
    /// `--key a b`.
    #[default]
    Nargs,
    /// `--key a --key b`.
    Append,
}

/// The config that is in force for a project.
pub(crate) struct DvcConfig {
    /// No git: `.gitignore` means nothing.
    pub no_scm: bool,
    /// DVC runs `git add` on the files it changes.
    pub autostage: bool,
    /// DVC's repository lock is a hard link, for file systems without `flock`.
    pub hardlink_lock: bool,
    /// Absolute.
    pub cache_dir: String,
    /// Where DVC keeps what it knows of projects, if it was told.
    pub site_cache_dir: Option<String>,
    /// In order of preference, never empty.
    pub cache_types: Vec<LinkType>,
    /// A group shares the cache.
    pub cache_is_shared: bool,
    pub parsing: ParsingConfig,
    /// The URLs of the remotes by name, paths absolute.
    pub remotes: IndexMap<String, String>,
    merged: Section,
}

impl DvcConfig {
    /// Merges files, the weakest first; `root` is the project's absolute path, `home` says what `~` stands for with the name of
    /// a user behind it, or nothing.
    pub(crate) fn from_files(
        files: &[ConfigFile],
        root: &str,
        home: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut merged = Section::new();
        for file in files {
            let sections = named_sections(lower_keys(ini::parse(&file.path, &file.text)?));
            merge(&mut merged, resolve_paths(sections, &|path: &str| resolve(path, &file.dir, home)));
        }
        schema::check(&merged)?;

        let text = |section: &str, key: &str| match &section_of(&merged, section)?.get(key)?.item {
            Item::Text(text) => Some(text.as_str()),
            Item::List(_) | Item::Section(_) => None,
        };
        let is_set = |section: &str, key: &str, value: &str| {
            text(section, key).is_some_and(|text| text.eq_ignore_ascii_case(value))
        };
        let cache = section_of(&merged, "cache");
        for key in ["local", "dir"] {
            let entry = cache.and_then(|cache| cache.get(key));
            if let Some(entry) = entry.filter(|_| key == "local" || text("cache", key).is_some_and(is_url)) {
                return Err(ConfigError::new(entry.place.clone(), "a cache outside the file system is not supported"));
            }
        }
        let cache_types = match cache.and_then(|cache| cache.get("type")).map(|entry| &entry.item) {
            Some(Item::Text(text)) => schema::link_types(text).filter_map(LinkType::from_name).collect(),
            Some(Item::List(types)) => types.iter().filter_map(|name| LinkType::from_name(name)).collect(),
            Some(Item::Section(_)) | None => vec![],
        };
        let remotes = section_of(&merged, "remote").into_iter().flatten().filter_map(|(name, entry)| {
            let Item::Section(options) = &entry.item else { return None };
            let Item::Text(url) = &options.get("url")?.item else { return None };
            Some((name.clone(), url.clone()))
        });
        Ok(DvcConfig {
            no_scm: is_set("core", "no_scm", "true"),
            autostage: is_set("core", "autostage", "true"),
            hardlink_lock: is_set("core", "hardlink_lock", "true"),
            cache_dir: text("cache", "dir").map_or_else(|| format!("{root}/.dvc/cache"), str::to_owned),
            site_cache_dir: text("core", "site_cache_dir").map(str::to_owned),
            cache_types: if cache_types.is_empty() { vec![LinkType::Reflink, LinkType::Copy] } else { cache_types },
            cache_is_shared: is_set("cache", "shared", "group"),
            parsing: ParsingConfig {
                bool: if is_set("parsing", "bool", "boolean_optional") {
                    BoolStyle::BooleanOptional
                } else {
                    BoolStyle::StoreTrue
                },
                list: if is_set("parsing", "list", "append") { ListStyle::Append } else { ListStyle::Nargs },
            },
            remotes: remotes.collect(),
            merged,
        })
    }

    /// A setting of the cache whose meaning is left to DVC.
    pub(crate) fn unusual_cache_key(&self) -> Option<&str> {
        let known = ["dir", "type", "shared", "slow_link_warning", "verify", "protected"];
        section_of(&self.merged, "cache")?.keys().map(String::as_str).find(|key| !known.contains(key))
    }

    /// Writes a config file that has the same effect in the absolute directory `at`: `cache.dir` and all paths absolute.
    ///
    /// A path that its syntax has no way to write (DVC would take a part for `%(name)s`) is written as seen from `at`.
    /// The file holds the secrets of `.dvc/config.local` too: keep it private.
    pub(crate) fn render_for(&self, at: &str) -> Result<String, ConfigError> {
        let unknown = || Place::file(".dvc/config");
        let mut merged = self.merged.clone();
        let cache = merged
            .entry("cache".to_owned())
            .or_insert_with(|| Entry { item: Item::Section(Section::new()), place: unknown() });
        if let Item::Section(cache) = &mut cache.item {
            let dir = Entry { item: Item::Text(self.cache_dir.clone()), place: unknown() };
            cache.insert("dir".to_owned(), dir);
        }
        let as_seen = |path: &str| {
            if is_url(path) || ini::is_writable(path) { path.to_owned() } else { path::relative(at, "", path) }
        };
        render(resolve_paths(merged, &as_seen))
    }

    /// Writes a config file for a machine that sees nothing of this one: without a cache, without what concerns this machine
    /// alone, and without secrets.
    pub(crate) fn render_for_others(&self) -> Result<String, ConfigError> {
        let mut merged = self.merged.clone();
        merged.retain(|name, _| !LOCAL_SECTIONS.contains(&name.as_str()));
        for (section, key) in [("cache", "dir"), ("core", "site_cache_dir")] {
            if let Some(Item::Section(inner)) = merged.get_mut(section).map(|entry| &mut entry.item) {
                inner.shift_remove(key);
            }
        }
        if let Some(Item::Section(remotes)) = merged.get_mut("remote").map(|entry| &mut entry.item) {
            for remote in remotes.values_mut() {
                let Item::Section(options) = &mut remote.item else { continue };
                options.retain(|key, _| key == NAMES_A_KEY || !SECRETS.iter().any(|secret| key.contains(secret)));
                if let Some(Item::Text(url)) = options.get_mut("url").map(|entry| &mut entry.item) {
                    *url = without_password(url);
                }
            }
        }
        render(merged)
    }

    /// The remote that data come from and go to, unless another one is named.
    pub(crate) fn default_remote(&self) -> Option<&str> {
        match &section_of(&self.merged, "core")?.get("remote")?.item {
            Item::Text(name) => Some(name),
            Item::List(_) | Item::Section(_) => None,
        }
    }
}

/// Sections that concern this machine or this user alone.
const LOCAL_SECTIONS: &[&str] = &["db", "machine", "studio", "state", "index"];
/// Parts of the names of options that hold secrets.
const SECRETS: &[&str] =
    &["secret", "password", "passphrase", "token", "access_key", "account_key", "key_id", "connection_string"];

/// The option that says which key a bucket encrypts with, which is no secret, and without which it may take nothing.
const NAMES_A_KEY: &str = "sse_kms_key_id";

/// An address without the password in it.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match host.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
        Some((Some((user, _)), host)) => format!("{scheme}://{user}@{host}{path}"),
        Some((None, _)) | None => url.to_owned(),
    }
}

/// The text of a config file.
fn render(merged: Section) -> Result<String, ConfigError> {
    let mut sections = Section::new();
    for (name, entry) in merged {
        match (&entry.item, name.as_str()) {
            (Item::Section(inner), "remote" | "machine" | "db") => {
                let named = inner.iter().map(|(inner, entry)| (format!("{name} \"{inner}\""), entry.clone()));
                sections.extend(named);
            }
            _ => {
                sections.insert(name.clone(), entry.clone());
            }
        }
    }
    ini::render(&sections).map_err(|name| {
        let place = Place::file(".dvc/config");
        ConfigError::new(place, format!("a worker's copy cannot have `{name}`, which no quotes can write"))
    })
}

fn section_of<'a>(config: &'a Section, name: &str) -> Option<&'a Section> {
    match &config.get(name)?.item {
        Item::Section(section) => Some(section),
        Item::Text(_) | Item::List(_) => None,
    }
}

fn lower_keys(section: Section) -> Section {
    let lower = |(name, entry): (String, Entry)| {
        let item = match entry.item {
            Item::Section(inner) => Item::Section(lower_keys(inner)),
            item => item,
        };
        (name.to_lowercase(), Entry { item, place: entry.place })
    };
    section.into_iter().map(lower).collect()
}

/// Moves `remote "NAME"` to NAME in `remote`; `machine` and `db` likewise.
fn named_sections(sections: Section) -> Section {
    let mut result = Section::new();
    for (name, entry) in sections {
        let Some((kind, inner)) = named(&name) else {
            result.insert(name, entry);
            continue;
        };
        let place = entry.place.clone();
        let kind = result.entry(kind.to_owned()).or_insert(Entry { item: Item::Section(Section::new()), place });
        if let Item::Section(section) = &mut kind.item {
            section.insert(inner.to_owned(), entry);
        }
    }
    result
}

fn named(section: &str) -> Option<(&'static str, &str)> {
    ["remote", "machine", "db"].into_iter().find_map(|kind| {
        let name = section.trim().strip_prefix(kind)?.trim_start().strip_prefix('"')?.strip_suffix('"')?;
        Some((kind, name))
    })
}

fn merge(into: &mut Section, from: Section) {
    for (name, entry) in from {
        match (into.get_mut(&name).map(|known| &mut known.item), entry.item) {
            (Some(Item::Section(known)), Item::Section(new)) => merge(known, new),
            (_, item) => {
                into.insert(name, Entry { item, place: entry.place });
            }
        }
    }
}

/// The options of remotes that are paths.
const REMOTE_PATHS: &[&str] = &[
    "url",
    "gdrive_user_credentials_file",
    "gdrive_service_account_json_file_path",
    "credentialpath",
    "configpath",
    "keyfile",
    "cert_path",
    "key_path",
];

fn resolve_paths(mut sections: Section, resolve: &dyn Fn(&str) -> String) -> Section {
    let in_section = |entry: &mut Entry, keys: &[&str]| {
        if let Item::Section(section) = &mut entry.item {
            for key in keys {
                if let Some(Item::Text(path)) = section.get_mut(*key).map(|entry| &mut entry.item) {
                    *path = resolve(path);
                }
            }
        }
    };
    for (name, keys) in [("remote", REMOTE_PATHS), ("machine", &["startup_script", "setup_script"])] {
        if let Some(Item::Section(inner)) = sections.get_mut(name).map(|entry| &mut entry.item) {
            inner.values_mut().for_each(|entry| in_section(entry, keys));
        }
    }
    if let Some(entry) = sections.get_mut("cache") {
        in_section(entry, &["dir"]);
    }
    sections
}

fn is_url(path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    path.split_once("://").is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(word))
}

fn resolve(path: &str, dir: &str, home: &dyn Fn(&str) -> Option<String>) -> String {
    if is_url(path) || path.starts_with('/') {
        return path.to_owned();
    }
    let of_user = path.strip_prefix('~').map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())));
    match of_user.and_then(|(user, rest)| Some((home(user)?, rest))) {
        Some((home, rest)) => format!("{}{rest}", home.trim_end_matches('/')),
        None => normalise(&format!("{dir}/{path}")),
    }
}

/// Removes `.`, `..` and doubled slashes from an absolute path, as text.
fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests;
