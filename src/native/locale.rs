//! The locale that Python gives to its children (PEP 538).
//!
//! A Python that starts in the locale `C` sets `LC_CTYPE` to `C.UTF-8`, and the commands that DVC starts inherit it: it
//! changes how they sort. That is also so where the locale that is asked for is not installed.

use std::ffi::OsString;

use crate::adapters::process::{self, Program};
use crate::env;

/// What Python sets.
const UTF8: &str = "C.UTF-8";
/// Locales that the C library has built in.
const BUILT_IN: [&str; 4] = ["C.UTF-8", "C.utf8", "C.UTF8", "C.utf-8"];

/// Returns what Python would set `LC_CTYPE` to; `None` where it leaves it, an error where only Python can tell.
pub(super) fn coercion(read: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<&'static str>, &'static str> {
    if read(env::LC_ALL).is_some() || read(env::PYTHONCOERCECLOCALE).is_some_and(|value| value == "0") {
        return Ok(None);
    }
    let locale = read(env::LC_CTYPE).or_else(|| read(env::LANG)).unwrap_or_else(|| "C".into());
    match locale.to_str() {
        Some("C" | "POSIX") => Ok(Some(UTF8)),
        Some(name) if BUILT_IN.contains(&name) => Ok(None),
        _ if is_installed()? => Ok(None),
        _ => Ok(Some(UTF8)),
    }
}

/// Whether the C library knows the locale of the environment; the program `locale` complains otherwise.
fn is_installed() -> Result<bool, &'static str> {
    let said = process::output(&Program::new("locale").arg("charmap"), None);
    match said {
        Ok(said) if said.status.success() => Ok(said.stderr.is_empty()),
        Ok(_) | Err(_) => Err("it is not known whether the locale is installed"),
    }
}
