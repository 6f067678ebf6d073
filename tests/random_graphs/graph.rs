//! Small graphs with about everything that a stage can have, edits of them, and the files that they are written as.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use crate::support::Project;
use crate::support::oracle::Oracle;

pub(super) const KEYS: [&str; 4] = ["k1", "k2", "k3", "k4"];
/// The text that some of all commands add a line to.
pub(super) const COMMON: &str = "notes/common";
/// What `cache.type` may be; the first is DVC's own choice.
const LINKS: [&str; 6] = [
    "",
    "type = copy",
    "type = hardlink",
    "type = symlink",
    "type = \"reflink,hardlink,symlink,copy\"",
    "type = \"symlink,copy\"",
];

/// Templates in the order of what they need; template `i` makes `oI/KEY`, a shared one `oI/all`.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub templates: Vec<Template>,
    /// Counts up with edits of the params file.
    weight: u32,
    /// Which of `LINKS`.
    links: usize,
    /// Whether something has failed so far: what is frozen then may never have been made.
    pub has_failed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Template {
    shape: Shape,
    /// One bit per key.
    keys: u8,
    wires: Vec<Wire>,
    out: Out,
    /// Makes the same from inputs of the same size.
    lossy: bool,
    params: bool,
    /// In `sub/dvc.yaml`.
    in_folder: bool,
    /// Runs in the folder `w` beside its file.
    in_wdir: bool,
    /// What it makes may be run.
    executable: bool,
    note: Note,
    /// Only an edit freezes a template, once its stages have run.
    pub frozen: bool,
}

/// How stages come of a template.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// It is one.
    Shared,
    /// `foreach` over a map.
    Map,
    /// `foreach` over a list of maps, which names stages by their place.
    List,
    /// `matrix` of one axis.
    Matrix,
    /// `matrix` of two axes.
    Grid,
}

/// Where a dep comes from. Templates are taken modulo those that come before.
#[derive(Clone, Copy, Debug)]
enum Wire {
    /// The same key of a template (a shared one's only out).
    Same(usize),
    /// The key before, of a template.
    Before(usize),
    /// The key before, of this template: a rolling window.
    Rolling,
    /// All that a template made.
    Gathered(usize),
    /// `raw/shared.txt`.
    Shared,
    /// The key's file in `data`, which DVC tracks.
    Tracked,
    /// All of `data`.
    AllTracked,
    /// `imported.txt`, which DVC has imported.
    Imported,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Out {
    File,
    Uncached,
    Metric,
    Directory,
    UncachedDirectory,
    /// A file, and a directory elsewhere.
    Several,
    /// A file that grows.
    Persistent,
}

/// What a command leaves that nobody declares.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Note {
    Nothing,
    /// A line in a text of its own.
    Own,
    /// A line in a text that all write to.
    Common,
    /// A new file.
    New,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    Raw(usize),
    Shared,
    Weight,
    Keys(usize, u8),
    Lossy(usize),
    RemoveOuts(usize),
    Tracked(usize),
    Frozen(usize),
    /// The command of a template's key begins to fail, or stops.
    Fail(usize, usize),
}

pub(super) fn graph() -> impl Strategy<Value = Graph> {
    let templates = prop::collection::vec(template(), 2..6);
    (templates, 0..LINKS.len()).prop_map(|(templates, links)| Graph { templates, weight: 1, links, has_failed: false })
}

