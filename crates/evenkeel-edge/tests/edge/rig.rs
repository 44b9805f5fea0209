//! A keeper, an edge and a client of its door, on a home of their own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenkeel_edge::client::Client as Door;
use evenkeel_edge::handover::{self, Holder};
use evenkeel_edge::{Config, Edge, Limits};
use evenkeel_kernel::model::{
    Discovery, Epoch, Generation, InstanceId, PoolId, Probe, Protocol, RevisionNumber,
    Route as Served, ServiceName, Traffic, Weight,
};
use evenkeel_kernel::routing::{self, RoutingTable, Shown};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{self, Counts, Fence, Health};

use crate::client::Client;
use crate::instance::Instance;

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A keeper in a thread.
pub(crate) struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(home: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, home) = (Arc::clone(&stop), home.to_owned());
        let (opened, open) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let mut holder = Holder::bind(&home).unwrap();
            opened.send(()).unwrap();
            while !stopped.load(Ordering::SeqCst) {
                let nothing = &mut |_: &_| Err("not here".to_owned());
                holder.serve(Duration::from_millis(20), nothing).unwrap();
            }
        });
        open.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _join = thread.join();
        }
    }
}

pub(crate) struct Rig {
    pub(crate) home: PathBuf,
    pub(crate) addr: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) edge: Option<Edge>,
    limits: Limits,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// Everything running, with one public listener and an internal one for `web`.
    pub(crate) fn new() -> Self {
        Self::within(Limits::default())
    }

    /// The same with other limits.
    pub(crate) fn within(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        let keeper = Keeper::start(&home);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let wanted = BTreeMap::from([("edge-0".to_owned(), any), ("svc-web".to_owned(), any)]);
        let have = handover::want(&home, &wanted).unwrap();
        let at = |name: &str| have[name].clone().unwrap();
        let (addr, internal) = (at("edge-0"), at("svc-web"));
        let mut rig = Self {
            home,
            addr,
            internal,
            keeper: Some(keeper),
            edge: None,
            limits,
            _folder: folder,
        };
        rig.start_edge();
        rig
    }

    /// A home and its keeper; the edge is a process of the test's own.
    pub(crate) fn without_edge() -> Self {
        let mut rig = Self::new();
        rig.stop_edge();
        rig
    }

    pub(crate) fn start_edge(&mut self) {
        let config =
            Config { home: self.home.clone(), threads: 2, succeed: false, about: String::new() };
        self.edge = Some(Edge::start_within(&config, self.limits).unwrap());
        until("the edge has its listeners", || self.observe().listeners.len() >= 2);
    }

    pub(crate) fn stop_edge(&mut self) {
        self.edge.take().unwrap().stop().unwrap();
    }

    pub(crate) fn door(&self) -> Door {
        Door::connect(&self.home).unwrap()
    }

    pub(crate) fn observe(&self) -> world::Edge {
        self.door().observe(Timestamp(1_000_000)).unwrap()
    }

    pub(crate) fn counts(&self, revision: u32) -> Counts {
        self.observe().pools[&pool_id(revision)].clone()
    }

    pub(crate) fn health(&self, instance: &str) -> Health {
        let id: InstanceId = instance.parse().unwrap();
        self.observe().instances.get(&id).map(|it| it.health).unwrap_or_default()
    }

    /// Serves the table, and waits until all that answer are known to be well.
    #[track_caller]
    pub(crate) fn serve(&self, table: &RoutingTable) {
        self.door().apply(table).unwrap();
        until("all instances are healthy", || {
            self.observe().instances.values().all(|it| it.health == Health::Healthy)
        });
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(edge) = self.edge.take() {
            let _stop = edge.stop();
        }
    }
}

pub(crate) fn pool_id(revision: u32) -> PoolId {
    PoolId::new(&"web".parse().unwrap(), RevisionNumber(revision))
}

pub(crate) fn fence(generation: u64) -> Fence {
    Fence { epoch: Epoch(1), generation: Generation(generation) }
}

/// A table of the service `web`: per pool its weight and its instances, slots from 1.
pub(crate) fn table(generation: u64, pools: &[(u16, &[&Instance])]) -> RoutingTable {
    let addrs: Vec<_> = pools
        .iter()
        .map(|(weight, instances)| (*weight, instances.iter().map(|it| it.addr).collect()))
        .collect();
    table_at(generation, &addrs)
}

pub(crate) fn table_at(generation: u64, pools: &[(u16, Vec<SocketAddr>)]) -> RoutingTable {
    let mut service =
        routing::Service { listener: Some("svc-web".to_owned()), ..routing::Service::default() };
    for (revision, (weight, addrs)) in (1..).zip(pools) {
        let instance = |(slot, addr): (u32, &SocketAddr)| {
            (slot, routing::Instance { addr: *addr, draining: false })
        };
        let pool = routing::Pool {
            health: routing::Health {
                probe: Probe::Tcp,
                interval: Duration::from_millis(50),
                timeout: Duration::from_secs(1),
                healthy_after: 1,
                unhealthy_after: 2,
            },
            protocol: Protocol::Http,
            tls: None,
            instances: (1..).zip(addrs).map(instance).collect(),
            drain: Duration::from_secs(30),
            drain_long_lived: Duration::from_secs(30),
        };
        service.split.insert(RevisionNumber(revision), Weight(*weight));
        service.pools.insert(RevisionNumber(revision), pool);
    }
    let name: ServiceName = "web".parse().unwrap();
    let route = routing::Route {
        name: "all".parse().unwrap(),
        route: Served::plain(None, "/".to_owned(), name.clone()),
        revision: None,
    };
    RoutingTable {
        fence: fence(generation),
        stack: None,
        discovery: Discovery::default(),
        services: BTreeMap::from([(name, service)]),
        routes: vec![route],
        tcp: BTreeMap::new(),
        shown: Shown::default(),
        telemetry: evenkeel_kernel::model::Telemetry::default(),
    }
}

/// The table with other traffic.
pub(crate) fn with(mut table: RoutingTable, traffic: &Traffic) -> RoutingTable {
    table.services.values_mut().for_each(|service| service.traffic = traffic.clone());
    table
}

/// The pool of a revision in a table made here.
pub(crate) fn pool_of(table: &mut RoutingTable, revision: u32) -> &mut routing::Pool {
    let service = table.services.values_mut().next().unwrap();
    service.pools.get_mut(&RevisionNumber(revision)).unwrap()
}
