//! Copies of the project that share nothing with it but, where the file system can, blocks on the disk.
//!
//! | of the project | in a copy |
//! |---|---|
//! | git | a clone with the same branch, which borrows the project's objects |
//! | files, whether git knows them or not | copies |
//! | outs that are cached | only those that stages of the sample read, in the workspace and in the copy's own cache |
//! | DVC's config | the same settings, with that cache |

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::adapters::dvc::cache::Cache;
use crate::adapters::dvc::hash::{Forgetful, Hasher};
use crate::adapters::dvc::links::free_bytes;
use crate::adapters::dvc::place::{CachedOut, Placing, place_cached};
use crate::adapters::dvc::store::Store;
use crate::adapters::fs::{self, Found, FoundKind, FsError};
use crate::adapters::machine;
use crate::adapters::process::Program;
use crate::commands::verify::ends::Ends;
use crate::commands::verify::sample::{Locks, Sample};
use crate::diagnostic::Diagnostic;
use crate::dvc::config::LinkType;
use crate::dvc::hash::{HashName, Hashed};
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::path::{inside, is_within};
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage::{Out, Recorded};
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::state::format::Plan;
use crate::state::home::ProjectHome;

/// What is DVC's or this program's own.
const OWN: [&str; 3] = [".dvc/cache", ".dvc/tmp", ".dvc/fanout"];

/// An error of copying.
pub(super) fn cannot_copy(error: &FsError) -> Diagnostic {
    let is_full = error.is_full();
    let diagnostic = Diagnostic::tool("the project cannot be copied").source(error);
    if is_full {
        diagnostic.hint("`--scratch DIR` has the copies where there is more room")
    } else {
        diagnostic.hint("`--scratch DIR` has the copies elsewhere")
    }
}

/// Whether what an out holds can be brought into a copy.
pub(super) fn is_there(home: &ProjectHome, locks: &Locks, out: &Out) -> bool {
    let Some(path) = &out.resolved else { return true };
    fs::exists(&home.root.join(path)) || is_in_cache(home, locks.get(path))
}

fn is_in_cache(home: &ProjectHome, recorded: Option<&Recorded>) -> bool {
    let cache = Cache::new(&home.config.cache_dir);
    recorded.and_then(Recorded::object).is_some_and(|object| cache.has(object))
}

/// Makes copies of one project.
pub(super) struct Copying<'a> {
    home: &'a ProjectHome,
    /// The top of git's work tree, and the project's folder in it.
    top: PathBuf,
    prefix: String,
    has_git: bool,
    /// The cached outs that stages read, from the project's root.
    needed: BTreeSet<String>,
    /// All cached outs.
    cached: HashSet<String>,
    locks: &'a Locks,
    ends: &'a Ends,
}

impl<'a> Copying<'a> {
    pub(super) fn new(
        home: &'a ProjectHome,
        project: &Project,
        graph: &Graph,
        sample: &Sample,
        locks: &'a Locks,
        ends: &'a Ends,
    ) -> Result<Self, Diagnostic> {
        let (git, prefix) = home.git()?;
        let top = git.workdir().canonicalize().unwrap_or_else(|_| git.workdir().to_owned());
        let is_chosen = |stage: &StageIndex| sample.chosen.contains(stage);
        let mut needed: Vec<&Out> = vec![];
        for &at in &sample.chosen {
            let makers = graph.needs(at).iter().filter(|need| !is_chosen(need));
            let overlaps = |out: &&Out| {
                let deps = project.stages[at].deps.iter().filter_map(|dep| dep.resolved.as_deref());
                let path = out.resolved.as_deref().unwrap_or_default();
                deps.into_iter().any(|dep| is_within(dep, path) || is_within(path, dep))
            };
            needed.extend(makers.flat_map(|maker| &project.stages[*maker].outs).filter(overlaps));
            needed.extend(project.stages[at].outs.iter().filter(|out| out.persist));
        }
        let path = |out: &Out| out.resolved.clone().filter(|_| out.cache);
        let needed = needed.into_iter().filter_map(&path).collect();
        let cached = project.stages.iter().flat_map(|stage| &stage.outs).filter_map(path).collect();
        Ok(Copying { home, top, prefix, has_git: git.is_there(), needed, cached, locks, ends })
    }

    /// The top of the work tree of a copy whose project is there.
    pub(super) fn top(&self, root: &Path) -> PathBuf {
        Plan::top_of(root, &self.prefix).to_owned()
    }

    /// Makes a copy; returns the project's root in it.
    pub(super) fn make(&self, to: &Path) -> Result<PathBuf, Diagnostic> {
        if self.has_git {
            let clone = git(&["clone", "--quiet", "--shared", "--no-checkout"]).arg(&self.top).arg(to);
            self.done(&clone, &self.top)?;
        } else {
            fs::create_dir(to).map_err(|error| cannot_copy(&error))?;
        }
        let root = to.join(&self.prefix);
        self.files(to)?;
        if self.has_git {
            // Before the first commit there is nothing to reset to.
            drop(self.done(&git(&["reset", "--quiet"]), to));
            self.ends.look()?;
        }
        self.settings(&root)?;
        self.data(&root)?;
        Ok(root)
    }

