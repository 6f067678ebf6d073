//! What stands for object stores in a program that was built without them: nothing can be opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{BucketError, Listed};
use crate::dvc::config::remote::PlainRemote;
use crate::model::run::Traffic;

/// There is none.
#[derive(Debug)]
pub(crate) enum Bucket {}

impl Bucket {
    pub(crate) fn open(_url: &str, _patience: Duration) -> Result<Bucket, BucketError> {
        Err(BucketError::NotBuilt)
    }

    pub(crate) fn of_remote(_remote: &PlainRemote, _patience: Duration) -> Result<Bucket, String> {
        Err(BucketError::NotBuilt.to_string())
    }

    pub(crate) fn again(&self, _patience: Duration) -> Result<Bucket, BucketError> {
        match *self {}
    }

    pub(crate) fn url(&self) -> &str {
        match *self {}
    }

    pub(crate) fn traffic(&self) -> Traffic {
        match *self {}
    }

    pub(crate) fn get(&self, _key: &str, _limit: u64) -> Result<Option<Vec<u8>>, BucketError> {
        match *self {}
    }

    pub(crate) fn get_range(&self, _key: &str, _range: std::ops::Range<u64>) -> Result<Vec<u8>, BucketError> {
        match *self {}
    }

    pub(crate) fn get_to(&self, _key: &str, _to: &Path, _limit: u64) -> Result<bool, BucketError> {
        match *self {}
    }

    pub(crate) fn get_by(
        &self,
        _key: &str,
        _take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<bool, BucketError> {
        match *self {}
    }

    pub(crate) fn put(&self, _key: &str, _bytes: Vec<u8>) -> Result<(), BucketError> {
        match *self {}
    }

    pub(crate) fn create(&self, _key: &str, _bytes: Vec<u8>) -> Result<bool, BucketError> {
        match *self {}
    }

    pub(crate) fn put_files(&self, _key: &str, _files: &[PathBuf]) -> Result<(), BucketError> {
        match *self {}
    }

    pub(crate) fn find(&self, _key: &str) -> Result<Option<Listed>, BucketError> {
        match *self {}
    }

    pub(crate) fn list(&self, _below: &str) -> Result<Vec<Listed>, BucketError> {
        match *self {}
    }

    pub(crate) fn delete_below(&self, _below: &str) -> Result<usize, BucketError> {
        match *self {}
    }
}
