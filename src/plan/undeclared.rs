//! Data of `.dvc` files and outs of other stages that commands name although their stages do not declare them.
//!
//! Under `dvc repro` a command finds whatever is there at its turn. What no stage of the run makes is there all the time:
//! workspaces have it as a link into the project, as they have what git ignores. Of what the run itself makes, nobody knows
//! whether it is there in time; that is said before anything runs.
//!
//! It is a guess by the words of commands, and of scripts that they name. Who lists a folder, or makes a path of parts, is not
//! understood.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use super::{Situation, head_start, survey};
use crate::dvc::changed::Outlook;
use crate::dvc::pipeline::path::{self, is_within};
use crate::dvc::pipeline::stage::{Out, Stage};
use crate::dvc::pipeline::stage_index::{PerStage, StageIndex};
use crate::model::making;
use crate::model::plan::{Candidate, Phase};
use crate::output::text;

/// The number of stages of one template whose commands are looked at, unless they name something of the kind.
const OF_TEMPLATE: usize = 8;
/// The number of scripts that are looked at.
const MAX_SCRIPTS: usize = 64;
/// The most outs in a folder for which that folder is linked out by out, where a command names it.
const MAX_BELOW: usize = 64;
/// The most that are named one by one.
const SHOWN: usize = 3;

/// What commands name.
#[derive(Debug, Default)]
pub(super) struct Undeclared {
    /// What is there all the time, relative to the project's root.
    pub there: BTreeSet<String>,
    /// What stages of the run make, by template that names it.
    made: BTreeMap<String, Made>,
    /// The stages that may read what a stage before them makes in the run: they name it, or a folder that it is in.
    readers: HashSet<StageIndex>,
}

/// What a stage of the run makes, and another one names.
#[derive(Debug)]
struct Made {
    stage: String,
    path: String,
    maker: String,
    /// Whether `dvc repro` runs the maker after the stage that names it.
    is_after: bool,
}

impl Undeclared {
    /// Looks at the commands of all stages that run in workspaces.
    pub(super) fn find(situation: &Situation<'_>, phases: &[Phase]) -> Undeclared {
        let mut looking = Looking::new(situation, phases);
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut rest: Vec<StageIndex> = vec![];
        // With each, whether it is run: what else names a path may not read it.
        let mut texts: VecDeque<(StageIndex, String, bool)> = VecDeque::new();
        for &stage in looking.item_of.keys().collect::<BTreeSet<_>>() {
            let count = counts.entry(survey::template(&situation.project.stages[stage])).or_default();
            *count += 1;
            if *count > OF_TEMPLATE {
                rest.push(stage);
            } else {
                texts.extend(commands(situation, stage).map(|text| (stage, text.to_owned(), true)));
            }
        }
        let (mut tried, mut hits) = (HashSet::new(), HashSet::new());
        while let Some((stage, text, is_run)) = texts.pop_front() {
            let definition = &situation.project.stages[stage];
            if looking.text(stage, &text, is_run) {
                hits.insert(survey::template(definition));
            }
            for word in making::paths(&text) {
                let script = looking.resolve(definition, word);
                let is_ours = situation.work_tree.has(&path::join(situation.prefix, &script));
                let is_of_dvc = path::is_stage_file(&script) || path::file_name(&script) == "dvc.lock";
                if is_ours && !is_of_dvc && tried.len() < MAX_SCRIPTS && tried.insert(script.clone()) {
                    let text = head_start::read(situation, &script);
                    texts.extend(text.map(|text| (stage, text, is_run && !is_data(&script))));
                }
            }
        }
        for stage in
            rest.into_iter().filter(|stage| hits.contains(&survey::template(&situation.project.stages[*stage])))
        {
            for text in commands(situation, stage) {
                looking.text(stage, text, true);
            }
        }
        looking.found
    }

