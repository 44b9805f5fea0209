//! Services that are held: their requests wait by somebody's order, reach nobody, and are answered
//! when the hold is over.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use evenkeel_edge::Limits;
use evenkeel_kernel::model::Hold;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::world::Demand;

use crate::client::Answer;
use crate::h2_peer::{H2Client, request, whole};
use crate::instance::{Instance, answer};
use crate::outside::{open, with_door};
use crate::rig::{Rig, fence, table, until};

const LONG: Duration = Duration::from_secs(60);

/// The table with its service held.
fn held(mut it: RoutingTable, generation: u64, number: u64, lasts: Duration) -> RoutingTable {
    it.fence = fence(generation);
    it.services.values_mut().for_each(|service| service.hold = Some(Hold { number, lasts }));
    it
}

fn served(mut it: RoutingTable, generation: u64) -> RoutingTable {
    it.fence = fence(generation);
    it.services.values_mut().for_each(|service| service.hold = None);
    it
}

fn demand(rig: &Rig) -> Demand {
    rig.observe().demand[&"web".parse().unwrap()]
}

fn ask(rig: &Rig, count: usize) -> Vec<JoinHandle<Answer>> {
    let one = |n: usize| {
        let mut client = rig.client();
        thread::spawn(move || match n % 2 {
            0 => client.get("/"),
            _ => client.post("/", "effect"),
        })
    };
    (0..count).map(one).collect()
}

fn assert_served(answers: Vec<JoinHandle<Answer>>) {
    for answer in answers {
        let answer = answer.join().unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "x"), "{}", answer.head);
    }
}

#[test]
fn held_requests_reach_nobody_and_are_answered_when_it_is_over() {
    let instance = Instance::says("x");
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    assert_eq!(rig.client().get("/").status, 200);
    rig.door().apply(&held(it.clone(), 2, 7, LONG)).unwrap();
    let asking = ask(&rig, 200);
    // By HTTP/2, and by the door for other services too.
    let mut multiplexed = H2Client::connect(rig.addr);
    let mut internal = crate::client::Client::connect(rig.internal);
    internal.write("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    let release = thread::scope(|scope| {
        let streams = scope.spawn(move || {
            multiplexed.run(async |send| {
                let calls = (0..50).map(|_| {
                    tokio::spawn(whole(send.clone(), request("GET", "/", ""), Bytes::new()))
                });
                let calls: Vec<_> = calls.collect();
                let mut statuses = Vec::new();
                for call in calls {
                    statuses.push(call.await.unwrap().unwrap().head.status.as_u16());
                }
                statuses
            })
        });
        until("all of them wait", || demand(&rig).waiting == 251);
        assert_eq!(instance.requests(), 1, "nobody has got past it");
        rig.door().apply(&served(it.clone(), 3)).unwrap();
        streams.join().unwrap()
    });
    assert_eq!(release, [200; 50]);
    assert_eq!(internal.answer(false).unwrap().body, "x");
    assert_served(asking);
    assert_eq!((rig.counts(1).failed(), rig.counts(1).requests), (0, 252));
    assert_eq!(demand(&rig).waiting, 0);
}

#[test]
fn what_is_under_way_when_it_begins_goes_on() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let instance = Instance::new(move |_, stream| {
        gone.lock().unwrap().recv().is_ok() && answer(stream, "200 OK", "patient")
    });
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is under way", || rig.counts(1).in_flight == 1);
    rig.door().apply(&held(it, 2, 7, LONG)).unwrap();
    go.send(()).unwrap();
    assert_eq!(client.answer(false).unwrap().body, "patient");
    until("nothing is left", || rig.counts(1).in_flight == 0);
    // The connection stays, and its next request waits.
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it waits", || demand(&rig).waiting == 1);
}

