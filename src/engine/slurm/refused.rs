//! What `sbatch` says where it submits nothing, and what it means. Pure, but for the variables that it was about.

use crate::diagnostic::Diagnostic;
use crate::env;

/// What `sbatch` says where it refuses a job for good, and the flag that it is about.
const REFUSALS: [(&str, &str); 13] = [
    ("Invalid partition name specified", "partition"),
    ("No partition specified or system default partition", "partition"),
    ("User's group not permitted to use this partition", "partition"),
    ("Invalid account or account/partition combination", "account"),
    ("Invalid qos specification", "qos"),
    ("Invalid feature specification", "constraint"),
    ("Invalid license specification", "licenses"),
    ("Requested reservation is invalid", "reservation"),
    ("Access denied to requested reservation", "reservation"),
    ("Invalid node name specified", "nodelist"),
    ("Invalid generic resource (gres) specification", "gres"),
    ("Requested time limit is invalid", "time"),
    ("Memory specification can not be satisfied", "mem"),
];

/// Says that no node has all that is asked for together.
const NO_NODE: &str = "Requested node configuration is not available";
/// What is asked of nodes.
const OF_NODES: [&str; 10] =
    ["cpus-per-task", "mem", "mem-per-cpu", "gres", "gpus", "tmp", "constraint", "nodelist", "exclude", "partition"];

/// Says that more was submitted than the site allows at a time.
const TOO_MANY: [&str; 2] = ["QOSMaxSubmitJobPerUserLimit", "AssocMaxSubmitJobLimit"];
/// Says that the controller has no room for more jobs.
const NO_ROOM: &str = "Resource temporarily unavailable";
/// Says that an array has more tasks than the cluster takes.
const TOO_LARGE: &str = "Invalid job array specification";
/// Says that an option is no option of this Slurm.
const NO_OPTION: [&str; 3] = ["unrecognized option", "invalid option", "Invalid --"];

/// Why `sbatch` submitted nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This flag is wrong.
    Flag(&'static str),
    /// No node has all of it.
    NoNode,
    /// An option is none of this Slurm's, or its value is not.
    Option,
    /// Too many jobs at a time; fewer may go.
    TooMany,
    TooLarge,
    NoRoom,
}

/// Tells from what `sbatch` said why it surely submitted nothing; `None` where it may have.
pub(super) fn refusal(said: &str, code: Option<i32>) -> Option<Refusal> {
    if let Some((_, flag)) = REFUSALS.iter().find(|(text, _)| said.contains(text)) {
        return Some(Refusal::Flag(flag));
    }
    if said.contains(NO_NODE) {
        return Some(Refusal::NoNode);
    }
    if TOO_MANY.iter().any(|text| said.contains(text)) {
        return Some(Refusal::TooMany);
    }
    if said.contains(TOO_LARGE) {
        return Some(Refusal::TooLarge);
    }
    if said.contains(NO_ROOM) {
        return Some(Refusal::NoRoom);
    }
    (code == Some(255) || NO_OPTION.iter().any(|text| said.contains(text))).then_some(Refusal::Option)
}

/// Says what `sbatch` refused, and which flag it is about.
pub(super) fn refused(refusal: Refusal, said: &str, words: &[String]) -> Diagnostic {
    let diagnostic = match refusal {
        Refusal::Flag(_) | Refusal::NoNode | Refusal::Option => Diagnostic::usage("Slurm refuses the jobs"),
        Refusal::TooMany | Refusal::TooLarge | Refusal::NoRoom => Diagnostic::tool("Slurm takes no more jobs"),
    };
    let diagnostic = diagnostic.cause(said);
    match refusal {
        Refusal::Flag(flag) => {
            let given = words.iter().rev().find(|word| word.starts_with(&format!("--{flag}=")));
            let variable = format!("SBATCH_{}", flag.replace('-', "_").to_uppercase());
            match (given, env::read_text(&variable)) {
                (Some(given), _) => diagnostic.hint(format!("it was asked for `{given}`")),
                (None, Some(value)) => diagnostic.hint(format!("`{variable}` is set to `{value}` here")),
                (None, None) => diagnostic.hint(format!("say another with `--{flag}`")),
            }
        }
        Refusal::NoNode => {
            let of_nodes = |word: &&String| OF_NODES.contains(&name_of(word));
            let asked: Vec<&str> = words.iter().filter(of_nodes).map(String::as_str).collect();
            let asked = if asked.is_empty() {
                "what a task has by default".to_owned()
            } else {
                format!("`{}`", asked.join(" "))
            };
            diagnostic.hint(format!("no node has all that was asked for: {asked}"))
        }
        Refusal::Option => match words.iter().rev().find(|word| is_named(said, name_of(word))) {
            Some(given) => diagnostic.hint(format!("it was asked for `{given}`")),
            None => diagnostic.hint("`--sbatch-arg` gives options to `sbatch` as they are"),
        },
        Refusal::TooMany | Refusal::TooLarge | Refusal::NoRoom => {
            diagnostic.hint("wait until other jobs have ended, and launch again")
        }
    }
}

/// The name of the option that a word of the command line gives, or nothing.
fn name_of(word: &str) -> &str {
    word.strip_prefix("--").map_or("", |option| option.split('=').next().unwrap_or(option))
}

fn is_named(said: &str, option: &str) -> bool {
    !option.is_empty() && said.contains(&format!("--{option}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_refused_counts_as_refused() {
        let failed = |why: &str| refusal(&format!("sbatch: error: Batch job submission failed: {why}"), Some(1));
        assert_eq!(failed("Invalid qos specification"), Some(Refusal::Flag("qos")));
        assert_eq!(failed("Memory specification can not be satisfied"), Some(Refusal::Flag("mem")));
        assert_eq!(failed("Invalid job array specification"), Some(Refusal::TooLarge));
        assert_eq!(refusal("sbatch: error: QOSMaxSubmitJobPerUserLimit\nfailed", Some(1)), Some(Refusal::TooMany));
        assert_eq!(refusal("sbatch: unrecognized option '--nonsense'", Some(1)), Some(Refusal::Option));
        assert_eq!(failed("Socket timed out on send/recv operation"), None);
        assert_eq!(failed("Unable to contact slurm controller (connect failure)"), None);
        assert_eq!(failed("Zero Bytes were transmitted or received"), None);
        assert_eq!(refusal("", None), None);
    }

    #[test]
    fn what_was_asked_for_is_named() {
        let words = ["--parsable", "--mem=900G", "--time=abc", "--tmp=1G"].map(str::to_owned);
        let said = |why: &str| {
            let refusal = refusal(why, Some(1)).expect("refused");
            crate::output::text::render_error(&refused(refusal, why, &words))
        };
        let node = "sbatch: error: Batch job submission failed: Requested node configuration is not available";
        assert!(said(node).contains("`--mem=900G --tmp=1G`"), "{}", said(node));
        assert!(said("sbatch: error: Invalid --time specification").contains("`--time=abc`"));
        assert!(said("sbatch: unrecognized option '--nonsense'").contains("--sbatch-arg"));
    }
}
