//! What git ignores and no stage declares: environments, built programs, tokens, and what commands make there.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::same::{assert_clean, assert_same, fails_with};
use crate::support::{Project, Ran};

/// A project whose only pipeline runs a command for each of some keys, and makes `KEY.txt`.
fn project(command: &str, ignored: &str) -> Project {
    let project = Project::empty();
    project.write(".gitignore", ignored);
    project.write(
        "dvc.yaml",
        &format!("stages:\n  work:\n    foreach: [a, b, c, d]\n    do:\n      cmd: {command}\n      outs: ['${{item}}.txt']\n"),
    );
    project.commit("project");
    project
}

fn finished(project: Project, finish: &dyn Fn(&Project)) -> Project {
    finish(&project);
    project.commit("finished");
    project
}

fn program(project: &Project, path: &str, text: &str) {
    project.write(path, text);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.path(path), mode).expect("set");
}

/// Runs a project in both ways and compares what is left.
#[track_caller]
fn same(made: &dyn Fn() -> Project) -> Project {
    same_with(&[], made)
}

/// The same with flags of `run`.
#[track_caller]
fn same_with(flags: &[&str], made: &dyn Fn() -> Project) -> Project {
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    let ran = fanned.fanout(["run", "-j", "2"].into_iter().chain(flags.iter().copied()));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_same(&serial, &fanned, "both");
    assert_clean(&fanned, &[]);
    fanned
}

#[test]
fn commands_find_what_git_ignores() {
    same(&|| {
        let command = ". ./.env && .venv/bin/tool $KEY ${item} > ${item}.txt && lib/prog >> ${item}.txt";
        let project = project(command, ".venv/\n.env\nlib\n/made/\n");
        program(&project, ".venv/bin/tool", "#!/bin/sh\necho \"$@\"\n");
        program(&project, "made/prog", "#!/bin/sh\ncat made/data\n");
        project.write("made/data", "data\n");
        project.write(".env", "KEY=1\n");
        std::os::unix::fs::symlink("made", project.path("lib")).expect("linked");
        project
    });
}

#[test]
fn commands_find_what_lies_among_outs_deps_and_stage_files() {
    same(&|| {
        let project = project(
            "cat data/${item}.in data/help/list data/beside > ${item}.txt && cat ${item}.txt > data/out/${item}.out",
            "/data/\n",
        );
        project.edit("dvc.yaml", "outs: [", "deps: ['data/${item}.in']\n      outs: ['data/out/${item}.out', ");
        for key in ["a", "b", "c", "d"] {
            project.write(&format!("data/{key}.in"), key);
        }
        project.write("data/help/list", "list\n");
        project.write("data/beside", "beside\n");
        project.write("data/dvc.yaml", "stages:\n  more:\n    cmd: cat help/list > more.txt\n    outs: [more.txt]\n");
        std::fs::create_dir(project.path("data/out")).expect("made");
        project
    });
}

/// What git ignores is a part of a dep that it lies in, and there for commands of stages without that dep.
#[test]
fn commands_find_what_lies_in_deps_of_others() {
    same(&|| {
        let project =
            project("cat src/local src/deep/local src/tools/list > ${item}.txt", "local\n/src/deep/\ntools\n");
        project.write("dvc.yaml", &format!("{}  other:\n    foreach: [a, b]\n    do:\n      cmd: ls src/tools > ${{item}}.other\n      deps: [src]\n      outs: ['${{item}}.other']\n", project.read("dvc.yaml")));
        project.write("src/known", "known\n");
        project.write("src/local", "local\n");
        project.write("src/deep/local", "deeper\n");
        project.write("src/tools/list", "hidden from DVC, so no part of the dep\n");
        project.write(".dvcignore", "/src/tools/\n");
        project
    });
}

