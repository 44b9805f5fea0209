//! What should be true now, read off the state alone: the same state always wants the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::affinity::Pins;
use super::hold::Held;
use super::state::{Phase, Release, Service, Stage, State, service_listener};
use crate::layout;
use crate::model::{
    Epoch, Exposed, PoolId, Probe, Protocol, RevisionNumber, Route, RouteName, Scale, ServiceName,
    Strategy, TcpRoute, Workload,
};
use crate::routing::{self, RoutingTable};
use crate::want::{self, Want};
use crate::world::Fence;

impl State {
    /// Everything that should be true, in the order in which it is made true: sockets before the
    /// table that serves on them, the table before the pools it unroutes.
    #[must_use]
    pub fn wants(&self, epoch: Epoch) -> Vec<Want> {
        let fence = Fence { epoch, generation: self.generation };
        let serving = self.serving();
        let table = self.table_of(fence, &serving);
        let mut wants = vec![Want::Listeners(self.listeners()), Want::Table(Box::new(table))];
        for (name, service) in &self.services {
            let serves = serving.contains(name);
            for revision in service.revisions.keys() {
                let pool = self.pool(name, service, *revision, fence, serves);
                wants.push(Want::Pool(Box::new(pool)));
            }
        }
        wants.push(Want::Checks(self.wanted_checks()));
        wants.push(Want::Schemas(self.wanted_schemas()));
        wants
    }

    /// The table the edge should serve.
    #[must_use]
    pub fn table(&self, fence: Fence) -> RoutingTable {
        self.table_of(fence, &self.serving())
    }

    fn table_of(&self, fence: Fence, serving: &BTreeSet<&ServiceName>) -> RoutingTable {
        let there = self.services.iter().filter(|(_, service)| service.is_there());
        let mut pins = self.pins();
        let services = there.map(|(name, service)| {
            let pinned = pins.remove(name).unwrap_or_default();
            (name.clone(), self.entry(name, service, pinned, serving.contains(name)))
        });
        let in_force = self.forward().map_or(&self.stack, |release| &release.wanted);
        let mut table = RoutingTable {
            fence,
            stack: Some(in_force.name.clone()),
            discovery: in_force.discovery.clone(),
            services: services.collect(),
            tcp: self.tcp(),
            shown: self.shown(),
            telemetry: self.settings().edge.telemetry.clone(),
            routes: self.routes().iter().map(|(name, route)| route_entry(name, route)).collect(),
        };
        let known = |it: &routing::Route| match it.route.to() {
            Some(service) => table.services.contains_key(service),
            None => true,
        };
        table.routes.retain(known);
        table.routes.extend(self.previews());
        table.sort_routes();
        table
    }

    /// Routes under which the new revision of a blue-green rollout can be looked at.
    pub(super) fn previews(&self) -> Vec<routing::Route> {
        self.release.iter().flat_map(|release| previews(self, release)).collect()
    }

    /// Everything that requests can reach: by the released stack, or by the one on its way.
    fn serving(&self) -> BTreeSet<&ServiceName> {
        let next = self.release.iter().flat_map(|release| release.wanted.serving());
        self.stack.serving().into_iter().chain(next).collect()
    }

    fn entry(
        &self,
        name: &ServiceName,
        service: &Service,
        pinned: Pins,
        serves: bool,
    ) -> routing::Service {
        let pools = service.serving().filter(|(_, kept)| !kept.slots.is_empty());
        let pools: BTreeMap<RevisionNumber, routing::Pool> = pools
            .map(|(revision, kept)| {
                let workload = &kept.revision.workload;
                let instances = kept.slots.iter().map(|(number, slot)| {
                    let addr = ([127, 0, 0, 1], slot.port).into();
                    let draining = slot.stage != Stage::Active;
                    (*number, routing::Instance { addr, draining })
                });
                let pool = routing::Pool {
                    health: health(workload, serves),
                    protocol: workload.protocol,
                    tls: workload.tls.clone(),
                    instances: instances.collect(),
                    drain: workload.stop.drain,
                    drain_long_lived: workload.stop.drain_long_lived,
                };
                (*revision, pool)
            })
            .collect();
        // One that sleeps sends nothing to those who are on their way out.
        let asleep = service.sleeps();
        let split = service
            .split
            .iter()
            .filter(|(revision, weight)| weight.0 > 0 && pools.contains_key(revision))
            .filter(|_| !asleep);
        routing::Service {
            listener: Some(service_listener(name)),
            door: Some(([127, 0, 0, 1], service.port).into()),
            pinned,
            split: split.map(|(revision, weight)| (*revision, *weight)).collect(),
            pools,
            slow: service.slow,
            hold: self.holds.get(name).map(Held::order),
            by_door: self.by_door(name),
            traffic: self
                .settings()
                .services
                .get(name)
                .map(|it| it.traffic.clone())
                .unwrap_or_default(),
            sticky: self.exposed(name).and_then(|(exposed, _)| exposed.sticky.clone()),
            testers: self.met(name, |exposed| exposed.testers.clone()),
            mirror: self.met(name, |exposed| exposed.mirror.clone()),
        }
    }

