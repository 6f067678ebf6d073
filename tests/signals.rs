//! Ending a run early: Ctrl-C, TERM, HUP, `cancel`, KILL. Whatever ends it, nothing of it stays behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::runs::wait_until;
use crate::support::same::assert_clean;
use crate::support::{Project, Ran};

/// Leaves processes behind in every way there is, says so, and goes on once the gate is open.
const DAEMONS: &str = r#"
folder=$(dirname "$0")
run='trap "" TERM HUP INT; while :; do sleep 1; done'
setsid sh -c "$run" > /dev/null 2>&1 &
( (sh -c "$run" > /dev/null 2>&1 &) & )
nohup sh -c "$run" > /dev/null 2>&1 &
trap 'echo "$1 cleaned up" >> "$folder/words"; exit 1' TERM
echo "$1 began" >> "$folder/words"
while [ ! -e "$folder/gate" ]; do sleep 0.05; done
echo "$1 ended" >> "$folder/words"
"#;

/// A project whose sessions wait for a gate among daemons that they have started.
struct Gated {
    project: Project,
}

impl Gated {
    fn new() -> Gated {
        let project = Project::from_fixture("sessions");
        let script = project.path("../daemons.sh");
        std::fs::write(&script, DAEMONS).expect("written");
        let command = format!("cmd: sh {} ${{item}} && mkdir -p work &&", script.display());
        project.edit("dvc.yaml", "cmd: mkdir -p work &&", &command);
        project.commit("gated");
        Gated { project }
    }

    /// What the sessions have said so far.
    fn words(&self) -> String {
        std::fs::read_to_string(self.project.path("../words")).unwrap_or_default()
    }

    fn open(&self) {
        std::fs::write(self.project.path("../gate"), "").expect("written");
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        wait_until(&|| self.words(), &|| self.words().contains(words));
    }

    /// Waits until all that belongs to the project has ended.
    #[track_caller]
    fn wait_for_silence(&self) {
        wait_until(&|| format!("{:#?}", self.project.processes()), &|| self.project.processes().is_empty());
    }

    /// Starts a run with one slot and waits until its first session waits for the gate.
    #[track_caller]
    fn run(&self) -> Running {
        let log = self.project.path("../stderr");
        // Whoever runs the tests may have them ignore hangups.
        let mut command = self.project.command("env");
        command
            .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_dvc-fanout"), "run", "-j", "1"])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("created"));
        let running = Running { child: command.spawn().expect("started"), log };
        self.wait_for("s1 began");
        running
    }

    /// The processes whose command line has this in it.
    fn ids(&self, part: &str) -> Vec<i32> {
        let all = self.project.processes().into_iter();
        all.filter(|(_, command)| command.contains(part)).map(|(id, _)| id).collect()
    }
}

/// A `dvc-fanout` in the background that ends with the test.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).expect("a small number")).expect("not 0");
        kill_process(id, signal).expect("sent");
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(&self.log).expect("read")
    }

    #[track_caller]
    fn wait_for(&self, words: &str) {
        wait_until(&|| self.stderr(), &|| self.stderr().contains(words));
    }

    fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("ended").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn kill(id: i32) {
    kill_process(Pid::from_raw(id).expect("not 0"), Signal::KILL).expect("killed");
}

#[test]
fn the_first_ctrl_c_lets_what_runs_come_to_its_end() {
    let gated = Gated::new();
    let mut running = gated.run();
    running.signal(Signal::INT);
    running.wait_for("starting no more");
    gated.open();
    assert_eq!(running.wait(), Some(130), "{}", running.stderr());
    assert_eq!(gated.words(), "s1 began\ns1 ended\n", "{}", running.stderr());
    assert_eq!(gated.project.processes(), []);
    assert!(running.stderr().contains("`dvc-fanout run` resumes from here"), "{}", running.stderr());
    gated.project.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(gated.words().matches("s1 began").count(), 1, "it had a result");
    assert_clean(&gated.project, &[]);
}

