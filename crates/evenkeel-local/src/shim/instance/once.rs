//! What runs once: a job. It is started at most once in its folder, whoever dies meanwhile, and its
//! end is told until somebody who has heard it tells the shim to go.

use super::start::ENDED_UNSEEN;
use super::{Instance, State, Then};
use crate::status::{Phase, Status};

impl Instance {
    /// It has ended by itself: what is left of it is cleared away, then that is told.
    pub(super) fn finish(&mut self, how: String, well: bool, now_ms: u64) {
        self.status.last_exit = Some(how);
        self.status.well = Some(well);
        self.state = State::clearing(Then::Stay, now_ms);
        if self.status.phase != Phase::Ended {
            // Something of it may run on, so it is not over yet.
            self.enter(Phase::Running, now_ms);
        }
    }

    /// It had begun under an earlier shim, and nobody of it is left. How it ended is known if that
    /// shim has seen it.
    pub(super) fn ended_unseen(&mut self, now_ms: u64) {
        self.status.process = None;
        match (self.status.well, self.status.last_exit.clone()) {
            (Some(well), Some(how)) => self.finish(how, well, now_ms),
            _ => self.finish(ENDED_UNSEEN.to_owned(), false, now_ms),
        }
    }

    /// It had begun in an earlier boot, or was stopped: it is not started again.
    pub(super) fn was_begun(&mut self, earlier: &Status, now_ms: u64) {
        let rebooted = earlier.boot_id != self.status.boot_id;
        let (well, how) = match (earlier.well, earlier.last_exit.clone()) {
            (Some(well), Some(how)) => (well, how),
            _ if rebooted => (false, "the machine went down while it ran".to_owned()),
            _ => (false, "it was stopped while it ran".to_owned()),
        };
        self.status.begun = true;
        self.finish(how, well, now_ms);
    }

    /// Nothing of it runs any more, and it is told how it ended.
    pub(super) fn over(&mut self, now_ms: u64) {
        // A secret lies nowhere longer than it is needed.
        let _best_effort = std::fs::remove_dir_all(self.folder.secrets());
        self.state = State::Over;
        self.enter(Phase::Ended, now_ms);
        // Lost with the power, it counts as failed, which is what the file says of it before.
        let _best_effort = self.slate.sync();
    }

    /// Waits until what is in the folder would outlast a loss of power.
    pub(super) fn settle(&self, written: bool) -> Result<(), String> {
        let synced = self.slate.sync().and_then(|()| self.folder.sync());
        match (written, synced) {
            (true, Ok(())) => Ok(()),
            (true, Err(error)) => Err(format!("its status: {error}")),
            (false, _) => Err("its status could not be written; is the disk full?".to_owned()),
        }
    }
}
