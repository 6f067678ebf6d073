//! `contrib/demo`: what a newcomer types first.

use std::path::Path;

use crate::support::{Project, Ran};

/// A line without what differs each time: numbers, paths, the length of what is aligned.
fn pattern(line: &str) -> String {
    let words = line.split_whitespace().map(|word| if word.contains('/') { "PATH" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    let mut pattern = String::new();
    for character in line.chars() {
        let shown = if character.is_ascii_digit() || character == '.' { '#' } else { character };
        if !(shown == '#' && pattern.ends_with('#')) {
            pattern.push(shown);
        }
    }
    pattern
}

#[test]
fn the_demo_ends_with_a_report_and_prints_what_the_readme_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // For the environment and a folder of its own.
    let project = Project::bare();
    let mut demo = project.command(root.join("contrib/demo"));
    // With a program that is there: the demo would compile one.
    demo.env("DEMO_PROGRAM", env!("CARGO_BIN_EXE_dvc-fanout")).env("TMPDIR", project.root());
    let ran = Ran::of(&mut demo);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let path = |name: &str| ran.stdout.lines().find_map(|line| line.trim().strip_prefix(name)).expect(name).trim();
    let page = std::fs::read_to_string(path("the run:")).expect("it is there");
    assert!(page.contains("13 work items succeeded"), "{page}");
    assert!(Path::new(path("the plot:")).is_file(), "{ran:#?}");
    assert!(ran.stdout.contains("Data and pipelines are up to date."), "{ran:#?}");

    let readme = std::fs::read_to_string(root.join("README.md")).expect("read");
    let (_, block) = readme.split_once("$ contrib/demo\n").expect("it shows the demo");
    let (block, _) = block.split_once("```").expect("it ends");
    let printed: Vec<String> = ran.stdout.lines().chain(ran.stderr.lines()).map(pattern).collect();
    for line in block.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "…") {
        assert!(printed.contains(&pattern(line)), "`{line}` of the README is not printed: {ran:#?}");
    }
}
