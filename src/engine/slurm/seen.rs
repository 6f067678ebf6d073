//! What `squeue` says of array tasks, and what its states and reasons mean. Pure.

use crate::engine::slurm::array;
use crate::model::run::Ending;

/// The columns that are asked for: array, index, the task's own id, state, reason, node, name, comment.
pub(super) const FORMAT: &str = "%F|%K|%A|%T|%r|%B|%j|%k";

/// A line of `squeue`: one task that runs or ended, or several that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub array: u64,
    pub indexes: Vec<usize>,
    pub state: State,
    pub reason: String,
    /// Where it runs or ran; `None` where it never did.
    pub node: Option<String>,
    pub name: String,
    pub comment: String,
}

/// Where a task is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Running,
    Ended(End),
    /// A state that this release does not know: something goes on.
    Unknown,
}

/// How Slurm says that a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Failed,
    /// Its node could not start it, or its worker was killed.
    LaunchFailed,
    TimedOut,
    OutOfMemory,
    Cancelled,
    NodeFailed,
    DeadlinePassed,
    /// Slurm does not know it any more.
    Forgotten,
}

/// What keeps a task from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Its turn will come.
    Turn,
    /// The site has to do something, and may.
    Site,
    /// It never runs as it is.
    Never,
    /// The user holds it.
    HeldByUser,
    HeldByAdmin,
    /// Its node could not start it; it goes on once it is released.
    RequeuedHeld,
    Unknown,
}

/// Reads what `squeue` printed; lines that are none of its are left out.
pub(super) fn parse(text: &str) -> Vec<Line> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Line> {
    let mut parts = text.splitn(8, '|');
    let mut next = || parts.next();
    let (array, indexes, _task, state, reason) = (next()?, next()?, next()?, next()?, next()?);
    let (node, name, comment) = (next()?, next()?, next()?);
    Some(Line {
        array: array.parse().ok()?,
        indexes: array::parse(indexes).unwrap_or_default(),
        state: state_of(state, reason),
        reason: reason.to_owned(),
        node: Some(node).filter(|node| is_node(node)).map(str::to_owned),
        name: name.to_owned(),
        comment: comment.to_owned(),
    })
}

/// Whether a text is the name of a node, and not what Slurm writes where there is none.
fn is_node(text: &str) -> bool {
    let known = !matches!(text, "" | "n/a" | "N/A" | "(null)" | "None");
    known && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// The meaning of a state's long name.
pub(super) fn state_of(state: &str, reason: &str) -> State {
    match state {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT" => State::Waiting,
        // A task that completes may yet turn out to have failed.
        "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "SIGNALING" | "STAGE_OUT" | "RESIZING" | "STOPPED" => {
            State::Running
        }
        "COMPLETED" => State::Ended(End::Completed),
        "FAILED" if reason == "JobLaunchFailure" || reason.starts_with("RaisedSignal") => {
            State::Ended(End::LaunchFailed)
        }
        "FAILED" => State::Ended(End::Failed),
        "TIMEOUT" => State::Ended(End::TimedOut),
        "OUT_OF_MEMORY" => State::Ended(End::OutOfMemory),
        "CANCELLED" => State::Ended(End::Cancelled),
        "NODE_FAIL" | "BOOT_FAIL" | "REVOKED" => State::Ended(End::NodeFailed),
        "DEADLINE" => State::Ended(End::DeadlinePassed),
        // `PREEMPTED` among them: with `--requeue` such a task waits again a moment later.
        _ => State::Unknown,
    }
}

/// What a reason for waiting means.
pub(super) fn obstacle(reason: &str) -> Obstacle {
    let is_limit_that_frees_itself =
        (reason.starts_with("QOSMax") && reason.contains("PerUser")) || (reason.starts_with("AssocGrp"));
    match reason {
        "launch failed requeued held" | "job requeued in held state" => Obstacle::RequeuedHeld,
        "JobHeldUser" => Obstacle::HeldByUser,
        "JobHeldAdmin" => Obstacle::HeldByAdmin,
        "None"
        | "Priority"
        | "Resources"
        | "JobArrayTaskLimit"
        | "Dependency"
        | "BeginTime"
        | "Licenses"
        | "Reservation"
        | "Cleaning"
        | "Prolog"
        | "ReqNodeNotAvail, Reserved for maintenance" => Obstacle::Turn,
        "PartitionTimeLimit"
        | "PartitionNodeLimit"
        | "PartitionConfig"
        | "BadConstraints"
        | "AccountNotAllowed"
        | "QOSNotAllowed"
        | "InvalidAccount"
        | "InvalidQOS"
        | "MaxMemPerLimit"
        | "DependencyNeverSatisfied" => Obstacle::Never,
        "PartitionDown" | "PartitionInactive" | "NodeDown" => Obstacle::Site,
        _ if reason.contains("MinutesLimit") || reason.contains("MaxWall") || reason.contains("PerJob") => {
            Obstacle::Never
        }
        _ if reason.starts_with("Nodes required for job are DOWN") || reason.starts_with("ReqNodeNotAvail") => {
            Obstacle::Site
        }
        _ if is_limit_that_frees_itself => Obstacle::Turn,
        _ => Obstacle::Unknown,
    }
}

