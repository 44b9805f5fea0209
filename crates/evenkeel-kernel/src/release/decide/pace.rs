//! The pace of starting: so many instances may be on their way up at one time, over all services of
//! a release, so that a release of a hundred does not take the machine from what serves on it.
//!
//! Ways back are not slowed down, and what keeps the stable revision whole is not either.

use super::Deciding;
use crate::model::{PoolId, RevisionNumber, ServiceName};
use crate::release::state::{Kind, Release};
use crate::world::Health;

impl Deciding<'_> {
    /// The part of `size` that the pool may have now: what it has, and as many more as may be
    /// started beside those that are on their way up.
    pub(super) fn paced(&self, name: &ServiceName, revision: RevisionNumber, size: u32) -> u32 {
        let Some(release) = self.state.forward().filter(|it| it.kind != Kind::Rollback) else {
            return size;
        };
        let Some(starts) = release.wanted.pace.starts else { return size };
        let free = starts.saturating_sub(self.starting(release));
        size.min(self.active(name, revision).saturating_add(free))
    }

    /// Instances that were decided by this release and have not been well yet, as far as anybody can
    /// see. What ends before it is well keeps its place, until its release is taken back for it.
    fn starting(&self, release: &Release) -> u32 {
        let edge = self.world.edge.known();
        let services = self.state.services.iter();
        let kept = services.flat_map(|(name, service)| {
            service
                .revisions
                .iter()
                .map(move |(revision, kept)| (PoolId::new(name, *revision), kept))
        });
        let starting = kept.flat_map(|(pool, kept)| {
            let fresh = kept.active().filter(|(_, slot)| slot.since >= release.started);
            let unwell = fresh.filter(|(number, _)| {
                let backend = edge.and_then(|edge| edge.instances.get(&pool.instance(*number)));
                backend.is_none_or(|backend| backend.health != Health::Healthy)
            });
            unwell.map(|(number, _)| number).collect::<Vec<u32>>()
        });
        u32::try_from(starting.count()).unwrap_or(u32::MAX)
    }
}
