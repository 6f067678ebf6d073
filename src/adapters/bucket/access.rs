//! How a store or a remote in the cloud is reached.
//!
//! A store has no settings of its own: the environment says it, as the crate `object_store` reads it, else the keys of a
//! profile of Amazon's tools, or what Azure's call account and key, else the role of the machine, if it has one.
//!
//! Of a remote, DVC's settings, the environment and the files of Amazon's tools say it as DVC and its plugins would read them:
//!
//! | | the first that is there |
//! |---|---|
//! | S3 | keys of the remote; those of its profile; the environment (keys, a web identity); keys of the default profile; the role of a container or machine |
//! | Google's | the file of the remote; the one that the environment names; the role of a machine |
//! | Azure | the connection string, or the account with its key: of the remote, else of the environment |
//!
//! Where anything else plays a part (single sign-on, assumed roles, a profile with more in it than keys and a region), DVC is
//! to do it.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dvc::config::remote::{AzureAccount, PlainRemote, RemoteKind, S3Account, S3Keys};
use crate::env;

/// How long the service of a machine's role may take to answer; it is on the machine.
const ROLE_LIMIT: Duration = Duration::from_secs(1);
const AMAZONS_ROLES: &str = "169.254.169.254:80";
const GOOGLES_ROLES: &str = "metadata.google.internal:80";
const AZURES_ROLES: &str = AMAZONS_ROLES;
const NO_CREDENTIALS: &str = "no credentials are where this program looks for them";

/// What a client is told beside an address.
#[derive(Default)]
pub(super) struct Access {
    /// Settings by the names that the client's crate has for them.
    pub options: Vec<(&'static str, String)>,
    /// Whether the environment says the rest.
    pub is_in_environment: bool,
}

impl Access {
    /// How a store is reached that has no settings of its own; `Err` says what is missing.
    pub(super) fn of_store(scheme: &str) -> Result<Access, String> {
        let access = Access { options: vec![], is_in_environment: true };
        match scheme {
            "s3" | "s3a" => s3_store(access),
            "gs" if has_google() || answers(GOOGLES_ROLES) => Ok(access),
            "gs" => Err(NO_CREDENTIALS.to_owned()),
            "az" | "azure" | "abfs" | "abfss" => azure_store(access),
            _ => Ok(access),
        }
    }

    /// How a remote is reached; `Err` says why only DVC knows that.
    pub(super) fn of(remote: &PlainRemote) -> Result<Access, String> {
        match &remote.kind {
            RemoteKind::Folder { .. } => Ok(Access::default()),
            RemoteKind::S3(account) => s3(account),
            RemoteKind::Gs { credentials } => gs(credentials.as_deref()),
            RemoteKind::Azure(account) => azure(account),
        }
    }

    fn with(mut self, name: &'static str, value: Option<String>) -> Access {
        self.options.extend(value.map(|value| (name, value)));
        self
    }

