//! A worker's workspace from one work item to the next: each sees the project as planned, whatever those before it did,
//! and what each did is told.

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