#[test]
fn the_second_ctrl_c_and_other_signals_end_what_runs_and_all_that_came_of_it() {
    for (signals, code) in
        [(&[Signal::INT, Signal::INT][..], 130), (&[Signal::TERM], 143), (&[Signal::HUP], 129), (&[], 130)]
    {
        let gated = Gated::new();
        let mut running = gated.run();
        for (number, signal) in signals.iter().enumerate() {
            running.signal(*signal);
            running.wait_for(if number + 1 < signals.len() { "starting no more" } else { "stopping what is running" });
        }
        if signals.is_empty() {
            gated.project.fanout(["cancel"]).succeeded();
        }
        assert_eq!(running.wait(), Some(code), "{}", running.stderr());
        assert_eq!(gated.project.processes(), [], "{signals:?}: nothing stays behind");
        assert_eq!(gated.words(), "s1 began\ns1 cleaned up\n", "{signals:?}: commands may clean up after TERM");
        let status = gated.project.fanout(["status"]).succeeded();
        assert!(status.contains("1 interrupted, 4 waiting"), "{status}");
    }
}

/// As the first Ctrl-C does; a plain `cancel` may follow.
/// As a CI server sends them that wants a job to end.
#[test]
fn signals_that_come_while_all_is_being_stopped_do_not_hold_it_up() {
    let gated = Gated::new();
    let script = DAEMONS.replace("trap 'echo", "trap 'sleep 3; echo");
    std::fs::write(gated.project.path("../daemons.sh"), script).expect("written");
    let mut running = gated.run();
    running.signal(Signal::TERM);
    running.wait_for("stopping what is running");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        std::thread::sleep(std::time::Duration::from_millis(300));
        running.signal(signal);
    }
    let limit = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while running.child.try_wait().expect("looked at").is_none() {
        assert!(std::time::Instant::now() < limit, "it hangs: {}", running.stderr());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(gated.project.processes(), []);
    assert_eq!(gated.words(), "s1 began\ns1 cleaned up\n", "commands may clean up after TERM");
    gated.open();
    gated.project.fanout(["run", "-j", "2"]).succeeded();
    assert_clean(&gated.project, &[]);
}

#[test]
fn a_run_that_is_drained_from_another_terminal_ends_with_what_runs() {
    for is_cancelled in [false, true] {
        let gated = Gated::new();
        let mut running = gated.run();
        let mut command = gated.project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        let mut drain = command.args(["cancel", "--drain"]).stdout(Stdio::null()).spawn().expect("started");
        running.wait_for("drained from another terminal");
        if is_cancelled {
            gated.project.fanout(["cancel"]).succeeded();
        } else {
            gated.open();
        }
        assert!(drain.wait().expect("waited for").success());
        assert_eq!(running.wait(), Some(130), "{}", running.stderr());
        let end = if is_cancelled { "cleaned up" } else { "ended" };
        assert_eq!(gated.words(), format!("s1 began\ns1 {end}\n"), "{}", running.stderr());
        let said = running.stderr();
        assert_eq!(said.contains("what is done was collected"), !is_cancelled, "{said}");
        assert_eq!(gated.project.path("work/s1.txt").exists(), !is_cancelled);
        gated.open();
        gated.project.fanout(["run", "-j", "2"]).succeeded();
        assert_clean(&gated.project, &[]);
    }
}

/// Later phases need what has never begun, and that is no failure.
#[test]
fn what_waits_for_work_items_that_a_drained_run_never_began_is_not_skipped() {
    let gated = Gated::new();
    let more = "stages:\n  all:\n    cmd: cat work/*.txt > all.txt\n    deps: [work]\n    outs: [all.txt]\n  part:\n    foreach: \
                ${sessions}\n    do:\n      cmd: cp all.txt part-${item}\n      deps: [all.txt]\n      outs: ['part-${item}']\n";
    gated.project.edit("dvc.yaml", "stages:\n", more);
    gated.project.commit("more phases");
    let mut running = gated.run();
    let mut command = gated.project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let mut drain = command.args(["cancel", "--drain"]).stdout(Stdio::null()).spawn().expect("started");
    running.wait_for("drained from another terminal");
    gated.open();
    assert!(drain.wait().expect("waited for").success());
    assert_eq!(running.wait(), Some(130), "{}", running.stderr());
    assert!(!running.stderr().contains("skipped"), "{}", running.stderr());
    let status = gated.project.fanout(["status"]).succeeded();
    assert!(status.contains("1 done, 9 waiting"), "{status}");
}

#[test]
fn nothing_stays_behind_a_launcher_that_was_killed() {
    let gated = Gated::new();
    let mut running = gated.run();
    running.signal(Signal::KILL);
    running.wait();
    gated.wait_for_silence();
    assert_eq!(gated.words(), "s1 began\ns1 cleaned up\n", "its worker still ends in order");
    gated.open();
    gated.project.fanout(["run", "-j", "2"]).succeeded();
    assert_clean(&gated.project, &[]);
}

