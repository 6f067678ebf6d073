//! Why a pod does not start or did not end well, in the cluster's own words.

use super::observed::{ContainerEnd, PodPhase, Said, SeenPod, Warning};
use crate::exit::Exit;
use crate::model::run::Ending;

/// The longest excerpt of somebody else's message. A cluster's own have up to 1 KiB.
const MAX_EXCERPT: usize = 1024;

/// Why something waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// What is the same for all that wait for the same thing, however the words alternate.
    pub class: String,
    pub text: String,
}

impl Obstacle {
    fn new(class: &str, reason: &str, message: &str) -> Self {
        let text = if message.is_empty() { reason.to_owned() } else { format!("{reason}: {}", excerpt(message)) };
        Obstacle { class: class.to_owned(), text }
    }
}

/// Returns why a pending pod waits; `None` while that is nothing out of the ordinary.
pub(crate) fn pending(pod: &SeenPod, warnings: &[Warning]) -> Option<Obstacle> {
    if pod.phase != PodPhase::Pending {
        return None;
    }
    if let Some(message) = &pod.unschedulable {
        return Some(Obstacle::new("Unschedulable", "no node takes it", message));
    }
    let last = warnings.iter().rfind(|warning| !warning.is_overtaken);
    match &pod.waiting {
        Some(Said { reason, message }) => match reason.as_str() {
            // They alternate, with the useful words sometimes in the one and sometimes in the other.
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "RegistryUnavailable" => {
                let told = warnings.iter().rfind(|warning| warning.said.message.starts_with("Failed to pull image"));
                let words = told.map_or(message, |warning| &warning.said.message);
                Some(Obstacle::new("ImagePull", reason, words))
            }
            "ContainerCreating" | "PodInitializing" => {
                last.map(|warning| Obstacle::new(&warning.said.reason, &warning.said.reason, &warning.said.message))
            }
            _ => Some(Obstacle::new(reason, reason, message)),
        },
        None => last.map(|warning| Obstacle::new(&warning.said.reason, &warning.said.reason, &warning.said.message)),
    }
}

/// Returns why a running pod may have to be given up.
pub(crate) fn running(pod: &SeenPod) -> Option<Obstacle> {
    let node = pod.lost_node.as_ref().filter(|_| pod.phase == PodPhase::Running)?;
    let text = format!("node `{node}` does not answer; the cluster replaces its pods once it gives the node up");
    Some(Obstacle { class: format!("NodeLost {node}"), text })
}

/// Returns why a Job has no pods: what the server said when the controller tried to make them.
pub(crate) fn without_pods(warnings: &[Warning]) -> Option<Obstacle> {
    let refused = warnings.iter().rfind(|warning| warning.said.reason == "FailedCreate")?;
    Some(Obstacle::new("FailedCreate", "FailedCreate", &refused.said.message))
}

/// Returns how a pod's end is to be understood where its worker left no result.
pub(crate) fn ending(pod: &SeenPod) -> Ending {
    if let Some(Said { reason, message }) = &pod.disrupted {
        return Ending::Lost { message: format!("{reason}: {}", excerpt(message)) };
    }
    match (&pod.ended, &pod.failed) {
        (Some(ContainerEnd { reason, .. }), _) if reason == "OOMKilled" => {
            let limit = pod.memory_limit.as_ref().map_or_else(String::new, |limit| format!(" at its limit of {limit}"));
            Ending::Failed { message: format!("OOMKilled: the worker was out of memory{limit}") }
        }
        _ if pod.is_deleted => Ending::Lost { message: format!("pod `{}` was deleted", pod.name) },
        (_, Some(Said { reason, message })) => Ending::Lost { message: format!("{reason}: {}", excerpt(message)) },
        (Some(end), None) => Ending::ToolFailed { message: worker_end(end) },
        (None, None) => Ending::Lost { message: format!("pod `{}` is gone", pod.name) },
    }
}

/// Says how a worker ended that should have left a result.
fn worker_end(end: &ContainerEnd) -> String {
    let error = end.message.lines().rev().find_map(|line| line.strip_prefix("error: "));
    let last = || end.message.lines().rfind(|line| !line.trim().is_empty());
    let detail = error.or_else(last).map_or_else(String::new, |line| format!(": {}", excerpt(line)));
    format!("the worker ended with exit code {}{detail}", end.code)
}

/// Whether the Job controller makes another pod for the index of a pod that failed.
pub(crate) fn is_tried_again(pod: &SeenPod, retries: u32, retry_commands: bool) -> bool {
    if pod.disrupted.is_some() {
        return true;
    }
    let code = pod.ended.as_ref().map_or(0, |end| end.code);
    let is_final = final_codes(retry_commands).iter().any(|last| i32::from(*last) == code);
    !is_final && pod.failures_before < retries
}

