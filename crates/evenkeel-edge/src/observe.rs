//! What an edge says of itself when it is asked.

use std::sync::Arc;

use crate::clock::now_ms;
use crate::protocol::{Instance, Observation};
use crate::shared::Shared;

/// What it holds and counts itself.
pub(crate) fn own(shared: &Shared) -> Observation {
    let table = shared.table.load_full();
    let now = now_ms();
    let instance = |it: &Arc<crate::instance::Instance>| Instance {
        id: it.id.clone(),
        health: it.reported(),
        age_ms: now.saturating_sub(it.since_ms()),
        in_flight: it.in_flight(),
        load_milli: it.load.milli(),
        long_lived: it.long_lived(),
        lately: it.tallies.lately(now),
    };
    let counts = |pool: &Arc<crate::table::Pool>| {
        let in_flight = pool.instances.iter().map(|it| u64::from(it.in_flight())).sum();
        (pool.id.clone(), pool.counts.read(in_flight))
    };
    Observation {
        incarnation: shared.succession.incarnation(),
        serving: table.source.fence,
        listeners: shared.listeners.borrow().keys().cloned().collect(),
        instances: table.instances.values().map(instance).collect(),
        pools: table.services.values().flat_map(|it| &it.pools).map(counts).collect(),
        unrouted: shared.rejections.read(),
    }
}

/// The same with what its elders hold and count.
pub(crate) fn all(shared: &Shared) -> Observation {
    shared.succession.elders().join(own(shared))
}
