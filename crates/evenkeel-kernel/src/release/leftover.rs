//! Instances that the state knows nothing of: those of decisions that were lost with it.
//!
//! After a backup was restored they still run. Their names must not be given again, or another
//! revision would be taken to run already.

use super::state::State;
use crate::model::{InstanceId, PoolId};

impl State {
    /// The same state beside instances that were found: no revision to come gets the number of one
    /// of theirs.
    #[must_use]
    pub fn beside(&self, found: impl IntoIterator<Item = InstanceId>) -> Self {
        let mut state = self.clone();
        for InstanceId { pool, .. } in found {
            if let Some(service) = state.services.get_mut(&pool.service) {
                service.last_revision = service.last_revision.max(pool.revision);
            }
        }
        state
    }

    /// Whether a pool is one that was decided on in this state, so that somebody stops what is in
    /// it.
    #[must_use]
    pub fn knows(&self, pool: &PoolId) -> bool {
        self.services.get(&pool.service).is_some_and(|it| it.revisions.contains_key(&pool.revision))
    }
}
