//! The wheel: made, installed into an environment of its own, and used there.

use std::path::Path;
use std::process::Command;

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

/// Gives another target folder all that was compiled for the tests: the crates take minutes, the program one more.
fn lend_what_is_compiled(target: &Path) {
    let (from, to) = (Path::new(env!("CARGO_BIN_EXE_dvc-fanout")).parent().expect("a folder"), target.join("debug"));
    if to.exists() {
        return;
    }
    std::fs::create_dir_all(to.join("deps")).expect("made");
    for folder in ["build", ".fingerprint"] {
        Ran::of(Command::new("cp").arg("-a").arg(from.join(folder)).arg(&to)).succeeded();
    }
    for file in from.join("deps").read_dir().expect("listed").map(|file| file.expect("listed").path()) {
        let name = file.file_name().expect("it has a name");
        // Cargo writes these anew, and never into one that is there.
        if file.extension().is_some_and(|extension| ["rlib", "rmeta", "so", "a"].iter().any(|kind| extension == *kind))
        {
            std::fs::hard_link(&file, to.join("deps").join(name)).expect("linked");
        } else if name.as_encoded_bytes().starts_with(b"dvc_fanout-") {
            Ran::of(Command::new("cp").arg("-p").arg(&file).arg(to.join("deps"))).succeeded();
        }
    }
}

#[test]
fn a_wheel_brings_the_program_next_to_dvc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut make = Command::new(root.join("contrib/wheel"));
    make.arg("--out").arg(folder.path()).args(["--profile", "dev", "--compatibility", "linux"]);
    // In a folder of its own: the other tests use the program meanwhile that they were built with.
    let target = root.join("target/wheel");
    lend_what_is_compiled(&target);
    make.env("CARGO_TARGET_DIR", target);
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
