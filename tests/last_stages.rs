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

/// What the run itself has written leaves the project as it was planned.
#[test]
fn the_last_stage_runs_in_the_project_though_the_run_recorded_data_anew() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  s:\n    foreach: [a, b]\n    do:\n      cmd: cat in > m_${item}\n      deps: [in]\n      outs: ['m_${item}']\n\
             \x20 sum:\n    cmd: cat m_* > sum\n    deps: [m_a]\n    outs: [sum]\n",
        );
        project.write("in", "1\n2\n3\n");
        project.dvc(["add", "--quiet", "in"]);
        project.commit("made");
        project
    };
    let (serial, fanned) = (made(), made());
    for round in ["first", "edited"] {
        for project in [&serial, &fanned] {
            project.write("in", &format!("{round}\n"));
        }
        serial.dvc(["repro"]);
        let ran = fanned.fanout(["run", "-j", "2"]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert!(!ran.stderr.contains("the project is not as this run left it"), "{ran:#?}");
        assert_same(&serial, &fanned, round);
    }
}

#[test]
fn the_last_stage_runs_in_the_project_though_sessions_left_odd_names() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  s:\n    foreach: [a, b]\n    do:\n      cmd: echo ${item} > ${item}.out && echo ${item} > caf$(printf '\\351')-${item}.log\n\
             \x20     outs: ['${item}.out']\n  last:\n    cmd: cat *.log > all\n    deps: [a.out, b.out]\n    outs: [all]\n",
        );
        project.commit("made");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(fanned.read("all"), serial.read("all"));
}
