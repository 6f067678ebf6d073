//! Whether commands may make something that is not there, or make it anew, by their texts and those of the scripts that they
//! name.
//!
//! It is a guess. It decides whether the first work item gets a head start: a wrong one costs seconds, or has several work
//! items make the same. And whether a folder that a command put in the place of another one takes that place, or comes over
//! it: then a wrong one leaves old files there, and none is lost.

use crate::dvc::pipeline::path::file_name;

/// Programs that make folders which no command names, such as `.venv` and `node_modules`.
const MAKERS: [&str; 45] = [
    "bazel",
    "bun",
    "bundle",
    "cabal",
    "cargo",
    "cmake",
    "composer",
    "conda",
    "devenv",
    "go",
    "gradle",
    "gradlew",
    "hatch",
    "invoke",
    "just",
    "make",
    "mamba",
    "maturin",
    "meson",
    "micromamba",
    "mvn",
    "mvnw",
    "ninja",
    "nix",
    "nox",
    "npm",
    "npx",
    "pdm",
    "pipenv",
    "pixi",
    "pnpm",
    "poetry",
    "pytest",
    "rake",
    "rye",
    "sbt",
    "scons",
    "snakemake",
    "stack",
    "task",
    "tox",
    "uv",
    "uvx",
    "virtualenv",
    "yarn",
];
/// What removes folders: programs, their flags, and functions.
const REMOVERS: [&str; 12] = [
    "--clean", "--clear", "--delete", "--fresh", "clean", "mv", "remove", "rename", "rimraf", "rm", "rmtree", "unlink",
];
/// What may stand before the program of a command.
const BEFORE: [&str; 12] = ["!", "command", "do", "else", "env", "exec", "if", "nice", "nohup", "sudo", "then", "time"];
/// What may stand before the name of a file or folder that is made or looked for.
const BEFORE_NAMES: [&str; 16] = [
    ">", ">>", "-B", "-d", "-e", "-f", "-m", "-o", "-p", "-t", "--prefix", "--target", "mkdir", "tee", "touch", "venv",
];
/// What makes or looks for files and folders whose names are in quotes.
const CALLS: [&str; 7] = ["Path(", "dir.create", "exists", "isdir", "makedirs", "mkdir", "open("];

/// Whether a text names a path: with a name such as `.venv` it does where it has that word; a common word such as `build`
/// must be used as a path.
pub(crate) fn names(text: &str, path: &str) -> bool {
    let name = file_name(path);
    text.lines().any(|line| line.match_indices(name).any(|(at, _)| is_named(line, at, name)))
}

fn is_named(line: &str, at: usize, name: &str) -> bool {
    let (before, after) = (&line[..at], &line[at + name.len()..]);
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if before.ends_with(is_word) || after.starts_with(is_word) {
        return false;
    }
    if name.starts_with('.') {
        return true;
    }
    let is_quoted = before.ends_with(['"', '\'']) && after.starts_with(['"', '\'', '/']);
    let last = before.trim_end_matches(['"', '\'']).split_whitespace().next_back().unwrap_or_default();
    match before.strip_suffix('/') {
        Some(above) => above.ends_with(['.', '}', ')']) || above.ends_with("PWD"),
        None if is_quoted => CALLS.iter().any(|call| line.contains(call)) || BEFORE_NAMES.contains(&last),
        None => after.starts_with('/') || before.ends_with('>') || BEFORE_NAMES.contains(&last),
    }
}

/// Whether a shell's script runs a program that makes what no command names.
pub(crate) fn runs_a_maker(script: &str) -> bool {
    script.split(['\n', ';', '&', '|', '(', '{', '`']).any(|command| {
        let mut words = command.split_whitespace().skip_while(|word| word.contains('=') || BEFORE.contains(word));
        let program = words.next().unwrap_or_default();
        MAKERS.contains(&file_name(program))
    })
}

