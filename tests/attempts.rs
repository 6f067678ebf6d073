//! What an attempt leaves that fails, is cut off or is rejected: for the next one, and for the project.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::same::{assert_clean, assert_same, assert_same_after_failure, fails_with, same_when_made};
use crate::support::{Project, Ran, say};

/// How long something may take to happen.
const LIMIT: Duration = Duration::from_mins(3);

/// A project of one session whose first stage makes a note that nobody declares, and whose second one waits for a gate.
fn noting() -> Project {
    let project = Project::from_fixture("sessions");
    project.edit("params.yaml", "s1, s2, s3, s4", "s1");
    project.edit(
        "dvc.yaml",
        "cmd: mkdir -p work &&",
        "cmd: echo extract >> $HOME/ran && echo ${item} > note-${item} && mkdir -p work &&",
    );
    project.edit(
        "dvc.yaml",
        "cmd: mkdir -p scores &&",
        "cmd: echo score >> $HOME/ran && while [ ! -e $HOME/gate ]; do sleep 0.05; done && mkdir -p scores &&",
    );
    project.commit("it notes what runs");
    project
}

/// Starts `dvc-fanout run` in a process group of its own.
fn start(project: &Project) -> Child {
    let mut command: Command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    command.args(["run", "-j", "1"]).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().expect("started")
}

/// Ends a run with all that belongs to it as soon as something is the case.
#[track_caller]
fn kill_when(project: &Project, mut child: Child, what: &str, is_so: &dyn Fn() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < limit, "it never came to this: {what}");
        assert!(child.try_wait().expect("looked at").is_none(), "it ended before this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a small number")).expect("not 0");
    kill_process_group(group, Signal::KILL).expect("killed");
    child.wait().expect("ended");
    for (id, _) in project.processes() {
        let _gone_is_fine = Pid::from_raw(id).map(|id| rustix::process::kill_process(id, Signal::KILL));
    }
}

fn ran(project: &Project) -> String {
    std::fs::read_to_string(project.path("../home/ran")).unwrap_or_default()
}

/// A run that is killed once its first stage is recorded and before anything is published.
fn killed_half_way() -> Project {
    let project = noting();
    kill_when(&project, start(&project), "the second stage runs", &|| ran(&project).contains("score"));
    assert!(project.path(".dvc/cache/runs").is_dir(), "the first stage is in the run cache");
    std::fs::write(project.path("../home/gate"), "").expect("written");
    project
}

fn serial(change: &dyn Fn(&Project)) -> Project {
    let serial = noting();
    std::fs::write(serial.path("../home/gate"), "").expect("written");
    change(&serial);
    serial.dvc(["repro"]);
    serial
}

#[test]
fn a_stage_that_a_killed_attempt_recorded_makes_its_other_files_again() {
    let killed = killed_half_way();
    killed.fanout(["run", "-j", "1"]).succeeded();
    assert_same(&serial(&|_| {}), &killed, "after a kill");
    assert_eq!(ran(&killed).matches("extract").count(), 2, "{}", ran(&killed));
}

#[test]
fn a_later_plan_does_not_trust_what_a_killed_run_recorded() {
    let killed = killed_half_way();
    let change = |project: &Project| project.edit("params.yaml", "weight: 0.5", "weight: 0.7");
    change(&killed);
    killed.fanout(["run", "-j", "1"]).succeeded();
    // The run that was killed stays, until somebody removes it.
    for reference in killed.git(["for-each-ref", "--format=%(refname)", "refs/dvc-fanout"]).lines() {
        killed.git(["update-ref", "-d", reference]);
    }
    assert_same(&serial(&change), &killed, "planned anew after a kill");
    // What came into the project is trusted from then on.
    std::fs::remove_file(killed.path("dvc.lock")).expect("removed");
    let before = ran(&killed);
    killed.fanout(["run", "-j", "1"]).succeeded();
    assert_eq!(ran(&killed), before, "it is in the run cache");
}

