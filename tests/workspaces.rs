//! A worker's workspace from one work item to the next: each sees the project as planned, whatever those before it did,
//! and what each did is told.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::Value;

use crate::support::Project;

/// What each key does after it has written down what it saw.
const SCRIPT: &str = r#"
mkdir -p out
{ ls shared; cat shared/*; ls; stat -c %a shared/a; } > "$HOME/seen-$1"
cp raw.txt "out/$1.txt"
case $1 in
2-appends) echo more >> shared/a ;;
3-replaces) sed -i s/b/c/ shared/b ;;
4-removes) rm shared/c ;;
5-second-name) ln shared/a name; echo more >> name; rm name ;;
6-second-name-stays) ln shared/b shared/name; echo more >> shared/name ;;
7-moves) mv shared/a shared/d; mv shared other ;;
8-makes) mkdir -p new/deep; echo deep > new/deep/file; echo x > shared/new ;;
9-memory) python3 -c 'import mmap; f = open("shared/c", "r+b"); m = mmap.mmap(f.fileno(), 0); f.close(); m[0] = 88' ;;
10-mode) chmod 755 shared/a ;;
11-moves-away) echo x > shared/x; mv shared/x .git/x ;;
12-all) rm -r shared; mkdir shared; echo new > shared/a ;;
esac
"#;

const KEYS: [(&str, &[&str]); 14] = [
    ("0-first", &[]),
    ("1-looks", &[]),
    ("2-appends", &["shared/a"]),
    ("3-replaces", &["shared/b"]),
    ("4-removes", &["-shared/c"]),
    ("5-second-name", &["shared/a"]),
    ("6-second-name-stays", &["shared/b", "shared/name"]),
    ("7-moves", &["-shared/a", "-shared/b", "-shared/c", "other/b", "other/c", "other/d"]),
    ("8-makes", &["new/deep/file", "shared/new"]),
    ("9-memory", &["shared/c"]),
    ("10-mode", &["shared/a"]),
    ("11-moves-away", &[]),
    ("12-all", &["-shared/b", "-shared/c", "shared/a"]),
    ("13-last", &[]),
];

#[test]
fn every_work_item_begins_with_the_project_as_planned_and_tells_what_it_changed() {
    let project = Project::empty();
    project.write("../home/act.sh", SCRIPT);
    let keys: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
    let stages = "
    do:
      cmd: sh $HOME/act.sh ${item}
      deps:
      - raw.txt
      outs:
      - out/${item}.txt
";
    project.write("dvc.yaml", &format!("stages:\n  w:\n    foreach: [{}]{stages}", keys.join(", ")));
    project.write("raw.txt", "raw\n");
    for name in ["a", "b", "c"] {
        project.write(&format!("shared/{name}"), &format!("{name}\n"));
    }
    project.commit("looking around");
    project.fanout(["plan"]).succeeded();
    // One worker does all of them, in this order.
    project.fanout(["launch", "-j", "1"]).succeeded();
    let runs = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("a run").flatten();
    let run = runs.map(|run| run.path()).next().expect("a run");
    let first = std::fs::read_to_string(project.path("../home/seen-0-first")).expect("it ran");
    for (index, (key, expected)) in KEYS.iter().enumerate() {
        let seen = std::fs::read_to_string(project.path(&format!("../home/seen-{key}"))).expect("it ran");
        assert_eq!(seen, first, "{key}");
        let result = std::fs::read_to_string(run.join(format!("results/{index}/1/result.json"))).expect("a result");
        let result: Value = serde_json::from_str(&result).expect("JSON");
        assert_eq!(result["id"], *key);
        let list = |name: &str| result[name].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut told: Vec<String> = list("files").iter().map(|file| text(&file["path"])).collect();
        told.extend(list("deleted").iter().map(|path| format!("-{}", text(path))));
        told.sort_unstable();
        assert_eq!(told, *expected, "{key}");
    }
}

/// What each key writes down of what it sees: all files with their content, kinds and modes, and what git says.
const LOOK: &str = r#"
mkdir -p seen
{
  find . \( -name .git -o -name .dvc -o -name seen \) -prune -o -printf '%p %y %m %l\n' | sort
  find . \( -name .git -o -name .dvc -o -name seen \) -prune -o -type f -print | sort | xargs md5sum
  git status --short; git log --format=%s
} > "seen/$1"
"#;

/// A project of so many files that its workspaces stay from one run to the next.
fn large() -> Project {
    let project = Project::empty();
    project.write("look.sh", LOOK);
    for number in 0..1_100 {
        project.write(&format!("raw/{}/{number}.txt", number % 7), &format!("{number}\n"));
    }
    project.write("folder/inside", "inside\n");
    project.write("private/key", "key\n");
    let stage = "foreach: [a, b]\n    do: {cmd: 'sh look.sh ${item}', deps: [look.sh, raw], outs: ['seen/${item}']}";
    project.write("dvc.yaml", &format!("stages:\n  look:\n    {stage}\n"));
    project.write(".dvc/config.local", "[core]\n    remote = nowhere\n['remote \"nowhere\"']\n    url = /nowhere\n");
    project.commit("large");
    project
}

fn change(project: &Project) {
    let at = |path: &str| project.path(path);
    project.write("raw/1/1.txt", "changed\n");
    std::fs::remove_file(at("raw/2/2.txt")).expect("removed");
    project.write("raw/new/deep.txt", "new\n");
    std::fs::set_permissions(at("raw/3/3.txt"), std::fs::Permissions::from_mode(0o755)).expect("set");
    std::fs::remove_file(at("raw/4/4.txt")).expect("removed");
    std::os::unix::fs::symlink("11.txt", at("raw/4/4.txt")).expect("linked");
    std::fs::remove_dir_all(at("folder")).expect("removed");
    project.write("folder", "a file now\n");
    std::fs::rename(at("raw/5"), at("raw/8")).expect("moved");
    project.commit("changed");
}

/// What somebody does to a workspace between two runs.
fn tamper(workspace: &Path) {
    let file = workspace.join("raw/6/6.txt");
    let before = file.metadata().expect("it is there");
    std::fs::write(&file, "X\n").expect("written");
    let back = std::fs::File::options().write(true).open(&file).expect("opened");
    back.set_modified(before.modified().expect("known")).expect("set");
    std::fs::write(workspace.join("raw/6/stray"), "stray\n").expect("written");
    std::fs::set_permissions(workspace.join("raw/0"), std::fs::Permissions::from_mode(0o700)).expect("set");
    std::fs::create_dir(workspace.join("empty")).expect("made");
    std::fs::write(workspace.join(".git/HEAD"), "nonsense").expect("written");
    std::fs::write(workspace.join("private/other"), "stray\n").expect("written");
}

#[test]
fn a_large_workspace_stays_for_the_next_run_and_shows_what_a_new_one_shows() {
    for kind in ["linked", "auto"] {
        let (anew, kept) = (large(), large());
        let run = |project: &Project| project.fanout(["run", "-j", "1", "--workspace", kind]).succeeded();
        [&anew, &kept].into_iter().for_each(|project| drop(run(project)));
        std::fs::remove_dir_all(anew.path(".dvc/fanout/slots")).expect("it is there");
        let workspace = kept.path(".dvc/fanout/slots/0/workspace");
        let inode = |path: &str| workspace.join(path).metadata().expect("it is there").ino();
        let before = inode("raw/1/8.txt");
        assert!(!workspace.join(".dvc/config.local").exists(), "passwords do not stay");
        tamper(&workspace);
        [&anew, &kept].into_iter().for_each(change);
        [&anew, &kept].into_iter().for_each(|project| drop(run(project)));
        assert_eq!(inode("raw/1/8.txt"), before, "{kind}: it was not made anew");
        for key in ["seen/a", "seen/b"] {
            assert!(anew.read(key).contains("./raw/8/5.txt f 644"), "{}", anew.read(key));
            let (seen, expected) = (kept.read(key), anew.read(key));
            let odd = |one: &str, other: &str| {
                one.lines().filter(|line| !other.lines().any(|another| another == *line)).map(str::to_owned).collect()
            };
            let (more, less): (Vec<String>, Vec<String>) = (odd(&seen, &expected), odd(&expected, &seen));
            assert!(seen == expected, "{kind} {key}: {more:#?} instead of {less:#?}");
        }
        kept.fanout(["runs", "prune", "--force"]).succeeded();
        assert!(!kept.path(".dvc/fanout/slots").exists(), "{kind}");
    }
}
