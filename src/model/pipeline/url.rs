//! Which paths are URLs, as `urlparse` of Python 3.11 and `dvc/config_schema.py` of DVC 3.67 see it.

use thiserror::Error;

/// The kinds of URL that DVC knows; all but HTTP need a plugin of DVC.
const SCHEMES: [&str; 12] =
    ["http", "https", "s3", "gs", "azure", "oss", "ssh", "hdfs", "webhdfs", "webdav", "webdavs", "gdrive"];

/// What a path of a dep or out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Path,
    /// Somewhere else, behind a protocol.
    Url {
        scheme: &'static str,
    },
    /// `remote://NAME/PATH`, relative to a remote of the config.
    Remote,
}

/// A URL that DVC cannot use.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum UrlError {
    #[error("DVC knows no URL of the type `{scheme}://`")]
    UnknownScheme { scheme: String },
    #[error("there is no remote `{name}`")]
    NoRemote { name: String },
}

/// Decides what a path is; `is_remote` says whether the config has a remote of that name.
pub(super) fn locate(text: &str, is_remote: impl Fn(&str) -> bool) -> Result<Location, UrlError> {
    let Some((written, rest)) = split(text) else { return Ok(Location::Path) };
    let scheme = written.to_ascii_lowercase();
    let known = SCHEMES.iter().copied().find(|known| *known == scheme);
    let host = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if scheme == "remote" && !host.is_empty() {
        let name = host.to_lowercase();
        return if is_remote(&name) { Ok(Location::Remote) } else { Err(UrlError::NoRemote { name }) };
    }
    match known {
        Some(scheme) => Ok(Location::Url { scheme }),
        None if host.is_empty() => Ok(Location::Path),
        None => Err(UrlError::UnknownScheme { scheme }),
    }
}

/// Returns the scheme as written, where there is one.
pub(super) fn scheme(text: &str) -> Option<&str> {
    split(text).map(|(scheme, _)| scheme)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut bytes = scheme.bytes();
    let is_scheme = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some((scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<Location, &str>) {
        let found = locate(text, |remote| remote == "mine").map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn urls_are_told_from_paths() {
        check("a/b", Ok(Location::Path));
        check("a:b", Ok(Location::Path));
        check("c:/x", Ok(Location::Path));
        check("https://example.com/a", Ok(Location::Url { scheme: "https" }));
        check("S3://bucket/a", Ok(Location::Url { scheme: "s3" }));
        check("remote://Mine/x", Ok(Location::Remote));
        check("remote://other/x", Err("there is no remote `other`"));
        check("foo://b/a", Err("DVC knows no URL of the type `foo://`"));
        check("1a://b", Ok(Location::Path));
    }
}
