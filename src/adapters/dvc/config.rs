//! DVC's config files on disk: where the four levels lie, reading them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::adapters::process;
use crate::diagnostic::Place;
use crate::dvc::config::{ConfigError, ConfigFile, DvcConfig};
use crate::env;

/// Reads the config that is in force in the project at `root` (an absolute path).
pub(crate) fn load(root: &Path) -> Result<DvcConfig, ConfigError> {
    let mut files = Vec::new();
    for (dir, name) in level_files(root) {
        let path = dir.join(name);
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        match std::fs::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes)
                    .map_err(|_| ConfigError::new(Place::file(shown.clone()), "it is not UTF-8"))?;
                files.push(ConfigFile { path: shown, dir: dir.display().to_string(), text });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(ConfigError::new(Place::file(shown), error.to_string())),
        }
    }
    DvcConfig::from_files(&files, &root.display().to_string(), &home_of)
}

/// The folders and names of the config files, the weakest first; they need not exist.
fn level_files(root: &Path) -> Vec<(PathBuf, &'static str)> {
    let system = env::read(env::DVC_SYSTEM_CONFIG_DIR).map_or_else(system_dir, PathBuf::from);
    let global = env::read(env::DVC_GLOBAL_CONFIG_DIR).map(PathBuf::from).or_else(global_dir);
    let mut files = vec![(system, "config")];
    files.extend(global.map(|dir| (dir, "config")));
    files.push((root.join(".dvc"), "config"));
    files.push((root.join(".dvc"), "config.local"));
    files
}

/// As `platformdirs` finds it: the first of `XDG_CONFIG_DIRS`.
fn system_dir() -> PathBuf {
    let dirs = env::read_text(env::XDG_CONFIG_DIRS).unwrap_or_default();
    let first = dirs.split(':').next().filter(|dir| !dir.is_empty()).unwrap_or("/etc/xdg");
    Path::new(first).join("dvc")
}

/// The home of a user, `""` for this one, as Python's `expanduser` finds it.
fn home_of(user: &str) -> Option<String> {
    match user {
        "" => env::read_text(env::HOME).or_else(|| process::home_of(None)),
        named => process::home_of(Some(named)),
    }
}

fn global_dir() -> Option<PathBuf> {
    let config = env::read(env::XDG_CONFIG_HOME).map(PathBuf::from);
    Some(config.or_else(|| Some(Path::new(&home_of("")?).join(".config")))?.join("dvc"))
}
