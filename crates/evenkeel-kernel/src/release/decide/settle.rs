//! Settling: the size that every pool comes to rest at, whatever a release does elsewhere.

use super::Deciding;
use crate::model::{RevisionNumber, ServiceName, Strategy, Weight};
use crate::release::state::{Phase, Release};

impl Deciding<'_> {
    /// A strategy that leaves the old pool whole does so when the service is scaled meanwhile.
    pub(super) fn keep_old_whole(&mut self, release: &Release) {
        for (name, rollout) in &release.rollouts {
            let rolls = matches!(rollout.strategy, Strategy::Rolling { .. });
            let untouched = !rolls || release.phase == Phase::Expanding;
            let Some(from) = rollout.from.filter(|_| untouched) else { continue };
            let replicas = self.state.services.get(name).map_or(0, |it| it.replicas);
            self.resize(name, from, replicas);
        }
    }

    /// Services that no rollout moves have their stable revision, whole, and nothing else.
    pub(super) fn settle(&mut self) {
        let rolling = self.state.release.as_ref().filter(|it| it.phase != Phase::Contracting);
        let moved = |name: &ServiceName| rolling.is_some_and(|it| it.rollouts.contains_key(name));
        let names: Vec<ServiceName> =
            self.state.services.keys().filter(|name| !moved(name)).cloned().collect();
        for name in names {
            self.settle_service(&name);
        }
    }

    fn settle_service(&mut self, name: &ServiceName) {
        let wanted = self.state.forward().and_then(|release| release.wanted.services.get(name));
        let wanted = wanted.map_or(0, |service| service.replicas);
        let Some(service) = self.state.services.get_mut(name) else { return };
        let (own, replicas) = (service.replicas, service.replicas.max(wanted));
        let stable = service.stable;
        if let Some(stable) = stable
            && !(service.split.len() == 1 && service.weight(stable) == Weight::ALL)
        {
            service.split = [(stable, Weight::ALL)].into();
        }
        let revisions: Vec<RevisionNumber> = service.revisions.keys().copied().collect();
        for revision in revisions {
            if stable == Some(revision) {
                let lost = self.state.succeed_lost(name, revision, self.world, self.moment);
                // Only what a release adds is paced; what is there is kept whole at once.
                let whole = own.max(self.paced(name, revision, replicas));
                self.resize(name, revision, whole + lost);
            } else if self.state.running_job(name) != Some(revision) {
                self.resize(name, revision, 0);
            }
        }
    }

    pub(super) fn resize(&mut self, name: &ServiceName, revision: RevisionNumber, size: u32) {
        self.state.resize(name, revision, size, self.world, self.moment);
    }

    pub(super) fn resize_to_at_least(
        &mut self,
        name: &ServiceName,
        revision: RevisionNumber,
        size: u32,
    ) {
        let size = self.paced(name, revision, size);
        if self.active(name, revision) < size {
            self.resize(name, revision, size);
        }
    }

    /// How many instances of the pool are meant to serve.
    pub(super) fn active(&self, name: &ServiceName, revision: RevisionNumber) -> u32 {
        self.state.active(name, revision)
    }
}
