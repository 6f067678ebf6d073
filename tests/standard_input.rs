//! What commands read on standard input: its end unless something is lent to them, then what `dvc repro` lends.

use std::fs::File;
use std::path::PathBuf;

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

/// Sessions that ask something, and a last stage that does so twice.
const ASKING: &str = "
stages:
  ask:
    foreach: [p, q]
    do:
      cmd: read -r answer; echo \"$answer\" > ${item}.out
      deps: ['${item}.txt']
      outs: ['${item}.out']
  last:
    cmd:
    - read -r answer; cat p.out q.out > last.out; echo \"$answer\" >> last.out
    - read -r answer; echo \"$answer\" >> last.out
    deps: [p.out, q.out]
    outs: [last.out]
";

/// Types at a terminal: what is given, a part a moment after the other, once a file is there; says on what signal or with what code the program ended.
const TYPE: &str = r#"
import os, pty, select, sys, time
keys, gate, *command = sys.argv[1:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
said, end = b"", time.monotonic() + 120
while time.monotonic() < end:
    if keys and os.path.exists(gate):
        lines = keys.split("|")
        os.write(terminal, lines[0].encode())
        keys = "|".join(lines[1:])
        time.sleep(0.5)
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            part = b""
        if not part:
            break
        said += part
sys.stdout.write(said.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
"#;

fn project(stages: &str) -> Project {
    let project = Project::empty();
    project.write("dvc.yaml", stages);
    project.write("p.txt", "p\n");
    project.write("q.txt", "q\n");
    project.commit("commands that ask");
    project
}

/// A file beside a project.
fn answers(project: &Project, text: &str) -> PathBuf {
    let path = project.root().with_file_name("answers");
    std::fs::write(&path, text).expect("written");
    path
}

/// Runs a program of a project with a file as its standard input.
fn fed(project: &Project, program: &str, arguments: &[&str]) -> Ran {
    let file = File::open(answers(project, "one\ntwo\nthree\nfour\nfive\n")).expect("opened");
    Ran::of(project.command(program).args(arguments).stdin(file))
}

#[test]
fn commands_read_on_as_under_dvc_repro() {
    for executor in ["native", "dvc"] {
        let (serial, fanned) = (project(ASKING), project(ASKING));
        fed(&serial, "dvc", &["repro"]).succeeded();
        let run = ["run", "-j", "1", "--stdin", "inherit", "--executor", executor];
        fed(&fanned, env!("CARGO_BIN_EXE_dvc-fanout"), &run).succeeded();
        assert_same(&serial, &fanned, executor);
        assert_clean(&fanned, &[]);
        assert_eq!(fanned.read("last.out"), "one\ntwo\nthree\nfour\n", "{executor}");
    }
}

#[test]
fn each_stage_reads_a_file_from_its_beginning() {
    for executor in ["native", "dvc"] {
        let project = project(ASKING);
        let file = answers(&project, "one\ntwo\n");
        match executor {
            "native" => project.write(".dvc/fanout/config.yaml", &format!("stdin: {}\n", file.display())),
            _ => project.write(".dvc/fanout/config.yaml", ""),
        }
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(["run", "-j", "2", "--executor", executor]);
        if executor == "dvc" {
            command.env("DVC_FANOUT_STDIN", &file);
        }
        Ran::of(&mut command).succeeded();
        assert_eq!(project.read("last.out"), "one\none\none\ntwo\n", "{executor}");
    }
}

#[test]
fn without_it_commands_read_nothing() {
    let project = project(ASKING);
    fed(&project, env!("CARGO_BIN_EXE_dvc-fanout"), &["run", "-j", "1"]);
    assert_eq!(project.read("p.out"), "\n");
}

/// Runs `dvc-fanout` at a terminal where something is typed once a file is there.
fn typed(project: &Project, keys: &str, gate: &str, arguments: &[&str]) -> Ran {
    let mut command = project.command("python3");
    command.args(["-c", TYPE, keys, gate, env!("CARGO_BIN_EXE_dvc-fanout")]).args(arguments);
    Ran::of(&mut command)
}

/// A session whose command says that it is there before it asks.
fn at_the_gate(ask: &str) -> (Project, String) {
    let (project, stages) =
        (Project::empty(), "stages:\n  ask:\n    foreach: [p]\n    do:\n      cmd: CMD\n      outs: [p.out]\n");
    let gate = project.root().with_file_name("gate").to_str().expect("UTF-8").to_owned();
    project.write("dvc.yaml", &stages.replace("CMD", &format!("touch {gate}; {ask}")));
    project.commit("one that asks");
    (project, gate)
}

#[test]
fn commands_have_the_terminal() {
    for executor in ["native", "dvc"] {
        let (project, gate) = at_the_gate("test -t 0 && read -r answer && echo \"$answer\" > p.out");
        let run = ["run", "-j", "1", "--stdin", "inherit", "--executor", executor];
        typed(&project, "yes\n", &gate, &run).succeeded();
        assert_eq!(project.read("p.out"), "yes\n", "{executor}");
    }
}

#[test]
fn ctrl_c_at_their_terminal_ends_commands_and_starts_no_more() {
    for executor in ["native", "dvc"] {
        let (project, gate) = at_the_gate("read -r answer; sleep 300 > p.out");
        let run = ["run", "-j", "1", "--stdin", "inherit", "--executor", executor];
        let ran = typed(&project, "\u{3}", &gate, &run);
        assert_eq!(ran.code, Some(130), "{executor}: {ran:#?}");
        assert!(ran.stdout.contains("interrupted: starting no more work items"), "{executor}: {ran:#?}");
        assert_eq!(project.processes(), [], "{executor}");
    }
}

#[test]
fn a_second_ctrl_c_stops_all_that_a_command_started() {
    for executor in ["native", "dvc"] {
        let inner = r#"sh -c 'trap "" INT; trap "touch GATE.ended; exit" TERM; sleep 300 & wait'"#;
        let (project, gate) = at_the_gate("INNER > p.out");
        let ended = format!("{gate}.ended");
        project.edit("dvc.yaml", "cmd: ", "cmd: trap '' INT; ");
        project.edit("dvc.yaml", "INNER", &inner.replace("GATE", &gate));
        project.commit("one that does not mind");
        let run = ["run", "-j", "1", "--stdin", "inherit", "--executor", executor];
        let ran = typed(&project, "\u{3}|\u{3}", &gate, &run);
        assert_eq!(ran.code, Some(130), "{executor}: {ran:#?}");
        assert!(std::path::Path::new(&ended).exists(), "{executor}: {ran:#?}");
        assert_eq!(project.processes(), [], "{executor}");
    }
}

#[test]
fn a_command_that_misses_its_input_is_told_how_to_get_it() {
    for executor in ["native", "dvc"] {
        let ask = "python3 -c \"print(input())\" > ${item}.out";
        let project = project(&ASKING.replace("read -r answer; echo \"$answer\" > ${item}.out", ask));
        let ran = project.fanout(["run", "--executor", executor]);
        assert_eq!(ran.code, Some(1), "{executor}: {ran:#?}");
        assert!(
            ran.stderr.contains("; it seems to read standard input, where commands find nothing: `--stdin FILE`"),
            "{ran:#?}"
        );
        let file = answers(&project, "yes\n");
        let run = ["run", "--executor", executor, "--stdin", file.to_str().expect("UTF-8")];
        project.fanout(run).succeeded();
        assert_eq!(project.read("p.out"), "yes\n");
    }
}

#[test]
fn what_cannot_be_lent_is_refused_before_anything_runs() {
    let project = project(ASKING);
    let mut pipe = project.command("mkfifo");
    Ran::of(pipe.arg(project.root().with_file_name("pipe"))).succeeded();
    for (arguments, hint) in [
        (&["-j", "2", "--stdin", "inherit"][..], "run one after another: `-j 1`"),
        (&["-j", "1", "--stdin", "inherit", "--executor", "check"], "each command runs twice"),
        (&["--stdin", "inherit", "--engine", "slurm"], "`--stdin inherit` is not for the Slurm engine"),
        (&["--stdin", "dvc.yaml", "--engine", "slurm"], "use `--engine local`"),
        (&["--stdin", "../pipe"], "of a pipe or a terminal: `--stdin inherit -j 1`"),
        (&["--stdin", "nothing"], "No such file"),
    ] {
        let ran = project.fanout(["run"].into_iter().chain(arguments.iter().copied()));
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:#?}");
        assert!(ran.stderr.contains(hint), "{arguments:?}: {ran:#?}");
        assert!(!project.path("p.out").exists(), "{arguments:?}");
    }
}