    /// The shared stages that may read what they do not declare and that can come last, as under `dvc repro`: after all map
    /// stages in its order, which `candidates` have, and needed by none.
    pub(super) fn last(&self, candidates: &[Candidate]) -> HashSet<StageIndex> {
        let Some(last_map) = candidates.iter().rposition(|candidate| candidate.key.is_some()) else {
            return HashSet::new();
        };
        let needed: HashSet<StageIndex> = candidates.iter().flat_map(|candidate| &candidate.needs).copied().collect();
        let behind = candidates[last_map + 1..].iter().map(|candidate| candidate.stage);
        behind.filter(|stage| self.readers.contains(stage) && !needed.contains(stage)).collect()
    }

    /// Says which outs commands name that will not be there.
    pub(super) fn tell(&self) {
        for Made { stage, path, maker, is_after } in self.made.values().take(SHOWN) {
            text::note(&if *is_after {
                format!(
                    "stage `{stage}` names `{path}`, which stage `{maker}` makes anew after it: what is there now is not in the \
                     workspace"
                )
            } else {
                format!(
                    "stage `{stage}` names `{path}` and does not declare it: stage `{maker}` makes it in this run, so it is \
                     not in the workspace (add it to `deps`)"
                )
            });
        }
        let others = self.made.len().saturating_sub(SHOWN);
        if others > 0 {
            text::note(&format!("so do stages of {}", text::count(others, "other template")));
        }
    }
}

fn commands<'a>(situation: &Situation<'a>, stage: StageIndex) -> impl Iterator<Item = &'a str> {
    situation.project.stages[stage].cmd.iter().flat_map(head_start::texts)
}

struct Looking<'a> {
    situation: &'a Situation<'a>,
    root: String,
    /// All outs of the project, each with its stage.
    outs: BTreeMap<&'a str, (StageIndex, &'a Out)>,
    /// The work item of each stage that runs in a workspace, as phase and place in it.
    item_of: HashMap<StageIndex, (usize, usize)>,
    /// The stages of the run that make their outs, wherever they run.
    makers: HashSet<StageIndex>,
    /// The place of each stage in the order of `dvc repro`.
    places: PerStage<usize>,
    found: Undeclared,
}

