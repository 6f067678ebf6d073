//! Merges files that DVC does not cache: declared outs, file by file, and others that changed and git does not ignore.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use similar::TextDiff;

use super::texts::Texts;
use super::{Believed, Change, CollectConfig, Good, Resolution, change};
use crate::adapters::beneath::{Beneath, Seen};
use crate::adapters::fs;
use crate::adapters::git::{self, Git, Store, linked};
use crate::collect::apply::{After, Content, content};
use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::lockfile::conflict::{Conflict, Difference, Reason, Subject};
use crate::dvc::lockfile::merge::{Merge, merge_value};
use crate::dvc::pipeline::path;
use crate::model::carry::{has_below, is_at_or_below};
use crate::model::collection::LeftOut;
use crate::state::decided::Decided;
use crate::state::declared;
use crate::state::format::{Plan, ResultFile};
use crate::state::home::ProjectHome;
use crate::state::published::Published;

/// Larger files are not shown as a diff.
const MAX_DIFFED: u64 = 1 << 20;

/// What the results make of one path.
struct Candidate<'a> {
    /// The place in the order of `dvc repro` of the stage, or work item, that it comes from.
    order: usize,
    base: Content,
    theirs: Content,
    /// Where the content lies; `None` where the path goes.
    source: Option<(&'a ResultFile, &'a Published)>,
    /// What it is together with the work of others; `source` has this work item's part of it.
    united: Option<String>,
    /// Work items made it differently, and none of their versions may stand for all.
    is_disputed: bool,
}

impl<'a> Candidate<'a> {
    /// A file that a result has.
    fn made(order: usize, base: Content, file: &'a ResultFile, published: &'a Published) -> Self {
        let (theirs, source) = (made_content(file), Some((file, published)));
        Candidate { order, base, theirs, source, united: None, is_disputed: false }
    }

    /// A file that goes; `theirs` is what is there then.
    fn gone(order: usize, base: Content, theirs: Content) -> Self {
        Candidate { order, base, theirs, source: None, united: None, is_disputed: false }
    }
}

type Candidates<'a> = BTreeMap<&'a str, Candidate<'a>>;

/// What merging files comes to.
pub(super) struct Merged {
    /// Removals come first: a file may be made where a directory was, and the other way round.
    pub changes: Vec<Change>,
    pub conflicts: Vec<Conflict>,
    /// The files that no stage declares and that work items made differently, sorted.
    pub contested: Vec<String>,
    pub left_out: Vec<LeftOut>,
    /// The files of which the project's own version stays by request.
    pub decided: Decided,
}

