//! What processes cost, as the kernel accounts for it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// One line on where this is measured.
pub(super) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cpus} processors, load {} before", load_average())
}

/// How many wanted a processor in the last 1, 5 and 15 minutes.
pub(super) fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
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

/// What starts a proxy: on this processor, and in a session of its own as the edge is, because the
/// kernel may share a busy processor out by sessions.
pub(super) fn on_processor(cpu: usize, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setsid");
    command.args(["taskset", "-c", &cpu.to_string()]).arg(program);
    command
}

/// Whether a program is on the PATH.
pub(super) fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program is: on the PATH, or among those that the tests install for themselves.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let venv = cache.map(|cache| cache.join("evenkeel-ci/venv/bin"));
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]).chain(venv);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Keeps this process and the threads that it starts on these processors, so that those who ask are
/// not where what is measured is.
pub(super) fn pin(processors: &[u32]) -> anyhow::Result<()> {
    let list: Vec<String> = processors.iter().map(ToString::to_string).collect();
    let own = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["-cp", &list.join(","), &own])
        .stdout(Stdio::null())
        .status()
        .context("could not run taskset")?;
    if !status.success() {
        bail!("taskset failed");
    }
    Ok(())
}
