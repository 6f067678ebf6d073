//! Data that DVC tracks and that commands read without declaring it.

use crate::support::Project;
use crate::support::same::{assert_clean, assert_same};

const DVC_YAML: &str = "
stages:
  index:
    cmd: cat ref/g.fa > ref/index && mkdir tables && cp ref/g.fa tables/t
    deps: [ref/g.fa]
    outs: [ref/index, tables]
  use:
    foreach: [a, b, c, d, e, f, g, h, i, j]
    do:
      cmd: sh use.sh ${item}; if test -e raw/${item}.dat; then cat raw/${item}.dat >> ${item}.out; fi; cat ref/index >> ${item}.out || true
      deps: ['${item}.txt', use.sh]
      outs: ['${item}.out']
  need:
    foreach: [a, b]
    do:
      cmd: cat ref/g.fa dir/one ${item}.out > ${item}.need; find ref dir -type f -not -name .gitignore | sort >> ${item}.need
      deps: [ref, dir, '${item}.out']
      outs: ['${item}.need']
";

/// Names one file and one folder.
const USE: &str = "
cat $1.txt > $1.out
for file in ref/g.fa dir/two tables/t; do if test -e \"$file\"; then cat \"$file\" >> $1.out; fi; done
ls dir >> $1.out
";

/// A project whose shared stage is done, in which something changes for all sessions.
fn project() -> Project {
    let project = Project::empty();
    project.write("ref/g.fa", "genome\n");
    project.write("dir/one", "one\n");
    project.write("dir/two", "two\n");
    project.write("use.sh", USE);
    project.write("dvc.yaml", DVC_YAML);
    project.write(".gitignore", "");
    for key in 'a'..='j' {
        project.write(&format!("{key}.txt"), &format!("{key}\n"));
        project.write(&format!("raw/{key}.dat"), &format!("raw {key}\n"));
    }
    let data: Vec<String> = ('a'..='j').map(|key| format!("raw/{key}.dat")).collect();
    let data: Vec<&str> = ["add", "-q", "ref/g.fa", "dir"].into_iter().chain(data.iter().map(String::as_str)).collect();
    project.dvc(data);
    project.dvc(["repro", "index"]);
    project.commit("data that nobody declares");
    project
}

#[test]
fn commands_find_data_that_they_name_and_no_stage_of_the_run_makes() {
    let serial = project();
    serial.dvc(["repro"]);
    for options in [&["--executor", "native"][..], &["--workspace", "linked"], &["--executor", "dvc"]] {
        let fanned = project();
        fanned.fanout(["run", "-j", "2"].into_iter().chain(options.iter().copied())).succeeded();
        let context = format!("{options:?}");
        assert_same(&serial, &fanned, &context);
        assert_clean(&fanned, &[]);
        assert_eq!(fanned.read("j.out"), "j\ngenome\ntwo\ngenome\none\ntwo\nraw j\ngenome\n", "{context}");
        for path in ["ref/g.fa", "dir", "tables", "raw/j.dat"] {
            assert!(!fanned.path(path).is_symlink(), "{context}: {path}");
        }
    }
}

#[test]
fn a_command_that_names_what_the_run_itself_makes_is_named_before_anything_runs() {
    let project = project();
    project.edit("dvc.yaml", "cat ref/g.fa > ref/index", "cat ref/g.fa ref/g.fa > ref/index");
    let said = project.fanout(["plan"]).stderr;
    let expected = "stage `use@a` names `ref/index` and does not declare it: stage `index` makes it in this run";
    assert!(said.contains(expected), "{said}");
    assert!(!said.contains("stage `need@"), "{said}");
}

/// The folder that its own out goes to, settings with the paths of all keys, and stage files.
#[test]
fn what_a_command_names_to_write_or_only_lists_is_not_said() {
    let project = Project::without_init();
    project.write("eval.sh", "# reads its part of config.yaml\ncp $1.in $2/$1.csv\n");
    project.write("config.yaml", "# no stage of dvc.yaml reads it all\na: {path: res/a.csv}\nb: {path: res/b.csv}\n");
    project.write(
        "dvc.yaml",
        "stages:\n  eval:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p res && sh eval.sh ${item} --out=res/ || sh eval.sh ${item} res\n\
         \x20     deps: [eval.sh, '${item}.in']\n      outs: ['res/${item}.csv']\n  fit:\n    foreach: [a, b]\n    do:\n\
         \x20     cmd: 'cat config.yaml res/${item}.csv > ${item}.fit'\n      deps: ['res/${item}.csv']\n      outs: ['${item}.fit']\n\
         \x20 sum:\n    cmd: cat a.fit b.fit > sum\n    deps: [a.fit, b.fit]\n    outs: [sum]\n",
    );
    for key in ["a", "b"] {
        project.write(&format!("{key}.in"), key);
    }
    project.commit("folders and settings");
    let ran = project.fanout(["plan"]);
    assert!(ran.code == Some(0) && !ran.stderr.contains("declare it"), "{ran:#?}");
    // What a command reads is said still.
    project.edit("dvc.yaml", "cat config.yaml", "cat res/a.csv config.yaml");
    let ran = project.fanout(["plan"]);
    assert!(ran.stderr.contains("stage `fit@b` names `res/a.csv` and does not declare it"), "{ran:#?}");
}

