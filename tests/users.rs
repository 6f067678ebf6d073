//! Users that the system does not know: the arbitrary ids of containers, without a name and a home directory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Project, Ran, say, tool};

const NAMELESS: &str = "12345";

/// Runs a program as a user without a name; `None` where this machine does not let one run DVC.
struct Nameless {
    setpriv: std::path::PathBuf,
}

impl Nameless {
    fn new(project: &Project) -> Option<Nameless> {
        let nameless = Nameless { setpriv: tool("setpriv")? };
        let run = |program: &str, arguments: &[&str]| Ran::of(project.command(program).args(arguments)).code == Some(0);
        let root = project.root().to_str().expect("UTF-8");
        for folder in project.root().ancestors().take(2) {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("set");
        }
        let is_given = run("chown", &["-R", NAMELESS, root]);
        let works = is_given && Ran::of(nameless.command(project, "dvc", &[]).arg("--version")).code == Some(0);
        if !works {
            say("skipped: only root can start a program as another user, and that user must reach `dvc`");
        }
        works.then_some(nameless)
    }

    fn command(
        &self,
        project: &Project,
        program: impl AsRef<Path>,
        environment: &[(&str, &str)],
    ) -> std::process::Command {
        let mut command = project.command(&self.setpriv);
        command.env_remove("HOME");
        command.env("DVC_SITE_CACHE_DIR", project.path(".dvc/tmp/site")).envs(environment.iter().copied());
        command.args(["--reuid", NAMELESS, "--regid", "0", "--clear-groups"]).arg(program.as_ref());
        command
    }
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
        let ran = Ran::of(nameless.command(&project, program, environment).args(["run", "-j", "1", "-q"]));
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("hint: set USER to any name and HOME"), "{ran:#?}");
        let logs = |index: usize| {
            let runs = project.path(".dvc/fanout/runs").read_dir().expect("listed");
            let run = runs.map(|entry| entry.expect("listed").path()).max().expect("there is one");
            let results = run.join(format!("results/{index}")).read_dir().expect("listed");
            results.filter(|entry| entry.as_ref().expect("listed").path().extension().is_some()).count()
        };
        assert_eq!((logs(0), logs(1)), (1, 1), "each work item is tried once");
    }
    let known = [("HOME", home), ("USER", "somebody")];
    Ran::of(nameless.command(&project, program, &known).args(["run", "-j", "2", "-f"])).succeeded();
    assert_eq!(project.read("q.out"), "q\n");
}
