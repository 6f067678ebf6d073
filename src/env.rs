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
/// Tells the program that runs DVC where the stage files are that commands see; not seen by them.
pub(crate) const DVC_FANOUT_STAGE_FILES: &str = "DVC_FANOUT_STAGE_FILES";
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
/// Where a bucket of Amazon's is; the first one wins.
#[cfg(feature = "store")]
pub(crate) const AWS_REGION: &str = "AWS_REGION";
#[cfg(feature = "store")]
pub(crate) const AWS_DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
/// A key of S3's with its secret.
#[cfg(feature = "store")]
pub(crate) const AWS_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
#[cfg(feature = "store")]
pub(crate) const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// A role that a file's token gives, as in pods.
#[cfg(feature = "store")]
pub(crate) const AWS_WEB_IDENTITY_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
#[cfg(feature = "store")]
pub(crate) const AWS_ROLE_ARN: &str = "AWS_ROLE_ARN";
/// A section of the files of Amazon's tools; the first one wins.
#[cfg(feature = "store")]
pub(crate) const AWS_PROFILE: &str = "AWS_PROFILE";
#[cfg(feature = "store")]
pub(crate) const AWS_DEFAULT_PROFILE: &str = "AWS_DEFAULT_PROFILE";
/// These files.
#[cfg(feature = "store")]
pub(crate) const AWS_SHARED_CREDENTIALS_FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
#[cfg(feature = "store")]
pub(crate) const AWS_CONFIG_FILE: &str = "AWS_CONFIG_FILE";
/// Says that a bucket is open to all.
#[cfg(feature = "store")]
pub(crate) const AWS_SKIP_SIGNATURE: &str = "AWS_SKIP_SIGNATURE";
/// Set in containers that have a role.
#[cfg(feature = "store")]
pub(crate) const AWS_CONTAINER: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
/// What leads DVC to S3 in ways that only it knows.
#[cfg(feature = "store")]
pub(crate) const AWS_UNKNOWN: [&str; 6] = [
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
];
/// The credentials of Google's that programs are to use: a file.
#[cfg(feature = "store")]
pub(crate) const GOOGLE_APPLICATION_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// What gives a store of Google's credentials, or says that it needs none.
#[cfg(feature = "store")]
pub(crate) const GOOGLE_CREDENTIALS: [&str; 6] = [
    GOOGLE_APPLICATION_CREDENTIALS,
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
];
/// The account of Azure's, as its own tools name it.
#[cfg(feature = "store")]
pub(crate) const AZURE_STORAGE_CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
#[cfg(feature = "store")]
pub(crate) const AZURE_STORAGE_ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
#[cfg(feature = "store")]
pub(crate) const AZURE_STORAGE_KEY: &str = "AZURE_STORAGE_KEY";
/// The folder of these tools' config.
#[cfg(feature = "store")]
pub(crate) const AZURE_CONFIG_DIR: &str = "AZURE_CONFIG_DIR";
/// What gives a store of Azure's credentials, or says that it needs none.
#[cfg(feature = "store")]
pub(crate) const AZURE_CREDENTIALS: [&str; 14] = [
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_MSI_ENDPOINT",
    "AZURE_SKIP_SIGNATURE",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_USE_AZURE_CLI",
];
/// What leads DVC to Azure in ways that only it knows.
#[cfg(feature = "store")]
pub(crate) const AZURE_UNKNOWN: [&str; 2] = ["AZURE_STORAGE_SAS_TOKEN", "REQUESTS_CA_BUNDLE"];
/// `dvc` has DVC fetch and push data, whatever the remote.
pub(crate) const DVC_FANOUT_TRANSFER: &str = "DVC_FANOUT_TRANSFER";
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
/// The user's name, by the first of these that is set (Python's `getpass`).
pub(crate) const USER_NAMES: [&str; 4] = ["LOGNAME", "USER", "LNAME", "USERNAME"];
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
