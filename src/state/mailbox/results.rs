//! Results on their way: put in by workers, brought into the launcher's folder of the run.
//!
//! What is brought is published there as a worker would have published it, whatever it says: whoever reads it decides
//! whether it can be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;

use rayon::prelude::*;

use super::{MAX_FILE, Mailbox};
use crate::adapters::bucket::{BucketError, Listed};
use crate::adapters::{archive, fs};
use crate::diagnostic::Diagnostic;
use crate::model::numbers::{AttemptNumber, ItemIndex};
use crate::model::run::Traffic;
use crate::state::format::WorkResult;
use crate::state::paths::RunDir;
use crate::state::results::{Draft, Durability, RESULT};
use crate::state::vetting::{MAX_DOCUMENT, MAX_FILES};

/// Bytes of files that a result brings at most.
const MAX_BROUGHT: u64 = 1 << 40;
/// Bytes of a log that are brought at most; of a longer one, none are.
const MAX_LOG: u64 = 1 << 30;

/// Where what comes is put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiving<'a> {
    pub run: &'a RunDir,
    pub durability: Durability,
}

/// What a listing has of an attempt: the sizes of its objects.
#[derive(Clone, Copy, Debug, Default)]
struct Put {
    log: Option<u64>,
    result: bool,
}

impl Mailbox {
    /// Takes the number of an attempt; says whether it was free.
    pub(super) fn claim(&self, index: ItemIndex, attempt: AttemptNumber) -> Result<bool, Diagnostic> {
        Ok(self.bucket.create(&self.attempt(index, attempt, "log"), vec![])?)
    }

