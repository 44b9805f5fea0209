//! What the edge refuses: requests, tables.

use std::io::Write as _;

use evenkeel_edge::client::AskError;
use evenkeel_kernel::layout;
use evenkeel_kernel::model::{RevisionNumber, Weight};
use evenkeel_kernel::routing::RoutingTable;

use crate::instance::Instance;
use crate::rig::{Rig, fence, pool_of, table, table_at};

#[test]
fn s40_malformed_and_ambiguous_requests_never_reach_an_instance() {
    let instance = Instance::says("reached");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let post =
        |headers: &str| format!("POST / HTTP/1.1\r\nHost: test\r\n{headers}\r\n\r\n0\r\n\r\n");
    let refused = [
        post("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        post("Content-Length: 5\r\nContent-Length: 6"),
        post("Content-Length: 5, 5"),
        post("Content-Length: +5"),
        post("Content-Length: -1"),
        post("Transfer-Encoding: gzip, chunked"),
        post("Transfer-Encoding: chunked, gzip"),
        post("Transfer-Encoding: identity"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        post("Transfer-Encoding : chunked"),
        post("X: a\r\n folded"),
        post("X\u{0}: a"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "NOT HTTP\r\n\r\n".to_owned(),
    ];
    let count = u64::try_from(refused.len()).unwrap();
    for request in refused {
        let answer = rig.client().raw(&request);
        assert_eq!(answer.status, 400, "{request:?} gave {}", answer.head);
    }
    assert_eq!(instance.requests(), 0);
    crate::rig::until("all are counted", || rig.observe().unrouted.rejected == count);
}

#[test]
fn requests_have_bounds() {
    let instance = Instance::says("reached");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let long = |path: usize, header: usize| {
        let (path, header) = ("p".repeat(path), "h".repeat(header));
        rig.client()
            .raw(&format!("GET /{path} HTTP/1.1\r\nHost: test\r\nX: {header}\r\n\r\n"))
            .status
    };
    assert_eq!(long(1, 1), 200);
    assert_eq!(long(16_000, 1), 200);
    assert_eq!(long(17_000, 1), 414);
    assert_eq!(long(1, 60_000), 200);
    assert_eq!(long(1, 70_000), 431);
    let many = "X: y\r\n".repeat(200);
    let answer = rig.client().raw(&format!("GET / HTTP/1.1\r\nHost: test\r\n{many}\r\n"));
    assert_eq!(answer.status, 431);
    let answer = rig.client().raw("CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n");
    assert_eq!(answer.status, 405);
}

#[track_caller]
fn refused(rig: &Rig, table: &RoutingTable, because: &str) {
    match rig.door().apply(table) {
        Err(AskError::Refused { because: said, serving }) => {
            assert!(said.contains(because), "{said}");
            assert_eq!(serving, fence(5));
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn s09_bad_tables_are_refused_and_the_good_one_is_served_on() {
    let instance = Instance::says("good");
    let rig = Rig::new();
    let good = table(5, &[(10_000, &[&instance])]);
    rig.serve(&good);
    refused(&rig, &table(4, &[(10_000, &[&instance])]), "older");
    refused(&rig, &table(6, &[(9_000, &[&instance])]), "sums up to 9000");
    refused(&rig, &table(6, &[(10_000, &[])]), "without instances");
    let mut stray = table(6, &[(10_000, &[&instance])]);
    let service = stray.services.values_mut().next().unwrap();
    service.split = [(RevisionNumber(7), Weight::ALL)].into();
    refused(&rig, &stray, "r7, which has no pool");
    assert_eq!(rig.client().get("/").body, "good");
    assert_eq!(rig.observe().serving, fence(5));
    // The same once more is no change, and what is next is served.
    assert_eq!(rig.door().apply(&good).unwrap(), fence(5));
    let mut next = table(6, &[(10_000, &[&instance])]);
    pool_of(&mut next, 1).health.unhealthy_after = 5;
    assert_eq!(rig.door().apply(&next).unwrap(), fence(6));
}

#[test]
fn s40_the_door_answers_nonsense_and_goes_on() {
    let rig = Rig::new();
    let mut stream =
        std::os::unix::net::UnixStream::connect(rig.home.join(layout::EDGE_SOCKET)).unwrap();
    let mut ask = |text: &str| {
        use std::io::BufRead as _;
        stream.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        std::io::BufReader::new(&stream).read_line(&mut line).unwrap();
        line
    };
    assert!(ask("nonsense\n").contains("cannot be read"));
    assert!(ask("{\"version\":9,\"ask\":\"Observe\"}\n").contains("version 9 is unknown"));
    assert!(ask("{\"version\":1,\"ask\":\"Observe\"}\n").contains("incarnation"));
    let mode = std::fs::metadata(rig.home.join(layout::EDGE_SOCKET)).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
}

/// 200 times a table of a hundred instances; and the same number of instances twice over.
#[test]
fn s09_a_table_far_too_large_or_empty_is_refused_and_the_good_one_is_served_on() {
    let instance = Instance::says("good");
    let rig = Rig::new();
    rig.serve(&table(5, &[(10_000, &[&instance])]));
    // Who is healthy is kept beside the table, and changes by itself.
    let kept = || {
        let text = std::fs::read(rig.home.join(layout::EDGE_TABLE)).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["table"].clone()
    };
    let before = kept();
    assert!(before.is_object(), "{before}");
    let large = table_at(6, &[(10_000, vec![instance.addr; 20_000])]);
    refused(&rig, &large, "20000 instances, more than");
    refused(&rig, &table_at(6, &[(10_000, Vec::new())]), "without instances");
    let mut twice = table(6, &[(10_000, &[&instance])]);
    let service = twice.services.values_mut().next().unwrap();
    service.listener = Some("svc-web".to_owned());
    let copy = service.clone();
    twice.services.insert("other".parse().unwrap(), copy);
    refused(&rig, &twice, "two services have the listener");
    assert_eq!(rig.client().get("/").body, "good");
    assert_eq!(rig.observe().serving, fence(5));
    // And so does the next edge.
    assert_eq!(kept(), before);
}

#[test]
fn s40_probes_go_to_the_instance_and_follow_nobody() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let target = elsewhere.local_addr().unwrap();
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&asked);
    let instance = Instance::new(move |request, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        assert!(request.head.starts_with("GET "), "{}", request.head);
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{target}/\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&instance])]);
    let health = &mut pool_of(&mut it, 1).health;
    health.probe = evenkeel_kernel::model::Probe::Http { path: "/up".to_owned() };
    health.interval = std::time::Duration::from_millis(20);
    rig.serve(&it);
    crate::rig::until("it is probed again", || asked.load(Ordering::SeqCst) > 5);
    assert!(elsewhere.accept().is_err(), "a probe followed a redirect");
}
