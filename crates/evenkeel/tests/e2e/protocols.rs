//! Clients that nobody here wrote, through everything that a release and an upgrade can be: no
//! request and no call fails, and what lives long has its time.

use std::net::{Ipv4Addr, SocketAddr};

use crate::campaign::{Campaign, ROLLING};
use crate::clients::{BROWSER, CURL, EVENTS, GRPC, TCP, WEB_SOCKET};
use crate::house::House;
use crate::machine::{free_port, program, python_path, skip};
use crate::programs::node;

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