/// A folder is named for what goes into it, and what later stages put there was never there before them.
#[test]
fn what_later_stages_make_is_said_only_where_it_is_there_and_named() {
    let project = Project::empty();
    project.write(
        "dvc.yaml",
        "stages:\n  first:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p o/${item} && echo 1 > o/${item}/first\n      \
         outs: ['o/${item}/first']\n  warm:\n    foreach: [a, b]\n    do:\n      cmd: cat o/${item}/last* > ${item}.warm \
         || touch ${item}.warm; test -e o/${item}/last || true\n      outs: ['${item}.warm']\n  second:\n    foreach: [a, b]\n    do:\n      \
         cmd: cat o/${item}/first ${item}.warm > o/${item}/last\n      deps: ['o/${item}/first', '${item}.warm']\n      \
         outs: ['o/${item}/last']\n",
    );
    project.commit("project");
    let said = project.fanout(["plan"]).stderr;
    assert!(!said.contains("names"), "{said}");
    project.fanout(["run", "-j", "2"]).succeeded();
    let said = project.fanout(["plan", "--force"]).stderr;
    let expected = "stage `warm@a` names `o/a/last`, which stage `second@a` makes anew after it: what is there now is not in \
                    the workspace";
    assert!(said.contains(expected) && !said.contains("stage `first@"), "{said}");
}

#[test]
fn carry_leaves_such_data_out() {
    let project = project();
    let plan = project.fanout(["plan", "--carry", "!ref/g.fa"]).succeeded();
    assert!(plan.contains("left out of workspaces, as `carry` says: `ref/g.fa`"), "{plan}");
    project.fanout(["run", "--carry", "!ref/g.fa"]).succeeded();
    assert_eq!(project.read("j.out"), "j\ntwo\ngenome\none\ntwo\nraw j\ngenome\n");
}

/// Paths that lead out of the project, and of the repository, are nobody's outs.
#[test]
fn commands_may_name_what_lies_outside() {
    let project = Project::empty();
    project.write(
        "dvc.yaml",
        "stages:\n  s:\n    foreach: [a, b]\n    do:\n      cmd: cat ../../nothing.txt ../nothing.sh /nothing/x.py 2> err || \
         echo ${item} > ${item}.out\n      outs: ['${item}.out']\n",
    );
    project.commit("project");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(project.read("a.out"), "a\n");
}

/// What git tracks may be no text at all, although all its bytes are characters: an archive, an array of numbers.
#[test]
fn commands_may_name_data_with_nul_bytes() {
    let project = Project::empty();
    project.write("a.dat", "run.sh\0\0\0other.sh \0.sh");
    project.write(
        "dvc.yaml",
        "stages:\n  s:\n    foreach: [a, b]\n    do:\n      cmd: cat a.dat > ${item}.out\n      outs: ['${item}.out']\n",
    );
    project.commit("project");
    project.fanout(["run", "-j", "2"]).succeeded();
    assert_eq!(project.read("b.out"), project.read("a.dat"));
}

/// No file has such a path, and no program takes such an argument: the stage fails, as under DVC, and costs no other.
#[test]
fn stages_may_be_defined_with_nul_bytes() {
    for definition in ["cmd: \"cat x\\0y\"", "{cmd: echo, deps: [\"x\\0y\"]}", "{cmd: echo, wdir: \"x\\0y\"}"] {
        let project = Project::empty();
        let definition = definition.trim_matches(['{', '}']).replace(", ", "\n    ");
        project.write(
            "dvc.yaml",
            &format!(
                "stages:\n  odd:\n    {definition}\n  s:\n    foreach: [a, b]\n    do:\n      cmd: echo > ${{item}}.out\n      \
                 outs: ['${{item}}.out']\n"
            ),
        );
        project.commit("project");
        let ran = project.fanout(["run", "-j", "2"]);
        assert!(ran.code == Some(1) && !ran.stderr.contains("panicked"), "{definition}: {ran:#?}");
        assert_eq!(project.read("b.out"), "\n", "{definition}");
    }
}