#[test]
fn commands_find_what_git_ignores_beside_a_project_in_a_folder() {
    let made = || {
        let project = Project::bare();
        project.git(["init", "--quiet", "--initial-branch=main"]);
        std::fs::create_dir(project.path("sub")).expect("made");
        project.dvc(["--cd", "sub", "init", "-q", "--subdir"]);
        project.write(".gitignore", ".venv\n");
        program(&project, ".venv/tool", "#!/bin/sh\necho tool\n");
        project.write(
            "sub/dvc.yaml",
            "stages:\n  work:\n    foreach: [a, b]\n    do:\n      cmd: ../.venv/tool > ${item}.txt\n      outs: ['${item}.txt']\n",
        );
        project.commit("project");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["--cd", "sub", "repro"]);
    fanned.fanout(["--cd", "sub", "run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "both");
}

#[test]
fn an_environment_is_made_once_and_stays_in_the_project() {
    let project = same(&|| {
        finished(project("sh run.sh > ${item}.txt", ".venv/\n*.log\n"), &|project| {
            let make =
                "mkdir -p .venv/bin && echo made >> made.log && printf '#!/bin/sh\\necho run\\n' > .venv/bin/run";
            project.write("run.sh", &format!("[ -d .venv ] || {{ {make}; }}\n. .venv/bin/run\n"));
        })
    });
    assert_eq!(project.read("made.log"), "made\n");
}

/// The gate opens when both work items are there, so that neither may wait for the other.
#[test]
fn work_items_begin_together_where_no_command_makes_what_git_ignores() {
    let gate = tempfile::tempdir().expect("a temporary directory");
    let wait = format!("touch {0}/${{item}} && sh wait.sh {0} && cp wait.sh ${{item}}.txt", gate.path().display());
    let project = finished(project(&wait, "build/\ntarget/\n.venv\n.env\nlib/\n*.pyc\n"), &|project| {
        project.edit("dvc.yaml", "[a, b, c, d]", "[a, b]");
        // Less than the head start that a first work item has.
        project.write(
            "wait.sh",
            "n=0; until [ -e $1/a ] && [ -e $1/b ]; do sleep 0.1; n=$((n + 1)); [ $n -lt 70 ] || exit 1; done\n",
        );
    });
    project.fanout(["run", "-j", "2"]).succeeded();
}

#[test]
fn an_environment_that_names_its_place_names_the_project() {
    let project = finished(project("sh run.sh && .venv/run > ${item}.txt", ".venv/\n"), &|project| {
        let make =
            "mkdir .venv && printf '#!/bin/sh\\ncat %s/.venv/data\\n' \"$PWD\" > .venv/run && chmod +x .venv/run";
        let data = "echo data > .venv/data && ln -s \"$PWD/.venv/data\" .venv/link";
        project.write("run.sh", &format!("[ -d .venv ] || {{ {make} && {data}; }}\n"));
    });
    project.fanout(["run", "-j", "2"]).succeeded();
    let root = project.root().canonicalize().expect("there");
    assert_eq!(project.read(".venv/run"), format!("#!/bin/sh\ncat {}/.venv/data\n", root.display()));
    assert_eq!(std::fs::read_link(project.path(".venv/link")).expect("a link"), root.join(".venv/data"));
    assert_eq!(project.read("d.txt"), "data\n");
}

#[test]
fn what_commands_write_among_ignored_files_is_in_the_project() {
    same(&|| {
        let command = "echo ${item} > ${item}.txt && cp ${item}.txt .cache/${item} && mkdir -p tmp/${item} && \
                       cp ${item}.txt tmp/${item}/own && echo last > new && mv new state && cp state over.tmp";
        let project = project(command, ".cache\ntmp/\nstate\n*.tmp\nnew\n");
        project.write(".cache/before", "before\n");
        project.write("state", "first\n");
        project
    });
}

/// Sessions that come later have it, too.
#[test]
fn what_commands_make_below_a_dep_of_others_is_a_part_of_it() {
    let made = || {
        let command = "mkdir -p src/tmp && touch src/tmp/own && cp src/in ${item}.txt";
        let project = project(command, "tmp/\n");
        project.write("src/in", "in\n");
        let stages = project.read("dvc.yaml");
        let later = "  later:\n    foreach: [x, y]\n    do:\n      cmd: find src | sort > ${item}.txt\n      deps: [src, a.txt]\n\
                     \x20     outs: ['${item}.txt']\n";
        project.write("dvc.yaml", &format!("{stages}{later}"));
        project.commit("later ones");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "below a dep");
    assert_clean(&fanned, &[]);
}

#[test]
fn git_in_a_workspace_says_nothing_of_what_is_carried() {
    let project =
        project("git status --porcelain > ${item}.txt && test ! -s ${item}.txt", ".venv/\n/odd \\[name\\] \\*/\n");
    project.edit("dvc.yaml", "outs: ['${item}.txt']", "outs: [{'${item}.txt': {cache: false}}]");
    project.edit("dvc.yaml", "git status --porcelain", "git status --porcelain -- .venv odd*");
    project.commit("project");
    program(&project, ".venv/bin/tool", "");
    project.write("odd [name] */x", "x");
    project.fanout(["run", "-j", "2"]).succeeded();
}

#[test]
fn patterns_say_what_is_carried_and_a_failure_names_what_is_not() {
    let project = project(". ./.env && .venv/tool > ${item}.txt", ".venv/\n.env\n");
    program(&project, ".venv/tool", "#!/bin/sh\necho $KEY\n");
    project.write(".env", "KEY=1\n");
    project.write(".dvc/fanout/config.yaml", "carry: ['!.env']\n");
    let plan = project.fanout(["plan"]).succeeded();
    assert!(plan.contains("carried into workspaces, though in no snapshot: `.venv`"), "{plan}");
    assert!(plan.contains("left out of workspaces, as `carry` says: `.env`"), "{plan}");
    let ran = fails_with(&project, 1, ["run", "-j", "2"]);
    assert!(ran.stderr.contains("git ignores `.env`, and `carry` leaves it out of workspaces"), "{ran:#?}");
    project.fanout(["run", "-j", "2", "--carry", ".env", "--carry", ".venv"]).succeeded();
    assert_clean(&project, &[]);
}

#[test]
fn a_failure_names_what_the_project_does_not_have() {
    let project = project(". ./.env > ${item}.txt", ".env\n");
    let ran = fails_with(&project, 1, ["run"]);
    assert!(ran.stderr.contains("git ignores `.env`, and the project seen here does not have it"), "{ran:#?}");
}

/// Python leaves `__pycache__` beside the sources that a stage depends on; DVC counts it, and so does the lock entry.
#[test]
fn what_a_command_makes_in_a_folder_that_is_a_dep_stays_there() {
    let made = || {
        let project = Project::without_init();
        project.write(".gitignore", "__pycache__/\n");
        project
            .write("src/lib.py", "import pathlib, sys\ndef out(key):\n    pathlib.Path('o_' + key).write_text(key)\n");
        project.write("src/run.py", "import sys, lib\nlib.out(sys.argv[1])\n");
        project.write(
            "dvc.yaml",
            "stages:\n  s:\n    foreach: [a, b, c]\n    do:\n      cmd: python3 src/run.py ${item}\n      deps: [src]\n      outs: ['o_${item}']\n",
        );
        project.commit("a script with a module");
        project
    };
    let (serial, fanned) = (made(), made());
    let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for project in [&serial, &fanned] {
        let source = std::fs::File::options().write(true).open(project.path("src/lib.py")).expect("opened");
        source.set_modified(at).expect("set");
    }
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_clean(&fanned, &[]);
    assert!(fanned.fanout(["run"]).succeeded().contains("nothing to do"), "its deps are as they were recorded");
    let names = |project: &Project| {
        let cached = std::fs::read_dir(project.path("src/__pycache__")).expect("listed").flatten();
        cached.map(|entry| entry.file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names(&fanned), names(&serial));
}

/// A folder that git ignores may be a link in a workspace. Whoever copies it copies what is in it.
#[test]
fn what_git_ignores_in_a_folder_is_copied_with_it() {
    for workspace in ["linked", "auto"] {
        same_with(&["--workspace", workspace], &|| {
            let command = "cp -r skel ${item}.out && cp -r skel ${item}.own && cp -r skel/build ${item}.build && echo ${item} > ${item}.txt";
            let project = project(command, "build/\ntoken\n");
            project.edit("dvc.yaml", "outs: [", "outs: ['${item}.out', '${item}.build': {cache: false}, ");
            project.write("skel/known", "known\n");
            project.write("skel/token", "secret\n");
            project.write("skel/build/deep/data", "data\n");
            program(&project, "skel/build/prog", "#!/bin/sh\n");
            std::os::unix::fs::symlink("deep/data", project.path("skel/build/link")).expect("linked");
            project
        });
    }
}

#[test]
fn what_git_ignores_is_not_copied_as_a_link_where_only_dvc_can_do_the_stage() {
    let project = project("cp -r skel ${item}.txt", "build/\n");
    project.write("skel/known", "known\n");
    project.write("skel/build/data", "data\n");
    let ran = fails_with(&project, 1, ["run", "-j", "2", "--executor", "dvc"]);
    assert!(ran.stderr.contains("has a link to `skel/build`, which git ignores"), "{ran:#?}");
    project.edit("dvc.yaml", "      outs", "      deps: [skel]\n      outs");
    project.fanout(["run", "-j", "2", "--executor", "dvc"]).succeeded();
    assert_eq!(project.read("a.txt/build/data"), "data\n");
}

/// `tar` puts a folder of its own in the place of a link, which is none under `dvc repro`.
#[test]
fn what_is_unpacked_over_an_ignored_folder_loses_nothing() {
    same(&|| {
        let command = "tar xf ${item}.tar && cp cache/${item} ${item}.txt";
        let project = project(command, "cache/\n");
        for key in ["a", "b", "c", "d"] {
            project.write(&format!("cache/{key}"), key);
            let archive = format!("{key}.tar");
            Ran::of(project.command("tar").args(["--mtime", "@0", "-cf", &archive, "cache"])).succeeded();
            std::fs::remove_file(project.path("cache").join(key)).expect("removed");
        }
        project.write("cache/model.bin", "precious");
        finished(project, &|_| {})
    });
}

/// A link there would be one that DVC refuses to write through.
#[test]
fn a_gitignore_that_git_ignores_is_no_link() {
    for (flags, is_there) in
        [(&["--executor", "native"], true), (&["--executor", "native"], false), (&["--executor", "dvc"], false)]
    {
        same_with(flags, &|| {
            let project = project("echo ${item} > ${item}.txt", "");
            project.git(["rm", "--quiet", "--cached", ".gitignore"]);
            std::fs::remove_file(project.path(".gitignore")).expect("removed");
            if is_there {
                project.write(".gitignore", "/mine\n");
            }
            project.write(".git/info/exclude", ".gitignore\n");
            finished(project, &|_| {})
        });
    }
}

/// Python's `venv` goes into a folder that is there, and refuses a link.
#[test]
fn an_environment_is_made_again_by_the_stage_that_made_it() {
    let made = || {
        let project = Project::empty();
        project.write(".gitignore", "/.venv/\n");
        project.write("req", "1\n");
        project.write(
            "dvc.yaml",
            "stages:\n  env:\n    cmd: python3 -m venv --without-pip .venv && cp req .venv/$(cat req) && cp req env.ok\n    deps: [req]\n    \
             outs: [env.ok]\n  go:\n    foreach: [a, b]\n    do:\n      cmd: .venv/bin/python -c 'open(\"${item}.out\", \
             \"w\").write(\"x\")' && ls .venv/? >> ${item}.out\n      deps: [env.ok]\n      outs: ['${item}.out']\n",
        );
        project.commit("an environment");
        project
    };
    let (serial, fanned) = (made(), made());
    for text in ["1\n", "2\n"] {
        for project in [&serial, &fanned] {
            project.write("req", text);
        }
        serial.dvc(["repro"]);
        fanned.fanout(["run", "-j", "2"]).succeeded();
        assert_eq!(fanned.read("a.out"), serial.read("a.out"));
        assert_eq!(fanned.read("dvc.lock"), serial.read("dvc.lock"));
    }
}
