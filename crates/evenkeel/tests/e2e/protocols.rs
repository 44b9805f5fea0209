//! Clients that nobody here wrote, through everything that a release and an upgrade can be: no
//! request and no call fails, and what lives long has its time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::clients::{BROWSER, CURL, Client, EVENTS, GRPC, TCP, WEB_SOCKET};
use crate::house::House;
use crate::machine::{free_port, program, python_path, skip};
use crate::programs::node;

const ROLLING: &str = "min_ready = \"100ms\"\nbake = \"300ms\"";
const BLUE_GREEN: &str = "strategy = \"blue-green\"\nmin_ready = \"100ms\"\nbake = \"300ms\"";
const CANARY: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"100ms\"\nbake = \"300ms\"\n\
                      steps = [{ weight = \"20%\", bake = \"300ms\" }, \
                      { weight = \"50%\", bake = \"300ms\" }]";
/// It stays at half of the traffic until somebody moves it.
const HALF: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"100ms\"\nbake = \"60s\"\n\
                    steps = [{ weight = \"50%\", bake = \"10m\" }]";
/// It can be taken back for a minute.
const SWITCH: &str = "strategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"60s\"";

/// The time that what lives long has to drain; the edge spreads the ends over the last quarter.
const LONG_LIVED: &str = "2s";
const LONG_LIVED_LEAST: Duration = Duration::from_millis(1_500);
/// How often each client meets a version in each of its ways before it goes on.
const MEETINGS: u64 = 1;

/// What a service is in a version: its table, but for replicas, stop and rollout.
type Service<'a> = &'a dyn Fn(&str) -> String;

/// A house whose service is released in every way.
struct Campaign<'a> {
    house: &'a House,
    service: Service<'a>,
    /// What belongs to the edge's table and what comes after the service's.
    around: [String; 2],
    clients: Vec<Client>,
    /// When connections that live long may be cut, by their version.
    cuts_from: BTreeMap<String, SystemTime>,
}

impl<'a> Campaign<'a> {
    fn new(house: &'a House, around: [String; 2], service: Service<'a>) -> Self {
        Self { house, service, around, clients: Vec::new(), cuts_from: BTreeMap::new() }
    }

    fn stack(&self, version: &str, rollout: &str) {
        let [edge, after] = &self.around;
        let service = (self.service)(version);
        self.house.stack(&format!(
            "{edge}[service.web]\n{service}\nreplicas = 2\n\
             stop = {{ drain_long_lived = \"{LONG_LIVED}\" }}\n\
             [service.web.rollout]\n{rollout}\n{after}"
        ));
    }

    /// From now on connections to this version that live long may have their time; it ends when
    /// they have had it.
    fn leaves(&mut self, version: &str) {
        self.cuts_from.insert(version.to_owned(), SystemTime::now() + LONG_LIVED_LEAST);
    }

    #[track_caller]
    fn meets(&self, version: &str) {
        for client in &self.clients {
            client.until_more(version, MEETINGS);
        }
    }

    /// Goes through everything, and ends the clients.
    #[track_caller]
    fn run(mut self) {
        self.meets("v1");
        for (before, version, rollout) in
            [("v1", "v2", ROLLING), ("v2", "v3", BLUE_GREEN), ("v3", "v4", CANARY)]
        {
            self.stack(version, rollout);
            self.leaves(before);
            self.house.run(&["apply", "--yes", "--wait", "complete"]).exits(0);
            self.meets(version);
        }

        // Half of everything meets the next one, another edge takes over, and it goes back.
        self.stack("v5", HALF);
        let apply = self.house.start(&["apply", "--yes"]);
        self.meets("v5");
        self.house.run(&["upgrade", "--again"]).exits(0);
        self.meets("v4");
        self.meets("v5");
        self.leaves("v5");
        self.house.run(&["abort"]).exits(0);
        apply.wait().exits(3).says("aborted");
        self.meets("v4");

        // A way back after everything met the next one.
        self.stack("v6", SWITCH);
        self.leaves("v4");
        self.house.run(&["apply", "--yes"]).exits(0);
        self.meets("v6");
        self.leaves("v6");
        self.house.run(&["rollback"]).exits(0);
        self.meets("v4");

        self.house.run(&["upgrade", "--again"]).exits(0);
        self.meets("v4");
        let Self { clients, cuts_from, .. } = self;
        for client in clients {
            client.ends_unharmed(&cuts_from);
        }
    }
}

