//! Which work items share a Job: those that ask for the same resources, retries and group.

use std::collections::BTreeMap;

use crate::engine::kubernetes::job::machine::Resources as PodResources;
use crate::engine::kubernetes::job::name::digest;
use crate::model::event::{Resources, Task};
use crate::model::quantity::Quantity;
use crate::model::shards::{ShardItem, Shards};

/// Work items that become one Job.
#[derive(Debug)]
pub(super) struct Class {
    /// Stands for what they ask for, the same whatever other classes there are; `None` where they ask for nothing.
    pub name: Option<String>,
    pub resources: PodResources,
    pub retries: Option<u32>,
    pub group: Option<String>,
    /// In order of their index.
    pub tasks: Vec<Task>,
}

impl Class {
    /// Deals its work items out.
    pub(super) fn shards(&self, workers: u32, retry_commands: bool) -> Shards {
        let items = self.tasks.iter().map(|task| ShardItem { index: task.index, attempt: task.attempt });
        Shards::deal(items.collect(), workers as usize, retry_commands)
    }
}

/// Splits the tasks of a phase into classes.
pub(super) fn split(tasks: Vec<Task>) -> Vec<Class> {
    let mut classes: BTreeMap<Option<String>, Class> = BTreeMap::new();
    for task in tasks {
        let name = class_name(&task.resources);
        let new = || Class {
            name: name.clone(),
            resources: pod_resources(&task.resources),
            retries: task.resources.retries,
            group: task.resources.group.clone(),
            tasks: vec![],
        };
        classes.entry(name.clone()).or_insert_with(new).tasks.push(task);
    }
    let mut classes: Vec<Class> = classes.into_values().collect();
    for class in &mut classes {
        class.tasks.sort_unstable_by_key(|task| task.index);
    }
    classes
}

/// A worker keeps to an item's timeout by itself, so that does not tell classes apart.
fn class_name(resources: &Resources) -> Option<String> {
    let Resources { cpus, memory_mib, gpus, timeout: _, retries, group } = resources;
    let asked = (cpus, memory_mib, gpus, retries, group);
    if asked == (&None, &None, &None, &None, &None) {
        return None;
    }
    Some(digest(&format!("{asked:?}")).chars().take(6).collect())
}

fn pod_resources(resources: &Resources) -> PodResources {
    let quantity = |text: String| Quantity::parse(&text).ok();
    PodResources {
        cpus: resources.cpus.and_then(|cpus| quantity(cpus.to_string())),
        memory: resources.memory_mib.and_then(|memory| quantity(format!("{memory}Mi"))),
        gpus: resources.gpus.unwrap_or(0),
        ..PodResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(index: usize, cpus: Option<f64>) -> Task {
        let resources = Resources { cpus, ..Resources::default() };
        Task { index, id: index.to_string(), attempt: 1, resources, expected_seconds: None }
    }

    #[test]
    fn work_items_that_ask_for_the_same_share_a_class() {
        let classes = split(vec![task(2, None), task(1, Some(4.0)), task(0, None), task(3, Some(0.5))]);
        let shown: Vec<(Option<&str>, Vec<usize>)> = classes
            .iter()
            .map(|class| {
                (class.resources.cpus.as_ref().map(Quantity::as_str), class.tasks.iter().map(|t| t.index).collect())
            })
            .collect();
        assert_eq!(shown[0], (None, vec![0, 2]));
        assert!(shown.contains(&(Some("4"), vec![1])) && shown.contains(&(Some("0.5"), vec![3])), "{shown:?}");
        let alone = split(vec![task(1, Some(4.0))]);
        assert!(classes.iter().any(|class| class.name == alone[0].name), "a class keeps its name beside others");
    }
}