    /// Puts in the log of an attempt as it is by now.
    pub(super) fn send_log(&self, run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<(), Diagnostic> {
        let log = run.log(index, attempt);
        if !fs::exists(&log) {
            return Ok(());
        }
        Ok(self.bucket.put_files(&self.attempt(index, attempt, "log"), &[log])?)
    }

    /// Puts in a result that is published in a folder of the run.
    pub(super) fn send(&self, run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<(), Diagnostic> {
        let directory = run.attempt(index, attempt);
        let document = fs::read(&directory.join(RESULT))?;
        let result: WorkResult =
            serde_json::from_slice(&document).map_err(|error| Diagnostic::internal(error.to_string()))?;
        self.send_log(run, index, attempt)?;
        let files = parts(&result).map(|(name, _)| directory.join("files").join(name)).collect::<Vec<_>>();
        if parts(&result).any(|(_, size)| size > 0) {
            self.bucket.put_files(&self.attempt(index, attempt, "files"), &files)?;
        }
        let result = WorkResult { traffic: Some(self.untold()), ..result };
        let document = serde_json::to_vec_pretty(&result).map_err(|error| Diagnostic::internal(error.to_string()))?;
        Ok(self.bucket.put(&self.attempt(index, attempt, "json"), document)?)
    }

    /// What it took since a result told of it, with the request that sends this one.
    fn untold(&self) -> Traffic {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.traffic();
        all.requests += 1;
        all.since(std::mem::replace(&mut *told, all))
    }

    /// Brings the result of an attempt and its log, if there is a result; says whether it is here now.
    pub(crate) fn receive(
        &self,
        to: &Receiving<'_>,
        index: ItemIndex,
        attempt: AttemptNumber,
    ) -> Result<bool, Diagnostic> {
        if fs::exists(&to.run.attempt(index, attempt)) {
            return Ok(true);
        }
        let document = match self.bucket.get(&self.attempt(index, attempt, "json"), MAX_DOCUMENT) {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(false),
            // It is nothing that a worker has put in.
            Err(error @ BucketError::TooLarge { .. }) => error.to_string().into_bytes(),
            Err(error) => return Err(error.into()),
        };
        self.receive_log(to.run, index, attempt)?;
        let draft = Draft::begin(to.run, index, attempt)?;
        // What cannot be read is told by whoever reads it again.
        if let Ok(result) = serde_json::from_slice::<WorkResult>(&document) {
            self.receive_files(&draft, &result, index, attempt)?;
        }
        draft.publish_as_is(attempt, &document, to.durability)?;
        Ok(true)
    }

    /// Brings the contents of a result's files, as far as they are there.
    fn receive_files(
        &self,
        draft: &Draft,
        result: &WorkResult,
        index: ItemIndex,
        attempt: AttemptNumber,
    ) -> Result<(), Diagnostic> {
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let all: Vec<(&str, u64)> = parts(result).collect();
        let size = all.iter().try_fold(0_u64, |sum, (_, size)| sum.checked_add(*size)).unwrap_or(u64::MAX);
        if all.len() > MAX_FILES || size > MAX_BROUGHT || !all.iter().all(|(name, _)| is_name(name)) {
            return Ok(());
        }
        let blobs: Vec<_> = all.iter().map(|(name, _)| draft.blob(name)).collect();
        let parts = || blobs.iter().map(AsRef::<Path>::as_ref).zip(all.iter().map(|(_, size)| *size));
        if size == 0 {
            return Ok(parts().try_for_each(|(blob, _)| fs::write_plain(blob, b""))?);
        }
        let folder = fs::temporary_dir(draft.directory())?;
        let whole = folder.path().join("files");
        match self.bucket.get_to(&self.attempt(index, attempt, "files"), &whole, size.min(MAX_FILE)) {
            Ok(true) => Ok(archive::split(&whole, parts())?),
            Ok(false) | Err(BucketError::TooLarge { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings the log of an attempt as it is by now.
    fn receive_log(&self, run: &RunDir, index: ItemIndex, attempt: AttemptNumber) -> Result<(), Diagnostic> {
        let log = run.log(index, attempt);
        let is_empty = |path: &Path| path.metadata().is_ok_and(|found| found.len() == 0);
        let folder = fs::temporary_dir(run.path())?;
        let brought = folder.path().join("log");
        if self.bucket.get_to(&self.attempt(index, attempt, "log"), &brought, MAX_LOG)?
            // What the launcher itself has heard of a worker is better than nothing.
            && !(fs::exists(&log) && is_empty(&brought))
        {
            fs::create_dir(&run.work_item(index))?;
            fs::rename(&brought, &log)?;
        }
        Ok(())
    }

    /// Brings all that attempts at a work item have put in; returns how many results came.
    pub(crate) fn receive_item(&self, to: &Receiving<'_>, index: ItemIndex) -> Result<usize, Diagnostic> {
        self.receive_listed(to, &self.bucket.list(&self.key(&format!("results/{index}")))?, usize::MAX)
    }

    /// Brings all that others have put in since the last look; returns how many results came. The run has so many work
    /// items.
    pub(crate) fn receive_all(&self, to: &Receiving<'_>, work_items: usize) -> Result<usize, Diagnostic> {
        let listed = self.bucket.list(&self.run)?;
        self.bring_notes(to.run, &listed)?;
        self.receive_listed(to, &listed, work_items)
    }

    fn receive_listed(&self, to: &Receiving<'_>, listed: &[Listed], work_items: usize) -> Result<usize, Diagnostic> {
        let mut found: BTreeMap<(ItemIndex, AttemptNumber), Put> = BTreeMap::new();
        for object in listed {
            let Some((index, attempt, kind)) = self.parse(&object.key) else { continue };
            let put = found.entry((index, attempt)).or_default();
            match kind {
                "log" => put.log = Some(object.size),
                "json" => put.result = true,
                _ => {}
            }
        }
        let found: Vec<((ItemIndex, AttemptNumber), Put)> =
            found.into_iter().filter(|((index, _), _)| index.get() < work_items).collect();
        let came: Vec<bool> = found
            .par_iter()
            .map(|((index, attempt), put)| {
                let is_here = fs::exists(&to.run.attempt(*index, *attempt));
                if put.result && !is_here {
                    return self.receive(to, *index, *attempt);
                }
                if put.log == Some(0) && !is_here {
                    // It has begun, and that is all.
                    fs::create_new(&to.run.log(*index, *attempt))?;
                    return Ok(false);
                }
                let size = to.run.log(*index, *attempt).metadata().map(|found| found.len()).ok();
                if !is_here && put.log.is_some_and(|put| size.is_none_or(|size| size < put)) {
                    self.receive_log(to.run, *index, *attempt)?;
                }
                Ok(false)
            })
            .collect::<Result<_, Diagnostic>>()?;
        Ok(came.into_iter().filter(|came| *came).count())
    }

    /// Which object of which attempt a key names.
    fn parse<'k>(&self, key: &'k str) -> Option<(ItemIndex, AttemptNumber, &'k str)> {
        let inside = key.strip_prefix(&self.run)?.strip_prefix("/results/")?;
        let (index, name) = inside.split_once('/')?;
        let (attempt, kind) = name.split_once('.')?;
        let attempt = attempt.parse().ok().filter(|attempt| *attempt >= AttemptNumber::FIRST)?;
        Some((index.parse().ok()?, attempt, kind))
    }

    fn attempt(&self, index: ItemIndex, attempt: AttemptNumber, kind: &str) -> String {
        self.key(&format!("results/{index}/{attempt}.{kind}"))
    }
}

/// The contents that a result names, in the order of their object: name and size.
fn parts(result: &WorkResult) -> impl Iterator<Item = (&str, u64)> {
    let mut seen = BTreeSet::new();
    let files = result.files.iter().chain(&result.partial);
    files.filter(move |file| seen.insert(file.blob.as_str())).map(|file| (file.blob.as_str(), file.size))
}