fn template() -> impl Strategy<Value = Template> {
    let wire = prop_oneof![
        4 => (0..8_usize).prop_map(Wire::Same),
        2 => (0..8_usize).prop_map(Wire::Before),
        1 => Just(Wire::Rolling),
        2 => (0..8_usize).prop_map(Wire::Gathered),
        1 => Just(Wire::Shared),
        1 => Just(Wire::Tracked),
        1 => Just(Wire::AllTracked),
        1 => Just(Wire::Imported),
    ];
    let out = prop_oneof![
        3 => Just(Out::File),
        1 => Just(Out::Uncached),
        1 => Just(Out::Metric),
        1 => Just(Out::Directory),
        1 => Just(Out::UncachedDirectory),
        1 => Just(Out::Several),
        1 => Just(Out::Persistent),
    ];
    let shape = prop_oneof![
        3 => Just(Shape::Shared),
        3 => Just(Shape::Map),
        1 => Just(Shape::List),
        1 => Just(Shape::Matrix),
        1 => Just(Shape::Grid),
    ];
    let note = prop_oneof![
        4 => Just(Note::Nothing),
        1 => Just(Note::Own),
        1 => Just(Note::Common),
        1 => Just(Note::New),
    ];
    let seldom = || prop::bool::weighted(0.3);
    let flags = (seldom(), seldom(), seldom(), seldom(), seldom());
    (shape, 1..16_u8, prop::collection::vec(wire, 0..3), out, note, flags).prop_map(
        |(shape, keys, wires, out, note, (lossy, params, in_folder, in_wdir, executable))| Template {
            shape,
            keys,
            wires,
            out,
            lossy,
            params,
            in_folder,
            in_wdir,
            executable,
            note,
            frozen: false,
        },
    )
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..KEYS.len()).prop_map(Edit::Raw),
        2 => Just(Edit::Shared),
        1 => Just(Edit::Weight),
        2 => (0..8_usize, 1..16_u8).prop_map(|(template, keys)| Edit::Keys(template, keys)),
        1 => (0..8_usize).prop_map(Edit::Lossy),
        1 => (0..8_usize).prop_map(Edit::RemoveOuts),
        1 => (0..KEYS.len()).prop_map(Edit::Tracked),
        1 => (0..8_usize).prop_map(Edit::Frozen),
        2 => (0..8_usize, 0..KEYS.len()).prop_map(|(template, key)| Edit::Fail(template, key)),
    ]
}

/// A stage: its address, its deps, and the addresses of the stages that make them.
pub(super) struct Stage {
    pub address: String,
    deps: Vec<String>,
    pub makers: Vec<String>,
}