/// Three sessions, of which the last waits for a gate; a summary looks at what they leave undeclared.
fn sessions_at_a_gate() -> Project {
    let project = Project::without_init();
    project.write(
        "dvc.yaml",
        "stages:\n  s:\n    foreach: [a, b, c]\n    do:\n      cmd: echo ${item} >> $HOME/ran && cat in-${item} > ${item}.out && \
         echo ${item} > note-${item} && while [ ${item} = c -a ! -e $HOME/gate ]; do sleep 0.05; done\n      \
         deps: ['in-${item}']\n      outs: ['${item}.out']\n  sum:\n    cmd: cat note-* > sum\n    \
         deps: [a.out, b.out, c.out]\n    outs: [sum]\n",
    );
    for key in ["a", "b", "c"] {
        project.write(&format!("in-{key}"), key);
    }
    project.commit("three sessions");
    project
}

fn wait_for_c(project: &Project) {
    let limit = Instant::now() + LIMIT;
    while !ran(project).contains('c') {
        assert!(Instant::now() < limit, "the last session does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As after a `dvc repro` that was cut off: what was done is done, whatever somebody does before the next run.
#[test]
fn what_a_killed_run_has_done_is_not_done_again_though_something_has_changed() {
    type Change<'a> = (&'a str, &'a dyn Fn(&Project), &'a str);
    let changes: [Change<'_>; 4] = [
        ("a new file", &|project| project.write("run.log", "x"), "a\nb\nc\nc\n"),
        ("another input", &|project| project.write("in-b", "other"), "a\nb\nb\nc\nc\n"),
        ("settings", &|project| project.write(".dvc/fanout/config.yaml", "jobs: 1\n"), "a\nb\nc\nc\n"),
        ("a plan", &|project| drop(project.fanout(["plan", "s@c"]).succeeded()), "a\nb\nc\nc\n"),
    ];
    for (what, change, expected) in changes {
        let project = sessions_at_a_gate();
        kill_when(&project, start(&project), "the last session runs", &|| ran(&project).contains('c'));
        change(&project);
        project.write("../home/gate", "");
        let again = project.fanout(["run", "-j", "1"]);
        assert_eq!(again.code, Some(0), "{what}: {again:#?}");
        assert!(again.stderr.contains("was cut off: 2 stages that it had done were collected"), "{what}: {again:#?}");
        let mut lines: Vec<String> = ran(&project).lines().map(|line| format!("{line}\n")).collect();
        lines.sort_unstable();
        assert_eq!(lines.concat(), expected, "{what}");
        assert_eq!(project.read("sum"), "a\nb\nc\n", "{what}");
        assert_clean(&project, &[]);
    }
}

/// Git leaves the workspaces, which look to it like repositories of somebody's, and takes what describes them.
#[test]
fn a_workspace_whose_run_was_cleaned_away_is_made_anew() {
    let project = sessions_at_a_gate();
    project.write("src/one", "1\n");
    project.edit("dvc.yaml", "cat in-${item}", "cat src/* in-${item}");
    project.commit("a folder that nobody declares");
    let mut first = start(&project);
    wait_for_c(&project);
    project.git(["clean", "-fdxq"]);
    project.write("../home/gate", "");
    assert!(!first.wait().expect("ended").success(), "its folder is gone");
    for _ in 0..2 {
        let again = project.fanout(["run", "-j", "2"]);
        assert_eq!(again.code, Some(0), "{again:#?}");
    }
    assert_eq!(project.read("a.out"), "1\na");
    assert_clean(&project, &[]);
}

#[test]
fn a_run_that_cannot_be_read_any_more_is_planned_anew() {
    for damage in ["worklist.jsonl", "worklist.index", "plan.json"] {
        let project = sessions_at_a_gate();
        // What the first run has left is restored, but for what nobody declares.
        project.edit("dvc.yaml", "cat note-* > sum", "cat *.out > sum");
        project.commit("it looks at outs alone");
        project.write("../home/gate", "");
        project.fanout(["plan"]).succeeded();
        project.fanout(["launch"]).succeeded();
        let run = crate::support::run_folder(&project);
        std::fs::write(run.join(damage), "{").expect("written");
        project.write(".dvc/fanout/uncommitted.jsonl", "\u{0}\n");
        let again = project.fanout(["run"]);
        assert_eq!(again.code, Some(0), "{damage}: {again:#?}");
        assert_clean(&project, &[]);
    }
}

/// What the project holds by now may be somebody's work.
#[test]
fn what_a_killed_run_has_done_is_told_where_it_cannot_be_collected() {
    let project = sessions_at_a_gate();
    kill_when(&project, start(&project), "the last session runs", &|| ran(&project).contains('c'));
    project.write("note-a", "mine\n");
    project.write("../home/gate", "");
    let plan = project.fanout(["plan"]);
    assert!(plan.stderr.contains("what it has done is not in the project yet"), "{plan:#?}");
    let again = project.fanout(["run", "-j", "1", "s@c"]);
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(again.stderr.contains("had done was not collected"), "{again:#?}");
    assert!(again.stderr.contains("`dvc-fanout collect "), "{again:#?}");
    assert_eq!(project.read("note-a"), "mine\n");
    let again = project.fanout(["run", "-j", "1", "s@c"]);
    assert!(!again.stderr.contains("had done was not collected"), "it is told once: {again:#?}");
}

/// Where something has changed the second run is another one; its commands would run beside those of the first.
#[test]
fn stages_that_a_run_is_at_are_not_begun_by_another() {
    let project = sessions_at_a_gate();
    let mut first = start(&project);
    wait_for_c(&project);
    project.write("note", "");
    let second = fails_with(&project, 5, ["run"]);
    assert!(second.stderr.contains("stages (`s@c` is one) are part of run"), "{second:#?}");
    assert!(second.stderr.contains(&format!("which is on, by process {}", first.id())), "{second:#?}");
    // Whatever has come to its end since.
    project.fanout(["run", "--force", "s@a"]).succeeded();
    let third = fails_with(&project, 5, ["run", "s@c"]);
    assert!(third.stderr.contains("stage `s@c` is part of run"), "{third:#?}");
    project.write("../home/gate", "");
    assert!(first.wait().expect("ended").success());
    assert_eq!(ran(&project), "a\nb\nc\na\n");
    project.fanout(["run"]).succeeded();
    assert_eq!(ran(&project), "a\nb\nc\na\n");
}

#[test]
fn another_try_finds_what_the_one_before_left_beside_its_outs() {
    let make = || {
        let project = noting();
        project.edit(
            "dvc.yaml",
            "while [ ! -e $HOME/gate ]; do sleep 0.05; done",
            "test -e note-again || ! touch note-again",
        );
        project.commit("it succeeds the second time");
        project
    };
    let (serial, fanned) = (make(), make());
    assert_ne!(Ran::of(serial.command("dvc").arg("repro")).code, Some(0));
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "1", "--retries", "1"]).succeeded();
    assert_same_after_failure(&serial, &fanned, "at the second try");
    assert_eq!(ran(&fanned), ran(&serial));
}