/// Returns the changes of files.
pub(super) fn merge(
    project: &ProjectHome,
    plan: &Plan,
    tree: &Beneath,
    believed: &[Believed<'_>],
    good: &[Good<'_>],
    config: &CollectConfig,
    decided: &Decided,
) -> Result<Merged, Diagnostic> {
    let mut candidates = Candidates::new();
    for good in good {
        declared(good, &mut candidates);
    }
    let versions = versions(believed);
    let mut contested = contested(believed);
    // After the declared ones: what a stage declares is its own, whoever else wrote there.
    let has_others = !config.declared_only && believed.iter().any(has_undeclared);
    let git = has_others.then(|| project.git()).transpose()?;
    let mut left_out = vec![];
    if let Some(git) = &git {
        for result in believed {
            left_out.extend(undeclared(project, git, plan, result, &mut candidates)?);
        }
    }
    let present: Vec<Present> =
        candidates.keys().map(|path| Present::at(tree, path, versions.get(path))).collect::<Result<_, _>>()?;
    for ((path, candidate), Present { ours, is_own }) in candidates.iter_mut().zip(&present) {
        // What this run has made and taken away again is not in the way of its going.
        let goes_again = candidate.source.is_none() && *is_own;
        if goes_again || is_as_noted(project, path, &candidate.base, ours) {
            candidate.base = ours.clone();
        }
    }
    if let Some((_, prefix)) = &git {
        let united =
            Uniting { project, plan, prefix, tree, texts: Texts::of(believed) }.unite(&mut candidates, &present)?;
        contested.retain(|path| !united.contains(path));
    }
    let (mut removals, mut writes, mut conflicts, mut kept) = (vec![], vec![], vec![], Decided::default());
    for ((path, candidate), Present { ours, is_own }) in candidates.iter().zip(&present) {
        let has_strangers =
            candidate.source.is_some() && *ours == Content::Directory && has_strangers(project, path, &candidates)?;
        let chosen = |resolution| choose(candidate, ours, *is_own, has_strangers, resolution);
        let theirs = || said(&candidate.theirs).unwrap_or_default();
        match chosen(config.resolution) {
            Choice::Ours if chosen(Resolution::Report) == Choice::Neither => kept.keep_file(path, &theirs()),
            Choice::Ours => {}
            Choice::Neither if decided.keeps_file(path, &theirs()) => {}
            Choice::Theirs if candidate.source.is_none() => removals.extend(change_of(tree, path, candidate, ours)?),
            Choice::Theirs => writes.extend(change_of(tree, path, candidate, ours)?),
            Choice::Neither => conflicts.push(explain(tree, path, candidate, ours)),
        }
    }
    removals.extend(writes);
    Ok(Merged { changes: removals, conflicts, contested, left_out, decided: kept })
}

/// What the project has at a path by now.
struct Present {
    ours: Content,
    /// Whether only this run changed it.
    is_own: bool,
}

impl Present {
    fn at(tree: &Beneath, path: &str, versions: Option<&Vec<&ResultFile>>) -> Result<Present, Diagnostic> {
        let ours = content(tree, path)?;
        let is_own = versions.is_some_and(|versions| versions.iter().any(|file| made_content(file) == ours));
        Ok(Present { ours, is_own })
    }
}

/// Unites the texts that several work items edited, or that the project has otherwise by now.
struct Uniting<'a> {
    project: &'a ProjectHome,
    plan: &'a Plan,
    prefix: &'a str,
    tree: &'a Beneath,
    texts: Texts<'a>,
}

impl Uniting<'_> {
    /// Returns the paths whose candidates are united texts now; `present` has what the project has at those of all.
    fn unite(&self, candidates: &mut Candidates<'_>, present: &[Present]) -> Result<HashSet<String>, Diagnostic> {
        let mut united = HashSet::new();
        for ((path, candidate), Present { ours, is_own }) in candidates.iter_mut().zip(present) {
            if candidate.source.is_none_or(|(file, _)| file.stage.is_some()) {
                continue;
            }
            let has_moved = !is_own && *ours != candidate.base;
            let are_several = self.texts.are_several(path);
            if !(are_several || has_moved) {
                continue;
            }
            match self.text(path, has_moved)? {
                Some(text) => {
                    candidate.base = ours.clone();
                    candidate.theirs = Content::File { md5: fs::digest_bytes(text.as_bytes()) };
                    candidate.united = Some(text);
                    united.insert((*path).to_owned());
                }
                // Half of what commands listed there would be no version that any `dvc repro` leaves.
                None => candidate.is_disputed = are_several && path::file_name(path) == "dvc.yaml",
            }
        }
        Ok(united)
    }

    fn text(&self, path: &str, has_moved: bool) -> Result<Option<String>, Diagnostic> {
        let ours = if has_moved {
            let read = self.tree.read(path, MAX_DIFFED).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(ours) = read else { return Ok(None) };
            Some(ours)
        } else {
            None
        };
        self.texts.unite(self.project, self.plan, self.prefix, path, ours.as_deref())
    }
}

/// Whether a symlink is there as it was: of that its target's MD5 was noted, or the MD5 of what it leads to.
fn is_as_noted(project: &ProjectHome, path: &str, base: &Content, ours: &Content) -> bool {
    let (Content::File { md5 }, Content::Symlink { target }) = (base, ours) else { return false };
    fs::digest_bytes(target.as_bytes()) == *md5
        || fs::digest(&project.root.join(path)).is_ok_and(|(now, _)| now == *md5)
}

/// Whose version of a path stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Ours,
    Theirs,
    /// A person has to say.
    Neither,
}

