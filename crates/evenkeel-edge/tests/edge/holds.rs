//! Requests that wait: for the only instance to come back, for room, and not for ever.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::Traffic;
use evenkeel_kernel::world::Health;

use crate::instance::{Instance, answer};
use crate::rig::{Rig, table, until, with};

/// What posts have done, by body.
type Effects = Arc<Mutex<BTreeMap<String, u32>>>;

/// An instance that writes down what posts do, there or at `addr` again.
fn writer(addr: Option<SocketAddr>, effects: &Effects) -> Instance {
    let effects = Arc::clone(effects);
    let handler = move |request: &crate::instance::Request, stream: &mut _| {
        if request.head.starts_with("POST ") {
            let body = String::from_utf8(request.body.clone()).unwrap();
            *effects.lock().unwrap().entry(body).or_default() += 1;
        }
        answer(stream, "200 OK", "done")
    };
    match addr {
        Some(addr) => Instance::again(addr, handler),
        None => Instance::new(handler),
    }
}

/// Kills it and says where it was.
fn kill(instance: Instance) -> SocketAddr {
    let addr = instance.addr;
    drop(instance);
    addr
}

#[test]
fn d12_the_only_instance_is_killed_and_started_again_under_load() {
    let effects = Effects::default();
    let mut instance = writer(None, &effects);
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let stop = Arc::new(AtomicBool::new(false));
    let gets = (0..12).map(|_| {
        let (stop, mut client) = (Arc::clone(&stop), rig.client());
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let answer = client.get("/");
                assert_eq!(answer.status, 200, "{}", answer.head);
            }
        })
    });
    let gets: Vec<_> = gets.collect();
    let posts = (0..4).map(|thread| {
        let (stop, mut client) = (Arc::clone(&stop), rig.client());
        thread::spawn(move || {
            let mut statuses = BTreeMap::new();
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let body = format!("{thread} {n}");
                let answer = client.post("/", &body);
                statuses.insert(body, answer.status);
            }
            statuses
        })
    });
    let posts: Vec<_> = posts.collect();
    for _ in 0..5 {
        until("it serves", || instance.requests() > 300);
        let retries = rig.counts(1).retries;
        let addr = kill(instance);
        // Again and again, as long as a process takes to start.
        until("it is missed", || rig.counts(1).retries > retries + 5);
        instance = writer(Some(addr), &effects);
    }
    until("it serves", || instance.requests() > 300);
    stop.store(true, Ordering::SeqCst);
    gets.into_iter().for_each(|it| it.join().unwrap());
    let mut reported = 0;
    for (body, status) in posts.into_iter().flat_map(|it| it.join().unwrap()) {
        let made = effects.lock().unwrap().get(&body).copied().unwrap_or(0);
        match status {
            200 => assert_eq!(made, 1, "{body}"),
            // It was under way when the instance died: whether it had an effect is unknown.
            502 => {
                assert!(made <= 1, "{body} was made {made} times");
                reported += 1;
            }
            other => panic!("{body} was answered {other}"),
        }
    }
    let counts = rig.counts(1);
    assert_eq!((counts.failed(), counts.resets, counts.client_gone), (reported, reported, 0));
    // At most those that were under way in the moment of a death.
    assert!(reported <= 20, "{reported}");
}

#[test]
fn a_request_with_an_effect_waits_if_nothing_of_it_was_sent() {
    let effects = Effects::default();
    let instance = writer(None, &effects);
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let addr = kill(instance);
    let mut client = rig.client();
    let asking = thread::spawn(move || client.post("/", "effect"));
    until("it was tried", || rig.counts(1).retries > 1);
    let _again = writer(Some(addr), &effects);
    assert_eq!(asking.join().unwrap().status, 200);
    assert_eq!(effects.lock().unwrap()["effect"], 1);
    assert_eq!(rig.counts(1).failed(), 0);
}

