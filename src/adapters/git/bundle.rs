//! A snapshot on its way to a machine that sees no folder of this one: one pack with its files and those of HEAD, without
//! any history, and what git says in the project.
//!
//! There, the pack becomes a repository that looks like a shallow clone with the project's branch, index and ignore rules.
//! Its configuration stays here: it may hold credentials.

use std::io::{Read as _, Write as _};
use std::path::Path;

use git2::{Index, Oid, Repository, RepositoryInitOptions};
use serde::{Deserialize, Serialize};

use super::refs::Refs;
use super::store::{Alternate, Store};
use super::{Doing as _, Git, GitError};
use crate::adapters::fs::{self, At as _};

/// Bytes of a pack that are read at a time.
const BLOCK: usize = 1 << 16;
/// Files of the project's repository that the other one has too.
const COPIED: [&str; 2] = ["info/exclude", "info/attributes"];

/// What a repository says beside its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Essence {
    /// The commit that is checked out; `None` before the first commit.
    pub head: Option<String>,
    /// The branch, as `refs/heads/NAME`; `None` where none is checked out.
    pub branch: Option<String>,
    /// The tree of what is staged.
    pub index: Option<String>,
    /// Other refs at that commit, such as tags: name and object.
    pub refs: Vec<(String, String)>,
    /// Texts of files by name.
    pub files: Vec<(String, String)>,
}

impl Store {
    /// Packs a snapshot for the project of a repository into a file.
    pub(crate) fn pack(
        &self,
        git: &Git,
        snapshot: Option<&str>,
        workspace: Option<&str>,
        to: &Path,
    ) -> Result<Option<Essence>, GitError> {
        let essence = git.opened.as_ref().map(|_| self.essence(git)).transpose()?;
        let repository = self.repository();
        let mut pack = repository.packbuilder().doing("pack the snapshot")?;
        let id = |text: &str| Oid::from_str(text).doing("pack the snapshot");
        for commit in snapshot.into_iter().chain(essence.as_ref().and_then(|essence| essence.head.as_deref())) {
            pack.insert_commit(id(commit)?).doing("pack the snapshot")?;
        }
        for tree in workspace.into_iter().chain(essence.as_ref().and_then(|essence| essence.index.as_deref())) {
            pack.insert_tree(id(tree)?).doing("pack the snapshot")?;
        }
        for (_, target) in essence.iter().flat_map(|essence| &essence.refs) {
            pack.insert_object(id(target)?, None).doing("pack the snapshot")?;
        }
        let mut packed = Ok(());
        fs::write_by(to, |file| {
            let mut written = Ok(());
            packed = pack.foreach(|bytes| {
                written = file.write_all(bytes);
                written.is_ok()
            });
            written
        })?;
        packed.doing("pack the snapshot")?;
        Ok(essence)
    }

    fn essence(&self, git: &Git) -> Result<Essence, GitError> {
        let opened = git.opened()?;
        let repository = &opened.repository;
        let head = git.head()?;
        let Refs { branch, others: mut refs, .. } = Refs::of(repository)?;
        refs.retain(|(name, _)| {
            let commit = repository.find_reference(name).and_then(|found| found.peel_to_commit());
            commit.is_ok_and(|commit| Some(commit.id().to_string()) == head)
        });
        let mut index = repository.index().doing("read the index")?;
        // One that holds what has no content yet is taken for that of HEAD.
        let index = index.write_tree_to(self.repository()).ok().map(|tree| tree.to_string());
        let mut files = vec![];
        for name in COPIED {
            files.extend(fs::read_text_if_any(&opened.common.join(name))?.map(|text| (name.to_owned(), text)));
        }
        Ok(Essence { head, branch, index, refs, files })
    }

    /// Makes the repository of the work tree at `top`, where there is one, and at `at` the store that borrows from it.
    pub(crate) fn unpack(pack: &Path, essence: Option<&Essence>, top: &Path, at: &Path) -> Result<Store, GitError> {
        let store = Store::create(at)?;
        let Some(essence) = essence else {
            write_pack(store.repository(), pack)?;
            return Ok(store);
        };
        let mut options = RepositoryInitOptions::new();
        options.external_template(false).mkpath(true);
        let repository = Repository::init_opts(top, &options).doing("make a repository for workers")?;
        write_pack(&repository, pack)?;
        let write = |name: &str, text: &str| fs::write_plain(&repository.path().join(name), text.as_bytes());
        for (name, text) in essence.files.iter().filter(|(name, _)| COPIED.contains(&name.as_str())) {
            write(name, text)?;
        }
        if let Some(head) = &essence.head {
            write("shallow", &format!("{head}\n"))?;
        }
        let refs = Refs { branch: essence.branch.clone(), others: essence.refs.clone(), ..Refs::default() };
        let (packed, head) = refs.texts(essence.head.as_deref());
        write("packed-refs", &packed)?;
        write("HEAD", &head)?;
        write_index(&repository, essence)?;
        let objects = repository.path().join("objects");
        let lender = Alternate::new(&store.objects(), &objects).into_iter().collect::<Vec<_>>();
        store.borrow_from(&lender)?;
        // Opened anew, it sees what it has borrowed.
        Store::open(at)
    }
}

/// Puts a pack into a repository, which checks it.
fn write_pack(repository: &Repository, pack: &Path) -> Result<(), GitError> {
    let odb = repository.odb().doing("unpack the snapshot")?;
    let mut writer = odb.packwriter().doing("unpack the snapshot")?;
    let mut file = std::fs::File::open(pack).at("read", pack)?;
    let mut block = vec![0; BLOCK];
    loop {
        let read = file.read(&mut block).at("read", pack)?;
        if read == 0 {
            break;
        }
        writer.write_all(&block[..read]).at("unpack", pack)?;
    }
    writer.commit().map(drop).doing("unpack the snapshot")
}

/// Writes the index: what was staged in the project, else what HEAD has.
fn write_index(repository: &Repository, essence: &Essence) -> Result<(), GitError> {
    let find = |id: &str| Oid::from_str(id).and_then(|id| repository.find_object(id, None)?.peel_to_tree());
    let Some(tree) = essence.index.as_ref().or(essence.head.as_ref()) else { return Ok(()) };
    let tree = find(tree).doing("read the index")?;
    let mut index = Index::open(&repository.path().join("index")).doing("write the index")?;
    index.read_tree(&tree).and_then(|()| index.write()).doing("write the index")
}
