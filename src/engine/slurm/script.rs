//! The script of an array, and the words of its `sbatch`. Pure.

use crate::engine::slurm::args::{Export, GpuFlag, Then};
use crate::engine::slurm::{DEFAULT_RETRIES, SlurmConfig};
use crate::model::run::Resources;

/// What a worker is told that may come before what its work items need is made.
pub(super) const AHEAD: &str = " --if-ready";
/// What a job that gets `--signal` is sent.
const SIGNAL: &str = "USR1";
/// What a worker needs to start, in seconds.
const START: u64 = 120;
/// How many seconds early the signal may come.
const EARLY: u64 = 60;

/// The script that each task of an array runs.
///
/// The worker takes the shell's place, so that it gets the signals that Slurm sends to the batch shell; where something
/// comes after it, the shell hands them on.
pub(super) fn script(
    config: &SlurmConfig,
    resources: &Resources,
    name: &str,
    variables: Option<&str>,
    is_ahead: bool,
) -> String {
    let mut text = beginning(config, variables);
    let (place, scratch) = match (&config.store, &config.scratch) {
        (Some(url), folder) => {
            let folder = folder.as_deref().unwrap_or("/tmp");
            (format!(" --cd \"{folder}\""), format!(" --store {} --scratch \"{folder}/slots\"", quoted(url)))
        }
        (None, Some(folder)) => (String::new(), format!(" --scratch \"{folder}\"")),
        (None, None) => (String::new(), String::new()),
    };
    let timeout = config.timeout.map(|limit| format!(" --timeout {}", limit.as_secs())).unwrap_or_default();
    let nice = config.nice.map(|nice| format!(" --nice {nice}")).unwrap_or_default();
    let retries = match config.retries(resources).unwrap_or(DEFAULT_RETRIES) {
        0 => String::new(),
        retries => format!(" --retries {retries}"),
    };
    let link = config.link.as_ref().map(|types| format!(" --link {types}")).unwrap_or_default();
    let grace = format!(" --last-grace {}s", config.grace);
    let workspace = config.workspace.map(|kind| format!(" --workspace {}", kind.name())).unwrap_or_default();
    let (run, job, program) = (quoted(&config.run), quoted(name), quoted(&config.program));
    let wrapper = wrapper(config);
    let ahead = if is_ahead { AHEAD } else { "" };
    // What comes through a store is seen or not as it comes.
    let check = if config.store.is_none() { " --check-first" } else { "" };
    let worker = format!(
        "{wrapper}{program}{place} work \"$SLURM_ARRAY_TASK_ID\" --run {run} --job {job}{check}{ahead}{scratch}{link}{retries}{timeout}{grace}{nice}{workspace}"
    );
    match &config.epilogue {
        None => text.push_str(&format!("exec {worker}\n")),
        Some(epilogue) => {
            text.push_str(&waited_for(&worker, "USR1"));
            // What the worker did is not the worse for what fails here.
            text.push_str(&format!(
                "(\n{}\n) || echo \"warning: the epilogue failed with $?\" >&2\n",
                epilogue.trim_end()
            ));
            text.push_str("exit $code\n");
        }
    }
    text
}

/// A program that the shell goes on after, with its exit code in `code`; it is sent `on_usr1` when the shell gets `USR1`.
fn waited_for(program: &str, on_usr1: &str) -> String {
    format!(
        "set +e\n{program} &\nstarted=$!\ntrap 'kill -{on_usr1} $started' USR1\ntrap 'kill -TERM $started' TERM\n\
         while :; do wait $started; code=$?; kill -0 $started 2>/dev/null || break; done\n"
    )
}

/// The script of a job that launches the run.
pub(super) fn controller(config: &SlurmConfig, variables: Option<&str>) -> String {
    let mut text = beginning(config, variables);
    let (run, program) = (quoted(&config.run), quoted(&config.program));
    let flags = config.arguments.iter().fold(String::new(), |flags, flag| flags + " " + &quoted(flag));
    let launch = format!("{program} launch {run} --engine slurm{flags}");
    match config.args.then {
        // The last program takes the shell's place, so that it gets the signals that Slurm sends to the batch shell.
        None => text.push_str(&format!("exec {launch}\n")),
        Some(then) => {
            let verb = match then {
                Then::Collect => "collect",
                Then::Finalize => "finalize",
            };
            // Some work items may fail: what is good is brought home all the same, and the exit code tells.
            text.push_str(&waited_for(&launch, "INT"));
            text.push_str("case $code in 0 | 1) ;; *) exit $code ;; esac\n");
            text.push_str(&format!("{program} {verb} {run} || exit $?\nexit $code\n"));
        }
    }
    text
}

