//! The way back: everything becomes what it was before the release.

use std::sync::Arc;
use std::time::Duration;

use super::Deciding;
use crate::model::{PoolId, RevisionNumber, ServiceName, Weight};
use crate::release::job::Attempt;
use crate::release::judge::Seen;
use crate::release::state::{Bake, Because, Note, Outcome, Phase, Release, Rollout, State};
use crate::rollout;
use crate::time::Timestamp;

impl State {
    /// Turns the release under way back.
    pub(in crate::release) fn turn_back(&mut self, because: Because, now: Timestamp) -> Vec<Note> {
        let Some(release) = self.release.as_mut().map(Arc::make_mut) else { return Vec::new() };
        let failed = because.is_failure();
        for (name, rollout) in &mut release.rollouts {
            let Some(service) = self.services.get(name) else { continue };
            let old = rollout.from.and_then(|from| service.revisions.get(&from));
            let whole = old.map_or(0, |kept| kept.active().count());
            rollout.flip = failed || whole >= service.replicas as usize;
        }
        let id = release.id;
        let text = format!("release {id} turns back: {because}");
        release.phase = Phase::TurningBack(because);
        release.since = now;
        release.progress = now;
        release.paused = None;
        release.bake = Bake::default();
        let mut notes = vec![Note { release: Some(id), kind: "release.turned-back", text }];
        for (name, run) in &release.jobs {
            if matches!(run.stage, Attempt::Running { .. }) {
                let text = format!("job {name} {} is stopped with its release", run.revision);
                notes.push(Note { release: Some(id), kind: "job.ended", text });
            }
        }
        notes
    }
}

impl Deciding<'_> {
    /// Brings everything back to what it was before the release.
    pub(super) fn go_back(&mut self, release: &Release, because: &Because) {
        for (name, rollout) in &release.rollouts {
            let Some(from) = rollout.from else {
                if let Some(service) = self.state.services.get_mut(name) {
                    service.split.clear();
                }
                self.resize(name, rollout.to, 0);
                continue;
            };
            self.go_back_to(release, name, rollout, from);
        }
        let Some(seen) = Seen::of(self.world) else { return };
        let done = release.rollouts.iter().all(|(name, rollout)| self.is_back(name, rollout, seen));
        let jobs_gone = release.jobs.keys().all(|it| self.state.job_is_gone(it, seen.platform));
        let back = done && jobs_gone && seen.edge.serving.generation >= self.state.generation;
        // Only now nobody reads the new shape of a database any more.
        if back && self.schemas_are_undone(release) {
            let outcome = match because {
                Because::Failed(_) => Outcome::RolledBack,
                Because::Aborted(_) => Outcome::Aborted,
                Because::RolledBack(_) => Outcome::FastRolledBack,
                Because::Superseded(_) => Outcome::Superseded,
            };
            self.end(release, outcome, Some(because.to_string()));
        }
    }

    /// Whether the new revision is gone and the old one is whole.
    fn is_back(&self, name: &ServiceName, rollout: &Rollout, seen: Seen<'_>) -> bool {
        let pool = PoolId::new(name, rollout.to);
        let new = self.state.side(&pool, Duration::ZERO, seen, self.moment.now);
        let replicas = self.state.services.get(name).map_or(0, |it| it.replicas);
        let old = rollout.from.map_or(replicas, |from| self.active(name, from));
        new.occupied == 0 && old >= replicas
    }

    /// Lets the old revision of one service take over again.
    fn go_back_to(
        &mut self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
        from: RevisionNumber,
    ) {
        let replicas = self.state.services.get(name).map_or(0, |it| it.replicas);
        let Some(seen) = Seen::of(self.world) else {
            // Even blind, the way back to a pool that was never touched is safe.
            if rollout.flip && self.active(name, from) >= replicas {
                self.split(name, rollout, Weight::NONE);
            }
            return;
        };
        let way = Rollout { replicas, ..rollout.clone() };
        let mut situation = self.state.situation(name, &way, seen, self.moment.now);
        // Going back, an old instance counts as soon as it is healthy, and so does a new one.
        let pool = PoolId::new(name, rollout.to);
        situation.new = self.state.side(&pool, Duration::ZERO, seen, self.moment.now);
        let target = rollout::back(&rollout.strategy, &situation);
        // What was there before may be broken for good. The way back ends all the same, because a
        // repair may be waiting behind it.
        let overdue = self.moment.now.since(release.progress) >= release.progress_deadline();
        let flips = (rollout.flip && situation.old.ready > 0) || overdue;
        let weight = match flips || situation.new.size == 0 {
            true => Weight::NONE,
            false => target.weight.min(situation.weight),
        };
        self.resize(name, from, target.old.max(situation.old.size));
        self.split(name, rollout, weight);
        let enough = situation.old.ready >= replicas;
        let new = match weight == Weight::NONE && (enough || rollout.flip || overdue) {
            // Its callers go first: what they still do is meant for it.
            true if release.has_callers(&self.state, name) && !overdue => situation.new.size,
            true => 0,
            false => target.new,
        };
        self.resize(name, rollout.to, new);
    }
}
