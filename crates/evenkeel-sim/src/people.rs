//! People: they wait for their moment, and then act on whichever controller is there.

use std::collections::VecDeque;
use std::rc::Rc;

use evenkeel_kernel::model::PoolId;
use evenkeel_kernel::release::{
    Accepted, Action, Because, Change, Kind, Phase, Prospect, Refusal, State,
};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{Health, World};

use crate::bug::Bug;
use crate::invariants::{Checked, broken};
use crate::scenario::{Act, What, When};
use crate::simulation::Simulation;

/// How long a person waits for a release to end before they act all the same.
const PATIENCE_MS: u64 = 18_000;
/// How long a person waits for a phase that may never come.
const PHASE_PATIENCE_MS: u64 = 4_000;
/// How long a held release is left alone once nothing else happens.
const HELD_MS: u64 = 3_000;

/// What people are still going to do.
#[derive(Debug)]
pub(crate) struct People {
    acts: VecDeque<Act>,
    waiting_since: u64,
    armed_at: Option<u64>,
}

impl People {
    pub(crate) fn new(acts: Vec<Act>) -> Self {
        Self { acts: acts.into(), waiting_since: 0, armed_at: None }
    }

    /// Whether they have done all they wanted.
    pub(crate) fn are_done(&self) -> bool {
        self.acts.is_empty()
    }

    /// The act whose moment has come.
    fn due(&mut self, state: &State, now: u64) -> Option<What> {
        let act = self.acts.front()?;
        if self.waiting_since == 0 {
            self.waiting_since = now;
        }
        let waited = now - self.waiting_since;
        let ready = match act.when {
            When::Later => true,
            When::Settled => {
                (state.release.is_none() && state.queued.is_none()) || waited > PATIENCE_MS
            }
            When::Phase(name) => {
                state.release.as_ref().is_some_and(|release| release.phase.name() == name)
                    || waited > PHASE_PATIENCE_MS
            }
        };
        if ready && self.armed_at.is_none() {
            self.armed_at = Some(now + act.delay_ms);
        }
        if self.armed_at.is_none_or(|at| now < at) {
            return None;
        }
        self.armed_at = None;
        self.waiting_since = now;
        self.acts.pop_front().map(|act| act.what)
    }
}

impl Simulation {
    /// What a person asks the controller for now, answered by the kernel.
    pub(crate) fn person_acts(
        &mut self,
        state: &Rc<State>,
        world: &World,
    ) -> Result<Option<State>, crate::invariants::Violation> {
        let now = self.now;
        let what = match self.people.due(&self.store.state, now) {
            Some(what) => what,
            None if self.is_given_up(state) => What::Rollback,
            None => return Ok(None),
        };
        if let Some(edited) = self.planted_rollback(&what, state) {
            return Ok(Some(edited));
        }
        let (mut action, text) = action(what);
        // Who edits the file here means it.
        if let Action::Change(change) = &mut action
            && let Prospect::Release { removal, .. } =
                state.prospect(&change.wanted, false, world, Timestamp(now))
        {
            change.expect_destroy = Some(removal.gone);
        }
        let takes_part =
            !matches!(action, Action::Pause { .. } | Action::Resume | Action::Scale { .. });
        let turns_back = matches!(action, Action::Abort { .. } | Action::Rollback { to: None, .. });
        let under_way = state.release.as_ref().map(|release| release.id);
        match state.act(action, "someone", world, Timestamp(now)) {
            Ok(Accepted { decision, text: answer, .. }) => {
                self.say(|| format!("someone: {text}: {answer}"));
                let Some(decision) = decision else { return Ok(None) };
                if let Some(release) = under_way.filter(|_| takes_part) {
                    self.checker.touch(release);
                }
                for note in &decision.notes {
                    self.say(|| format!("  {}: {}", note.kind, note.text));
                }
                if turns_back {
                    flips_at_once(&decision.state, world)?;
                }
                Ok(Some(decision.state))
            }
            Err(Refusal { reason, .. }) => {
                self.say(|| format!("someone: {text}: refused: {reason}"));
                Ok(None)
            }
        }
    }

    /// A release that is held for good is taken back by a person in the end.
    fn is_given_up(&self, state: &State) -> bool {
        let calm = self.calm_since.is_some_and(|since| self.now > since + HELD_MS);
        calm && state.forward().is_some_and(|release| release.paused.is_some())
    }

    /// The planted way back from contract.
    fn planted_rollback(&self, what: &What, state: &State) -> Option<State> {
        let wanted = self.bug == Some(Bug::RollbackInContract)
            && matches!(what, What::Rollback | What::Abort);
        let contracting =
            state.release.as_ref().is_some_and(|release| release.phase == Phase::Contracting);
        if !(wanted && contracting) {
            return None;
        }
        let mut edited = state.clone();
        let release = std::sync::Arc::make_mut(edited.release.as_mut()?);
        release.phase = Phase::TurningBack(Because::RolledBack("someone".to_owned()));
        Some(edited)
    }
}

fn action(what: What) -> (Action, String) {
    match what {
        What::Apply { stack, force } => {
            let (wanted, kind) = (*stack, Kind::Apply);
            let change = Change { wanted, kind, force, hotfix: None, expect_destroy: None };
            (Action::Change(Box::new(change)), "apply".to_owned())
        }
        What::Pause => (Action::Pause { reason: None }, "pause".to_owned()),
        What::Resume => (Action::Resume, "resume".to_owned()),
        What::Promote { full } => (Action::Promote { full }, "promote".to_owned()),
        What::Abort => (Action::Abort { reason: None }, "abort".to_owned()),
        What::Rollback => {
            (Action::Rollback { to: None, force: true, reason: None }, "rollback".to_owned())
        }
        What::Scale { service, replicas } => {
            let text = format!("scale {service} {replicas}");
            (Action::Scale { service, replicas }, text)
        }
        What::Restart { service } => {
            let text = format!("restart {service}");
            (Action::Restart { services: vec![service], force: true }, text)
        }
    }
}

/// The decision that takes a release back moves the traffic, where the old pool can carry it.
fn flips_at_once(state: &State, world: &World) -> Checked {
    let Some(release) = &state.release else { return Ok(()) };
    let (Phase::TurningBack(_), Some(edge)) = (&release.phase, world.edge.known()) else {
        return Ok(());
    };
    for (name, rollout) in &release.rollouts {
        let Some(from) = rollout.from.filter(|_| rollout.flip) else { continue };
        let service = &state.services[name];
        let Some(old) = service.revisions.get(&from) else { continue };
        let well = old.active().any(|(number, _)| {
            let backend = edge.instances.get(&PoolId::new(name, from).instance(number));
            backend.is_some_and(|backend| backend.health == Health::Healthy)
        });
        if well && world.platform.known().is_some() && service.weight(rollout.to).0 > 0 {
            return broken("flips-at-once", format!("{name} still sends to {}", rollout.to));
        }
    }
    Ok(())
}