/// Says in words what tasks wait for.
pub(super) fn explanation(reason: &str) -> &'static str {
    match reason {
        "None" | "Priority" => "others come first",
        "Resources" => "no node is free that has what they ask for",
        "JobArrayTaskLimit" => "as many run as `--jobs` allows",
        "Dependency" => "they come after others",
        "BeginTime" => "Slurm starts them again in a moment",
        "Licenses" => "the licenses are in use",
        "PartitionTimeLimit" => "the partition does not allow so long a time limit (`--time`)",
        "PartitionNodeLimit" | "PartitionConfig" | "BadConstraints" => "no node of the partition has what they ask for",
        "AccountNotAllowed" | "InvalidAccount" => "the account may not be used here (`--account`)",
        "QOSNotAllowed" | "InvalidQOS" => "the quality of service may not be used here (`--qos`)",
        "PartitionDown" | "PartitionInactive" => "the partition is down",
        "JobHeldUser" => "they are held; `scontrol release` lets them go on",
        "JobHeldAdmin" => "an administrator holds them",
        _ if reason.starts_with("Nodes required") || reason.starts_with("ReqNodeNotAvail") => {
            "nodes are down or reserved"
        }
        _ if reason.starts_with("QOS") || reason.starts_with("Assoc") => "a limit of the site is reached",
        _ => "Slurm gives no more than this reason",
    }
}

/// Says in a few words how the tasks of an array stand.
pub(super) fn summary(lines: &[&Line]) -> String {
    let number = |is: fn(&State) -> bool| -> usize {
        lines.iter().filter(|line| is(&line.state)).map(|line| line.indexes.len().max(1)).sum()
    };
    let waiting = lines.iter().find(|line| line.state == State::Waiting);
    let why = waiting.map_or_else(String::new, |line| format!(" ({}: {})", line.reason, explanation(&line.reason)));
    let counts = [
        (number(|state| matches!(state, State::Running | State::Unknown)), "running".to_owned()),
        (number(|state| *state == State::Waiting), format!("waiting{why}")),
        (number(|state| matches!(state, State::Ended(_))), "ended".to_owned()),
    ];
    let some: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if some.is_empty() { "Slurm does not know it any more".to_owned() } else { some.join(", ") }
}

/// What the end of a task means for its work items that left no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub ending: Ending,
    /// Whether work items that had not begun have nothing to do with it.
    pub spares_others: bool,
    /// Whether it says something of the node.
    pub blames_node: bool,
}

/// What the end of a task on a node means. Results come first; this is asked only where there are none.
///
/// | end | a work item that had begun | its neighbours |
/// |---|---|---|
/// | completed | its result is late, then a tool failed | the same |
/// | failed | a tool failed | tried again with it |
/// | could not be launched, node failed, forgotten | lost | lost |
/// | out of memory, time limit | failed | tried by the next array |
/// | cancelled | lost, and not tried again by this launch | the same |
/// | deadline passed | failed | failed |
pub(super) fn meaning(end: End, node: Option<&str>, asked: &Asked) -> Meaning {
    let on = node.map_or_else(String::new, |node| format!(" on node `{node}`"));
    let limit =
        |what: &str, value: Option<&String>| value.map_or_else(String::new, |value| format!(" ({what} {value})"));
    let (ending, spares_others, blames_node) = match end {
        End::Completed => (Ending::Succeeded, false, false),
        End::Failed => (Ending::ToolFailed { message: format!("the worker failed{on}") }, false, true),
        End::LaunchFailed => {
            let message =
                format!("its worker was killed, or could not be started{on}: it may not see the run's folder");
            (Ending::Lost { message }, false, true)
        }
        End::TimedOut => {
            let message = format!("the time limit of its task was reached{}", limit("--time", asked.time.as_ref()));
            (Ending::Failed { message }, true, false)
        }
        End::OutOfMemory => {
            let message = format!("out of memory{}", limit("--mem", asked.memory.as_ref()));
            (Ending::Failed { message }, true, false)
        }
        End::Cancelled => (Ending::Lost { message: "somebody cancelled its task".to_owned() }, false, false),
        End::NodeFailed => (Ending::Lost { message: format!("the machine went away{on}") }, false, true),
        End::DeadlinePassed => (Ending::Failed { message: "its deadline has passed".to_owned() }, false, false),
        End::Forgotten => (Ending::Lost { message: "Slurm does not know it any more".to_owned() }, false, false),
    };
    Meaning { ending, spares_others, blames_node }
}

