//! Data that DVC brings, links or leaves in its own ways: old caches, imports, remotes, folders that git ignores.

use std::fs;

use crate::support::Project;
use crate::support::same::same_when_made;

/// DVC writes no `.gitignore` into them, so some hold nothing but outs.
#[test]
fn folders_that_hold_nothing_but_outs_are_gathered() {
    let ignore = |project: &Project| {
        project.write(".gitignore", "/out/\n");
        fs::create_dir(project.path("hollow")).expect("made");
        project.write(
            "dvc.yaml",
            "stages:\n  m:\n    foreach: [s1, s2]\n    do:\n      cmd: mkdir -p out/${item}/m && cp raw/${item}.txt \
             out/${item}/m/f\n      deps: [\"raw/${item}.txt\"]\n      outs: [\"out/${item}/m/f\"]\n  all:\n    cmd: cat \
             out/*/*/f > all && find out -type d | LC_ALL=C sort >> all\n    deps: [out, hollow]\n    outs: [all]\n",
        );
        project.commit("outs are ignored");
    };
    same_when_made(
        "sessions",
        &[],
        &ignore,
        &[&|project| project.write("raw/s1.txt", "another\n"), &|project| {
            fs::create_dir_all(project.path("out/empty/deep")).expect("made");
            project.write("raw/s2.txt", "another\n");
        }],
    );
}
