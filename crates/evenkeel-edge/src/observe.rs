//! What an edge says of itself when it is asked.

use std::sync::Arc;

use evenkeel_kernel::model::{self, CertificateName, CertificateSource};

use crate::clock::now_ms;
use crate::protocol::{Certificate, Demand, Failed, Good, Instance, Observation};
use crate::shared::Shared;
use crate::table::Table;
use crate::validity;

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
        draining_ms: it.draining_since_ms().map(|since| now.saturating_sub(since)),
        lately: it.tallies.lately(now),
    };
    let counts = |pool: &Arc<crate::table::Pool>| {
        let in_flight = pool.instances.iter().map(|it| u64::from(it.in_flight())).sum();
        (pool.id.clone(), pool.counts.read(in_flight))
    };
    let demand = |it: &Arc<crate::table::Service>| Demand {
        service: it.name.clone(),
        waiting: u32::try_from(it.queue.waiting()).unwrap_or(u32::MAX),
        age_ms: now.saturating_sub(it.asked.last_ms()),
    };
    Observation {
        incarnation: shared.succession.incarnation(),
        serving: table.source.fence,
        listeners: shared.listeners.borrow().keys().cloned().collect(),
        instances: table.instances.values().map(instance).collect(),
        pools: table.services.values().flat_map(|it| &it.pools).map(counts).collect(),
        unrouted: shared.rejections.read(),
        certificates: certificates(shared, &table),
        readers: shared.directory.readers(&table),
        demand: table.services.values().map(demand).collect(),
    }
}

/// Each certificate that is to be shown: the one that is, and what went wrong with the next.
fn certificates(shared: &Shared, table: &Table) -> Vec<Certificate> {
    let now = validity::now();
    let span = |until: i64| until.saturating_sub(now).max(0).unsigned_abs();
    let attempts = shared.attempts.all();
    let state = |(name, it): (&CertificateName, &model::Certificate)| {
        let good = shared.certificates.validity(name);
        let failed = match it.from {
            CertificateSource::Acme => attempts
                .get(name)
                .map(|it| Failed { why: it.why.clone(), again: Some(span(it.next)) }),
            CertificateSource::Files { .. } => {
                shared.certificates.why_not(name).map(|why| Failed { why, again: None })
            }
        };
        Certificate {
            name: name.clone(),
            good: good.map(|it| Good { from: it.from, until: it.until, left: span(it.until) }),
            failed,
        }
    };
    table.source.shown.certificates.iter().map(state).collect()
}

/// The same with what its elders hold and count.
pub(crate) fn all(shared: &Shared) -> Observation {
    shared.succession.elders().join(own(shared))
}
