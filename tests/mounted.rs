//! Workspaces at the project's own path: what commands see, write down and leave there is what `dvc repro` leaves.

use std::time::Duration;

use crate::support::same::{assert_clean, assert_same, fails_with};
use crate::support::{Project, Ran, attempts, say, tool};

/// Writes down where it is, in every way that programs find it out.
const LOOK: &str = r#"
{
    pwd; echo "$PWD"; readlink -f .; readlink /proc/self/cwd; echo "$DVC_ROOT"; python3 -c 'import os; print(os.getcwd())'
    git rev-parse --show-toplevel --show-prefix; git log --format=%s; git status --porcelain --untracked-files=no look.sh
    readlink -f "$1"; cat "$DVC_ROOT/.venv/data" "$DVC_ROOT/token"; ls "$DVC_ROOT/.venv" "$DVC_ROOT/raw"
} > "$2" 2>&1
"#;

/// Fills the folder of a project that is at the top of a git repository, or in a folder of one.
fn fill(project: &Project, folder: &str, setting: &str) {
    project.git(["init", "--quiet", "--initial-branch=main"]);
    let inside = |path: &str| if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
    std::fs::create_dir_all(project.path(&inside("deep"))).expect("made");
    let mut init = project.command("dvc");
    init.current_dir(project.path(folder)).args(["init", "-q"]).args((!folder.is_empty()).then_some("--subdir"));
    Ran::of(&mut init).succeeded();
    let config = project.read(&inside(".dvc/config"));
    project.write(&inside(".dvc/config"), &format!("{config}{setting}"));
    project.write(&inside("look.sh"), LOOK);
    project.write(&inside("deep/kept"), "");
    project.write(&inside("raw/one"), "one\n");
    project.write(&inside("p.txt"), "p\n");
    project.write(&inside("q.txt"), "q\n");
    project.write(&inside("dvc.yaml"), DVC_YAML);
    project.write(".gitignore", ".venv\ntoken\n");
    project.write(&inside(".venv/data"), "data\n");
    project.write(&inside("token"), "secret\n");
    project.commit("places");
}

const DVC_YAML: &str = "
stages:
  here:
    foreach: [p, q]
    do:
      cmd: mkdir ${item} && sh look.sh ${item}.txt ${item}/seen && pwd > ${item}/again
      deps: [look.sh, raw, '${item}.txt']
      outs: ['${item}']
  below:
    foreach: [p, q]
    do:
      wdir: deep
      cmd: echo 1 > ${item}.json && sh ../look.sh ../${item}/seen ${item}.seen
      deps: [../look.sh, '../${item}']
      outs: ['${item}.seen']
      metrics: ['${item}.json': {cache: false}]
  all:
    cmd: cat deep/p.seen deep/q.seen > all.txt
    deps: [deep/p.seen, deep/q.seen]
    outs: [all.txt]
";

/// Makes a project twice at one path, where `dvc repro` runs first and `dvc-fanout run` then, and holds the two against
/// each other.
#[track_caller]
fn same(make: &dyn Fn(&Project), folder: &str) -> Project {
    let (project, serial) = (Project::bare(), Project::bare());
    let run = |program: &str, arguments: &[&str]| {
        let mut command = project.command(program);
        command.current_dir(project.path(folder)).args(arguments);
        Ran::of(&mut command).succeeded()
    };
    make(&project);
    run("dvc", &["repro"]);
    std::fs::rename(project.root(), serial.root()).expect("moved");
    std::fs::create_dir(project.root()).expect("made");
    make(&project);
    run(env!("CARGO_BIN_EXE_dvc-fanout"), &["run", "-j", "2", "--workspace", "mounted"]);
    assert_same(&serial, &project, "both");
    assert_no_mounts(&project);
    project
}

/// Nothing of a project is mounted for this process.
#[track_caller]
fn assert_no_mounts(project: &Project) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
    let root = project.root().to_str().expect("UTF-8");
    assert!(!mounts.contains(root) && !mounts.contains("/tmp/dvc-fanout-"), "{mounts}");
}

/// Whether this machine allows mounts.
fn allows(project: &Project) -> bool {
    let said = project.fanout(["doctor", "--format", "json"]).stdout;
    said.contains("commands see them at the project's own path")
}

#[test]
fn commands_see_the_projects_own_path() {
    let probe = Project::without_init();
    if !allows(&probe) {
        return;
    }
    let project = same(&|project| fill(project, "", ""), "");
    let root = project.root().to_str().expect("UTF-8");
    assert!(project.read("deep/p.seen").starts_with(&format!("{root}/deep\n")), "{}", project.read("deep/p.seen"));
    assert!(project.read("p/seen").contains("secret\n"), "{}", project.read("p/seen"));
    assert_clean(&project, &[]);
}

