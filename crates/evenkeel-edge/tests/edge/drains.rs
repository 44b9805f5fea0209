//! Instances and the edge itself taken out of service.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_edge::Limits;
use evenkeel_kernel::layout;
use evenkeel_kernel::routing::RoutingTable;

use crate::instance::{Instance, answer};
use crate::rig::{Rig, fence, pool_of, table, until};

/// An instance that answers when it is told to, and the teller.
fn patient() -> (Instance, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let instance = Instance::new(move |request, stream| {
        if request.path() == "/slow" && gone.lock().unwrap().recv().is_err() {
            return false;
        }
        answer(stream, "200 OK", "patient")
    });
    (instance, go)
}

fn draining(mut it: RoutingTable, generation: u64, patience: Duration) -> RoutingTable {
    it.fence = fence(generation);
    let pool = pool_of(&mut it, 1);
    pool.drain = patience;
    pool.drain_long_lived = patience;
    pool.instances.get_mut(&1).unwrap().draining = true;
    it
}

#[test]
fn d01_d08_a_draining_instance_ends_what_it_has_and_control_is_told() {
    let (first, go) = patient();
    let second = Instance::says("second");
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&first])]);
    rig.serve(&it);
    let mut slow = rig.client();
    slow.write("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is under way", || rig.counts(1).in_flight == 1);

    let both = table(2, &[(10_000, &[&first, &second])]);
    rig.serve(&both);
    let it = draining(both, 3, Duration::from_secs(30));
    rig.door().apply(&it).unwrap();
    let id = "web.r1.1".parse().unwrap();
    assert!(!rig.door().routes_to(&id).unwrap());
    assert!(rig.door().routes_to(&"web.r1.2".parse().unwrap()).unwrap());
    assert!(!rig.door().routes_to(&"web.r1.3".parse().unwrap()).unwrap());
    assert_eq!(rig.observe().instances[&id].in_flight, 1);
    let mut client = rig.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").body, "second");
    }

    let wake = UnixDatagram::bind(rig.home.join(layout::WAKE_SOCKET)).unwrap();
    wake.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    go.send(()).unwrap();
    assert_eq!(slow.answer(false).unwrap().body, "patient");
    wake.recv(&mut [0; 1]).unwrap();
    until("it is empty", || rig.observe().instances[&id].in_flight == 0);
}

#[test]
fn a_request_that_takes_too_long_is_cut() {
    let (first, _go) = patient();
    let second = Instance::says("second");
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&first])]);
    rig.serve(&it);
    let mut slow = rig.client();
    slow.write("POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    until("it is under way", || rig.counts(1).in_flight == 1);
    // The instance vanishes from the table altogether; its patience is that of the last one.
    let short = draining(it, 2, Duration::from_millis(300));
    let mut short = RoutingTable { fence: fence(2), ..short };
    pool_of(&mut short, 1)
        .instances
        .insert(2, evenkeel_kernel::routing::Instance { addr: second.addr, draining: false });
    rig.door().apply(&short).unwrap();
    let began = Instant::now();
    assert_eq!(slow.answer(false).unwrap().status, 502);
    assert!(began.elapsed() < Duration::from_secs(5));
    until("its place is free", || {
        rig.observe().instances[&"web.r1.1".parse().unwrap()].in_flight == 0
    });
}

#[test]
fn d13_an_upgraded_connection_carries_both_ways_and_drains_with_its_own_patience() {
    let instance = Instance::new(|request, stream| {
        assert_eq!(request.header("upgrade"), Some("echo"));
        assert_eq!(request.header("connection"), Some("upgrade"));
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\nX-Kept: yes\r\n\r\n")
            .unwrap();
        let mut buffer = [0; 1_024];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).unwrap();
        }
        false
    });
    let second = Instance::says("second");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let connect = || {
        let mut client = rig.client();
        client.write(
            "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst",
        );
        let head = client.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("X-Kept: yes"), "{head}");
        let mut echoed = [0; 5];
        client.read.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"first");
        client
    };
    let mut client = connect();
    for n in 0..100_u8 {
        client.stream().write_all(&[n; 100]).unwrap();
        let mut echoed = [0; 100];
        client.read.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, [n; 100]);
    }
    let id = "web.r1.1".parse().unwrap();
    let at = &rig.observe().instances[&id];
    assert_eq!((at.long_lived, at.in_flight), (1, 0));
    assert_eq!(rig.counts(1).status_1xx, 1);

    client.stream().shutdown(Shutdown::Both).unwrap();
    until("the first is gone", || rig.observe().instances[&id].long_lived == 0);
    let mut client = connect();
    let both = table(2, &[(10_000, &[&instance, &second])]);
    rig.serve(&both);
    rig.door().apply(&draining(both, 3, Duration::from_millis(500))).unwrap();
    assert_eq!(client.read.read(&mut [0; 1]).unwrap_or(0), 0, "it is cut");
    until("the second is gone", || rig.observe().instances[&id].long_lived == 0);
}

