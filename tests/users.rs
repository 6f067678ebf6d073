//! Users that the system does not know: the arbitrary ids of containers, without a name and a home directory.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::{Project, Ran, attempts, say, tool};

const NAMELESS: &str = "12345";

/// Runs a program as a user without a name; `None` where this machine does not let one run DVC.
struct Nameless {
    setpriv: PathBuf,
    /// Begins with a folder that has a `dvc` for everybody.
    path: OsString,
}

impl Nameless {
    fn new(project: &Project) -> Option<Nameless> {
        let setpriv = tool("setpriv")?;
        for folder in project.root().ancestors().take(2) {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("set");
        }
        let root = project.root().to_str().expect("UTF-8");
        if Ran::of(project.command("chown").args(["-R", NAMELESS, root])).code != Some(0) {
            say("skipped: only root can start a program as another user");
            return None;
        }
        let mut nameless = Nameless { setpriv, path: std::env::var_os("PATH").unwrap_or_default() };
        if !nameless.has_dvc(project) {
            let programs = dvc_for_everybody(project);
            let old = std::mem::take(&mut nameless.path);
            nameless.path =
                std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&old))).expect("plain");
        }
        let works = nameless.has_dvc(project);
        assert!(works || std::env::var_os("CI").is_none(), "another user must be able to run `dvc`");
        if !works {
            say("skipped: another user cannot run this machine's `dvc`");
        }
        works.then_some(nameless)
    }

    /// Asked of a program that was started by such a user: `setpriv` itself may start more than they.
    fn has_dvc(&self, project: &Project) -> bool {
        Ran::of(self.command(project, "sh", &[]).args(["-c", "dvc --version"])).code == Some(0)
    }

    fn command(
        &self,
        project: &Project,
        program: impl AsRef<Path>,
        environment: &[(&str, &str)],
    ) -> std::process::Command {
        let mut command = project.command(&self.setpriv);
        command.env_remove("HOME").env("PATH", &self.path);
        command.env("DVC_SITE_CACHE_DIR", project.path(".dvc/tmp/site")).envs(environment.iter().copied());
        command.args(["--reuid", NAMELESS, "--regid", "0", "--clear-groups"]).arg(program.as_ref());
        command
    }
}

/// Makes a folder with a `dvc` of the system's Python, which finds the packages of the one on the PATH: the Python of that
/// one may lie in the home directory of root.
fn dvc_for_everybody(project: &Project) -> PathBuf {
    let programs = project.path("../programs");
    std::fs::create_dir(&programs).expect("made");
    let dvc = tool("dvc").expect("the tests run it");
    let library = dvc.ancestors().nth(2).expect("it is in `bin`").join("lib");
    let mut pythons = library.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    if let Some(python) = pythons.find(|path| path.join("site-packages/dvc").is_dir()) {
        let name = python.file_name().expect("it has one").to_string_lossy().into_owned();
        let packages = python.join("site-packages");
        let text = format!(
            "#!/usr/bin/{name}\nimport sys\nsys.path.insert(0, {:?})\nfrom dvc.cli import main\nsys.exit(main())\n",
            packages.display().to_string()
        );
        std::fs::write(programs.join("dvc"), text).expect("written");
        std::fs::set_permissions(programs.join("dvc"), std::fs::Permissions::from_mode(0o755)).expect("set");
        std::fs::set_permissions(&programs, std::fs::Permissions::from_mode(0o755)).expect("set");
    }
    programs
}

fn project() -> Project {
    let project = Project::without_init();
    project.write("dvc.yaml", "stages:\n  use:\n    foreach: [p, q]\n    do:\n      cmd: echo ${item} > ${item}.out\n      outs: [\"${item}.out\"]\n");
    project.commit("one");
    project
}

#[test]
fn what_dvc_needs_of_a_nameless_user_is_said_after_one_try() {
    let project = project();
    let Some(nameless) = Nameless::new(&project) else { return };
    let home = project.path("home-of-somebody");
    std::fs::create_dir(&home).expect("made");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o777)).expect("set");
    let home = home.to_str().expect("UTF-8");
    let program = env!("CARGO_BIN_EXE_dvc-fanout");
    // The first is DVC's own words for a user without a home, the second for one without a name.
    for environment in [&[][..], &[("HOME", home)]] {
        let serial = Ran::of(nameless.command(&project, "dvc", environment).arg("repro"));
        assert_eq!(serial.code, Some(255), "{serial:#?}");
        let ran = Ran::of(nameless.command(&project, program, environment).args([
            "run",
            "-j",
            "1",
            "-q",
            "--executor",
            "dvc",
        ]));
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("hint: set USER to any name and HOME"), "{ran:#?}");
        assert_eq!(attempts(&project), [1, 1], "each work item is tried once");
    }
    // What needs no DVC needs none of this.
    for (environment, executor) in [(&[][..], "native"), (&[("HOME", home), ("USER", "somebody")], "dvc")] {
        let mut run = nameless.command(&project, program, environment);
        Ran::of(run.args(["run", "-j", "2", "-f", "--executor", executor])).succeeded();
        assert_eq!(project.read("q.out"), "q\n");
    }
}

#[test]
fn what_this_user_may_not_read_and_nobody_declares_is_left_out() {
    let project = project();
    let Some(nameless) = Nameless::new(&project) else { return };
    let home = project.path("../home").display().to_string();
    let known = [("HOME", home.as_str()), ("USER", "somebody")];
    let closed = |path: &str| {
        project.write(path, "secret\n");
        std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(0o000)).expect("set");
    };
    closed("secret.key");
    closed("data/secret.key");
    closed("hidden.log");
    project.write(".git/info/exclude", "*.log\n");
    let ran = Ran::of(nameless.command(&project, env!("CARGO_BIN_EXE_dvc-fanout"), &known).args(["run", "-j", "2"]));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("secret.key"), "what is left out is named: {ran:#?}");
    assert_eq!(project.read("q.out"), "q\n");
}

#[test]
fn what_root_has_left_is_to_be_given_to_this_user() {
    let project = project();
    let Some(nameless) = Nameless::new(&project) else { return };
    let home = project.path("../home").display().to_string();
    let known = [("HOME", home.as_str()), ("USER", "somebody")];
    std::fs::create_dir(project.path(".dvc/fanout")).expect("made");
    std::fs::set_permissions(project.path(".dvc/fanout"), std::fs::Permissions::from_mode(0o755)).expect("set");
    project.write(".dvc/fanout/.gitignore", "*\n");
    let ran = Ran::of(nameless.command(&project, env!("CARGO_BIN_EXE_dvc-fanout"), &known).args(["run", "-j", "2"]));
    assert!(ran.code == Some(4) && ran.stderr.contains("/.dvc/fanout/runs': Permission denied"), "{ran:#?}");
    assert!(ran.stderr.contains("\nhint: give this user access there"), "{ran:#?}");
}