/// The exit codes of a worker after which its index is not tried again, ascending as the API server wants them.
pub(crate) fn final_codes(retry_commands: bool) -> Vec<u8> {
    let commands = (!retry_commands).then_some(Exit::WorkItemsFailed);
    let always = [Exit::Usage, Exit::Conflicts, Exit::Project, Exit::Internal];
    commands.into_iter().chain(always).map(Exit::code).collect()
}

/// Cuts a message on a line of its own.
pub(crate) fn excerpt(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reason: &str, message: &str) -> Said {
        Said { reason: reason.to_owned(), message: message.to_owned() }
    }

    fn warning(reason: &str, message: &str) -> Warning {
        Warning { said: said(reason, message), is_overtaken: false }
    }

    fn ended(code: i32, reason: &str) -> SeenPod {
        let end =
            ContainerEnd { code, reason: reason.to_owned(), message: "one\nerror: two\nhint: three\n\n".to_owned() };
        SeenPod { phase: PodPhase::Failed, ended: Some(end), ..SeenPod::default() }
    }

    #[test]
    fn image_pull_errors_that_alternate_are_one_obstacle() {
        let pod = |reason| SeenPod { waiting: Some(said(reason, "Back-off")), ..SeenPod::default() };
        let first = pending(&pod("ErrImagePull"), &[]).expect("an obstacle");
        let second = pending(&pod("ImagePullBackOff"), &[]).expect("an obstacle");
        assert_eq!(first.class, second.class);
        let told = warning("Failed", "Failed to pull image \"x\": connection refused");
        let text = pending(&pod("ImagePullBackOff"), &[told]).expect("an obstacle").text;
        assert_eq!(text, "ImagePullBackOff: Failed to pull image \"x\": connection refused");
    }

    #[test]
    fn a_container_that_is_being_created_is_nothing_to_speak_of_until_something_warns() {
        let pod = SeenPod { waiting: Some(said("ContainerCreating", "")), ..SeenPod::default() };
        assert_eq!(pending(&pod, &[]), None);
        let warnings =
            [warning("MissingClusterDNS", "Falling back"), warning("FailedMount", "MountVolume.SetUp failed")];
        assert_eq!(pending(&pod, &warnings).expect("an obstacle").text, "FailedMount: MountVolume.SetUp failed");
        let overtaken = warnings.map(|warning| Warning { is_overtaken: true, ..warning });
        assert_eq!(pending(&pod, &overtaken), None, "its image is being pulled since");
    }

    #[test]
    fn a_silent_node_is_named_while_its_pod_counts_as_running() {
        let pod = SeenPod { phase: PodPhase::Running, lost_node: Some("n1".to_owned()), ..SeenPod::default() };
        assert!(running(&pod).expect("an obstacle").text.starts_with("node `n1` does not answer"));
        assert_eq!(running(&SeenPod { phase: PodPhase::Failed, ..pod }), None);
    }

    #[test]
    fn a_worker_out_of_memory_is_named_with_its_limit() {
        let pod = SeenPod { memory_limit: Some("4Gi".to_owned()), ..ended(137, "OOMKilled") };
        let message = "OOMKilled: the worker was out of memory at its limit of 4Gi".to_owned();
        assert_eq!(ending(&pod), Ending::Failed { message });
    }

    #[test]
    fn a_lost_machine_is_no_failure_of_the_work_item() {
        let evicted = SeenPod { disrupted: Some(said("EvictionByEvictionAPI", "drained")), ..ended(143, "Error") };
        assert_eq!(ending(&evicted), Ending::Lost { message: "EvictionByEvictionAPI: drained".to_owned() });
        let deleted = SeenPod { name: "p-0-x".to_owned(), is_deleted: true, ..ended(143, "Error") };
        assert_eq!(ending(&deleted), Ending::Lost { message: "pod `p-0-x` was deleted".to_owned() });
        let message = "the worker ended with exit code 1: two".to_owned();
        assert_eq!(ending(&ended(1, "Error")), Ending::ToolFailed { message });
    }

    #[test]
    fn the_controllers_decision_to_try_again_is_foreseen() {
        let before = |failures_before, pod: SeenPod| SeenPod { failures_before, ..pod };
        assert!(is_tried_again(&ended(5, "Error"), 1, false));
        assert!(!is_tried_again(&before(1, ended(5, "Error")), 1, false));
        assert!(!is_tried_again(&ended(1, "Error"), 1, false));
        assert!(is_tried_again(&ended(1, "Error"), 1, true));
        assert!(!is_tried_again(&ended(4, "Error"), 9, true));
        let evicted = SeenPod { disrupted: Some(said("a", "b")), ..before(9, ended(143, "Error")) };
        assert!(is_tried_again(&evicted, 1, false));
    }
}
