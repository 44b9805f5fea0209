//! Certificates that are ordered from a real server of ACME, and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use evenkeel_edge::{Limits, handover};
use evenkeel_kernel::model::{Acme, Certificate, CertificateSource};
use evenkeel_kernel::routing::RoutingTable;
use rustix::process::Signal;

use crate::instance::{Instance, answer};
use crate::issuer::{Asks, Issuer, Pebble, curl, free_ports, have};
use crate::processes::{signal, start};
use crate::rig::{Rig, table, until};
use crate::successions::{ends, succeed};

const DAY: u32 = 24 * 3600;

/// Doors with these names besides the internal one.
fn doors(rig: &Rig, names: &[&str]) -> Vec<SocketAddr> {
    let at = |name: &str| match name {
        "edge-0" => rig.addr,
        _ => "127.0.0.1:0".parse().unwrap(),
    };
    let mut wanted = BTreeMap::from([("svc-web".to_owned(), rig.internal)]);
    wanted.extend(names.iter().map(|name| ((*name).to_owned(), at(name))));
    let have = handover::want(&rig.home, &wanted).unwrap();
    names.iter().map(|name| have[*name].clone().unwrap()).collect()
}

/// The same with these certificates ordered from Pebble.
fn ordering(mut it: RoutingTable, pebble: &Pebble, wanted: &[(&str, &[&str])]) -> RoutingTable {
    it.shown.acme = Some(pebble.acme());
    wanting(it, wanted)
}

fn wanting(mut it: RoutingTable, wanted: &[(&str, &[&str])]) -> RoutingTable {
    for (name, hosts) in wanted {
        let hosts: BTreeSet<String> = hosts.iter().map(|it| (*it).to_owned()).collect();
        let from = CertificateSource::Acme;
        it.shown.certificates.insert(name.parse().unwrap(), Certificate { hosts, from });
    }
    it
}

/// What curl gets as this host, trusting what Pebble issues.
fn page(root: &Path, host: &str, addr: SocketAddr) -> Result<String, String> {
    let resolve = format!("{host}:{}:127.0.0.1", addr.port());
    curl(root, &["--resolve", &resolve, &format!("https://{host}:{}/", addr.port())])
}

