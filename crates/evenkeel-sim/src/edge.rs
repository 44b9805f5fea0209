//! The edge's ground truth: the table it serves, what its probes have found, what it has counted.

use std::collections::BTreeMap;
use std::rc::Rc;

use evenkeel_kernel::model::{InstanceId, PoolId, RevisionNumber, ServiceName};
use evenkeel_kernel::routing::{self, RoutingTable};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{self, Counts, Fence, Health, Readers};

use crate::load::Demand;
use crate::platform::Platform;
use crate::scenario::Behaviour;

/// How long it takes the probes to find an instance healthy.
const RISE_MS: u64 = 100;
/// How long it takes them to find that it is not.
const FALL_MS: u64 = 250;
/// How long a revision that fails its requests takes to fail ten in a row.
const STREAK_MS: u64 = 700;
/// How long an instance is watched before its load is told.
const WATCHED_MS: u64 = 1_500;
/// How long a revision that turns sick bears traffic.
const SICKENS_MS: u64 = 800;

/// What the edge knows of one instance.
#[derive(Clone, Debug)]
struct Known {
    health: Health,
    since: u64,
    added: u64,
    /// When its last request ends, once it gets no new ones.
    busy_until: Option<u64>,
    draining: Option<u64>,
}

/// What the edge has counted of one pool.
#[derive(Clone, Debug)]
struct Pool {
    routed_since: Option<u64>,
    streaks: u64,
    requests: u64,
}

/// The edge.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) up: bool,
    pub(crate) table: Rc<RoutingTable>,
    pub(crate) fence: Fence,
    pub(crate) incarnation: u64,
    pub(crate) listeners: Vec<String>,
    known: BTreeMap<InstanceId, Known>,
    pools: BTreeMap<PoolId, Pool>,
    refreshed: u64,
    /// When clients were first told that an instance gets nothing new.
    told: BTreeMap<InstanceId, u64>,
    pub(crate) demand: Demand,
    /// When each service was asked last.
    asked: BTreeMap<ServiceName, u64>,
}

impl Edge {
    pub(crate) fn new(demand: Demand) -> Self {
        Self {
            up: true,
            table: Rc::new(RoutingTable::default()),
            fence: Fence::default(),
            incarnation: 1,
            listeners: Vec::new(),
            known: BTreeMap::new(),
            pools: BTreeMap::new(),
            refreshed: 0,
            told: BTreeMap::new(),
            demand,
            asked: BTreeMap::new(),
        }
    }

    /// Serves `table` from now on. `drains` says how long requests on an instance that gets no
    /// new ones go on.
    pub(crate) fn install(
        &mut self,
        table: &Rc<RoutingTable>,
        now: u64,
        mut drains: impl FnMut() -> u64,
    ) {
        self.table = Rc::clone(table);
        self.asked.retain(|name, _| table.services.contains_key(name));
        for name in table.services.keys() {
            self.asked.entry(name.clone()).or_insert(now);
        }
        let mut known = std::mem::take(&mut self.known);
        let mut pools = std::mem::take(&mut self.pools);
        for (name, service) in &table.services {
            for (revision, pool) in &service.pools {
                let id = PoolId::new(name, *revision);
                let weighted = service.split.get(revision).is_some_and(|weight| weight.0 > 0);
                let mut counted = pools.remove(&id).unwrap_or(Pool {
                    routed_since: None,
                    streaks: 0,
                    requests: 0,
                });
                counted.routed_since =
                    if weighted { counted.routed_since.or(Some(now)) } else { None };
                for (number, instance) in &pool.instances {
                    let id = id.instance(*number);
                    let mut backend = known.remove(&id).unwrap_or(Known {
                        health: Health::Unknown,
                        since: now,
                        added: now,
                        busy_until: None,
                        draining: None,
                    });
                    backend.busy_until = match (instance.draining, backend.busy_until) {
                        (false, _) => None,
                        (true, None) => Some(now + drains()),
                        (true, until) => until,
                    };
                    if instance.draining {
                        backend.draining = backend.draining.or(Some(now));
                        self.told.entry(id.clone()).or_insert(now);
                    } else {
                        backend.draining = None;
                    }
                    self.known.insert(id, backend);
                }
                self.pools.insert(id, counted);
            }
        }
    }

