//! Commands that edit texts of the project which no stage declares: what several sessions did to one is united as if they
//! had run one after the other.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran, tool};

/// Lists what a session made in the `dvc.yaml`, in the place of what it listed before; then edits two other texts.
const TRAIN: &str = r#"
import pathlib, sys
from ruamel.yaml import YAML

key = sys.argv[1]
yaml = YAML()
path = pathlib.Path("dvc.yaml")
project = yaml.load(path)
for section, name in ("params", "params.yaml"), ("metrics", "metrics.json"):
    listed = [item for item in project.get(section, []) if not item.startswith(f"live/{key}/")]
    project[section] = listed + [f"live/{key}/{name}"]
plots = [item for item in project.get("plots", []) if f"live/{key}/plots" not in item]
project["plots"] = plots + [{f"live/{key}/plots": {"x": "step"}}]
yaml.dump(project, path)
live = pathlib.Path("live") / key
live.mkdir(parents=True, exist_ok=True)
for name, text in ("params.yaml", "a: 1\n"), ("metrics.json", "{}"), ("plots", "step\n1\n"):
    (live / name).write_text(text)
with open("notes.txt", "a") as notes:
    notes.write(f"trained {key}\n")
table = pathlib.Path("table.txt")
table.write_text(table.read_text().replace(f"{key}: open", f"{key}: done"))
pathlib.Path(f"{key}.model").write_text(pathlib.Path(f"{key}.txt").read_text())
"#;

const PIPELINE: &str = "# ours\nstages:\n  train:\n    foreach: [p, q, r]\n    do:\n      cmd: python train.py ${item}\n      deps: \
                        [\"${item}.txt\", train.py]\n      outs:\n      - ${item}.model\n  count:\n    cmd: grep -c live dvc.yaml > \
                        count.txt\n    deps: [p.model, q.model, r.model]\n    outs: [count.txt]\n";

fn project(script: &str) -> Project {
    let project = Project::empty();
    project.write("dvc.yaml", PIPELINE);
    project.write("train.py", script);
    project.write("notes.txt", "begun\n");
    project.write("table.txt", "p: open\n-\nq: open\n-\nr: open\n-\nmine: open\n");
    for key in ["p", "q", "r"] {
        project.write(&format!("{key}.txt"), key);
    }
    project.commit("sessions that write into the project's texts");
    project
}

#[test]
fn what_sessions_add_to_one_text_is_united() {
    let [serial, fanned, by_dvc] = [(); 3].map(|()| project(TRAIN));
    for round in ["all", "one again"] {
        serial.dvc(["repro"]);
        for (fanned, executor) in [(&fanned, "native"), (&by_dvc, "dvc")] {
            let ran = fanned.fanout(["run", "-j", "2", "--executor", executor]);
            assert_eq!(ran.code, Some(0), "{ran:#?}");
            assert!(!ran.stderr.contains("notes.txt"), "{ran:#?}");
            assert_same(&serial, fanned, &format!("{round}, {executor}"));
        }
        assert_clean(&by_dvc, &[]);
        for project in [&serial, &fanned, &by_dvc] {
            project.write("p.txt", "other");
        }
    }
    assert!(fanned.read("dvc.yaml").contains("- live/q/plots:\n    x: step\n"));
    assert_eq!(fanned.read("table.txt"), "p: done\n-\nq: done\n-\nr: done\n-\nmine: open\n");
}

/// What one work item has added is there for those after it, which do not add it again.
#[test]
fn what_is_added_in_one_phase_is_there_once_after_all_of_them() {
    let made = || {
        let project = Project::without_init();
        let pair = |name: &str, command: &str, dep: &str| {
            format!(
                "  {name}:\n    foreach: [a, b]\n    do:\n      cmd: {command} && echo {name}-${{item}} >> all.log\n      deps: [{dep}]\n      \
                 outs: ['{name}-${{item}}']\n"
            )
        };
        let one = |name: &str, deps: &str| {
            let command = format!("cat {} > {name} && echo {name} >> all.log", deps.replace(',', ""));
            format!("  {name}:\n    cmd: {command}\n    deps: [{deps}]\n    outs: [{name}]\n")
        };
        let stages = [
            pair("ex", "echo ex-${item} >> log-${item} && echo ${item} > ex-${item} && echo new > new-${item}", "in"),
            one("mid", "ex-a, ex-b"),
            pair("pl", "cat mid > pl-${item} && echo pl-${item} >> new-${item} && cat log-${item} > of-${item}", "mid"),
            one("join", "pl-a, pl-b"),
            pair("last", "cat join > last-${item} && sed -i s/start/begin/ log-${item}", "join"),
            one("end", "last-a, last-b"),
        ];
        project.write("dvc.yaml", &format!("stages:\n{}", stages.concat()));
        for file in ["log-a", "log-b", "all.log", "in"] {
            project.write(file, "start\n");
        }
        project.commit("logs");
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    for executor in ["native", "dvc"] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2", "--executor", executor]).succeeded();
        assert_same(&serial, &fanned, executor);
    }
    // Step by step, so that each collection finds what the one before has brought.
    let fanned = made();
    fanned.fanout(["plan"]).succeeded();
    for phase in ["0", "1", "2", "3", "4"] {
        fanned.fanout(["launch", "--phase", phase]).succeeded();
        fanned.fanout(["collect"]).succeeded();
    }
    fanned.fanout(["finalize"]).succeeded();
    assert_same(&serial, &fanned, "phase by phase");
}

