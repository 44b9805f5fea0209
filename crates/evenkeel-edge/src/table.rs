//! The routing table as it is served: the kernel's snapshot with the living objects in it.
//!
//! A table never changes; the next one takes over the instances, counters and budgets of the one
//! before. It knows nothing of HTTP beyond a host and a path.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_kernel::model::{
    Balance, InstanceId, Matches, Mirror, PoolId, Protocol, RevisionNumber, ServiceName, Sticky,
    Traffic, UpstreamTls,
};
use evenkeel_kernel::routing::{self, RoutingTable};
use evenkeel_kernel::world::Health;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::clock::ms;
use crate::counts::PoolCounts;
use crate::demand::Asked;
use crate::ewma::SEED_MS;
use crate::hold::Held;
use crate::instance::{Instance, Patience};
use crate::limits::Limits;
use crate::queue::Queue;
use crate::rate::Meter;
use crate::ring::Ring;
use crate::route::{Routes, Target};
use crate::telemetry::requests::{OfRoute, Requests};
use crate::wake::Wake;

/// What a new table needs beside its predecessor.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) threads: usize,
    pub(crate) wake: Arc<Wake>,
    pub(crate) limits: Limits,
}

#[cfg(test)]
impl Surroundings {
    /// One thread, the default limits, and nobody to wake.
    pub(crate) fn plain() -> Self {
        Self { threads: 1, wake: Wake::silent(), limits: Limits::default() }
    }
}

/// The table that is served.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) source: RoutingTable,
    pub(crate) services: BTreeMap<ServiceName, Arc<Service>>,
    pub(crate) instances: BTreeMap<InstanceId, Arc<Instance>>,
    pub(crate) routes: Routes,
    listeners: BTreeMap<String, (Arc<Service>, Option<RevisionNumber>)>,
    tcp: BTreeMap<String, Arc<Service>>,
}

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    pub(crate) traffic: Traffic,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) testers: Option<(Matches, RevisionNumber)>,
    pub(crate) mirror: Option<(Mirror, RevisionNumber)>,
    pub(crate) pools: Vec<Arc<Pool>>,
    /// Places in `pools` that have a weight, with it.
    pub(crate) weights: Vec<(usize, u32)>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) queue: Arc<Queue>,
    held: Arc<Held>,
    pub(crate) asked: Arc<Asked>,
}

/// One pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) health: routing::Health,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<UpstreamTls>,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) counts: Arc<PoolCounts>,
    pub(crate) balance: Balance,
    /// The places of its instances by hash, where that is how they are picked.
    pub(crate) ring: Ring,
    /// Requests to it from inside.
    pub(crate) inside: Arc<Requests>,
    /// The queue of its service.
    pub(crate) queue: Arc<Queue>,
    /// From when on an answer of its service is slow, once that is known.
    pub(crate) slow: Option<routing::Slow>,
}

impl Table {
    /// The table for `source`, with everything that lives on from this one. `assumed` says which
    /// new instances are believed to be healthy.
    pub(crate) fn next(
        &self,
        source: RoutingTable,
        around: &Surroundings,
        assumed: &dyn Fn(&InstanceId) -> bool,
    ) -> Self {
        let mut next = Self::default();
        for (name, service) in &source.services {
            let service = self.service(name, service, around, assumed);
            for pool in &service.pools {
                let named = pool.instances.iter().map(|it| (it.id.clone(), Arc::clone(it)));
                next.instances.extend(named);
            }
            next.services.insert(name.clone(), Arc::new(service));
        }
        next.index(&source, self, around);
        next.source = source;
        next
    }

