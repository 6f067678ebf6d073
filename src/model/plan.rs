//! From the stages that may run to phases of work items.
//!
//! A *level* is a stretch of the graph with only map or only shared stages: a shared stage that map stages need comes
//! before them, one that gathers map stages ends their level, and map stages behind it begin the next. Within a level
//! stages are grouped into *cells*, and the cells that nothing but one another needs are joined:
//!
//! | stages | cell |
//! |---|---|
//! | map | all of one key that do not wait for another key |
//! | shared | one stage |
//!
//! The depth of a cell among the cells of its level is its phase; every phase is a set of work items that do not need
//! one another. Whatever an item needs lies in an earlier phase.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::dvc::pipeline::stage_index::StageIndex;
use crate::model::run::PhaseKind;

/// The number of phases a level may have before cells that mostly wait for one another are joined.
const MAX_DEPTH: usize = 4;

/// Work items that may run at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    pub kind: PhaseKind,
    /// Whether no map stage comes after it, so that it is `finalize` that runs it.
    pub trailing: bool,
    /// The stages of each work item in the order of `dvc repro`; items in the order of their first stages.
    pub work_items: Vec<Vec<StageIndex>>,
}

/// What the plan has to know of a stage that may run.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub stage: StageIndex,
    /// The key of a map stage, `None` for a shared one.
    pub key: Option<String>,
    /// The stages that must be done before, of the project; those that are no candidates are done already.
    pub needs: Vec<StageIndex>,
}

/// Groups candidates, which come in the order of `dvc repro` (so after what they need), into phases. The shared stages that
/// are `last`, which nothing needs, come after all map stages.
pub(crate) fn phases(candidates: &[Candidate], last: &HashSet<StageIndex>) -> Vec<Phase> {
    let position: HashMap<StageIndex, usize> = candidates.iter().enumerate().map(|(at, c)| (c.stage, at)).collect();
    let needs: Vec<Vec<usize>> =
        candidates.iter().map(|c| c.needs.iter().filter_map(|need| position.get(need).copied()).collect()).collect();
    let mut levels = levels(candidates, &needs);
    let behind = levels.iter().max().map_or(0, |deepest| deepest - deepest % 2 + 2);
    for (at, _) in candidates.iter().enumerate().filter(|(_, candidate)| last.contains(&candidate.stage)) {
        levels[at] = behind;
    }
    let mut by_level: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, level) in levels.iter().enumerate() {
        by_level.entry(*level).or_default().push(at);
    }
    let mut phases = vec![];
    for (level, members) in by_level {
        let kind = if level % 2 == 0 { PhaseKind::Shared } else { PhaseKind::Map };
        let cells = Cells::of_level(candidates, &needs, &levels, &members);
        let work_item = |places: Vec<usize>| places.into_iter().map(|at| candidates[at].stage).collect();
        phases.extend(cells.into_phases().into_iter().map(|work_items| {
            let work_items = work_items.into_iter().map(work_item).collect();
            Phase { kind, trailing: false, work_items }
        }));
    }
    let last_map = phases.iter().rposition(|phase| phase.kind == PhaseKind::Map);
    for phase in phases.iter_mut().skip(last_map.map_or(0, |at| at + 1)) {
        phase.trailing = true;
    }
    phases
}

/// The level of each candidate: even for shared stages, odd for map stages.
fn levels(candidates: &[Candidate], needs: &[Vec<usize>]) -> Vec<usize> {
    let mut levels: Vec<usize> = Vec::with_capacity(candidates.len());
    for (at, candidate) in candidates.iter().enumerate() {
        let parity = usize::from(candidate.key.is_some());
        let above = |level: usize| if level % 2 == parity { level } else { level + 1 };
        let level = needs[at].iter().filter(|need| **need < at).map(|need| above(levels[*need])).max();
        levels.push(level.unwrap_or(parity));
    }
    levels
}

/// Groups of stages of one level and what they need of one another.
struct Cells {
    stages: Vec<Vec<usize>>,
    needs: Vec<Vec<usize>>,
}

impl Cells {
    fn of_level(candidates: &[Candidate], needs: &[Vec<usize>], levels: &[usize], members: &[usize]) -> Cells {
        let mut waits: HashMap<usize, usize> = HashMap::new();
        let mut cell_of: HashMap<usize, usize> = HashMap::new();
        let mut by_name: HashMap<(usize, &str), usize> = HashMap::new();
        let mut cells = Cells { stages: vec![], needs: vec![] };
        for &at in members {
            let inside = needs[at].iter().filter(|need| levels[**need] == levels[at] && **need < at);
            let wait = inside
                .clone()
                .map(|need| waits[need] + usize::from(candidates[*need].key != candidates[at].key))
                .max()
                .unwrap_or(0);
            waits.insert(at, wait);
            let new = cells.stages.len();
            let cell = match &candidates[at].key {
                Some(key) => *by_name.entry((wait, key)).or_insert(new),
                None => new,
            };
            if cell == new {
                cells.stages.push(vec![]);
                cells.needs.push(vec![]);
            }
            cells.stages[cell].push(at);
            cells.needs[cell].extend(inside.map(|need| cell_of[need]).filter(|need| *need != cell));
            cell_of.insert(at, cell);
        }
        cells.tidy();
        cells.join_chains();
        cells
    }