#[test]
fn d02_an_edge_that_ends_answers_what_it_has() {
    let (first, go) = patient();
    let mut rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&first])]));
    let mut idle = rig.client();
    assert_eq!(idle.get("/").status, 200);
    let mut slow = rig.client();
    slow.write("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is under way", || rig.counts(1).in_flight == 1);
    let edge = rig.edge.take().unwrap();
    let ending = thread::spawn(move || edge.stop());
    // On an idle connection one more request is answered, and told that it is the last.
    let last = idle.get("/");
    assert_eq!(last.status, 200);
    until("it says so", || {
        last.header("connection") == Some("close")
            || idle.get("/").header("connection") == Some("close")
    });
    go.send(()).unwrap();
    let answer = slow.answer(false).unwrap();
    assert_eq!((answer.body.as_str(), answer.header("connection")), ("patient", Some("close")));
    ending.join().unwrap().unwrap();
    // The keeper holds the socket: who comes now is served by the next edge.
    let mut waiting = rig.client();
    waiting.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    rig.start_edge();
    assert_eq!(waiting.answer(false).unwrap().status, 200);
}

#[test]
fn an_edge_with_nothing_to_do_ends_at_once() {
    let instance = Instance::says("x");
    let long = Duration::from_secs(600);
    let mut rig = Rig::within(Limits { linger: long, shutdown: long, ..Limits::default() });
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    assert_eq!(rig.client().get("/").status, 200);
    let asked = Instant::now();
    rig.stop_edge();
    assert!(asked.elapsed() < Duration::from_secs(10), "it has waited for nobody");
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let instance = Instance::says("x");
    let long = Duration::from_secs(600);
    let mut rig = Rig::within(Limits { shutdown: long, ..Limits::default() });
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut idle: Vec<_> = (0..100).map(|_| rig.client()).collect();
    for client in &mut idle[50..] {
        assert_eq!(client.get("/").status, 200);
    }
    let asked = Instant::now();
    rig.stop_edge();
    assert!(asked.elapsed() < Duration::from_secs(10), "they linger for two seconds");
    for client in &mut idle {
        assert_eq!(client.read.read(&mut [0; 1]).unwrap(), 0, "closed in order, not reset");
    }
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let (first, _go) = patient();
    let short = Duration::from_millis(300);
    let mut rig = Rig::within(Limits { shutdown: short, ..Limits::default() });
    rig.serve(&table(1, &[(10_000, &[&first])]));
    let mut slow = rig.client();
    slow.write("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is under way", || rig.counts(1).in_flight == 1);
    let asked = Instant::now();
    rig.stop_edge();
    assert!((short..Duration::from_secs(10)).contains(&asked.elapsed()));
    assert!(slow.answer(false).is_none());
}

#[test]
fn two_edges_do_not_share_a_home() {
    let rig = Rig::new();
    let config = evenkeel_edge::Config {
        home: rig.home.clone(),
        threads: 1,
        succeed: false,
        about: String::new(),
    };
    let second = evenkeel_edge::Edge::start(&config);
    assert!(matches!(second, Err(evenkeel_edge::RunError::Running)));
    assert_eq!(rig.observe().listeners, ["edge-0", "svc-web"]);
}

#[test]
fn a_look_at_its_lock_does_not_keep_an_edge_from_starting() {
    let mut rig = Rig::without_edge();
    let lock = std::fs::File::open(rig.home.join("run/edge.lock")).unwrap();
    lock.lock_shared().unwrap();
    let looking = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(lock);
    });
    rig.start_edge();
    looking.join().unwrap();
}

#[test]
fn what_an_instance_has_to_do_is_told_as_a_mean() {
    let (instance, go) = patient();
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let load = || rig.observe().instances[&"web.r1.1".parse().unwrap()].load_milli;
    assert_eq!(load(), None, "nobody has watched it for long enough");
    let mut slow = rig.client();
    slow.write("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    until("its mean nears what it has", || load().is_some_and(|load| (600..1_001).contains(&load)));
    go.send(()).unwrap();
    assert_eq!(slow.answer(false).unwrap().body, "patient");
    until("it is forgotten", || load().is_some_and(|load| load < 500));
}
