//! `stages`: the list for people, and what is said of projects that DVC refuses.

use crate::support::{Project, Ran};

fn project(yaml: &str) -> Project {
    let project = Project::bare();
    project.write(".dvc/config", "[core]\n    no_scm = True\n");
    project.write("params.yaml", "train:\n  learning_rate: 0.1\n  epochs: 3\n");
    project.write("dvc.yaml", yaml);
    project
}

fn stages(project: &Project, arguments: &[&str]) -> Ran {
    project.fanout([&["stages"], arguments].concat())
}

#[track_caller]
fn check_error(yaml: &str, expected: &str) {
    let ran = stages(&project(yaml), &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(4), expected));
}

#[test]
fn loops_are_one_line_unless_expanded() {
    let project = project("stages:\n  g:\n    foreach: [a, b]\n    do: {cmd: x}\n  s: {cmd: x}\n");
    assert_eq!(stages(&project, &[]).succeeded(), "g (2 keys)\ns\n");
    assert_eq!(stages(&project, &["--expand"]).succeeded(), "g@a\ng@b\ns\n");
    assert_eq!(stages(&project, &["g@b"]).succeeded(), "g (1 key)\n");
}

#[test]
fn a_missing_variable_is_shown_where_it_stands() {
    check_error(
        "stages:\n  train:\n    cmd: >-\n      python train.py\n      --lr ${train.learning_rat}\n",
        "\
error: could not find `train.learning_rat`
  --> dvc.yaml:5:12
  4 |       python train.py
  5 |       --lr ${train.learning_rat}
    |            ^^^^^^^^^^^^^^^^^^^^^
  in `stages.train.cmd`
  `train` is a map of `learning_rate`, `epochs`
hint: did you mean `train.learning_rate`?
",
    );
}

#[test]
fn a_generated_stage_is_named_with_its_item() {
    check_error(
        "stages:\n  t:\n    foreach: ${train}\n    do:\n      cmd: echo ${item.x}\n",
        "\
error: could not find `item.x`
  --> dvc.yaml:5:17
  4 |     do:
  5 |       cmd: echo ${item.x}
    |                 ^^^^^^^^^
  in `stages.t@learning_rate.cmd`
  `item` is 0.1
",
    );
}

#[test]
fn everything_that_the_schema_forbids_is_listed() {
    check_error(
        "stages:\n  s:\n    cmd: x\n    dep: [a]\n    outs: a\n",
        "\
error: `dep` is not allowed here in `stages.s`
  --> dvc.yaml:4:5
  3 |     cmd: x
  4 |     dep: [a]
    |     ^
  line 5: expected a list, got `a` in `stages.s.outs`
hint: did you mean `deps`?
",
    );
}

#[test]
fn a_circle_is_written_out() {
    check_error(
        "stages:\n  a: {cmd: x, deps: [b], outs: [a]}\n  b: {cmd: x, deps: [a], outs: [b]}\n",
        "\
error: stages need each other in a circle
  --> dvc.yaml:2
  `a` needs `b` needs `a`
",
    );
}

#[test]
fn a_broken_params_file_is_shown_itself() {
    let project = project("vars: [v.yaml]\n");
    project.write("v.yaml", "a: 1\nb: [\n");
    let ran = stages(&project, &[]);
    assert_eq!(ran.code, Some(4));
    assert!(ran.stderr.contains("--> v.yaml:3:1\n"), "{}", ran.stderr);
}

#[test]
fn a_mistyped_target_gets_a_near_miss() {
    let ran = stages(&project("stages:\n  train: {cmd: x}\n"), &["trian"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stderr, "error: there is no stage `trian` in `dvc.yaml`\nhint: did you mean `train`?\n");
}