    fn tidy(&mut self) {
        for needs in &mut self.needs {
            needs.sort_unstable();
            needs.dedup();
        }
    }

    /// Joins a cell with the one that it needs where nothing else stands between: no parallelism is lost.
    fn join_chains(&mut self) {
        let mut needed_by = vec![0_usize; self.stages.len()];
        for need in self.needs.iter().flatten() {
            needed_by[*need] += 1;
        }
        let joins = |cell: usize, needs: &[usize]| match needs {
            [only] if needed_by[*only] == 1 => *only,
            _ => cell,
        };
        let parents: Vec<usize> = self.needs.iter().enumerate().map(|(cell, needs)| joins(cell, needs)).collect();
        self.join(&parents);
    }

    /// Joins each cell with its parent (itself where it stays).
    fn join(&mut self, parents: &[usize]) {
        let root = |mut cell: usize| {
            while parents[cell] != cell {
                cell = parents[cell];
            }
            cell
        };
        let mut number: HashMap<usize, usize> = HashMap::new();
        let mut joined = Cells { stages: vec![], needs: vec![] };
        let target: Vec<usize> = (0..parents.len())
            .map(|cell| {
                *number.entry(root(cell)).or_insert_with(|| {
                    joined.stages.push(vec![]);
                    joined.needs.push(vec![]);
                    joined.stages.len() - 1
                })
            })
            .collect();
        for (cell, stages) in std::mem::take(&mut self.stages).into_iter().enumerate() {
            let to = target[cell];
            joined.stages[to].extend(stages);
            joined.needs[to].extend(self.needs[cell].iter().map(|need| target[*need]).filter(|need| *need != to));
        }
        joined.stages.iter_mut().for_each(|stages| stages.sort_unstable());
        joined.tidy();
        *self = joined;
    }

    /// The longest way to each cell, weighed by `weight`, its own included.
    fn depths(&self, weight: impl Fn(usize) -> usize) -> Vec<usize> {
        let mut depths: Vec<Option<usize>> = vec![None; self.stages.len()];
        for start in 0..self.stages.len() {
            let mut stack = vec![start];
            while let Some(&cell) = stack.last() {
                if depths[cell].is_some() {
                    stack.pop();
                    continue;
                }
                let open = self.needs[cell].iter().copied().filter(|need| depths[*need].is_none());
                let before = stack.len();
                stack.extend(open);
                if stack.len() == before {
                    let longest = self.needs[cell].iter().filter_map(|need| depths[*need]).max();
                    depths[cell] = Some(longest.unwrap_or(0) + weight(cell));
                    stack.pop();
                }
            }
        }
        depths.into_iter().map(|depth| depth.expect("every cell was visited")).collect()
    }

    /// Joins the waiting cells of a deep level where they mostly run one after another anyway (a rolling window).
    fn join_windows(&mut self) {
        let depths = self.depths(|_| 1);
        if depths.iter().max().is_none_or(|deepest| *deepest <= MAX_DEPTH) {
            return;
        }
        let mut parents: Vec<usize> = (0..self.stages.len()).collect();
        let root = |parents: &[usize], mut cell: usize| {
            while parents[cell] != cell {
                cell = parents[cell];
            }
            cell
        };
        for cell in (0..self.stages.len()).filter(|cell| depths[*cell] > 1) {
            for need in self.needs[cell].iter().filter(|need| depths[**need] > 1) {
                let (a, b) = (root(&parents, cell), root(&parents, *need));
                parents[a.max(b)] = a.min(b);
            }
        }
        let longest = self.depths(|cell| if depths[cell] > 1 { self.stages[cell].len() } else { 0 });
        let mut size: HashMap<usize, (usize, usize)> = HashMap::new();
        for cell in (0..self.stages.len()).filter(|cell| depths[*cell] > 1) {
            let entry = size.entry(root(&parents, cell)).or_default();
            *entry = (entry.0 + self.stages[cell].len(), entry.1.max(longest[cell]));
        }
        let serial = |cell: usize| size.get(&root(&parents, cell)).is_some_and(|(stages, path)| *stages <= 2 * path);
        let parents: Vec<usize> =
            (0..self.stages.len()).map(|cell| if serial(cell) { parents[cell] } else { cell }).collect();
        self.join(&parents);
    }

