//! What DVC knows of a project beside its files: which outs it has put there, and what their hashes are.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::support::Project;

/// A branch without stages, and one on which they have run.
fn made(links: &str, run: &dyn Fn(&Project)) -> Project {
    let project = Project::empty();
    project.write(".dvc/config", &format!("[cache]\n    type = {links}\n"));
    project.commit("nothing");
    project.git(["checkout", "--quiet", "-b", "work"]);
    project.write(
        "dvc.yaml",
        "stages:\n  make:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p d_${item}/ü && echo ${item} > d_${item}/x && cp \
         d_${item}/x d_${item}/ü/y && cp d_${item}/x f_${item}\n      outs: ['d_${item}', 'f_${item}']\n  all:\n    cmd: cat \
         f_a f_b > all\n    deps: [f_a, f_b]\n    outs: [all]\n",
    );
    project.commit("stages");
    run(&project);
    project.git(["add", "--all"]);
    project.commit("outs");
    project
}

fn both(links: &str) -> [Project; 2] {
    [
        made(links, &|project| drop(project.dvc(["repro"]))),
        made(links, &|project| drop(project.fanout(["run", "-j", "2"]).succeeded())),
    ]
}

fn names(project: &Project) -> Vec<String> {
    let listed = fs::read_dir(project.root()).expect("listed");
    let mut names: Vec<String> =
        listed.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn outs_that_another_branch_does_not_have_are_checked_out_of_the_way() {
    let other = |project: &Project| {
        // What somebody has changed is no out of DVC's any more.
        fs::remove_file(project.path("d_b/x")).expect("removed");
        project.write("d_b/x", "mine\n");
        project.git(["checkout", "--quiet", "main"]);
        project.dvc(["checkout"]);
        names(project)
    };
    for links in ["copy", "hardlink", "symlink"] {
        let [serial, fanned] = both(links);
        assert_eq!(other(&fanned), other(&serial), "{links}");
        assert_eq!(names(&fanned), [".dvc", ".dvcignore", ".git", "d_b"], "{links}");
    }
}

/// DVC believes a file that looks as when it was hashed.
#[test]
fn outs_are_not_hashed_again() {
    let said = |project: &Project| {
        for path in ["f_a", "d_b/ü/y", "all"] {
            let path = project.path(path);
            let before = path.metadata().expect("there");
            let text = fs::read_to_string(&path).expect("read");
            fs::write(&path, text.to_uppercase()).expect("written");
            let file = fs::File::options().write(true).open(&path).expect("opened");
            file.set_modified(before.modified().expect("known")).expect("set");
            assert_eq!(path.metadata().expect("there").ino(), before.ino());
        }
        project.dvc(["status", "--json"])
    };
    let [serial, fanned] = both("copy");
    assert_eq!(said(&serial).trim(), "{}");
    assert_eq!(said(&fanned).trim(), "{}");
}

#[test]
fn a_record_that_cannot_be_written_is_told_and_stops_nothing() {
    let project = Project::from_fixture("sessions");
    project.write("cache-of-site", "a file where a folder would be\n");
    let mut run = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    run.env("DVC_SITE_CACHE_DIR", project.path("cache-of-site")).args(["run", "-j", "2"]);
    let ran = crate::support::Ran::of(&mut run);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("DVC was not told of the outs that were made"), "{ran:#?}");
}
