//! Tables for unit tests.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_kernel::model::{
    Discovery, Epoch, Generation, Probe, Protocol, RevisionNumber, Route as Served, Weight,
};
use evenkeel_kernel::routing::{Health, Instance, Pool, Route, RoutingTable, Service, Shown};
use evenkeel_kernel::world::Fence;

pub(crate) fn fence(generation: u64) -> Fence {
    Fence { epoch: Epoch(1), generation: Generation(generation) }
}

pub(crate) fn pool(addrs: Vec<SocketAddr>) -> Pool {
    let instance = |(slot, addr)| (slot, Instance { addr, draining: false });
    Pool {
        health: Health {
            probe: Probe::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_after: 1,
            unhealthy_after: 3,
        },
        protocol: Protocol::Http,
        tls: None,
        instances: (1..).zip(addrs).map(instance).collect(),
        drain: Duration::from_secs(30),
        drain_long_lived: Duration::from_secs(300),
    }
}

/// One service `web` with these pools, reached from any host.
pub(crate) fn service_table(generation: u64, pools: Vec<(u32, Weight, Pool)>) -> RoutingTable {
    let web: evenkeel_kernel::model::ServiceName = "web".parse().expect("a name");
    let mut service = Service::default();
    for (revision, weight, pool) in pools {
        service.split.insert(RevisionNumber(revision), weight);
        service.pools.insert(RevisionNumber(revision), pool);
    }
    let route = Route {
        name: "all".parse().expect("a name"),
        route: Served::plain(None, "/".to_owned(), web.clone()),
        revision: None,
    };
    RoutingTable {
        fence: fence(generation),
        stack: Some("shop".parse().expect("a name")),
        discovery: Discovery::default(),
        services: [(web, service)].into(),
        routes: vec![route],
        tcp: std::collections::BTreeMap::new(),
        shown: Shown::default(),
        telemetry: Default::default(),
    }
}
