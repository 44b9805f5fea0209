//! Shifting: the traffic of one service after another moves, step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Deciding;
use crate::analysis::{Track, Verdict, percent};
use crate::model::{Gate, NoData, ServiceName, Weight};
use crate::release::judge::Seen;
use crate::release::state::{self, Phase, Release, Rollout};
use crate::rollout;
use crate::time::human;

/// A step that sees too few requests is watched for so many times its bake.
pub(in crate::release) const WITHOUT_REQUESTS_MAX: u32 = 3;

/// What a step has not shown yet.
struct Missing {
    /// For people, after the name of the revision.
    what: String,
    /// Nothing speaks against the revision; nothing speaks at all.
    is_silence: bool,
}

/// What opens a gate, and for whom; of the webhook only where it is.
pub(in crate::release) fn openers(gate: &Gate) -> String {
    let by = match gate.approvers.is_empty() {
        true => String::new(),
        false => format!(" by {}", gate.approvers.join(" or ")),
    };
    let own = if gate.own { "" } else { ", not by who asked for the release," };
    let webhook = gate.webhook.as_ref().map(|it| format!("the webhook {} or ", it.to));
    format!("{}`evenkeel approve`{by}{own}", webhook.unwrap_or_default())
}

impl Deciding<'_> {
    /// Moves the traffic of one service, one step at a time.
    pub(super) fn shift(&mut self, release: &Release, index: usize, step: usize) {
        let Some((name, rollout, _)) = release.moving() else { return self.promote(release) };
        if release.paused.is_some() {
            return self.stop_bake();
        }
        if !self.reaches(name, rollout, step) {
            return;
        }
        let is_new = rollout.from.is_none();
        let watched = rollout::watched(&rollout.strategy, step, is_new);
        let bake = watched.map_or(Duration::ZERO, |step| step.bake);
        if !self.bake(bake) || (watched.is_some() && !self.has_shown_enough(release, bake)) {
            return;
        }
        if watched.is_some_and(|step| step.gate.is_some()) && !self.is_let_through(release) {
            return;
        }
        self.tell_passed(release, watched.map(|step| step.bake));
        if step + 1 < rollout::steps(&rollout.strategy, is_new) {
            self.enter(Phase::Shifting { service: index, step: step + 1 });
        } else if index + 1 < release.order.len() {
            self.enter(Phase::Shifting { service: index + 1, step: 0 });
        } else {
            self.promote(release);
        }
    }

    /// Whether somebody has approved that the step is left; else it waits at its gate.
    fn is_let_through(&mut self, release: &Release) -> bool {
        if release.bake.waived {
            return true;
        }
        if let Some(gate) = &release.gate {
            return gate.approved_by.is_some();
        }
        let Some((name, rollout, step)) = release.moving() else { return true };
        let text = format!(
            "{name} {} waits at the gate of step {}: {} lets it pass",
            rollout.to,
            step + 1,
            release.gate_policy().map(openers).unwrap_or_default()
        );
        self.note("gate.reached", text);
        let now = self.moment.now;
        if let Some(release) = self.state.release_mut() {
            release.gate = Some(state::Gate { since: now, approved_by: None, asked: None });
        }
        false
    }

    /// Says what a step that was watched has shown.
    fn tell_passed(&mut self, release: &Release, bake: Option<Duration>) {
        let (Some(bake), Some((name, rollout, step))) = (bake, release.moving()) else { return };
        if release.bake.waived {
            return;
        }
        let edge = self.world.edge.known();
        let asked = release.step_requests(edge).map_or(0, |(asked, _)| asked);
        let standings = edge.map(|edge| self.state.standings(name, rollout, edge));
        let errors = standings.into_iter().flatten().find(|it| it.track == Track::Errors);
        let told = match errors.filter(|_| asked > 0) {
            Some(errors) => format!(
                ", {asked} requests, {} failed beside {} of {}",
                percent(errors.canary.rate()),
                percent(errors.stable.rate()),
                rollout.from.map(|from| from.to_string()).unwrap_or_default(),
            ),
            None => String::new(),
        };
        let text = format!(
            "{name} {} passed step {}: healthy for {}{told}",
            rollout.to,
            step + 1,
            human(bake)
        );
        self.note("step.passed", text);
    }

    /// Whether the step has seen as many requests as it must, and its checks have passed. Without
    /// that it is watched for longer, and then it is held or goes on, as its service wants it.
    fn has_shown_enough(&mut self, release: &Release, bake: Duration) -> bool {
        let Some(missing) = self.missing(release).filter(|_| !release.bake.waived) else {
            return true;
        };
        let patience = release.patience(bake);
        if !self.bake(patience) {
            return false;
        }
        let Some((name, rollout, _)) = release.moving() else { return true };
        let no_data = release.wanted.services.get(name).map(|it| it.rollout.analysis.no_data);
        if missing.is_silence && no_data == Some(NoData::Promote) {
            return true;
        }
        let (to, missing) = (rollout.to, missing.what);
        let reason = format!("{name} {to} {missing} in {}", human(patience));
        self.note("release.held", format!("held because {reason}"));
        let now = self.moment.now;
        if let Some(release) = self.state.release_mut() {
            release.hold(reason, now);
            // Whoever resumes it wants it to be watched for as long again.
            release.bake.healthy = bake;
        }
        false
    }

    /// What the step has not shown yet.
    fn missing(&self, release: &Release) -> Option<Missing> {
        let requests = release.step_requests(self.world.edge.known());
        if let Some((asked, needed)) = requests.filter(|(asked, needed)| asked < needed) {
            let what = format!("was asked {asked} of {needed} requests");
            return Some(Missing { what, is_silence: true });
        }
        let (name, rollout, _) = release.moving()?;
        let (check, _) = release.awaited_check(name, rollout)?;
        let said = rollout.checks.get(check).and_then(|it| it.said.as_ref());
        let told = said.map(|it| format!(" ({})", it.text)).unwrap_or_default();
        Some(Missing {
            what: format!("has not passed check {check}{told}"),
            is_silence: said.is_none_or(|it| it.verdict == Verdict::Inconclusive),
        })
    }

    /// Brings the pools and the split to where the step wants them. Returns whether they are
    /// there, and the edge serves it.
    fn reaches(&mut self, name: &ServiceName, rollout: &Rollout, step: usize) -> bool {
        let Some(seen) = Seen::of(self.world) else { return false };
        let situation = self.state.situation(name, rollout, seen, self.moment.now);
        let target = rollout::target(&rollout.strategy, step, &situation);
        let new = self.paced(name, rollout.to, target.new);
        self.resize(name, rollout.to, new);
        if let Some(from) = rollout.from {
            self.resize(name, from, target.old);
        }
        self.split(name, rollout, target.weight);
        if target.weight != situation.weight {
            let (weight, to) = (target.weight, rollout.to);
            self.note("split.changed", format!("{name}: {weight} of the traffic goes to {to}"));
            return false;
        }
        let reached = target.reached && seen.edge.serving.generation >= self.state.generation;
        if !reached {
            self.stop_bake();
        }
        reached
    }

    /// All traffic is on the new revisions: the routes follow, the old is kept warm.
    fn promote(&mut self, release: &Release) {
        if release.paused.is_some() {
            return;
        }
        self.enter(Phase::Baking);
        let bake = self.state.bake(release);
        let text = match bake.is_zero() {
            true => "promoted".to_owned(),
            false => format!("promoted; what it replaced is kept for {}", human(bake)),
        };
        self.note("release.promoted", text);
    }

    /// Gives the new revision `weight` and the old one the rest. A revision without instances
    /// gets nothing.
    pub(super) fn split(&mut self, name: &ServiceName, rollout: &Rollout, weight: Weight) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        let weight =
            if rollout.from.is_some() || weight == Weight::NONE { weight } else { Weight::ALL };
        let mut split = BTreeMap::new();
        if weight.0 > 0 {
            split.insert(rollout.to, weight);
        }
        if let Some(from) = rollout.from.filter(|_| weight.rest().0 > 0) {
            split.insert(from, weight.rest());
        }
        service.split = split;
    }
}
