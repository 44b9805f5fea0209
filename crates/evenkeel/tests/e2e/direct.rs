//! Clients that go to instances by themselves, as discovery tells them, through everything that a
//! release and an upgrade can be: no request and no call fails.

use crate::campaign::{Campaign, ROLLING};
use crate::clients::{CONSUL, GRPC, PROMETHEUS, PROXIED};
use crate::house::House;
use crate::http::Client;
use crate::machine::{python_path, skip, until};
use crate::programs::node;
use crate::proxies::{Discovery, Proxy};

const ROUTE: &str = "[route.web]\nto = \"web\"\n";

/// A Node server that keeps idle connections longer than the proxies do.
fn service(house: &House, version: &str) -> String {
    node(house, &format!("VERSION = \"{version}\", KEEP_ALIVE = \"600000\""))
}

#[test]
fn proxies_and_a_consul_client_follow_every_release_and_upgrade() {
    let house = House::new();
    let discovery = Discovery::new();
    let service = |version: &str| service(&house, version);
    let after = format!("{ROUTE}{}", discovery.table(""));
    let mut campaign = Campaign::new(&house, [String::new(), after], &service);
    campaign.stack("v1", ROLLING);
    house.up();
    let all = [
        discovery.traefik(&house),
        discovery.haproxy(&house),
        discovery.nginx(&house),
        discovery.envoy(&house),
    ];
    let proxies: Vec<Proxy> = all.into_iter().flatten().collect();
    for proxy in &proxies {
        until(&format!("{} has found web", proxy.name), || {
            Client::new(proxy.listen)
                .host("web.house.internal")
                .get("/page")
                .ok()
                .filter(|it| it.status == 200)
        });
    }
    let named: Vec<String> =
        proxies.iter().map(|it| format!("{}={}", it.name, it.listen)).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    campaign.clients.extend(PROXIED.start(&house, &named));
    campaign.clients.extend(CONSUL.start(&house, &[&discovery.http.port().to_string()]));
    campaign.run();
}

#[test]
fn calls_of_grpcio_follow_every_release_and_upgrade_by_xds() {
    let Some(packages) = python_path("grpc") else {
        return skip("gRPC by xDS: no python3 here can import grpc (grpcio from PyPI)");
    };
    let house = House::new();
    let discovery = Discovery::new();
    house.write("grpc_server.py", include_str!("programs/grpc_server.py"));
    // It ends at once when it is told to, with whatever it still has.
    let service = |version: &str| {
        format!(
            "run = [\"python3\", \"grpc_server.py\"]\nhealth = {{ grpc = true }}\n\
             env = {{ VERSION = \"{version}\", GRACE = \"0\", PYTHONPATH = \"{}\" }}",
            packages.display()
        )
    };
    let after = format!("{ROUTE}{}", discovery.table(""));
    let mut campaign = Campaign::new(&house, [String::new(), after], &service);
    campaign.stack("v1", ROLLING);
    house.up();
    let bootstrap = discovery.grpc(&house);
    let env = [("GRPC_XDS_BOOTSTRAP", bootstrap.as_str())];
    campaign.clients.extend(GRPC.start_with(&house, &["xds:///web", "web"], &env));
    campaign.run();
}

#[test]
fn prometheus_finds_every_target_alive_through_releases_an_upgrade_and_an_abort() {
    let house = House::new();
    let discovery = Discovery::new();
    let service = |version: &str| service(&house, version);
    let after = format!("{ROUTE}{}", discovery.table("linger = \"12s\""));
    let mut campaign = Campaign::new(&house, [String::new(), after], &service);
    campaign.replicas = 1;
    campaign.stack("v1", ROLLING);
    house.up();
    let Some(prometheus) = discovery.prometheus(&house) else { return };
    campaign.clients.extend(PROMETHEUS.start(&house, &[&prometheus.listen.to_string()]));
    campaign.run_to_the_abort();
}
