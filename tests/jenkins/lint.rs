//! The Groovy as npm-groovy-lint sees it: parsed, and without a finding.

use std::path::Path;

use super::SHORT_LIVED;
use crate::support::{Project, Ran, tool};

#[test]
fn the_groovy_has_no_lint() {
    let Some(lint) = tool("npm-groovy-lint") else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("jenkins");
    let project = Project::bare();
    let mut command = project.command(lint);
    command.env("FORCE_COLOR", "0").env("JAVA_TOOL_OPTIONS", SHORT_LIVED);
    command.args(["--noserver", "--failon", "info", "--output", "txt", "--path"]).arg(&folder);
    let ran = Ran::of(command.current_dir(&folder).arg("--config").arg(folder.join("test/groovylint.json")));
    assert!(ran.stdout.contains("in 3 linted files"), "{}", ran.stdout);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
}
