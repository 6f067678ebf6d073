//! A DVC that is loaded once: its commands, its results and its end are those of a `dvc` that is started each time.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran, run_folder};

/// What a command can see of the process that it is, and of the `dvc` above it.
const PROBE: &str = r#"
out=$1
{
    env | grep -v '^D=' | sort
    for fd in /proc/$$/fd/*; do
        # Pipes are those of this line.
        target=$(readlink "$fd")
        case $target in pipe:* | "") ;; *) echo "fd ${fd##*/} $target" ;; esac
    done
    ls -l /proc/$D/fd | sed 's/.* -> //; s/:\[.*//' | grep -v "^total" | grep -c .
    ulimit -a
    umask
    trap
    grep -E '^(Sig[^Q]|Shd|Umask|NoNewPrivs|Cap)' /proc/$$/status /proc/$D/status | sed 's/^[^:]*://'
    nice
    cat /proc/$D/comm
    test "$(ps -o pgid= -p $$)" -eq $D && echo "the group is that of dvc"
    worker=$(ps -o ppid= -p $D | tr -d ' ')
    test "$(ps -o sid= -p $$)" -eq "$(ps -o sid= -p "$worker")" && echo "the session is the worker's"
    cat
    cat /proc/$D/oom_score_adj
} >"$out" 2>&1
exec >&2
echo "to stderr"
"#;

/// A project whose stages look at themselves, and say in `../ways` whether their `dvc` was forked.
fn probing() -> Project {
    let project = Project::without_init();
    project.write("probe.sh", PROBE);
    project.write("params.yaml", "keys: [a, b, c]\n");
    project.write(
        "dvc.yaml",
        &format!(
            "stages:\n  look:\n    foreach: ${{keys}}\n    do:\n      cmd: export D=$PPID; sh {way} && sh probe.sh ${{item}}.txt\n      \
             deps: [probe.sh]\n      outs: [\"${{item}}.txt\"]\n  gather:\n    cmd: cat ?.txt > all.txt\n    deps: \
             [a.txt, b.txt, c.txt]\n    outs: [all.txt]\n",
            way = project.path("../way.sh").display()
        ),
    );
    let ways = project.path("../ways");
    project.write(
        "../way.sh",
        &format!(
            "if tr '\\0' ' ' </proc/$D/cmdline | grep -q ' serve '; then echo forked; else echo started; fi >> {}\n",
            ways.display()
        ),
    );
    project.commit("probing");
    project
}

fn ways(project: &Project) -> Vec<String> {
    std::fs::read_to_string(project.path("../ways")).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Runs the project in one slot.
fn run(project: &Project, change: impl for<'a> Fn(&'a mut Command) -> &'a mut Command) -> Ran {
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    command.args(["run", "-j", "1", "--executor", "dvc"]);
    change(&mut command);
    Ran::of(&mut command)
}

/// The logs of the first attempts, by index.
fn logs(project: &Project) -> Vec<String> {
    let folder = run_folder(project);
    let log = |index: usize| std::fs::read_to_string(folder.join(format!("results/{index}/1.log"))).expect("a log");
    (0..4).map(log).collect()
}

/// A text without what differs between two projects: where they lie, and the name of the run.
fn plain(project: &Project, text: &str) -> String {
    let folder = project.path("..").canonicalize().expect("there").to_string_lossy().into_owned();
    let run = run_folder(project).file_name().expect("a name").to_string_lossy().into_owned();
    text.replace(&folder, "FOLDER").replace(&run, "RUN")
}