/// A stage that goes on from its checkpoint, a line an epoch, and waits in the third one for a gate.
fn training() -> Project {
    let project = Project::empty();
    project.write("train.sh", "mkdir -p ckpt; while [ $(cat ckpt/state | wc -l) -lt 4 ]; do echo $RUN >> ckpt/state; [ -e $HOME/gate ] || [ $(wc -l < ckpt/state) -lt 3 ] || { touch $HOME/there; sleep 600; }; done; wc -l < ckpt/state > model");
    project.write("params.yaml", "keys: [a]\n");
    project.write(
        "dvc.yaml",
        "stages:\n  train:\n    foreach: ${keys}\n    do:\n      cmd: sh train.sh\n      deps: [train.sh]\n      outs:\n      - ckpt:\n          persist: true\n      - model\n",
    );
    project.write("ckpt/state", "first\n");
    project.write("ckpt/mine.keep", "the only copy\n");
    project.write(".dvcignore", "*.keep\n");
    project.write(".gitignore", "/ckpt\n");
    project.commit("training");
    project
}

fn run_as(project: &Project, run: &str) -> Command {
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    command.args(["run", "-j", "1"]).env("RUN", run);
    command
}

#[test]
fn checkpoints_survive_a_kill() {
    let project = training();
    let mut command = run_as(&project, "second");
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().expect("started");
    let there = project.path("../home/there");
    kill_when(&project, child, "the third epoch", &|| there.exists());
    std::fs::write(project.path("../home/gate"), "").expect("written");
    Ran::of(&mut run_as(&project, "third")).succeeded();
    assert_eq!(project.read("ckpt/state"), "first\nsecond\nsecond\nthird\n");
    assert_eq!(project.read("ckpt/mine.keep"), "the only copy\n");
}

