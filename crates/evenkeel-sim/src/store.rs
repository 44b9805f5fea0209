//! The store: one durable state, fenced by epoch, and the ways a commit can go.

use std::rc::Rc;

use evenkeel_kernel::model::Epoch;
use evenkeel_kernel::release::State;

/// What a controller learns of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is durable.
    Yes,
    /// Another controller has claimed the store since.
    Fenced,
    /// It may be durable or not; only a fresh start can tell.
    Unknown,
}

/// How the disk behaves at one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It works.
    Works,
    /// It is full: nothing is written.
    Full,
    /// It fails after writing.
    FailsAfter,
    /// It fails before writing.
    FailsBefore,
}

/// The durable state.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) state: Rc<State>,
    pub(crate) epoch: Epoch,
}

impl Store {
    /// Claims the next epoch for a controller that starts.
    pub(crate) fn claim(&mut self) -> Epoch {
        self.epoch = self.epoch.next();
        self.epoch
    }

    /// Commits `state` for the controller of `epoch`.
    pub(crate) fn commit(
        &mut self,
        epoch: Epoch,
        state: &Rc<State>,
        disk: Disk,
        fenced: bool,
    ) -> Committed {
        if fenced && epoch != self.epoch {
            return Committed::Fenced;
        }
        match disk {
            Disk::Works => {
                self.state = Rc::clone(state);
                Committed::Yes
            }
            Disk::FailsAfter => {
                self.state = Rc::clone(state);
                Committed::Unknown
            }
            Disk::Full | Disk::FailsBefore => Committed::Unknown,
        }
    }
}