    fn into_phases(mut self) -> Vec<Vec<Vec<usize>>> {
        self.join_windows();
        let mut phases: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
        for (cell, depth) in self.depths(|_| 1).into_iter().enumerate() {
            phases.entry(depth).or_default().push(std::mem::take(&mut self.stages[cell]));
        }
        let mut phases: Vec<_> = phases.into_values().collect();
        phases.iter_mut().for_each(|work_items| work_items.sort_unstable());
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvc::pipeline::stage_index::PerStage;

    /// Stages as `name@key` or `name`, each with what it needs; returns phases as `Map: a@1 b@1 | a@2`.
    #[track_caller]
    fn check(stages: &[(&str, &[&str])], want: &[&str]) {
        let place = |name: &str| stages.iter().position(|(other, _)| *other == name).expect("a stage of the test");
        let number = |name: &str| StageIndex::new(place(name));
        let candidates: Vec<Candidate> = stages
            .iter()
            .map(|(name, needs)| Candidate {
                stage: number(name),
                key: name.split_once('@').map(|(_, key)| key.to_owned()),
                needs: needs.iter().map(|need| number(need)).collect(),
            })
            .collect();
        let names: PerStage<&str> = stages.iter().map(|(name, _)| *name).collect();
        let got: Vec<String> = phases(&candidates, &HashSet::new())
            .into_iter()
            .map(|phase| {
                let items: Vec<String> = phase
                    .work_items
                    .iter()
                    .map(|item| item.iter().map(|stage| names[*stage]).collect::<Vec<_>>().join(" "))
                    .collect();
                format!("{:?}{}: {}", phase.kind, if phase.trailing { " trailing" } else { "" }, items.join(" | "))
            })
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn one_key_is_one_work_item_and_the_summary_comes_last() {
        check(
            &[("a@1", &[]), ("a@2", &[]), ("b@1", &["a@1"]), ("b@2", &["a@2"]), ("sum", &["b@1", "b@2"])],
            &["Map: a@1 b@1 | a@2 b@2", "Shared trailing: sum"],
        );
    }

    #[test]
    fn a_gathering_stage_ends_a_phase() {
        check(
            &[
                ("prep", &[]),
                ("a@1", &["prep"]),
                ("b@1", &[]),
                ("c", &["a@1", "b@1"]),
                ("d@1", &["c"]),
                ("e", &["d@1"]),
            ],
            &["Shared: prep", "Map: a@1 b@1", "Shared: c", "Map: d@1", "Shared trailing: e"],
        );
    }

    #[test]
    fn paired_keys_fall_into_successive_phases() {
        check(
            &[("f@1", &[]), ("f@2", &[]), ("c@1", &["f@1", "f@2"]), ("c@2", &["f@1", "f@2"])],
            &["Map: f@1 | f@2", "Map: c@1 | c@2"],
        );
    }

    #[test]
    fn a_pure_chain_of_keys_is_one_work_item() {
        check(&[("x@1", &[]), ("x@2", &["x@1"]), ("x@3", &["x@2"])], &["Map: x@1 x@2 x@3"]);
    }

    #[test]
    fn a_rolling_window_prepares_in_parallel_and_then_rolls() {
        check(
            &[
                ("p@1", &[]),
                ("p@2", &[]),
                ("p@3", &[]),
                ("p@4", &[]),
                ("p@5", &[]),
                ("p@6", &[]),
                ("x@1", &["p@1"]),
                ("x@2", &["p@2", "x@1"]),
                ("x@3", &["p@3", "x@2"]),
                ("x@4", &["p@4", "x@3"]),
                ("x@5", &["p@5", "x@4"]),
                ("x@6", &["p@6", "x@5"]),
            ],
            &["Map: p@1 x@1 | p@2 | p@3 | p@4 | p@5 | p@6", "Map: x@2 x@3 x@4 x@5 x@6"],
        );
    }

    #[test]
    fn a_finer_axis_follows_the_coarser_one() {
        check(
            &[("a@e", &[]), ("m@e-1", &["a@e"]), ("m@e-2", &["a@e"]), ("g@e", &["m@e-1", "m@e-2"])],
            &["Map: a@e", "Map: m@e-1 | m@e-2", "Map: g@e"],
        );
    }

    #[test]
    fn shared_chains_are_joined_and_branches_are_not() {
        check(
            &[("p", &[]), ("q", &["p"]), ("r", &["p"]), ("s", &["q", "r"]), ("t", &["s"])],
            &["Shared trailing: p", "Shared trailing: q | r", "Shared trailing: s t"],
        );
    }

    #[test]
    fn what_is_no_candidate_is_done_already() {
        let [stage, need] = [7, 3].map(StageIndex::new);
        let candidates = [Candidate { stage, key: Some("k".into()), needs: vec![need] }];
        assert_eq!(phases(&candidates, &HashSet::new())[0].work_items, vec![vec![stage]]);
    }

    #[test]
    fn what_is_last_comes_after_all_keys() {
        let [a, b, sum] = [0, 1, 2].map(StageIndex::new);
        let candidate = |stage, key: Option<&str>| Candidate { stage, key: key.map(str::to_owned), needs: vec![] };
        let candidates = [candidate(a, Some("1")), candidate(b, Some("2")), candidate(sum, None)];
        let kinds = |last: &[StageIndex]| -> Vec<(PhaseKind, bool)> {
            let phases = phases(&candidates, &last.iter().copied().collect());
            phases.iter().map(|phase| (phase.kind, phase.trailing)).collect()
        };
        assert_eq!(kinds(&[]), [(PhaseKind::Shared, false), (PhaseKind::Map, false)]);
        assert_eq!(kinds(&[sum]), [(PhaseKind::Map, false), (PhaseKind::Shared, true)]);
    }
}