#[test]
fn results_that_come_later_are_added_to_what_is_there() {
    let fanned = project(TRAIN);
    fanned.fanout(["plan"]).succeeded();
    fanned.fanout(["launch", "-j", "2"]).succeeded();
    fanned.fanout(["collect", "--only", "r"]).succeeded();
    assert_eq!(fanned.read("notes.txt"), "begun\ntrained r\n");
    let mine = fanned.read("table.txt").replace("mine: open", "mine: done");
    fanned.write("table.txt", &mine);
    for _ in 0..2 {
        fanned.fanout(["collect"]).succeeded();
        assert_eq!(fanned.read("notes.txt"), "begun\ntrained p\ntrained q\ntrained r\n");
        assert_eq!(fanned.read("table.txt"), "p: done\n-\nq: done\n-\nr: done\n-\nmine: done\n");
    }
    assert!(fanned.read("dvc.yaml").contains("- live/p/metrics.json\n- live/q/metrics.json\n"));
    fanned.fanout(["finalize"]).succeeded();
    assert_clean(&fanned, &[]);
}

#[test]
fn edits_of_a_pipeline_that_cannot_be_united_are_shown() {
    let script = "import sys\nkey = sys.argv[1]\ntext = open('dvc.yaml').read()\nopen('dvc.yaml', 'w').write(text.replace('# ours', \
                  'artifacts: {best: {path: ' + key + '.model}}'))\nopen(key + '.model', 'w').write(key)\n";
    let fanned = project(script);
    let ran = fanned.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    for part in ["dvc.yaml", "+artifacts: {best: {path: r.model}}"] {
        assert!(ran.stdout.contains(part) || ran.stderr.contains(part), "{part}: {ran:#?}");
    }
    assert_eq!(fanned.read("dvc.yaml"), PIPELINE);
}

/// A DVC that is started by something else than the script of an installer cannot be told to look away.
#[test]
fn edits_of_stages_that_dvc_is_shown_are_refused_by_name() {
    let fanned = project(TRAIN);
    let wrapper = fanned.path("../dvc");
    let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", tool("dvc").expect("it is there").display());
    std::fs::write(&wrapper, script).expect("written");
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).expect("set");
    let mut run = fanned.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let ran = Ran::of(run.args(["run", "-j", "2", "--executor", "dvc"]).env("DVC_FANOUT_DVC", &wrapper));
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("`dvc.yaml` is refused: DVC itself ran its stage"), "{ran:#?}");
    assert_eq!(fanned.read("dvc.yaml"), PIPELINE);
    assert_eq!(fanned.read("p.model"), "p");
}

/// The names of the last session, and a flag that one takes away and another one sets again.
#[test]
fn who_writes_last_counts_though_it_writes_what_was_there() {
    let made = || {
        let project = Project::without_init();
        let command = "sed -i \"s/mode = .*/mode = ${item}/\" cfg.ini; ln -sfn ${item}.in latest; echo ${item} > last.txt; rm -f STOP; \
                       case ${item} in a) echo A >> base.txt;; b) rm base.txt;; c) echo base > base.txt; echo stop > STOP;; esac; sed -i \
                       \"s/^${item}: open/${item}: done/\" table.txt; cp ${item}.in ${item}.out";
        project.write(
            "dvc.yaml",
            &format!(
                "stages:\n  run:\n    foreach: [a, b, c]\n    do:\n      cmd: '{command}'\n      deps: ['${{item}}.in']\n      outs: ['${{item}}.out']\n"
            ),
        );
        for key in ["a", "b", "c"] {
            project.write(&format!("{key}.in"), key);
        }
        for (name, text) in [("cfg.ini", "mode = c\n"), ("last.txt", "c\n"), ("STOP", "stop\n"), ("base.txt", "base\n")]
        {
            project.write(name, text);
        }
        // Two have nothing to say here any more, and are not to take back what the third one says.
        project.write("table.txt", "a: done\nb: open\nc: done\n");
        std::os::unix::fs::symlink("c.in", project.path("latest")).expect("linked");
        project.commit("what sessions write anew");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "the last word");
    assert_eq!(fanned.read("table.txt"), "a: done\nb: done\nc: done\n");
}
