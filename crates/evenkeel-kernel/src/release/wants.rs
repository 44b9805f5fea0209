//! What should be true now, read off the state alone: the same state always wants the same.

use std::collections::BTreeMap;

use super::state::{Phase, Release, Service, Stage, State, service_listener};
use crate::model::{Epoch, PoolId, Probe, RevisionNumber, ServiceName, Strategy, Workload};
use crate::routing::{self, RoutingTable};
use crate::want::{self, Want};
use crate::world::Fence;

impl State {
    /// Everything that should be true, in the order in which it is made true: sockets before the
    /// table that serves on them, the table before the pools it unroutes.
    #[must_use]
    pub fn wants(&self, epoch: Epoch) -> Vec<Want> {
        let fence = Fence { epoch, generation: self.generation };
        let mut wants = vec![Want::Listeners(self.listeners()), Want::Table(self.table(fence))];
        for (name, service) in &self.services {
            for revision in service.revisions.keys() {
                wants.push(Want::Pool(Box::new(self.pool(name, service, *revision, fence))));
            }
        }
        wants.push(Want::Checks(self.wanted_checks()));
        wants
    }

    /// The table the edge should serve.
    #[must_use]
    pub fn table(&self, fence: Fence) -> RoutingTable {
        let there = self.services.iter().filter(|(_, service)| service.is_there());
        let services = there.map(|(name, service)| (name.clone(), self.entry(name, service)));
        let mut table = RoutingTable {
            fence,
            services: services.collect(),
            routes: self.routes().iter().map(|(name, route)| route_entry(name, route)).collect(),
        };
        table.routes.retain(|route| table.services.contains_key(&route.service));
        table.routes.extend(self.previews());
        table.sort_routes();
        table
    }

    /// Routes under which the new revision of a blue-green rollout can be looked at.
    pub(super) fn previews(&self) -> Vec<routing::Route> {
        self.release.iter().flat_map(|release| previews(self, release)).collect()
    }

    fn entry(&self, name: &ServiceName, service: &Service) -> routing::Service {
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
                    health: self.health(name, workload),
                    instances: instances.collect(),
                    drain: workload.stop.drain,
                    drain_long_lived: workload.stop.drain_long_lived,
                };
                (*revision, pool)
            })
            .collect();
        let split = service
            .split
            .iter()
            .filter(|(revision, weight)| weight.0 > 0 && pools.contains_key(revision));
        routing::Service {
            listener: Some(service_listener(name)),
            pinned: self.pins(name),
            split: split.map(|(revision, weight)| (*revision, *weight)).collect(),
            pools,
            slow: service.slow,
        }
    }

    fn health(&self, name: &ServiceName, workload: &Workload) -> routing::Health {
        let health = &workload.health;
        routing::Health {
            probe: self.probe(name, workload),
            interval: health.interval,
            timeout: health.timeout,
            healthy_after: health.healthy_after,
            unhealthy_after: health.unhealthy_after,
        }
    }

    /// A service without a probe of its own is asked for its port while anything may send it
    /// requests: by the released stack or by the one on its way.
    fn probe(&self, name: &ServiceName, workload: &Workload) -> Probe {
        match &self.release {
            Some(release) if release.wanted.serves(name) => release.wanted.probe(name, workload),
            Some(_) | None => self.stack.probe(name, workload),
        }
    }

    fn pool(
        &self,
        name: &ServiceName,
        service: &Service,
        revision: RevisionNumber,
        fence: Fence,
    ) -> want::Pool {
        let kept = &service.revisions[&revision];
        let workload = kept.revision.workload.clone();
        let urls = workload.uses.iter().filter_map(|used| {
            let door = kept.doors.get(used).map(|door| door.port);
            let port = door.or(self.services.get(used).map(|service| service.port))?;
            Some((used.url_variable(), format!("http://127.0.0.1:{port}")))
        });
        let described = self.release.as_ref().map_or(&self.stack, |release| &release.wanted);
        let stack = ("EVENKEEL_STACK".to_owned(), described.name.to_string());
        want::Pool {
            id: PoolId::new(name, revision),
            probe: self.probe(name, &workload),
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

fn route_entry(name: &crate::model::RouteName, route: &crate::model::Route) -> routing::Route {
    routing::Route {
        name: name.clone(),
        host: route.host.clone(),
        path: route.path.clone(),
        service: route.to.clone(),
        revision: None,
    }
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
                host: Some(host.clone()),
                path: "/".to_owned(),
                service: service.clone(),
                revision: Some(rollout.to),
            });
        }
    }
    found
}
