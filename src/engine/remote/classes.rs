//! Which work items share a Job: those that ask for the same resources, retries and group.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::engine::remote::shards::deal;
use crate::model::event::Task;
use crate::model::run::Resources;
use crate::state::shards::{ShardItem, Shards};

/// Work items that become one Job.
#[derive(Debug)]
pub(crate) struct Class {
    /// What each of them asks for; the timeout is each one's own.
    pub resources: Resources,
    /// In order of their index.
    pub tasks: Vec<Task>,
}

impl Class {
    /// Deals its work items out.
    pub(crate) fn shards(&self, workers: usize, retry_commands: bool) -> Shards {
        let items = self.tasks.iter().map(|task| ShardItem { index: task.index, attempt: task.attempt });
        deal(items.collect(), workers, retry_commands)
    }
}

/// Splits the tasks of a phase into classes.
pub(crate) fn split(tasks: Vec<Task>) -> Vec<Class> {
    let mut classes: BTreeMap<Option<String>, Class> = BTreeMap::new();
    for task in tasks {
        let new = || Class { resources: Resources { timeout: None, ..task.resources.clone() }, tasks: vec![] };
        classes.entry(class_name(&task.resources)).or_insert_with(new).tasks.push(task);
    }
    let mut classes: Vec<Class> = classes.into_values().collect();
    for class in &mut classes {
        class.tasks.sort_unstable_by_key(|task| task.index);
    }
    classes
}

/// Stands for what the work items of a class ask for, the same whatever other classes there are; `None` where they ask for
/// nothing. A worker keeps to an item's timeout by itself, so that does not tell classes apart.
///
/// Jobs are found again by the names that are made of this, also by later releases: what is digested is spelled
/// `(Some(0.5), Some(4096), None, Some(2), Some("api"))` for ever.
pub(crate) fn class_name(resources: &Resources) -> Option<String> {
    let Resources { cpus, memory_mib, gpus, timeout: _, retries, group, keep_running: _, slurm } = resources;
    let asked = [
        cpus.map(decimal),
        memory_mib.map(|mib| mib.to_string()),
        gpus.map(|gpus| gpus.to_string()),
        retries.map(|retries| retries.to_string()),
        group.as_deref().map(quoted),
    ];
    if asked.iter().all(Option::is_none) && slurm.is_empty() {
        return None;
    }
    let spelled = asked.map(|value| value.map_or_else(|| "None".to_owned(), |value| format!("Some({value})")));
    let options = slurm.iter().fold(String::new(), |all, (name, value)| format!("{all}, {name}={}", quoted(value)));
    Some(digest(&format!("({}{options})", spelled.join(", "))).chars().take(6).collect())
}

/// A number with a decimal point.
fn decimal(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.1}") } else { number.to_string() }
}

/// A text in double quotes, with a backslash before what would end it.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| if c == '\'' { c.to_string() } else { c.escape_debug().to_string() });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Returns a text's SHA-256 in hex.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::numbers::{AttemptNumber, ItemIndex};

    fn task(index: usize, cpus: Option<f64>) -> Task {
        let resources = Resources { cpus, ..Resources::default() };
        Task {
            index: ItemIndex::new(index),
            id: index.to_string(),
            attempt: AttemptNumber::FIRST,
            resources,
            expected_seconds: None,
        }
    }

    #[test]
    fn work_items_that_ask_for_the_same_share_a_class() {
        let classes = split(vec![task(2, None), task(1, Some(4.0)), task(0, None), task(3, Some(0.5))]);
        let shown: Vec<(Option<f64>, Vec<usize>)> = classes
            .iter()
            .map(|class| (class.resources.cpus, class.tasks.iter().map(|t| t.index.get()).collect()))
            .collect();
        assert_eq!(shown[0], (None, vec![0, 2]));
        assert!(shown.contains(&(Some(4.0), vec![1])) && shown.contains(&(Some(0.5), vec![3])), "{shown:?}");
        let alone = split(vec![task(1, Some(4.0))]);
        assert!(
            classes.iter().any(|class| class_name(&class.resources) == class_name(&alone[0].resources)),
            "a class keeps its name beside others"
        );
    }
    #[test]
    fn a_class_is_called_the_same_in_every_release() {
        #[track_caller]
        fn check(resources: &Resources, name: Option<&str>) {
            assert_eq!(class_name(resources).as_deref(), name, "{resources:?}");
        }
        check(&Resources::default(), None);
        check(&Resources { timeout: Some(std::time::Duration::from_secs(1)), ..Resources::default() }, None);
        check(&Resources { cpus: Some(4.0), ..Resources::default() }, Some("a2e907"));
        let group = Some("api".to_owned());
        check(&Resources { memory_mib: Some(100), group, ..Resources::default() }, Some("a007e9"));
        let group = Some("a\"p\\i é".to_owned());
        let all = Resources {
            cpus: Some(0.5),
            memory_mib: Some(4096),
            gpus: Some(1),
            timeout: None,
            retries: Some(2),
            group,
            keep_running: Some(true),
            slurm: std::collections::BTreeMap::new(),
        };
        check(&all, Some("74ed63"));
        let on = |partition: &str| Resources {
            slurm: [("partition".to_owned(), partition.to_owned())].into(),
            ..Resources::default()
        };
        assert!(class_name(&on("gpu")).is_some_and(|name| Some(name) != class_name(&on("cpu"))));
    }
}
