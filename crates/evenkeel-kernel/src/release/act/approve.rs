//! Gates: who lets a step pass, and who may not.

use super::{Accepted, Refusal};
use crate::model::Gate;
use crate::release::state::{Approval, Phase, Release, State};
use crate::rollout;
use crate::time::Timestamp;
use crate::world::World;

/// How somebody passes a gate who may not.
const BREAK_GLASS: &str =
    "`evenkeel approve --force REASON` lets it pass all the same, and is loud in the journal";

impl State {
    pub(super) fn approve(
        &self,
        force: Option<&str>,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("approve")?;
        let id = release.id;
        let refuses = release.gate_policy().and_then(|gate| gate.refuses(by, &release.by));
        let moving = release.moving().map(|(service, _, step)| (service.clone(), step));
        let gate = release.gate.as_mut().filter(|gate| gate.approved_by.is_none());
        let (Some(gate), Some((service, step))) = (gate, moving) else {
            return Err(Refusal::new(
                format!("release {id} waits for nobody's approval"),
                "`evenkeel why` says what it waits for",
            ));
        };
        let forced = match (&refuses, force) {
            (Some(reason), None) => {
                let text = format!("release {id} does not wait for this approval: {reason}");
                return Err(Refusal::new(text, BREAK_GLASS));
            }
            (Some(_), Some(reason)) => Some(reason.to_owned()),
            (None, _) => None,
        };
        gate.approved_by = Some(by.to_owned());
        release.progress = now;
        let (kind, text) = match (&forced, refuses) {
            (Some(reason), Some(refused)) => (
                "gate.forced",
                format!(
                    "release {id} may take its next step: FORCED by {by}, {reason} ({refused})"
                ),
            ),
            (_, _) => {
                ("gate.approved", format!("release {id} may take its next step: approved by {by}"))
            }
        };
        let approval = Approval { service, step, by: by.to_owned(), at: now, forced };
        release.approvals.push(approval);
        Ok(self.accept_note(next, id, kind, text, world, now))
    }
}

impl Release {
    /// What the gate of the present step asks for, if it has one.
    #[must_use]
    pub fn gate_policy(&self) -> Option<&Gate> {
        let (_, rollout, step) = self.moving()?;
        let watched = rollout::watched(&rollout.strategy, step, rollout.from.is_none())?;
        watched.gate.as_ref()
    }

    /// Takes down that `by` lets the present step pass by promoting it, if it has a gate that
    /// nobody has opened yet.
    pub(super) fn note_approval(&mut self, by: &str, now: Timestamp) {
        let opened = self.gate.as_ref().is_some_and(|gate| gate.approved_by.is_some());
        if opened || self.gate_policy().is_none() {
            return;
        }
        let Some((service, step)) = self.moving().map(|(name, _, step)| (name.clone(), step))
        else {
            return;
        };
        self.approvals.push(Approval { service, step, by: by.to_owned(), at: now, forced: None });
    }

    /// Refuses a promotion by hand past a gate that `by` may not open: of the present step, or with
    /// `full` of any that is left.
    pub(super) fn refuse_to_skip(&self, full: bool, by: &str) -> Result<(), Refusal> {
        let place = match self.phase {
            Phase::Shifting { service, step } => (service, step),
            Phase::Expanding => (0, 0),
            Phase::Baking | Phase::Contracting | Phase::TurningBack(_) => return Ok(()),
        };
        let services = self.order.iter().enumerate().filter(|(index, _)| *index >= place.0);
        for (index, name) in services {
            let Some(rollout) = self.rollouts.get(name) else { continue };
            let first = if index == place.0 { place.1 } else { 0 };
            let is_new = rollout.from.is_none();
            for step in first..rollout::steps(&rollout.strategy, is_new) {
                let here = (index, step) == place;
                let approved =
                    here && self.gate.as_ref().is_some_and(|gate| gate.approved_by.is_some());
                if approved || !(here || full) {
                    continue;
                }
                let watched = rollout::watched(&rollout.strategy, step, is_new);
                let gate = watched.and_then(|step| step.gate.as_ref());
                if let Some(reason) = gate.and_then(|gate| gate.refuses(by, &self.by)) {
                    let step = step + 1;
                    let text = format!("step {step} of {name} has a gate: {reason}");
                    return Err(Refusal::new(text, BREAK_GLASS));
                }
            }
        }
        Ok(())
    }
}