#[test]
fn a_worker_that_was_killed_leaves_nothing_behind_and_its_work_item_is_tried_again() {
    for parts in [&[" work --serve --run"][..], &["dvc-fanout oversee", " work --serve --run"]] {
        let gated = Gated::new();
        let mut running = gated.run();
        for id in parts.iter().flat_map(|part| gated.ids(part)).collect::<std::collections::BTreeSet<_>>() {
            kill(id);
        }
        gated.wait_for("s2 began");
        // Those of the second session, which may just be starting, and no others.
        let left = || gated.ids("while :; do").len();
        wait_until(&|| format!("{:#?}", gated.project.processes()), &|| left() == 3);
        gated.open();
        assert_eq!(running.wait(), Some(0), "{}", running.stderr());
        assert!(running.stderr().contains("s1: lost: the worker was ended by signal 9"), "{}", running.stderr());
        assert_eq!(gated.project.processes(), []);
        assert_clean(&gated.project, &[]);
    }
}

#[test]
fn the_last_steps_of_a_run_end_as_well_when_asked_to() {
    let project = Project::from_fixture("sessions");
    let slow = project.path("../slow-dvc");
    // Plain `dvc repro`, as the last word of `--full`, never comes to its end.
    let script = format!(
        "#!/bin/sh\ncase $1 in repro) touch {}; sleep 1000;; esac\nexec dvc \"$@\"\n",
        project.path("../begun").display()
    );
    std::fs::write(&slow, script).expect("written");
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).expect("set");
    project.fanout(["run", "-j", "2"]).succeeded();
    for (cancels, code) in [(true, 130), (false, 143)] {
        let log = project.path("../stderr");
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(["finalize", "--full"]).env("DVC_FANOUT_DVC", &slow);
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).expect("created"));
        let mut running = Running { child: command.spawn().expect("started"), log };
        wait_until(&|| running.stderr(), &|| project.path("../begun").exists());
        if cancels {
            project.fanout(["cancel"]).succeeded();
        } else {
            running.signal(Signal::TERM);
        }
        assert_eq!(running.wait(), Some(code), "{}", running.stderr());
        wait_until(&|| format!("{:#?}", project.processes()), &|| project.processes().is_empty());
        std::fs::remove_file(project.path("../begun")).expect("removed");
    }
}

#[test]
fn a_dvc_that_hangs_is_ended_with_all_that_came_of_it() {
    let project = Project::from_fixture("sessions");
    let hanging = project.path("../hanging-dvc");
    let script = format!(
        "#!/bin/sh\n[ -e {0} ] || exec dvc \"$@\"\n(trap '' TERM; while :; do sleep 1; done) &\nwait\n",
        project.path("../hang").display()
    );
    std::fs::write(&hanging, script).expect("written");
    std::fs::set_permissions(&hanging, std::fs::Permissions::from_mode(0o755)).expect("set");
    let with = |arguments: &[&str]| {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        Ran::of(command.args(arguments).env("DVC_FANOUT_DVC", &hanging))
    };
    with(&["plan", "--executor", "dvc"]).succeeded();
    std::fs::write(project.path("../hang"), "").expect("written");
    let ran = with(&["launch", "-j", "4", "--timeout", "1s", "--retries", "0"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(
        ran.stderr.contains("`dvc --version` did not end within 1 s") || ran.stderr.contains("did not end within"),
        "{ran:#?}"
    );
    assert_eq!(project.processes(), []);
    std::fs::remove_file(project.path("../hang")).expect("removed");
    with(&["run", "-j", "2"]).succeeded();
    assert_clean(&project, &[]);
}

/// As under `nohup`: a session of the shell that ends does not end the run, nor its commands.
#[test]
fn a_hangup_that_is_ignored_ends_nothing() {
    let gated = Gated::new();
    let mut run = gated.project.command("sh");
    run.args(["-c", "trap '' HUP; exec \"$0\" run -j 2", env!("CARGO_BIN_EXE_dvc-fanout")]);
    let child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    gated.wait_for("began");
    for (id, _) in gated.project.processes() {
        if let Some(pid) = Pid::from_raw(id) {
            let _ended_is_fine = kill_process(pid, Signal::HUP);
        }
    }
    gated.open();
    let ended = child.wait_with_output().expect("ended");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
