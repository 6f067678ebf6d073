//! Commands that look around: what they see of the project in a workspace is what they would see under `dvc repro`.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::Project;
use crate::support::same::{assert_clean, assert_same};

/// What a command can ask of the stages of the whole project, not of its own alone.
const SHOW: &str = r#"
import hashlib, json, pathlib, subprocess, sys
import dvc.api

digest = {name: hashlib.md5(pathlib.Path(name).read_bytes()).hexdigest() for name in ("dvc.yaml", "sub/dvc.yaml")}
stages = subprocess.run(["dvc", "stage", "list", "--all", "--name-only"], capture_output=True, text=True).stdout
status = subprocess.run(["git", "status", "--porcelain", "dvc.yaml", "sub"], capture_output=True, text=True).stdout
print(json.dumps({
    "all": dvc.api.params_show(), "first": dvc.api.params_show(stages="first"),
    "digest": digest, "stages": stages, "status": status,
}, sort_keys=True))
"#;

fn looking() -> Project {
    let project = Project::empty();
    project.write("params.yaml", "alpha: 1\nkeys: [p, q]\n");
    project.write("conf/extra.yaml", "beta: 2\n");
    project.write("show.py", SHOW);
    project.write("raw/own.txt", "own\n");
    project.write(
        "dvc.yaml",
        "stages:\n  first:\n    cmd: echo x > first.txt\n    params:\n    - alpha\n    - conf/extra.yaml: [beta]\n    outs: \
         [first.txt]\n  use:\n    foreach: ${keys}\n    do:\n      cmd: python show.py > ${item}.json\n      deps: [first.txt, \
         show.py]\n      params: [alpha]\n      outs: [\"${item}.json\"]\n",
    );
    project.write("sub/dvc.yaml", "stages:\n  other:\n    cmd: echo other > other.txt\n    outs: [other.txt]\n");
    project.commit("scripts that look around");
    project
}

#[test]
fn the_stages_of_the_whole_project_are_there() {
    let [serial, native, both] = [(); 3].map(|()| looking());
    for change in ["alpha: 1", "alpha: 2"] {
        for project in [&serial, &native, &both] {
            project.edit("params.yaml", "alpha: 1", change);
        }
        serial.dvc(["repro", "-P"]);
        for (fanned, executor) in [(&native, "native"), (&both, "check")] {
            fanned.fanout(["run", "--all-pipelines", "-j", "2", "--executor", executor]).succeeded();
            assert_same(&serial, fanned, &format!("{change}, {executor}"));
        }
    }
    assert_clean(&both, &["-P"]);
}

#[test]
fn a_stage_that_only_dvc_can_do_finds_the_entries_of_those_before_it() {
    let make = || {
        let project = Project::empty();
        project.write("params.yaml", "keys: [p, q]\n");
        // A param that is a pattern is left to DVC.
        project.write(
            "dvc.yaml",
            "stages:\n  first:\n    foreach: ${keys}\n    do:\n      cmd: cat ${item}.txt > first-${item}\n      deps: \
             [\"${item}.txt\"]\n      outs: [\"first-${item}\"]\n  second:\n    foreach: ${keys}\n    do:\n      cmd: cat \
             first-${item} dvc.yaml > second-${item}\n      deps: [\"first-${item}\"]\n      params: [\"key?\"]\n      outs: \
             [\"second-${item}\"]\n  third:\n    foreach: ${keys}\n    do:\n      cmd: cat second-${item} second-${item} > \
             third-${item}\n      deps: [\"second-${item}\"]\n      outs: [\"third-${item}\"]\n",
        );
        project.write("p.txt", "p\n");
        project.write("q.txt", "q\n");
        project.commit("three in a row");
        project
    };
    let (serial, fanned) = (make(), make());
    for text in ["p\n", "another p\n"] {
        for project in [&serial, &fanned] {
            project.write("p.txt", text);
        }
        serial.dvc(["repro"]);
        fanned.fanout(["run", "-j", "2"]).succeeded();
        assert_same(&serial, &fanned, text);
        assert_clean(&fanned, &[]);
    }
}

