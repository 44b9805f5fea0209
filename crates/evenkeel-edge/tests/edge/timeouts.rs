//! What takes too long.

use std::io::Read as _;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use evenkeel_edge::Limits;
use evenkeel_kernel::model::Traffic;
use evenkeel_kernel::world::Health;

use crate::instance::{Instance, answer};
use crate::rig::{Rig, pool_of, table, until, with};

const SOON: Duration = Duration::from_millis(300);

#[test]
fn an_answer_that_does_not_begin_is_a_timeout_and_is_not_asked_for_again() {
    let (_never, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let instance = Instance::new(move |request, stream| {
        if request.path() == "/never" {
            return gone.lock().unwrap().recv().is_ok();
        }
        answer(stream, "200 OK", "x")
    });
    let rig = Rig::within(Limits { first_byte: SOON, ..Limits::default() });
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    let late = client.get("/never");
    assert_eq!((late.status, late.header("x-evenkeel-error")), (504, Some("timeout")));
    assert_eq!(client.get("/").body, "x");
    until("both are counted", || rig.counts(1).requests == 2);
    let counts = rig.counts(1);
    assert_eq!((counts.timeouts, counts.retries, counts.in_flight), (1, 0, 0));
    assert_eq!(instance.requests(), 2);
}

#[test]
fn a_body_that_is_still_coming_is_no_timeout() {
    let instance = Instance::new(|request, stream| {
        answer(stream, "200 OK", &String::from_utf8_lossy(&request.body))
    });
    let rig = Rig::within(Limits { first_byte: SOON, ..Limits::default() });
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    client.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n");
    for byte in ["s", "l", "o", "w"] {
        std::thread::sleep(SOON);
        client.write(byte);
    }
    assert_eq!(client.answer(false).unwrap().body, "slow");
}

#[test]
fn a_head_has_to_come_in_time() {
    let instance = Instance::says("x");
    let rig = Rig::within(Limits { head: SOON, ..Limits::default() });
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    for begun in ["G", "GET / HTTP/1.1\r\nHost: te"] {
        let mut client = rig.client();
        assert_eq!(client.get("/").status, 200);
        client.write(begun);
        until("it is cut", || {
            client.write("t");
            client.stream().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            match client.read.read(&mut [0; 1]) {
                Ok(n) => n == 0,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        });
    }
    assert_eq!(instance.requests(), 2);
    until("both are gone", || rig.counts(1).in_flight == 0);
}

#[test]
fn a_restart_is_seen_long_before_the_next_probe() {
    let instance = Instance::says("x");
    let rig = Rig::new();
    let traffic = Traffic { queue_wait: SOON, ..Traffic::default() };
    let mut it = with(table(1, &[(10_000, &[&instance])]), &traffic);
    pool_of(&mut it, 1).health.interval = Duration::from_secs(600);
    rig.serve(&it);
    let addr = instance.addr;
    drop(instance);
    assert_eq!(rig.client().get("/").status, 503);
    // Without another request.
    until("it is seen", || rig.health("web.r1.1") == Health::Unhealthy);
    let _again = Instance::again(addr, |_, stream| answer(stream, "200 OK", "again"));
    until("it is seen again", || rig.health("web.r1.1") == Health::Healthy);
    assert_eq!(rig.client().get("/").body, "again");
}
