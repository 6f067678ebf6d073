//! Which stages are done: some keys of each `foreach` and `matrix`, and the shared stages that need no others.
//!
//! | stage | is done |
//! |---|---|
//! | of `foreach` or `matrix` | where its key is in the sample, and what it needs is done or there |
//! | written out | where all that it needs is done, or is data of a `.dvc` file or a frozen stage |
//! | a `.dvc` file, a frozen stage | never: what it made is brought along |

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::adapters::fs;
use crate::dvc::lockfile::Lockfile;
use crate::dvc::pipeline::graph::Graph;
use crate::dvc::pipeline::path::lock_path;
use crate::dvc::pipeline::project::Project;
use crate::dvc::pipeline::stage::{Out, Recorded, Stage};
use crate::dvc::pipeline::stage_index::StageIndex;
use crate::plan::survey::template;
use crate::state::home::ProjectHome;

/// What lock files and `.dvc` files record of outs, by their path from the project's root.
pub(super) type Locks = HashMap<String, Recorded>;

/// Reads what is recorded of all outs; what cannot be read is not recorded.
pub(super) fn locks(home: &ProjectHome, project: &Project) -> Locks {
    let mut by_file: BTreeMap<&str, Vec<&Stage>> = BTreeMap::new();
    for stage in &project.stages {
        by_file.entry(&stage.file).or_default().push(stage);
    }
    let mut locks = Locks::new();
    for (file, stages) in by_file {
        let text = fs::read_text_if_any(&home.root.join(lock_path(file))).ok().flatten().unwrap_or_default();
        let lock = Lockfile::parse(&text).ok();
        for stage in stages {
            let entry = lock.as_ref().and_then(|lock| lock.entry(stage.name.as_deref()?)?.parse().ok());
            for out in &stage.outs {
                let Some(resolved) = &out.resolved else { continue };
                let locked = entry.iter().flat_map(|entry| &entry.outs).find(|item| item.path == out.path);
                let recorded = locked.map(|item| item.recorded.clone()).or_else(|| out.recorded.as_deref().cloned());
                locks.extend(recorded.map(|recorded| (resolved.clone(), recorded)));
            }
        }
    }
    locks
}

/// What is done.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// In the order of `dvc repro`.
    pub chosen: Vec<StageIndex>,
    /// What is not, and why; the keys of a template count as one.
    pub left_out: BTreeMap<String, String>,
}

impl Sample {
    /// Chooses among stages in their order; `is_there` says whether an out that is not made can be brought along.
    pub(super) fn choose(
        project: &Project,
        graph: &Graph,
        order: &[StageIndex],
        keys: usize,
        is_there: &dyn Fn(&Out) -> bool,
    ) -> Sample {
        let sampled = sampled(project, order, keys);
        let mut sample = Sample::default();
        let mut chosen: HashSet<StageIndex> = HashSet::new();
        let mut missed: BTreeMap<String, usize> = BTreeMap::new();
        for &at in order {
            let stage = &project.stages[at];
            if is_data(stage) {
                continue;
            }
            if stage.generated.is_some() && !sampled.contains(&at) {
                *missed.entry(template(stage)).or_default() += 1;
                continue;
            }
            let needs =
                graph.needs(at).iter().filter(|need| !chosen.contains(*need)).map(|need| &project.stages[*need]);
            let why = needs.filter_map(|need| {
                let is_missing = need.outs.iter().any(|out| !is_there(out));
                match (stage.generated.is_some() || is_data(need), is_missing) {
                    (true, false) => None,
                    (true, true) => Some(format!("what `{}` makes is not there", need.address)),
                    (false, _) => Some(format!("it needs `{}`, which is not done here", need.address)),
                }
            });
            match why.into_iter().next() {
                None => {
                    chosen.insert(at);
                    sample.chosen.push(at);
                }
                Some(why) => {
                    sample.left_out.entry(stage.address.0.clone()).or_insert(why);
                }
            }
        }
        for (template, number) in missed {
            let keys = crate::output::text::count(number, "more key");
            sample.left_out.insert(template, format!("{keys}, not in the sample"));
        }
        sample
    }
}

/// Whether a stage is never done here.
fn is_data(stage: &Stage) -> bool {
    stage.name.is_none() || stage.frozen
}

/// Some stages of each template, evenly.
fn sampled(project: &Project, order: &[StageIndex], keys: usize) -> HashSet<StageIndex> {
    let mut templates: BTreeMap<String, Vec<StageIndex>> = BTreeMap::new();
    for &at in order.iter().filter(|at| project.stages[**at].generated.is_some()) {
        templates.entry(template(&project.stages[at])).or_default().push(at);
    }
    let mut sampled = HashSet::new();
    for stages in templates.into_values() {
        let number = keys.min(stages.len());
        sampled.extend((0..number).map(|nth| stages[nth * stages.len() / number]));
    }
    sampled
}
