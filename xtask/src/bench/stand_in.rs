//! Discovery as a process of its own with a directory that is made up, so that benchmarks can have
//! ten thousand endpoints without ten thousand processes.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use evenkeel_discovery::{Socket, Sockets, Start};
use evenkeel_kernel::layout::discovery_listener;
use evenkeel_kernel::model::{
    Discovery, InstanceId, Probe, Protocol, RevisionNumber, ServiceName, Weight,
};
use evenkeel_kernel::routing::directory::{Directory, Seen};
use evenkeel_kernel::routing::{Health, Instance, Pool, RoutingTable, Service};
use evenkeel_kernel::world;
use tokio::sync::watch;

/// How an instance is that is well.
const WELL: Seen = Seen { health: world::Health::Healthy, once: true };

/// The name of the service with this number.
pub(super) fn service_name(number: u32) -> String {
    format!("s{number}")
}

/// Where the instance is in this slot of a service.
pub(super) fn address(service: u32, slot: u32) -> SocketAddr {
    let ip = Ipv4Addr::from(0x0A00_0000 + service * 256 + slot);
    SocketAddr::from((ip, 8_000))
}

/// Services with as many instances each, all well.
fn table(services: u32, instances: u32, discovery: Discovery) -> anyhow::Result<RoutingTable> {
    let only = RevisionNumber(1);
    let service = |number: u32| {
        let instance =
            |slot: u32| (slot, Instance { addr: address(number, slot), draining: false });
        let pool = Pool {
            health: Health {
                probe: Probe::Tcp,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                healthy_after: 1,
                unhealthy_after: 2,
            },
            instances: (1..=instances).map(instance).collect(),
            protocol: Protocol::default(),
            tls: None,
            drain: Duration::ZERO,
            drain_long_lived: Duration::ZERO,
        };
        let service = Service {
            split: [(only, Weight::ALL)].into(),
            pools: [(only, pool)].into(),
            ..Service::default()
        };
        let name: ServiceName = service_name(number).parse().context("it is a name")?;
        Ok((name, service))
    };
    Ok(RoutingTable {
        stack: Some("bench".parse().context("it is a name")?),
        discovery,
        services: (1..=services).map(service).collect::<anyhow::Result<BTreeMap<_, _>>>()?,
        ..RoutingTable::default()
    })
}

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

/// Serves until its standard input ends: the number of services and of instances of each, and the
/// addresses for DNS and HTTP. Then, once it is told a line, so many changes of health per second:
/// each is said with the directory's index and the time.
pub(crate) fn serve(words: &[&str]) -> anyhow::Result<bool> {
    let [services, instances, dns, http, rate @ ..] = words else { bail!("not meant for people") };
    let discovery =
        Discovery { dns: vec![dns.parse()?], http: vec![http.parse()?], ..Discovery::default() };
    let open = |(what, addr): (&str, SocketAddr)| {
        let socket = Arc::new(TcpListener::bind(addr)?.into());
        Ok(Socket { name: discovery_listener(what, &addr), addr, socket })
    };
    let held = discovery.addresses().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let (services, instances) = (services.parse()?, instances.parse()?);
    let table = table(services, instances, discovery)?;
    let first = Directory::default().next(&table, &|_| WELL);
    let (directory, receiver) = watch::channel(Arc::new(first));
    let home = tempfile::tempdir()?;
    let with = Start {
        home: home.path().to_owned(),
        directory: receiver,
        sockets: Held(held),
        readers: watch::Sender::default(),
    };
    let running = evenkeel_discovery::start(with)?;
    let mut input = std::io::stdin();
    if let [rate] = rate {
        let pause = Duration::from_secs(1) / rate.parse::<u32>()?;
        if input.read(&mut [0; 1])? == 1 {
            thread::spawn(move || change(&directory, services, instances, pause));
        }
        input.read_to_end(&mut Vec::new())?;
    } else {
        input.read_to_end(&mut Vec::new())?;
    }
    drop(running);
    Ok(true)
}

/// Changes how one instance is, again and again.
fn change(
    directory: &watch::Sender<Arc<Directory>>,
    services: u32,
    instances: u32,
    pause: Duration,
) {
    let ill = Seen { health: world::Health::Unhealthy, once: true };
    let mut next = Instant::now();
    loop {
        next += pause;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let (service, slot) = (fastrand::u32(1..=services), fastrand::u32(1..=instances));
        let Ok(id) = format!("{}.r1.{slot}", service_name(service)).parse::<InstanceId>() else {
            return;
        };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut index = 0;
        directory.send_modify(|it| {
            let both = [ill, WELL].into_iter().find_map(|seen| it.with([(id.clone(), seen)]));
            if let Some(other) = both {
                index = other.index;
                *it = Arc::new(other);
            }
        });
        println!("{index} {at}");
    }
}

/// The stand-in, ended when it is dropped.
#[derive(Debug)]
pub(super) struct StandIn(Child);

impl StandIn {
    /// Starts it on processor 0.
    pub(super) fn start(program: &Path, words: &[String]) -> anyhow::Result<Self> {
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program)
            .arg("stand-in")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start the stand-in")?;
        Ok(Self(child))
    }

    /// What it says.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Lets the changes begin.
    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.0.stdin.as_mut().context("it has an input")?.write_all(b"\n")?)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
