//! What this machine has: memory and GPUs.

use crate::env;

/// Where control groups keep the memory limit of this process, version 2 and version 1.
const MEMORY_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The memory that processes may use, in mebibytes: the machine's, or what a container is limited to.
pub(crate) fn memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(clippy::useless_conversion, reason = "the width depends on the platform")]
    let machine = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit));
    let limits = MEMORY_LIMITS.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    limits.fold(machine, u64::min) >> 20
}

/// The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them.
pub(crate) fn gpus() -> Vec<String> {
    if let Some(list) = env::read_text(env::CUDA_VISIBLE_DEVICES) {
        return list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        devices.filter_map(|device| device.file_name().to_str()?.strip_prefix("nvidia")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| number.to_string()).collect()
}
