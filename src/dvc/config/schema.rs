//! Which sections and keys DVC's config may have, and what their values look like (`dvc/config_schema.py`, DVC 3.67).
//!
//! Remotes in the cloud are checked for their `url` only: their keys belong to plugins, and DVC itself will read them.

use super::ConfigError;
use super::ini::{Entry, Item, Section};

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// `true` or `false` in any case.
    Bool,
    /// A whole number above zero.
    Count,
    /// One of these, in any case.
    Choice(&'static [&'static str]),
    /// A list of ways to link from the cache.
    LinkTypes,
}

use Kind::{Bool, Choice, Count, LinkTypes, Text};

type Keys = &'static [(&'static str, Kind)];

const CORE: Keys = &[
    ("remote", Text),
    ("checksum_jobs", Count),
    ("interactive", Bool),
    ("analytics", Bool),
    ("hardlink_lock", Bool),
    ("no_scm", Bool),
    ("autostage", Bool),
    ("experiments", Bool),
    ("check_update", Bool),
    ("site_cache_dir", Text),
    ("machine", Text),
];
const LOCAL: Keys = &[
    ("type", LinkTypes),
    ("protected", Bool),
    ("shared", Choice(&["group"])),
    ("slow_link_warning", Bool),
    ("verify", Bool),
];
const CACHE: Keys = &[
    ("local", Text),
    ("s3", Text),
    ("gs", Text),
    ("hdfs", Text),
    ("webhdfs", Text),
    ("ssh", Text),
    ("azure", Text),
    ("dir", Text),
];
const REMOTE: Keys = &[
    ("url", Text),
    ("checksum_jobs", Count),
    ("jobs", Count),
    ("worktree", Bool),
    ("no_traverse", Bool),
    ("version_aware", Bool),
];
const STATE: Keys = &[("dir", Text), ("row_limit", Count), ("row_cleanup_quota", Text)];
const INDEX: Keys = &[("dir", Text)];
const PLOTS: Keys = &[("html_template", Text), ("auto_open", Bool), ("out_dir", Text)];
const EXP: Keys = &[
    ("code", Text),
    ("data", Text),
    ("models", Text),
    ("metrics", Text),
    ("params", Text),
    ("plots", Text),
    ("live", Text),
    ("auto_push", Bool),
    ("git_remote", Text),
];
const PARSING: Keys = &[("bool", Choice(&["store_true", "boolean_optional"])), ("list", Choice(&["nargs", "append"]))];
const HYDRA: Keys =
    &[("enabled", Bool), ("config_dir", Text), ("config_module", Text), ("config_name", Text), ("plugins_path", Text)];
const STUDIO: Keys = &[("token", Text), ("url", Text), ("repo_url", Text), ("offline", Bool)];

/// The schemes of remotes that DVC knows; without one the remote is a local folder.
const SCHEMES: &[&str] =
    &["s3", "gs", "ssh", "hdfs", "webhdfs", "azure", "oss", "gdrive", "http", "https", "webdav", "webdavs", "remote"];

/// Checks the merged config as a whole, as DVC does.
pub(super) fn check(config: &Section) -> Result<(), ConfigError> {
    for (name, entry) in config {
        let Item::Section(section) = &entry.item else {
            return Err(ConfigError::new(entry.place.clone(), format!("`{name}` stands outside of a section")));
        };
        let keys: &[Keys] = match name.as_str() {
            "core" => &[CORE],
            "cache" => &[CACHE, LOCAL],
            "state" => &[STATE],
            "index" => &[INDEX],
            "plots" => &[PLOTS],
            "exp" => &[EXP],
            "parsing" => &[PARSING],
            "hydra" => &[HYDRA],
            "studio" => &[STUDIO],
            "remote" => {
                section.iter().try_for_each(|(name, entry)| check_remote(name, entry))?;
                continue;
            }
            // Sections of free keys.
            "machine" | "db" | "feature" => continue,
            _ => return Err(ConfigError::new(entry.place.clone(), format!("there is no section `{name}`"))),
        };
        check_keys(name, section, keys)?;
    }
    Ok(())
}

fn check_remote(name: &str, entry: &Entry) -> Result<(), ConfigError> {
    let error = |what: &str| ConfigError::new(entry.place.clone(), format!("remote `{name}` {what}"));
    let Item::Section(section) = &entry.item else { return Err(error("is not a section")) };
    let url = match section.get("url").map(|entry| &entry.item) {
        Some(Item::Text(url)) => url,
        Some(Item::List(_) | Item::Section(_)) => return Err(error("has a `url` that is not text")),
        None => return Err(error("has no `url`")),
    };
    match url.split_once("://").filter(|(_, rest)| !rest.is_empty() && !rest.starts_with('/')) {
        None => check_keys(&format!("remote \"{name}\""), section, &[REMOTE, LOCAL]),
        Some((scheme, _)) if SCHEMES.contains(&scheme.to_lowercase().as_str()) => Ok(()),
        Some((scheme, _)) => Err(error(&format!("has a `url` of unknown type `{scheme}://`"))),
    }
}

fn check_keys(section_name: &str, section: &Section, keys: &[Keys]) -> Result<(), ConfigError> {
    for (name, entry) in section {
        let error = |what: String| ConfigError::new(entry.place.clone(), format!("`{section_name}.{name}` {what}"));
        let Some((_, kind)) = keys.iter().copied().flatten().find(|(known, _)| known == name) else {
            return Err(error("is not an option of DVC".to_owned()));
        };
        let text = match (&entry.item, kind) {
            (Item::List(types), LinkTypes) => {
                check_link_types(types.iter().map(String::as_str)).map_err(error)?;
                continue;
            }
            (Item::Text(text), _) => text,
            (Item::List(_), _) => return Err(error("must be one value, not a list".to_owned())),
            (Item::Section(_), _) => return Err(error("must be a value, not a section".to_owned())),
        };
        match kind {
            Text => {}
            Bool if is_bool(text) => {}
            Bool => return Err(error(format!("must be `true` or `false`, not `{text}`"))),
            Count if text.trim().parse::<u64>().is_ok_and(|count| count > 0) => {}
            Count => return Err(error(format!("must be a number above 0, not `{text}`"))),
            Choice(choices) if choices.contains(&text.to_lowercase().as_str()) => {}
            Choice(choices) => return Err(error(format!("must be one of `{}`, not `{text}`", choices.join("`, `")))),
            LinkTypes => check_link_types(link_types(text)).map_err(error)?,
        }
    }
    Ok(())
}

fn is_bool(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

/// Splits `reflink, copy` in a text; a list of the file comes split already.
pub(super) fn link_types(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

fn check_link_types<'a>(types: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    match types.into_iter().find(|name| super::LinkType::from_name(name).is_none()) {
        Some(unknown) => Err(format!("knows `reflink`, `hardlink`, `symlink` and `copy`, not `{unknown}`")),
        None => Ok(()),
    }
}