impl Graph {
    fn keys(&self, template: usize) -> Vec<&'static str> {
        match self.templates[template].shape {
            Shape::Shared => vec!["all"],
            Shape::Map | Shape::List | Shape::Matrix | Shape::Grid => {
                let bits = self.templates[template].keys;
                (0..KEYS.len()).filter(|at| bits & (1 << at) != 0).map(|at| KEYS[at]).collect()
            }
        }
    }

    /// The names of a template's texts, of all keys that it may ever have.
    fn keys_ever(template: usize) -> impl Iterator<Item = String> {
        KEYS.into_iter().chain(["all"]).map(move |key| format!("{template}-{key}"))
    }

    fn address(&self, template: usize, key: &str) -> String {
        let at = self.keys(template).iter().position(|other| *other == key).unwrap_or_default();
        let name = match self.templates[template].shape {
            Shape::Shared => format!("t{template}"),
            Shape::Map => format!("t{template}@{key}"),
            Shape::List => format!("t{template}@{at}"),
            Shape::Matrix => format!("t{template}@key{at}"),
            Shape::Grid => format!("t{template}@key{at}-x"),
        };
        if self.templates[template].in_folder { format!("sub/dvc.yaml:{name}") } else { name }
    }

    /// The stages of a template, one per key.
    pub(super) fn stages(&self, template: usize) -> Vec<Stage> {
        let keys = self.keys(template);
        let stage = |(position, key): (usize, &&'static str)| {
            let mut stage = Stage { address: self.address(template, key), deps: vec![], makers: vec![] };
            for (number, wire) in self.templates[template].wires.iter().enumerate() {
                self.connect(&mut stage, template, position, *wire, number);
            }
            stage
        };
        keys.iter().enumerate().map(stage).collect()
    }

    /// Adds the dep of one wire; an input of its own where the wire leads nowhere or to a dep that is there already.
    fn connect(&self, stage: &mut Stage, template: usize, position: usize, wire: Wire, number: usize) {
        let key = self.keys(template)[position];
        let has = |other: usize, key: &str| self.keys(other).contains(&key);
        let at = KEYS.iter().position(|other| *other == key);
        let before = at.and_then(|at| at.checked_sub(1)).map(|at| KEYS[at]);
        let from = |other: usize| (template > 0).then(|| other % template.max(1));
        let found = match wire {
            Wire::Same(other) => from(other).and_then(|other| {
                let key = if has(other, "all") { "all" } else { key };
                has(other, key).then(|| (format!("o{other}/{key}"), vec![self.address(other, key)]))
            }),
            Wire::Before(other) => from(other).zip(before).and_then(|(other, key)| {
                has(other, key).then(|| (format!("o{other}/{key}"), vec![self.address(other, key)]))
            }),
            Wire::Rolling => before
                .filter(|key| has(template, key))
                .map(|key| (format!("o{template}/{key}"), vec![self.address(template, key)])),
            Wire::Gathered(other) => from(other).map(|other| {
                (format!("o{other}"), self.keys(other).iter().map(|key| self.address(other, key)).collect())
            }),
            Wire::Shared => Some(("raw/shared.txt".to_owned(), vec![])),
            Wire::Tracked => Some((format!("data/{key}.txt"), vec![])),
            Wire::AllTracked => Some(("data".to_owned(), vec![])),
            Wire::Imported => Some(("imported.txt".to_owned(), vec![])),
        };
        let overlaps = |path: &str| {
            stage
                .deps
                .iter()
                .any(|dep| dep == path || dep.starts_with(&format!("{path}/")) || path.starts_with(&format!("{dep}/")))
        };
        let raw = if number == 0 { format!("raw/{key}.txt") } else { format!("raw/other{number}.txt") };
        let (dep, makers) = found.filter(|(path, _)| !overlaps(path)).unwrap_or((raw, vec![]));
        stage.deps.push(dep);
        stage.makers.extend(makers);
    }

    /// The text of a `dvc.yaml`.
    fn pipeline(&self, in_folder: bool) -> String {
        let mut text = "stages:\n".to_owned();
        for (number, template) in self.templates.iter().enumerate().filter(|(_, one)| one.in_folder == in_folder) {
            self.write_template(&mut text, number, template).expect("a String takes every text");
        }
        if text == "stages:\n" { String::new() } else { text }
    }

    /// Writes the values of a template's keys; returns how they are named below, and how far that is indented.
    fn write_values(
        &self,
        text: &mut String,
        number: usize,
        shape: Shape,
    ) -> Result<(&str, &str, &str), std::fmt::Error> {
        let (before, each, after, names) = match shape {
            Shape::Shared => return Ok(("all", "", "    ")),
            Shape::Map => ("    foreach:\n", "", "    do:\n", ("${key}", "item", "      ")),
            Shape::List => ("    foreach:\n", "- ", "    do:\n", ("${item.n}", "item", "      ")),
            Shape::Matrix => ("    matrix:\n      key:\n", "- ", "", ("${item.key.n}", "item.key", "    ")),
            Shape::Grid => ("    matrix:\n      key:\n", "- ", "      v: [x]\n", ("${item.key.n}", "item.key", "    ")),
        };
        text.push_str(before);
        for (key, stage) in self.keys(number).iter().zip(self.stages(number)) {
            let named = if shape == Shape::Map { None } else { Some(format!("n: {key}")) };
            let deps = stage.deps.iter().enumerate().map(|(at, dep)| format!("d{at}: {dep}"));
            let values: Vec<String> = named.into_iter().chain(deps).collect();
            let name = if shape == Shape::Map { format!("{key}: ") } else { String::new() };
            writeln!(text, "      {each}{name}{{{}}}", values.join(", "))?;
        }
        text.push_str(after);
        Ok(names)
    }

    fn write_template(&self, text: &mut String, number: usize, template: &Template) -> std::fmt::Result {
        let up = "../".repeat(usize::from(template.in_folder) + usize::from(template.in_wdir));
        writeln!(text, "  t{number}:")?;
        let (key, item, indent) = self.write_values(text, number, template.shape)?;
        let deps: Vec<String> = match template.shape {
            Shape::Shared => self.stages(number).remove(0).deps,
            _ => (0..template.wires.len()).map(|at| format!("${{{item}.d{at}}}")).collect(),
        };
        let deps: Vec<String> = deps.into_iter().map(|dep| format!("{up}{dep}")).collect();
        // An object that is linked has the mode of the stage that was last, or looked at it last.
        let executable = template.executable && !LINKS[self.links].contains("link");
        writeln!(text, "{indent}cmd: {}", template.command(&up, number, key, &deps, executable))?;
        if template.in_wdir {
            writeln!(text, "{indent}wdir: w")?;
        }
        if !deps.is_empty() {
            let quoted: Vec<String> = deps.iter().map(|dep| format!("'{dep}'")).collect();
            writeln!(text, "{indent}deps: [{}]", quoted.join(", "))?;
        }
        if template.params {
            writeln!(text, "{indent}params: [weight]")?;
        }
        if template.frozen {
            writeln!(text, "{indent}frozen: true")?;
        }
        let out = format!("{up}o{number}/{key}");
        match template.out {
            Out::File | Out::Directory => writeln!(text, "{indent}outs: ['{out}']"),
            Out::Uncached | Out::UncachedDirectory => writeln!(text, "{indent}outs: ['{out}': {{cache: false}}]"),
            Out::Metric => writeln!(text, "{indent}metrics: ['{out}': {{cache: false}}]"),
            Out::Several => writeln!(text, "{indent}outs: ['{out}', '{up}p{number}/{key}']"),
            Out::Persistent => writeln!(text, "{indent}outs: ['{out}': {{persist: true}}]"),
        }
    }

    pub(super) fn write(&self, project: &Project) {
        for folder in ["", "w/", "sub/", "sub/w/"] {
            project.write(&format!("{folder}params.yaml"), &format!("weight: {}\n", self.weight));
        }
        project.write("dvc.yaml", &self.pipeline(false));
        project.write("sub/dvc.yaml", &self.pipeline(true));
    }

    /// Makes the project that the graph begins with; `source` is what is imported.
    pub(super) fn make(&self, project: &Project, oracle: &mut Oracle, source: &Path) {
        for name in KEYS.into_iter().chain(["all", "shared", "other1", "other2"]) {
            project.write(&format!("raw/{name}.txt"), &format!("{name}\n"));
        }
        for text in (0..self.templates.len()).flat_map(Graph::keys_ever) {
            project.write(&format!("notes/{text}"), "begun\n");
        }
        project.write(COMMON, "begun\n");
        project.write(".dvc/config", &format!("[cache]\n    {}\n    slow_link_warning = false\n", LINKS[self.links]));
        self.write(project);
        if self.has(&|wire| matches!(wire, Wire::Tracked | Wire::AllTracked)) {
            for name in KEYS.into_iter().chain(["all"]) {
                project.write(&format!("data/{name}.txt"), &format!("tracked {name}\n"));
            }
            oracle.add(project.root());
        }
        if self.has(&|wire| matches!(wire, Wire::Imported)) {
            oracle.import(project.root(), source, "imported.txt");
        }
        project.commit("random");
    }

    fn has(&self, kind: &dyn Fn(&Wire) -> bool) -> bool {
        self.templates.iter().flat_map(|template| &template.wires).any(kind)
    }

    pub(super) fn apply(&mut self, oracle: &mut Oracle, edit: Edit, round: usize, projects: [&Project; 2]) {
        let count = self.templates.len();
        // What a frozen stage made cannot be made again.
        if let Edit::RemoveOuts(template) | Edit::Keys(template, _) = edit
            && self.templates[template % count].frozen
        {
            return;
        }
        let has_tracked = self.has(&|wire| matches!(wire, Wire::Tracked | Wire::AllTracked));
        for project in projects {
            match edit {
                Edit::Raw(key) => project.write(&format!("raw/{}.txt", KEYS[key]), &format!("round {round}\n")),
                Edit::Shared => project.write("raw/shared.txt", &format!("shared {round}\n")),
                Edit::RemoveOuts(template) => {
                    for folder in ["o", "p"] {
                        drop(std::fs::remove_dir_all(project.path(&format!("{folder}{}", template % count))));
                    }
                }
                Edit::Tracked(key) if has_tracked => {
                    let file = format!("data/{}.txt", KEYS[key]);
                    // It may be a link into the cache.
                    drop(std::fs::remove_file(project.path(&file)));
                    project.write(&file, &format!("tracked {round}\n"));
                    oracle.add(project.root());
                }
                Edit::Fail(template, key) => {
                    let file = self.failing(template % count, key);
                    if std::fs::remove_file(project.path(&file)).is_err() {
                        project.write(&file, "");
                    }
                }
                Edit::Weight | Edit::Keys(..) | Edit::Lossy(_) | Edit::Tracked(_) | Edit::Frozen(_) => {}
            }
        }
        match edit {
            Edit::Weight => self.weight += 1,
            Edit::Keys(template, keys) => self.templates[template % count].keys = keys,
            Edit::Lossy(template) => self.templates[template % count].lossy ^= true,
            Edit::Frozen(template) if !self.has_failed => self.templates[template % count].frozen ^= true,
            Edit::Raw(_) | Edit::Shared | Edit::RemoveOuts(_) | Edit::Tracked(_) | Edit::Frozen(_) | Edit::Fail(..) => {
            }
        }
        projects.into_iter().for_each(|project| self.write(project));
    }

    /// The file whose presence has the command of a key fail.
    fn failing(&self, template: usize, key: usize) -> String {
        let keys = self.keys(template);
        format!("raw/fail{template}-{}", keys[key % keys.len()])
    }
}

