//! Data that DVC brings, links or leaves in its own ways: old caches, imports, remotes, folders that git ignores.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::Project;
use crate::support::same::{assert_same, assert_same_listing, same_when_made};

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

#[test]
fn imports_that_are_not_frozen_are_brought_anew_before_what_needs_them() {
    let import = |project: &Project| {
        project.write("source/s1.txt", "one\n");
        project.write("source.txt", "source\n");
        project.write("late.txt", "late\n");
        for from in ["source", "source.txt"] {
            let to = from.replace("source", "copy");
            project.dvc(["import-url", "--quiet", from, &to]);
            project.dvc(["unfreeze", "--quiet", &format!("{to}.dvc")]);
        }
        project.dvc(["import-url", "--quiet", "--no-download", "late.txt", "frozen.txt"]);
        project.edit("dvc.yaml", "< raw/${item}.txt", "< copy.txt && cat frozen.txt copy/s1.txt >> work/${item}.txt");
        project.edit("dvc.yaml", "- raw/${item}.txt", "- copy.txt\n      - copy\n      - frozen.txt");
        project.commit("imports");
    };
    same_when_made(
        "sessions",
        &["-P"],
        &import,
        &[
            &|project| {
                project.write("source/s1.txt", "another one\n");
                project.write("source.txt", "another\n");
            },
            &|project| fs::remove_file(project.path("copy.txt")).expect("removed"),
        ],
    );
}