/// What comes before the worker, or the launcher.
fn beginning(config: &SlurmConfig, variables: Option<&str>) -> String {
    let is_login = !config.args.modules.is_empty() || config.args.conda.is_some() || config.args.prologue.is_some();
    // `module` is a function that only login shells of many sites have.
    let mut text = String::from(if is_login { "#!/bin/bash -l\n" } else { "#!/bin/sh\n" });
    text.push_str("# Written by dvc-fanout; runs the work items of one task of a job array.\n");
    text.push_str("set -e\n");
    if config.args.export == Some(Export::None) {
        // Else a stage's own `srun` would lose its environment.
        text.push_str("unset SLURM_EXPORT_ENV\n");
    }
    if let Some(file) = variables {
        text.push_str(&format!(". {}\n", quoted(file)));
    }
    if let Some(path) = config.path.as_ref().filter(|_| is_login && config.args.export != Some(Export::None)) {
        // What a login sets, as many do for everybody, is not what `--export=ALL` handed on.
        text.push_str(&format!("export PATH={}\n", quoted(path)));
    }
    if is_login {
        text.push_str(
            "trap 'code=$?; echo \"error: what comes before the worker failed with $code\" >&2; exit 5' EXIT\n",
        );
        for module in &config.args.modules {
            text.push_str(&format!("module load {}\n", quoted(module)));
        }
        if let Some(environment) = &config.args.conda {
            text.push_str("eval \"$(conda shell.posix hook)\"\n");
            text.push_str(&format!("conda activate {}\n", quoted(environment)));
        }
        if let Some(prologue) = &config.prologue {
            text.push_str(prologue.trim_end());
            text.push('\n');
        }
        text.push_str("trap - EXIT\n");
    }
    text.push_str(&format!("cd {}\n", quoted(place(config))));
    text
}

/// Where a job begins: in the project, where nodes see it.
fn place(config: &SlurmConfig) -> &str {
    if config.store.is_some() { "/" } else { &config.project }
}

/// What stands in front of the worker.
fn wrapper(config: &SlurmConfig) -> String {
    let args = &config.args;
    if let Some(image) = &args.container {
        let runtime = args.container_runtime.as_deref().unwrap_or("apptainer");
        let binds = config.binds.iter().fold(String::new(), |binds, path| binds + " --bind " + &quoted(path));
        let more = args.container_options.as_ref().map(|more| format!(" {more}")).unwrap_or_default();
        let scratch =
            config.scratch.as_ref().map(|_| " --bind \"${SLURM_TMPDIR:-${TMPDIR:-/tmp}}\"").unwrap_or_default();
        return format!("{runtime} exec{binds}{scratch}{more} {} ", quoted(image));
    }
    args.wrapper.as_ref().map(|words| format!("{words} ")).unwrap_or_default()
}

/// What keeps a second array of one name waiting until the first is over.
pub(super) const SINGLETON: &str = "--dependency=singleton";

/// The words of a `sbatch` for what is to begin when these jobs are over.
pub(super) fn after(words: &[String], ids: &[String]) -> Vec<String> {
    let ids = ids.iter().fold(String::new(), |ids, id| ids + ":" + id);
    let waits = |word: &String| {
        let is_it = word == SINGLETON && !ids.is_empty();
        if is_it { format!("{SINGLETON},afterany{ids}") } else { word.clone() }
    };
    words.iter().map(waits).collect()
}

/// Whether a line of a script is made from the terminal that the launch was typed in, and not from options.
pub(super) fn is_of_terminal(line: &str) -> bool {
    line.starts_with("export PATH=")
}

