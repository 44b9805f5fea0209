//! Doors with TLS, with the PROXY protocol, and for what is not HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use evenkeel_edge::handover;
use evenkeel_kernel::model::{Certificate, CertificateSource, Probe, Traffic, UpstreamTls};
use evenkeel_kernel::routing::{RoutingTable, Tcp};
use http::Response;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use crate::client::Client;
use crate::h2_peer::{H2Client, H2Instance, request, trailers};
use crate::instance::{Instance, answer};
use crate::issuer::Issuer;
use crate::rig::{Rig, fence, pool_of, table, table_at, until, with};

/// Puts a pair into files, the second last.
fn put(folder: &Path, name: &str, (chain, key): &(String, String)) -> CertificateSource {
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    fs::write(file("key"), key).unwrap();
    fs::write(file("pem"), chain).unwrap();
    let text = |end: &str| file(end).to_str().unwrap().to_owned();
    CertificateSource::Files { chain: text("pem"), key: text("key") }
}

/// A table that shows this certificate for these hosts.
fn showing(mut it: RoutingTable, hosts: &[&str], from: CertificateSource) -> RoutingTable {
    let hosts: BTreeSet<String> = hosts.iter().map(|it| (*it).to_owned()).collect();
    it.shown.certificates.insert("c".parse().unwrap(), Certificate { hosts, from });
    it
}