#[test]
fn checkpoints_come_back_after_a_timeout() {
    let project = training();
    let ran = Ran::of(run_as(&project, "second").args(["--timeout", "20s"]));
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert_eq!(project.read("ckpt/state"), "first\nsecond\nsecond\n");
    assert_eq!(project.read("ckpt/mine.keep"), "the only copy\n");
    std::fs::write(project.path("../home/gate"), "").expect("written");
    Ran::of(&mut run_as(&project, "third")).succeeded();
    assert_eq!(project.read("ckpt/state"), "first\nsecond\nsecond\nthird\n");
}

#[test]
fn modes_stay_as_they_were_made() {
    let make = || {
        let project = Project::from_fixture("sessions");
        project.edit(
            "dvc.yaml",
            "cmd: mkdir -p scores &&",
            "cmd: umask 077 && mkdir -p secrets-${item} && echo x > secrets-${item}/key && (umask 000 && echo y > shared-${item}) && mkdir -p scores &&",
        );
        project.commit("private files");
        project
    };
    let (serial, fanned) = (make(), make());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    let mode =
        |project: &Project, path: &str| project.path(path).metadata().expect("there").permissions().mode() & 0o777;
    for path in ["scores/s1.json", "secrets-s2", "secrets-s2/key", "shared-s3"] {
        assert_eq!(mode(&fanned, path), mode(&serial, path), "{path}");
    }
    let results = fanned.path(".dvc/fanout/runs");
    let found = Ran::of(fanned.command("grep").arg("-rlx").arg("x").arg(results)).succeeded();
    for blob in found.lines().filter(|line| line.contains("/files/")) {
        assert_eq!(mode(&fanned, blob), 0o600, "{blob}");
    }
}

#[test]
fn files_of_cached_directories_keep_their_modes() {
    let make = || {
        let project = Project::without_init();
        project.write(
            "make.sh",
            "mkdir -p $1/in\nfor mode in 444 555 600 640 666 700 755; do echo $1 > $1/in/$mode; chmod $mode $1/in/$mode; done\n",
        );
        project.write(
            "dvc.yaml",
            "stages:\n  make:\n    foreach: [a, b]\n    do:\n      cmd: sh make.sh ${item} && chmod 750 ${item}/in\n      \
             outs: ['${item}']\n  look:\n    foreach: [a, b]\n    do:\n      cmd: ls -l ${item}/in | cut -c1-10 > look-${item}\n      \
             deps: ['${item}/in']\n      outs: ['look-${item}']\n",
        );
        project.commit("files of many modes");
        project
    };
    let (serial, fanned) = (make(), make());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "modes");
    let modes = |project: &Project| Ran::of(project.command("ls").args(["-l", "a/in", "b/in"])).succeeded();
    let kinds =
        |text: String| text.lines().map(|line| line.get(..10).unwrap_or_default().to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(modes(&fanned)), kinds(modes(&serial)));
}

/// What `find` prints of everything but DVC's and git's own, sorted.
fn outside_of_dvc(project: &Project, format: &str) -> Vec<String> {
    let find = ["-path", "./.dvc", "-prune", "-o", "-path", "./.git", "-prune", "-o", "-printf", format];
    let found = Ran::of(project.command("find").arg(".").args(find)).succeeded();
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort_unstable();
    found
}

/// A laboratory's folder, in which all belongs to a group.
#[test]
fn directories_hand_the_group_on_where_the_project_does() {
    let make = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  make:\n    foreach: [a, b]\n    do:\n      cmd: umask 007 && mkdir -p ${item}/in ${item}/empty own-${item} && \
             chmod 1770 ${item}/empty && mkdir void-${item} && echo x > ${item}/in/x && cp ${item}/in/x own-${item}\n      outs: \
             ['${item}']\n",
        );
        project.commit("a group's");
        let folders = ["-type", "d", "-exec", "chmod", "g+s", "{}", "+"];
        Ran::of(project.command("find").arg(project.root()).args(folders)).succeeded();
        project
    };
    let modes = |project: &Project| outside_of_dvc(project, "%m %p\\n");
    let (serial, fanned) = (make(), make());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(modes(&fanned), modes(&serial));
}