fn choose(
    candidate: &Candidate<'_>,
    ours: &Content,
    is_own: bool,
    has_strangers: bool,
    resolution: Resolution,
) -> Choice {
    let merged = merge_value(Some(&candidate.base), Some(ours), &[Some(&candidate.theirs)], |a, b| a == b);
    let choice = match merged {
        Merge::Merged(value) if value == Some(&candidate.theirs) && !candidate.is_disputed => Choice::Theirs,
        Merge::Merged(_) if !candidate.is_disputed => Choice::Ours,
        // An earlier collection of this run put it there, so nobody's own work is lost.
        Merge::Conflicted { .. } if is_own && !candidate.is_disputed => Choice::Theirs,
        Merge::Merged(_) | Merge::Conflicted { .. } => match resolution {
            Resolution::Ours => Choice::Ours,
            Resolution::Theirs => Choice::Theirs,
            Resolution::Report => Choice::Neither,
        },
    };
    match (choice, resolution) {
        // To make the file would be to remove a directory with things in it that this run knows nothing of.
        (Choice::Theirs, Resolution::Ours) if has_strangers => Choice::Ours,
        (Choice::Theirs, Resolution::Theirs | Resolution::Report) if has_strangers => Choice::Neither,
        (choice, _) => choice,
    }
}

/// What has to be done so that the project has a candidate; `None` where it has it.
fn change_of(
    tree: &Beneath,
    path: &str,
    candidate: &Candidate<'_>,
    ours: &Content,
) -> Result<Option<Change>, Diagnostic> {
    let is_there = *ours == candidate.theirs;
    let Some((file, published)) = candidate.source else {
        return Ok((!is_there).then(|| change(path, After::Nothing, None)));
    };
    let executable = file.symlink.is_none().then_some(file.executable);
    let mode = file.mode.filter(|_| file.symlink.is_none()).map(|mode| mode & 0o777);
    let after = match &file.symlink {
        _ if is_there && !has_other_mode(tree, path, executable, mode)? => return Ok(None),
        _ if is_there => After::Same,
        Some(target) => After::Symlink(target.clone()),
        None => match &candidate.united {
            Some(text) => After::Bytes(text.clone().into_bytes()),
            None => After::Copy { from: published.blob(file), md5: file.md5.clone() },
        },
    };
    let modified = file.modified;
    Ok(Some(Change { mode, modified, is_remade: file.stage.is_some(), ..change(path, after, executable) }))
}

/// What a stage made of its outs that are not cached; what was there before and was not made again goes.
fn declared<'a>(good: &Good<'a>, candidates: &mut Candidates<'a>) {
    let (stage, published) = (good.stage, &good.result.published);
    let order = stage.order;
    // What a stage that did not change found is in the project, mode and all.
    let is_as_found = published.is_unchanged(&stage.address) && good.entry == stage.base.as_deref();
    for out in stage.outs.iter().filter(|out| !out.cache && !is_as_found) {
        let before: HashMap<&str, &str> =
            out.before.iter().map(|file| (file.path.as_str(), file.md5.as_str())).collect();
        let made: HashMap<&str, &ResultFile> =
            published.files_of(&stage.address, &out.resolved, None).map(|file| (file.path.as_str(), file)).collect();
        for (path, file) in &made {
            let base = match before.get(path) {
                Some(md5) => Content::File { md5: (*md5).to_owned() },
                None if before.keys().any(|other| is_below(other, path)) => Content::Directory,
                None => Content::Nothing,
            };
            candidates.insert(path, Candidate::made(order, base, file, published));
        }
        for (path, md5) in before.iter().filter(|(path, _)| !made.contains_key(*path)) {
            let becomes_directory = made.keys().any(|other| is_below(other, path));
            let theirs = if becomes_directory { Content::Directory } else { Content::Nothing };
            let base = Content::File { md5: (*md5).to_owned() };
            candidates.insert(path, Candidate::gone(order, base, theirs));
        }
    }
    // A `.dvc` file, which DVC rewrote; the worklist has it as it was.
    for file in published.files_of(&stage.address, &stage.file, None).filter(|_| stage.name.is_none()) {
        let before = good.result.item.files.iter().find(|text| text.path == file.path);
        let base =
            before.map_or(Content::Nothing, |text| Content::File { md5: fs::digest_bytes(text.text.as_bytes()) });
        candidates.insert(&file.path, Candidate::made(order, base, file, published));
    }
}

