//! What an instance is doing: the file that its shim writes and the driver reads.
//!
//! It is true only for the boot it names; that is why it is not synced to the disk, but for what
//! runs once: that it has begun, and how it ended, hold for good. It is written
//! over in place, because a file system is slow to make files while many go; a second line with
//! the digest of the first tells a reader that it came in the middle of that.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;

use evenkeel_kernel::model::Digest;
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::world::{Fence, InstancePhase, STEADY};
use serde::{Deserialize, Serialize};

use crate::process::Ident;

/// How often a text is read that does not fit its digest: writing it takes microseconds.
const READS_MAX: u32 = 100;

/// The first line of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: u32,
    pub(crate) instance: InstanceId,
    pub(crate) incarnation: String,
    /// Everything here holds for this boot only.
    pub(crate) boot_id: String,
    pub(crate) phase: Phase,
    /// Since when, in milliseconds after boot.
    pub(crate) since_ms: u64,
    pub(crate) port: u16,
    /// How often the process ended without being asked to.
    pub(crate) exits: u32,
    /// How many of these came in a row.
    #[serde(default)]
    pub(crate) streak: u32,
    /// How the process last ended, or why it could not start.
    pub(crate) last_exit: Option<String>,
    /// The process, while there is one.
    pub(crate) process: Option<Ident>,
    /// A start is under way: the process may exist already, though `process` does not name it.
    #[serde(default)]
    pub(crate) starting: bool,
    /// What runs once was started, or was about to be: in this folder it never is again, whichever
    /// boot it was.
    #[serde(default)]
    pub(crate) begun: bool,
    /// What ran once has ended, well or not.
    #[serde(default)]
    pub(crate) well: Option<bool>,
    /// The process said `READY=1`.
    #[serde(default)]
    pub(crate) notified: bool,
    /// Who wrote this.
    pub(crate) shim: Ident,
    /// The highest order so far; lower ones are refused.
    pub(crate) fence: Fence,
    /// Limits that were asked for and that nothing here enforces.
    #[serde(default)]
    pub(crate) not_enforced: Vec<String>,
}

impl Status {
    /// The phase for the kernel; `None` for what does not exist any more.
    pub(crate) fn seen(&self) -> Option<InstancePhase> {
        match self.phase {
            Phase::Running => Some(InstancePhase::Running),
            Phase::Backoff => Some(InstancePhase::Backoff),
            Phase::PortTaken => Some(InstancePhase::PortTaken),
            Phase::Unstartable => Some(InstancePhase::Unstartable),
            Phase::Stopping => Some(InstancePhase::Stopping),
            Phase::Ended => Some(InstancePhase::Ended { well: self.well == Some(true) }),
            Phase::Stopped => None,
        }
    }

    /// Counts an end that nobody asked for, of a process that ran for `ran_ms`.
    pub(crate) fn ended_by_itself(&mut self, how: String, ran_ms: u64) {
        self.exits = self.exits.saturating_add(1);
        self.streak = if u128::from(ran_ms) >= STEADY.as_millis() {
            1
        } else {
            self.streak.saturating_add(1)
        };
        self.last_exit = Some(how);
    }
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Its process runs.
    Running,
    /// The next start waits.
    Backoff,
    /// A stranger listens on its port.
    PortTaken,
    /// It cannot be started as it is.
    Unstartable,
    /// It was asked to end.
    Stopping,
    /// It was to run once and has ended; nothing of it runs, and nothing comes next.
    Ended,
    /// It has ended because it was asked to; nothing of it runs.
    Stopped,
}

/// Reads the status of a file.
pub(crate) fn read(path: &Path) -> io::Result<Status> {
    for _ in 0..READS_MAX {
        let text = fs::read_to_string(path)?;
        if let Some(line) = whole(&text) {
            return serde_json::from_str(line).map_err(io::Error::other);
        }
        thread::yield_now();
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the status does not fit its digest"))
}

/// The first line, if the second is its digest.
fn whole(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    let (line, digest) = (lines.next()?, lines.next()?);
    (Digest::of(line.as_bytes()).hex() == digest).then_some(line)
}

/// The file as its shim holds it.
#[derive(Debug)]
pub(crate) struct Slate {
    file: File,
}

impl Slate {
    /// Opens it, or makes it, for its owner only.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        Ok(Self { file: options.open(path)? })
    }

    /// Waits until what was written would outlast a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Writes over what stands there. What is left of a longer text before is a third line.
    pub(crate) fn write(&self, status: &Status) -> io::Result<()> {
        let mut text = serde_json::to_string(status).map_err(io::Error::other)?;
        let digest = Digest::of(text.as_bytes());
        text.push('\n');
        text.push_str(digest.hex());
        text.push('\n');
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_being_written_is_nobody_s_status() {
        let line = r#"{"a":1}"#;
        let digest = Digest::of(line.as_bytes());
        let text = format!("{line}\n{}\nthe rest of a longer one", digest.hex());
        assert_eq!(whole(&text), Some(line));
        assert_eq!(whole(&text.replacen('1', "2", 1)), None);
        assert_eq!(whole(line), None);
        assert_eq!(whole(""), None);
    }

    #[test]
    fn failures_are_counted_in_a_row() {
        let mut status: Status = serde_json::from_value(serde_json::json!({
            "version": 1, "instance": "web.r1.1", "incarnation": "a", "boot_id": "b",
            "phase": "Running", "since_ms": 0, "port": 20_000, "exits": 0, "last_exit": null,
            "process": null, "shim": { "pid": 1, "start": 1 },
            "fence": { "epoch": 1, "generation": 1 },
        }))
        .unwrap();
        let steady_ms = u64::try_from(STEADY.as_millis()).unwrap();
        let mut seen = Vec::new();
        for ran_ms in [0, 30_000, steady_ms - 1, steady_ms, 5] {
            status.ended_by_itself("exit status 1".to_owned(), ran_ms);
            seen.push((status.exits, status.streak));
        }
        assert_eq!(seen, [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2)]);
    }
}
