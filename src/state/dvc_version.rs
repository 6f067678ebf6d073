//! The version of DVC, remembered from one time to the next, since Python takes its time to start.
//!
//! A file of two lines: which program it is, as `Dvc::stamp` says, and its version. It can be deleted at any time.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use crate::adapters::dvc::Dvc;
use crate::adapters::fs::{self, FsError};
use crate::diagnostic::Diagnostic;

/// What is known of the version.
pub(crate) struct DvcVersion {
    file: PathBuf,
    version: OnceCell<String>,
}

impl DvcVersion {
    pub(crate) fn new(file: PathBuf) -> Self {
        DvcVersion { file, version: OnceCell::new() }
    }

    /// The version of the program; where neither this process nor the file knows it, DVC may take so long to say it.
    pub(crate) fn of(&self, dvc: &Dvc, limit: Duration) -> Result<String, Diagnostic> {
        if let Some(version) = self.version.get() {
            return Ok(version.clone());
        }
        let version = match (self.remembered()?, dvc.stamp()) {
            (Some((program, version)), Some(stamp)) if program == stamp => version,
            _ => dvc.version_within(limit)?,
        };
        Ok(self.version.get_or_init(|| version).clone())
    }

    /// The version of the program, if the file knows it.
    pub(crate) fn known(&self, dvc: &Dvc) -> Option<String> {
        let (program, version) = self.remembered().ok()??;
        (Some(program) == dvc.stamp()).then_some(version)
    }

    /// Writes the version down, unless it may be another one the next time.
    pub(crate) fn remember(&self, dvc: &Dvc) -> Result<(), FsError> {
        let (Some(version), Some(stamp)) = (self.version.get(), dvc.stamp()) else { return Ok(()) };
        if self.remembered()?.is_some_and(|known| known == (stamp.clone(), version.clone())) {
            return Ok(());
        }
        fs::write(&self.file, format!("{stamp}\n{version}\n").as_bytes())
    }

    /// The program of the file and its version.
    fn remembered(&self) -> Result<Option<(String, String)>, FsError> {
        let text = fs::read_text_if_any(&self.file)?.unwrap_or_default();
        Ok(text.trim_end().split_once('\n').map(|(program, version)| (program.to_owned(), version.to_owned())))
    }
}