/// What a task asked for, as far as its end may have to do with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub time: Option<String>,
    pub memory: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_banners_are_not() {
        let text = "Welcome to the cluster|!\n118|3-9%3|118|PENDING|JobArrayTaskLimit|n/a|dvcf-r-p0-g1|dvc-fanout r x y\n\
                    118|0|120|RUNNING|None|n1|dvcf-r-p0-g1|dvc-fanout r x y\n\
                    119|5-19%5|119|CANCELLED|Nodes required for job are DOWN, DRAINED or reserved|n/a|a|b|c\n";
        let lines = parse(text);
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].indexes.len(), &lines[0].state, &lines[0].node), (7, &State::Waiting, &None));
        assert_eq!((&lines[1].state, lines[1].node.as_deref()), (&State::Running, Some("n1")));
        assert_eq!((&lines[2].state, lines[2].comment.as_str()), (&State::Ended(End::Cancelled), "b|c"));
    }

    #[test]
    fn what_squeue_prints_makes_nothing_up() {
        let seeds = [
            "118|3-9%3|118|PENDING|JobArrayTaskLimit|n/a|dvcf-r-p0-g1|dvc-fanout r x y\n",
            "118|0,2,5-7:2|120|COMPLETED|None|n1|dvcf-r-p0-g1|dvc-fanout r x y\n119|N/A|119|FAILED|Raised|(null)|a|b|c\n",
        ];
        crate::fuzz::fuzz!("squeue", seeds.map(str::to_owned), |text: &str| {
            let lines = parse(text);
            assert!(lines.len() <= text.lines().count());
            for line in &lines {
                assert!([&line.reason, &line.name, &line.comment].iter().all(|part| text.contains(part.as_str())));
                assert!(line.state != State::Ended(End::Completed) || text.contains("|COMPLETED|"));
            }
            drop(summary(&lines.iter().collect::<Vec<_>>()));
        });
    }

    #[test]
    fn tasks_are_summed_up() {
        let lines = parse("1|2-4|1|PENDING|Priority|n/a|a|b\n1|0|2|RUNNING|None|n1|a|b\n1|1|3|COMPLETED|None|n1|a|b\n");
        let lines: Vec<&Line> = lines.iter().collect();
        assert_eq!(summary(&lines), "1 running, 3 waiting (Priority: others come first), 1 ended");
        assert_eq!(summary(&[]), "Slurm does not know it any more");
    }

    #[test]
    fn no_state_but_completed_may_be_a_success() {
        for state in
            ["PENDING", "RUNNING", "COMPLETING", "EXPEDITING", "POWER_UP_NODE", "PREEMPTED", "", "ok", "completed"]
        {
            assert!(!matches!(state_of(state, "None"), State::Ended(_)), "{state}");
        }
        let ends = ["FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "NODE_FAIL", "BOOT_FAIL", "REVOKED", "DEADLINE"];
        for state in ends {
            let State::Ended(end) = state_of(state, "None") else { panic!("{state} is an end") };
            assert_ne!(meaning(end, None, &Asked::default()).ending, Ending::Succeeded, "{state}");
        }
        assert_eq!(meaning(End::Completed, None, &Asked::default()).ending, Ending::Succeeded);
        assert_eq!(state_of("FAILED", "JobLaunchFailure"), State::Ended(End::LaunchFailed));
    }

    #[test]
    fn reasons_tell_what_waits_from_what_never_runs() {
        #[track_caller]
        fn check(wanted: Obstacle, reasons: &[&str]) {
            for reason in reasons {
                assert_eq!(obstacle(reason), wanted, "{reason}");
            }
        }
        check(
            Obstacle::Turn,
            &["None", "Priority", "Resources", "QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "Licenses"],
        );
        check(Obstacle::Turn, &["ReqNodeNotAvail, Reserved for maintenance"]);
        check(Obstacle::Site, &["PartitionDown", "ReqNodeNotAvail, UnavailableNodes:n1"]);
        check(
            Obstacle::Site,
            &["Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"],
        );
        check(Obstacle::Never, &["PartitionTimeLimit", "AssocGrpCPUMinutesLimit", "QOSMaxWallDurationPerJobLimit"]);
        check(Obstacle::RequeuedHeld, &["launch failed requeued held"]);
        check(Obstacle::Unknown, &["FutureReason"]);
    }
}