/// Waits until no process names a folder in its command line.
fn wait_until_nothing_runs(folder: &Path) {
    let folder = folder.canonicalize().expect("there").to_string_lossy().into_owned();
    let running = || -> Vec<String> {
        let processes = std::fs::read_dir("/proc").expect("listed").flatten();
        let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(&folder)).collect()
    };
    let limit = Instant::now() + Duration::from_mins(2);
    while !running().is_empty() {
        assert!(Instant::now() < limit, "still running: {:#?}", running());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Python changes the locale of its children where it finds this one; DVC prints a set in the order of its hashes.
fn in_c(command: &mut Command) -> &mut Command {
    command.env_remove("LC_ALL").env("LANG", "C").env("PYTHONHASHSEED", "0").env("UMLAUT", "\u{e4}")
}

#[test]
fn a_command_sees_the_same_from_a_forked_dvc_as_from_a_started_one() {
    let (started, forked) = (probing(), probing());
    let ran = run(&started, |command| in_c(command.env("DVC_FANOUT_WARM", "0")));
    assert_eq!((ran.code, ways(&started)), (Some(0), vec!["started".to_owned(); 3]), "{ran:#?}");
    let ran = run(&forked, in_c);
    assert_eq!((ran.code, ways(&forked)), (Some(0), vec!["forked".to_owned(); 3]), "{ran:#?}");
    for key in ["a.txt", "b.txt", "c.txt"] {
        let switch = "DVC_FANOUT_WARM=0\n";
        let seen = plain(&started, &started.read(key));
        assert!(seen.contains(switch) && seen.contains("the group is that of dvc"), "{seen}");
        assert!(seen.contains("the session is the worker's"), "{seen}");
        assert_eq!(plain(&forked, &forked.read(key)), seen.replace(switch, ""), "{key}");
    }
    for (forked_log, started_log) in logs(&forked).iter().zip(logs(&started)) {
        assert_eq!(plain(&forked, forked_log), plain(&started, &started_log));
    }
    assert_clean(&forked, &[]);
}

#[test]
fn a_dvc_that_may_do_more_than_start_dvc_is_started_each_time() {
    let project = probing();
    let wrapper = project.path("../wrapper");
    std::fs::write(&wrapper, "#!/bin/sh\nWRAPPED=yes exec dvc \"$@\"\n").expect("written");
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let ran = run(&project, |command| command.env("DVC_FANOUT_DVC", &wrapper));
    assert_eq!((ran.code, ways(&project)), (Some(0), vec!["started".to_owned(); 3]), "{ran:#?}");
    assert!(project.read("a.txt").contains("WRAPPED=yes"));
}

#[test]
fn what_python_says_when_it_starts_is_in_each_log() {
    let project = probing();
    project.write("../site/sitecustomize.py", "import sys\nprint('said at start', file=sys.stderr)\n");
    let ran = run(&project, |command| command.env("PYTHONPATH", project.path("../site")));
    assert_eq!((ran.code, ways(&project)), (Some(0), vec!["started".to_owned(); 3]), "{ran:#?}");
    for log in logs(&project) {
        assert_eq!(log.matches("said at start").count(), 1, "{log}");
    }
}

#[test]
fn a_loaded_dvc_that_cannot_be_used_costs_no_attempt() {
    for failing in [
        "sys.exit(3)",
        "os.kill(os.getpid(), 9)",
        "import threading; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ] {
        let project = probing();
        let only_there = format!("import os, sys, time\nif 'serve' in sys.orig_argv: {failing}\n");
        project.write("../site/sitecustomize.py", &only_there);
        let ran = run(&project, |command| command.env("PYTHONPATH", project.path("../site")));
        assert_eq!((ran.code, ways(&project)), (Some(0), vec!["started".to_owned(); 3]), "{failing}: {ran:#?}");
        assert!(!ran.stderr.contains("attempt 2"), "{failing}: {ran:#?}");
    }
}

/// DVC looks which objects are there and then puts in the others; so it is when another DVC did so in between.
const TOO_LATE: &str = "
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder


class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != 'dvc_data.hashfile.db.local':
            return None
        spec = PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.LocalHashFileDB.oids_exist = lambda *_, **__: []

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
";

#[test]
fn an_object_that_another_dvc_has_just_put_into_the_cache_stays_as_it_is() {
    for (kind, warm) in [("copy", "1"), ("hardlink", "1"), ("hardlink", "0")] {
        let make = || {
            let project = Project::without_init();
            project.write(
                "dvc.yaml",
                "stages:\n  first:\n    foreach: [a, b]\n    do:\n      cmd: echo equal > first-${item}\n      outs: \
                 [\"first-${item}\"]\n  second:\n    foreach: [a, b]\n    do:\n      cmd: cat first-${item} > \
                 second-${item}\n      deps: [\"first-${item}\"]\n      outs: [\"second-${item}\"]\n  third:\n    foreach: \
                 [a, b]\n    do:\n      cmd: cat first-${item} second-${item} > third-${item}\n      deps: [\"first-${item}\", \
                 \"second-${item}\"]\n      outs: [\"third-${item}\"]\n",
            );
            project.write(".dvc/config", &format!("[cache]\n    type = {kind}\n"));
            project.write("../site/sitecustomize.py", TOO_LATE);
            project.commit("equal bytes");
            project
        };
        let (serial, fanned) = (make(), make());
        serial.dvc(["repro"]);
        let too_late = fanned.path("../site");
        let ran = run(&fanned, |command| command.env("PYTHONPATH", &too_late).env("DVC_FANOUT_WARM", warm));
        assert_eq!(ran.code, Some(0), "{kind} {warm}: {ran:#?}");
        assert_same(&serial, &fanned, kind);
    }
}

#[test]
fn a_loaded_dvc_that_is_killed_meanwhile_costs_no_attempt() {
    let project = probing();
    // The command's grandparent is the worker, and DVC is loaded in another child of that one.
    project.write(
        "../kill.sh",
        &format!(
            "worker=$(ps -o ppid= -p $D | tr -d ' ')\nfor child in $(cat /proc/$worker/task/*/children); do\n    if [ \
             $child != $D ]; then kill -KILL $child && echo killed >> {}; fi\ndone\n",
            project.path("../ways").display()
        ),
    );
    let kill = project.path("../kill.sh").display().to_string();
    project.edit("dvc.yaml", "D=$PPID;", &format!("D=$PPID; test ${{item}} = a && sh {kill};"));
    project.commit("the first kills it");
    let ran = run(&project, |command| command);
    assert_eq!(
        (ran.code, ways(&project)),
        (Some(0), ["killed", "forked", "started", "started"].map(str::to_owned).to_vec()),
        "{ran:#?}"
    );
    assert!(!ran.stderr.contains("attempt 2"), "{ran:#?}");
    assert_clean(&project, &[]);
}

#[test]
fn a_forked_dvc_ends_with_its_launcher_and_at_its_timeout() {
    let project = probing();
    let gate = project.path("../gate").display().to_string();
    let waiting = format!("while test ! -e {gate}; do sleep 0.05; done; touch ${{item}}.txt");
    project.edit("dvc.yaml", "sh probe.sh ${item}.txt", &waiting);
    project.commit("gated");
    let ran = run(&project, |command| command.args(["--timeout", "1", "--retries", "0"]));
    let before = ways(&project);
    assert!(ran.code == Some(1) && before.iter().all(|way| way == "forked"), "{before:?} {ran:#?}");
    assert!(ran.stderr.contains("longer than"), "{ran:#?}");
    wait_until_nothing_runs(&project.path(".."));

    let mut launcher = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    launcher.args(["run", "-j", "2", "--force", "--executor", "dvc"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut launcher = launcher.spawn().expect("started");
    let limit = Instant::now() + Duration::from_mins(2);
    while ways(&project).len() == before.len() {
        assert!(Instant::now() < limit, "nothing began: {:?}", ways(&project));
        std::thread::sleep(Duration::from_millis(50));
    }
    launcher.kill().expect("killed");
    launcher.wait().expect("ended");
    wait_until_nothing_runs(&project.path(".."));
}

#[test]
fn long_files_that_are_read_once_for_all_are_read_as_they_are() {
    let make = || {
        let project = Project::from_fixture("sessions");
        let line = |number: u32| format!("- {{n: {number}, f: 1.50, s: 'é', b: true, z: null}}\n");
        let many = (0..200).map(line).collect::<Vec<_>>().concat();
        project.write("params.yaml", &format!("{}many:\n{many}", project.read("params.yaml")));
        let others = (0..600).map(|number| format!("/other-{number}*\n")).collect::<Vec<_>>().concat();
        // A pattern that is none, and one that covers an out, which then gets no line.
        project.write("work/.gitignore", &format!("# of others\n{others}[z-a].txt\n/s2.*\n!/s3.*\n"));
        project.commit("long files");
        project
    };
    let (serial, fanned) = (make(), make());
    for (from, to, line) in [("weight: 0.5", "weight: 0.25", "/s1.txt"), ("s4]", "s4, s5]", "/s5.txt")] {
        for project in [&serial, &fanned] {
            project.write("raw/s5.txt", "five\n");
            project.edit("params.yaml", from, to);
            project.edit("work/.gitignore", "/other-300*\n", &format!("{line}\n/other-300*\n"));
        }
        serial.dvc(["repro"]);
        assert_eq!(run(&fanned, |command| command).code, Some(0));
        assert_same(&serial, &fanned, to);
    }
}