#[test]
fn calls_of_grpcio_go_through_every_release_and_upgrade() {
    let Some(packages) = python_path("grpc") else {
        return skip("calls of gRPC: no python3 here can import grpc (grpcio from PyPI)");
    };
    let house = House::new();
    house.write("grpc_server.py", include_str!("programs/grpc_server.py"));
    let service = |version: &str| {
        format!(
            "run = [\"python3\", \"grpc_server.py\"]\nhealth = {{ grpc = true }}\n\
             env = {{ VERSION = \"{version}\", PYTHONPATH = \"{}\" }}",
            packages.display()
        )
    };
    let route = "[route.web]\nhost = \"house.test\"\nto = \"web\"\n".to_owned();
    let mut campaign = Campaign::new(&house, [String::new(), route], &service);
    campaign.stack("v1", ROLLING);
    house.up();
    campaign.clients.extend(GRPC.start(&house, &[&house.listen.to_string(), "house.test"]));
    campaign.run();
}

/// A certificate for `house.test` in the house's folder, which is its own authority.
fn certificate(house: &House) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["house.test".to_owned()]).unwrap();
    house.write("chain.pem", &params.self_signed(&key).unwrap().pem());
    house.write("key.pem", &key.serialize_pem());
}

#[test]
fn d13_curl_httpx_websockets_and_a_browser_go_through_every_release_and_upgrade() {
    let house = House::new();
    certificate(&house);
    house.write("browser.html", include_str!("programs/browser.html"));
    let folder = house.folder().display().to_string();
    let service = |version: &str| {
        let env = format!("VERSION = \"{version}\", BROWSER = \"{folder}/browser.html\"");
        node(&house, &env)
    };
    let tls = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let edge = format!("tls = [\"{tls}\"]\nto_https = false\n");
    let after = format!(
        "[certificate.house]\nhosts = [\"house.test\"]\nchain = \"{folder}/chain.pem\"\n\
         key = \"{folder}/key.pem\"\n[route.web]\nto = \"web\"\n"
    );
    let mut campaign = Campaign::new(&house, [edge, after], &service);
    campaign.stack("v1", ROLLING);
    house.up();

    let (plain, port) = (house.listen.to_string(), tls.port().to_string());
    let chain = format!("{folder}/chain.pem");
    let clients = &mut campaign.clients;
    match program("curl") {
        Some(_curl) => clients.extend(CURL.start(&house, &[&plain, &port, &chain])),
        None => skip("curl through releases: it is not installed (curl)"),
    }
    clients.extend(EVENTS.start(&house, &[&port, &chain]));
    clients.extend(WEB_SOCKET.start(&house, &[&plain, "house.test"]));
    match program("chromium") {
        Some(browser) => {
            let profile = format!("{folder}/browser");
            let browser = browser.display().to_string();
            clients.extend(BROWSER.start(&house, &[&browser, &profile, &port]));
        }
        None => skip("a browser through releases: it is not installed (chromium)"),
    }
    campaign.run();
}

#[test]
fn d13_connections_of_redis_stay_where_they_are_through_every_release_and_upgrade() {
    if program("redis-server").is_none() || program("redis-cli").is_none() {
        return skip("connections that are not HTTP: redis is not installed (redis-server)");
    }
    let house = House::new();
    let service = |version: &str| {
        // The version is told by a setting that does nothing here.
        let clients = 1_000 + version[1..].parse::<u32>().unwrap();
        format!(
            "run = [\"redis-server\", \"--port\", \"$PORT\", \"--bind\", \"127.0.0.1\", \"--save\", \"\", \
             \"--maxclients\", \"{clients}\"]\nprotocol = \"tcp\"\nhealth = {{ tcp = true }}"
        )
    };
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let after = format!("[tcp.web]\nlisten = \"{door}\"\nto = \"web\"\n");
    let mut campaign = Campaign::new(&house, [String::new(), after], &service);
    campaign.stack("v1", ROLLING);
    house.up();
    campaign.clients.extend(TCP.start(&house, &[&door.to_string()]));
    campaign.run();
}
