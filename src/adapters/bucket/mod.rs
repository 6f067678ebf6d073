//! An object store, or a folder that stands for one, through the `object_store` crate.
//!
//! Calls wait for their end and may come from any thread but one that drives an async runtime. The crate tries again, with
//! backoff, what a server refuses for a while (5xx, 429) or what a connection breaks off; what is refused for good comes
//! back at once. Credentials come from the environment, a profile of Amazon's tools, or from the machine's role, and are never in an address.

#[cfg(feature = "store")]
mod access;
#[cfg_attr(feature = "store", path = "real.rs")]
#[cfg_attr(not(feature = "store"), path = "none.rs")]
mod client;

pub(crate) use client::Bucket;

use std::time::Duration;

use crate::adapters::fs::FsError;
use crate::diagnostic::Diagnostic;

const CREDENTIALS: &str = "give credentials by the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, \
                           AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, and so on) or the machine's role, \
                           with the right to list, read and write there";

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Below the address that was opened.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// How long ago it was written.
    pub age: Duration,
}

#[derive(Debug, thiserror::Error)]
#[cfg_attr(not(feature = "store"), expect(dead_code, reason = "most is said by programs with object stores"))]
pub(crate) enum BucketError {
    #[error("`{url}` is not the address of an object store: {why}")]
    Address { url: String, why: String },
    #[error("there is no way into `{url}`")]
    Access { url: String, why: String },
    #[error("there is no bucket or container at `{url}`")]
    NoBucket { url: String, why: String },
    #[error("the object store refuses to {action} `{url}`")]
    Refused { action: &'static str, url: String, why: String },
    #[error("cannot {action} `{url}`")]
    Failed { action: &'static str, url: String, why: String },
    #[error("`{url}` has {size} bytes; the limit is {limit}")]
    TooLarge { url: String, size: u64, limit: u64 },
    #[error(transparent)]
    Fs(#[from] FsError),
    #[cfg_attr(feature = "store", expect(dead_code, reason = "said by programs that were built without"))]
    #[error("this program was built without object stores")]
    NotBuilt,
}

impl From<BucketError> for Diagnostic {
    fn from(error: BucketError) -> Self {
        let message = error.to_string();
        match error {
            BucketError::Address { .. } => Diagnostic::usage(message)
                .hint("write `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`, `az://CONTAINER/FOLDER` or `file:///FOLDER`"),
            BucketError::NoBucket { why, .. } => {
                Diagnostic::project(message).cause(why).hint("make it, or correct `--store`")
            }
            BucketError::Refused { why, .. } if why.contains("RequestTimeTooSkewed") => {
                Diagnostic::project(message).cause(why).hint("set the clock of this machine: the server's is another one")
            }
            // What Amazon's own tools know more ways to, they hand on.
            BucketError::Access { why, .. } if why.contains("profile") => Diagnostic::project(message).cause(why).hint(
                "put the profile's keys into the environment: `eval \"$(aws configure export-credentials --format env)\"`",
            ),
            BucketError::Access { why, .. } | BucketError::Refused { why, .. } => {
                Diagnostic::project(message).cause(why).hint(CREDENTIALS)
            }
            BucketError::Failed { why, .. } => Diagnostic::tool(message).cause(why),
            BucketError::TooLarge { .. } => Diagnostic::project(message),
            BucketError::Fs(error) => error.into(),
            BucketError::NotBuilt => {
                Diagnostic::usage(message).hint("build it with the feature `store`, which is on by default")
            }
        }
    }
}