#[test]
fn commands_see_it_whatever_the_links_and_below_a_folder_of_git() {
    let probe = Project::without_init();
    if !allows(&probe) {
        return;
    }
    for kind in ["hardlink", "symlink", "copy"] {
        let setting = format!("[cache]\n    type = {kind}\n");
        same(&|project| fill(project, "", &setting), "");
    }
    same(&|project| fill(project, "sub/project", ""), "sub/project");
}

/// A project whose only pipeline runs a command for each of two keys, and makes `KEY.txt`.
fn project(command: &str) -> Project {
    let project = Project::without_init();
    project.write(".gitignore", ".cache/\n");
    project.write(".cache/before", "before\n");
    project.write(
        "dvc.yaml",
        &format!(
            "stages:\n  work:\n    foreach: [a, b]\n    do:\n      cmd: {command}\n      outs: ['${{item}}.txt']\n"
        ),
    );
    project.commit("project");
    project
}

#[test]
fn a_workspace_at_a_path_of_its_own_is_asked_for() {
    let project = project("pwd > ${item}.txt");
    project.fanout(["run", "-j", "1", "--workspace", "linked"]).succeeded();
    assert!(project.read("a.txt").ends_with("/.dvc/fanout/slots/0/workspace\n"), "{}", project.read("a.txt"));
}

/// Root without the right to mount.
#[test]
fn where_mounts_are_not_allowed_workspaces_have_paths_of_their_own() {
    let Some(setpriv) = tool("setpriv") else { return };
    let project = project("pwd > ${item}.txt");
    let run = |kind: &str| {
        let program = env!("CARGO_BIN_EXE_dvc-fanout");
        let arguments = ["--bounding-set=-sys_admin", program, "run", "-j", "1", "--workspace", kind];
        Ran::of(project.command(&setpriv).args(arguments))
    };
    let refused = run("mounted");
    if refused.code != Some(4) {
        say("skipped: only root can give rights up");
        return;
    }
    assert!(refused.stderr.contains("cannot be mounted") && refused.stderr.contains("no namespace"), "{refused:?}");
    run("auto").succeeded();
    assert!(project.read("a.txt").ends_with("/workspace\n"), "{}", project.read("a.txt"));
}

#[test]
fn a_command_that_cannot_move_a_file_over_a_mount_is_tried_again_beside_the_project() {
    let move_it = "import os, sys; os.rename(sys.argv[1], sys.argv[2])";
    let command = format!("echo x > .cache/${{item}} && python3 -c '{move_it}' .cache/${{item}} ${{item}}.txt");
    let asked = project(&command);
    if !allows(&asked) {
        return;
    }
    let failed = fails_with(&asked, 1, ["run", "-j", "1", "--workspace", "mounted"]);
    assert!(failed.stderr.contains("--workspace linked"), "{failed:?}");
    let auto = project(&command);
    auto.fanout(["run", "-j", "1"]).succeeded();
    assert_eq!(auto.read("a.txt") + &auto.read("b.txt"), "x\nx\n");
    assert_eq!(attempts(&auto), [2, 1]);
}

