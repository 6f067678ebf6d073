//! The wheel: made, installed into an environment of its own, and used there.

use std::path::Path;
use std::process::Command;

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

#[test]
fn a_wheel_brings_the_program_next_to_dvc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut make = Command::new(root.join("contrib/wheel"));
    make.arg("--out").arg(folder.path()).args([
        "--profile",
        "dev",
        "--compatibility",
        "linux",
        "--no-default-features",
    ]);
    // In a folder of its own: the other tests use the program meanwhile that they were built with.
    make.env("CARGO_TARGET_DIR", root.join("target/wheel"));
    let wheel = Ran::of(&mut make).succeeded();
    let environment = folder.path().join("venv");
    Ran::of(Command::new("python3").args(["-m", "venv"]).arg(&environment)).succeeded();
    let mut install = Command::new(environment.join("bin/pip"));
    Ran::of(install.args(["install", "--quiet", "--no-index", wheel.trim()])).succeeded();
    for file in ["share/man/man1/dvc-fanout-run.1", "share/bash-completion/completions/dvc-fanout"] {
        assert!(environment.join(file).is_file(), "{file}");
    }
    let (serial, fanned) = (Project::from_fixture("sessions"), Project::from_fixture("sessions"));
    serial.dvc(["repro"]);
    let program = environment.join("bin/dvc-fanout");
    Ran::of(fanned.command(program.to_str().expect("it is UTF-8")).args(["run", "-j", "2"])).succeeded();
    assert_same(&serial, &fanned, "by a wheel");
    assert_clean(&fanned, &[]);
}