fn file(rig: &Rig, name: &str) -> PathBuf {
    rig.home.join("edge/certificates/shop").join(name)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// How many orders Pebble has seen, and how many accounts.
fn seen(pebble: &Pebble) -> (usize, usize) {
    let log = pebble.log();
    (log.matches("Added order").count(), log.matches("accounts in memory").count())
}

/// Why the last try failed, and in how many seconds the next is.
fn failed(rig: &Rig, name: &str) -> Option<(String, u64)> {
    let failed = rig.observe().certificates.remove(&name.parse().unwrap())?.failed?;
    Some((failed.why, failed.again.unwrap().as_secs()))
}

/// For how many hours what is shown is good.
fn hours(rig: &Rig, name: &str) -> Option<u64> {
    let good = rig.observe().certificates.remove(&name.parse().unwrap())?.good?;
    assert!(good.left <= good.life);
    Some(good.left.as_secs() / 3600)
}

fn soon() -> Limits {
    Limits { order_retry: Duration::from_secs(1), ..Limits::default() }
}

#[test]
fn a_certificate_is_ordered_over_http_and_shown() {
    if !have(&["pebble", "curl"]) {
        return;
    }
    let instance = Instance::says("served");
    let rig = Rig::within(soon());
    let tls = doors(&rig, &["edge-0", "tls-0"])[1];
    let asks = Asks { http: rig.addr.port(), tls: tls.port(), seconds: 90 * DAY, refused: 0 };
    let pebble = Pebble::start(asks);
    let mut it = table(1, &[(10_000, &[&instance])]);
    // None of these may stand in the issuer's way.
    it.shown.https_port = Some(443);
    it.routes[0].route.policy.maintenance = Some("closed".to_owned());
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test", "www.shop.test"])]));
    let root = pebble.root();
    until("it is shown", || page(&root, "www.shop.test", tls).is_ok());
    assert!(pebble.log().contains("validate w/ HTTP"));
    assert_eq!(seen(&pebble), (1, 1));
    assert_eq!(page(&root, "shop.test", tls).unwrap(), "closed\n");
    assert_eq!(hours(&rig, "shop"), Some(90 * 24 - 1));

    let opened = table(2, &[(10_000, &[&instance])]);
    rig.serve(&ordering(opened, &pebble, &[("shop", &["shop.test", "www.shop.test"])]));
    assert_eq!(page(&root, "shop.test", tls).unwrap(), "served");
    // Nobody asks any more, and what looks like a question is a request like any other.
    assert_eq!(fs::read_dir(rig.home.join("edge/challenges")).unwrap().count(), 0);
    assert_eq!(rig.client().get("/.well-known/acme-challenge/x").body, "served");
    let account = fs::read_dir(rig.home.join("edge/acme")).unwrap().next().unwrap().unwrap();
    for (path, expected) in [
        (file(&rig, "key.pem"), 0o600),
        (file(&rig, ""), 0o700),
        (account.path(), 0o600),
        (rig.home.join("edge/acme"), 0o700),
    ] {
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
}

#[test]
fn a_certificate_is_ordered_over_tls_where_there_is_no_other_door() {
    if !have(&["pebble", "curl"]) {
        return;
    }
    let instance = Instance::says("served");
    let rig = Rig::within(soon());
    let tls = doors(&rig, &["tls-0"])[0];
    let [dead, _] = free_ports();
    let asks = Asks { http: dead, tls: tls.port(), seconds: 90 * DAY, refused: 0 };
    let pebble = Pebble::start(asks);
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test", "www.shop.test"])]));
    until("it is ordered", || file(&rig, "chain.pem").exists());
    assert_eq!(rig.observe().unrouted.rejected, 0, "an issuer is no scanner");
    let root = pebble.root();
    until("it is shown", || page(&root, "www.shop.test", tls).is_ok());
    assert_eq!(page(&root, "shop.test", tls).unwrap(), "served");
    assert!(!pebble.log().contains("validate w/ HTTP"));
    assert_eq!(seen(&pebble), (1, 1));
}

#[test]
fn where_one_door_cannot_be_reached_the_other_is_tried() {
    if !have(&["pebble", "curl"]) {
        return;
    }
    let instance = Instance::says("served");
    let rig = Rig::within(soon());
    let tls = doors(&rig, &["edge-0", "tls-0"])[1];
    let [dead, _] = free_ports();
    let asks = Asks { http: dead, tls: tls.port(), seconds: 90 * DAY, refused: 15 };
    let pebble = Pebble::start(asks);
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test"])]));
    let root = pebble.root();
    until("it is shown", || page(&root, "shop.test", tls).is_ok());
    assert!(pebble.log().contains("validate w/ HTTP"));
    assert_eq!(failed(&rig, "shop"), None, "what failed is forgotten");
}

#[test]
fn a_certificate_is_renewed_in_time() {
    if !have(&["pebble", "curl"]) {
        return;
    }
    let instance = Instance::says("served");
    let rig = Rig::within(soon());
    let tls = doors(&rig, &["edge-0", "tls-0"])[1];
    let asks = Asks { http: rig.addr.port(), tls: tls.port(), seconds: 12, refused: 0 };
    let pebble = Pebble::start(asks);
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test"])]));
    let root = pebble.root();
    until("it is shown", || page(&root, "shop.test", tls).is_ok());
    let first = fs::read(file(&rig, "chain.pem")).unwrap();
    until("another came", || {
        // Never without one that is good.
        assert_eq!(page(&root, "shop.test", tls).unwrap(), "served");
        fs::read(file(&rig, "chain.pem")).unwrap() != first
    });
    assert_eq!(seen(&pebble), (2, 1));
}

#[test]
fn a_restart_keeps_account_and_certificate_and_other_hosts_get_another() {
    if !have(&["pebble", "curl"]) {
        return;
    }
    let instance = Instance::says("served");
    let mut rig = Rig::within(soon());
    let tls = doors(&rig, &["edge-0", "tls-0"])[1];
    let asks = Asks { http: rig.addr.port(), tls: tls.port(), seconds: 90 * DAY, refused: 0 };
    let pebble = Pebble::start(asks);
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test"])]));
    let root = pebble.root();
    until("it is shown", || page(&root, "shop.test", tls).is_ok());
    rig.stop_edge();
    rig.start_edge();
    until("it is shown again", || page(&root, "shop.test", tls).is_ok());
    // When the next is ordered, all others have been looked at.
    let it = table(2, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test"]), ("z", &["z.test"])]));
    until("the next is shown", || page(&root, "z.test", tls).is_ok());
    assert_eq!(seen(&pebble), (2, 1));
    // Another host, while its plain door says that it is elsewhere.
    let mut it = table(3, &[(10_000, &[&instance])]);
    it.shown.https_port = Some(443);
    let hosts = ["shop.test", "new.test"];
    rig.serve(&ordering(it, &pebble, &[("shop", &hosts), ("z", &["z.test"])]));
    until("the new host is shown", || page(&root, "new.test", tls).is_ok());
    assert_eq!(page(&root, "shop.test", tls).unwrap(), "served");
    assert_eq!(seen(&pebble), (3, 1));
}

#[test]
fn what_an_issuer_refuses_is_told_and_asked_again_later_and_requests_go_on() {
    if !have(&["pebble"]) {
        return;
    }
    let instance = Instance::says("served");
    let mut rig = Rig::new();
    doors(&rig, &["edge-0", "tls-0"]);
    let [http, tls] = free_ports();
    let pebble = Pebble::start(Asks { http, tls, seconds: DAY, refused: 0 });
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test"])]));
    let mut client = rig.client();
    until("it has failed", || {
        assert_eq!(client.get("/").body, "served");
        failed(&rig, "shop").is_some()
    });
    let (why, again) = failed(&rig, "shop").unwrap();
    assert!(why.starts_with("shop.test: ") && why.contains("onnection"), "{why}");
    assert!((40..=75).contains(&again), "{again}");
    assert_eq!(hours(&rig, "shop"), None);
    // When the next has failed, all others have been looked at; also after a restart.
    let two: [(&str, &[&str]); 2] = [("shop", &["shop.test"]), ("z", &["z.test"])];
    rig.serve(&ordering(table(2, &[(10_000, &[&instance])]), &pebble, &two));
    until("the next has failed", || failed(&rig, "z").is_some());
    assert_eq!(seen(&pebble), (2, 1));
    rig.stop_edge();
    rig.start_edge();
    assert_eq!(failed(&rig, "shop").unwrap().0, why, "it is known at once");
    // For other hosts it is tried at once.
    let changed: [(&str, &[&str]); 2] = [("shop", &["shop.test"]), ("z", &["new.test"])];
    rig.serve(&ordering(table(3, &[(10_000, &[&instance])]), &pebble, &changed));
    let for_new = |rig: &Rig| failed(rig, "z").is_some_and(|(why, _)| why.contains("new.test"));
    until("it has failed for other hosts", || for_new(&rig));
    assert_eq!(seen(&pebble), (3, 1));
    assert_eq!(failed(&rig, "shop").unwrap().0, why);
    // Whoever cannot wait removes what is kept of it.
    fs::remove_file(file(&rig, "attempt.json")).unwrap();
    until("it is tried at once", || seen(&pebble).0 == 4);
    assert_eq!(rig.client().get("/").body, "served");
}

#[test]
fn of_files_it_is_told_how_long_they_are_good_or_why_they_cannot_be_read() {
    let instance = Instance::says("served");
    let rig = Rig::new();
    let [chain, key] = ["chain", "key"].map(|it| rig.home.join(it));
    let mut it = table(1, &[(10_000, &[&instance])]);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let from = CertificateSource::Files { chain: text(&chain), key: text(&key) };
    let hosts = BTreeSet::from(["shop.test".to_owned()]);
    it.shown.certificates.insert("shop".parse().unwrap(), Certificate { hosts, from });
    rig.serve(&it);
    let seen = || rig.observe().certificates[&"shop".parse().unwrap()].clone();
    until("it is missed", || seen().failed.is_some());
    assert!(seen().failed.unwrap().why.contains("No such file"));
    let (pem, secret) = Issuer::new().issue(&["shop.test"]);
    fs::write(&key, secret).unwrap();
    fs::write(&chain, pem).unwrap();
    until("it is shown", || seen().good.is_some());
    assert_eq!(seen().failed, None);
    fs::write(&chain, "nothing").unwrap();
    until("the next is missed", || seen().failed.is_some());
    assert!(seen().good.is_some(), "what was read before is still shown");
}

#[test]
fn an_issuer_that_is_not_there_is_told() {
    let instance = Instance::says("served");
    let rig = Rig::new();
    let [dead, _] = free_ports();
    let root = rig.home.join("root.pem");
    fs::write(&root, Issuer::new().pem()).unwrap();
    let mut it = table(1, &[(10_000, &[&instance])]);
    it.shown.acme = Some(Acme {
        directory: format!("https://127.0.0.1:{dead}/dir"),
        contact: None,
        root: Some(root.to_str().unwrap().to_owned()),
    });
    rig.serve(&wanting(it, &[("shop", &["shop.test"])]));
    until("it has failed", || failed(&rig, "shop").is_some());
    let (why, _) = failed(&rig, "shop").unwrap();
    assert!(why.starts_with("could not speak to 127.0.0.1: Connection refused"), "{why}");
    assert_eq!(rig.client().get("/").body, "served");
}

#[test]
fn s35_only_one_of_two_edges_orders() {
    if !have(&["pebble", "curl"]) {
        return;
    }
    let (say, said) = mpsc::channel::<()>();
    let said = Mutex::new(said);
    let instance = Instance::new(move |request, stream| {
        if request.path() == "/slow" {
            let _told = said.lock().unwrap().recv();
        }
        answer(stream, "200 OK", "served")
    });
    let rig = Rig::without_edge();
    let mut first = start(&rig.home);
    let tls = doors(&rig, &["edge-0", "tls-0"])[1];
    let asks = Asks { http: rig.addr.port(), tls: tls.port(), seconds: 12, refused: 0 };
    let pebble = Pebble::start(asks);
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test"])]));
    let root = pebble.root();
    until("it is shown", || page(&root, "shop.test", tls).is_ok());
    let mut slow = rig.client();
    slow.write("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n");
    until("it is under way", || rig.counts(1).in_flight == 1);
    let mut second = succeed(&rig.home);
    until("the next was ordered", || {
        assert_eq!(page(&root, "shop.test", tls).unwrap(), "served");
        seen(&pebble).0 >= 2
    });
    // Both have looked again when one that is wanted since then is there.
    let it = table(2, &[(10_000, &[&instance])]);
    rig.serve(&ordering(it, &pebble, &[("shop", &["shop.test"]), ("z", &["z.test"])]));
    until("one more is shown", || page(&root, "z.test", tls).is_ok());
    assert_eq!(seen(&pebble), (3, 1));
    say.send(()).unwrap();
    assert_eq!(slow.answer(false).unwrap().body, "served");
    ends("the first", &mut first);
    signal(&second, Signal::TERM);
    ends("the second", &mut second);
}
