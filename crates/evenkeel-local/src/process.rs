//! Processes as the kernel shows them: who is who, without ever mistaking one for another.
//!
//! A process is known by its pid *and* its start time, because pids are used again. Nothing here
//! knows of instances.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// One process for the life of this boot: pids are used again, pairs are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ident {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub(crate) start: u64,
}

/// The parts of `/proc/<pid>/stat` that say where a process belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ident: Ident,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// Processor time that it has used, in clock ticks.
    pub(crate) used: u64,
    /// The same of its children that have ended and that it has asked about.
    pub(crate) used_by_gone: u64,
    /// All of it has ended, and it only waits for its parent to ask how.
    pub(crate) ended: bool,
}

/// A line of `/proc/<pid>/stat` is far shorter; the name in it is at most 64 bytes.
const STAT_LENGTH_MAX: usize = 1024;
/// Environments longer than this are not searched to their end.
const ENVIRON_LENGTH_MAX: u64 = 1 << 20;

/// Reads where process `pid` belongs. `None` when there is none.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let mut buffer = [0; STAT_LENGTH_MAX];
    let length = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
    parse_stat(pid, buffer.get(..length)?)
}

fn parse_stat(pid: u32, line: &[u8]) -> Option<Stat> {
    // The name stands in parentheses and may itself contain any byte, so count from its end.
    let name_end = line.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(line.get(name_end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    // A process whose first thread has ended looks the same, but has other threads.
    let threads: u32 = field(20)?.parse().ok()?;
    let ticks = |number: usize| field(number).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    Some(Stat {
        used: ticks(14) + ticks(15),
        used_by_gone: ticks(16) + ticks(17),
        ident: Ident { pid, start: field(22)?.parse().ok()? },
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        ended: matches!(field(3)?, "Z" | "X") && threads <= 1,
    })
}

/// Every process of the machine, as far as it can be seen.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect()
}

/// Every descendant of process `root`, and `more` with theirs. `None` where the kernel does not
/// list children (it was built without `CONFIG_PROC_CHILDREN`).
///
/// Costs as much as there are descendants, however many processes the machine has. A child that is
/// born or handed over while this looks may be missed; callers look until nothing is found.
pub(crate) fn descendants(root: u32, more: &[u32]) -> Option<Vec<Stat>> {
    let mut open = children(root)?;
    open.extend(more);
    let mut seen = std::collections::BTreeSet::from([root]);
    let mut found = Vec::new();
    while let Some(pid) = open.pop() {
        if seen.insert(pid) {
            found.extend(stat(pid));
            open.extend(children(pid).unwrap_or_default());
        }
    }
    Some(found)
}

/// Processor time used so far by all descendants of process `root`, in microseconds, with what those
/// used that are gone. `None` where they cannot be seen.
pub(crate) fn used_below(root: u32) -> Option<u64> {
    let gone = stat(root)?.used_by_gone;
    let living = descendants(root, &[])?.into_iter().map(|it| it.used + it.used_by_gone);
    let ticks = gone + living.sum::<u64>();
    Some(ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1))
}

/// The children of every thread of process `pid`. `None` when they cannot be seen.
fn children(pid: u32) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Some(found)
}

impl Ident {
    /// The process with number `pid`, as it is now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| stat.ident)
    }

    /// This process.
    pub(crate) fn own() -> io::Result<Self> {
        Self::of(std::process::id())
            .ok_or_else(|| io::Error::other("/proc is not mounted; Evenkeel needs it"))
    }

    /// Whether exactly this process still runs.
    pub(crate) fn lives(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.ident == self && !stat.ended)
    }

    /// A handle on exactly this process. `None` when it has ended.
    ///
    /// The start time is read again after the handle is open: from then on the handle cannot come
    /// to mean another process.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid.try_into().ok()?)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.lives().then_some(handle)
    }

    /// Sends `signal` to exactly this process. Returns whether it was there to get it.
    pub(crate) fn signal(self, signal: Signal) -> bool {
        self.open()
            .is_some_and(|handle| rustix::process::pidfd_send_signal(&handle, signal).is_ok())
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0_u64);
        pages.saturating_mul(rustix::param::page_size() as u64)
    }
}

/// Whether the environment that process `pid` was started with has the line `marker`.
pub(crate) fn is_marked(pid: u32, marker: &str) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    let mut environ = Vec::new();
    // What could be read before an error is still searched.
    let _length = file.take(ENVIRON_LENGTH_MAX).read_to_end(&mut environ);
    environ.split(|&byte| byte == 0).any(|line| line == marker.as_bytes())
}

/// The identity of this boot of the machine. Read once: no process outlives a boot, and a shim
/// inherits what its nursery has read.
pub(crate) fn boot_id() -> io::Result<String> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(known) = BOOT_ID.get() {
        return Ok(known.clone());
    }
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT_ID.get_or_init(|| read.trim().to_owned()).clone())
}

/// A name nobody else has drawn.
pub(crate) fn unique_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// Milliseconds since boot, with the time the machine slept.
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pose_as_other_fields() {
        let line = b"7 (a) R 1 1 1 (b)) S 41 7 40 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0";
        let stat = parse_stat(7, line).unwrap();
        assert_eq!((stat.parent, stat.group, stat.session), (41, 7, 40));
        assert_eq!((stat.ident.start, stat.ended), (99, false));
    }

    #[test]
    fn a_process_lives_as_long_as_one_of_its_threads() {
        let ended = |threads: u32| {
            let line = format!("7 (a) Z 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 99 0 0");
            parse_stat(7, line.as_bytes()).unwrap().ended
        };
        assert!(ended(1));
        assert!(!ended(2));
    }

    #[test]
    fn a_wrong_start_time_is_another_process() {
        let own = Ident::own().unwrap();
        assert!(own.lives());
        assert!(own.open().is_some());
        let other = Ident { start: own.start + 1, ..own };
        assert!(!other.lives());
        assert!(other.open().is_none());
        assert!(!other.signal(Signal::KILL));
    }
}
