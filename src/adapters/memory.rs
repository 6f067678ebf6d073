//! The memory that the kernel lets this process and its children have, and what it ended for want of it.

use std::cell::{Cell, OnceCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file and the line in it that counts killed processes, and the file with the limit, by version of cgroups.
const VERSIONS: [(&str, &str, &str, &str); 2] = [
    ("/sys/fs/cgroup", "", "memory.events", "memory.max"),
    ("/sys/fs/cgroup/memory", "memory", "memory.oom_control", "memory.limit_in_bytes"),
];
/// What cgroups write for no limit is more than any machine has.
const NO_LIMIT: u64 = 1 << 60;

/// How old a count of the machine may be.
const RECENT: Duration = Duration::from_secs(1);
/// Where a kernel counts all processes that it ended for want of memory, of whatever group.
const OF_MACHINE: &str = "/proc/vmstat";

/// How many processes the kernel has ended so far because memory ran out, anywhere on this machine; `None` where it does not
/// tell.
pub(crate) fn kills_of_machine() -> Option<u64> {
    let text = fs::read_to_string(OF_MACHINE).ok()?;
    kills_in(&text)
}

/// The same as it was within the last second: the kernel counts a lot for it.
#[derive(Debug, Default)]
pub(crate) struct RecentKills(Cell<Option<(Instant, Option<u64>)>>);

impl RecentKills {
    pub(crate) fn of_machine(&self) -> Option<u64> {
        if let Some((when, kills)) = self.0.get()
            && when.elapsed() < RECENT
        {
            return kills;
        }
        let kills = kills_of_machine();
        self.0.set(Some((Instant::now(), kills)));
        kills
    }
}

/// The number of processes that were ended for want of memory, in the words of a control group or of the machine.
fn kills_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The control group that this process is in.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    events: PathBuf,
    /// The files with the limits of the group and of those that it is in.
    limits: Vec<PathBuf>,
    /// The lowest of them, once it was asked for.
    limit: OnceCell<Option<u64>>,
}

impl MemoryGroup {
    /// Returns the group; `None` where memory is not controlled.
    pub(crate) fn find() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        VERSIONS.into_iter().find_map(|(root, controller, events, limit)| {
            let path = groups.lines().find_map(|line| path_of(line, controller))?;
            // In a container its own group may be all that is mounted, though the path is that of the machine.
            let folders = [Path::new(root).join(path.trim_start_matches('/')), PathBuf::from(root)];
            let folder = folders.into_iter().find(|folder| folder.join(events).is_file())?;
            let limits = folder.ancestors().take_while(|outer| outer.starts_with(root)).map(|outer| outer.join(limit));
            Some(MemoryGroup { events: folder.join(events), limits: limits.collect(), limit: OnceCell::new() })
        })
    }

    /// How many processes the kernel ended so far because the group was out of memory.
    pub(crate) fn kills(&self) -> u64 {
        let text = fs::read_to_string(&self.events).unwrap_or_default();
        kills_in(&text).unwrap_or(0)
    }

    /// The most bytes that its processes had at a time; `None` where the kernel does not count them.
    pub(crate) fn peak(&self) -> Option<u64> {
        let folder = self.events.parent()?;
        let peaks = ["memory.peak", "memory.max_usage_in_bytes"].into_iter();
        peaks.filter_map(|name| fs::read_to_string(folder.join(name)).ok()).find_map(|text| text.trim().parse().ok())
    }

    /// The number of bytes that the processes of the group may have; `None` where nothing limits them.
    pub(crate) fn limit(&self) -> Option<u64> {
        *self.limit.get_or_init(|| {
            let limits = self.limits.iter().filter_map(|limit| fs::read_to_string(limit).ok()?.trim().parse().ok());
            limits.filter(|bytes| *bytes < NO_LIMIT).min()
        })
    }
}

/// The path in a line of `/proc/self/cgroup`, if it is of this controller.
fn path_of<'a>(line: &'a str, controller: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    controllers.split(',').any(|known| known == controller).then_some(path)
}

/// Writes a number of bytes as Kubernetes writes quantities.
pub(crate) fn quantity(bytes: u64) -> String {
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let whole = units.iter().find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size));
    whole.map_or_else(|| bytes.to_string(), |(size, unit)| format!("{}{unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_in_both_versions() {
        assert_eq!(path_of("0::/user.slice/a", ""), Some("/user.slice/a"));
        assert_eq!(path_of("4:memory:/kubepods/b", "memory"), Some("/kubepods/b"));
        assert_eq!(path_of("3:cpu,memory:/", "memory"), Some("/"));
        assert_eq!(path_of("1:name=systemd:/", "memory"), None);
    }

    #[test]
    fn the_lowest_limit_of_all_groups_around_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let limits = ["max\n", "4096\n", "8192\n", "9223372036854771712\n"].into_iter().enumerate();
        let limits: Vec<PathBuf> = limits
            .map(|(number, text)| {
                let file = folder.path().join(number.to_string());
                crate::adapters::fs::write(&file, text.as_bytes()).expect("a file");
                file
            })
            .collect();
        let group = |limits: &[PathBuf]| MemoryGroup {
            events: PathBuf::new(),
            limits: limits.to_vec(),
            limit: OnceCell::new(),
        };
        assert_eq!(group(&limits).limit(), Some(4096));
        assert_eq!(group(&[limits[0].clone(), limits[3].clone()]).limit(), None);
    }

    #[test]
    fn limits_are_written_as_they_were_given() {
        assert_eq!(
            [quantity(200 << 20), quantity(4 << 30), quantity(1536 << 20), quantity(1000)],
            ["200Mi", "4Gi", "1536Mi", "1000"]
        );
    }
}
