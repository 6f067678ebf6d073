//! The project's default remote, as far as this program reaches it without DVC.
//!
//! | `url` | settings that are understood |
//! |---|---|
//! | a folder | `shared` |
//! | `s3://` | `endpointurl`, `region`, `profile`, `credentialpath`, `configpath`, `access_key_id`, `secret_access_key`, `session_token` |
//! | `gs://` | `credentialpath`, `projectname` |
//! | `azure://` | `account_name`, `account_key`, `connection_string` |
//! | all of them | `jobs`; `verify`, since all that arrives is checked |
//!
//! Any other setting leaves the remote to DVC, as do versions of objects (`version_aware`, `worktree`).

#![cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "what is said of accounts is for programs with object stores")
)]

use std::collections::BTreeMap;

use super::ini::Item;
use super::{DvcConfig, section_of};

/// A remote whose settings are all understood. It has no `Debug`: it holds secrets.
pub(crate) struct PlainRemote {
    /// As the config has it, paths absolute.
    pub url: String,
    /// How many objects go at a time.
    pub jobs: Option<usize>,
    pub kind: RemoteKind,
}

pub(crate) enum RemoteKind {
    Folder {
        path: String,
        /// A group shares it.
        is_shared: bool,
    },
    S3(S3Account),
    Gs {
        /// A file.
        credentials: Option<String>,
    },
    Azure(AzureAccount),
}

#[derive(Default)]
pub(crate) struct S3Account {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub profile: Option<String>,
    /// Files in the place of those in `~/.aws`.
    pub credentials_file: Option<String>,
    pub config_file: Option<String>,
    pub keys: Option<S3Keys>,
}

#[derive(Clone)]
pub(crate) struct S3Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

#[derive(Default)]
pub(crate) struct AzureAccount {
    pub name: Option<String>,
    pub key: Option<String>,
    pub connection_string: Option<String>,
}

impl DvcConfig {
    /// The default remote; `Err` says why it is left to DVC.
    pub(crate) fn plain_remote(&self) -> Result<PlainRemote, String> {
        let name = self.default_remote().ok_or("there is no default remote")?.to_lowercase();
        let remote = section_of(&self.merged, "remote").and_then(|remotes| section_of(remotes, &name));
        let remote = remote.ok_or_else(|| format!("there is no remote `{name}`"))?;
        let mut options = Options(BTreeMap::new());
        for (key, entry) in remote {
            let Item::Text(text) = &entry.item else { return Err(of_setting(key)) };
            options.0.insert(key, text);
        }
        let url = options.text("url").unwrap_or_default();
        let jobs = options.text("jobs").map(|jobs| jobs.trim().parse().map_err(|_| of_setting("jobs"))).transpose()?;
        // What does not matter here: whatever arrives is checked, and objects are asked for one by one.
        options.ignore(&["verify", "checksum_jobs", "no_traverse"]);
        ["version_aware", "worktree"].iter().try_for_each(|key| options.expect(key, "false"))?;
        let kind = match url.split_once("://") {
            // An empty part of a path is a part, for a store.
            Some((_, path)) if path.contains("//") => return Err(of_setting("url")),
            Some(("s3", _)) => RemoteKind::S3(options.s3()?),
            Some(("gs", _)) => {
                options.ignore(&["projectname"]);
                options.expect("allow_anonymous_login", "false")?;
                RemoteKind::Gs { credentials: options.text("credentialpath") }
            }
            Some(("azure", _)) => RemoteKind::Azure(AzureAccount {
                name: options.text("account_name"),
                key: options.text("account_key"),
                connection_string: options.text("connection_string"),
            }),
            None if url.starts_with('/') => {
                // They are about copies of a cache, which it is not.
                options.ignore(&["type", "protected", "slow_link_warning"]);
                RemoteKind::Folder { path: url.clone(), is_shared: options.text("shared").is_some() }
            }
            Some((scheme, _)) => return Err(format!("it is at `{scheme}://`")),
            None => return Err(of_setting("url")),
        };
        match options.0.keys().next() {
            Some(key) => Err(of_setting(key)),
            None => Ok(PlainRemote { url, jobs, kind }),
        }
    }
}

fn of_setting(key: &str) -> String {
    format!("it has a setting that only DVC knows: `{key}`")
}

/// Settings whose meaning was not looked up yet.
struct Options<'a>(BTreeMap<&'a str, &'a str>);

