//! `decided.json`: for which stages and files somebody has decided to keep the project's own version (`collect --ours`), so
//! that nobody asks again. Another version of the results is another question.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::adapters::fs::{self, FsError};
use crate::state::paths::RunDir;

/// What was decided: the MD5 of the version that was turned down, by stage address or path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Decided {
    stages: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

impl Decided {
    /// Reads what was decided; nothing of a file that is no such document.
    pub(crate) fn read(run: &RunDir) -> Result<Decided, FsError> {
        let bytes = fs::read_if_any(&run.decided())?.unwrap_or_default();
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Adds what was decided now.
    pub(crate) fn add_to(self, run: &RunDir) -> Result<(), FsError> {
        if self == Decided::default() {
            return Ok(());
        }
        let mut all = Decided::read(run)?;
        all.stages.extend(self.stages);
        all.files.extend(self.files);
        fs::write(&run.decided(), &serde_json::to_vec(&all).expect("it is plain data"))
    }

    pub(crate) fn keep_stage(&mut self, address: &str, theirs: &str) {
        self.stages.insert(address.to_owned(), fs::digest_bytes(theirs.as_bytes()));
    }

    pub(crate) fn keep_file(&mut self, path: &str, theirs: &str) {
        self.files.insert(path.to_owned(), theirs.to_owned());
    }

    /// Whether a stage's own entry was kept in the place of this one.
    pub(crate) fn keeps_stage(&self, address: &str, theirs: &str) -> bool {
        self.stages.get(address).is_some_and(|md5| *md5 == fs::digest_bytes(theirs.as_bytes()))
    }

    /// Whether a file was kept in the place of one of this content.
    pub(crate) fn keeps_file(&self, path: &str, theirs: &str) -> bool {
        self.files.get(path).is_some_and(|md5| md5 == theirs)
    }
}
