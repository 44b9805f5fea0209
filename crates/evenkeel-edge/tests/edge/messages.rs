//! What becomes of a message on its way through.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use crate::client::Client;
use crate::instance::{Instance, Request, answer};
use crate::rig::{Rig, table, until};

/// An instance that keeps what it got.
fn witness() -> (Instance, Arc<Mutex<Vec<Request>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let instance = Instance::new(move |request, stream| {
        kept.lock().unwrap().push(request.clone());
        answer(stream, "200 OK", "seen")
    });
    (instance, seen)
}

#[test]
fn s40_requests_say_for_whom_they_are() {
    let (instance, seen) = witness();
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let request = "GET /a?b=c HTTP/1.1\r\nHost: Shop.test\r\nX-Mixed-Case: Kept\r\n\
        X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
        Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n";
    rig.client().raw(request);
    Client::connect(rig.internal).raw(request);
    let seen = seen.lock().unwrap();
    let [outside, inside] = seen.as_slice() else { panic!("two requests") };
    assert!(outside.head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", outside.head);
    assert!(outside.head.contains("\r\nX-Mixed-Case: Kept\r\n"), "{}", outside.head);
    assert_eq!(outside.header("host"), Some("Shop.test"));
    assert_eq!(outside.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(outside.header("x-forwarded-proto"), Some("http"));
    assert_eq!(outside.header("x-forwarded-host"), Some("Shop.test"));
    assert_eq!(outside.header("x-request-id").map(str::len), Some(32));
    for gone in ["forwarded", "x-hop", "te", "connection"] {
        assert_eq!(outside.header(gone), None, "{gone}");
    }
    assert_eq!(inside.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(inside.header("x-forwarded-proto"), Some("https"));
}

#[test]
fn s40_nobody_behind_the_edge_is_asked_to_become_http2() {
    let (instance, seen) = witness();
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    // As curl does it; what follows would be requests that no route was found for.
    let answer = rig.client().raw(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!((answer.status, answer.body.as_str()), (200, "seen"));
    let seen = seen.lock().unwrap();
    for gone in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(seen[0].header(gone), None, "{gone}");
    }
}

#[test]
fn absolute_targets_and_old_clients_are_understood() {
    let (instance, seen) = witness();
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    rig.client().raw("GET http://Other.test:8080/x HTTP/1.1\r\nHost: test\r\n\r\n");
    rig.client().raw("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
    let old = rig.client().raw("GET / HTTP/1.0\r\n\r\n");
    assert!(old.head.starts_with("HTTP/1.0 200"), "{}", old.head);
    let kept = rig.client().raw("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(
        kept.header("connection").map(str::to_ascii_lowercase).as_deref(),
        Some("keep-alive")
    );
    let seen = seen.lock().unwrap();
    assert!(seen[0].head.starts_with("GET /x HTTP/1.1"));
    assert_eq!(seen[0].header("host"), Some("Other.test:8080"));
    assert!(seen[1].head.starts_with("OPTIONS * HTTP/1.1"), "{}", seen[1].head);
    assert!(seen[2].head.starts_with("GET / HTTP/1.1"));
}

#[test]
fn answers_without_bodies_keep_the_connection() {
    let instance = Instance::new(|request, stream| {
        let text = match request.path() {
            "/204" => "HTTP/1.1 204 No Content\r\nX-Kept: yes\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\nETag: \"a\"\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
            "/close" => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end",
            _ => {
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\nKeep-Alive: timeout=1\r\n\r\nbody"
            }
        };
        stream.write_all(text.as_bytes()).is_ok() && request.path() != "/close"
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    let none = client.get("/204");
    assert_eq!((none.status, none.header("content-length")), (204, None));
    assert!(none.head.contains("X-Kept: yes"), "{}", none.head);
    let same = client.get("/304");
    assert_eq!((same.status, same.header("etag")), (304, Some("\"a\"")));
    let head = client.raw("HEAD /head HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!((head.status, head.header("content-length")), (200, Some("9")));
    let end = client.get("/close");
    assert_eq!((end.body.as_str(), end.header("connection")), ("to the end", None));
    let plain = client.get("/");
    assert_eq!((plain.body.as_str(), plain.header("keep-alive")), ("body", None));
    until("all are counted", || rig.counts(1).requests == 5);
    assert_eq!((rig.counts(1).status_2xx, rig.counts(1).status_3xx), (4, 1));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let (instance, seen) = witness();
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    client.write(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    assert!(client.head().unwrap().starts_with("HTTP/1.1 100"));
    assert_eq!(client.raw("body").body, "seen");
    let seen = seen.lock().unwrap();
    assert_eq!((seen[0].body.as_slice(), seen[0].header("expect")), (b"body".as_slice(), None));
}

#[test]
fn requests_may_follow_one_another_unasked() {
    let (instance, seen) = witness();
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    let get = |n| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.write(&(0..20).map(get).collect::<String>());
    for _ in 0..20 {
        assert_eq!(client.answer(false).unwrap().body, "seen");
    }
    let paths: Vec<_> = seen.lock().unwrap().iter().map(|it| it.path().to_owned()).collect();
    assert_eq!(paths, (0..20).map(|n| format!("/{n}")).collect::<Vec<_>>());
}