impl Options<'_> {
    fn text(&mut self, key: &str) -> Option<String> {
        self.0.remove(key).map(str::to_owned)
    }

    fn ignore(&mut self, keys: &[&str]) {
        self.0.retain(|key, _| !keys.contains(key));
    }

    /// Takes a setting that must not be anything else, if it is there.
    fn expect(&mut self, key: &str, value: &str) -> Result<(), String> {
        let is_met = self.0.remove(key).is_none_or(|text| text.trim().eq_ignore_ascii_case(value));
        if is_met { Ok(()) } else { Err(of_setting(key)) }
    }

    fn s3(&mut self) -> Result<S3Account, String> {
        self.ignore(&["listobjects", "cache_regions"]);
        self.expect("allow_anonymous_login", "false")?;
        ["use_ssl", "ssl_verify"].iter().try_for_each(|key| self.expect(key, "true"))?;
        let keys = match (self.text("access_key_id"), self.text("secret_access_key"), self.text("session_token")) {
            (Some(id), Some(secret), token) => Some(S3Keys { id, secret, token }),
            (None, None, None) => None,
            _ => return Err("one of `access_key_id` and `secret_access_key` is missing".to_owned()),
        };
        Ok(S3Account {
            endpoint: self.text("endpointurl"),
            region: self.text("region"),
            profile: self.text("profile"),
            credentials_file: self.text("credentialpath"),
            config_file: self.text("configpath"),
            keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;
    use super::*;

    fn remote(settings: &str) -> Result<PlainRemote, String> {
        let text = format!("[core]\nremote = Store\n['remote \"store\"']\n{settings}\n");
        let file = ConfigFile { path: "config".to_owned(), dir: "/p/.dvc".to_owned(), text };
        DvcConfig::from_files(&[file], "/p", &|_| None).unwrap_or_else(|error| panic!("{error}")).plain_remote()
    }

    #[track_caller]
    fn check(settings: &str, why: &str) {
        assert_eq!(remote(settings).err().as_deref(), Some(why), "{settings}");
    }

    #[test]
    fn what_is_not_understood_is_left_to_dvc() {
        check("url = ssh://host/x", "it is at `ssh://`");
        check("url = remote://other/x", "it is at `remote://`");
        for key in ["version_aware = true", "worktree = True"] {
            let name = key.split_once(' ').expect("a setting").0;
            check(&format!("url = s3://b/x\n{key}"), &format!("it has a setting that only DVC knows: `{name}`"));
        }
        for key in ["sse = AES256", "acl = private", "ssl_verify = ca.pem", "use_ssl = false", "new = 1"] {
            let name = key.split_once(' ').expect("a setting").0;
            check(&format!("url = s3://b/x\n{key}"), &format!("it has a setting that only DVC knows: `{name}`"));
        }
        check("url = gs://b/x\nendpointurl = http://h", "it has a setting that only DVC knows: `endpointurl`");
        check("url = azure://c/x\nsas_token = y", "it has a setting that only DVC knows: `sas_token`");
        check("url = s3://b/x\naccess_key_id = y", "one of `access_key_id` and `secret_access_key` is missing");
    }

    #[test]
    fn settings_are_taken_as_they_are() {
        let folder =
            remote("url = ../../store\nshared = group\njobs = 3\nverify = true").unwrap_or_else(|why| panic!("{why}"));
        assert!(matches!(&folder.kind, RemoteKind::Folder { path, is_shared: true } if path == "/store"));
        assert_eq!(folder.jobs, Some(3));
        let text =
            "url = s3://b/x\nendpointurl = http://h\nregion = r\nprofile = p\nversion_aware = false\nssl_verify = true";
        let Ok(PlainRemote { kind: RemoteKind::S3(account), .. }) = remote(text) else { panic!("S3") };
        assert_eq!(account.endpoint.as_deref(), Some("http://h"));
        assert_eq!((account.region.as_deref(), account.profile.as_deref()), (Some("r"), Some("p")));
        assert!(account.keys.is_none());
        let text = "url = s3://b\naccess_key_id = i\nsecret_access_key = s\nsession_token = t";
        let Ok(PlainRemote { kind: RemoteKind::S3(S3Account { keys: Some(keys), .. }), .. }) = remote(text) else {
            panic!("keys")
        };
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), keys.token.as_deref()), ("i", "s", Some("t")));
    }
}
