//! Steering the release under way: pause, resume, promote, abort.

use super::{Accepted, Refusal};
use crate::model::Strategy;
use crate::release::state::{Because, Lock, Note, Paused, Phase, State};
use crate::time::Timestamp;
use crate::world::World;

/// What can be done about a release that a freeze holds.
const HELD_BY_FREEZE: &str = "it goes on by itself when the freeze is over; `evenkeel abort` goes \
                              back, and `evenkeel apply --hotfix REASON` goes past it";

/// Who did something, and why if they said so.
pub(super) fn with_reason(by: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| by.to_owned(), |reason| format!("{by} ({reason})"))
}

impl State {
    pub(super) fn pause(
        &self,
        reason: Option<&str>,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("pause")?;
        if !release.phase.is_forward() {
            let text = format!("release {} is {}", release.id, release.phase.name());
            return Err(Refusal::new(text, "it ends by itself; there is nothing to pause"));
        }
        let id = release.id;
        // What a freeze holds would go on by itself; a person's pause outlasts it.
        if release.paused.as_ref().is_some_and(|paused| paused.freeze.is_none()) {
            let text = format!("release {id} is paused already");
            return Ok(Accepted { decision: None, release: Some(id), text });
        }
        release.paused =
            Some(Paused { by: by.to_owned(), because: None, since: now, freeze: None });
        release.bake.seen = None;
        let text = format!("release {id} paused by {}", with_reason(by, reason));
        Ok(self.accept_note(next, id, "release.paused", text, world, now))
    }

    pub(super) fn resume(
        &self,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("resume")?;
        let id = release.id;
        if let Some(name) = release.paused.as_ref().and_then(|paused| paused.freeze.clone()) {
            let reason = release.paused.as_ref().and_then(|paused| paused.because.clone());
            let text = format!("freeze {name} holds release {id}: {}", reason.unwrap_or_default());
            return Err(Refusal::new(text, HELD_BY_FREEZE));
        }
        if release.paused.take().is_none() {
            let text = format!("release {id} is not paused");
            return Ok(Accepted { decision: None, release: Some(id), text });
        }
        release.progress = now;
        release.pardon_checks();
        release.forgive_jobs();
        let text = format!("release {id} resumed by {by}");
        Ok(self.accept_note(next, id, "release.resumed", text, world, now))
    }

    pub(super) fn promote(
        &self,
        full: bool,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("promote")?;
        let id = release.id;
        if !release.phase.is_forward() {
            let text = format!("release {id} is {}", release.phase.name());
            return Err(Refusal::new(text, "it ends by itself; there is nothing to promote"));
        }
        if let Some((name, closed)) = self.holding(release, world, now) {
            let text = format!("freeze {name} holds release {id}: {}", closed.reason);
            return Err(Refusal::new(text, HELD_BY_FREEZE));
        }
        release.refuse_to_skip(full, by)?;
        if release.phase == Phase::Expanding && !full {
            return Err(Refusal::new(
                format!("release {id} is still starting the new instances"),
                "wait for its first step, or use --full to skip all of them",
            ));
        }
        if !full {
            release.note_approval(by, now);
        }
        release.paused = None;
        release.hurried = true;
        release.progress = now;
        release.pardon_checks();
        if full && release.phase != Phase::Baking {
            for rollout in release.rollouts.values_mut() {
                // One step remains: everything.
                if matches!(rollout.strategy, Strategy::Canary { .. }) {
                    rollout.strategy = Strategy::Canary { steps: Vec::new() };
                }
            }
            if let Phase::Shifting { step, .. } = &mut release.phase {
                *step = 0;
            }
        } else {
            release.bake.waived = true;
        }
        let text = if release.phase == Phase::Baking {
            format!("release {id} is contracted now, by {by}")
        } else if full {
            format!("release {id} is promoted to all traffic by {by}")
        } else {
            format!("release {id} is promoted to its next step by {by}")
        };
        Ok(self.accept_note(next, id, "release.promoted-by-hand", text, world, now))
    }

    pub(super) fn lock(&self, reason: String, by: &str, world: &World, now: Timestamp) -> Accepted {
        let mut next = self.clone();
        let lock = Lock { by: by.to_owned(), reason, since: now };
        let text = match &self.lock {
            Some(before) => format!("{lock} (before: by {}, {})", before.by, before.reason),
            None => lock.to_string(),
        };
        next.lock = Some(lock);
        let notes = vec![Note { release: None, kind: "lock.closed", text: text.clone() }];
        // How many instances serve is no matter of releases: load does not wait for a sale to end.
        let text = format!("{text}; `evenkeel scale`, hotfixes and ways back still work");
        self.accept(next, notes, None, text, world, now)
    }

    pub(super) fn unlock(&self, by: &str, world: &World, now: Timestamp) -> Accepted {
        let mut next = self.clone();
        if next.lock.take().is_none() {
            let text = "nothing is locked".to_owned();
            return Accepted { decision: None, release: None, text };
        }
        let text = format!("changes may be released again: unlocked by {by}");
        let notes = vec![Note { release: None, kind: "lock.opened", text: text.clone() }];
        self.accept(next, notes, None, text, world, now)
    }

    pub(super) fn abort(
        &self,
        reason: Option<&str>,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("abort")?;
        let id = release.id;
        match release.phase {
            Phase::Expanding | Phase::Shifting { .. } | Phase::TurningBack(_) => {}
            Phase::Baking => {
                return Err(Refusal::new(
                    format!("release {id} is promoted already"),
                    "use `evenkeel rollback`; it is instant while the old revision is warm",
                ));
            }
            Phase::Contracting => {
                return Err(Refusal::new(
                    format!("release {id} has passed its point of no return"),
                    "use `evenkeel rollback`; it starts a new release back",
                ));
            }
        }
        Ok(self.take_back(id, Because::Aborted(with_reason(by, reason)), world, now))
    }
}