    /// Copies the files of the work tree.
    fn files(&self, to: &Path) -> Result<(), Diagnostic> {
        let cache = Path::new(&self.home.config.cache_dir);
        let skip = |path: &str| {
            let is_own = |inside: &str| OWN.contains(&inside) || self.cached.contains(inside);
            path == ".git"
                || inside(&self.prefix, path).is_some_and(is_own)
                || self.top.join(path) == cache
                || to.starts_with(self.top.join(path))
        };
        let found = fs::walk(&self.top, &skip).map_err(|error| cannot_copy(&error))?;
        self.look_for_room(&found, to).map_err(|error| cannot_copy(&error))?;
        for found in found {
            self.ends.look()?;
            self.file(&found, to).map_err(|error| cannot_copy(&error))?;
        }
        Ok(())
    }

    /// Fails where the copies would not fit, and blocks cannot be shared.
    fn look_for_room(&self, found: &[Found], to: &Path) -> Result<(), FsError> {
        let files = || found.iter().filter(|found| found.kind == FoundKind::File);
        let size: u64 = files().map(|found| found.size).sum();
        let Some(largest) = files().max_by_key(|found| found.size) else { return Ok(()) };
        let probe = to.with_extension("probe");
        let shares = fs::reflink(&self.top.join(&largest.path), &probe)?;
        fs::remove(&probe)?;
        if shares || free_bytes(to).is_none_or(|free| free > size) {
            return Ok(());
        }
        Err(FsError::full(to))
    }

    fn file(&self, found: &Found, to: &Path) -> Result<(), FsError> {
        let (from, to) = (self.top.join(&found.path), to.join(&found.path));
        match found.kind {
            FoundKind::Directory => fs::create_dir(&to),
            FoundKind::File => fs::copy_as(&from, &to, found.mode & 0o777 | 0o600),
            FoundKind::Symlink => {
                let target = std::fs::read_link(&from).unwrap_or_default();
                // What leads into the project leads into the copy.
                let inside = target.strip_prefix(&self.top).map(Path::to_owned);
                let depth = Path::new(&found.path).components().count();
                let top = to.ancestors().nth(depth).unwrap_or(Path::new("/"));
                fs::symlink(inside.map_or(target, |inside| top.join(inside)), &to)
            }
            FoundKind::Other => Ok(()),
        }
    }

    /// DVC's settings with the copy's own cache, and this program's.
    fn settings(&self, root: &Path) -> Result<(), Diagnostic> {
        let mut home = ProjectHome::at(&self.home.root)?;
        root.clone_into(&mut home.root);
        home.config.cache_dir = root.join(".dvc/cache").to_string_lossy().into_owned();
        let (shared, local) = home.worker_config(root)?;
        fs::write_plain(&root.join(".dvc/config"), shared.as_bytes())?;
        fs::write_plain(&root.join(".dvc/config.local"), local.as_bytes())?;
        let own = self.home.root.join(".dvc/fanout/config.yaml");
        if own.is_file() {
            home.make_fanout()?;
            fs::copy(&own, &root.join(".dvc/fanout/config.yaml"))?;
        }
        Ok(())
    }

    /// Brings the cached outs that stages read into the workspace and the cache of a copy.
    fn data(&self, root: &Path) -> Result<(), Diagnostic> {
        let cache = root.join(".dvc/cache");
        let store = Store::new(&cache, &[LinkType::Copy], self.home.config.cache_is_shared, machine::umask());
        let hasher = Hasher::new(root, &Forgetful);
        for path in &self.needed {
            self.ends.look()?;
            let (from, to) = (self.home.root.join(path), root.join(path));
            if fs::exists(&from) {
                fs::copy_all(&from, &to, 0o022).map_err(|error| cannot_copy(&error))?;
            } else if let Some(recorded) = self.locks.get(path) {
                let md5 = recorded.md5.as_deref().unwrap_or_default();
                let legacy = recorded.hash.is_none();
                let out =
                    CachedOut { path, md5, legacy, isexec: recorded.isexec, executable: &[], empty: &[], own: &[] };
                let cache = Path::new(&self.home.config.cache_dir);
                place_cached(root, &out, None, &Placing { cache, links: &[LinkType::Copy] })?;
            }
            let Some(content) = hasher.content(path, HashName::Md5).map_err(unreadable)? else { continue };
            match content.hashed {
                Hashed::File { md5, .. } => drop(store.add_file(&to, md5, false, &hasher).map_err(unreadable)?),
                Hashed::Directory { .. } => {
                    for member in &content.members {
                        store.add_file(&to.join(&member.relpath), member.md5, false, &hasher).map_err(unreadable)?;
                    }
                    let key = content.hashed.oid().by(HashName::Md5);
                    store.add_text(key, &content.text, &hasher).map_err(unreadable)?;
                }
            }
        }
        Ok(())
    }

    /// Runs a step of git's.
    fn done(&self, program: &Program, directory: &Path) -> Result<(), Diagnostic> {
        let cannot = || Diagnostic::tool(format!("the project cannot be copied: `{}` fails", program.shown()));
        let output = self.ends.output(program, directory)?.map_err(|error| cannot().source(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(said.lines().fold(cannot(), Diagnostic::detail))
    }
}

fn unreadable(error: impl std::error::Error) -> Diagnostic {
    Diagnostic::project("the project cannot be copied").source(&error)
}

fn git(words: &[&str]) -> Program {
    words.iter().fold(Program::new("git"), |program, word| program.arg(*word))
}
