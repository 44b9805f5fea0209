//! Steering the release under way: pause, resume, promote, abort.

use super::{Accepted, Refusal};
use crate::model::Strategy;
use crate::release::state::{Because, Lock, Note, Paused, Phase, State};
use crate::time::Timestamp;
use crate::world::World;

impl State {
    pub(super) fn pause(
        &self,
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
        if release.paused.is_some() {
            let text = format!("release {id} is paused already");
            return Ok(Accepted { decision: None, release: Some(id), text });
        }
        release.paused = Some(Paused { by: by.to_owned(), because: None, since: now });
        release.bake.seen = None;
        let text = format!("release {id} paused by {by}");
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
        if release.paused.take().is_none() {
            let text = format!("release {id} is not paused");
            return Ok(Accepted { decision: None, release: Some(id), text });
        }
        release.progress = now;
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
        if release.phase == Phase::Expanding && !full {
            return Err(Refusal::new(
                format!("release {id} is still starting the new instances"),
                "wait for its first step, or use --full to skip all of them",
            ));
        }
        release.paused = None;
        release.hurried = true;
        release.progress = now;
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

    pub(super) fn approve(
        &self,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("approve")?;
        let id = release.id;
        let Some(gate) = release.gate.as_mut().filter(|gate| gate.approved_by.is_none()) else {
            return Err(Refusal::new(
                format!("release {id} waits for nobody's approval"),
                "`evenkeel why` says what it waits for",
            ));
        };
        gate.approved_by = Some(by.to_owned());
        release.progress = now;
        let text = format!("release {id} may take its next step: approved by {by}");
        Ok(self.accept_note(next, id, "gate.approved", text, world, now))
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
        Ok(self.take_back(id, Because::Aborted(by.to_owned()), world, now))
    }
}