/// Whether a text, a `dvc.yaml` or a script, has words by which programs remove folders, or runs a program that makes
/// environments anew.
pub(crate) fn may_remove(text: &str) -> bool {
    let ends = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
    let command = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start_matches("cmd:");
        runs_a_maker(line.trim_start_matches([' ', '"', '\'']))
    };
    text.split(ends).any(|word| REMOVERS.contains(&word)) || text.lines().any(command)
}

/// The folders that a text has Python's `venv` make, or make again: it goes into one that is there.
pub(crate) fn environments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| *word == "-m")?;
        words.next().filter(|module| *module == "venv")?;
        let folder = words.find(|word| !word.starts_with('-'))?;
        Some(folder.trim_matches(['"', '\'', ';', '&']).trim_start_matches("./").trim_end_matches('/'))
    })
}

/// Whether a text is a shell's script, by its first line or its name.
pub(crate) fn is_script(path: &str, text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    path.ends_with("sh") || (first.starts_with("#!") && first.trim_end().ends_with("sh"))
}

/// The words of a text that may be paths.
pub(crate) fn paths(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "\"'`;|&()<>{}=,$*?".contains(c);
    text.split(ends).filter(|word| (2..256).contains(&word.len()) && !word.starts_with(['-', '/', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, path: &str, expected: bool) {
        assert_eq!(names(text, path), expected, "{path} in {text}");
    }

    #[test]
    fn names_with_a_dot_are_found_as_words() {
        check("[ -d .venv ] || python -m venv .venv", ".venv", true);
        check("source sub/.venv/bin/activate", "sub/.venv", true);
        check("env.venv.path", ".venv", false);
        check("ls .venv2", ".venv", false);
    }

    #[test]
    fn common_words_are_found_where_they_are_paths() {
        check("mkdir -p build && cd build", "build", true);
        check("build/tool a", "build", true);
        check("./build", "build", true);
        check("python -m venv env", "env", true);
        check("echo a > new", "new", true);
        check("echo a >new", "new", true);
        check("os.makedirs('lib')", "lib", true);
        check("python build.py", "build", false);
        check("python train.py --mode build", "build", false);
        check("target = df['target']", "target", false);
        check("import lib", "lib", false);
        check("cat src/lib/a.txt", "lib", false);
    }

    #[test]
    fn programs_that_make_environments_are_known() {
        for script in
            ["uv run train.py", "cd a && npm ci", "UV_OFFLINE=1 exec uv sync", "if ! make; then", "(./gradlew x)"]
        {
            assert!(runs_a_maker(script), "{script}");
        }
        for script in ["python train.py", "echo make sure", "cat uv", "remake all"] {
            assert!(!runs_a_maker(script), "{script}");
        }
    }

    #[test]
    fn what_removes_folders_is_known_by_its_words() {
        for text in
            ["rm -rf build && mkdir build", "shutil.rmtree(path)", "python -m venv --clear .venv", "cmd: uv venv"]
        {
            assert!(may_remove(text), "{text}");
        }
        for text in ["tar xf a.tar && cp cache/a a.out", "python -m farm x", "unzip -o rm_all.zip", "go:\n  cmd: tar x"]
        {
            assert!(!may_remove(text), "{text}");
        }
    }

    #[test]
    fn environments_are_named_behind_their_module() {
        let found = |text: &str| environments(text).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found("cmd: python3 -m venv --without-pip ./.venv/ && cp a b"), [".venv"]);
        assert_eq!(found("- python -m venv \"env\";\n- python -m pip install venv"), ["env"]);
    }

    #[test]
    fn words_of_commands_may_be_paths() {
        let found: Vec<&str> = paths("sh run.sh \"a/b.py\" --x=y.txt > out && echo $HOME").collect();
        assert_eq!(found, ["sh", "run.sh", "a/b.py", "y.txt", "out", "echo", "HOME"]);
    }
}
