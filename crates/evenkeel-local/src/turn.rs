//! Turns: how many instances of this home may be starting at the same time.
//!
//! When a thousand instances die of one cause their shims all want to start them again, and know
//! nothing of one another. There are [`STARTING_MAX`] files; whoever holds the lock of one may
//! start. The system gives a lock back when its holder ends, however it ends, so nobody has to be
//! there to hand them out, and none is ever lost.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use evenkeel_kernel::layout;
use rustix::fs::{FlockOperation, flock};

use crate::folder::private_dir;

/// Instances that may be starting at the same time: enough that the processors are never idle
/// because of it, few enough that those that are starting get somewhere.
pub(crate) const STARTING_MAX: u32 = 32;
/// Files that are tried at a time. With half of them taken, one try in sixteen finds none.
const TRIES: u32 = 4;
/// The longest pause before the next try; the pause is anything from nothing to this.
const PAUSE_MAX_MS: u64 = 500;
/// An instance that has waited for so long starts all the same: whoever holds the turns may be
/// stopped, and no wait is for ever.
pub(crate) const WAIT_MAX_MS: u64 = 60_000;
/// An instance counts as starting for so long at most.
pub(crate) const STARTING_FOR_MAX_MS: u64 = 10_000;

/// The right to be starting, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Takes one. `None` when none was found; an error when there are no such files to be had, and
    /// nobody is held up then.
    pub(crate) fn take(home: &Path) -> io::Result<Option<Self>> {
        let folder = home.join(layout::TURNS);
        let first = fastrand::u32(..STARTING_MAX);
        // A stride that shares no factor with their number visits different ones.
        let stride = fastrand::u32(..STARTING_MAX / 2) * 2 + 1;
        for i in 0..TRIES {
            let number = (first + i * stride) % STARTING_MAX;
            let lock = open(&folder, number)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { _lock: lock })),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// How long to wait before the next try.
pub(crate) fn pause_ms() -> u64 {
    fastrand::u64(0..=PAUSE_MAX_MS)
}

fn open(folder: &Path, number: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let path = folder.join(number.to_string());
    match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private_dir(folder)?;
            options.open(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_one_that_is_given_back_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let many = || (0..2_000).filter_map(|_| Turn::take(home.path()).unwrap());
        let mut held: Vec<Turn> = many().collect();
        assert_eq!(held.len(), STARTING_MAX as usize);
        held.pop();
        assert_eq!(many().collect::<Vec<_>>().len(), 1);
    }

    #[test]
    fn pauses_differ() {
        let pauses: std::collections::BTreeSet<u64> = (0..100).map(|_| pause_ms()).collect();
        assert!(pauses.len() > 20 && pauses.iter().all(|it| *it <= PAUSE_MAX_MS));
    }
}