    /// What is spoken at the door of a service that may have no instance: who is told of one could
    /// not wake it, and would not be seen.
    fn by_door(&self, name: &ServiceName) -> Option<Protocol> {
        let described = self.settings().services.get(name)?;
        let sleeps = described.scale.as_ref().is_some_and(Scale::sleeps);
        sleeps.then_some(described.workload.protocol)
    }

    /// What of a service's rollout concerns single requests, and its new revision while it is on
    /// its way.
    fn exposed(&self, name: &ServiceName) -> Option<(&Exposed, Option<RevisionNumber>)> {
        let exposed = &self.settings().services.get(name)?.rollout.exposed;
        let release = self.forward();
        let rollout = release.and_then(|release| release.rollouts.get(name));
        let new = rollout.map(|rollout| rollout.to);
        Some((
            exposed,
            new.filter(|it| self.kept(name, *it).is_some_and(|it| !it.slots.is_empty())),
        ))
    }

    /// What of it is for the new revision, while that is on its way.
    fn met<T>(
        &self,
        name: &ServiceName,
        what: impl Fn(&Exposed) -> Option<T>,
    ) -> Option<(T, RevisionNumber)> {
        let (exposed, new) = self.exposed(name)?;
        Some((what(exposed)?, new?))
    }

    /// What is shown at the doors to the outside.
    pub(super) fn shown(&self) -> routing::Shown {
        let settings = self.settings();
        let mut certificates = self.stack.certificates.clone();
        certificates.extend(settings.certificates.clone());
        let edge = &settings.edge;
        routing::Shown {
            https_port: edge.tls.first().filter(|_| edge.to_https).map(SocketAddr::port),
            proxies: edge.proxies.clone(),
            acme: edge.acme.clone(),
            certificates,
        }
    }

    /// Doors for what is not HTTP, by the name of their listener; of the released stack, and of
    /// the one on its way where that has others.
    fn tcp(&self) -> BTreeMap<String, routing::Tcp> {
        let wanted = self.forward().into_iter().flat_map(|release| release.wanted.tcp.values());
        let entry = |it: &TcpRoute| {
            let listener = format!("{}{}", layout::TCP_LISTENERS, it.listen);
            let (service, proxy_protocol) = (it.to.clone(), it.proxy_protocol);
            (listener, routing::Tcp { service, proxy_protocol })
        };
        let all = wanted.chain(self.stack.tcp.values()).map(entry);
        all.filter(|(_, it)| self.services.contains_key(&it.service)).collect()
    }

    fn pool(
        &self,
        name: &ServiceName,
        service: &Service,
        revision: RevisionNumber,
        fence: Fence,
        serves: bool,
    ) -> want::Pool {
        let kept = &service.revisions[&revision];
        let workload = kept.revision.workload.clone();
        let urls = workload.uses.iter().filter_map(|used| {
            let door = kept.doors.get(used).map(|door| door.port);
            let port = door.or(self.services.get(used).map(|service| service.port))?;
            let scheme = match self.settings().services.get(used).map(|it| it.workload.protocol) {
                Some(Protocol::Tcp) => "tcp",
                Some(Protocol::Http | Protocol::H2c) | None => "http",
            };
            Some((used.url_variable(), format!("{scheme}://127.0.0.1:{port}")))
        });
        let described = self.release.as_ref().map_or(&self.stack, |release| &release.wanted);
        let stack = ("EVENKEEL_STACK".to_owned(), described.name.to_string());
        want::Pool {
            id: PoolId::new(name, revision),
            probe: probe(&workload, serves),
            surroundings: urls.chain([stack]).collect(),
            slots: kept
                .slots
                .iter()
                .map(|(number, slot)| (*number, want::Slot { port: slot.port }))
                .collect(),
            measured: self.measures_cpu(name),
            workload,
            fence,
        }
    }
}

fn health(workload: &Workload, serves: bool) -> routing::Health {
    let health = &workload.health;
    routing::Health {
        probe: probe(workload, serves),
        interval: health.interval,
        timeout: health.timeout,
        healthy_after: health.healthy_after,
        unhealthy_after: health.unhealthy_after,
    }
}

/// Without a probe of its own an instance is asked for its port while anything may send it
/// requests, and otherwise it is well as long as it runs.
fn probe(workload: &Workload, serves: bool) -> Probe {
    let own = workload.health.probe.clone();
    own.unwrap_or(if serves { Probe::Tcp } else { Probe::Process })
}

fn route_entry(name: &RouteName, route: &Route) -> routing::Route {
    routing::Route { name: name.clone(), route: route.clone(), revision: None }
}

fn previews(state: &State, release: &Release) -> Vec<routing::Route> {
    if matches!(release.phase, Phase::Contracting | Phase::TurningBack(_)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (service, rollout) in &release.rollouts {
        let Strategy::BlueGreen { preview: Some(host) } = &rollout.strategy else { continue };
        let there = state.kept(service, rollout.to).is_some_and(|kept| !kept.slots.is_empty());
        if there {
            found.push(routing::Route {
                name: service.as_str().parse().expect("every service name is a route name"),
                route: Route::plain(Some(host.clone()), "/".to_owned(), service.clone()),
                revision: Some(rollout.to),
            });
        }
    }
    found
}
