//! Every environment variable that the program reads or sets, one constant each.

use std::ffi::OsString;

/// Set by Kubernetes in the containers of an Indexed Job: the completion index.
pub(crate) const JOB_COMPLETION_INDEX: &str = "JOB_COMPLETION_INDEX";
/// Set by Slurm in the tasks of an array job.
pub(crate) const SLURM_ARRAY_TASK_ID: &str = "SLURM_ARRAY_TASK_ID";
/// The `dvc` program to use instead of the one on the `PATH`.
pub(crate) const DVC_FANOUT_DVC: &str = "DVC_FANOUT_DVC";
/// `0` makes each work item start its `dvc` anew, instead of forking it from one that is loaded.
pub(crate) const DVC_FANOUT_WARM: &str = "DVC_FANOUT_WARM";
/// What does stages: `auto`, `native` or `dvc`.
pub(crate) const DVC_FANOUT_EXECUTOR: &str = "DVC_FANOUT_EXECUTOR";
/// The log filter of `tracing`, as in `dvc_fanout=debug`.
pub(crate) const DVC_FANOUT_LOG: &str = "DVC_FANOUT_LOG";
/// The folder of the slot that a `dvc` and its commands work in; also how those that are left over are found.
pub(crate) const DVC_FANOUT_SLOT: &str = "DVC_FANOUT_SLOT";
/// DVC's folder for its own per-project databases; each slot has its own.
pub(crate) const DVC_SITE_CACHE_DIR: &str = "DVC_SITE_CACHE_DIR";
/// Any value turns DVC's usage statistics off.
pub(crate) const DVC_NO_ANALYTICS: &str = "DVC_NO_ANALYTICS";
/// Overrides the place of DVC's per-user config file.
pub(crate) const DVC_GLOBAL_CONFIG_DIR: &str = "DVC_GLOBAL_CONFIG_DIR";
/// Overrides the place of DVC's machine-wide config file.
pub(crate) const DVC_SYSTEM_CONFIG_DIR: &str = "DVC_SYSTEM_CONFIG_DIR";
/// What leads git to another repository than the one of the current directory, as inside of a git hook.
pub(crate) const GIT_LOCAL: [&str; 6] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
];
/// Where S3 is, unless it is Amazon's; the first one wins.
#[cfg(feature = "store")]
pub(crate) const AWS_ENDPOINT_URL_S3: &str = "AWS_ENDPOINT_URL_S3";
#[cfg(feature = "store")]
pub(crate) const AWS_ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";
/// The GPUs that a process may use.
pub(crate) const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
/// Set by most CI systems: no progress bars.
pub(crate) const CI: &str = "CI";
/// The text of a kubeconfig, as the Iterative provider took it.
#[cfg(feature = "kubernetes")]
pub(crate) const KUBECONFIG_DATA: &str = "KUBECONFIG_DATA";
/// The same by its other name.
#[cfg(feature = "kubernetes")]
pub(crate) const KUBERNETES_CONFIGURATION: &str = "KUBERNETES_CONFIGURATION";
/// The user's home, for per-user configuration.
pub(crate) const HOME: &str = "HOME";
/// The per-user configuration folder.
pub(crate) const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// The machine-wide configuration folders, separated by colons.
pub(crate) const XDG_CONFIG_DIRS: &str = "XDG_CONFIG_DIRS";
/// Where programs are looked for.
pub(crate) const PATH: &str = "PATH";

/// Set where this process runs inside of a Slurm job: the job's own id.
pub(crate) const SLURM_JOB_ID: &str = "SLURM_JOB_ID";
/// Set by Slurm in the tasks of a job array: the array's id.
pub(crate) const SLURM_ARRAY_JOB_ID: &str = "SLURM_ARRAY_JOB_ID";
/// Set by Slurm in a job that it has started again: how often.
pub(crate) const SLURM_RESTART_COUNT: &str = "SLURM_RESTART_COUNT";
/// Set by later releases of Slurm: when the job began, and when its time limit ends it, in seconds since 1970.
pub(crate) const SLURM_JOB_START_TIME: &str = "SLURM_JOB_START_TIME";
pub(crate) const SLURM_JOB_END_TIME: &str = "SLURM_JOB_END_TIME";
/// Set by Slurm: the node.
pub(crate) const SLURMD_NODENAME: &str = "SLURMD_NODENAME";
/// Set by Slurm: the CPUs that the job has on this node.
pub(crate) const SLURM_CPUS_ON_NODE: &str = "SLURM_CPUS_ON_NODE";

/// Set for commands of stages with `keep-running`: the folder of their run's keepers.
pub(crate) const DVC_FANOUT_KEPT: &str = "DVC_FANOUT_KEPT";

/// The names of all variables.
pub(crate) fn names() -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

/// The shell that runs the commands of stages.
pub(crate) const SHELL: &str = "SHELL";
/// Set by DVC for commands, unless it is set: the project's root.
pub(crate) const DVC_ROOT: &str = "DVC_ROOT";
/// Set by DVC for commands: the address of their stage.
pub(crate) const DVC_STAGE: &str = "DVC_STAGE";
/// The locale, above all others.
pub(crate) const LC_ALL: &str = "LC_ALL";
/// The locale of characters.
pub(crate) const LC_CTYPE: &str = "LC_CTYPE";
/// The locale, below all others.
pub(crate) const LANG: &str = "LANG";
/// `0` keeps Python from changing the locale `C`.
pub(crate) const PYTHONCOERCECLOCALE: &str = "PYTHONCOERCECLOCALE";
/// With all of these set, DVC looks for entries of pyenv's in the `PATH`.
pub(crate) const PYENV: [&str; 4] = ["PYENV_DIR", "PYENV_HOOK_PATH", "PYENV_VERSION", "PYENV_ROOT"];

/// Whether a variable is set, be it empty.
pub(crate) fn is_set(name: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var_os(name).is_some()
}

/// Reads a variable; an empty one counts as not set.
pub(crate) fn read(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Reads a variable as text; one that is not UTF-8 counts as not set.
pub(crate) fn read_text(name: &str) -> Option<String> {
    read(name).and_then(|value| value.into_string().ok())
}
