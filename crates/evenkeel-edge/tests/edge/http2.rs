//! HTTP/2 on both sides, with what is carried over it: calls of gRPC and WebSockets.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use evenkeel_kernel::model::{Probe, Protocol};
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::world::Health;
use h2::ext::Protocol as Extended;
use http::{Method, Request, Response};

use crate::h2_peer::{H2Client, H2Instance, echo, ends_with, refuse, request, trailers, whole};
use crate::instance::{Instance, answer};
use crate::rig::{Rig, pool_of, table, table_at, until};

const GRPC: &str = "application/grpc";

fn h2c(mut it: RoutingTable) -> RoutingTable {
    pool_of(&mut it, 1).protocol = Protocol::H2c;
    it
}

#[test]
fn clients_of_http2_reach_instances_of_http1() {
    let instance = Instance::new(|request, stream| {
        let host = request.header("host").unwrap_or_default();
        let seen = format!("{} {host} {}", request.path(), request.body.len());
        answer(stream, "200 OK", &seen)
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = H2Client::connect(rig.addr);
    assert_eq!(client.get("/a?b").body, "/a?b test 0");
    let posted = client.ask(request("POST", "/p", "text/plain"), &"x".repeat(70_000));
    assert_eq!((posted.head.status.as_u16(), posted.body.as_str()), (200, "/p test 70000"));
    // Many at once on the one connection.
    let bodies = client.run(async |send| {
        let calls: Vec<_> = (0..100)
            .map(|n| {
                let path = format!("/{n}");
                tokio::spawn(whole(send.clone(), request("GET", &path, ""), Bytes::new()))
            })
            .collect();
        let mut bodies = Vec::new();
        for call in calls {
            bodies.push(call.await.unwrap().unwrap().body);
        }
        bodies
    });
    let expected: Vec<_> = (0..100).map(|n| format!("/{n} test 0")).collect();
    assert_eq!(bodies, expected);
    assert_eq!(rig.counts(1).status_2xx, 102);
}

#[test]
fn instances_of_http2_get_everything_by_it_on_few_connections() {
    let instance = H2Instance::new(|request, mut respond| {
        let seen = format!("{} {:?}", request.uri(), request.version());
        let head = Response::new(());
        let mut send = respond.send_response(head, false).unwrap();
        send.send_data(seen.into(), true).unwrap();
    });
    let rig = Rig::new();
    rig.serve(&h2c(table_at(1, &[(10_000, vec![instance.addr])])));
    let probed = instance.connections();
    let mut client = rig.client();
    for n in 0..50 {
        assert_eq!(client.get(&format!("/{n}")).body, format!("http://test/{n} HTTP/2.0"));
    }
    assert_eq!(instance.requests(), 50);
    let probes = Duration::from_secs(1).as_millis() / 50;
    let most = probed + 2 + usize::try_from(probes).unwrap();
    assert!(instance.connections() < most, "{} connections", instance.connections());
}

#[test]
fn a_call_streams_both_ways_and_ends_in_trailers() {
    let instance = H2Instance::new(echo);
    let rig = Rig::new();
    rig.serve(&table_at(1, &[(10_000, vec![instance.addr])]));
    let mut client = H2Client::connect(rig.addr);
    client.run(async |send| {
        let mut send = send.ready().await.unwrap();
        let (response, mut stream) = send.send_request(request("POST", "/s", GRPC), false).unwrap();
        let mut body = None;
        let mut response = Some(response);
        for n in 0..5 {
            stream.send_data(format!("message {n}").into(), false).unwrap();
            if let Some(response) = response.take() {
                body = Some(response.await.unwrap().into_body());
            }
            let data = body.as_mut().unwrap().data().await.unwrap().unwrap();
            assert_eq!(data, format!("message {n}"));
        }
        stream.send_data(Bytes::new(), true).unwrap();
        let mut body = body.unwrap();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
    until("it is counted", || rig.counts(1).status_2xx == 1);
}

#[test]
fn a_call_counts_by_how_it_ended() {
    let instance = H2Instance::new(|request, respond| {
        let status = if request.uri().path() == "/bad" { "14" } else { "5" };
        ends_with(status)(request, respond);
    });
    let rig = Rig::new();
    rig.serve(&table_at(1, &[(10_000, vec![instance.addr])]));
    let mut client = H2Client::connect(rig.addr);
    let bad = client.ask(request("POST", "/bad", GRPC), "x");
    assert_eq!(
        (bad.head.status.as_u16(), &bad.trailers.unwrap()["grpc-status"]),
        (200, &"14".parse().unwrap())
    );
    client.ask(request("POST", "/not-found", GRPC), "x");
    until("both are counted", || rig.counts(1).requests == 2);
    let counts = rig.counts(1);
    assert_eq!((counts.status_2xx, counts.status_4xx, counts.status_5xx), (0, 1, 1));
}

#[test]
fn a_server_of_grpc_is_asked_how_it_is_in_its_own_words() {
    let [serving, wrong] = [true, false].map(|it| Arc::new(AtomicBool::new(it)));
    let (says, strays) = (Arc::clone(&serving), Arc::clone(&wrong));
    let instance = H2Instance::new(move |request, mut respond| {
        let is_check = request.uri().path() == "/grpc.health.v1.Health/Check"
            && request.headers()["content-type"] == GRPC
            && request.headers()["te"] == "trailers";
        if !is_check {
            strays.store(true, Ordering::SeqCst);
        }
        let status = if says.load(Ordering::SeqCst) { 1 } else { 2 };
        tokio::spawn(async move {
            let asked = request.into_body().data().await.unwrap().unwrap();
            let head = Response::builder().header("content-type", GRPC);
            let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
            // As `doc/health-checking.md` says: a service that is not known is an error.
            let known = asked[..] == *b"\0\0\0\0\x06\x0a\x04shop";
            if known {
                let answer = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
                send.send_data(answer, false).unwrap();
            }
            send.send_trailers(trailers(if known { "0" } else { "5" })).unwrap();
        });
    });
    let rig = Rig::new();
    let asks = |generation, service: &str| {
        let mut it = h2c(table_at(generation, &[(10_000, vec![instance.addr])]));
        let service = service.to_owned();
        pool_of(&mut it, 1).health.probe = Probe::Grpc { service };
        rig.door().apply(&it).unwrap();
    };
    asks(1, "shop");
    until("it serves", || rig.health("web.r1.1") == Health::Healthy);
    serving.store(false, Ordering::SeqCst);
    until("it does not", || rig.health("web.r1.1") == Health::Unhealthy);
    serving.store(true, Ordering::SeqCst);
    until("it serves again", || rig.health("web.r1.1") == Health::Healthy);
    asks(2, "other");
    until("it does not know that one", || rig.health("web.r1.1") == Health::Unhealthy);
    assert!(!wrong.load(Ordering::SeqCst), "something else was asked");
}

#[test]
fn a_call_that_reaches_nobody_is_told_so_in_its_own_words() {
    let rig = Rig::new();
    rig.door().apply(&table_at(1, &[])).unwrap();
    let mut client = H2Client::connect(rig.addr);
    let failed = client.ask(request("POST", "/s", GRPC), "x");
    assert_eq!(failed.head.status, 200);
    assert_eq!(failed.head.headers["grpc-status"], "14");
    assert_eq!(failed.head.headers["x-evenkeel-error"], "no-instance");
    assert_eq!(client.get("/").head.status, 503);
}

#[test]
fn a_call_that_was_not_begun_is_made_again_elsewhere() {
    let refusing = H2Instance::new(|_, mut respond| refuse(&mut respond));
    let good = H2Instance::new(echo);
    let rig = Rig::new();
    rig.serve(&table_at(1, &[(10_000, vec![refusing.addr, good.addr])]));
    let mut client = H2Client::connect(rig.addr);
    for n in 0..20 {
        let text = format!("call {n}");
        let answer = client.ask(request("POST", "/s", GRPC), &text);
        assert_eq!(
            (answer.body, &answer.trailers.unwrap()["grpc-status"]),
            (text, &"0".parse().unwrap())
        );
    }
    assert!(refusing.requests() > 0);
    assert_eq!(good.requests(), 20);
    assert_eq!(rig.counts(1).status_2xx, 20);
}

#[test]
fn a_web_socket_lives_on_a_stream() {
    let instance = Instance::new(|request, stream| {
        assert_eq!(request.header("upgrade"), Some("websocket"));
        assert!(request.header("sec-websocket-key").is_some_and(|key| key.len() == 24));
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                  upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n",
            )
            .unwrap();
        let mut bytes = [0; 5];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).unwrap();
        }
        false
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = H2Client::connect(rig.addr);
    client.run(async |send| {
        let mut send = send.ready().await.unwrap();
        // The edge says in its settings that it can do this.
        tokio::time::timeout(Duration::from_secs(5), async {
            while !send.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the setting comes");
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://test/socket")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        request.extensions_mut().insert(Extended::from_static("websocket"));
        let (response, mut stream) = send.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut body = response.into_body();
        for text in ["hello", "again"] {
            stream.send_data(text.into(), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), text);
        }
        assert_eq!(rig.observe().instances.values().next().unwrap().long_lived, 1);
        stream.send_data(Bytes::new(), true).unwrap();
        while let Some(data) = body.data().await {
            assert_eq!(data.unwrap(), "");
        }
    });
    until("it has ended", || rig.observe().instances.values().next().unwrap().long_lived == 0);
}

#[test]
fn d02_an_edge_that_ends_says_so_and_answers_what_it_has() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let instance = Instance::new(move |_, stream| {
        gone.lock().unwrap().recv().unwrap();
        answer(stream, "200 OK", "patient")
    });
    let mut rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = H2Client::connect(rig.addr);
    let edge = rig.edge.take().unwrap();
    client.run(async |send| {
        let slow = tokio::spawn(whole(send.clone(), request("GET", "/", ""), Bytes::new()));
        while rig.counts(1).in_flight == 0 {
            tokio::task::yield_now().await;
        }
        let stopping = tokio::task::spawn_blocking(move || edge.stop());
        // No new request is taken on this connection once the client has heard of it.
        let refused = async {
            loop {
                match send.clone().ready().await {
                    Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => break error,
                }
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
        assert!(error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR), "{error}");
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap().unwrap().body, "patient");
        stopping.await.unwrap().unwrap();
    });
}

#[test]
fn who_opens_and_resets_without_end_loses_the_connection() {
    let instance = Instance::says("hello");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut raw = Raw::connect(&rig);
    // `:method: GET`, `:scheme: http`, `:path: /`, `:authority: t`.
    let head = [0x82, 0x86, 0x84, 0x41, 1, b't'];
    let twice = |n: u32| {
        let stream = 2 * n + 1;
        [frame(1, 0x4, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let sent = (0..100_000).take_while(|n| raw.write(&twice(*n)).is_ok()).count();
    assert!(sent < 100_000, "it was let go on");
    assert_eq!(raw.leaves_with(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    until("it is counted", || rig.observe().unrouted.rejected == 1);
    assert_eq!(rig.client().get("/").body, "hello");
}

/// One frame.
fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// A connection whose frames are written by hand; what comes back is read meanwhile.
struct Raw {
    write: TcpStream,
    read: JoinHandle<Vec<u8>>,
}

impl Raw {
    fn connect(rig: &Rig) -> Self {
        let write = TcpStream::connect(rig.addr).unwrap();
        let mut read = write.try_clone().unwrap();
        let read = thread::spawn(move || {
            let mut all = Vec::new();
            let _reset = read.read_to_end(&mut all);
            all
        });
        let mut raw = Self { write, read };
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        raw.write(&frame(4, 0, 0, &[])).unwrap();
        raw
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes)
    }

    /// Waits for the end of the connection; the reason of its last GOAWAY.
    fn leaves_with(self) -> Option<h2::Reason> {
        let all = self.read.join().unwrap();
        let (mut rest, mut reason) = (all.as_slice(), None);
        while let Some((head, after)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let Some((body, next)) = after.split_at_checked(usize::try_from(length).unwrap())
            else {
                break;
            };
            if head[3] == 7 {
                let code = u32::from_be_bytes(body[4..8].try_into().unwrap());
                reason = Some(h2::Reason::from(code));
            }
            rest = next;
        }
        reason
    }
}

#[test]
fn headers_without_end_lose_the_connection_and_large_ones_their_request() {
    let instance = Instance::says("hello");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = H2Client::connect(rig.addr);
    let mut large = request("GET", "/", "");
    large.headers_mut().insert("x", "x".repeat(80_000).parse().unwrap());
    assert_eq!(client.ask(large, "").head.status, 431);
    assert_eq!(client.get("/").body, "hello");

    let mut raw = Raw::connect(&rig);
    // `:method: GET`, and no end of headers.
    raw.write(&frame(1, 0, 1, &[0x82])).unwrap();
    // A literal that is never indexed: `x: xxxx…`, 4,096 bytes long.
    let literal = [&[0x10, 1, b'x', 0x7f, 0x81, 0x1f][..], &[b'x'; 4_096]].concat();
    let sent = (0..100_000).take_while(|_| raw.write(&frame(9, 0, 1, &literal)).is_ok()).count();
    assert!(sent < 100_000, "it was let go on");
    assert_eq!(raw.leaves_with(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert_eq!(rig.client().get("/").body, "hello");
}
