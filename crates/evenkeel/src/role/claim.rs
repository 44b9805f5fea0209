//! One process per role and home: a locked file says that it lives, a pid file says which it is.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use evenkeel_kernel::layout;

/// How often the lock is tried: long enough for any number of mere looks to pass.
const TRIES: u32 = 20;
/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Being the only process of a role; given up when it is dropped or the process ends, however it
/// ends.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
    pid_file: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock is what counts; a number that is left behind only misleads people.
        drop(std::fs::remove_file(&self.pid_file));
    }
}

/// Becomes the only process of `role`.
pub(super) fn take(home: &Path, role: &str) -> anyhow::Result<Claim> {
    let lock = lock_file(home, role)?;
    let mut tries = TRIES;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            // Someone who only looks whether the role lives holds the lock for a moment, and shares
            // it. Who has the role does not, and is not waited for: one that was started beside it
            // must not take its place when it is told to end.
            Err(TryLockError::WouldBlock) if tries > 0 && lock.try_lock_shared().is_ok() => {
                lock.unlock().context("could not give up a look at a lock")?;
                tries -= 1;
                std::thread::sleep(PAUSE);
            }
            Err(TryLockError::WouldBlock) => bail!("{role} runs already for {}", home.display()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock {role}"));
            }
        }
    }
    let about = home.join(layout::about_file(role));
    std::fs::write(&about, super::about()?)
        .with_context(|| format!("could not write {}", about.display()))?;
    write_pid(home, role)?;
    Ok(Claim { _lock: lock, pid_file: home.join(layout::pid_file(role)) })
}

/// Whether a process of `role` lives.
pub(crate) fn is_running(home: &Path, role: &str) -> bool {
    let Ok(file) = File::open(home.join(lock_name(role))) else { return false };
    // A shared lock is refused exactly while the role's own is held; it is given up at once.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The pid of the living process of `role`.
pub(crate) fn pid_of(home: &Path, role: &str) -> Option<u32> {
    if !is_running(home, role) {
        return None;
    }
    std::fs::read_to_string(home.join(layout::pid_file(role))).ok()?.trim().parse().ok()
}

fn lock_name(role: &str) -> String {
    format!("{}/{role}.lock", layout::RUN)
}

fn lock_file(home: &Path, role: &str) -> anyhow::Result<File> {
    let path = home.join(lock_name(role));
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))
}

/// Written beside and renamed, so that a reader never sees half a number.
fn write_pid(home: &Path, role: &str) -> anyhow::Result<()> {
    let path = home.join(layout::pid_file(role));
    let fresh = home.join(format!("{}/.{role}.pid", layout::RUN));
    std::fs::write(&fresh, format!("{}\n", std::process::id()))
        .and_then(|()| std::fs::rename(&fresh, &path))
        .with_context(|| format!("could not write {}", path.display()))
}
