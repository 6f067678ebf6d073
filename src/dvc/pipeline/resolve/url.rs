//! Which paths are URLs, as `urlparse` of Python 3.11 and `dvc/config_schema.py` of DVC 3.67 see it.

use thiserror::Error;

/// The kinds of URL that DVC knows; all but HTTP need a plugin of DVC.
const SCHEMES: [&str; 12] =
    ["http", "https", "s3", "gs", "azure", "oss", "ssh", "hdfs", "webhdfs", "webdav", "webdavs", "gdrive"];

/// What a path of a dep or out is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Path,
    /// Somewhere else, behind a protocol.
    Url {
        scheme: &'static str,
    },
    /// A dataset of the project (deps only).
    Dataset,
    /// In a remote that is a folder: the path there.
    InRemote {
        path: String,
    },
}

/// A URL that DVC cannot use.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum UrlError {
    #[error("DVC knows no URL of the type `{scheme}://`")]
    UnknownScheme { scheme: String },
    #[error("there is no remote `{name}`")]
    NoRemote { name: String },
    #[error("`{text}` is not a URL")]
    Invalid { text: String },
}

/// Remotes may be relative to other remotes, not endlessly.
const MAX_REMOTES: usize = 16;

/// Decides what a path is; `remote` gives the URL of a remote of the config.
pub(super) fn locate<'u>(text: &str, remote: impl Fn(&str) -> Option<&'u str>) -> Result<Location, UrlError> {
    let mut text = text.to_owned();
    let mut is_in_remote = false;
    for _ in 0..MAX_REMOTES {
        let Some((written, rest)) = split(&text) else {
            return Ok(if is_in_remote { Location::InRemote { path: text } } else { Location::Path });
        };
        let scheme = written.to_ascii_lowercase();
        let host = rest.strip_prefix("//").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let host = host.unwrap_or_default();
        if host.contains('[') != host.contains(']') {
            return Err(UrlError::Invalid { text });
        }
        match scheme.as_str() {
            "ds" if !is_in_remote => return Ok(Location::Dataset),
            "remote" => {
                let name = host.to_lowercase();
                let base = remote(&name).ok_or(UrlError::NoRemote { name })?;
                let path = rest.get(2 + host.len()..).unwrap_or_default().trim_start_matches('/');
                text = format!("{base}/{path}");
                is_in_remote = true;
            }
            _ => {
                return match SCHEMES.iter().find(|known| **known == scheme) {
                    Some(scheme) => Ok(Location::Url { scheme }),
                    None if !host.is_empty() => Err(UrlError::UnknownScheme { scheme }),
                    None if is_in_remote => Ok(Location::InRemote { path: text }),
                    None => Ok(Location::Path),
                };
            }
        }
    }
    Err(UrlError::Invalid { text })
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.trim_start_matches(|c: char| c <= ' ').split_once(':')?;
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
        let found = locate(text, |remote| (remote == "mine").then_some("/mnt")).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn urls_are_told_from_paths() {
        check("a/b", Ok(Location::Path));
        check("a:b", Ok(Location::Path));
        check("c:/x", Ok(Location::Path));
        check("https://example.com/a", Ok(Location::Url { scheme: "https" }));
        check("S3://bucket/a", Ok(Location::Url { scheme: "s3" }));
        check("remote://Mine/x", Ok(Location::InRemote { path: "/mnt/x".to_owned() }));
        check("DS://dogs", Ok(Location::Dataset));
        check("http://[x", Err("`http://[x` is not a URL"));
        check("remote://other/x", Err("there is no remote `other`"));
        check("foo://b/a", Err("DVC knows no URL of the type `foo://`"));
        check(" s3://b", Ok(Location::Url { scheme: "s3" }));
        check("1a://b", Ok(Location::Path));
    }
}