/// Lets the keeper hold these listeners too; where they are.
pub(crate) fn open(rig: &Rig, names: &[&str]) -> Vec<SocketAddr> {
    let mut wanted =
        BTreeMap::from([("edge-0".to_owned(), rig.addr), ("svc-web".to_owned(), rig.internal)]);
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    wanted.extend(names.iter().map(|name| ((*name).to_owned(), any)));
    let have = handover::want(&rig.home, &wanted).unwrap();
    until("the edge has them", || rig.observe().listeners.len() == wanted.len());
    names.iter().map(|name| have[*name].clone().unwrap()).collect()
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Agrees on TLS with whoever is at `addr` as `host`.
fn shake(
    addr: SocketAddr,
    host: &str,
    roots: RootCertStore,
    alpn: &[&[u8]],
) -> std::io::Result<Tls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

fn get(tls: &mut Tls, host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    let _hung_up = tls.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

fn shown(tls: &Tls) -> CertificateDer<'static> {
    tls.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn tls_is_spoken_with_the_hosts_own_certificate_and_the_next_one_at_once() {
    let instance = Instance::new(|request, stream| {
        answer(stream, "200 OK", request.header("x-forwarded-proto").unwrap_or("?"))
    });
    let (issuer, rig) = (Issuer::new(), Rig::new());
    let addr = open(&rig, &["tls-0"])[0];
    let first = issuer.issue(&["shop.test", "*.shop.test"]);
    let from = put(&rig.home, "shop", &first);
    let it = showing(table(1, &[(10_000, &[&instance])]), &["shop.test", "*.shop.test"], from);
    rig.serve(&it);
    until("it is shown", || shake(addr, "shop.test", issuer.roots(), &[]).is_ok());
    for host in ["shop.test", "a.shop.test"] {
        let mut tls = shake(addr, host, issuer.roots(), &[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(tls.conn.alpn_protocol(), Some(b"h2".as_slice()));
        let mut tls11 = shake(addr, host, issuer.roots(), &[b"http/1.1"]).unwrap();
        assert!(get(&mut tls11, host).ends_with("https"));
        // Whoever agreed on HTTP/2 has to speak it.
        assert!(!get(&mut tls, host).contains("200 OK"));
    }
    // No certificate, no connection; and none without a name.
    assert!(shake(addr, "other.test", issuer.roots(), &[]).is_err());
    assert!(shake(addr, "127.0.0.1", issuer.roots(), &[]).is_err());

    // A new pair of files, while a connection stays open.
    let mut open = shake(addr, "shop.test", issuer.roots(), &[b"http/1.1"]).unwrap();
    let before = shown(&open);
    put(&rig.home, "shop", &issuer.issue(&["shop.test", "*.shop.test"]));
    until("the new one is shown", || {
        shown(&shake(addr, "shop.test", issuer.roots(), &[]).unwrap()) != before
    });
    assert!(get(&mut open, "shop.test").ends_with("https"));

    // What cannot be read leaves everything as it was.
    let now = shown(&shake(addr, "shop.test", issuer.roots(), &[]).unwrap());
    fs::write(rig.home.join("shop.pem"), "nonsense").unwrap();
    let mut next = it;
    next.fence = fence(2);
    let hosts = BTreeSet::from(["next.test".to_owned()]);
    let from = put(&rig.home, "next", &issuer.issue(&["next.test"]));
    next.shown.certificates.insert("d".parse().unwrap(), Certificate { hosts, from });
    rig.serve(&next);
    // Both are looked at together.
    until("the other is shown", || shake(addr, "next.test", issuer.roots(), &[]).is_ok());
    assert_eq!(shown(&shake(addr, "shop.test", issuer.roots(), &[]).unwrap()), now);
}

#[test]
fn requests_without_tls_are_sent_to_it_where_there_is_a_certificate() {
    let instance = Instance::says("plain");
    let (issuer, rig) = (Issuer::new(), Rig::new());
    let from = put(&rig.home, "shop", &issuer.issue(&["shop.test"]));
    let mut it = showing(table(1, &[(10_000, &[&instance])]), &["shop.test"], from);
    it.shown.https_port = Some(8443);
    rig.serve(&it);
    let ask =
        |host: &str| rig.client().raw(&format!("GET /a?b HTTP/1.1\r\nHost: {host}:80\r\n\r\n"));
    until("it is shown", || ask("shop.test").status == 308);
    assert_eq!(ask("shop.test").header("location"), Some("https://shop.test:8443/a?b"));
    assert_eq!(ask("other.test").body, "plain");
    let inside = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    assert_eq!(Client::connect(rig.internal).raw(inside).body, "plain");
}

#[test]
fn an_instance_and_the_edge_prove_themselves_to_one_another() {
    let (issuer, stranger, rig) = (Issuer::new(), Issuer::new(), Rig::new());
    let own = issuer.issue(&["edge.test"]);
    let files = |name: &str, pair: &(String, String)| match put(&rig.home, name, pair) {
        CertificateSource::Files { chain, key } => (chain, key),
        CertificateSource::Acme => unreachable!(),
    };
    let (chain, key) = files("edge", &own);
    let ca = rig.home.join("ca.pem");
    fs::write(&ca, issuer.pem()).unwrap();
    let tls = |name: &str| UpstreamTls {
        name: name.to_owned(),
        ca: ca.to_str().unwrap().to_owned(),
        own: Some((chain.clone(), key.clone())),
    };
    let good = tls_instance(&issuer, "web.internal");
    let serve = |generation: u64, addr: SocketAddr, tls: UpstreamTls| {
        let mut it = table_at(generation, &[(10_000, vec![addr])]);
        let pool = pool_of(&mut it, 1);
        pool.tls = Some(tls);
        // Where they do not know one another, only its port is looked at.
        if generation == 1 {
            pool.health.probe = Probe::Http { path: "/".to_owned() };
        }
        let traffic = Traffic { queue_wait: Duration::from_millis(100), ..Traffic::default() };
        rig.serve(&with(it, &traffic));
    };
    serve(1, good, tls("web.internal"));
    for _ in 0..3 {
        assert_eq!(rig.client().get("/").body, "proved");
    }
    serve(2, tls_instance(&issuer, "web.internal"), tls("another.internal"));
    assert_eq!(rig.client().get("/").status, 503);
    serve(3, tls_instance(&stranger, "web.internal"), tls("web.internal"));
    assert_eq!(rig.client().get("/").status, 503);
}

#[test]
fn a_server_of_grpc_behind_tls_is_asked_for_http2() {
    let (issuer, rig) = (Issuer::new(), Rig::new());
    let (chain, key) = issuer.issue(&["web.internal"]);
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
    // It serves, whatever it is asked.
    let serving = "\0\0\0\0\x02\x08\x01";
    let instance = H2Instance::behind_tls(config, |_, mut respond| {
        let head = Response::builder().header("content-type", "application/grpc");
        let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
        send.send_data(Bytes::from_static(serving.as_bytes()), false).unwrap();
        send.send_trailers(trailers("0")).unwrap();
    });
    let ca = rig.home.join("ca.pem");
    fs::write(&ca, issuer.pem()).unwrap();
    let ca = ca.to_str().unwrap().to_owned();
    let mut it = table_at(1, &[(10_000, vec![instance.addr])]);
    let pool = pool_of(&mut it, 1);
    pool.tls = Some(UpstreamTls { name: "web.internal".to_owned(), ca, own: None });
    pool.health.probe = Probe::Grpc { service: String::new() };
    rig.serve(&it);
    let mut client = H2Client::connect(rig.addr);
    let call = client.ask(request("POST", "/test.Echo/Unary", "application/grpc"), "x");
    assert_eq!((call.body.as_str(), instance.requests() > 1), (serving, true));
}

/// An instance that speaks TLS and wants to see a certificate of the same issuer.
fn tls_instance(issuer: &Issuer, name: &str) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = issuer.issue(&[name]);
    let roots = Arc::new(issuer.roots());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, config) = (stream.unwrap(), Arc::clone(&config));
            thread::spawn(move || {
                let session = rustls::ServerConnection::new(config).unwrap();
                let mut tls = StreamOwned::new(session, stream);
                let mut seen = Vec::new();
                let mut piece = [0; 1_024];
                loop {
                    match tls.read(&mut piece) {
                        Ok(0) | Err(_) => return,
                        Ok(length) => seen.extend_from_slice(&piece[..length]),
                    }
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nproved")
                            .unwrap();
                    }
                }
            });
        }
    });
    addr
}

