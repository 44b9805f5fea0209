//! What people ask for: a change, a pause, a promotion, a way back. Each is a function from a
//! state to another state, or to the reason why not.

mod approve;
mod back;
mod change;
mod hold;
mod size;
mod steer;

use std::fmt;
use std::time::Duration;

use back::Back;
pub use change::Prospect;

use super::decide::Decision;
use super::state::{Kind, Note, Release, State};
use crate::model::{ReleaseId, RevisionNumber, ServiceName, Stack};
use crate::time::Timestamp;
use crate::world::World;

/// A stack to lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What is wanted.
    pub wanted: Stack,
    /// What asks for it.
    pub kind: Kind,
    /// Go ahead although the same revision was taken back before.
    pub force: bool,
    /// Why it cannot wait: it passes a lock, and takes one short step instead of those of its
    /// services.
    pub hotfix: Option<String>,
    /// How many instances its sender expects to go for good; needed where it takes most of a
    /// service away.
    pub expect_destroy: Option<u32>,
}

/// What a person can ask of the release under way, or of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Lead to another stack.
    Change(Box<Change>),
    /// Stay at the present step.
    Pause {
        /// Why, if they say so.
        reason: Option<String>,
    },
    /// Go on after a pause.
    Resume,
    /// Take the next step now; with `full`, all of them. After promotion: contract now.
    Promote {
        /// To all traffic.
        full: bool,
    },
    /// Let a step pass that waits at its gate.
    Approve {
        /// Why they do although they may not.
        force: Option<String>,
    },
    /// Let nothing new be released, but for hotfixes.
    Lock {
        /// Why.
        reason: String,
    },
    /// Let changes be released again.
    Unlock,
    /// Stop and go back, before all traffic has moved.
    Abort {
        /// Why, if they say so.
        reason: Option<String>,
    },
    /// Go back, whatever the release has reached; after it ended, by a new release.
    Rollback {
        /// One service and the revision it goes back to, by default the one before; else everything
        /// the last release moved.
        to: Option<(ServiceName, Option<RevisionNumber>)>,
        /// Go ahead although that revision was taken back before, or this undoes a way back.
        force: bool,
        /// Why, if they say so.
        reason: Option<String>,
    },
    /// Let the requests of a service wait.
    Hold {
        /// Which service.
        service: ServiceName,
        /// For how long, at most; from now on, if they wait already.
        lasts: Duration,
        /// Why, if they say so.
        reason: Option<String>,
    },
    /// Serve them again.
    Unhold {
        /// Which service.
        service: ServiceName,
    },
    /// Have so many instances of a service.
    Scale {
        /// Which service.
        service: ServiceName,
        /// How many.
        replicas: u32,
    },
    /// Replace all instances of these services by fresh ones of the same content.
    Restart {
        /// Which services; none is all.
        services: Vec<ServiceName>,
        /// Go ahead although that ends the release under way.
        force: bool,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The state to commit, and the journal's notes. `None` when all is as asked for already.
    pub decision: Option<Decision>,
    /// The release that does it, if one does.
    pub release: Option<ReleaseId>,
    /// One sentence for the person who asked.
    pub text: String,
}

/// Why a request is refused, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What speaks against it: a lower-case fragment.
    pub reason: String,
    /// What to do instead.
    pub hint: Option<String>,
}

impl Refusal {
    fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: Some(hint.into()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

impl State {
    /// Does what `by` asks for.
    ///
    /// # Errors
    ///
    /// When it cannot be done now; nothing has changed then.
    pub fn act(
        &self,
        action: Action,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        match action {
            Action::Change(change) => self.change(*change, by, world, now),
            Action::Pause { reason } => self.pause(reason.as_deref(), by, world, now),
            Action::Resume => self.resume(by, world, now),
            Action::Promote { full } => self.promote(full, by, world, now),
            Action::Approve { force } => self.approve(force.as_deref(), by, world, now),
            Action::Lock { reason } => Ok(self.lock(reason, by, world, now)),
            Action::Unlock => Ok(self.unlock(by, world, now)),
            Action::Abort { reason } => self.abort(reason.as_deref(), by, world, now),
            Action::Rollback { to, force, reason } => {
                let back = Back { to, force, reason: reason.as_deref() };
                self.roll_back(back, by, world, now)
            }
            Action::Hold { service, lasts, reason } => {
                self.hold(&service, lasts, reason.as_deref(), by, world, now)
            }
            Action::Unhold { service } => self.unhold(&service, by, world, now),
            Action::Scale { service, replicas } => self.scale(&service, replicas, by, world, now),
            Action::Restart { services, force } => self.restart(&services, force, by, world, now),
        }
    }

    fn release_under_way(&mut self, what: &str) -> Result<&mut Release, Refusal> {
        self.release_mut().ok_or_else(|| {
            Refusal::new(
                format!("there is no release under way to {what}"),
                "`evenkeel history` lists the releases",
            )
        })
    }

    fn accept_note(
        &self,
        next: Self,
        id: ReleaseId,
        kind: &'static str,
        text: String,
        world: &World,
        now: Timestamp,
    ) -> Accepted {
        let notes = vec![Note { release: Some(id), kind, text: text.clone() }];
        self.accept(next, notes, Some(id), text, world, now)
    }

    fn accept(
        &self,
        mut next: Self,
        notes: Vec<Note>,
        release: Option<ReleaseId>,
        text: String,
        world: &World,
        now: Timestamp,
    ) -> Accepted {
        // What follows from it at once is part of the same commit: an abort moves the traffic
        // with the very next table.
        let mut notes = notes;
        if let Some(more) = next.decide(world, now) {
            next = more.state;
            notes.extend(more.notes);
        }
        next.generation = self.generation;
        next.finish_decision(self, world, now);
        Accepted { decision: Some(Decision { state: next, notes }), release, text }
    }
}