#[test]
fn it_ends_by_itself_and_the_same_hold_does_not_begin_again() {
    let instance = Instance::says("x");
    let mut rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let lasts = Duration::from_millis(400);
    let asked = Instant::now();
    rig.door().apply(&held(it.clone(), 2, 7, lasts)).unwrap();
    assert_served(ask(&rig, 10));
    assert!(asked.elapsed() >= lasts, "{:?}", asked.elapsed());
    // Nobody has said that it is over; a later table still has it.
    rig.door().apply(&held(it.clone(), 3, 7, LONG)).unwrap();
    assert_served(ask(&rig, 1));
    // Another one counts anew.
    rig.door().apply(&held(it.clone(), 4, 8, LONG)).unwrap();
    let waiting = ask(&rig, 1);
    until("it waits", || demand(&rig).waiting == 1);
    rig.door().apply(&served(it.clone(), 5)).unwrap();
    assert_served(waiting);
    // An edge that starts knows of it from the disk, and ends it too.
    rig.door().apply(&held(it, 6, 9, lasts)).unwrap();
    rig.stop_edge();
    let began = Instant::now();
    rig.start_edge();
    assert_served(ask(&rig, 4));
    assert!(began.elapsed() >= lasts, "{:?}", began.elapsed());
}

#[test]
fn each_request_waits_for_so_long_and_so_many_of_them() {
    let instance = Instance::says("x");
    let wait = Duration::from_millis(500);
    let rig = Rig::within(Limits { held: wait, held_max: 3, ..Limits::default() });
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    rig.door().apply(&held(it.clone(), 2, 7, LONG)).unwrap();
    let asked = Instant::now();
    let waiting = ask(&rig, 3);
    until("they wait", || demand(&rig).waiting == 3);
    let refused = |answer: &Answer| {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.header("x-evenkeel-error"), Some("held"));
    };
    refused(&rig.client().get("/"));
    assert_eq!(demand(&rig).waiting, 3);
    for answer in waiting {
        refused(&answer.join().unwrap());
    }
    assert!(asked.elapsed() >= wait);
    assert_eq!((instance.requests(), rig.observe().unrouted.overloaded), (0, 4));
    // Who leaves does not wait on.
    let mut gone = rig.client();
    gone.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it waits", || demand(&rig).waiting == 1);
    drop(gone);
    until("it is gone", || demand(&rig).waiting == 0);
    rig.door().apply(&served(it, 3)).unwrap();
    assert_eq!(rig.client().get("/").body, "x");
}

#[test]
fn large_heads_wait_as_long_as_there_is_room_for_them() {
    // What a hold keeps is bounded by bytes before it is by requests.
    const HEAD: usize = 48 * 1024;
    let instance = Instance::says("x");
    let rig = Rig::within(Limits { held_max: 100_000, ..Limits::default() });
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    rig.door().apply(&held(it.clone(), 2, 7, LONG)).unwrap();
    let large = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Large: {}\r\n\r\n", "x".repeat(HEAD));
    let most = usize::try_from(Hold::BYTES_MAX).unwrap() / HEAD;
    let mut waiting = Vec::new();
    for _ in 0..most + 10 {
        let mut client = rig.client();
        client.write(&large);
        waiting.push(client);
    }
    until("there is no room", || rig.observe().unrouted.overloaded > 0);
    until("all have been looked at", || {
        let seen = rig.observe();
        let waiting = u64::from(seen.demand[&"web".parse().unwrap()].waiting);
        waiting + seen.unrouted.overloaded == most as u64 + 10
    });
    assert!(demand(&rig).waiting as usize <= most);
    rig.door().apply(&served(it, 3)).unwrap();
    let statuses = waiting.iter_mut().map(|client| client.answer(false).unwrap().status);
    let (served, refused): (Vec<u16>, Vec<u16>) = statuses.partition(|status| *status == 200);
    assert!(served.len() + 64 > most && refused.iter().all(|it| *it == 503), "{}", served.len());
}

#[test]
fn a_connection_that_is_not_http_waits_too() {
    let instance = Instance::says("x");
    let rig = Rig::new();
    let it = with_door(table(1, &[(10_000, &[&instance])]), false);
    rig.serve(&it);
    let addr = open(&rig, &["tcp-0"])[0];
    rig.door().apply(&held(it.clone(), 2, 7, LONG)).unwrap();
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    until("it waits", || demand(&rig).waiting == 1);
    assert_eq!(instance.requests(), 0);
    rig.door().apply(&served(it, 3)).unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}
