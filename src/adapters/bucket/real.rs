//! The stores of the `object_store` crate behind one blocking interface.

use std::fmt;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
    RetryConfig, WriteMultipart,
};
use tokio::runtime::Runtime;

use super::access::{Access, is_open, s3_server};
use super::{BucketError, Listed};
use crate::adapters::clock;
use crate::adapters::fs::{self, At as _};
use crate::dvc::config::remote::PlainRemote;
use crate::dvc::config::without_password;
use crate::model::run::Traffic;

/// How long a connection may take to come about, and how long nothing may come over one.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// The longest wait between two tries of a request.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Up to here an object is sent in one request, beyond it in parts of this size.
const PART: usize = 16 << 20;
/// The most parts that a store makes an object of.
const MAX_PARTS: u64 = 10_000;
/// Parts that are on their way at a time.
const PARTS_AT_ONCE: usize = 4;
/// Objects that a server lists in one answer.
const PAGE: u64 = 1000;

/// A place in an object store.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// What all keys begin with.
    base: Key,
    url: String,
    /// Taken when this goes: a runtime may not be waited for everywhere.
    runtime: Option<Runtime>,
    counts: Arc<Counts>,
    /// Whether it is a folder, whose requests are counted here.
    is_folder: bool,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// How many nanoseconds the server's clock is ahead of this machine's, as it said last.
    ahead: AtomicI64,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.url)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    /// Opens the store of an address; a request that fails for a while is tried again for as long as `patience`.
    pub(crate) fn open(url: &str, patience: Duration) -> Result<Bucket, BucketError> {
        Bucket::of_environment(url, patience, Arc::default())
    }

    /// Opens a remote of DVC's; `Err` says why only DVC can.
    pub(crate) fn of_remote(remote: &PlainRemote, patience: Duration) -> Result<Bucket, String> {
        let opened = Bucket::counting(&remote.url, &Access::of(remote)?, patience, Arc::default());
        opened.map_err(|error| error.to_string())
    }

    /// Opens it once more, to wait less or more; what either takes is counted together.
    pub(crate) fn again(&self, patience: Duration) -> Result<Bucket, BucketError> {
        Bucket::of_environment(&self.url, patience, Arc::clone(&self.counts))
    }

    fn of_environment(url: &str, patience: Duration, counts: Arc<Counts>) -> Result<Bucket, BucketError> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let access = Access::of_store(scheme).map_err(|why| BucketError::Access { url: shown(url), why })?;
        Bucket::counting(url, &access, patience, counts)
    }

    fn counting(url: &str, access: &Access, patience: Duration, counts: Arc<Counts>) -> Result<Bucket, BucketError> {
        let bad = |why: &str| BucketError::Address { url: shown(url), why: why.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no `://`"))?;
        if rest.contains(['?', '#']) || rest.split('/').next().is_some_and(|host| host.contains(':')) {
            return Err(bad("credentials do not belong there, nor do options"));
        }
        let broken = |error: io::Error| BucketError::Failed {
            action: "start what talks to",
            url: url.to_owned(),
            why: error.to_string(),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(broken)?;
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: MAX_BACKOFF, ..BackoffConfig::default() },
            max_retries: usize::MAX,
            retry_timeout: patience,
        };
        let connector = || Connector(Arc::clone(&counts));
        let failed = |error: Error| BucketError::Access { url: shown(url), why: with_sources(&error) };
        let (host, inside) = rest.split_once('/').unwrap_or((rest, ""));
        let place = format!("{scheme}://{host}");
        let is_folder = scheme == "file";
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" | "s3a" => {
                let mut builder = if access.is_in_environment { s3_of_environment() } else { AmazonS3Builder::new() };
                for (name, value) in &access.options {
                    builder = builder.with_config(name.parse().map_err(failed)?, value);
                }
                let builder = builder.with_url(place).with_retry(retry);
                Arc::new(builder.with_http_connector(connector()).build().map_err(failed)?)
            }
            "gs" => {
                let (named, new) = (GoogleCloudStorageBuilder::from_env, GoogleCloudStorageBuilder::new);
                let mut builder = if access.is_in_environment { named() } else { new() };
                for (name, value) in &access.options {
                    builder = builder.with_config(name.parse().map_err(failed)?, value);
                }
                let builder = builder.with_url(place).with_retry(retry);
                Arc::new(builder.with_http_connector(connector()).build().map_err(failed)?)
            }
            "az" | "azure" | "abfs" | "abfss" => {
                let (named, new) = (MicrosoftAzureBuilder::from_env, MicrosoftAzureBuilder::new);
                let mut builder = if access.is_in_environment { named() } else { new() };
                for (name, value) in &access.options {
                    builder = builder.with_config(name.parse().map_err(failed)?, value);
                }
                let builder = builder.with_url(place).with_retry(retry);
                Arc::new(builder.with_http_connector(connector()).build().map_err(failed)?)
            }
            "file" if rest.starts_with('/') && rest.len() > 1 => {
                let folder = Path::new(rest);
                fs::create_dir(folder)?;
                let store = LocalFileSystem::new_with_prefix(folder).map_err(failed)?;
                // A server knows no folders: those go with the last object in them.
                Arc::new(store.with_automatic_cleanup(true))
            }
            "file" => return Err(bad("a folder's address is `file://` and its absolute path")),
            _ => return Err(bad(&format!("`{scheme}://` is none that is known"))),
        };
        let base = if is_folder { "" } else { inside };
        let base = Key::parse(base.trim_matches('/')).map_err(|error| bad(&error.to_string()))?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Bucket { store, base, url, runtime: Some(runtime), counts, is_folder })
    }

    /// The address that was opened.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it took so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { requests, sent, received, .. } = &*self.counts;
        Traffic { requests: read(requests), sent: read(sent), received: read(received) }
    }

    /// Reads an object; `None` where there is none.
    pub(crate) fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, BucketError> {
        let Some(found) = self.begin(key, limit)? else { return Ok(None) };
        let mut bytes = vec![];
        self.take(key, found, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    /// Reads a part of an object that is there.
    pub(crate) fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, BucketError> {
        self.count_call(1);
        let place = self.key(key)?;
        let bytes = self.wait(self.store.get_range(&place, range)).map_err(|error| self.failed("read", key, &error))?;
        self.counts.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.to_vec())
    }

    /// Brings an object into a file, which appears whole or not at all; says whether there is such an object.
    pub(crate) fn get_to(&self, key: &str, to: &Path, limit: u64) -> Result<bool, BucketError> {
        let Some(found) = self.begin(key, limit)? else { return Ok(false) };
        let mut taken = Ok(());
        let written = fs::write_by(to, |file| {
            taken = self.take(key, found, &mut |part| file.write_all(part));
            // What went wrong is said below.
            if taken.is_ok() { Ok(()) } else { Err(io::Error::other("it did not come whole")) }
        });
        taken?;
        written?;
        Ok(true)
    }

    /// Hands an object over bit by bit; says whether there is such an object.
    pub(crate) fn get_by(&self, key: &str, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<bool, BucketError> {
        let Some(found) = self.begin(key, u64::MAX)? else { return Ok(false) };
        self.take(key, found, take).map(|()| true)
    }

    /// Asks for an object that may be there, and is not larger than the limit.
    fn begin(&self, key: &str, limit: u64) -> Result<Option<GetResult>, BucketError> {
        self.count_call(1);
        let place = self.key(key)?;
        match self.wait(self.store.get(&place)) {
            Ok(found) if found.meta.size > limit => {
                Err(BucketError::TooLarge { url: self.shown(key), size: found.meta.size, limit })
            }
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", key, &error)),
        }
    }

    /// Takes an object bit by bit.
    fn take(
        &self,
        key: &str,
        found: GetResult,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), BucketError> {
        let (size, mut got) = (found.meta.size, 0);
        let mut stream = found.into_stream();
        while let Some(part) = self.wait(stream.next()) {
            let part = part.map_err(|error| self.failed("read", key, &error))?;
            got += part.len() as u64;
            take(&part).map_err(|error| self.broken("keep what came of", key, &error))?;
        }
        self.counts.received.fetch_add(got, Ordering::Relaxed);
        if got == size {
            return Ok(());
        }
        Err(self.broken("read", key, &io::Error::other(format!("{got} of {size} bytes came"))))
    }

    /// Writes an object, whole at once, in place of one that may be there.
    pub(crate) fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), BucketError> {
        self.count_call(1);
        self.counts.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let place = self.key(key)?;
        let put = self.wait(self.store.put(&place, PutPayload::from(bytes)));
        put.map(drop).map_err(|error| self.failed("write", key, &error))
    }

    /// Writes an object unless there is one; says whether it did. A store that cannot tell writes it.
    pub(crate) fn create(&self, key: &str, bytes: Vec<u8>) -> Result<bool, BucketError> {
        self.count_call(1);
        let place = self.key(key)?;
        let payload = PutPayload::from(bytes.clone());
        match self.wait(self.store.put_opts(&place, payload, PutMode::Create.into())) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => self.put(key, bytes).map(|()| true),
            Err(error) => Err(self.failed("write", key, &error)),
        }
    }

    /// Writes an object that is made of files, one after the other.
    pub(crate) fn put_files(&self, key: &str, files: &[PathBuf]) -> Result<(), BucketError> {
        let mut opened = vec![];
        let mut size = 0;
        for path in files {
            let file = std::fs::File::open(path).at("read", path)?;
            size += file.metadata().at("read", path)?.len();
            opened.push((path, file));
        }
        if size <= PART as u64 {
            let mut bytes = vec![];
            for (path, mut file) in opened {
                file.read_to_end(&mut bytes).at("read", path)?;
            }
            return self.put(key, bytes);
        }
        let place = self.key(key)?;
        let part = PART.max(usize::try_from(size.div_ceil(MAX_PARTS)).unwrap_or(usize::MAX));
        self.count_call(2 + size.div_ceil(part as u64));
        self.counts.sent.fetch_add(size, Ordering::Relaxed);
        let failed = |error: &Error| self.failed("write", key, error);
        let upload = self.wait(self.store.put_multipart(&place)).map_err(|error| failed(&error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        for (path, mut file) in opened {
            let mut block = vec![0; 1 << 20];
            loop {
                let read = file.read(&mut block).at("read", path)?;
                if read == 0 {
                    break;
                }
                self.wait(async {
                    upload.wait_for_capacity(PARTS_AT_ONCE).await?;
                    upload.write(&block[..read]);
                    Ok(())
                })
                .map_err(|error| failed(&error))?;
            }
        }
        self.wait(upload.finish()).map(drop).map_err(|error| failed(&error))
    }

    /// Looks whether there is an object.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Listed>, BucketError> {
        self.count_call(1);
        let place = self.key(key)?;
        match self.wait(self.store.head(&place)) {
            Ok(found) => Ok(Some(Listed { key: key.to_owned(), size: found.size, age: self.age(&found) })),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", key, &error)),
        }
    }

    /// Lists the objects below a key, page by page, sorted.
    pub(crate) fn list(&self, below: &str) -> Result<Vec<Listed>, BucketError> {
        let place = self.key(below)?;
        let mut stream = self.store.list(Some(&place));
        let mut listed = vec![];
        while let Some(found) = self.wait(stream.next()) {
            let found = found.map_err(|error| self.failed("list", below, &error))?;
            let mut inside = found.location.prefix_match(&self.base).into_iter().flatten();
            let key = inside.by_ref().fold(String::new(), |key, part| {
                if key.is_empty() { part.as_ref().to_owned() } else { format!("{key}/{}", part.as_ref()) }
            });
            listed.push(Listed { key, size: found.size, age: self.age(&found) });
        }
        self.count_call((listed.len() as u64).div_ceil(PAGE).max(1));
        listed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// Deletes the objects below a key; returns how many there were.
    pub(crate) fn delete_below(&self, below: &str) -> Result<usize, BucketError> {
        let listed = self.list(below)?;
        let keys: Vec<_> = listed.iter().map(|found| self.key(&found.key)).collect::<Result<_, _>>()?;
        self.count_call((keys.len() as u64).div_ceil(PAGE));
        let keys = futures::stream::iter(keys.into_iter().map(Ok)).boxed();
        let mut deleted = self.store.delete_stream(keys);
        while let Some(one) = self.wait(deleted.next()) {
            match one {
                // Somebody else deletes as well.
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("delete", below, &error)),
            }
        }
        Ok(listed.len())
    }

    /// How long ago an object was written, by the clock of the server, which has also said when that was.
    fn age(&self, found: &ObjectMeta) -> Duration {
        let written = found.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX);
        let now = clock::nanoseconds().saturating_add(self.counts.ahead.load(Ordering::Relaxed));
        Duration::from_nanos(now.saturating_sub(written).max(0).unsigned_abs())
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is taken only when this goes").block_on(future)
    }

    /// Counts calls where no client does.
    fn count_call(&self, calls: u64) {
        if self.is_folder {
            self.counts.requests.fetch_add(calls, Ordering::Relaxed);
        }
    }

    fn key(&self, key: &str) -> Result<Key, BucketError> {
        let inside = Key::parse(key);
        let inside = inside.map_err(|error| self.broken("name", key, &io::Error::other(error.to_string())))?;
        Ok(self.base.parts().chain(inside.parts()).collect())
    }

    fn shown(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    fn broken(&self, action: &'static str, key: &str, error: &io::Error) -> BucketError {
        BucketError::Failed { action, url: self.shown(key), why: error.to_string() }
    }

    fn failed(&self, action: &'static str, key: &str, error: &Error) -> BucketError {
        let (url, why) = (self.shown(key), without_signature(&with_sources(error)));
        match error {
            Error::NotFound { .. } => BucketError::NoBucket { url: self.url.clone(), why },
            _ if why.contains("NoSuchBucket") || why.contains("ContainerNotFound") => {
                BucketError::NoBucket { url: self.url.clone(), why }
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => BucketError::Refused { action, url, why },
            _ => BucketError::Failed { action, url, why },
        }
    }
}

/// S3 as the environment has it.
fn s3_of_environment() -> AmazonS3Builder {
    let endpoint = s3_server();
    let builder = AmazonS3Builder::from_env().with_allow_http(is_open(endpoint.as_deref()));
    endpoint.into_iter().fold(builder, AmazonS3Builder::with_endpoint)
}

/// An error with its sources, as far as they say something new.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text without what signs an address in it.
fn without_signature(text: &str) -> String {
    let mut left = text.to_owned();
    for name in ["sig=", "X-Amz-Signature=", "X-Amz-Credential=", "X-Amz-Security-Token=", "X-Goog-Signature="] {
        let mut from = 0;
        while let Some(at) = left[from..].find(name) {
            let begin = from + at + name.len();
            let end = left[begin..].find(|c: char| "&) \"'`".contains(c)).map_or(left.len(), |end| begin + end);
            left.replace_range(begin..end, "…");
            from = begin;
        }
    }
    left
}

/// An address without what may be a secret in it.
fn shown(url: &str) -> String {
    without_password(url.split(['?', '#']).next().unwrap_or_default())
}

/// Makes clients that count requests and wait for a slow server, but not for one that is silent.
#[derive(Debug)]
struct Connector(Arc<Counts>);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Where somebody else has chosen one already, it is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().connect_timeout(CONNECT_LIMIT).read_timeout(SILENCE_LIMIT).build();
        let client = client.map_err(|error| Error::Generic { store: "HTTP", source: Box::new(error) })?;
        Ok(HttpClient::new(Counted { client, counts: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct Counted {
    client: reqwest::Client,
    counts: Arc<Counts>,
}

impl HttpService for Counted {
    fn call<'life, 'future>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let (answer, counts) = (self.client.call(request), Arc::clone(&self.counts));
        Box::pin(async move {
            let answer = answer.await?;
            let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
            if let Some(now) = date.and_then(clock::of_http) {
                counts.ahead.store(now.saturating_sub(clock::nanoseconds()), Ordering::Relaxed);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Bucket) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let url = format!("file://{}", dir.path().display());
        let bucket = Bucket::open(&url, Duration::from_secs(1)).expect("opened");
        (dir, bucket)
    }

    #[test]
    fn what_is_put_is_there_whole() {
        let (dir, bucket) = folder();
        assert_eq!(bucket.get("a/b", 10).expect("asked"), None);
        bucket.put("a/b", b"text".to_vec()).expect("put");
        assert_eq!(bucket.get("a/b", 10).expect("asked").as_deref(), Some(&b"text"[..]));
        assert!(matches!(bucket.get("a/b", 3), Err(BucketError::TooLarge { size: 4, .. })));
        assert!(
            !bucket.create("a/b", b"other".to_vec()).expect("asked") && bucket.create("a/c", vec![]).expect("asked")
        );
        assert_eq!(bucket.get_range("a/b", 1..3).expect("read"), b"ex");
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, b"1").expect("written");
        fs::write(&other, b"23").expect("written");
        bucket.put_files("big", &[one, other]).expect("put");
        assert!(bucket.get_to("big", &dir.path().join("to/here"), 3).expect("read"));
        assert_eq!(std::fs::read(dir.path().join("to/here")).expect("read"), b"123");
        let keys = |below| bucket.list(below).expect("listed").into_iter().map(|found| found.key).collect::<Vec<_>>();
        assert_eq!(keys("a"), ["a/b", "a/c"]);
        let found = bucket.find("a/b").expect("asked").expect("there");
        assert!(found.size == 4 && found.age < Duration::from_secs(60));
        assert_eq!(bucket.find("a/d").expect("asked"), None);
        assert_eq!(bucket.delete_below("a").expect("deleted"), 2);
        assert!(keys("a").is_empty());
        assert!(bucket.traffic().requests >= 9 && bucket.traffic().received == 4 + 2 + 3);
    }

    #[test]
    fn addresses_hold_no_credentials() {
        for url in ["s3://user:secret@bucket/x", "https://bucket", "bucket", "file://here", "az://c/x?sig=secret"] {
            let error = Bucket::open(url, Duration::from_secs(1)).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let text = without_signature("GET https://a/b?sp=r&sig=abc%2F&se=1 (sig=x)");
        assert_eq!(text, "GET https://a/b?sp=r&sig=…&se=1 (sig=…)");
    }
}