    fn service(
        &self,
        name: &ServiceName,
        source: &routing::Service,
        around: &Surroundings,
        assumed: &dyn Fn(&InstanceId) -> bool,
    ) -> Service {
        let before = self.services.get(name);
        let queue = before.map(|it| Arc::clone(&it.queue)).unwrap_or_default();
        let pool = |(revision, pool): (&RevisionNumber, &routing::Pool)| {
            let id = PoolId::new(name, *revision);
            let known = before.and_then(|it| it.pools.iter().find(|pool| pool.id == id));
            let counts = known.map(|pool| Arc::clone(&pool.counts));
            let inside = known.map(|pool| Arc::clone(&pool.inside));
            let inside = inside.unwrap_or_else(|| Arc::new(Requests::new(around.threads)));
            let instance = |(slot, it): (&u32, &routing::Instance)| {
                let id = id.instance(*slot);
                let known = self.instances.get(&id).filter(|known| known.addr == it.addr);
                known.map(Arc::clone).unwrap_or_else(|| {
                    let assumed = assumed(&id);
                    let new = Instance::new(id, it.addr, assumed, around);
                    new.set_bounds(&source.traffic);
                    Arc::new(new)
                })
            };
            let instances = pool.instances.iter().map(instance).collect();
            let counts = counts.unwrap_or_else(|| Arc::new(PoolCounts::new(around.threads)));
            let health = pool.health.clone();
            let (queue, slow) = (Arc::clone(&queue), source.slow);
            let balance = source.traffic.balance.clone();
            let ring = match balance {
                Balance::Hash(_) => Ring::of(pool.instances.keys()),
                Balance::PeakEwma | Balance::LeastRequest | Balance::RoundRobin => Ring::default(),
            };
            let (protocol, tls) = (pool.protocol, pool.tls.clone());
            Arc::new(Pool {
                id,
                health,
                protocol,
                tls,
                instances,
                counts,
                balance,
                ring,
                inside,
                queue,
                slow,
            })
        };
        let weight = |(place, revision): (usize, &RevisionNumber)| {
            let weight = source.split.get(revision).map_or(0, |weight| u32::from(weight.0));
            (weight > 0).then_some((place, weight))
        };
        Service {
            name: name.clone(),
            traffic: source.traffic.clone(),
            sticky: source.sticky.clone(),
            testers: source.testers.clone(),
            mirror: source.mirror.clone(),
            pools: source.pools.iter().map(pool).collect(),
            weights: source.pools.keys().enumerate().filter_map(weight).collect(),
            budget: before.map(|it| Arc::clone(&it.budget)).unwrap_or_default(),
            queue,
            held: before.map(|it| Arc::clone(&it.held)).unwrap_or_default(),
            asked: before.map(|it| Arc::clone(&it.asked)).unwrap_or_default(),
        }
    }

    fn index(&mut self, source: &RoutingTable, before: &Self, around: &Surroundings) {
        for route in &source.routes {
            let service = route.route.to().and_then(|to| self.services.get(to)).map(Arc::clone);
            let known = before.routes.named(&route.name, route.revision);
            let meter = route.route.policy.rate.map(|rate| {
                let known = known.and_then(|it| it.meter.as_ref());
                let same = known.filter(|meter| meter.rate == rate).map(Arc::clone);
                same.unwrap_or_else(|| Arc::new(Meter::new(rate)))
            });
            let pools = service.iter().flat_map(|it| &it.pools).map(|pool| &pool.id);
            let requests = OfRoute::next(known.map(|it| &it.requests), pools, around.threads);
            self.routes.add(Target { source: route.clone(), service, meter, requests });
        }
        for (listener, tcp) in &source.tcp {
            if let Some(service) = self.services.get(&tcp.service) {
                self.tcp.insert(listener.clone(), Arc::clone(service));
            }
        }
        for (name, service) in &source.services {
            let Some(it) = self.services.get(name) else { continue };
            let open = service.listener.iter().map(|listener| (listener, None));
            for (listener, affine) in open.chain(service.pinned.iter().map(|(it, to)| (it, *to))) {
                self.listeners.insert(listener.clone(), (Arc::clone(it), affine));
            }
        }
    }

    /// Makes the instances drain, serve, or drain because this table no longer has them. Called
    /// right before the table is served.
    pub(crate) fn settle(&self, before: &Self) {
        for (id, instance) in &before.instances {
            let kept = self.instances.get(id).is_some_and(|now| Arc::ptr_eq(now, instance));
            if !kept {
                instance.set_draining(true, before.patience(id));
            }
        }
        for (name, service) in &self.services {
            service.held.follow(self.source.services.get(name).and_then(|it| it.hold));
        }
        for (id, instance) in &self.instances {
            let draining = self.source_instance(id).is_some_and(|it| it.draining);
            instance.set_draining(draining, self.patience(id));
            if let Some(service) = self.source.services.get(&id.pool.service) {
                instance.set_bounds(&service.traffic);
            }
        }
    }

    fn source_pool(&self, id: &InstanceId) -> Option<&routing::Pool> {
        self.source.services.get(&id.pool.service)?.pools.get(&id.pool.revision)
    }

    fn source_instance(&self, id: &InstanceId) -> Option<&routing::Instance> {
        self.source_pool(id)?.instances.get(&id.slot)
    }

    fn patience(&self, id: &InstanceId) -> Patience {
        self.source_pool(id).map_or(Patience { requests_ms: 0, long_lived_ms: 0 }, |pool| {
            Patience { requests_ms: ms(pool.drain), long_lived_ms: ms(pool.drain_long_lived) }
        })
    }

