//! What the stages of an attempt used of what their process may use, and where Slurm ran it.

use crate::adapters::memory::MemoryGroup;
use crate::adapters::usage::children_cpu_seconds;
use crate::env;
use crate::model::run::{Resources, Usage};
use crate::state::format::SlurmTask;

/// What was used since this process's children had so many CPU seconds.
pub(super) fn of(group: Option<&MemoryGroup>, asked: &Resources, cpu_before: f64, seconds: f64) -> Usage {
    let limit = group.and_then(MemoryGroup::limit);
    // Without a limit of its own, the group may be that of much else.
    let peak = group.filter(|_| limit.is_some()).and_then(MemoryGroup::peak);
    let cpus = env::read_text(env::SLURM_CPUS_ON_NODE).and_then(|cpus| cpus.parse().ok());
    let hundredths = |seconds: f64| (seconds * 100.0).round() / 100.0;
    Usage {
        cpu_seconds: hundredths(children_cpu_seconds() - cpu_before).max(0.0),
        seconds: hundredths(seconds),
        cpus: cpus.or(asked.cpus),
        memory_mib: peak.map(|bytes| bytes >> 20),
        memory_limit_mib: limit.map(|bytes| bytes >> 20),
    }
}

/// The task that this process is; `None` outside of Slurm.
pub(super) fn slurm_task() -> Option<SlurmTask> {
    let text = env::read_text;
    Some(SlurmTask {
        job: text(env::SLURM_JOB_ID)?,
        array: text(env::SLURM_ARRAY_JOB_ID),
        task: text(env::SLURM_ARRAY_TASK_ID),
        restart: text(env::SLURM_RESTART_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0),
        node: text(env::SLURMD_NODENAME),
    })
}
