//! Contracting: the old goes, and the release ends when it is known to be gone.

use std::sync::Arc;

use super::Deciding;
use crate::model::{PoolId, Stack, Weight};
use crate::release::judge::Seen;
use crate::release::state::{Outcome, Past, Phase, Release, State};
use crate::world::SchemaTarget;

impl State {
    /// Whether instances are there, or listed, that are not wanted any more.
    pub(in crate::release) fn has_leaving(&self, seen: &Seen<'_>) -> bool {
        self.services.iter().any(|(name, service)| {
            service.revisions.iter().any(|(revision, kept)| {
                let pool = PoolId::new(name, *revision);
                let stays = service.stable == Some(*revision);
                let mut there = seen.platform.of_pool(&pool);
                let unwanted = there.any(|(id, _)| !kept.slots.contains_key(&id.slot));
                (!stays && !kept.slots.is_empty()) || unwanted
            })
        })
    }
}

impl Deciding<'_> {
    pub(super) fn pass_point_of_no_return(&mut self, release: &Release) {
        let wanted = &release.wanted;
        for (name, rollout) in &release.rollouts {
            if let Some(service) = self.state.services.get_mut(name) {
                service.stable = Some(rollout.to);
                service.split = [(rollout.to, Weight::ALL)].into();
            }
        }
        for (name, service) in &mut self.state.services {
            match wanted.services.get(name) {
                Some(described) => service.replicas = described.replicas,
                None => {
                    service.stable = None;
                    service.replicas = 0;
                    service.split.clear();
                }
            }
        }
        let before = std::mem::replace(&mut self.state.stack, finished(wanted));
        self.enter(Phase::Contracting);
        self.note("release.point-of-no-return", what_goes(release, &before).to_owned());
    }

    /// Ends the release when everything it replaced is known to be gone.
    pub(super) fn contract(&mut self, release: &Release) {
        let Some(seen) = Seen::of(self.world) else { return };
        // Only now nobody reads the old shape of a database any more.
        if !self.state.has_leaving(&seen) && self.schemas_reach(release, SchemaTarget::Contracted) {
            let outcome = match release.hurried {
                true => Outcome::FastPromoted,
                false => Outcome::Promoted,
            };
            self.end(release, outcome, None);
        }
    }

    pub(super) fn end(&mut self, release: &Release, outcome: Outcome, because: Option<String>) {
        let id = release.id;
        self.note(
            "release.ended",
            match &because {
                Some(because) => format!("release {id} ended: {outcome}, {because}"),
                None => format!("release {id} ended: {outcome}"),
            },
        );
        let moved = release.rollouts.iter();
        let judged = moved.clone().filter(|(_, it)| !it.judged.is_empty());
        let judged = judged.map(|(name, it)| (name.clone(), it.judged.clone()));
        self.state.remember(Past {
            id,
            kind: release.kind,
            by: release.by.clone(),
            started: release.started,
            ended: self.moment.now,
            outcome,
            because,
            moved: moved.map(|(name, it)| (name.clone(), (it.from, it.to))).collect(),
            ledger: release.ledger.as_of(self.world.edge.known()),
            approvals: release.approvals.clone(),
            judged: judged.collect(),
        });
        self.state.release = None;
    }
}

impl State {
    /// Adds a release to those that are remembered.
    pub(in crate::release) fn remember(&mut self, past: Past) {
        self.past.push(Arc::new(past));
        let excess = self.past.len().saturating_sub(Self::PAST_MAX);
        self.past.drain(..excess);
    }
}

/// A stack of which nothing is to be changed any more.
pub(in crate::release) fn finished(wanted: &Arc<Stack>) -> Arc<Stack> {
    if wanted.databases.values().all(|it| it.change.is_none()) {
        return Arc::clone(wanted);
    }
    let mut stack = Stack::clone(wanted);
    for database in stack.databases.values_mut() {
        database.change = None;
    }
    Arc::new(stack)
}

/// One sentence on what the point of no return means for this release.
fn what_goes(release: &Release, before: &Stack) -> &'static str {
    let replaces = release.rollouts.values().any(|rollout| rollout.from.is_some());
    let removes = before.services.keys().any(|name| !release.wanted.services.contains_key(name));
    if replaces || removes {
        "the old revisions are stopped now"
    } else if release.plan.contract.is_empty() {
        "nothing was replaced, so nothing is stopped"
    } else {
        "what is not wanted any more is stopped now"
    }
}
