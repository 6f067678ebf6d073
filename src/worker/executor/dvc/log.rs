//! What a `dvc repro` says of stages, picked out of a log that commands write to as well.

use std::collections::HashSet;
/// What the output of `dvc repro --keep-going` says of stages, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReproLog {
    pub running: HashSet<String>,
    pub restored: HashSet<String>,
    pub unchanged: HashSet<String>,
    /// Changed data and frozen stages, which are only recorded.
    pub verified: HashSet<String>,
    /// The failed stages as DVC lists them in its last lines, still quoted.
    failed: String,
    /// DVC's warnings about commands and files, by the stage that ran last before.
    reasons: Vec<(String, String)>,
    /// The last error that is not about stages.
    pub error: Option<String>,
}

impl ReproLog {
    /// Picks DVC's lines out of the log of one `dvc repro`, which commands write to as well, be it half a line before one
    /// of DVC's.
    ///
    /// DVC lists what failed in its last words. A list with anything of DVC's behind it was a command's, which may have run
    /// a DVC of its own.
    pub(super) fn read(log: &str) -> ReproLog {
        let mut said = ReproLog::default();
        let mut current = String::new();
        let mut own_words = 0;
        for line in log.lines() {
            if let Some(stage) = between(line, "Running stage '", "':") {
                said.take_back_failures(&mut own_words);
                stage.clone_into(&mut current);
                said.running.insert(stage.to_owned());
            } else if let Some(stage) = between(line, "Stage '", "' didn't change, skipping") {
                said.unchanged.insert(stage.to_owned());
            } else if let Some(stage) = between(line, "Stage '", "' is cached - skipping run, checking out outputs") {
                said.restored.insert(stage.to_owned());
            } else if let Some(stage) = between(line, "Verifying data sources in stage: '", "'")
                .or_else(|| between(line, "Verifying outputs in frozen stage: '", "'"))
            {
                said.verified.insert(stage.to_owned());
            } else if let Some((_, command)) = line.split_once("WARNING: failed to run: ") {
                said.take_back_failures(&mut own_words);
                said.reasons.push((current.clone(), format!("failed to run: {command}")));
            } else if let Some(reason) = line.strip_prefix("WARNING: ") {
                said.take_back_failures(&mut own_words);
                if !reason.ends_with("due to this failure") {
                    said.reasons.push((current.clone(), reason.to_owned()));
                }
            } else if let Some((_, stages)) = line.split_once("ERROR: failed to reproduce ") {
                said.fail(stages, &mut own_words);
            } else if let Some(error) = line.strip_prefix("ERROR: ") {
                said.take_back_failures(&mut own_words);
                said.error = Some(error.to_owned());
            }
        }
        said
    }

    /// Takes the list of stages that failed; `own_words` counts the reasons that came with it.
    fn fail(&mut self, stages: &str, own_words: &mut usize) {
        self.take_back_failures(own_words);
        // With `--keep-going` all stages that failed, else the first and why.
        match stages.strip_prefix('\'').and_then(|rest| rest.split_once("': ")) {
            Some((stage, reason)) => {
                self.failed = format!("'{stage}'");
                self.reasons.push((stage.to_owned(), reason.to_owned()));
                *own_words = 1;
            }
            None => stages.clone_into(&mut self.failed),
        }
    }

    /// Forgets a list of stages that failed: it was not DVC's.
    fn take_back_failures(&mut self, own_words: &mut usize) {
        self.failed.clear();
        self.reasons.truncate(self.reasons.len() - *own_words);
        *own_words = 0;
    }

    /// Adds what another `dvc repro`, which came later, said.
    pub(super) fn extend(&mut self, later: ReproLog) {
        self.running.extend(later.running);
        self.restored.extend(later.restored);
        self.unchanged.extend(later.unchanged);
        self.verified.extend(later.verified);
        self.failed = [self.failed.as_str(), later.failed.as_str()].join(" ");
        self.reasons.extend(later.reasons);
        self.error = later.error.or_else(|| self.error.take());
    }

    /// Whether DVC came to its end and listed the stages that failed.
    pub(super) fn has_failures(&self) -> bool {
        !self.failed.trim().is_empty()
    }

    /// Whether DVC names the stage as failed.
    pub(super) fn has_failed(&self, address: &str) -> bool {
        self.failed.contains(&format!("'{address}'"))
    }

    /// What DVC says where it does not start for want of a home directory or a name of the user: neither is there for
    /// a user id that only a container knows.
    pub(super) fn nameless_user(&self) -> Option<&str> {
        let error = self.error.as_deref().filter(|_| self.running.is_empty())?;
        let lower = error.to_lowercase();
        let is_it = lower.contains("getpwuid()") || lower.contains("determine the home dir");
        (is_it || lower.contains("determine home dir")).then_some(error)
    }

    /// Why a stage failed, in DVC's words.
    pub(super) fn reason(&self, address: &str) -> String {
        let own = self.reasons.iter().rfind(|(stage, _)| stage == address);
        let any = own.or_else(|| self.reasons.last()).map(|(_, reason)| reason.clone());
        let reason = any.unwrap_or_else(|| "DVC gave no reason".to_owned());
        with_kill(reason)
    }

    /// Whether DVC itself failed at a stage, not the stage's command.
    ///
    /// The system refused something to DVC: a full disk, say. Or DVC did not find in the cache what it had just put there,
    /// since another one was putting the same there.
    pub(super) fn is_own_failure(&self, address: &str) -> bool {
        is_own_failure(&self.reason(address))
    }
}

/// What is added to the reason where a command was killed.
const PERHAPS: &str = " (killed, perhaps because memory ran out)";

/// Whether a command was killed; 137 is what a shell says of one.
fn is_kill(reason: &str) -> bool {
    reason.ends_with("exited with -9") || reason.ends_with("exited with 137")
}

