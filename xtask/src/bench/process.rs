//! What processes cost, as the kernel accounts for it.

use std::path::Path;
use std::time::Duration;

/// One line on where this is measured.
pub(super) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("{cpus} processors, load {load} before")
}

/// Processor time of a process so far: all of its threads, in user and kernel.
pub(super) fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let of = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let ns = tasks.into_iter().flatten().filter_map(Result::ok).filter_map(of).sum();
    Duration::from_nanos(ns)
}

/// Processor time of a process and all of its children that are still there.
pub(super) fn cpu_of_tree(pid: u32) -> Duration {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let below = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(cpu_of_tree);
    below.fold(cpu(pid), |sum, cpu| sum + cpu)
}

/// Private memory of a process, in KiB: what ending it would free.
pub(super) fn private_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines()
        .filter(|line| line.starts_with("Private_Clean") || line.starts_with("Private_Dirty"))
        .filter_map(value)
        .sum()
}

/// Whether a program is on the PATH.
pub(super) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [Path::new("/usr/sbin").to_owned()];
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}