    /// Makes every request that waits look again.
    pub(crate) fn wake_waiting(&self) {
        self.services.values().for_each(|it| it.queue.wake_all());
    }

    /// Whether nothing was ever served: not an answer to "which route", only "not yet".
    pub(crate) fn is_empty(&self) -> bool {
        self.source == RoutingTable::default()
    }

    pub(crate) fn has_pool(&self, pool: &PoolId) -> bool {
        let service = self.source.services.get(&pool.service);
        service.is_some_and(|it| it.pools.contains_key(&pool.revision))
    }

    /// Whether new requests may go to the instance.
    pub(crate) fn routes_to(&self, id: &InstanceId) -> bool {
        self.source_instance(id).is_some_and(|it| !it.draining)
    }

    /// The service behind an internal listener, and the revision that answers there if it can.
    pub(crate) fn by_listener(
        &self,
        listener: &str,
    ) -> Option<(&Arc<Service>, Option<RevisionNumber>)> {
        self.listeners.get(listener).map(|(service, affine)| (service, *affine))
    }

    /// The service behind a door for what is not HTTP, and whether it is told who calls.
    pub(crate) fn by_tcp(&self, listener: &str) -> Option<(&Arc<Service>, bool)> {
        let service = self.tcp.get(listener)?;
        Some((service, self.source.tcp.get(listener).is_some_and(|it| it.proxy_protocol)))
    }
}

impl Service {
    /// Until when its requests wait, whoever could answer them; `None`: they do not.
    pub(crate) fn held(&self) -> Option<Instant> {
        self.held.until()
    }

    /// Whether it has nobody who could ever answer: not one that is unwell, none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.pools.iter().flat_map(|pool| &pool.instances).all(|it| it.is_draining())
    }

    /// Requests its instances answer now.
    pub(crate) fn in_flight(&self) -> u32 {
        let instances = self.pools.iter().flat_map(|pool| &pool.instances);
        instances.fold(0, |sum: u32, it| sum.saturating_add(it.in_flight()))
    }
}

impl Pool {
    /// The speed a new instance is assumed to have: the median of those that are healthy.
    pub(crate) fn seed_ms(&self, now_ms: u64) -> f32 {
        let healthy = self.instances.iter().filter(|it| it.believed() == Health::Healthy);
        let mut known: Vec<f32> =
            healthy.filter(|it| it.warmth(now_ms) >= 1.0).map(|it| it.ewma.value(now_ms)).collect();
        known.sort_by(f32::total_cmp);
        known.get(known.len() / 2).copied().unwrap_or(SEED_MS)
    }

    /// Whether one more instance may be taken for unhealthy because of failed connections: never the
    /// last one, and never more than half. Beyond that only probes decide; a fault that all share
    /// must not leave one instance with the load of all.
    pub(crate) fn may_eject(&self) -> bool {
        let staying = self.instances.iter().filter(|it| !it.is_draining());
        let (mut all, mut healthy) = (0_usize, 0_usize);
        for it in staying {
            all += 1;
            healthy += usize::from(it.believed() == Health::Healthy);
        }
        let left = healthy.saturating_sub(1);
        left > 0 && left * 2 >= all
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::Weight;

    use super::*;
    use crate::fixtures::{pool, service_table};

    /// How many of a pool's instances can be ejected one after the other, when so many of them
    /// drain.
    fn ejected(instances: usize, draining: usize) -> usize {
        let addrs = vec!["127.0.0.1:1".parse().unwrap(); instances];
        let source = service_table(1, vec![(1, Weight::ALL, pool(addrs))]);
        let table = Table::default().next(source, &Surroundings::plain(), &|_| true);
        let web = table.services.values().next().unwrap();
        let pool = web.pools.first().unwrap();
        for it in pool.instances.iter().take(draining) {
            it.set_draining(true, Patience { requests_ms: 0, long_lived_ms: 0 });
        }
        pool.instances.iter().skip(draining).take_while(|it| pool.may_eject() && it.eject()).count()
    }

    #[test]
    fn half_of_a_pool_may_be_ejected_and_never_the_last() {
        let ejected = [1, 2, 3, 4, 5, 10].map(|instances| ejected(instances, 0));
        assert_eq!(ejected, [0, 1, 1, 2, 2, 5]);
    }

    #[test]
    fn who_drains_is_not_one_of_those_who_stay() {
        assert_eq!(ejected(2, 1), 0);
        assert_eq!(ejected(4, 2), 1);
    }
}
