//! `contrib/release`: what is cheap of it, from a clone of what is here.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::Ran;

/// A wheel that was not asked for in another profile is an optimized one.
#[test]
fn a_wheel_is_a_release_unless_somebody_says_otherwise() {
    let folder = repository();
    let maturin = folder.path().join("target/maturin/bin/maturin");
    std::fs::create_dir_all(maturin.parent().expect("a folder")).expect("made");
    let said = "#!/bin/sh\n[ \"$1\" = --version ] && echo maturin 1.9.6 && exit\necho \"$@\" >&2; touch made/dvc_fanout-1.whl\n";
    std::fs::write(&maturin, said).expect("written");
    std::fs::set_permissions(&maturin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let make = |arguments: &[&str]| Ran::of(Command::new(folder.path().join("contrib/wheel")).args(arguments));
    let made = make(&[]);
    assert!(
        made.code == Some(0) && made.stderr.contains("build --locked --quiet --release --strip --out"),
        "{made:#?}"
    );
    let made = make(&["--profile", "dev"]);
    assert!(made.code == Some(0) && made.stderr.contains("build --locked --quiet --out"), "{made:#?}");
}

/// A repository with the files of this one, all committed.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let script = r#"git -C "$1" ls-files -z --cached --others --exclude-standard | tar --create --directory "$1" --null \
        --files-from - --ignore-failed-read 2>/dev/null | tar --extract --directory "$2" &&
        cd "$2" && git init --quiet && git add --all &&
        git -c user.name=test -c user.email=test@localhost commit --quiet --message all"#;
    let mut copy = Command::new("sh");
    copy.args(["-c", script, "sh", env!("CARGO_MANIFEST_DIR")]).arg(folder.path());
    Ran::of(&mut copy).succeeded();
    folder
}

fn release(folder: &Path, arguments: &[&str]) -> Ran {
    // Where this one's crates lie, cargo has nothing to fetch.
    Ran::of(Command::new(folder.join("contrib/release")).args(arguments))
}

#[test]
fn a_release_is_made_of_what_is_committed_with_checksums() {
    let folder = repository();
    let folder = folder.path();
    let ran = release(folder, &["--only", "crate,sbom", "--out", "target/out"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let version = env!("CARGO_PKG_VERSION");
    let [bom, sources] = [format!("dvc-fanout-{version}.cdx.json"), format!("dvc-fanout-{version}.crate")];
    assert_eq!(ran.stdout, format!("SHA256SUMS\n{bom}\n{sources}\n"));
    let out = folder.join("target/out");
    let checked = Ran::of(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&out)).succeeded();
    assert_eq!(checked, format!("{bom}: OK\n{sources}: OK\n"));
    let listed = Ran::of(Command::new("tar").arg("-tzf").arg(out.join(&sources))).succeeded();
    for file in ["src/main.rs", "Cargo.lock", "LICENSE", "man/guide.md"] {
        assert!(listed.contains(&format!("dvc-fanout-{version}/{file}\n")), "{file}: {listed}");
    }
    assert_describes(&out.join(&bom));

    let ran = release(folder, &["--dry-run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let target = "x86_64-unknown-linux-musl";
    for step in [
        format!("+ contrib/wheel --out target/release-{version} --target {target}\n"),
        format!("+ cargo build --locked --release --target {target}\n"),
        "+ checksums\n".to_owned(),
    ] {
        assert!(ran.stderr.contains(&step), "`{step}` in {ran:#?}");
    }
    assert!(!folder.join(format!("target/release-{version}")).exists());
    let ran = release(folder, &["--only", "sbom,cake"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("there is no part `cake`"), "{ran:#?}");
    std::fs::write(folder.join("new.txt"), "").expect("written");
    let ran = release(folder, &["--dry-run"]);
    assert!(ran.code == Some(4) && ran.stderr.contains("  ?? new.txt\n"), "{ran:#?}");
}

/// A document names all that is linked, nothing that only tests need, and is what its schema says.
fn assert_describes(bom: &Path) {
    let document: Value = serde_json::from_slice(&std::fs::read(bom).expect("read")).expect("JSON");
    assert_eq!(document["metadata"]["component"]["name"], "dvc-fanout");
    let components = document["components"].as_array().expect("a list");
    let has = |name: &str| components.iter().any(|component| component["name"] == name);
    assert!(has("serde_json") && has("libgit2-sys") && has("kube") && !has("proptest"), "{components:#?}");
    for component in components {
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
    }
    let check = "import sys; from cyclonedx.schema import SchemaVersion; \
                 from cyclonedx.validation.json import JsonStrictValidator; \
                 wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()); \
                 sys.exit(str(wrong) if wrong else 0)";
    if Ran::of(Command::new("python3").args(["-c", "import cyclonedx"])).code == Some(0) {
        Ran::of(Command::new("python3").args(["-c", check]).arg(bom)).succeeded();
    } else {
        assert!(std::env::var_os("CI").is_none(), "python3 must have cyclonedx (contrib/setup-tools installs it)");
    }
}
