//! What is free on this machine, and which task takes it next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::local::LocalConfig;
use crate::model::event::Task;

/// How many work items may overtake one that waits for room.
const MAX_OVERTAKEN: u32 = 100;

/// How many slots are looked at to find one that nobody uses.
const MAX_SLOTS: usize = 10_000;

/// A task on its way, with what the engine knows of its attempts.
#[derive(Debug)]
pub(super) struct Waiting {
    pub task: Task,
    pub failures: u32,
    pub lost: u32,
    overtaken: u32,
}

impl Waiting {
    pub(super) fn new(task: Task) -> Self {
        Waiting { task, failures: 0, lost: 0, overtaken: 0 }
    }
}

/// What a running work item holds.
#[derive(Debug)]
pub(super) struct Held {
    pub slot: usize,
    cpus: f64,
    memory_mib: u64,
    pub gpus: Vec<String>,
    group: Option<String>,
}

/// What is free on this machine.
#[derive(Debug)]
pub(super) struct Room {
    /// The number of work items that may start.
    pub places: usize,
    /// The slots that the running ones use.
    used: BTreeSet<usize>,
    pub cpus: f64,
    memory_mib: u64,
    gpus: BTreeSet<String>,
    groups: BTreeMap<String, usize>,
}

impl Room {
    pub(super) fn new(config: &LocalConfig) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "numbers of slots are small")]
        let cpus = config.jobs as f64;
        Room {
            places: config.jobs,
            used: BTreeSet::new(),
            cpus,
            memory_mib: config.memory_mib,
            gpus: config.gpus.iter().cloned().collect(),
            groups: config.groups.clone(),
        }
    }

    /// Takes what a task asks for; what no machine of this size could give is cut to all that there is.
    fn take(&mut self, task: &Task, whole: &Room, is_taken: &dyn Fn(usize) -> bool) -> Option<Held> {
        let wanted = &task.resources;
        let cpus = wanted.cpus.unwrap_or(1.0).min(whole.cpus);
        let memory_mib = wanted.memory_mib.unwrap_or(0).min(whole.memory_mib);
        let gpus = usize::try_from(wanted.gpus.unwrap_or(0)).unwrap_or(usize::MAX).min(whole.gpus.len());
        let group = wanted.group.clone().filter(|group| self.groups.contains_key(group));
        let fits = self.places > 0
            && cpus <= self.cpus + f64::EPSILON
            && memory_mib <= self.memory_mib
            && gpus <= self.gpus.len()
            && group.as_ref().is_none_or(|group| self.groups[group] > 0);
        if !fits {
            return None;
        }
        let slot = (0..MAX_SLOTS).find(|slot| !self.used.contains(slot) && !is_taken(*slot))?;
        self.used.insert(slot);
        self.places -= 1;
        self.cpus -= cpus;
        self.memory_mib -= memory_mib;
        let gpus = (0..gpus).filter_map(|_| self.gpus.pop_first()).collect();
        if let Some(free) = group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            *free -= 1;
        }
        Some(Held { slot, cpus, memory_mib, gpus, group })
    }

    pub(super) fn give_back(&mut self, held: Held) {
        self.used.remove(&held.slot);
        self.places += 1;
        self.cpus += held.cpus;
        self.memory_mib += held.memory_mib;
        self.gpus.extend(held.gpus);
        if let Some(free) = held.group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            *free += 1;
        }
    }
}

/// Takes the first task that there is room for; one that was overtaken too often holds the others back.
pub(super) fn next(
    queue: &mut VecDeque<Waiting>,
    room: &mut Room,
    whole: &Room,
    is_taken: &dyn Fn(usize) -> bool,
) -> Option<(Waiting, Held)> {
    let mut at = 0;
    while at < queue.len() && room.places > 0 {
        if let Some(held) = room.take(&queue[at].task, whole, is_taken) {
            for overtaken in queue.iter_mut().take(at) {
                overtaken.overtaken += 1;
            }
            return queue.remove(at).map(|waiting| (waiting, held));
        }
        if queue[at].overtaken >= MAX_OVERTAKEN {
            return None;
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::local::tests::{config, task};
    use crate::model::run::Resources;

    #[test]
    fn what_does_not_fit_waits_and_gives_way() {
        let config = config(3);
        let (mut room, whole) = (Room::new(&config), Room::new(&config));
        let api = || Resources { group: Some("api".into()), ..Resources::default() };
        let big = Resources { memory_mib: Some(4000), gpus: Some(2), ..Resources::default() };
        let mut queue: VecDeque<Waiting> =
            [task(0, api(), None), task(1, api(), None), task(2, big.clone(), None), task(3, big, None)]
                .into_iter()
                .map(Waiting::new)
                .collect();
        let mut started = vec![];
        while let Some((waiting, held)) = next(&mut queue, &mut room, &whole, &|slot| slot == 1) {
            started.push((waiting.task.index.get(), held));
        }
        assert_eq!(
            started.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            [0, 2],
            "one of the group, one with all memory"
        );
        assert_eq!(started[1].1.gpus, ["0", "1"]);
        assert_eq!(started[1].1.slot, 2, "somebody else uses slot 1");
        started.into_iter().for_each(|(_, held)| room.give_back(held));
        assert_eq!(
            next(&mut queue, &mut room, &whole, &|_| false).map(|(waiting, _)| waiting.task.index.get()),
            Some(1)
        );
    }
}
