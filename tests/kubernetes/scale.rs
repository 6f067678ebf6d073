//! What a large run costs the launcher and the API server.
//!
//! `DVC_FANOUT_TEST_ITEMS` and `DVC_FANOUT_TEST_WORKERS` set the size; `--nocapture` shows the figures.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use super::bench::{Bench, Does};

/// The launcher's budget, in MiB.
const MEMORY_MIB: u64 = 150;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The most memory (MiB) and the CPU time (seconds) of a process until its end.
fn watch(child: &mut Child) -> (u64, f64) {
    /// Linux counts CPU time in these parts of a second for user space.
    const TICKS: f64 = 100.0;
    let (mut peak_kib, mut ticks) = (0, 0.0);
    while child.try_wait().expect("it is our child").is_none() {
        let proc = format!("/proc/{}", child.id());
        if let Ok(status) = fs::read_to_string(format!("{proc}/status")) {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|line| line.split_whitespace().next()?.parse().ok());
            peak_kib = peak.unwrap_or(peak_kib);
        }
        if let Ok(stat) = fs::read_to_string(format!("{proc}/stat")) {
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            ticks = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum::<f64>().max(ticks);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    (peak_kib / 1024, ticks / TICKS)
}

#[test]
fn a_large_run_needs_few_requests_and_little_memory() {
    let items = setting("DVC_FANOUT_TEST_ITEMS", 2_000);
    let workers = setting("DVC_FANOUT_TEST_WORKERS", 100);
    let bench = Bench::new(items, |_, _| Does::Succeed);
    let begun = Instant::now();
    let mut child = bench.start(&["--no-check", "--quiet", "--jobs", &workers.to_string()]);
    let (peak_mib, cpu_seconds) = watch(&mut child);
    let code = child.wait().expect("it ends").code();
    assert_eq!(code, Some(0), "{}", bench.said());
    let succeeded = bench.endings().iter().filter(|ending| ending.ends_with(" succeeded")).count();
    assert_eq!(succeeded, items);
    let report = bench.server.requests_report();
    #[expect(clippy::print_stderr, reason = "the figures are what it is for")]
    {
        eprintln!(
            "{items} work items, {workers} workers: {:.1} s, launcher {peak_mib} MiB, {cpu_seconds:.1} s CPU; requests:\n{report}",
            begun.elapsed().as_secs_f64(),
        );
    }
    assert!(peak_mib <= MEMORY_MIB, "the launcher took {peak_mib} MiB");
    let requests: usize = report.lines().filter_map(|line| line.split_whitespace().next()?.parse::<usize>().ok()).sum();
    assert!(requests < 100, "what is asked must not grow with the run: {report}");
}