/// Adds to the failure of a command what its code may mean.
pub(crate) fn with_kill(reason: String) -> String {
    if is_kill(&reason) { reason + PERHAPS } else { reason }
}

/// What to say of a command that was killed where memory is known not to be the reason; `None` of one that was not.
pub(crate) fn killed_by_somebody(reason: &str) -> Option<String> {
    let reason = reason.strip_suffix(PERHAPS).unwrap_or(reason);
    is_kill(reason).then(|| format!("{reason} (killed, though memory did not run out)"))
}

/// What the system says of a path that is not there, may not be read, or is something else than what is looked for.
const OF_INPUTS: [&str; 6] = ["[Errno 2]", "[Errno 6]", "[Errno 13]", "[Errno 20]", "[Errno 21]", "[Errno 40]"];
/// Parts of the paths of DVC's own files.
const DVCS_OWN: [&str; 3] = ["/files/md5/", "/.dvc/tmp/", "/site-cache/"];

/// Whether a stage's failure was not its command's, nor one of its inputs, which another try would find as they are.
pub(crate) fn is_own_failure(reason: &str) -> bool {
    let is_of_input =
        OF_INPUTS.iter().any(|error| reason.starts_with(error)) && !DVCS_OWN.iter().any(|own| reason.contains(own));
    (reason.starts_with("[Errno ") && !is_of_input) || reason.contains("without a confirmation")
}

/// What stands between a phrase and the end of a line.
fn between<'l>(line: &'l str, phrase: &str, end: &str) -> Option<&'l str> {
    let rest = line.strip_suffix(end)?;
    Some(&rest[rest.rfind(phrase)? + phrase.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_leaves_a_line_unfinished_hides_nothing() {
        let said = ReproLog::read(
            "Running stage 'a':\n> printf x\nxRunning stage 'b':\n> printf y; exit 137\nyWARNING: failed to run: printf y; \
             exit 137, exited with 137\nERROR: failed to reproduce 'b'\n",
        );
        assert!(said.running.contains("a") && said.running.contains("b") && said.has_failed("b"));
        assert_eq!(
            said.reason("b"),
            "failed to run: printf y; exit 137, exited with 137 (killed, perhaps because memory ran out)"
        );
    }

    #[test]
    fn the_log_tells_which_stages_failed_and_why() {
        let log = "Running stage 'a@k1':\n> false\nRunning stage 'p/dvc.yaml:a@k2':\n> x\nWARNING: failed to run: x, exited \
                   with 1\nWARNING: Stage 'b@k2' will be skipped due to this failure\nStage 'c' didn't change, \
                   skipping\nStage 'd' is cached - skipping run, checking out outputs\nERROR: failed to reproduce \
                   stages: 'p/dvc.yaml:a@k2' and 'nodep'\n";
        let said = ReproLog::read(log);
        assert!(said.has_failed("p/dvc.yaml:a@k2") && said.has_failed("nodep") && !said.has_failed("a@k1"));
        assert_eq!(said.reason("p/dvc.yaml:a@k2"), "failed to run: x, exited with 1");
        assert!(said.unchanged.contains("c") && said.restored.contains("d") && said.running.contains("a@k1"));
        let said = ReproLog::read("ERROR: failed to reproduce 'a@k': failed to run: echo 'b@k', exited with 1\n");
        assert!(said.has_failed("a@k") && !said.has_failed("b@k"));
        assert_eq!(said.reason("a@k"), "failed to run: echo 'b@k', exited with 1");
        assert!(!said.is_own_failure("a@k"));
        let said = ReproLog::read("ERROR: unexpected error - 'getpwuid(): uid not found: 12345'\n");
        assert_eq!(said.nameless_user(), Some("unexpected error - 'getpwuid(): uid not found: 12345'"));
        // A command that says so is none of DVC's.
        let said = ReproLog::read("Running stage 'a':\n> x\nERROR: getpwuid(): uid not found: 12345\n");
        assert_eq!(said.nameless_user(), None);
        let said = ReproLog::read("ERROR: failed to reproduce 'a': [Errno 28] No space left on device\n");
        assert!(said.is_own_failure("a"));
        let said =
            ReproLog::read("ERROR: failed to reproduce 'a': [Errno 2] No such file or directory: '/p/raw/fifo'\n");
        assert!(!said.is_own_failure("a"));
        let said = ReproLog::read(
            "ERROR: failed to reproduce 'a': [Errno 2] No such file or directory: '/p/.dvc/cache/files/md5/ab/c'\n",
        );
        assert!(said.is_own_failure("a"));
    }

    #[test]
    fn a_command_that_runs_a_dvc_of_its_own_fails_nothing_but_itself() {
        let inner = "Running stage 'a':\n> dvc repro || true\nERROR: failed to reproduce 'a': failed to run: x, exited with 1\n";
        for end in
            ["", "Running stage 'b':\n> y\n", "ERROR: unexpected error\n", "WARNING: failed to run: y, exited with 2\n"]
        {
            let said = ReproLog::read(&format!("{inner}{end}"));
            assert_eq!(said.has_failures(), end.is_empty(), "{end}");
        }
        let end = "Running stage 'b':\n> y\nWARNING: failed to run: y, exited with 2\nERROR: failed to reproduce 'b'\n";
        let mut said = ReproLog::read(&format!("{inner}{end}"));
        assert!(said.has_failed("b") && !said.has_failed("a"));
        assert_eq!(said.reason("b"), "failed to run: y, exited with 2");
        said.extend(ReproLog::read("Running stage 'c':\nERROR: failed to reproduce 'c'\n"));
        assert!(said.has_failed("b") && said.has_failed("c") && !said.has_failed("a"));
    }
}
