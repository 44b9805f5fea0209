//! The log file of one instance, and its rotation.
//!
//! The process writes to the file itself, through a descriptor opened for appending. So nothing
//! that reads, rotates or supervises can ever block it, and its output outlives its shim. The
//! price: the file is shortened in place, and what is written between the copy and the cut is
//! lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Beyond this size a log is rotated; with the older file, an instance keeps up to twice as much.
pub(crate) const SIZE_MAX: u64 = 10 * 1024 * 1024;
/// How often a growing log is looked at.
const CHECK_MIN_MS: u64 = 1_000;
/// How often a silent one is: a thousand silent instances cost about 60 looks a second.
const CHECK_MAX_MS: u64 = 16_000;

/// The log of one instance.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    size_max: u64,
    size_seen: u64,
    pause_ms: u64,
    check_at_ms: u64,
}

impl Log {
    pub(crate) fn new(path: PathBuf, size_max: u64) -> Self {
        Self { path, size_max, size_seen: 0, pause_ms: CHECK_MIN_MS, check_at_ms: 0 }
    }

    /// A descriptor for the process to write to.
    pub(crate) fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }

    /// When to look at it again.
    pub(crate) fn check_at_ms(&self) -> u64 {
        self.check_at_ms
    }

    /// Looks at the file, and rotates it when it is too large.
    pub(crate) fn check(&mut self, now_ms: u64) -> io::Result<()> {
        if now_ms < self.check_at_ms {
            return Ok(());
        }
        let size = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        self.pause_ms = match size == self.size_seen {
            true => (self.pause_ms * 2).min(CHECK_MAX_MS),
            false => CHECK_MIN_MS,
        };
        self.size_seen = size;
        self.check_at_ms = now_ms + self.pause_ms;
        if size <= self.size_max {
            return Ok(());
        }
        self.size_seen = 0;
        self.rotate(size)
    }

    /// Keeps the newest part in the older file, and empties the current one.
    fn rotate(&self, size: u64) -> io::Result<()> {
        let older = older(&self.path);
        let mut next = older.clone().into_os_string();
        next.push(".next");
        let mut from = OpenOptions::new().read(true).write(true).open(&self.path)?;
        from.seek(SeekFrom::Start(size.saturating_sub(self.size_max)))?;
        let mut to =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
        // Twice the bound, for what is written meanwhile; a flood is cut rather than chased.
        io::copy(&mut io::Read::take(&from, 2 * self.size_max), &mut to)?;
        fs::rename(next, older)?;
        from.set_len(0)
    }
}

/// The name of the older half of a log.
pub(crate) fn older(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_that_is_too_large_is_cut_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path().join("out.log"), 100);
        let mut writer = log.open().unwrap();
        writer.write_all(&[b'a'; 100]).unwrap();
        log.check(0).unwrap();
        assert_eq!(log.check_at_ms(), CHECK_MIN_MS);
        writer.write_all(&[b'b'; 60]).unwrap();
        log.check(CHECK_MIN_MS).unwrap();
        writer.write_all(b"c").unwrap();
        assert_eq!(fs::read(&log.path).unwrap(), b"c");
        let kept = fs::read(older(&log.path)).unwrap();
        assert_eq!(kept.len(), 100);
        assert!(kept.ends_with(&[b'b'; 60]));
    }

    #[test]
    fn a_silent_log_is_looked_at_less_and_less() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path().join("out.log"), 100);
        let mut looks = Vec::new();
        for _ in 0..6 {
            log.check(log.check_at_ms()).unwrap();
            looks.push(log.check_at_ms());
        }
        assert_eq!(looks, [2_000, 6_000, 14_000, 30_000, 46_000, 62_000]);
    }
}
