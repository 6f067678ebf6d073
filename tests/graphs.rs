//! Graphs that gather keys and split again, pair them, or roll over them, as `dvc repro` leaves them.

use crate::support::Project;
use crate::support::same::{assert_same, same_as_dvc};

#[test]
fn a_rolling_window_goes_on_from_the_day_that_changed() {
    same_as_dvc(
        "window",
        &[],
        &[&|project| project.write("raw/d4.txt", "another fourth day\n"), &|project| {
            project.edit("params.yaml", "d6: {before: d5}", "d6: {before: d5}\n  d7: {before: d6}");
        }],
    );
}

#[test]
fn paired_keys_wait_for_both() {
    same_as_dvc(
        "pairs",
        &[],
        &[&|project| {
            project.write("raw/a.txt", "another a\n");
            project.edit("params.yaml", "da: {a: d, b: a}", "dc: {a: d, b: c}");
        }],
    );
}

#[test]
fn a_matrix_is_gathered_by_subject_and_then_over_all() {
    same_as_dvc(
        "axes",
        &[],
        &[
            // `base` comes out as it was, so nothing else runs.
            &|project| project.write("seed.txt", "SEED\n"),
            &|project| {
                project.write("seed.txt", "another seed\n");
                project.edit("params.yaml", "s3]", "s3, s4]");
                project.write("raw/s4.txt", "subject four\n");
            },
        ],
    );
}

#[test]
fn what_was_merged_is_split_again() {
    same_as_dvc(
        "split-merge",
        &[],
        &[
            // `c` counts lines only: it comes out as it was, and nothing behind it runs.
            &|project| project.write("seed.txt", "2\n"),
            &|project| project.edit("params.yaml", "[u, v, w]", "[u, w, z]"),
        ],
    );
}

#[test]
fn frozen_stages_and_tracked_data_are_recorded_and_not_run() {
    same_as_dvc(
        "frozen",
        &[],
        &[
            &|project| {
                project.git(["rm", "-r", "--cached", "--quiet", "data", "images"]);
                project.dvc(["add", "--quiet", "data/table.csv", "images"]);
                project.edit("dvc.yaml", "    - first.txt\n  use:", "    - first.txt\n    frozen: true\n  use:");
                project.commit("frozen, tracked");
                project.write("data/table.csv", "b,2\n");
                project.write("images/y.txt", "another y\n");
            },
            // The frozen stage's out is another, and `sum` is a stage no more.
            &|project| {
                project.write("first.txt", "edited by hand\n");
                project.edit("dvc.yaml", "  sum:\n", "  total:\n");
            },
        ],
    );
}

/// A frozen stage whose entry is written anew takes its deps as the stages before it left them, and those behind it do not.
#[test]
fn frozen_stages_take_what_those_before_them_made() {
    let yaml = |frozen: bool, cmd: &str| {
        let kept = |name: &str| {
            format!(
                "  {name}:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p {name} && {cmd} o/${{item}} > {name}/${{item}}\n      \
                 deps: ['o/${{item}}']\n      outs: ['{name}/${{item}}']\n      frozen: {frozen}\n"
            )
        };
        let make = "  make:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p o && cp raw/${item} o/${item}\n      \
                    deps: ['raw/${item}']\n      outs: ['o/${item}']\n";
        format!("stages:\n{}{make}{}", kept("early"), kept("late"))
    };
    let project = || {
        let project = Project::empty();
        ["a", "b"].into_iter().for_each(|key| project.write(&format!("raw/{key}"), key));
        project.write("dvc.yaml", &yaml(false, "cat"));
        project.commit("project");
        project
    };
    let (serial, fanned) = (project(), project());
    let both = |what: &str| {
        serial.dvc(["repro"]);
        fanned.fanout(["run", "-j", "2"]).succeeded();
        assert_same(&serial, &fanned, what);
        assert_eq!(serial.read("dvc.lock"), fanned.read("dvc.lock"), "{what}");
    };
    both("all");
    for project in [&serial, &fanned] {
        project.write("dvc.yaml", &yaml(true, "cat -"));
        project.write("raw/a", "another\n");
    }
    both("frozen, and another command");
}
