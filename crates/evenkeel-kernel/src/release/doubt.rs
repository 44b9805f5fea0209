//! Health checks that are not believed: when most instances of the old and of the new revision run
//! and yet fail their checks, that is the check's doing, or that of something both depend on.
//!
//! It says nothing about the new revision. So nothing is taken back and nothing goes on: the
//! release is held until a person has looked.

use super::judge::Seen;
use super::state::{Rollout, State};
use crate::model::{PoolId, ServiceName};
use crate::world::{Health, InstancePhase};

impl State {
    /// Whether the health of this rollout's instances tells nothing about its new revision.
    pub(super) fn health_is_doubted(
        &self,
        name: &ServiceName,
        rollout: &Rollout,
        seen: Seen<'_>,
    ) -> bool {
        let doubted = |revision| self.most_fail_their_check(&PoolId::new(name, revision), seen);
        rollout.from.is_some_and(doubted) && doubted(rollout.to)
    }

    /// Whether more than half of a pool's instances run and are found unhealthy.
    fn most_fail_their_check(&self, pool: &PoolId, seen: Seen<'_>) -> bool {
        let Some(kept) = self.kept(&pool.service, pool.revision) else { return false };
        let fails = |slot: u32| {
            let id = pool.instance(slot);
            let runs = |it: &crate::world::Instance| it.phase == InstancePhase::Running;
            let unhealthy = |it: &crate::world::Backend| it.health == Health::Unhealthy;
            seen.platform.instances.get(&id).is_some_and(runs)
                && seen.edge.instances.get(&id).is_some_and(unhealthy)
        };
        let (size, failing) =
            (kept.active().count(), kept.active().filter(|(slot, _)| fails(*slot)).count());
        failing * 2 > size
    }
}
