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

/// A project whose summary looks around, and whose sessions take a while.
fn watched() -> Project {
    let project = Project::without_init();
    project.write("ref/genome.txt", "genome\n");
    project.dvc(["add", "--quiet", "ref/genome.txt"]);
    project.write(
        "dvc.yaml",
        "stages:\n  s:\n    foreach: [a, b]\n    do:\n      cmd: echo ${item} > ${item}.out && sh meanwhile\n      \
         outs: ['${item}.out']\n  sum:\n    cmd: cat *.out ref/*.txt weights > sum\n    deps: [a.out, b.out, weights]\n    outs: [sum]\n",
    );
    for file in ["meanwhile", "weights", "README.md"] {
        project.write(file, "");
    }
    project.commit("made");
    project
}

/// As somebody does who keeps a log there and goes on writing.
#[test]
fn the_last_stage_runs_in_the_project_as_it_is_then() {
    let project = watched();
    let root = project.root().display().to_string();
    let edits =
        format!("echo w > '{root}/weights'; echo more >> '{root}/README.md'; touch '{root}/run.log' '{root}/.dvc/x'\n");
    project.write("meanwhile", &edits);
    project.commit("somebody at work");
    let ran = project.fanout(["run", "--workspace", "linked"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(project.read("sum"), "a\nb\ngenome\nw\n");
    assert!(project.read("README.md").contains("more"));
    assert_clean(&project, &[]);
}

#[test]
fn the_last_stage_is_as_planned_where_stage_files_have_changed() {
    let project = watched();
    let root = project.root().display().to_string();
    project.edit("dvc.yaml", "cat *.out ref/*.txt weights", "cat a.out b.out weights");
    project.write("meanwhile", &format!("sed -i 's/b.out weights >/b.out >/' '{root}/dvc.yaml'\n"));
    project.commit("somebody at work");
    let ran = project.fanout(["run", "--workspace", "linked"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("changed since this run was planned: dvc.yaml; the last stages run on"), "{ran:#?}");
    assert!(project.read("dvc.lock").contains("cmd: cat a.out b.out weights > sum"));
    let ran = project.fanout(["run"]);
    assert!(ran.stderr.contains("1 work item done"), "it is not lost: {ran:#?}");
    assert!(project.read("dvc.lock").contains("cmd: cat a.out b.out > sum"));
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
