//! Services that have no instance: who asks waits, control is told at once, and when somebody was
//! there last is known.

use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::Traffic;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::Demand;

use crate::instance::Instance;
use crate::rig::{Rig, fence, pool_of, table, until, with};

/// The table of a service that sleeps: it is there, and nobody of it.
fn asleep(mut it: RoutingTable, generation: u64) -> RoutingTable {
    it.fence = fence(generation);
    for service in it.services.values_mut() {
        service.split.clear();
        service.pools.clear();
    }
    it
}

fn demand(rig: &Rig) -> Demand {
    rig.observe().demand[&"web".parse().unwrap()]
}

/// How long ago it was asked last.
fn idle(rig: &Rig) -> Duration {
    let seen = rig.door().observe(Timestamp(1_000_000)).unwrap();
    Timestamp(1_000_000).since(seen.demand[&"web".parse().unwrap()].asked)
}

#[test]
fn who_asks_for_one_that_sleeps_wakes_control_and_waits_until_somebody_is_there() {
    let instance = Instance::says("awake");
    let rig = Rig::new();
    let traffic = Traffic { queue_wait: Duration::from_secs(60), ..Traffic::default() };
    let it = with(table(1, &[(10_000, &[&instance])]), &traffic);
    rig.serve(&it);
    rig.door().apply(&asleep(it.clone(), 2)).unwrap();
    let wake = UnixDatagram::bind(rig.home.join(layout::WAKE_SOCKET)).unwrap();
    wake.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let asking: Vec<_> = (0..100)
        .map(|n| {
            let mut client = rig.client();
            thread::spawn(move || match n % 2 {
                0 => client.get("/"),
                _ => client.post("/", "effect"),
            })
        })
        .collect();
    wake.recv(&mut [0; 1]).unwrap();
    until("all of them wait", || demand(&rig).waiting == 100);
    // As a platform starts it: in the table first, and well a little later.
    let mut woken = RoutingTable { fence: fence(3), ..it };
    pool_of(&mut woken, 1).instances.clear();
    let next = evenkeel_kernel::routing::Instance { addr: instance.addr, draining: false };
    pool_of(&mut woken, 1).instances.insert(2, next);
    rig.door().apply(&woken).unwrap();
    for answer in asking {
        assert_eq!(answer.join().unwrap().body, "awake");
    }
    assert_eq!((rig.counts(1).failed(), demand(&rig).waiting), (0, 0));
}

#[test]
fn one_that_falls_asleep_ends_what_it_has_and_who_comes_then_waits() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let instance = Instance::new(move |_, stream| {
        let told = gone.lock().unwrap().recv().is_ok();
        told && crate::instance::answer(stream, "200 OK", "last")
    });
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is under way", || rig.counts(1).in_flight == 1);
    // Asked in the very moment in which it was decided that nobody asks.
    let mut leaving = RoutingTable { fence: fence(2), ..it };
    leaving.services.values_mut().for_each(|service| service.split.clear());
    pool_of(&mut leaving, 1).instances.values_mut().for_each(|it| it.draining = true);
    rig.door().apply(&leaving).unwrap();
    let wake = UnixDatagram::bind(rig.home.join(layout::WAKE_SOCKET)).unwrap();
    wake.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut late = rig.client();
    late.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    wake.recv(&mut [0; 1]).unwrap();
    assert_eq!(demand(&rig).waiting, 1);
    go.send(()).unwrap();
    assert_eq!(client.answer(false).unwrap().body, "last");
    let second = Instance::says("first again");
    let mut woken = table(3, &[(10_000, &[&instance, &second])]);
    pool_of(&mut woken, 1).instances.get_mut(&1).unwrap().draining = true;
    rig.door().apply(&woken).unwrap();
    assert_eq!(late.answer(false).unwrap().body, "first again");
}

#[test]
fn when_it_was_asked_last_is_told_and_nothing_else_counts() {
    let instance = Instance::says("x");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let quiet = Duration::from_millis(700);
    until("nobody has asked", || idle(&rig) > quiet);
    // Probes, tables and looks are nobody's requests.
    rig.door().apply(&table(2, &[(10_000, &[&instance])])).unwrap();
    assert!(idle(&rig) > quiet);
    assert_eq!(rig.client().get("/").status, 200);
    until("one that came and went is seen", || idle(&rig) < quiet);
    until("it is quiet again", || idle(&rig) > quiet);
    let before = idle(&rig);
    until("its silence only grows", || idle(&rig) > before + quiet);
}
