//! Commands, tools and disks that misbehave: the work item fails or is tried again by its class, is named plainly, and
//! the others go on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::same::{assert_clean, assert_same, fails_with};
use crate::support::{Project, Ran, say};

/// What each key does before its out is made.
const SCRIPT: &str = r#"
echo "$1" >> "$HOME/words"
dvc=$(cut -d ' ' -f 4 /proc/$PPID/stat)
once() { [ ! -e "$HOME/once" ] && touch "$HOME/once"; }
case $1 in
chatty) yes | head -c 3000000 ;;
bytes) printf 'caf\351 \377 is not UTF-8\n'; exit 3 ;;
flaky) echo >> "$HOME/tries"; [ "$(wc -l < "$HOME/tries")" -gt 2 ] || exit 3 ;;
gated) while [ ! -e "$HOME/gate" ]; do sleep 0.05; done ;;
gone) rm -rf "$DVC_FANOUT_SLOT/workspace" ;;
hangs) trap '' TERM; while :; do sleep 1; done ;;
killed) if once; then kill -9 "$dvc"; fi ;;
kills) kill -9 "$dvc"; sleep 1000 ;;
long) head -c 20000000 /dev/zero | tr '\0' x; exit 3 ;;
loud) yes 'many a line' | head -c 100000000; printf '\nthe end of it\n'; exit 3 ;;
memory) kill -9 $$ ;;
nice) nice > "$HOME/nice" ;;
results) if once; then rm -rf "${DVC_FANOUT_SLOT%/slots/*}"/runs/*/results; fi ;;
tampers) echo more >> raw/tampers.txt ;;
esac
"#;

/// A project of one foreach, whose keys misbehave as their names say.
pub(crate) fn project(keys: &[&str]) -> Project {
    let project = Project::without_init();
    project.write("../home/misbehave.sh", SCRIPT);
    let stages = "
    do:
      cmd: sh $HOME/misbehave.sh ${item} && mkdir -p out && cp raw/${item}.txt out/${item}.txt
      deps:
      - raw/${item}.txt
      outs:
      - out/${item}.txt
";
    project.write("dvc.yaml", &format!("stages:\n  w:\n    foreach: [{}]{stages}", keys.join(", ")));
    for key in keys {
        project.write(&format!("raw/{key}.txt"), &format!("{key}\n"));
    }
    project.commit("misbehaving");
    project
}

/// The keys whose commands have begun, in order.
pub(crate) fn words(project: &Project) -> Vec<String> {
    let words = std::fs::read_to_string(project.path("../home/words")).unwrap_or_default();
    words.lines().map(str::to_owned).collect()
}

/// How each work item of the latest run stands: its standing, the number of its last attempt, and why it failed.
pub(crate) fn standings(project: &Project) -> BTreeMap<String, String> {
    let status: Value =
        serde_json::from_str(&project.fanout(["status", "--format", "json"]).succeeded()).expect("JSON");
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let items = status["items"].as_array().expect("a list").iter();
    items
        .map(|item| {
            let said = format!("{} {} {}", text(item, "standing"), item["attempt"], text(item, "message"));
            (text(item, "id"), said.trim_end().to_owned())
        })
        .collect()
}

/// The most memory that one of the program's own processes ever had, in MiB, as far as is seen now.
fn peak_mib(project: &Project) -> u64 {
    let own = project.processes().into_iter();
    let own = own.filter(|(_, command)| command.contains("dvc-fanout run") || command.contains("/exe work"));
    let peaks = own.filter_map(|(id, _)| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
        peak.parse::<u64>().ok()
    });
    peaks.max().unwrap_or_default() / 1024
}

/// A file system of its own at a path, as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts an empty one; without the right to do so, the test has nothing to say.
    fn at(path: &Path, options: &str) -> Option<Mounted> {
        std::fs::create_dir_all(path).expect("made");
        let mut command = std::process::Command::new("mount");
        let mount = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).stderr(Stdio::null()).status();
        if !mount.is_ok_and(|status| status.success()) {
            say("skipped: only root can mount a small file system");
            return None;
        }
        Some(Mounted(path.to_owned()))
    }
}

impl Mounted {
    /// Makes room.
    fn enlarge(&self) {
        let mut command = std::process::Command::new("mount");
        assert!(command.args(["-o", "remount,size=99m"]).arg(&self.0).status().expect("started").success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn each_command_fails_in_its_own_way_and_the_others_go_on() {
    let keys = ["bytes", "gone", "good", "hangs", "killed", "kills", "long", "loud", "memory"];
    let project = project(&keys);
    project.write(".dvc/fanout/config.yaml", "stages:\n  w@hangs:\n    timeout: 5s\n");
    let log = project.path("../stderr");
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    // Mounted, a command could not reach its slot from inside.
    let arguments = ["run", "-j", "2", "--workspace", "linked"];
    command.args(arguments).stdout(Stdio::null()).stderr(std::fs::File::create(&log).expect("created"));
    let mut child = command.spawn().expect("started");
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_mib(&project));
        if let Some(status) = child.try_wait().expect("looked at") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = String::from_utf8(std::fs::read(&log).expect("read")).expect("what is shown is UTF-8");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!((1..90).contains(&peak), "a log of 95 MiB is never in memory: {peak} MiB");
    let standings = standings(&project);
    for (key, wanted) in [
        ("bytes", "failed 1 stage `w@bytes` failed to run: "),
        ("gone", "failed 3 its workspace was removed while the stages ran"),
        ("good", "done 1"),
        ("hangs", "failed 1 it took longer than 5 s"),
        ("killed", "done 2"),
        ("kills", "failed 4 the worker was ended by signal 9"),
        ("long", "failed 1 stage `w@long` failed to run: "),
        ("loud", "failed 1 stage `w@loud` failed to run: "),
        ("memory", "failed 3 stage `w@memory`: failed to run: "),
    ] {
        assert!(standings[key].starts_with(wanted), "{key}: {}", standings[key]);
    }
    let killed = "exited with 137 (killed, though memory did not run out)";
    assert!(standings["memory"].ends_with(killed), "{standings:?}");
    assert!(said.contains("2 work items done, 7 failed"), "{said}");
    assert!(said.contains("    caf\u{fffd} \u{fffd} is not UTF-8"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() < 500), "no line fills the screen:\n{said}");
    let status = project.fanout(["status"]).succeeded();
    assert!(status.contains("    the end of it\n    WARNING: failed to run"), "the end of the log is shown: {status}");
    assert_eq!(project.processes(), []);
}

#[test]
fn results_that_a_command_removed_are_made_again() {
    let project = project(&["first", "results", "second"]);
    let ran = fails_with(&project, 1, ["run", "-j", "1", "--workspace", "linked"]);
    assert!(ran.stderr.contains("2 work items done, 1 not run"), "the others are kept: {ran:#?}");
    project.fanout(["run", "-j", "1"]).succeeded();
    assert_clean(&project, &[]);
}

#[test]
fn a_log_that_cannot_be_written_fails_its_work_item_alone() {
    let project = project(&["first", "second"]);
    project.fanout(["plan"]).succeeded();
    let runs = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("listed");
    let run = runs.flatten().next().expect("a run").path();
    std::fs::create_dir_all(run.join("results")).expect("made");
    std::fs::write(run.join("results/0"), "in the way").expect("written");
    let ran = fails_with(&project, 1, ["launch", "-j", "1"]);
    assert!(ran.stderr.contains("first: a tool failed: cannot create the directory"), "{ran:#?}");
    assert!(ran.stderr.contains("results/0"), "{ran:#?}");
    assert_eq!(standings(&project)["second"], "done 1");
    std::fs::remove_file(run.join("results/0")).expect("removed");
    project.fanout(["run", "-j", "1"]).succeeded();
    assert_clean(&project, &[]);
}

#[test]
fn a_stage_that_changes_its_dependency_leaves_what_repro_leaves() {
    let (serial, fanned) = (project(&["tampers"]), project(&["tampers"]));
    serial.dvc(["repro"]);
    fanned.fanout(["run"]).succeeded();
    assert_eq!(fanned.read("raw/tampers.txt"), "tampers\nmore\n");
    assert_same(&serial, &fanned, "a changed dependency");
}

#[test]
fn a_full_disk_and_a_read_only_one_are_named() {
    let project = project(&["first", "full"]);
    project.write("raw/full.txt", &"0123456789abcdef".repeat(200_000));
    project.commit("3 MB");
    let cache = project.path(".dvc/cache");
    let Some(mounted) = Mounted::at(&cache, "size=1m") else { return };
    let ran = fails_with(&project, 1, ["run", "-j", "1"]);
    let full = &standings(&project)["full"];
    assert!(full.starts_with("failed 3 stage `w@full`: [Errno 28] No space left on device"), "{full} {ran:#?}");
    assert_eq!(standings(&project)["first"], "done 1");
    drop(mounted);
    let Some(mounted) = Mounted::at(&cache, "ro") else { return };
    project.write("raw/first.txt", "better\n");
    let ran = fails_with(&project, 1, ["run", "-j", "1"]);
    assert!(standings(&project).values().all(|said| said.contains("Read-only file system")), "{ran:#?}");
    drop(mounted);
    project.fanout(["run", "-j", "1"]).succeeded();
    assert_clean(&project, &[]);
    let Some(_mounted) = Mounted::at(&project.path(".dvc/fanout"), "ro") else { return };
    project.write("raw/first.txt", "best\n");
    let ran: Ran = fails_with(&project, 4, ["run", "-j", "1"]);
    assert!(ran.stderr.contains(".dvc/fanout") && ran.stderr.contains("Read-only file system"), "{ran:#?}");
}

#[test]
fn a_full_disk_of_results_is_named_and_gone_on_from() {
    let project = project(&["chatty"]);
    project.fanout(["plan"]).succeeded();
    let run = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("listed").flatten().next().expect("a run");
    let files = ["plan.json", "worklist.jsonl", "worklist.index"];
    let planned: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(run.path().join(file)).expect("read")).collect();
    let (snapshot, aside) = (run.path().join("snapshot"), project.path("../snapshot"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        Ran::of(project.command("cp").arg("-a").arg(from).arg(to)).succeeded();
    };
    copy(&snapshot, &aside);
    let Some(mounted) = Mounted::at(&run.path(), "size=1m") else { return };
    copy(&aside, &snapshot);
    for (file, bytes) in files.iter().zip(planned) {
        std::fs::write(run.path().join(file), bytes).expect("written");
    }
    let ran = fails_with(&project, 1, ["launch", "--retries", "0"]);
    assert!(ran.stderr.contains("chatty: a tool failed: the worker exited with 5: "), "{ran:#?}");
    assert!(ran.stderr.contains("1.log`: No space left on device"), "{ran:#?}");
    mounted.enlarge();
    project.fanout(["launch"]).succeeded();
    assert_eq!(standings(&project)["chatty"], "done 2");
}
