//! What is watched whatever phase a release is in: the watching itself, the new instances, the
//! edge that counts, and whether the release has failed.

use super::Deciding;
use crate::model::{PoolId, ServiceName, Weight};
use crate::release::analyse::{Judged, Watched};
use crate::release::judge::Seen;
use crate::release::state::{Because, Rollout, State};
use crate::routing::Slow;
use crate::world::Edge;

impl Deciding<'_> {
    /// Carries the ledger over as soon as another edge process counts.
    pub(super) fn keep_ledger(&mut self) {
        let Some(edge) = self.world.edge.known() else { return };
        let stale = self.state.release.as_ref().is_some_and(|it| it.ledger.is_stale(edge));
        if stale && let Some(release) = self.state.release_mut() {
            release.ledger.read(edge);
        }
    }

    /// Time in which something could not be seen is neither healthy time nor lack of progress.
    pub(super) fn watch_the_watching(&mut self) {
        let sees = Seen::of(self.world).is_some();
        let now = self.moment.now;
        let blind = self.state.release.as_ref().and_then(|release| release.blind);
        if sees == blind.is_none() {
            return;
        }
        let Some(release) = self.state.release_mut() else { return };
        match blind {
            None => {
                release.blind = Some(now);
                release.bake.seen = None;
                for rollout in release.rollouts.values_mut() {
                    rollout.unwell = None;
                }
            }
            Some(since) => {
                release.blind = None;
                release.progress = release.progress.after(now.since(since));
            }
        }
    }

    /// Keeps the mark since when too few of the new instances are well.
    pub(super) fn watch_wellness(&mut self) {
        let Some(seen) = Seen::of(self.world) else { return };
        let Some(release) = &self.state.release else { return };
        let doubted = |name, rollout| self.state.health_is_doubted(name, rollout, seen);
        let is_unwell =
            |name, rollout| self.state.is_unwell(name, rollout, seen) && !doubted(name, rollout);
        let turned: Vec<(ServiceName, bool)> = release
            .rollouts
            .iter()
            .map(|(name, rollout)| (name, rollout.unwell.is_some(), is_unwell(name, rollout)))
            .filter(|(_, before, now)| before != now)
            .map(|(name, _, now)| (name.clone(), now))
            .collect();
        if turned.is_empty() {
            return;
        }
        let now = self.moment.now;
        let Some(release) = self.state.release_mut() else { return };
        for (name, unwell) in turned {
            if let Some(rollout) = release.rollouts.get_mut(&name) {
                rollout.unwell = unwell.then_some(now);
            }
        }
    }

    /// Holds a release whose health checks tell nothing about its new revision.
    pub(super) fn watch_the_checks(&mut self) {
        let Some(seen) = Seen::of(self.world) else { return };
        let Some(release) = self.state.forward().filter(|it| it.paused.is_none()) else { return };
        let mut rollouts = release.rollouts.iter();
        let doubted = rollouts.find(|(name, it)| self.state.health_is_doubted(name, it, seen));
        let Some((name, _)) = doubted else { return };
        let reason = format!(
            "most instances of {name} run and fail their health checks, the old as the new: that \
             says nothing about the new revision"
        );
        self.note("release.held", format!("held because {reason}"));
        let now = self.moment.now;
        if let Some(release) = self.state.release_mut() {
            release.hold(reason, now);
        }
    }

    /// Takes in what the requests of both revisions tell.
    pub(super) fn watch_requests(&mut self) {
        let Some(edge) = self.world.edge.known() else { return };
        let Some(release) = self.state.forward() else { return };
        let now = self.moment.now;
        let gathered = release.rollouts.iter().filter_map(|(name, rollout)| {
            Some((name.clone(), self.state.gathered(release, name, rollout, edge, now)?))
        });
        let gathered: Vec<(ServiceName, Watched)> = gathered.collect();
        let slow: Vec<(ServiceName, Slow)> = release
            .rollouts
            .iter()
            .filter_map(|(name, rollout)| {
                let analysis = &release.wanted.services.get(name)?.rollout.analysis;
                let known = self.state.services.get(name)?.slow.is_some();
                let stable = edge.pools.get(&PoolId::new(name, rollout.from?))?;
                let wanted = analysis.latency && !known;
                let slow = wanted.then(|| Slow::by(&stable.latency, analysis.warm_up))?;
                Some((name.clone(), slow?))
            })
            .collect();
        for (name, slow) in slow {
            if let Some(service) = self.state.services.get_mut(&name) {
                service.slow = Some(slow);
            }
        }
        if gathered.is_empty() {
            return;
        }
        let judged: Vec<(ServiceName, Vec<Judged>)> = gathered
            .iter()
            .filter_map(|(name, watched)| Some((name.clone(), self.judged(name, watched, edge)?)))
            .collect();
        let Some(release) = self.state.release_mut() else { return };
        for (name, watched) in gathered {
            if let Some(rollout) = release.rollouts.get_mut(&name) {
                rollout.watched = watched;
            }
        }
        for (name, judged) in judged {
            if let Some(rollout) = release.rollouts.get_mut(&name) {
                rollout.judged = judged;
            }
        }
    }

    /// How the requests of a service compare by now, until all traffic has moved.
    fn judged(&self, name: &ServiceName, watched: &Watched, edge: &Edge) -> Option<Vec<Judged>> {
        let rollout = self.state.release.as_ref()?.rollouts.get(name)?;
        let left = self.state.services.get(name)?.weight(rollout.from?);
        if left == Weight::NONE {
            return None;
        }
        let rollout = Rollout { watched: watched.clone(), ..rollout.clone() };
        let standings = self.state.standings(name, &rollout, edge).into_iter();
        let judged: Vec<Judged> = standings.map(Judged::from).collect();
        (!judged.is_empty()).then_some(judged)
    }

    /// Takes in what the checks were answered, and asks what is due.
    pub(super) fn watch_checks(&mut self) {
        let Some((release, told)) = self.state.checked(self.world, self.moment.now) else { return };
        self.state.release = Some(release);
        for told in told {
            self.note(told.kind, told.text);
        }
    }

    /// Takes in what the webhook of the gate was answered, and asks it when that is due.
    pub(super) fn watch_gate(&mut self) {
        let Some((release, told)) = self.state.at_gate(self.world, self.moment.now) else { return };
        self.state.release = Some(release);
        if let Some(told) = told {
            self.note(told.kind, told.text);
        }
    }

    /// Takes the release back, or holds it, if it fails.
    pub(super) fn fail(&mut self) {
        let Some(release) = self.state.forward() else { return };
        let now = self.moment.now;
        let Some(mut failure) = self.state.failure(release, self.world, now) else { return };
        for name in &failure.culprits {
            failure.reason.extend(self.state.harm(release, name, self.world.edge.known()));
        }
        let paused = release.paused.is_some();
        let automatic = release.rollouts.keys().all(|name| {
            release.wanted.services.get(name).is_none_or(|service| service.rollout.auto_rollback)
        });
        if automatic {
            for name in &failure.culprits {
                self.state.hold_back(name, &failure.reason);
            }
            let notes = self.state.turn_back(Because::Failed(failure.reason), now);
            self.notes.extend(notes);
        } else if !paused {
            let reason = failure.reason;
            self.note("release.held", format!("held because {reason}; auto_rollback is off"));
            if let Some(release) = self.state.release_mut() {
                release.hold(reason, now);
            }
        }
    }
}

impl State {
    /// Remembers that the new revision of `name` is bad, so that it is not tried again unasked.
    fn hold_back(&mut self, name: &ServiceName, reason: &str) {
        let Some(release) = &self.release else { return };
        let Some(rollout) = release.rollouts.get(name) else { return };
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(kept) = service.revisions.get(&rollout.to) else { return };
        service.held_back.insert(kept.revision.digest.clone(), reason.to_owned());
        while service.held_back.len() > Self::HELD_BACK_MAX {
            service.held_back.pop_first();
        }
    }
}
