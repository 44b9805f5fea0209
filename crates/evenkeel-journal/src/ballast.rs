//! The ballast: room on the disk that is held back for the moment when there is none.
//!
//! When a commit finds the disk full the ballast is given up, so that the restarted process can
//! open the file and write the way back. It is taken again once there is plenty of room.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILE: &str = "ballast";
/// Two of the longest commits, in the log and in the file, and some small ones.
pub(crate) const BYTES: u64 = 16 << 20;
/// The ballast is taken only where so much is free, so that it never is what fills a disk.
pub(crate) const ROOM_TO_TAKE: u64 = 4 * BYTES;
/// With less room than this a file may not even open; then the ballast goes first.
const ROOM_TO_OPEN: u64 = BYTES / 2;

/// The ballast of one folder.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    held: bool,
}

impl Ballast {
    /// Looks whether there is one, and gives it up at once if the disk is nearly full.
    pub(crate) fn find(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let held = fs::metadata(&path).is_ok_and(|found| found.len() == BYTES);
        let mut ballast = Self { path, held };
        if ballast.room() < ROOM_TO_OPEN {
            ballast.give_up();
        }
        ballast
    }

    /// Whether it is held; if not, the disk was full and there is still little room.
    pub(crate) fn held(&self) -> bool {
        self.held
    }

    /// Gives its room back. Says whether there was something to give.
    pub(crate) fn give_up(&mut self) -> bool {
        self.held = false;
        fs::remove_file(&self.path).is_ok()
    }

    /// Takes it again if there is plenty of room. A failure is no matter: it is tried again after
    /// the next commit.
    pub(crate) fn take(&mut self) {
        if self.held || self.room() < ROOM_TO_TAKE {
            return;
        }
        self.held = self.fill().is_ok();
        if !self.held {
            self.give_up();
        }
    }

    /// Not a hole: its blocks must be the disk's own, or giving them up would give nothing. Where
    /// blocks cannot be reserved they are written, with bytes that do not compress away.
    fn fill(&self) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        let reserve = rustix::fs::FallocateFlags::empty();
        if rustix::fs::fallocate(&file, reserve, 0, BYTES).is_err() {
            file.set_len(0)?;
            let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
            let mut block = [0_u8; 4096];
            for _ in 0..BYTES / 4096 {
                for word in block.chunks_exact_mut(8) {
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    word.copy_from_slice(&noise.to_ne_bytes());
                }
                file.write_all(&block)?;
            }
        }
        file.sync_all()
    }

    /// How much a process without privileges may still write; nothing if that cannot be learnt.
    fn room(&self) -> u64 {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        rustix::fs::statvfs(dir).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_takes_real_room_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::find(dir.path());
        assert!(!ballast.held());
        if ballast.room() < ROOM_TO_TAKE {
            println!("skipped: less than 64 MiB free in {}", dir.path().display());
            return;
        }
        ballast.take();
        assert!(ballast.held());
        let blocks = fs::metadata(dir.path().join(FILE)).unwrap().blocks();
        assert!(blocks * 512 >= BYTES, "{blocks} blocks");
        assert!(Ballast::find(dir.path()).held(), "found again by the next process");
        assert!(ballast.give_up());
        assert!(!ballast.held());
        assert!(!dir.path().join(FILE).exists());
    }
}