    fn with_keys(self, S3Keys { id, secret, token }: S3Keys) -> Access {
        let access = self.with("aws_access_key_id", Some(id)).with("aws_secret_access_key", Some(secret));
        access.with("aws_session_token", token)
    }
}

fn only_dvc(variable: &str) -> String {
    format!("the environment sets `{variable}`, which only DVC knows")
}

/// Fails where the environment sets what this program does not know.
fn refuse(variables: &[&str]) -> Result<(), String> {
    variables.iter().find(|name| env::is_set(name)).map_or(Ok(()), |name| Err(only_dvc(name)))
}

fn s3(account: &S3Account) -> Result<Access, String> {
    refuse(&env::AWS_UNKNOWN)?;
    let profile = Profile::read(account)?;
    let endpoint = account.endpoint.clone().or_else(s3_server);
    let region = [env::AWS_REGION, env::AWS_DEFAULT_REGION].into_iter().find_map(env::read_text);
    let region = account.region.clone().or(region).or_else(|| profile.region.clone());
    if region.is_none() && endpoint.is_none() {
        return Err("no `region` is set, which DVC looks up".to_owned());
    }
    let has_role = || has_container_role() || answers(AMAZONS_ROLES);
    let keys = match (&account.keys, profile.is_named) {
        (Some(keys), _) => Some(keys.clone()),
        (None, true) if account.profile.is_some() => Some(profile.keys.ok_or("its profile has no keys")?),
        (None, _) if has_keys() => None,
        (None, true) => Some(profile.keys.ok_or("the profile that the environment names has no keys")?),
        (None, false) if profile.keys.is_some() => profile.keys,
        (None, false) if has_role() => None,
        (None, false) => return Err(NO_CREDENTIALS.to_owned()),
    };
    let is_open = is_open(endpoint.as_deref()).then(|| "true".to_owned());
    let access = Access { options: vec![], is_in_environment: keys.is_none() };
    let access = access.with("aws_endpoint_url", endpoint.clone()).with("aws_endpoint_url_s3", endpoint);
    let access = access.with("aws_region", region).with("aws_allow_http", is_open);
    Ok(keys.into_iter().fold(access, Access::with_keys))
}

/// A store is reached with what the environment says, else with the keys of a profile, else by the machine's role.
fn s3_store(access: Access) -> Result<Access, String> {
    if has_keys() || has_container_role() || env::is_set(env::AWS_SKIP_SIGNATURE) {
        return Ok(access);
    }
    let profile = Profile::read(&S3Account::default());
    if let Ok(Profile { keys: Some(keys), region, .. }) = profile {
        let is_known = [env::AWS_REGION, env::AWS_DEFAULT_REGION].into_iter().any(env::is_set);
        return Ok(access.with("aws_region", region.filter(|_| !is_known)).with_keys(keys));
    }
    let is_named = [env::AWS_PROFILE, env::AWS_DEFAULT_PROFILE].into_iter().any(env::is_set);
    match profile {
        Err(why) if is_named => Err(why),
        Ok(_) if is_named => Err("the profile that the environment names has no keys".to_owned()),
        _ if answers(AMAZONS_ROLES) => Ok(access),
        Err(why) => Err(why),
        Ok(_) => Err(NO_CREDENTIALS.to_owned()),
    }
}

/// Whether the environment has keys for S3, or a token that keys are given for.
fn has_keys() -> bool {
    env::is_set(env::AWS_ACCESS_KEY_ID) && env::is_set(env::AWS_SECRET_ACCESS_KEY)
        || env::is_set(env::AWS_WEB_IDENTITY_TOKEN_FILE) && env::is_set(env::AWS_ROLE_ARN)
}

fn has_container_role() -> bool {
    env::AWS_CONTAINER.iter().any(|name| env::is_set(name))
}

/// Whether the environment has credentials of Google's, or its tools have logged in.
fn has_google() -> bool {
    env::GOOGLE_CREDENTIALS.iter().any(|name| env::is_set(name)) || login_of_google().exists()
}

/// What Google's tools leave of a login.
fn login_of_google() -> PathBuf {
    let home = env::read_text(env::HOME).unwrap_or_default();
    Path::new(&home).join(".config/gcloud/application_default_credentials.json")
}

/// A store is reached as the environment says it, be it by the names of Azure's own tools, else by the machine's role.
fn azure_store(access: Access) -> Result<Access, String> {
    if env::AZURE_CREDENTIALS.iter().any(|name| env::is_set(name)) {
        return Ok(access);
    }
    let is_in_environment = true;
    if let Some(text) = env::read_text(env::AZURE_STORAGE_CONNECTION_STRING) {
        return Ok(Access { is_in_environment, ..connected(&text)? });
    }
    let access = access.with("azure_storage_account_name", env::read_text(env::AZURE_STORAGE_ACCOUNT));
    match env::read_text(env::AZURE_STORAGE_KEY) {
        None if !answers(AZURES_ROLES) => Err(NO_CREDENTIALS.to_owned()),
        key => Ok(access.with("azure_storage_account_key", key)),
    }
}

/// The server that the environment names for S3.
pub(super) fn s3_server() -> Option<String> {
    [env::AWS_ENDPOINT_URL_S3, env::AWS_ENDPOINT_URL].into_iter().find_map(env::read_text)
}

/// Whether a server is spoken to without TLS: who names such a one means it.
pub(super) fn is_open(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|url| url.starts_with("http://"))
}