impl Template {
    fn command(&self, up: &str, number: usize, key: &str, deps: &[String], executable: bool) -> String {
        let out = format!("{up}o{number}/{key}");
        let (make, to) = match self.out {
            Out::Directory | Out::UncachedDirectory => (out.clone(), format!("{out}/f")),
            Out::Several => (format!("{up}o{number} {up}p{number}/{key}"), out),
            Out::File | Out::Uncached | Out::Metric | Out::Persistent => (format!("{up}o{number}"), out),
        };
        let read = if deps.is_empty() {
            format!("echo {key}")
        } else {
            format!("cat $(find -L {} -type f ! -name .gitignore | LC_ALL=C sort) /dev/null", deps.join(" "))
        };
        let reduce = if self.lossy { "wc -c" } else { "cat" };
        let redirect = if self.out == Out::Persistent { ">>" } else { ">" };
        let mut command = format!("mkdir -p {make} && ({read}) | {reduce} {redirect} {to}");
        let more = [
            (self.params, format!("echo ${{weight}} >> {to}")),
            (executable, format!("chmod +x {to}")),
            (
                self.out == Out::Several,
                format!("cp {to} {up}p{number}/{key}/copy && echo {key} > {up}p{number}/{key}/x"),
            ),
            (true, format!("test ! -e {up}raw/fail{number}-{key}")),
            (self.note == Note::Own, format!("echo {key} >> {up}notes/{number}-{key}")),
            (self.note == Note::Common, format!("echo {number}-{key} >> {up}{COMMON}")),
            (self.note == Note::New, format!("mkdir -p {up}left && echo {key} >> {up}left/{number}-{key}")),
        ];
        for (_, step) in more.into_iter().filter(|(is_wanted, _)| *is_wanted) {
            command.push_str(" && ");
            command.push_str(&step);
        }
        command
    }
}
