//! Modes and times that commands find, and those that they give what they make.

use std::process::Command;

use crate::support::same::assert_same;
use crate::support::{Project, Ran};

const DVC_YAML: &str = "
stages:
  make:
    foreach: [a, b]
    do:
      cmd: sh make.sh ${item}
      deps: [make.sh]
      outs: [{'o/${item}.1': {cache: false}}, {'o/${item}.stamp': {cache: false}}, {'o/${item}.2': {cache: false}}]
  seen:
    foreach: [a, b]
    do:
      cmd: stat -c '%n %a' ro-${item} private-${item} both-${item} > ${item}.seen
      deps: ['o/${item}.1']
      outs: ['${item}.seen']
  all:
    cmd: for key in a b; do find o -name $key'.?' -newer o/$key.stamp; done | sort > all && stat -c '%n %y' old-? >> all
    deps: [a.seen, b.seen]
    outs: [all]
";

const MAKE: &str = "
chmod 444 ro-$1; chmod 600 private-$1; chmod u+x program-$1; chmod g+w group-$1
echo 2 > both-$1; chmod 600 both-$1; echo 2 > kept-$1
mkdir -m 700 new-$1 new-$1/inside; echo x > fresh-$1; chmod 640 fresh-$1
mkdir -p o; echo $1 > o/$1.1; sleep 0.1; touch o/$1.stamp; sleep 0.1; touch o/$1.2
touch -d '2003-03-03 03:03:03.5 UTC' o/$1.1; echo old > old-$1; touch -d '2004-04-04 UTC' old-$1
";

fn project() -> Project {
    let project = Project::without_init();
    project.write("dvc.yaml", DVC_YAML);
    project.write("make.sh", MAKE);
    for key in ["a", "b"] {
        for name in ["ro", "private", "program", "group", "both", "kept"] {
            project.write(&format!("{name}-{key}"), "1\n");
        }
        set_mode(&project, &format!("kept-{key}"), "606");
    }
    project.commit("files");
    project
}

fn set_mode(project: &Project, path: &str, mode: &str) {
    Ran::of(project.command("chmod").args([mode, path])).succeeded();
}

/// All modes, and those times that a command has set.
fn listed(project: &Project) -> String {
    let mut find = Command::new("find");
    find.args([".", "(", "-name", ".git", "-o", "-name", ".dvc", ")", "-prune", "-o"]);
    find.args(["!", "-newermt", "2010-01-01", "-printf", "%P %m %TY-%Tm-%TdT%TT\n", "-o", "-printf", "%P %m\n"]);
    let mut lines: Vec<String> =
        Ran::of(find.current_dir(project.root())).succeeded().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn modes_and_times_are_those_that_commands_have_left() {
    let serial = project();
    serial.dvc(["repro"]);
    for options in [&["--workspace", "mounted"][..], &["--workspace", "linked"], &["--executor", "dvc"]] {
        let fanned = project();
        let context = format!("{options:?}");
        // A single slot, whose workspace is used again and again.
        fanned.fanout(["run", "-j", "1"].into_iter().chain(options.iter().copied())).succeeded();
        assert_same(&serial, &fanned, &context);
        assert_eq!(listed(&fanned), listed(&serial), "{context}");
        assert_eq!(fanned.read("all").lines().next(), Some("o/a.2"), "{context}");
    }
}

/// Through a store, where files travel as one object.
#[test]
fn modes_and_times_come_through_a_store() {
    let (serial, fanned) = (project(), project());
    for project in [&serial, &fanned] {
        let remote = fanned.root().with_file_name("remote");
        project.dvc(["remote", "add", "--quiet", "--default", "store", remote.to_str().expect("text")]);
        project.commit("remote");
    }
    serial.dvc(["repro"]);
    let store = format!("file://{}", fanned.root().with_file_name("bucket").display());
    fanned.fanout(["run", "-j", "1", "--store", &store]).succeeded();
    assert_eq!(listed(&fanned), listed(&serial));
}

/// `dvc add` leaves some files as they are where it could link, and so does `dvc unprotect`.
#[test]
fn data_that_are_no_links_in_the_project_are_none_for_commands() {
    let made = |types: &str, unprotected: &[&str]| {
        let project = Project::without_init();
        project.write(".dvc/config", &format!("[cache]\n    type = \"{types}\"\n"));
        for path in ["raw/1", "raw/2", "raw/3", "one"] {
            project.write(path, &format!("{path}\n"));
        }
        project.dvc(["add", "--quiet", "raw", "one"]);
        if !unprotected.is_empty() {
            project.dvc(["unprotect"].iter().chain(unprotected).copied());
        }
        project.write(
            "dvc.yaml",
            "stages:\n  m:\n    foreach: [1, 2]\n    do:\n      cmd: mkdir o${item} && cp raw/${item} one o${item} && chmod u+w o${item}/one && \
             stat -L -c '%n %a' raw/${item} one > o${item}/seen\n      deps: ['raw/${item}', one]\n      outs: ['o${item}']\n  d:\n\
             \x20   cmd: stat -L -c '%n %a' raw/? o1/1 > d\n    deps: [raw, o1]\n    outs: [d]\n",
        );
        project.commit("data");
        project
    };
    for (types, unprotected) in
        [("reflink,hardlink,symlink", &[][..]), ("hardlink", &["raw"]), ("symlink", &["one"]), ("hardlink", &[])]
    {
        let (serial, fanned) = (made(types, unprotected), made(types, unprotected));
        serial.dvc(["repro"]);
        fanned.fanout(["run", "-j", "2"]).succeeded();
        assert_same(&serial, &fanned, &format!("{types} {unprotected:?}"));
    }
}

/// A token in a file that an earlier run has left stays what only its owner may read.
#[test]
fn outs_that_persist_in_git_keep_the_mode_that_they_had() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  get:\n    foreach: ['600', '640', '755']\n    do:\n      cmd: echo t >> tok${item}\n      deps: [s]\n      outs: \
             [{'tok${item}': {cache: false, persist: true}}]\n",
        );
        project.write("s", "1\n");
        for mode in ["600", "640", "755"] {
            project.write(&format!("tok{mode}"), "secret\n");
            set_mode(&project, &format!("tok{mode}"), mode);
        }
        project.commit("tokens");
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    for options in [&["--executor", "native"][..], &["--workspace", "linked"], &["--executor", "dvc"]] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2"].into_iter().chain(options.iter().copied())).succeeded();
        assert_same(&serial, &fanned, options[1]);
        assert_eq!(listed(&fanned), listed(&serial), "{options:?}");
    }
}