/// What the files of Amazon's tools say of the profile in force.
#[derive(Default)]
struct Profile {
    /// Whether the remote or the environment names it.
    is_named: bool,
    region: Option<String>,
    keys: Option<S3Keys>,
}

impl Profile {
    fn read(account: &S3Account) -> Result<Profile, String> {
        let named = [env::AWS_PROFILE, env::AWS_DEFAULT_PROFILE].into_iter().find_map(env::read_text);
        let named = account.profile.clone().or(named);
        let name = named.as_deref().unwrap_or("default");
        let text = |variable, own: &Option<String>, usual| {
            let home = || env::read_text(env::HOME).map(|home| format!("{home}/.aws/{usual}"));
            let path = env::read_text(variable).or_else(|| own.clone()).or_else(home);
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let credentials = text(env::AWS_SHARED_CREDENTIALS_FILE, &account.credentials_file, "credentials");
        let config = text(env::AWS_CONFIG_FILE, &account.config_file, "config");
        let mut found = section(&config, |title| {
            title == name && name == "default" || title.strip_prefix("profile ").map(str::trim) == Some(name)
        });
        found.extend(section(&credentials, |title| title == name));
        let profile = Profile::of(found)?;
        Ok(Profile { is_named: named.is_some(), ..profile })
    }

    fn of(mut settings: BTreeMap<&str, &str>) -> Result<Profile, String> {
        let mut take = |key: &str| settings.remove(key).map(str::to_owned);
        let (id, secret) = (take("aws_access_key_id"), take("aws_secret_access_key"));
        let (token, region) = (take("aws_session_token"), take("region"));
        drop(take("output"));
        if let Some(key) = settings.keys().find(|key| !key.starts_with("cli_")) {
            return Err(format!("its profile has more than keys and a region: `{key}`"));
        }
        let keys = id.zip(secret).map(|(id, secret)| S3Keys { id, secret, token });
        Ok(Profile { is_named: false, region, keys })
    }
}

/// The settings of the sections with a title, the last of each name.
fn section(text: &str, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<&str, &str> {
    let mut is_inside = false;
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        if let Some(title) = line.trim().strip_prefix('[').and_then(|title| title.strip_suffix(']')) {
            is_inside = is_wanted(title.trim());
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            found.insert(key.trim(), value.trim());
        }
    }
    found
}

fn gs(credentials: Option<&str>) -> Result<Access, String> {
    let named = credentials.map(str::to_owned).or_else(|| env::read_text(env::GOOGLE_APPLICATION_CREDENTIALS));
    let Some(file) = named else {
        if login_of_google().exists() || !answers(GOOGLES_ROLES) {
            return Err(NO_CREDENTIALS.to_owned());
        }
        return Ok(Access::default());
    };
    let text = std::fs::read(&file).map_err(|error| format!("its credentials cannot be read: {error}"))?;
    let document: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    match document["type"].as_str() {
        Some("service_account") => Ok(Access::default().with("google_service_account", Some(file))),
        _ => Err("its credentials are not those of a service account".to_owned()),
    }
}

fn azure(account: &AzureAccount) -> Result<Access, String> {
    let usual = env::read_text(env::HOME).map(|home| format!("{home}/.azure"));
    let folder = env::read_text(env::AZURE_CONFIG_DIR).or(usual).unwrap_or_default();
    let file = std::fs::read_to_string(Path::new(&folder).join("config")).unwrap_or_default();
    if file.contains("[storage]") {
        return Err("Azure's own config has a section `storage`".to_owned());
    }
    refuse(&env::AZURE_UNKNOWN)?;
    let known = |own: &Option<String>, variable| own.clone().or_else(|| env::read_text(variable));
    if let Some(text) = known(&account.connection_string, env::AZURE_STORAGE_CONNECTION_STRING) {
        return connected(&text);
    }
    let name = known(&account.name, env::AZURE_STORAGE_ACCOUNT);
    let (Some(name), Some(key)) = (name, known(&account.key, env::AZURE_STORAGE_KEY)) else {
        return Err("neither a connection string nor an account with its key is set".to_owned());
    };
    Ok(Access::default().with("azure_storage_account_name", Some(name)).with("azure_storage_account_key", Some(key)))
}

/// Reads `AccountName=…;AccountKey=…;BlobEndpoint=…`.
fn connected(text: &str) -> Result<Access, String> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let mut parts: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
    // Of other services of the account.
    parts.retain(|key, _| !["QueueEndpoint", "TableEndpoint", "FileEndpoint"].contains(key));
    let mut take = |key: &str| parts.remove(key).map(str::to_owned);
    let (name, key) = (take("AccountName"), take("AccountKey"));
    let protocol = take("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
    let (own, suffix) = (take("BlobEndpoint"), take("EndpointSuffix"));
    let (Some(name), Some(key), None) = (name, key, parts.keys().next()) else {
        return Err("its connection string is not one of an account with its key".to_owned());
    };
    let endpoint = own.or_else(|| Some(format!("{protocol}://{name}.blob.{}", suffix?)));
    let is_open = is_open(endpoint.as_deref()).then(|| "true".to_owned());
    let access = Access::default().with("azure_storage_account_name", Some(name));
    let access = access.with("azure_storage_account_key", Some(key)).with("azure_storage_endpoint", endpoint);
    Ok(access.with("azure_allow_http", is_open))
}

/// Whether something listens at an address.
fn answers(address: &str) -> bool {
    let found = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.is_some_and(|address| TcpStream::connect_timeout(&address, ROLE_LIMIT).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_taken_where_it_has_nothing_but_keys_and_a_region() {
        let text = "[default]\nregion = eu\n# a comment = 1\n[profile x]\naws_access_key_id = i\naws_secret_access_key=s\n\
                    cli_pager =\n[profile y]\nrole_arn = r\ns3 =\n  addressing_style = path\n";
        let of = |title: &str| Profile::of(section(text, |found| found == title));
        let profile = of("default").unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(profile.region.as_deref(), Some("eu"));
        assert!(profile.keys.is_none());
        let keys = of("profile x").unwrap_or_else(|why| panic!("{why}")).keys.expect("keys");
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("i", "s"));
        let why = of("profile y").err().expect("only DVC");
        assert_eq!(why, "its profile has more than keys and a region: `addressing_style`");
    }

    #[test]
    fn a_connection_string_names_an_account_with_its_key() {
        let all = |text| connected(text).map(|access| access.options);
        let text = "DefaultEndpointsProtocol=https;AccountName=n;AccountKey=a+b==;EndpointSuffix=core.windows.net";
        let expected = [
            ("azure_storage_account_name", "n".to_owned()),
            ("azure_storage_account_key", "a+b==".to_owned()),
            ("azure_storage_endpoint", "https://n.blob.core.windows.net".to_owned()),
        ];
        assert_eq!(all(text).as_deref(), Ok(&expected[..]));
        let local = all("AccountName=n;AccountKey=k;BlobEndpoint=http://127.0.0.1:1/n;").expect("understood");
        assert!(local.contains(&("azure_allow_http", "true".to_owned())), "{local:?}");
        assert!(all("BlobEndpoint=https://x;SharedAccessSignature=y").is_err());
    }
}
