//! What only DVC can tell: whether deps outside of the file system (URLs, datasets) have changed.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crate::adapters::dvc::Dvc;
use crate::adapters::process;
use crate::diagnostic::Diagnostic;

/// How long servers and DVC may take to answer.
const LIMIT: Duration = Duration::from_mins(10);

/// DVC's words for deps that have changed, by stage address and by the dep as written.
pub(crate) type ChangedDeps = HashMap<String, HashMap<String, String>>;

impl Dvc {
    /// Asks `dvc status` about the deps of stages, by their addresses; `root` is the project's.
    ///
    /// DVC looks at everything of these stages, and may note in its own databases what it has seen.
    pub(crate) fn changed_deps(&self, root: &Path, addresses: &[&str]) -> Result<ChangedDeps, Diagnostic> {
        let words = ["--wait-for-lock", "status", "--json"];
        let program = self.command(&[&words[..], &["--"], addresses].concat()).limit(LIMIT);
        let failed = || Diagnostic::tool("`dvc status` did not tell");
        let output = process::output(&program, Some(root)).map_err(|error| failed().source(&error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let error = said.lines().find_map(|line| line.strip_prefix("ERROR: "));
            return Err(failed().cause(error.unwrap_or("it gave no reason")));
        }
        parse(&output.stdout).ok_or_else(|| failed().cause("what it wrote is not the JSON that is expected"))
    }
}

/// Reads `{ADDRESS: [{"changed deps": {DEP: WORD}}, …]}`.
fn parse(text: &[u8]) -> Option<ChangedDeps> {
    let stages: HashMap<String, Vec<serde_json::Value>> = serde_json::from_slice(text).ok()?;
    let deps = |changes: Vec<serde_json::Value>| {
        let all = changes.iter().filter_map(|change| change.get("changed deps")?.as_object());
        all.flatten().map(|(dep, word)| (dep.clone(), word.as_str().unwrap_or_default().to_owned())).collect()
    };
    Some(stages.into_iter().map(|(address, changes)| (address, deps(changes))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_deps_are_taken() {
        let text = br#"{"get": [{"changed deps": {"http://h/a": "modified"}}, {"changed outs": {"a": "deleted"}}],
                        "x@a": ["always changed"]}"#;
        let deps = parse(text).expect("it is what DVC writes");
        assert_eq!(deps["get"]["http://h/a"], "modified");
        assert!(deps["get"].len() == 1 && deps["x@a"].is_empty());
        assert!(parse(b"").is_none());
    }
}
