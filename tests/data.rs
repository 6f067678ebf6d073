//! Data that DVC brings, links or leaves in its own ways: old caches, imports, remotes, folders that git ignores.

use std::fs;

use crate::support::Project;
use crate::support::same::same_when_made;

/// The cache and lock file of DVC 2: objects lie at the top of the cache, entries do not name their hash.
#[test]
fn outs_that_come_back_from_a_cache_of_dvc_2_are_found_by_the_next_stage() {
    let age = |project: &Project| {
        project.edit("dvc.yaml", ".json:\n          cache: false\n  summary", ".json\n  summary");
        project.dvc(["repro", "--quiet"]);
        let lock = project.read("dvc.lock").replace("      hash: md5\n", "");
        project.write("dvc.lock", &lock);
        for name in fs::read_dir(project.path(".dvc/cache/files/md5")).expect("a cache") {
            let name = name.expect("listed").file_name();
            fs::rename(project.path(".dvc/cache/files/md5").join(&name), project.path(".dvc/cache").join(&name))
                .expect("moved");
        }
        for gone in [".dvc/cache/files", ".dvc/cache/runs", ".dvc/tmp"] {
            fs::remove_dir_all(project.path(gone)).expect("removed");
        }
        project.commit("made by DVC 2");
    };
    same_when_made(
        "sessions",
        &[],
        &age,
        &[&|project| {
            project.write("raw/s1.txt", "another\n");
            fs::remove_dir_all(project.path("scores")).expect("removed");
        }],
    );
}

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