/// As a container's root at somebody's project, or in a folder of theirs that belongs to a group.
#[test]
fn owners_and_groups_are_those_that_dvc_leaves() {
    let make = || {
        let project = Project::without_init();
        project.write("log", "first\n");
        project.write("shared/kept", "");
        project.write(
            "dvc.yaml",
            "stages:\n  make:\n    foreach: [a]\n    do:\n      cmd: echo x > shared/${item} && echo x > shared/${item}.json && echo x > \
             shared/own && echo ${item} >> log\n      params: [p]\n      outs: ['shared/${item}', 'shared/${item}.json': {cache: false}]\n",
        );
        project.write("params.yaml", "p: 1\n");
        project.commit("somebody's");
        project
    };
    let (serial, fanned) = (make(), make());
    for (project, command) in [(&serial, &["repro"][..]), (&fanned, &["run", "-j", "2"])] {
        let run = || match command {
            ["repro"] => drop(project.dvc(["repro"])),
            _ => drop(project.fanout(command.iter().copied()).succeeded()),
        };
        let root = project.root().to_str().expect("UTF-8");
        if Ran::of(project.command("chown").args(["-R", "12345:12346", root])).code != Some(0) {
            say("skipped: only root can give files away");
            return;
        }
        Ran::of(project.command("chmod").args(["g+s", "shared"])).succeeded();
        run();
        Ran::of(project.command("chown").args(["12345:12346", "dvc.lock", "shared/.gitignore"])).succeeded();
        project.write("params.yaml", "p: 2\n");
        run();
    }
    let owners = |project: &Project| outside_of_dvc(project, "%U:%G %m %p\\n");
    assert_eq!(owners(&fanned), owners(&serial));
}

/// Outs that are repositories, with empty folders and links in them.
const CLONES: &str = "stages:
  clone:
    foreach: ${sessions}
    do:
      cmd: mkdir -p clones/${item}/.git/refs/tags clones/${item}/lib && cp raw/${item}.txt clones/${item}/lib && echo ref > clones/${item}/.git/HEAD && ln -s lib/${item}.txt clones/${item}/link
      deps: [\"raw/${item}.txt\"]
      outs:
      - clones/${item}:
          cache: CACHED
  look:
    foreach: ${sessions}
    do:
      cmd: cat clones/${item}/.git/HEAD clones/${item}/link > look-${item}
      deps: [\"clones/${item}\"]
      outs: [\"look-${item}\"]
";

#[test]
fn a_declared_out_may_hold_a_repository() {
    for cached in ["true", "false"] {
        let make = |project: &Project| {
            project.write("dvc.yaml", &CLONES.replace("CACHED", cached));
            project.edit("params.yaml", "s1, s2, s3, s4", "s1, s2");
            project.commit("clones");
        };
        same_when_made("sessions", &[], &make, &[&|project| project.write("raw/s1.txt", "another\n")]);
    }
}

#[test]
fn a_command_may_write_a_pipeline_of_its_own() {
    let make = |project: &Project| {
        project.edit(
            "dvc.yaml",
            "cmd: mkdir -p work &&",
            "cmd: mkdir -p live-${item} && printf 'metrics:\\n- x.json\\n' > live-${item}/dvc.yaml && mkdir -p work &&",
        );
        project.commit("live");
    };
    same_when_made("sessions", &[], &make, &[]);
}

#[test]
fn only_the_file_that_may_not_come_is_left_out_and_the_run_is_not_done() {
    let project = Project::from_fixture("sessions");
    project.edit("params.yaml", "s1, s2, s3, s4", "s1, s2");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: mkdir -p own && echo mine > own/note && (test ${item} != s2 || ln -s /etc/hostname own/link) && mkdir -p work &&");
    project.commit("a link that leads out");
    let ran = fails_with(&project, 1, ["run", "-j", "2"]);
    assert!(ran.stderr.contains("`own/link` is refused"), "{ran:#?}");
    assert!(!project.path("own/link").is_symlink() && project.path("own/note").exists());
    assert!(project.path("work/s2.txt").exists() && project.read("dvc.lock").contains("  extract@s2:"));
    assert!(ran.stderr.contains("1 failed"), "{ran:#?}");
    let status = project.fanout(["status"]).succeeded();
    assert!(status.contains("`own/link` is refused"), "{status}");
}
