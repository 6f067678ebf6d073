//! The image of `contrib/docker`, built from its own lines and run: a worker in it does work items of a fixture.
//!
//! No registry is asked. The images that the Dockerfile begins with are made here, under its names: Debian by
//! debootstrap, and Rust as Debian with a `cargo` that has compiled the program already.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Project, Ran, say, tool};

const DEBIAN: &str = "docker.io/library/debian:bookworm-slim";
const RUST: &str = "docker.io/library/rust:1.95-slim-bookworm";
/// Takes the place of a compilation of minutes, if it is asked for the right thing.
const CARGO: &str = "#!/bin/sh -e
test \"$*\" = 'install --locked --path /source --root /out'
test -f /source/Cargo.toml -a -f /source/Cargo.lock -a -f /source/src/main.rs
mkdir -p /out/bin
cp /usr/local/lib/dvc-fanout /out/bin/
";
/// What debootstrap fetches with: by itself it would wait for a quarter of an hour where the other side falls silent.
const WGET: &str = "timeout = 30\ntries = 5\n";
/// The authorities that this machine trusts, for `pip` in a build behind a proxy that has its own.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn contrib(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/docker").join(file)
}

#[test]
fn the_images_work_on_a_shared_volume_as_their_user_and_as_any_other() {
    let Some(images) = Images::new() else { return };
    images.make_debian();
    images.make_rust();
    images.build("Dockerfile", "project");
    let container = images.buildah(["from", "project"]);
    let container = container.trim();

    for (user, id) in [(&[][..], "10001\n"), (&["--user", "12345:0"], "12345\n")] {
        let project = on_a_shared_volume();
        let root = project.root().to_str().expect("it is UTF-8");
        let volume = format!("{root}:{root}");
        let in_image = |command: &[&str]| {
            images.buildah([&["run", "--volume", &volume], user, &[container, "--"], command].concat())
        };
        assert_eq!(in_image(&["id", "-u"]), id);
        in_image(&["dvc-fanout", "--cd", root, "work", "0"]);
        assert_the_first_is_done(&project);
    }
    without_python(&images);
}

/// An image without Python does what needs no DVC.
fn without_python(images: &Images) {
    images.build("Dockerfile.native", "native");
    let container = images.buildah(["from", "native"]);
    let project = on_a_shared_volume();
    let root = project.root().to_str().expect("it is UTF-8");
    let volume = format!("{root}:{root}");
    let in_image =
        |command: &[&str]| images.buildah([&["run", "--volume", &volume, container.trim(), "--"], command].concat());
    assert_eq!(in_image(&["sh", "-c", "command -v python3 dvc; true"]), "");
    in_image(&["dvc-fanout", "--cd", root, "work", "0"]);
    assert_the_first_is_done(&project);
}

/// A planned project, as on the volume of the README.
fn on_a_shared_volume() -> Project {
    let project = Project::from_fixture("sessions");
    project.dvc(["config", "cache.shared", "group"]);
    project.commit("for a shared volume");
    project.fanout(["plan"]).succeeded();
    let run = |program: &str, arguments: &[&str]| Ran::of(project.command(program).args(arguments)).succeeded();
    run("chgrp", &["-R", "0", "."]);
    run("chmod", &["-R", "g+rwX", "."]);
    run("find", &[".", "-type", "d", "-exec", "chmod", "g+s", "{}", "+"]);
    project
}

#[track_caller]
fn assert_the_first_is_done(project: &Project) {
    project.fanout(["collect"]).succeeded();
    project.dvc(["checkout", "--quiet", "extract@s1"]);
    let status = project.dvc(["status", "extract@s1", "score@s1"]);
    assert!(status.contains("up to date"), "{status}");
}

#[test]
fn the_snippet_has_the_lines_of_the_complete_example() {
    let [example, snippet] = ["Dockerfile", "Dockerfile.snippet"].map(|file| {
        let text = std::fs::read_to_string(contrib(file)).expect("it is there");
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    });
    let missing: Vec<&String> = snippet.iter().filter(|line| !example.contains(line)).collect();
    assert!(missing.is_empty() && snippet.len() > 10, "{missing:#?}");
}

/// `buildah`, with images in a folder of this test.
struct Images {
    folder: tempfile::TempDir,
    home: Project,
}

impl Images {
    /// `None` where images cannot be made.
    fn new() -> Option<Self> {
        let (_, _) = (tool("buildah")?, tool("debootstrap")?);
        let home = Project::bare();
        if Ran::of(home.command("id").arg("-u")).succeeded() != "0\n" {
            say("skipped: debootstrap has to be root");
            return None;
        }
        // Packages are written with a sync for each file, which takes no time in memory.
        let memory = Some(Path::new("/dev/shm")).filter(|folder| folder.is_dir());
        let folder = memory.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a temporary folder");
        let images = Images { folder, home };
        let at = images.folder.path().display();
        images.write(
            "storage.conf",
            &format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{at}/storage\"\nrunroot = \"{at}/run\"\n"),
        );
        Some(images)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.home.command(program);
        command.env("CONTAINERS_STORAGE_CONF", self.path("storage.conf")).env("BUILDAH_ISOLATION", "chroot");
        command
    }

    #[track_caller]
    fn buildah<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        Ran::of(self.command("buildah").args(arguments)).succeeded()
    }

    fn make_debian(&self) {
        let container = self.buildah(["from", "scratch"]);
        let root = self.buildah(["mount", container.trim()]);
        self.home.write("../home/.wgetrc", WGET);
        let mut command = self.command("debootstrap");
        Ran::of(command.args(["--variant=minbase", "bookworm", root.trim(), "http://deb.debian.org/debian"]))
            .succeeded();
        self.buildah(["commit", "--quiet", "--rm", container.trim(), DEBIAN]);
    }

    fn make_rust(&self) {
        self.write("rust/cargo", CARGO);
        std::fs::set_permissions(self.path("rust/cargo"), std::fs::Permissions::from_mode(0o755)).expect("set");
        std::fs::copy(env!("CARGO_BIN_EXE_dvc-fanout"), self.path("rust/dvc-fanout")).expect("copied");
        let lines = format!("FROM {DEBIAN}\nCOPY cargo /usr/local/bin/\nCOPY dvc-fanout /usr/local/lib/\n");
        self.write("rust/Dockerfile", &lines);
        let folder = self.path("rust");
        self.buildah(["build", "--quiet", "--tag", RUST, folder.to_str().expect("it is UTF-8")]);
    }

    /// Builds one of the project's own files.
    fn build(&self, file: &str, name: &str) {
        let mut command = self.command("buildah");
        command.args(["build", "--pull-never", "--tag", name, "--file"]).arg(contrib(file));
        command.arg("--build-context").arg(concat!("fanout=", env!("CARGO_MANIFEST_DIR")));
        if Path::new(AUTHORITIES).exists() {
            self.write("pip.conf", "[global]\ncert = /run/authorities.crt\n");
            let settings = self.path("pip.conf");
            command.args(["--volume", &format!("{AUTHORITIES}:/run/authorities.crt:ro")]);
            command.args(["--volume", &format!("{}:/etc/pip.conf:ro", settings.display())]);
        }
        Ran::of(command.arg(self.path("rust"))).succeeded();
    }
}