#[test]
fn what_commands_leave_under_names_that_are_not_utf8_comes_back() {
    use std::os::unix::ffi::OsStrExt as _;
    let make = || {
        let project = Project::empty();
        project.write(
            "dvc.yaml",
            r#"stages:
  use:
    foreach: [p, q]
    do:
      cmd: >-
        mkdir -p notes "$(printf 'd\351')-${item}" && echo ${item} > "notes/$(printf 'caf\351')-${item}.txt" &&
        echo ${item} > "$(printf 'd\351')-${item}/inside.txt" && echo ${item} > ${item}.txt
      outs: ["${item}.txt"]
"#,
        );
        project.commit("odd names");
        project
    };
    let (serial, fanned) = (make(), make());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "1"]).succeeded();
    for (name, text) in
        [(&b"notes/caf\xe9-p.txt"[..], "p\n"), (b"notes/caf\xe9-q.txt", "q\n"), (b"d\xe9-q/inside.txt", "q\n")]
    {
        for project in [&serial, &fanned] {
            let path = project.path("").join(std::ffi::OsStr::from_bytes(name));
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some(text), "{}", path.display());
        }
    }
    assert_same(&serial, &fanned, "odd names");
}

/// `gzip` records the time of its input, `make` compares times, and `ssh` refuses a key that others may read.
#[test]
fn inputs_have_the_times_and_modes_of_the_project() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  a:\n    foreach: [x, y]\n    do:\n      cmd: gzip -c in/${item} > ${item}.gz && stat -c '%a %Y %n' in/${item} key tool loose\
             \x20data.bin dir/in >> ${item}.gz\n      deps: ['in/${item}', data.bin, dir, loose]\n      outs: ['${item}.gz']\n",
        );
        for path in ["in/x", "in/y", "key", "tool", "loose", "data.bin", "dir/in"] {
            project.write(path, &format!("{path}\n"));
        }
        project.dvc(["add", "--quiet", "data.bin", "dir"]);
        for (path, mode) in [("key", 0o600), ("tool", 0o755), ("in/y", 0o640), ("loose", 0o664)] {
            std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(mode)).expect("set");
        }
        project.write(".gitignore", "/loose\n/data.bin\n/dir\n");
        project.commit("made");
        for (path, year) in [
            ("in/x", 2001),
            ("in/y", 2002),
            ("tool", 2003),
            ("loose", 2004),
            ("data.bin", 2005),
            ("dir/in", 2006),
            ("key", 2007),
        ] {
            let status = std::process::Command::new("touch")
                .args(["-d", &format!("{year}-01-01")])
                .arg(project.path(path))
                .status();
            assert!(status.expect("ran").success());
        }
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    for workspace in ["mounted", "linked"] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2", "--workspace", workspace]).succeeded();
        let text = |project: &Project| {
            let bytes = std::fs::read(project.path("y.gz")).expect("read");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        assert_eq!(text(&fanned), text(&serial), "{workspace}");
        assert_same(&serial, &fanned, workspace);
    }
}

/// Projects whose only pipeline runs a command for each of two keys, made by `finish`; in both ways they end the same.
#[track_caller]
fn same(command: &str, outs: &str, finish: &dyn Fn(&Project)) -> Project {
    let made = || {
        let project = Project::empty();
        project.write("in", "1\n");
        let stage =
            format!("stages:\n  s:\n    foreach: [x, y]\n    do:\n      cmd: {command}\n      outs: [{outs}]\n");
        project.write("dvc.yaml", &stage);
        finish(&project);
        project.commit("project");
        project
    };
    let (serial, fanned) = (made(), made());
    for round in ["first", "second"] {
        serial.dvc(["repro", "-f"]);
        fanned.fanout(["run", "-f", "-j", "1"]).succeeded();
        assert_same(&serial, &fanned, &format!("{command}, {round}"));
    }
    fanned
}

