//! Requests that are relayed as bytes, and connections on which others come between them.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use crate::client::Client;
use crate::instance::{Instance, answer};
use crate::rig::{Rig, table, until};

fn rig(instance: &Instance) -> Rig {
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[instance])]));
    rig
}

/// An instance that says exactly this to every request, and whether it keeps the connection.
fn saying(text: &'static str, keeps: bool) -> Instance {
    Instance::new(move |_, stream| stream.write_all(text.as_bytes()).is_ok() && keeps)
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let instance = Instance::new(|request, stream| answer(stream, "200 OK", request.path()));
    let rig = rig(&instance);
    let mut client = rig.client();
    let all: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n")).collect();
    client.write(&all);
    for n in 0..50 {
        assert_eq!(client.answer(false).unwrap().body, format!("/{n}"));
    }
    assert_eq!(rig.counts(1).status_2xx, 50);
}

#[test]
fn what_is_not_simple_comes_between_on_the_same_connection() {
    let instance = Instance::new(|request, stream| {
        let length = request.body.len();
        let chunked = request.header("transfer-encoding").is_some();
        answer(stream, "200 OK", &format!("{} {length} {chunked}", request.path()))
    });
    let rig = rig(&instance);
    let mut client = rig.client();
    assert_eq!(client.get("/simple").body, "/simple 0 false");
    assert_eq!(client.post("/post", "abc").body, "/post 3 false");
    // Sent ahead, so that what comes after it is read before.
    client.write(
        "POST /chunks HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\n\r\nGET /after HTTP/1.1\r\nHost: test\r\n\r\n",
    );
    assert_eq!(client.answer(false).unwrap().body, "/chunks 3 true");
    assert_eq!(client.answer(false).unwrap().body, "/after 0 false");
    assert_eq!(client.get("/again").body, "/again 0 false");
    assert_eq!(instance.requests(), 5);
}

#[test]
fn answers_of_every_kind_arrive_whole() {
    let ask = |instance: &Instance| {
        let rig = rig(instance);
        let mut client = rig.client();
        let first = client.get("/");
        // And the client's connection is good for another.
        assert_eq!(client.get("/").body, first.body);
        until("both are counted", || rig.counts(1).status_2xx == 2);
        first
    };
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    assert_eq!(ask(&saying(chunked, true)).body, "abcde");
    let to_the_end = ask(&saying("HTTP/1.1 200 OK\r\n\r\nuntil it ends", false));
    assert_eq!(to_the_end.body, "until it ends");
    assert_eq!(to_the_end.header("transfer-encoding"), Some("chunked"));
    let old = ask(&saying("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold", false));
    assert_eq!((old.body.as_str(), old.head.starts_with("HTTP/1.1 ")), ("old", true));
    let early =
        "HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate";
    assert_eq!(ask(&saying(early, true)).body, "late");
    let nothing = ask(&saying("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", true));
    assert_eq!((nothing.status, nothing.header("x-a")), (204, Some("1")));
    assert!(nothing.header("date").is_some());
}

#[test]
fn a_head_is_asked_for_without_its_body() {
    let instance = saying("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", true);
    let rig = rig(&instance);
    let mut client = rig.client();
    for _ in 0..3 {
        let answer = client.raw("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("5000")));
    }
}

#[test]
fn s40_an_answer_that_nobody_asked_for_reaches_nobody() {
    let bad = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\noneHTTP/1.1 200 OK\r\n\
               content-length: 6\r\n\r\nsecret";
    let instance = saying(bad, true);
    let rig = rig(&instance);
    let mut client = rig.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").body, "one");
    }
    assert_eq!(rig.counts(1).failed(), 0);
}

#[test]
fn s40_an_answer_that_can_be_read_in_two_ways_is_none() {
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabcd",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        let instance = saying(bad, true);
        let rig = rig(&instance);
        let answer = rig.client().get("/");
        assert_eq!(
            (answer.status, answer.header("x-evenkeel-error")),
            (502, Some("reset")),
            "{bad}"
        );
    }
    // What shows only later ends the client's connection in the middle.
    let instance = saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX", true);
    let rig = rig(&instance);
    assert!(rig.client().try_get("/").is_none());
    until("it is counted", || rig.counts(1).resets == 1);
}

#[test]
fn a_client_that_leaves_in_the_middle_frees_the_instance() {
    let instance = Instance::new(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        stream.write_all(head).unwrap();
        // A stream of events without an end.
        let mut byte = [0; 1];
        std::io::Read::read(stream, &mut byte).is_ok_and(|length| length > 0)
    });
    let rig = rig(&instance);
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(client.head().unwrap().contains("200 OK"));
    assert_eq!(rig.counts(1).in_flight, 1);
    drop(client);
    until("it is free", || rig.counts(1).in_flight == 0);
    let counts = rig.counts(1);
    assert_eq!((counts.client_gone, counts.failed()), (1, 0));
}

#[test]
fn a_large_answer_of_a_slow_reader_costs_no_memory() {
    const LENGTH: usize = 200_000_000;
    let instance = Instance::new(|_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let piece = vec![b'x'; 1_000_000];
        (0..LENGTH / piece.len()).all(|_| stream.write_all(&piece).is_ok())
    });
    let rig = rig(&instance);
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head().unwrap();
    let mut body = 0;
    let mut piece = vec![0; 1_000_000];
    while body < LENGTH {
        body += std::io::Read::read(&mut client.read, &mut piece).unwrap();
    }
    assert_eq!(body, LENGTH);
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().split(' ').next().unwrap().parse().unwrap();
    assert!(peak < 1_000_000, "{peak} KiB at its height");
}

#[test]
fn many_at_once_keep_their_own() {
    let instance = Instance::new(|request, stream| {
        let body = request.path().repeat(100);
        answer(stream, "200 OK", &body)
    });
    let rig = rig(&instance);
    let wrong = Arc::new(Mutex::new(0));
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (addr, wrong) = (rig.addr, Arc::clone(&wrong));
            std::thread::spawn(move || {
                let mut connection = Client::connect(addr);
                for n in 0..200 {
                    let path = format!("/{client}/{n}");
                    if connection.get(&path).body != path.repeat(100) {
                        *wrong.lock().unwrap() += 1;
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|it| it.join().unwrap());
    assert_eq!(*wrong.lock().unwrap(), 0);
}