/// A word as a shell reads it back.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What `sbatch` is asked for, but for the script and what differs from one array to the next.
pub(super) fn flags(config: &SlurmConfig, resources: &Resources, seconds: Option<u64>) -> Vec<String> {
    let args = &config.args;
    let own = |name: &str| resources.slurm.get(name).cloned();
    let mut words = vec!["--nodes=1".to_owned(), "--ntasks=1".to_owned()];
    let mut flag = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("--{name}={value}")));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few CPUs, rounded up")]
    let cpus = resources.cpus.map(|cpus| (cpus.ceil() as u32).max(1)).or(args.cpus_per_task);
    flag("cpus-per-task", cpus.map(|cpus| cpus.to_string()));
    match (args.mem.as_deref(), resources.memory_mib) {
        (Some("none"), _) => {}
        (_, Some(mib)) => flag("mem", Some(format!("{mib}M"))),
        (Some(mem), None) => flag("mem", Some(mem.to_owned())),
        (None, None) => flag("mem-per-cpu", args.mem_per_cpu.clone()),
    }
    match (resources.gpus.filter(|gpus| *gpus > 0), args.gpu_flag.unwrap_or(GpuFlag::Gres)) {
        (Some(gpus), GpuFlag::Gres) => flag("gres", Some(format!("gpu:{gpus}"))),
        (Some(gpus), GpuFlag::Gpus) => flag("gpus", Some(gpus.to_string())),
        (Some(gpus), GpuFlag::GpusPerNode) => flag("gpus-per-node", Some(gpus.to_string())),
        (None, _) if own("gres").is_none() => flag("gres", args.gres.clone()),
        (None, _) => {}
    }
    // What a stage says of itself holds before what is said for all.
    flag("gres", own("gres"));
    let limit = own("time").or_else(|| args.time.clone());
    flag("time", limit.as_deref().map(time).or_else(|| seconds.map(|seconds| minutes(seconds, config.signal))));
    for (name, value) in [
        ("partition", &args.partition),
        ("account", &args.account),
        ("qos", &args.qos),
        ("reservation", &args.reservation),
        ("constraint", &args.constraint),
        ("nodelist", &args.nodelist),
        ("licenses", &args.licenses),
        ("wckey", &args.wckey),
        ("clusters", &args.clusters),
        ("mail-type", &args.mail_type),
        ("mail-user", &args.mail_user),
        ("tmp", &args.tmp),
    ] {
        flag(name, own(name).or_else(|| value.clone()));
    }
    flag("signal", Some(format!("B:{SIGNAL}@{}", config.signal)));
    // Values are in the environment of `sbatch`, for nobody else to see.
    let handed_on = config.variables.iter().filter(|_| config.store.is_some()).map(|(name, _)| name.as_str());
    let handed_on = handed_on.collect::<Vec<_>>().join(",");
    flag(
        "export",
        Some(match (args.export, handed_on.as_str()) {
            (Some(Export::None), "") => "NONE".to_owned(),
            (Some(Export::None), names) => names.to_owned(),
            _ => "ALL".to_owned(),
        }),
    );
    flag("chdir", Some(place(config).to_owned()));
    flag("open-mode", Some("append".to_owned()));
    words.push(if args.no_requeue { "--no-requeue" } else { "--requeue" }.to_owned());
    if args.exclusive {
        words.push("--exclusive".to_owned());
    }
    words
}

/// A time limit in whole minutes, for stages that may take so many seconds before their worker is told to end.
fn minutes(seconds: u64, signal: u64) -> String {
    (START + seconds + EARLY + signal).div_ceil(60).to_string()
}

/// A time limit as Slurm writes it; `36h` and the like are ours.
fn time(text: &str) -> String {
    let ours = text.chars().last().is_some_and(|last| last.is_ascii_alphabetic());
    match text.parse::<crate::model::duration::Limit>() {
        Ok(limit) if ours => limit.seconds().div_ceil(60).to_string(),
        _ => text.to_owned(),
    }
}

/// Options of `sbatch` that have a meaning here.
const TAKEN: [&str; 9] =
    ["--array", "--job-name", "--wrap", "--parsable", "--output", "--wait", "--comment", "--dependency", "--chdir"];

/// The option of a word that `--sbatch-arg` may not give.
pub(super) fn taken(word: &str) -> Option<&'static str> {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let long = match name {
        _ if word.starts_with("-a") => "--array",
        _ if word.starts_with("-J") => "--job-name",
        _ if word.starts_with("-o") => "--output",
        _ if word.starts_with("-W") => "--wait",
        _ if word.starts_with("-d") => "--dependency",
        _ if word.starts_with("-D") => "--chdir",
        name => name,
    };
    TAKEN.into_iter().find(|taken| *taken == long)
}

/// The id of the job in what `sbatch --parsable` printed, beneath whatever banners the site has.
pub(super) fn submitted(stdout: &str) -> Option<u64> {
    stdout.lines().rev().find_map(|line| {
        let line = line.trim();
        let (id, cluster) = line.split_once(';').unwrap_or((line, "c"));
        (!cluster.is_empty() && !cluster.contains(char::is_whitespace)).then(|| id.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_among_banners() {
        assert_eq!(submitted("12\n"), Some(12));
        assert_eq!(submitted("Welcome!\n 7;fanout\n"), Some(7));
        assert_eq!(submitted("quota: 99 of 100\n8\nhave a nice day\n"), Some(8));
        for none in ["", "Submitted batch job", "1 2", "-3", "5;"] {
            assert_eq!(submitted(none), None, "{none}");
        }
    }

    #[test]
    fn words_come_back_from_a_shell_as_they_were() {
        assert_eq!(quoted("/a/b-1.0"), "/a/b-1.0");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn times_are_slurms_or_ours() {
        assert_eq!(
            (time("1-12:00:00"), time("90"), time("36h"), time("90s")),
            ("1-12:00:00".into(), "90".into(), "2160".into(), "2".into())
        );
        assert_eq!((minutes(60, 120), minutes(600, 601)), ("6".to_owned(), "24".to_owned()));
    }

    #[test]
    fn options_that_have_a_meaning_here_are_not_overruled() {
        assert_eq!(taken("--array=1"), Some("--array"));
        assert_eq!(taken("-Jname"), Some("--job-name"));
        assert_eq!(taken("--nice=100"), None);
        assert_eq!(taken("--output=x"), Some("--output"));
    }
}