#[test]
fn data_that_only_the_remote_has_is_pulled_for_stages_and_for_those_that_need_it() {
    let push = |project: &Project| {
        project.write(".dvc/config", "[core]\n    remote = r\n['remote \"r\"']\n    url = ../.git/remote\n");
        project.write("tracked.txt", "tracked\n");
        project.dvc(["add", "--quiet", "tracked.txt"]);
        project.edit("dvc.yaml", "< raw/${item}.txt", "< raw/${item}.txt && cat tracked.txt >> work/${item}.txt");
        project.edit("dvc.yaml", "- raw/${item}.txt", "- raw/${item}.txt\n      - tracked.txt");
        project.dvc(["repro", "--quiet"]);
        project.dvc(["push", "--quiet"]);
        project.commit("pushed");
        fs::remove_dir_all(project.path(".dvc/cache")).expect("removed");
        fs::remove_dir_all(project.path("work")).expect("removed");
        fs::remove_file(project.path("tracked.txt")).expect("removed");
        project.write("raw/s1.txt", "another\n");
    };
    same_when_made("sessions", &["--pull"], &push, &[]);
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

/// A stage that may run, and then does not, since what is made before it is as it was.
#[test]
fn what_an_unchanged_stage_has_stays_as_it_is() {
    let made = || {
        let project = Project::empty();
        project.write("raw/a", "a\n");
        project.write("raw/b", "b\n");
        project.write(
            "dvc.yaml",
            "stages:\n  first:\n    foreach: [a, b]\n    do:\n      cmd: wc -c < raw/${item} > ${item}.first\n      deps: \
             ['raw/${item}']\n      outs: ['${item}.first']\n  all:\n    foreach: [c, d]\n    do:\n      cmd: cat *.first > \
             ${item}.all && chmod 755 ${item}.all\n      deps: [a.first, b.first]\n      outs:\n      - '${item}.all': \
             {cache: false}\n",
        );
        project.commit("project");
        project
    };
    let (serial, fanned) = (made(), made());
    for content in ["a\n", "b\n", "another\n"] {
        [&serial, &fanned].into_iter().for_each(|project| project.write("raw/a", content));
        serial.dvc(["repro"]);
        fanned.fanout(["run", "-j", "2"]).succeeded();
        assert_same(&serial, &fanned, content);
        assert_same_listing(&serial, &fanned, &|_| true, content);
    }
}

/// In a folder that a command made DVC leaves files as they are where copies are among the types of links, wherever these
/// stand. What it brings back from the cache it links by the first type.
#[test]
fn files_in_folders_are_links_where_dvc_leaves_links() {
    for types in ["reflink,hardlink,symlink,copy", "symlink,copy", "hardlink,copy", "hardlink,symlink", "copy,hardlink"]
    {
        let made = || {
            let project = Project::empty();
            project.write(".dvc/config", &format!("[cache]\n    type = \"{types}\"\n"));
            project.write(
                "dvc.yaml",
                "stages:\n  make:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p ${item}/deep && echo ${item} > \
                 ${item}/x && echo ${item}x > ${item}/deep/y && chmod 755 ${item}/deep/y && umask 077 && \
                 echo ${item}z > ${item}/z && cp ${item}/x ${item}.txt\n      outs: ['${item}', '${item}.txt']\n  \
                 look:\n    foreach: [a, b]\n    do:\n      cmd: stat -c '%F %a %h' ${item}/x ${item}/deep/y \
                 > ${item}.seen\n      deps: ['${item}']\n      outs: ['${item}.seen']\n",
            );
            project.commit("links");
            project
        };
        let (serial, fanned) = (made(), made());
        let runs = |project: &Project| fs::remove_dir_all(project.path("a")).expect("removed");
        for change in [&|_: &Project| {}, &runs as &dyn Fn(&Project)] {
            [&serial, &fanned].into_iter().for_each(change);
            serial.dvc(["repro"]);
            fanned.fanout(["run", "-j", "2"]).succeeded();
            assert_same_listing(&serial, &fanned, &|_| true, types);
        }
    }
}

/// DVC takes what was edited into its cache, and links it from there.
#[test]
fn edited_data_are_linked_as_dvc_links_them() {
    for types in ["symlink", "hardlink,copy", "reflink,copy", "copy"] {
        let made = || {
            let project = Project::empty();
            project.write(".dvc/config", &format!("[cache]\n    type = \"{types}\"\n"));
            project.write("raw/a", "a\n");
            project.write("raw/b", "b\n");
            project.write("one.txt", "1\n");
            project.write("frozen.txt", "1\n");
            project.dvc(["add", "--quiet", "raw", "one.txt"]);
            project.write(
                "dvc.yaml",
                "stages:\n  ice:\n    cmd: 'true'\n    outs: [frozen.txt]\n  make:\n    foreach: [a, b]\n    do:\n      \
                 cmd: cat raw/${item} one.txt frozen.txt > ${item}.out\n      deps: ['raw/${item}', one.txt, frozen.txt]\n      \
                 outs: ['${item}.out']\n",
            );
            project.dvc(["commit", "--quiet", "--force", "ice"]);
            project.dvc(["freeze", "ice"]);
            project.commit("links");
            project
        };
        let (serial, fanned) = (made(), made());
        let edit = |path: &'static str, mode: u32| {
            move |project: &Project| {
                let at = project.path(path);
                fs::remove_file(&at).expect("removed");
                fs::write(&at, format!("new {path}\n")).expect("written");
                fs::set_permissions(&at, fs::Permissions::from_mode(mode)).expect("set");
            }
        };
        let edits = |project: &Project| {
            edit("raw/a", 0o600)(project);
            edit("one.txt", 0o600)(project);
            edit("frozen.txt", 0o755)(project);
        };
        for change in [&|_: &Project| {}, &edits as &dyn Fn(&Project)] {
            [&serial, &fanned].into_iter().for_each(change);
            serial.dvc(["repro"]);
            fanned.fanout(["run", "-j", "2"]).succeeded();
            assert_same_listing(&serial, &fanned, &|_| true, types);
        }
    }
}

/// The same content lies in the cache as DVC 3 has it, which is another place.
#[test]
fn data_of_dvc_2_that_are_not_in_its_cache_are_put_there() {
    let made = || {
        let project = Project::empty();
        project.write("in", "1\n");
        project.dvc(["add", "--quiet", "in"]);
        project.edit("in.dvc", "  hash: md5\n", "");
        project.write(
            "dvc.yaml",
            "stages:\n  copy:\n    foreach: [a]\n    do:\n      cmd: cp in ${item}\n      deps: [in]\n      outs: ['${item}']\n",
        );
        project.commit("data of DVC 2");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(["run"]).succeeded();
    assert_same_listing(&serial, &fanned, &|_| true, "old data");
    assert_eq!(fanned.dvc(["status", "--json"]).trim(), "{}");
    assert!(fanned.fanout(["run"]).succeeded().contains("nothing to do"));
}