/// The directories of a project, each with its mode.
fn directories(project: &Project) -> std::collections::BTreeMap<String, String> {
    let found = std::process::Command::new("find")
        .args([
            ".", "-name", ".git", "-prune", "-o", "-name", ".dvc", "-prune", "-o", "-type", "d", "-printf", "%P %m\n",
        ])
        .current_dir(project.root())
        .output()
        .expect("ran");
    let text = String::from_utf8(found.stdout).expect("text");
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(path, mode)| (path.to_owned(), mode.to_owned()))
        .collect()
}

#[test]
fn directories_that_commands_make_are_there_for_later_stages_and_in_the_project() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  prepare:\n    cmd: mkdir -p results/deep -m 750 && echo ok > ready\n    outs: [ready]\n  one:\n    foreach: [a, b]\n    do:\n\
             \x20     cmd: cp ${item}.txt results/${item}.txt && mkdir -p plots own/${item} && mkdir -m 700 key_${item} && echo ${item} > key_${item}/out\n\
             \x20     deps: ['${item}.txt', ready]\n      outs: ['results/${item}.txt', 'key_${item}/out']\n  last:\n\
             \x20   cmd: cat results/*.txt > plots/all\n    deps: [results/a.txt, results/b.txt]\n    outs: [plots/all]\n",
        );
        project.write("a.txt", "a\n");
        project.write("b.txt", "b\n");
        project.commit("folders");
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    for workspace in ["mounted", "linked"] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2", "--workspace", workspace]).succeeded();
        assert_same(&serial, &fanned, workspace);
        assert_eq!(directories(&fanned), directories(&serial), "{workspace}");
    }
}

/// A link in the place of a folder would be copied as a link.
#[test]
fn an_empty_folder_is_a_folder_for_who_copies_it() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  x:\n    foreach: [a, b]\n    do:\n      cmd: cp -r skel x_${item} && echo hi > x_${item}/empty/deep/hi\n      outs: ['x_${item}']\n",
        );
        project.write("skel/main.txt", "main\n");
        std::fs::create_dir_all(project.path("skel/empty/deep")).expect("made");
        project.commit("a skeleton");
        project
    };
    let (serial, fanned) = (made(), made());
    serial.dvc(["repro"]);
    fanned.fanout(["run", "-j", "2"]).succeeded();
    assert_same(&serial, &fanned, "an empty folder");
    assert_eq!(directories(&fanned), directories(&serial));
}

/// Each phase waits for all of the one before.
const TAKES_AWAY: &str = "
stages:
  first:
    foreach: [a, b]
    do:
      cmd: echo mark > mark_${item} && rm -f old_${item} && echo ${item} > ${item}.1
      deps: ['${item}.txt']
      outs: ['${item}.1']
  second:
    foreach: [a, b]
    do:
      cmd: rm mark_${item} && echo ${item} > ${item}.2
      deps: [a.1, b.1]
      outs: ['${item}.2']
  third:
    foreach: [a, b]
    do:
      cmd: test ! -e mark_${item} && test ! -e old_${item} && echo again > old_${item} && echo ${item} > ${item}.3
      deps: [a.2, b.2, a.1, b.1]
      outs: ['${item}.3']
  fourth:
    foreach: [a, b]
    do:
      cmd: cat old_${item} > ${item}.4 && if [ ${item} = a ]; then rm old_a; fi
      deps: [a.3, b.3]
      outs: ['${item}.4']
";

/// What an earlier phase left or took away is not the same as what the plan began with.
#[test]
fn files_that_later_stages_take_away_are_gone() {
    let made = || {
        let project = Project::without_init();
        project.write("dvc.yaml", TAKES_AWAY);
        for key in ["a", "b"] {
            project.write(&format!("{key}.txt"), key);
            project.write(&format!("old_{key}"), "old\n");
        }
        project.commit("files that come and go");
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    for options in [&["--workspace", "mounted"][..], &["--workspace", "linked"], &["--executor", "dvc"]] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2"].into_iter().chain(options.iter().copied())).succeeded();
        let context = format!("{options:?}");
        for path in ["mark_a", "mark_b", "old_a"] {
            assert!(!fanned.path(path).exists(), "{context}: {path}");
        }
        assert_eq!(fanned.read("old_b"), "again\n", "{context}");
        assert_same(&serial, &fanned, &context);
    }
    // Collected after each phase, what goes was in the project.
    let fanned = made();
    for stages in [["first@a", "first@b"], ["second@a", "second@b"], ["third@a", "third@b"]] {
        fanned.fanout(["run"].into_iter().chain(stages)).succeeded();
    }
    fanned.fanout(["run"]).succeeded();
    assert!(!fanned.path("mark_a").exists());
    assert_same(&serial, &fanned, "one after another");
}

/// `dvc repro` runs it after all sessions, and so it finds what they made.
#[test]
fn a_summary_that_declares_nothing_of_what_it_reads_comes_last() {
    let made = || {
        let project = Project::empty();
        project.write(
            "dvc.yaml",
            "stages:\n  single:\n    foreach: [a, b]\n    do:\n      cmd: mkdir -p results; test ${item} != \"$(cat bad)\" && echo ${item} > \
             results/${item}.json\n      deps: [bad]\n      outs: ['results/${item}.json']\n  summary:\n    cmd: mkdir -p results; ls results > \
             results/summary.csv\n    deps: [x.py]\n    outs: [results/summary.csv]\n",
        );
        project.write("x.py", "");
        project.write("bad", "none\n");
        project.commit("a summary");
        project
    };
    let (serial, fanned) = (made(), made());
    for project in [&serial, &fanned] {
        project.write("bad", "b\n");
    }
    assert_eq!(serial.try_dvc(["repro"]).code, Some(255));
    let ran = fanned.fanout(["run", "-j", "2"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("summary: skipped"), "{ran:#?}");
    for project in [&serial, &fanned] {
        assert!(!project.path("results/summary.csv").exists());
        project.write("bad", "none\n");
    }
    serial.dvc(["repro"]);
    let ran = fanned.fanout(["run", "-j", "2"]);
    assert!(ran.code == Some(0) && !ran.stderr.contains("does not declare"), "{ran:#?}");
    assert_eq!(fanned.read("results/summary.csv"), "a.json\nb.json\nsummary.csv\n");
    assert_same(&serial, &fanned, "summary");
    assert_clean(&fanned, &[]);
}

/// Its entry records the dep as it is then: without the change it would be changed for ever.
#[test]
fn what_a_session_changes_in_data_that_it_reads_stays() {
    let made = || {
        let project = Project::without_init();
        project.write(
            "dvc.yaml",
            "stages:\n  use:\n    foreach: [a, b]\n    do:\n      cmd: sh use.sh ${item} && cat ${item}.h5 data/${item}/* > ${item}.out\n      \
             deps: ['${item}.h5', 'data/${item}', use.sh]\n      outs: ['${item}.out']\n",
        );
        project.write(
            "use.sh",
            "test $1 = b && exit 0; echo p >> $1.h5; echo i > data/$1/r.bai; echo more >> data/$1/r.bam\n",
        );
        for key in ["a", "b"] {
            project.write(&format!("{key}.h5"), key);
            project.write(&format!("data/{key}/r.bam"), key);
            project.write(&format!("data/{key}/r.txt"), key);
        }
        project.dvc(["add", "-q", "a.h5", "b.h5", "data/a", "data/b"]);
        project.commit("data");
        project
    };
    let serial = made();
    serial.dvc(["repro"]);
    for options in [&["--executor", "native"][..], &["--workspace", "linked"], &["--executor", "check"]] {
        let fanned = made();
        fanned.fanout(["run", "-j", "2"].into_iter().chain(options.iter().copied())).succeeded();
        assert_same(&serial, &fanned, options[1]);
        assert_eq!(fanned.dvc(["status", "--json"]), serial.dvc(["status", "--json"]));
    }
}

/// Others may have read it by then.
#[test]
fn a_session_that_edits_the_out_of_another_stage_is_told_and_loses_nothing() {
    for executor in ["native", "dvc"] {
        let project = Project::empty();
        project.write(
            "dvc.yaml",
            "stages:\n  make:\n    foreach: [a, b]\n    do:\n      cmd: cp ${item}.txt ${item}.made\n      deps: ['${item}.txt']\n      outs: \
             ['${item}.made']\n  use:\n    foreach: [a, b]\n    do:\n      cmd: sh use.sh ${item} && cat ${item}.made > ${item}.out\n      deps: \
             ['${item}.made', use.sh]\n      outs: ['${item}.out']\n",
        );
        project.write("use.sh", "test $1 = b || echo p >> $1.made\n");
        for key in ["a", "b"] {
            project.write(&format!("{key}.txt"), key);
        }
        project.commit("texts");
        let ran = project.fanout(["run", "-j", "2", "--executor", executor]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("`a.made` is refused: it is an out that another way brings"), "{ran:#?}");
        assert!(!ran.stderr.contains("b.made"), "{ran:#?}");
        assert_eq!(project.read("a.out"), "ap\n");
    }
}