/// Whether a work item did anything to files that no stage declares.
fn has_undeclared(result: &Believed<'_>) -> bool {
    let result = &result.published.result;
    !result.deleted.is_empty() || result.files.iter().any(|file| file.stage.is_none())
}

/// What the commands of a work item did to files that no stage declares; returns what is left out.
///
/// Of several work items that wrote one file the last in the order of `dvc repro` counts, as it would have been then.
fn undeclared<'a>(
    project: &ProjectHome,
    (git, prefix): &(Git, String),
    plan: &Plan,
    result: &'a Believed<'_>,
    candidates: &mut Candidates<'a>,
) -> Result<Vec<LeftOut>, Diagnostic> {
    let published = &result.published;
    let mut left_out = vec![];
    let order = result.order();
    let files: Vec<_> = published.result.files.iter().filter(|file| file.is_own_beside()).collect();
    let mut add = |path: &'a str, candidate: Candidate<'a>| {
        if candidates.get(path).is_none_or(|other| other.order <= candidate.order) {
            candidates.insert(path, candidate);
        }
    };
    let deleted: BTreeSet<String> = published.result.deleted.iter().cloned().collect();
    // Only where something goes can a file be in the place of a folder, or a folder in that of a file.
    let made = published.result.files.iter().filter(|_| !deleted.is_empty());
    let made: BTreeSet<String> = made.map(|file| file.path.clone()).collect();
    let ignores = git.ignores();
    // Git ignores data of `.dvc` files, too.
    let data = if files.iter().any(|file| file.edited) {
        declared::read(&project.fanout().run(&plan.run).declared())?
    } else {
        BTreeSet::new()
    };
    for file in files {
        let inside = path::join(prefix, &file.path);
        let is_data = file.edited && is_at_or_below(&data, &inside);
        if !is_data && ignores.is_ignored(&inside)? {
            let content = published.blob(file);
            left_out.push(LeftOut {
                index: result.item.index,
                id: result.item.id.clone(),
                attempt: published.result.attempt,
                path: file.path.clone(),
                why: "git ignores it".to_owned(),
                target: None,
                content: Some(content.strip_prefix(&plan.root).unwrap_or(&content).display().to_string()),
            });
            continue;
        }
        let base = match &file.before {
            Some(md5) => Content::File { md5: md5.clone() },
            None if has_below(&deleted, &file.path) => Content::Directory,
            None => Content::Nothing,
        };
        add(&file.path, Candidate::made(order, base, file, published));
    }
    for path in &published.result.deleted {
        // A run that was finalized with everything done has no snapshot, and nothing to delete any more.
        let Ok(store) = Store::open(&project.fanout().run(&plan.run).snapshot()) else { break };
        let snapshot = plan.snapshot.as_deref().unwrap_or_default();
        let file = store.file_at(snapshot, &path::join(prefix, path))?;
        let stamp = file.as_ref().and_then(|file| file.stamp.clone());
        let base = match file.map(|file| file.content) {
            // An earlier work item had left it.
            None => Content::Nothing,
            Some(git::Content::Symlink(target)) => {
                Content::Symlink { target: String::from_utf8_lossy(&target).into_owned() }
            }
            Some(git::Content::Bytes(bytes)) => Content::File { md5: fs::digest_bytes(&bytes) },
            // It is what the project has, or somebody else's by now.
            Some(git::Content::Linked) => {
                let at = project.root.join(path);
                let is_planned = stamp.is_some_and(|stamp| linked::is_as_planned(&at, &stamp));
                if !is_planned {
                    continue;
                }
                Content::File { md5: fs::digest(&at)?.0 }
            }
        };
        let theirs = if has_below(&made, path) { Content::Directory } else { Content::Nothing };
        add(path, Candidate::gone(order, base, theirs));
    }
    Ok(left_out)
}