#[test]
fn a_proxy_in_front_says_for_whom_a_connection_is_and_nobody_else() {
    let instance = Instance::new(|request, stream| {
        answer(stream, "200 OK", request.header("x-forwarded-for").unwrap_or("?"))
    });
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let head = "PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n";
    let asked = |head: &str| {
        let mut client = rig.client();
        client.write(head);
        client.try_get("/").map(|it| it.body)
    };
    assert_eq!(asked("").as_deref(), Some("127.0.0.1"));
    // Not believed, and no request either.
    assert_ne!(asked(head).as_deref(), Some("192.0.2.7"));
    it.fence = fence(2);
    it.shown.proxies = vec!["127.0.0.0/8".parse().unwrap()];
    rig.serve(&it);
    assert_eq!(asked(head).as_deref(), Some("192.0.2.7"));
    assert_eq!(asked("PROXY UNKNOWN\r\n").as_deref(), Some("127.0.0.1"));
    assert_eq!(asked(""), None, "a proxy that does not say is cut off");
    let inside = Client::connect(rig.internal).get("/").body;
    assert_eq!(inside, "127.0.0.1");
}

/// Something that is not HTTP: sends back what it gets, and first what it was told of the client.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut read = stream.try_clone().unwrap();
                let _ended = std::io::copy(&mut read, &mut stream);
                let _closed = stream.shutdown(Shutdown::Write);
            });
        }
    });
    addr
}

pub(crate) fn with_door(mut it: RoutingTable, proxy_protocol: bool) -> RoutingTable {
    let tcp = Tcp { service: "web".parse().unwrap(), proxy_protocol };
    it.tcp = BTreeMap::from([("tcp-0".to_owned(), tcp)]);
    it
}

#[test]
fn d13_bytes_go_both_ways_and_a_connection_has_its_time_to_drain() {
    let (first, second) = (echo(), echo());
    let rig = Rig::new();
    let addr = open(&rig, &["tcp-0"])[0];
    rig.serve(&with_door(table_at(1, &[(10_000, vec![first])]), false));
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = |text: &str| {
        stream.write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        let whole = stream.read_exact(&mut back);
        whole.map(|()| String::from_utf8(back).unwrap())
    };
    assert_eq!(said("hello").unwrap(), "hello");
    let one = |rig: &Rig| rig.observe().instances.values().map(|it| it.long_lived).sum::<u32>();
    assert_eq!(one(&rig), 1);

    // The new one takes what comes; what is there stays with the old one while that drains.
    let mut it = with_door(table_at(2, &[(0, vec![first]), (10_000, vec![second])]), false);
    let old = pool_of(&mut it, 1);
    old.instances.values_mut().for_each(|it| it.draining = true);
    old.drain_long_lived = Duration::from_secs(2);
    rig.serve(&it);
    assert_eq!(said("still there").unwrap(), "still there");
    until("it is cut when its time is up", || one(&rig) == 0);
    assert!(said("x").is_err());
    let mut next = TcpStream::connect(addr).unwrap();
    next.write_all(b"new").unwrap();
    next.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    next.read_to_string(&mut back).unwrap();
    assert_eq!(back, "new");
}

#[test]
fn an_instance_is_told_who_calls_and_a_dead_one_is_passed_over() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = dead.local_addr().unwrap();
    let rig = Rig::new();
    let addr = open(&rig, &["tcp-0"])[0];
    rig.serve(&with_door(table_at(1, &[(10_000, vec![gone, echo()])]), true));
    drop(dead);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(addr).unwrap();
        let own = stream.local_addr().unwrap();
        stream.write_all(b"x").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        BufReader::new(&mut stream).read_to_end(&mut back).unwrap();
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
        expected.extend(own.port().to_be_bytes());
        expected.extend(addr.port().to_be_bytes());
        expected.push(b'x');
        assert_eq!(back, expected);
    }
}