impl<'a> Looking<'a> {
    fn new(situation: &'a Situation<'a>, phases: &[Phase]) -> Looking<'a> {
        let mut outs = BTreeMap::new();
        for (at, stage) in situation.project.stages.indexed() {
            let own = stage.outs.iter().filter_map(|out| Some((out.resolved.as_deref()?, (at, out))));
            outs.extend(own.filter(|(path, _)| path::is_inside(path)));
        }
        let (mut item_of, mut makers) = (HashMap::new(), HashSet::new());
        for (number, phase) in phases.iter().enumerate() {
            for (at, item) in phase.work_items.iter().enumerate() {
                let records = |stage: &&StageIndex| {
                    let forecast = situation.changes.forecasts[**stage].as_ref();
                    forecast.is_some_and(|forecast| matches!(forecast.outlook, Outlook::Record))
                };
                makers.extend(item.iter().filter(|stage| !records(stage)).copied());
                // The last ones run in the project itself.
                let in_workspace = item.iter().filter(|_| !phase.trailing);
                item_of.extend(in_workspace.map(|stage| (*stage, (number, at))));
            }
        }
        let mut places = situation.project.stages.filled(0);
        for (place, stage) in situation.graph.order().into_iter().enumerate() {
            places[stage] = place;
        }
        let root = situation.home.root.to_string_lossy().into_owned();
        Looking { situation, root, outs, item_of, makers, places, found: Undeclared::default() }
    }

    fn resolve(&self, stage: &Stage, word: &str) -> String {
        path::resolve(&self.root, &stage.wdir, word)
    }

    /// Looks at the words of a text that a stage runs, or of one that this names; returns whether it names something
    /// undeclared.
    fn text(&mut self, stage: StageIndex, text: &str, is_run: bool) -> bool {
        let definition = &self.situation.project.stages[stage];
        let mut has_any = false;
        for word in making::paths(text) {
            let path = self.resolve(definition, word);
            if !path::is_inside(&path) || path.is_empty() {
                continue;
            }
            // A bare word may be anything.
            let is_path = is_run && word.contains(['/', '.']);
            let own = definition.outs.iter().filter_map(|out| out.resolved.as_deref());
            // Then it is named for what goes into it.
            let has_own = own.into_iter().any(|own| is_within(own, &path));
            for (out, maker) in self.named(&path) {
                if maker != stage && !is_declared(definition, out) {
                    let is_in_it = out.len() > path.len();
                    has_any |= self.take(stage, out, maker, is_path && !(is_in_it && has_own), is_in_it);
                }
            }
        }
        has_any
    }

    /// The outs that a path names: itself, one that it lies in, or those in it.
    fn named(&self, path: &str) -> Vec<(&'a str, StageIndex)> {
        let at = path::at_and_above(path).find_map(|path| self.outs.get_key_value(path));
        if let Some((out, (maker, _))) = at {
            return vec![(out, *maker)];
        }
        let below = format!("{path}/");
        let below = self
            .outs
            .range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded))
            .take_while(|(out, _)| out.starts_with(below.as_str()));
        let below: Vec<_> = below.take(MAX_BELOW + 1).map(|(out, (maker, _))| (*out, *maker)).collect();
        if below.len() > MAX_BELOW { vec![] } else { below }
    }

    /// Notes an out that a stage names, by itself or by a folder that it is in; returns whether there is something to note.
    fn take(&mut self, stage: StageIndex, out: &'a str, maker: StageIndex, is_path: bool, is_in_it: bool) -> bool {
        let (project, root) = (self.situation.project, &self.situation.home.root);
        if !self.makers.contains(&maker) {
            let is_cached = self.outs.get(out).is_some_and(|(_, out)| out.cache);
            let in_git = self.situation.work_tree.has(&path::join(self.situation.prefix, out));
            return is_cached && !in_git && root.join(out).exists() && {
                self.found.there.insert(out.to_owned());
                true
            };
        }
        // In one work item, stages run in their order.
        let together = self.item_of.get(&stage) == self.item_of.get(&maker) && maker < stage;
        if self.places[maker] < self.places[stage] {
            self.found.readers.insert(stage);
        }
        if !is_path || together {
            return false;
        }
        // Under `dvc repro` nothing but an earlier run's is there, and a folder is mostly named for what goes into it.
        let is_after = self.places[maker] > self.places[stage];
        if is_after && (is_in_it || !root.join(out).exists()) {
            return false;
        }
        let address = |stage: StageIndex| project.stages[stage].address.0.clone();
        let made = Made { stage: address(stage), path: out.to_owned(), maker: address(maker), is_after };
        self.found.made.entry(survey::template(&project.stages[stage])).or_insert(made);
        true
    }
}

/// Whether a text is no program, such as params or settings with the paths of all keys.
fn is_data(path: &str) -> bool {
    let extension = path::file_name(path).rsplit_once('.').map(|(_, extension)| extension);
    matches!(
        extension,
        Some("yaml" | "yml" | "toml" | "json" | "jsonl" | "ini" | "cfg" | "md" | "rst" | "txt" | "csv" | "tsv")
    )
}

/// Whether a stage has something at, in or above a path as a dep or an out.
fn is_declared(stage: &Stage, path: &str) -> bool {
    let deps = stage.deps.iter().filter_map(|dep| dep.resolved.as_deref());
    let outs = stage.outs.iter().filter_map(|out| out.resolved.as_deref());
    let params = stage.params.iter().map(|params| params.resolved.as_str());
    deps.chain(outs).chain(params).any(|own| is_within(own, path) || is_within(path, own))
}