/// The files that no stage declares and that work items of one phase made differently, sorted.
///
/// Several may have appended to a log. Whether they did, or wrote it anew each, cannot be told where there was none.
fn contested(believed: &[Believed<'_>]) -> Vec<String> {
    let mut made: BTreeMap<(&str, usize), HashSet<Content>> = BTreeMap::new();
    for result in believed {
        for file in result.published.result.files.iter().filter(|file| file.is_own_beside()) {
            made.entry((&file.path, result.item.phase)).or_default().insert(made_content(file));
        }
    }
    let mut contested: Vec<String> =
        made.into_iter().filter(|(_, made)| made.len() > 1).map(|((path, _), _)| path.to_owned()).collect();
    contested.dedup();
    contested
}

/// Every version of every path that this run made: where the project holds one of them, only this run changed it.
fn versions<'a>(believed: &'a [Believed<'_>]) -> HashMap<&'a str, Vec<&'a ResultFile>> {
    let mut versions: HashMap<&str, Vec<&ResultFile>> = HashMap::new();
    let published = believed.iter().flat_map(|result| result.others.iter().chain([result.published.as_ref()]));
    for file in published.flat_map(|published| &published.result.files) {
        // Nearly all have just one.
        versions.entry(&file.path).or_insert_with(|| Vec::with_capacity(1)).push(file);
    }
    versions
}

fn made_content(file: &ResultFile) -> Content {
    match &file.symlink {
        Some(target) => Content::Symlink { target: target.clone() },
        None => Content::File { md5: file.md5.clone() },
    }
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a directory holds anything that does not go.
fn has_strangers(project: &ProjectHome, path: &str, candidates: &Candidates<'_>) -> Result<bool, Diagnostic> {
    let found = fs::walk(&project.root.join(path), &|_| false)?;
    let goes =
        |inside: &str| candidates.get(format!("{path}/{inside}").as_str()).is_some_and(|file| file.source.is_none());
    Ok(found.iter().any(|found| found.kind != fs::FoundKind::Directory && !goes(&found.path)))
}

/// Whether a file that has its content has another mode than it was made with.
fn has_other_mode(tree: &Beneath, path: &str, executable: Option<bool>, mode: Option<u32>) -> Result<bool, Diagnostic> {
    let Some(Seen::File { mode: now, .. }) = tree.look(path)? else { return Ok(false) };
    Ok(match mode {
        Some(mode) => mode != now & 0o777,
        None => executable.is_some_and(|executable| executable != (now & 0o100 != 0)),
    })
}

/// What is at a path, in few words; `None` for nothing.
fn said(content: &Content) -> Option<String> {
    match content {
        Content::Nothing => None,
        Content::File { md5 } => Some(md5.clone()),
        Content::Symlink { target } => Some(format!("a symlink to {target}")),
        Content::Directory => Some("a directory".to_owned()),
        Content::Other => Some("neither a file nor a directory".to_owned()),
    }
}

fn explain(tree: &Beneath, path: &str, candidate: &Candidate<'_>, ours: &Content) -> Conflict {
    let text = |bytes: Result<Vec<u8>, fs::FsError>| bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let is_small = candidate.source.is_none_or(|(file, _)| file.size <= MAX_DIFFED);
    let our_text = if *ours == Content::Nothing { Some(String::new()) } else { text(tree.read(path, MAX_DIFFED)) };
    let their_text = match candidate.source {
        Some((file, published)) => is_small.then(|| text(fs::read(&published.blob(file)))).flatten(),
        None => Some(String::new()),
    };
    let diff = our_text.zip(their_text).map_or(String::new(), |(ours, theirs)| {
        TextDiff::from_lines(&ours, &theirs).unified_diff().header("ours", "theirs").to_string()
    });
    Conflict {
        subject: Subject::File(path.to_owned()),
        place: Place::file(path),
        differences: vec![Difference {
            field: "content".into(),
            base: said(&candidate.base),
            ours: said(ours),
            theirs: vec![said(&candidate.theirs)],
        }],
        diff,
        reason: if *ours == candidate.base { Reason::EditedDifferently } else { Reason::FileMovedOn },
    }
}
