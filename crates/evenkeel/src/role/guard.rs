//! Control and edge look after the keeper, as it looks after them: if it dies without having been
//! told to end, one of them starts another. Its lock makes sure that it is only one.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::claim;
use super::start;

/// A supervisor that is there for it, such as systemd, starts a keeper sooner than this.
const OTHERS_FIRST: Duration = Duration::from_millis(500);
/// Time between two looks where there is no keeper to wait for.
const LOOK: Duration = Duration::from_millis(500);

/// Watches the keeper in a thread of its own, as long as this process lives.
pub(super) fn watch(home: &Path) -> anyhow::Result<()> {
    let home = home.to_owned();
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(move || guard(&home))
        .context("could not watch the keeper")?;
    Ok(())
}

fn guard(home: &Path) {
    loop {
        wait_for_end(home);
        std::thread::sleep(OTHERS_FIRST);
        if !claim::is_running(home, "keeper") {
            // Should it fail, the next round tries again.
            drop(start::spawn_keeper(home));
            std::thread::sleep(LOOK);
        }
    }
}

/// Returns when there is no living keeper any more.
fn wait_for_end(home: &Path) {
    let pid = claim::pid_of(home, "keeper").and_then(|pid| i32::try_from(pid).ok());
    let Some(pid) = pid.and_then(Pid::from_raw) else { return };
    let Ok(keeper) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // The pid was read from a file; only a keeper that still holds its lock is waited for.
    if !claim::is_running(home, "keeper") {
        return;
    }
    let mut fds = [PollFd::from_borrowed_fd(keeper.as_fd(), PollFlags::IN)];
    while poll(&mut fds, None).is_err() {}
}
