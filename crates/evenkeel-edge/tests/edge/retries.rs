//! What fails and what does not when instances die.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use evenkeel_kernel::world::Health;

use crate::instance::{Instance, answer};
use crate::rig::{Rig, table, until};

#[test]
fn an_instance_dies_under_load_and_nobody_notices() {
    let (first, second) = (Instance::says("first"), Instance::says("second"));
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&first, &second])]));
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..16)
        .map(|_| {
            let (stop, mut client) = (Arc::clone(&stop), rig.client());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.get("/");
                    assert_eq!(answer.status, 200, "{}", answer.head);
                }
            })
        })
        .collect();
    until("both serve", || first.requests() > 200 && second.requests() > 200);
    first.kill();
    until("it is out", || rig.health("web.r1.1") == Health::Unhealthy);
    let after = second.requests();
    until("the other serves on", || second.requests() > after + 200);
    stop.store(true, Ordering::SeqCst);
    load.into_iter().for_each(|it| it.join().unwrap());
    let counts = rig.counts(1);
    assert_eq!((counts.failed(), counts.client_gone), (0, 0));
    assert!(counts.retries > 0);
}

#[test]
fn a_request_with_an_effect_is_never_made_twice() {
    // Both take effect and die before they answer.
    let effects = Arc::new(Mutex::new(Vec::new()));
    let dying = || {
        let effects = Arc::clone(&effects);
        Instance::new(move |request, _| {
            effects.lock().unwrap().push(String::from_utf8(request.body.clone()).unwrap());
            false
        })
    };
    let (first, second) = (dying(), dying());
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&first, &second])]));
    for n in 0..20 {
        let answer = rig.client().post("/", &n.to_string());
        assert_eq!((answer.status, answer.header("x-evenkeel-error")), (502, Some("reset")));
    }
    let made = effects.lock().unwrap().clone();
    assert_eq!(made.len(), 20, "{made:?}");
    assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), 20);
    let counts = rig.counts(1);
    assert_eq!((counts.resets, counts.requests, counts.failed_streaks), (20, 20, 2));
}

#[test]
fn d03_an_idle_connection_that_was_closed_costs_no_request() {
    let instance = Instance::says("x");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    for n in 0..50_usize {
        assert_eq!(client.post("/", "x").status, 200);
        instance.close_connections();
        assert_eq!(instance.requests(), n + 1, "never twice");
    }
    assert_eq!(rig.counts(1).failed(), 0);
}

#[test]
fn what_can_be_repeated_is_with_its_body() {
    let broken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&broken);
    let first = Instance::new(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        false
    });
    let second = Instance::new(|request, stream| {
        answer(stream, "200 OK", &String::from_utf8_lossy(&request.body))
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&first, &second])]));
    let mut client = rig.client();
    for _ in 0..10 {
        let answer = client.raw("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    }
    assert!(broken.load(Ordering::SeqCst) > 0, "the first was tried");
    assert_eq!(rig.counts(1).failed(), 0);
}

#[test]
fn an_answer_that_breaks_off_is_a_reset_and_is_not_repaired() {
    let instance = Instance::new(|_, stream| {
        let _write_all = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome");
        false
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    assert!(rig.client().try_get("/").is_none(), "cut off, not completed");
    until("it is counted", || rig.counts(1).resets == 1);
    assert_eq!((rig.counts(1).status_2xx, instance.requests()), (0, 1));
}

#[test]
fn a_client_that_leaves_is_not_the_pools_fault() {
    let instance = Instance::new(|_, stream| {
        let _write_all = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome");
        true
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head().unwrap();
    drop(client);
    until("it is counted", || rig.counts(1).client_gone == 1);
    assert_eq!(rig.counts(1).failed(), 0);
    until("its place is free", || rig.counts(1).in_flight == 0);
}

#[test]
fn a_503_of_the_application_is_passed_on() {
    let first = Instance::new(|_, stream| answer(stream, "503 Service Unavailable", "busy"));
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&first])]));
    let answer = rig.client().get("/");
    assert_eq!((answer.status, answer.header("x-evenkeel-error")), (503, None));
    assert_eq!((rig.counts(1).status_5xx, rig.counts(1).retries), (1, 0));
}
