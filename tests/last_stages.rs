//! The last shared stages, which run in the project itself and may look at everything there is.

use crate::support::Project;
use crate::support::same::{assert_clean, assert_same};

/// A project whose report asks DVC, and looks at files that nobody declares.
fn project() -> Project {
    let project = Project::empty();
    for key in ["p", "q", "r"] {
        project.write(&format!("{key}.txt"), key);
    }
    project.write(
        "dvc.yaml",
        "stages:
  score:
    foreach: [p, q, r]
    do:
      cmd: printf '{\"n\":%s}' $(wc -c < ${item}.txt) > ${item}.json && cp ${item}.txt beside-${item}
      deps: ['${item}.txt']
      metrics:
      - ${item}.json:
          cache: false
  report:
    cmd: dvc metrics show --md > report.md && dvc stage list --name-only --all > stages.txt && cat beside-* > beside
    deps: [p.json, q.json, r.json]
    outs: [report.md, stages.txt, beside]
  after:
    cmd: cat report.md > after.md && echo undeclared > left
    deps: [report.md]
    outs: [after.md]
",
    );
    project.commit("project");
    project
}

#[test]
fn the_last_stages_see_the_whole_project() {
    let (serial, fanned) = (project(), project());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "both");
    assert_eq!(serial.read("dvc.lock"), fanned.read("dvc.lock"));
    assert_clean(&fanned, &[]);
    assert_eq!(fanned.read("beside"), "pqr");
    let collected = fanned.fanout(["collect"]);
    assert_eq!(collected.code, Some(0), "{collected:#?}");
    assert_same(&serial, &fanned, "collected again");
    fanned.fanout(["run", "--commit", "all"]).succeeded();
    assert_eq!(fanned.git(["status", "--porcelain"]), "");
}

#[test]
fn a_last_stage_that_fails_is_told_and_the_others_stay() {
    let project = project();
    project.edit("dvc.yaml", "dvc metrics show --md > report.md", "exit 3");
    let ran = project.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("stage `report` failed to run"), "{ran:#?}");
    assert!(project.read("dvc.lock").contains("score@r"));
    project.edit("dvc.yaml", "exit 3", "dvc metrics show --md > report.md");
    project.fanout(["run"]).succeeded();
    assert_clean(&project, &[]);
}

/// Two chains, which are two work items, and whose stages `dvc repro` takes by turns.
#[test]
fn stages_of_several_work_items_take_turns_in_lock_and_ignore_files() {
    let project = || {
        let project = Project::empty();
        let stages: String = [("a0", ""), ("b0", ""), ("a1", "a0"), ("b1", "b0"), ("c0", "")]
            .map(|(name, dep)| match dep {
                "" => format!("  {name}:\n    cmd: echo {name} > {name}.txt\n    outs: [{name}.txt]\n"),
                dep => format!(
                    "  {name}:\n    cmd: cp {dep}.txt {name}.txt\n    deps: [{dep}.txt]\n    outs: [{name}.txt]\n"
                ),
            })
            .concat();
        project.write("dvc.yaml", &format!("stages:\n{stages}"));
        project.commit("project");
        project
    };
    let (serial, fanned) = (project(), project());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "both");
    assert_eq!(serial.read("dvc.lock"), fanned.read("dvc.lock"));
    assert_eq!(serial.read(".gitignore"), fanned.read(".gitignore"));
}