#[test]
fn who_has_waited_long_enough_is_told_so() {
    let instance = Instance::says("x");
    let wait = Duration::from_millis(300);
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&with(it, &Traffic { queue_wait: wait, ..Traffic::default() }));
    kill(instance);
    for n in 1..4 {
        let asked = Instant::now();
        let answer = rig.client().get("/");
        assert!(asked.elapsed() >= wait);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.header("x-evenkeel-error"), Some("connect-failure"));
        let counts = rig.counts(1);
        assert_eq!((counts.requests, counts.connect_failures, counts.failed()), (n, n, n));
    }
    assert_eq!(rig.observe().unrouted, evenkeel_kernel::world::Unrouted::default());
}

#[test]
fn who_leaves_does_not_wait_on() {
    let instance = Instance::says("x");
    let rig = Rig::new();
    let queue_wait = Duration::from_secs(60);
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&with(it, &Traffic { queue_wait, queue_max: 1, ..Traffic::default() }));
    let addr = kill(instance);
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it waits", || rig.counts(1).retries > 1);
    // The queue is full.
    let answer = rig.client().get("/");
    assert_eq!((answer.status, answer.header("x-evenkeel-error")), (503, Some("connect-failure")));
    drop(client);
    until("it is gone", || rig.counts(1).client_gone == 1);
    let mut client = rig.client();
    let asking = thread::spawn(move || client.get("/"));
    let retries = rig.counts(1).retries;
    until("its place is taken", || rig.counts(1).retries > retries + 1);
    let _again = Instance::again(addr, |_, stream| answer_again(stream));
    assert_eq!(asking.join().unwrap().body, "again");
}

fn answer_again(stream: &mut std::net::TcpStream) -> bool {
    answer(stream, "200 OK", "again")
}

#[test]
fn an_instance_that_is_away_is_tried_now_and_then_and_not_by_all() {
    let instance = Instance::says("x");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let addr = kill(instance);
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let mut client = rig.client();
            thread::spawn(move || client.get("/"))
        })
        .collect();
    until("it was tried", || rig.counts(1).retries >= 10);
    let (since, before) = (Instant::now(), rig.counts(1).retries);
    until("it was tried again", || rig.counts(1).retries >= before + 5);
    let tries = u128::from(rig.counts(1).retries - before);
    let at_most = since.elapsed().as_millis() / 50 + 2;
    assert!(tries <= at_most, "{tries} tries, not {at_most}");
    let _again = Instance::again(addr, |_, stream| answer_again(stream));
    for it in waiting {
        assert_eq!(it.join().unwrap().body, "again");
    }
    until("it is well", || rig.health("web.r1.1") == Health::Healthy);
}

#[test]
fn an_instance_has_so_many_requests_and_the_next_waits_for_room() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let instance = Instance::new(move |request, stream| {
        if request.path() == "/slow" && gone.lock().unwrap().recv().is_err() {
            return false;
        }
        answer(stream, "200 OK", "served")
    });
    let rig = Rig::new();
    let traffic = Traffic {
        in_flight_max: 3,
        queue_max: 2,
        queue_wait: Duration::from_secs(60),
        ..Traffic::default()
    };
    rig.serve(&with(table(1, &[(10_000, &[&instance])]), &traffic));
    let ask = || {
        let mut client = rig.client();
        thread::spawn(move || client.get("/slow"))
    };
    let mut asking: Vec<_> = (0..3).map(|_| ask()).collect();
    until("it is full", || rig.counts(1).in_flight == 3);
    asking.extend((0..3).map(|_| ask()));
    until("the queue is full", || rig.observe().unrouted.overloaded == 1);
    assert_eq!(instance.requests(), 3);
    for _ in 0..5 {
        go.send(()).unwrap();
    }
    let (served, refused): (Vec<_>, Vec<_>) =
        asking.into_iter().map(|it| it.join().unwrap()).partition(|it| it.status == 200);
    let [refused] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("x-evenkeel-error"), Some("overloaded"));
    assert_eq!((served.len(), instance.requests(), rig.counts(1).failed()), (5, 5, 0));
}
