//! Discovery on sockets of its own, told what there is by the test.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_discovery::{Report, Running, Socket, Sockets, Start, start};
use evenkeel_kernel::layout::discovery_listener;
use evenkeel_kernel::model::{
    Discovery, Epoch, Generation, Probe, Protocol, RevisionNumber, ServiceName, Weight,
};
use evenkeel_kernel::routing::directory::{Directory, Seen};
use evenkeel_kernel::routing::{self, RoutingTable};
use evenkeel_kernel::world::{Fence, Health};
use tokio::sync::watch;

pub(crate) const WELL: Seen = Seen { health: Health::Healthy, once: true };
pub(crate) const ILL: Seen = Seen { health: Health::Unhealthy, once: true };
pub(crate) const NOTHING: Seen = Seen::NOTHING;

#[derive(Clone, Debug)]
struct Held(Vec<Socket>);

impl Sockets for Held {
    fn now(&mut self) -> Vec<Socket> {
        self.0.clone()
    }

    async fn changed(&mut self) -> bool {
        std::future::pending().await
    }
}

#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) dns: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) xds: SocketAddr,
    pub(crate) settings: Discovery,
    pub(crate) home: tempfile::TempDir,
    pub(crate) directory: watch::Sender<Arc<Directory>>,
    pub(crate) readers: watch::Sender<Report>,
    generation: std::cell::Cell<u64>,
    held: Held,
    running: Option<Running>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Discovery::default())
    }

    /// With these settings, and addresses of its own.
    pub(crate) fn with(mut settings: Discovery) -> Self {
        let mut held = Vec::new();
        let mut open = |what: &str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let name = discovery_listener(what, &addr);
            held.push(Socket { name, addr, socket: Arc::new(listener.into()) });
            addr
        };
        let [dns, http, xds] = ["dns", "http", "xds"].map(&mut open);
        settings.dns = vec![dns];
        settings.http = vec![http];
        settings.xds = vec![xds];
        let directory = watch::Sender::default();
        let home = tempfile::tempdir().unwrap();
        let held = Held(held);
        let (readers, generation) = (watch::Sender::default(), std::cell::Cell::default());
        let running = None;
        let mut rig =
            Self { dns, http, xds, settings, home, directory, readers, generation, held, running };
        rig.serve(BTreeMap::new());
        rig.start();
        rig
    }

    pub(crate) fn start(&mut self) {
        let with = Start {
            home: self.home.path().to_owned(),
            directory: self.directory.subscribe(),
            sockets: self.held.clone(),
            readers: self.readers.clone(),
        };
        self.running = Some(start(with).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Tells it of services, all of whose instances are well: per revision its weight, and where
    /// its instances are, slots from 1.
    pub(crate) fn serve(&self, services: BTreeMap<ServiceName, routing::Service>) {
        self.generation.set(self.generation.get() + 1);
        let generation = Generation(self.generation.get());
        let table = RoutingTable {
            fence: Fence { epoch: Epoch(1), generation },
            stack: Some("shop".parse().unwrap()),
            discovery: self.settings.clone(),
            services,
            ..RoutingTable::default()
        };
        self.directory.send_modify(|it| *it = Arc::new(it.next(&table, &|_| WELL)));
    }

    /// The same with one service, `web`.
    pub(crate) fn serve_web(&self, pools: &[(u16, Vec<SocketAddr>)]) {
        self.serve([("web".parse().unwrap(), service(pools))].into());
    }

    /// The decision that it was told of last.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.get())
    }

    /// Tells it how an instance is.
    pub(crate) fn see(&self, instance: &str, seen: Seen) {
        let id = instance.parse().unwrap();
        self.directory.send_modify(|it| *it = Arc::new(it.with([(id, seen)]).unwrap()));
    }
}

pub(crate) fn service(pools: &[(u16, Vec<SocketAddr>)]) -> routing::Service {
    let mut service = routing::Service::default();
    for (number, (weight, addrs)) in (1..).zip(pools) {
        let instance = |(slot, addr): (u32, &SocketAddr)| {
            (slot, routing::Instance { addr: *addr, draining: false })
        };
        let pool = routing::Pool {
            health: routing::Health {
                probe: Probe::Tcp,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                healthy_after: 1,
                unhealthy_after: 2,
            },
            instances: (1..).zip(addrs).map(instance).collect(),
            protocol: Protocol::default(),
            tls: None,
            drain: Duration::ZERO,
            drain_long_lived: Duration::ZERO,
        };
        service.split.insert(RevisionNumber(number), Weight(*weight));
        service.pools.insert(RevisionNumber(number), pool);
    }
    service
}

/// Addresses, one after the other.
pub(crate) fn addrs(first: &str, count: u16) -> Vec<SocketAddr> {
    let first: SocketAddr = first.parse().unwrap();
    (0..count).map(|more| SocketAddr::new(first.ip(), first.port() + more)).collect()
}

impl Rig {
    /// Starts another beside it, and gives the former.
    pub(crate) fn start_another(&mut self) -> Option<Running> {
        let former = self.running.take();
        self.start();
        former
    }
}