#[test]
fn commands_name_the_projects_own_folder() {
    let odd = "find ./ -maxdepth 1 -name in > o_${item}; ls -d . ./ sub/.. ../nowhere >> o_${item} 2>/dev/null; cd ./; test -d .. && ls / > \
               /dev/null";
    same(odd, "'o_${item}'", &|project| project.write("sub/kept", ""));
    let project = Project::empty();
    project.write("in", "1\n");
    project.write(
        "sub/dvc.yaml",
        "stages:\n  s:\n    foreach: [x, y]\n    do:\n      cmd: cd .. && cp in sub/o_${item} && cat ../in sub/../in >> sub/o_${item} || \
         true\n      outs: ['o_${item}']\n",
    );
    project.fanout(["run", "-R", "."]).succeeded();
    assert_eq!(project.read("sub/o_x"), "1\n1\n");
}

#[test]
fn symlinks_that_commands_change_are_changed() {
    use std::os::unix::fs::symlink;
    let link = |target: &'static str| {
        move |project: &Project| {
            project.write("t1/x", "t1\n");
            project.write("t2/x", "t2\n");
            symlink(target, project.path("latest")).expect("linked");
        }
    };
    for target in ["t1", "t1/x", "nowhere"] {
        let relink = "echo 1 > o_${item}; ln -sfn t2 latest";
        same(relink, "'o_${item}'", &link(target));
        same("echo 1 > o_${item}; rm latest; echo now > latest", "'o_${item}'", &link(target));
    }
}

#[test]
fn files_and_folders_that_commands_replace_by_each_other_are_replaced() {
    let both = |project: &Project| {
        project.write("fold/x", "x\n");
        project.write("fold/deep/y", "y\n");
        project.write("file", "file\n");
    };
    same("echo 1 > o_${item}; rm -rf fold; echo now > fold", "'o_${item}'", &both);
    same("echo 1 > o_${item}; rm -rf fold; ln -s in fold", "'o_${item}'", &both);
    same("echo 1 > o_${item}; rm -rf file; mkdir -p file/in; echo z > file/in/h", "'o_${item}'", &both);
}

/// The default branch, settings of one work tree, submodules that are not as recorded, and filters that nobody tracks.
#[test]
fn git_says_what_it_says_in_the_project() {
    let made = || {
        let project = Project::without_init();
        project.write("../library/code", "code\n");
        let library = project.path("../library").to_str().expect("it is UTF-8").to_owned();
        for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "library"]] {
            project.git(["-C", &library].iter().chain(arguments).copied());
        }
        project.git(["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &library, "lib"]);
        project.git(["config", "-f", ".gitmodules", "submodule.lib.url", "../library"]);
        project.write("notes/n.dat", "output\n");
        project.write(
            "look.sh",
            "git symbolic-ref refs/remotes/origin/HEAD; git rev-parse --abbrev-ref origin/HEAD; git config my.setting; git describe \
             --always --dirty | sed s/.*-//; git status --porcelain lib; git diff --name-only lib; cat notes/n.dat\n",
        );
        project.write(
            "dvc.yaml",
            "stages:\n  look:\n    foreach: [a, b]\n    do:\n      cmd: sh look.sh > ${item}.out\n      deps: [look.sh, notes/n.dat]\n      outs: \
             ['${item}.out']\n",
        );
        project.git(["config", "filter.shout.clean", "tr a-z A-Z"]);
        project.git(["config", "filter.shout.smudge", "tr A-Z a-z"]);
        project.write("notes/.gitattributes", "*.dat filter=shout\n");
        project.write(".git/info/exclude", ".gitattributes\n");
        project.commit("what git knows");
        project.git(["update-ref", "refs/remotes/origin/main", "HEAD"]);
        project.git(["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
        project.git(["config", "extensions.worktreeConfig", "true"]);
        project.git(["config", "--worktree", "my.setting", "hello"]);
        project.write("lib/code", "edited\n");
        // Later than the index, git trusts what it has seen.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        project.write("later", "later\n");
        project.git(["add", "later"]);
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    assert_eq!(serial.read("a.out"), "refs/remotes/origin/main\norigin/main\nhello\ndirty\n M lib\nlib\noutput\n");
    for workspace in ["auto", "linked"] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2", "--workspace", workspace]).succeeded();
        assert_same(&serial, &fanned, workspace);
    }
}