    /// Starts anew with the last good table: nothing is known, nothing counted.
    pub(crate) fn restart(&mut self, now: u64) {
        self.up = true;
        self.incarnation += 1;
        self.known.clear();
        self.pools.clear();
        self.asked.clear();
        let table = Rc::clone(&self.table);
        self.install(&table, now, || 0);
    }

    /// Lets the probes and the traffic of the time up to `now` have their effect.
    pub(crate) fn refresh(&mut self, platform: &mut Platform, now: u64) {
        if !self.up {
            return;
        }
        // One that is not there has gone at some time after the last look.
        let missed = std::mem::replace(&mut self.refreshed, now);
        for (id, backend) in &mut self.known {
            let port = port_of(&self.table, id);
            let found = platform.procs.get_mut(id).filter(|it| Some(it.port) == port);
            let (well, since) = found.as_ref().map_or((false, missed), |it| it.condition(now));
            let turns = match (well, backend.health) {
                (true, Health::Unknown | Health::Unhealthy) => {
                    Some((since.max(backend.added) + RISE_MS, Health::Healthy))
                }
                (false, Health::Healthy) => {
                    Some((since.max(backend.since) + FALL_MS, Health::Unhealthy))
                }
                (true, Health::Healthy) | (false, Health::Unknown | Health::Unhealthy) => None,
            };
            if let Some((at, health)) = turns.filter(|(at, _)| now >= *at) {
                (backend.since, backend.health) = (at, health);
            }
            if let Some(found) = found {
                found.was_healthy |= well && backend.health == Health::Healthy;
            }
        }
        for (name, asked) in &mut self.asked {
            if self.demand.of(name, now) > 0 {
                *asked = now;
            }
        }
        for (id, pool) in &mut self.pools {
            let Some(since) = pool.routed_since else { continue };
            let first = id.instance(0);
            let procs =
                platform.procs.range_mut(first..).take_while(|(other, _)| other.pool == *id);
            pool.requests += 1;
            for (_, it) in procs.filter(|(_, it)| it.was_healthy) {
                match it.behaviour {
                    Behaviour::FailsRequests => {
                        pool.streaks = now.saturating_sub(since) / STREAK_MS;
                    }
                    Behaviour::TurnsSick => {
                        it.sick_at = it.sick_at.or(Some(now + SICKENS_MS));
                    }
                    Behaviour::Good | Behaviour::NeverHealthy | Behaviour::CrashLoop => {}
                }
            }
        }
    }

    /// Whether it sends new requests to the instance.
    pub(crate) fn routes_to(&self, id: &InstanceId) -> bool {
        let service = self.table.services.get(&id.pool.service);
        let pool = service.and_then(|service| service.pools.get(&id.pool.revision));
        let instance = pool.and_then(|pool| pool.instances.get(&id.slot));
        instance.is_some_and(|instance| !instance.draining)
    }

    /// Whether its probes say that the instance is not well.
    pub(crate) fn finds_ill(&self, id: &InstanceId) -> bool {
        self.known.get(id).is_some_and(|it| it.health == Health::Unhealthy)
    }

