//! What this machine has: memory and GPUs, and since when it runs.

use crate::adapters::memory::MemoryGroup;
use crate::env;

/// The memory that processes may use, in mebibytes: the machine's, or what the control group is limited to.
pub(crate) fn memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(clippy::useless_conversion, reason = "the width depends on the platform")]
    let machine = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit));
    let limit = MemoryGroup::find().and_then(|group| group.limit());
    limit.map_or(machine, |limit| limit.min(machine)) >> 20
}

/// What is another after each start of the machine; empty where the system does not say.
pub(crate) fn boot() -> &'static str {
    static ID: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ID.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    })
}

/// The columns and lines of the terminal that stdout is; `None` where it is none.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// The permissions that new files do not get.
pub(crate) fn umask() -> u32 {
    static UMASK: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o022)
    })
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
