//! What a cluster keeps to, and what it would take and never run. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::engine::slurm::args::Args;

/// What the cluster keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Tasks of an array.
    pub array_size: usize,
    /// How long a task has between TERM and KILL.
    pub kill_wait: Duration,
    pub has_accounting: bool,
    pub confines_memory: bool,
    /// Nodes of the partition, as far as that is known.
    pub nodes: usize,
}

impl Limits {
    /// Reads them from the controller's configuration; what is not said is as Slurm has it by default.
    pub(super) fn of(configuration: &BTreeMap<String, String>) -> Limits {
        let number =
            |key: &str| configuration.get(key).and_then(|value| value.split(' ').next()?.parse::<usize>().ok());
        let parameters = configuration.get("SchedulerParameters").map_or("", String::as_str);
        let tasks = parameters.split(',').find_map(|word| word.strip_prefix("max_array_tasks=")?.parse::<usize>().ok());
        let jobs = number("MaxJobCount").unwrap_or(10_000);
        let array_size = number("MaxArraySize").unwrap_or(1001).min(tasks.unwrap_or(usize::MAX)).min(jobs / 2).max(1);
        let is = |key: &str, words: &[&str]| {
            configuration.get(key).is_some_and(|value| words.iter().any(|word| value.contains(word)))
        };
        Limits {
            array_size,
            kill_wait: Duration::from_secs(number("KillWait").unwrap_or(30) as u64),
            has_accounting: is("AccountingStorageType", &["slurmdbd"]),
            confines_memory: is("TaskPlugin", &["cgroup"]),
            nodes: usize::MAX,
        }
    }

    /// Takes in what there is of the partition, and refuses what `sbatch` would take and Slurm would never run.
    pub(super) fn look_at(&mut self, partitions: &[BTreeMap<String, String>], args: &Args) -> Result<(), Diagnostic> {
        // A list of partitions, or one that only a plugin of the site knows: Slurm decides.
        let Some(partition) = partition_of(partitions, args) else { return Ok(()) };
        if let Some(nodes) = partition.get("TotalNodes").and_then(|nodes| nodes.parse().ok()) {
            self.nodes = nodes;
        }
        check(partition, args)
    }
}

/// The partition that is asked for, else the cluster's default.
fn partition_of<'a>(partitions: &'a [BTreeMap<String, String>], args: &Args) -> Option<&'a BTreeMap<String, String>> {
    let wanted = |partition: &&BTreeMap<String, String>| match &args.partition {
        Some(name) => partition.get("PartitionName") == Some(name),
        None => partition.get("Default").is_some_and(|value| value == "YES"),
    };
    partitions.iter().find(wanted)
}

fn check(partition: &BTreeMap<String, String>, args: &Args) -> Result<(), Diagnostic> {
    let value = |key: &str| partition.get(key).map_or("", String::as_str);
    let name = value("PartitionName");
    if value("State") == "DOWN" || value("State") == "INACTIVE" {
        return Err(Diagnostic::tool(format!("partition `{name}` is {}", value("State").to_lowercase()))
            .hint("name another with `--partition`, or wait until the site has it up"));
    }
    let asked = args.time.as_deref().and_then(minutes);
    if let (Some(asked), Some(most)) = (asked, minutes(value("MaxTime")))
        && asked > most
    {
        return Err(Diagnostic::usage(format!("partition `{name}` does not run tasks for so long"))
            .cause(format!("it allows {most} min, `--time` asks for {asked} min")));
    }
    for (flag, asked, key) in [("account", &args.account, "AllowAccounts"), ("qos", &args.qos, "AllowQos")] {
        let allowed = value(key);
        if let Some(asked) = asked.as_ref().filter(|_| !matches!(allowed, "" | "ALL"))
            && !allowed.split(',').any(|allowed| allowed == asked)
        {
            return Err(Diagnostic::usage(format!("partition `{name}` is not for `--{flag}={asked}`"))
                .cause(format!("it is for {allowed}")));
        }
    }
    Ok(())
}

/// The minutes of a time as Slurm writes it, or as we do.
fn minutes(text: &str) -> Option<u64> {
    if let Ok(minutes) = text.parse::<u64>() {
        return Some(minutes);
    }
    if text.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return text.parse::<crate::model::duration::Limit>().ok().map(|limit| limit.seconds().div_ceil(60));
    }
    let (days, rest) = text.split_once('-').map_or((0, text), |(days, rest)| (days.parse().unwrap_or(0), rest));
    let has_days = text.contains('-');
    let parts: Vec<u64> = rest.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let rest = match (has_days, parts.as_slice()) {
        (true, [hours]) => hours * 60,
        (true, [hours, minutes] | [hours, minutes, _]) => hours * 60 + minutes,
        (false, [minutes, seconds]) => minutes + seconds.div_ceil(60),
        (false, [hours, minutes, _]) => hours * 60 + minutes,
        _ => return None,
    };
    Some(days * 24 * 60 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(text: &str) -> BTreeMap<String, String> {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
    }

    #[test]
    fn limits_are_those_of_the_cluster() {
        let limits = Limits::of(&configuration(
            "MaxArraySize = 1001\nMaxJobCount = 50\nKillWait = 5 sec\nTaskPlugin = task/cgroup\nSchedulerParameters = a,max_array_tasks=20",
        ));
        let (array_size, kill_wait) = (20, Duration::from_secs(5));
        assert_eq!(
            limits,
            Limits { array_size, kill_wait, has_accounting: false, confines_memory: true, nodes: usize::MAX }
        );
        assert_eq!(Limits::of(&BTreeMap::new()).array_size, 1001);
    }

    #[test]
    fn times_of_slurm_are_read() {
        let all = [("90", 90), ("1-12:00:00", 2160), ("2:30", 3), ("1:30:00", 90), ("1-6", 1800), ("36h", 2160)];
        for (text, wanted) in all {
            assert_eq!(minutes(text), Some(wanted), "{text}");
        }
        assert_eq!((minutes("UNLIMITED"), minutes("NONE")), (None, None));
    }

    #[test]
    fn what_never_runs_is_refused() {
        let partitions = [
            configuration("PartitionName=main\nDefault=YES\nState=UP\nMaxTime=UNLIMITED"),
            configuration("PartitionName=short\nDefault=NO\nState=UP\nMaxTime=00:01:00"),
            configuration("PartitionName=closed\nDefault=NO\nState=DOWN\nMaxTime=UNLIMITED"),
        ];
        let check = |partition: Option<&str>, time: Option<&str>| {
            let (partition, time) = (partition.map(str::to_owned), time.map(str::to_owned));
            let args = Args { partition, time, ..Args::default() };
            Limits::of(&BTreeMap::new()).look_at(&partitions, &args).is_ok()
        };
        assert!(check(None, Some("1-0")) && check(Some("short"), Some("1")) && check(Some("other"), None));
        assert!(!check(Some("short"), Some("2")) && !check(Some("closed"), None));
        let partitions = [configuration("PartitionName=main\nDefault=YES\nState=UP\nAllowAccounts=a,b\nTotalNodes=3")];
        let look = |account: &str| {
            let mut limits = Limits::of(&BTreeMap::new());
            let args = Args { account: Some(account.to_owned()), ..Args::default() };
            limits.look_at(&partitions, &args).map(|()| limits.nodes).ok()
        };
        assert_eq!((look("a"), look("c")), (Some(3), None));
    }
}