    /// The mean of an instance's requests in flight; `None` until it was watched for long enough.
    fn load(&self, id: &InstanceId, known: &Known, now: u64) -> Option<u32> {
        if now < known.added + WATCHED_MS {
            return None;
        }
        let serves =
            |id: &InstanceId, known: &Known| known.health == Health::Healthy && self.routes_to(id);
        if !serves(id, known) {
            return Some(0);
        }
        let weight = self.table.services.get(&id.pool.service)?.split.get(&id.pool.revision);
        let all = self.demand.of(&id.pool.service, now);
        let of_pool = all * u64::from(weight.map_or(0, |weight| weight.0)) / 10_000;
        let others = self.known.iter().filter(|(other, _)| other.pool == id.pool);
        let sharing = others.filter(|(other, known)| serves(other, known)).count() as u64;
        u32::try_from(of_pool / sharing.max(1)).ok()
    }

    /// Who waits: where there is nobody to answer, one of all that ask.
    fn demands(&self, now: u64) -> BTreeMap<ServiceName, world::Demand> {
        let demand = |(name, service): (&ServiceName, &routing::Service)| {
            let mut instances = service.pools.values().flat_map(|pool| pool.instances.values());
            let waits = self.demand.of(name, now) > 0 && instances.all(|it| it.draining);
            let asked = Timestamp(self.asked.get(name).copied().unwrap_or(now));
            (name.clone(), world::Demand { waiting: u32::from(waits), asked })
        };
        self.table.services.iter().map(demand).collect()
    }

    /// What an observer sees.
    pub(crate) fn observe(&self, now: u64) -> world::Edge {
        let instances = self.known.iter().map(|(id, known)| {
            let asked = || self.demand.of(&id.pool.service, now) > 0;
            let busy = known.busy_until.map_or_else(asked, |until| now < until);
            let backend = world::Backend {
                health: known.health,
                since: Timestamp(known.since),
                in_flight: u32::from(busy),
                load_milli: self.load(id, known, now),
                long_lived: 0,
                draining: known.draining.map(Timestamp),
                ..world::Backend::default()
            };
            (id.clone(), backend)
        });
        let pools = self.pools.iter().map(|(id, pool)| {
            let counts = Counts {
                requests: pool.requests,
                failed_streaks: pool.streaks,
                ..Counts::default()
            };
            (id.clone(), counts)
        });
        world::Edge {
            incarnation: self.incarnation,
            serving: self.table.fence,
            listeners: self.listeners.clone(),
            instances: instances.collect(),
            pools: pools.collect(),
            unrouted: world::Unrouted::default(),
            certificates: BTreeMap::new(),
            readers: self.readers(),
            demand: self.demands(now),
        }
    }

    /// Whether clients go to the instances of this service by themselves. `web` is reached by way
    /// of the edge only.
    pub(crate) fn is_read(name: &ServiceName) -> bool {
        name.as_str() != "web"
    }

    fn readers(&self) -> BTreeMap<ServiceName, Readers> {
        let read = self.table.services.keys().filter(|name| Self::is_read(name));
        read.map(|name| (name.clone(), Readers::default())).collect()
    }

    /// Since when clients have been told that the instance gets nothing new.
    pub(crate) fn told(&self, id: &InstanceId) -> Option<u64> {
        self.told.get(id).copied()
    }
}

/// The port at which the table expects the instance.
fn port_of(table: &RoutingTable, id: &InstanceId) -> Option<u16> {
    let pool = table.services.get(&id.pool.service)?.pools.get(&id.pool.revision)?;
    Some(pool.instances.get(&id.slot)?.addr.port())
}

/// The instances of one pool that get new requests by `table`, and their part of the traffic.
pub(crate) fn serving<'a>(
    name: &'a ServiceName,
    service: &'a routing::Service,
) -> impl Iterator<Item = (RevisionNumber, u16, Vec<InstanceId>)> + 'a {
    service.split.iter().map(|(revision, weight)| {
        let pool = service.pools.get(revision);
        let active = pool.into_iter().flat_map(|pool| &pool.instances);
        let active = active.filter(|(_, instance)| !instance.draining);
        let ids = active.map(|(number, _)| PoolId::new(name, *revision).instance(*number));
        (*revision, weight.0, ids.collect())
    })
}