#[test]
fn a_killed_run_leaves_no_mount_and_no_process() {
    let project = project("pwd > ${item}.txt && touch .cache/begun && sleep 1000");
    if !allows(&project) {
        return;
    }
    let mut run = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let mut run = run.args(["run", "-q", "-j", "2"]).spawn().expect("started");
    let wait = |what: &str, is_there: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !is_there() {
            assert!(std::time::Instant::now() < end, "{what}: {:?}", project.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait("no command began", &|| project.path(".cache/begun").exists());
    assert_no_mounts(&project);
    run.kill().expect("killed");
    run.wait().expect("waited for");
    wait("something lives on", &|| project.processes().is_empty());
    assert_no_mounts(&project);
}

/// An ordinary user gets a user namespace, where there are such, and sees the project's path as well.
#[test]
fn an_ordinary_user_sees_the_projects_own_path_where_there_are_user_namespaces() {
    let Some(setpriv) = tool("setpriv") else { return };
    let root_of_one = "test \"$(cat /proc/self/uid_map | wc -w)\" = 3 && grep -q 4294967295 /proc/self/uid_map";
    let script = format!(
        "pwd > ${{item}}.txt; cat .cache/before; {root_of_one} || {{ echo Bad owner or permissions; exit 1; }}"
    );
    let (plain, picky) = (project("pwd > ${item}.txt && cat .cache/before"), project(&format!("'{script}'")));
    let user = "12345";
    for project in [&plain, &picky] {
        let folder = project.root().parent().expect("it has one");
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(folder, mode).expect("set");
        if Ran::of(project.command("chown").args(["-R", user]).arg(folder)).code != Some(0) {
            say("skipped: only root can start a program as another user");
            return;
        }
    }
    let run = |project: &Project, arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_dvc-fanout");
        let command = ["--reuid", user, "--regid", user, "--clear-groups", program];
        Ran::of(project.command(&setpriv).args(command).args(arguments))
    };
    let doctor = run(&plain, &["doctor"]).stdout;
    let is_mounted = doctor.contains("in user namespaces");
    let mut unshare = plain.command(&setpriv);
    unshare.args(["--reuid", user, "--regid", user, "--clear-groups", "unshare", "--user", "--mount", "true"]);
    assert_eq!(Ran::of(&mut unshare).code == Some(0), is_mounted, "{doctor}");
    run(&plain, &["run", "-j", "1"]).succeeded();
    let here = format!("{}\n", plain.root().display());
    assert_eq!(plain.read("a.txt") == here, is_mounted, "{doctor}");
    // What such a namespace does not have is had beside the project.
    run(&picky, &["run", "-j", "1"]).succeeded();
    assert!(picky.read("b.txt").ends_with("/workspace\n"), "{}", picky.read("b.txt"));
}

/// Tools that write down where they work: a compiler, an environment, a socket, links between outs, a dep that moves away
/// and back.
const TOOLS: &str = r#"
mkdir "$1"
printf 'int main(void) { return 0; }' > "$1/x.c"
if command -v cc > /dev/null; then cc -g -c "$1/x.c" -o "$1/x.o"; fi
python3 -m venv --without-pip "env-$1"
cat "env-$1/pyvenv.cfg" > "$1/cfg"; grep -h '^ *VIRTUAL_ENV=' "env-$1/bin/activate" >> "$1/cfg"; rm -rf "env-$1"
python3 - "$1" << 'PY'
import os, socket, sys
key = sys.argv[1]
server = socket.socket(socket.AF_UNIX)
server.bind(f"{key}/sock")
open(f"{key}/where", "w").write(f"{os.path.realpath(f'{key}/sock')} {server.getsockname()}\n")
os.remove(f"{key}/sock")
PY
ln "$1/cfg" "$1/second"; stat -c %h "$1/cfg" > "$1/names"
mv raw.txt away.txt; cat away.txt > "$1/raw"; mv away.txt raw.txt
cp -a "$PWD/tools.sh" "$1/copy"; git describe --always --dirty > "$1/described"
env | grep -v -e ^DVC_ -e ^OLDPWD | sort > "$1/env"
"#;

#[test]
fn tools_write_down_what_they_write_under_dvc_repro() {
    let make = |project: &Project| {
        project.git(["init", "--quiet", "--initial-branch=main"]);
        project.dvc(["init", "--quiet"]);
        project.write("tools.sh", TOOLS);
        project.write("raw.txt", "raw\n");
        project.write(".gitignore", "env-*/\n/p\n/q\n");
        project.write(
            "dvc.yaml",
            "stages:\n  use:\n    foreach: [p, q]\n    do:\n      cmd: sh tools.sh ${item}\n      deps: [tools.sh, raw.txt]\n      outs: ['${item}']\n",
        );
        project.commit("tools");
    };
    if allows(&Project::without_init()) {
        same(&make, "");
    }
}

/// What a daemon starts finds the project itself at its path: such commands get a workspace at a path of its own.
#[test]
fn a_command_that_has_a_daemon_start_something_sees_its_workspace_by_its_own_path() {
    let project = Project::empty();
    let stage = |words: &str| {
        format!(
            "    foreach: [p]\n    do:\n      cmd: \"{words} && pwd > ${{item}}-{words}.out\"\n      outs: [\"${{item}}-{words}.out\"]\n"
        )
    };
    project.write("dvc.yaml", &format!("stages:\n  one:\n{}  other:\n{}", stage("docker"), stage("true")));
    project.write("bin/docker", "#!/bin/sh\n");
    project.commit("one");
    let bin = project.path("bin");
    Ran::of(project.command("chmod").args(["+x", "bin/docker"])).succeeded();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("set"));
    let mut run = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    Ran::of(run.args(["run", "-j", "1", "--retries", "0"]).env("PATH", path)).succeeded();
    assert!(project.read("p-docker.out").contains("/.dvc/fanout/slots/"), "{}", project.read("p-docker.out"));
}
