//! Sizes that follow a real load, and cost nobody a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::house::House;
use crate::http::Client;
use crate::programs::node;

/// Clients of which each asks as soon as it was answered: so many requests are in flight.
struct Clients {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn come(addr: SocketAddr, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (good, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count).map(|_| {
            let (stop, good, bad) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            thread::spawn(move || {
                let mut client = Client::new(addr);
                while !stop.load(Ordering::Relaxed) {
                    let well = client.get("/page").is_ok_and(|answer| answer.status == 200);
                    if well { &good } else { &bad }.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, good, bad, threads }
    }

    /// How many of their requests were answered well, and how many were not.
    fn leave(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (self.good.load(Ordering::Relaxed), self.bad.load(Ordering::Relaxed))
    }
}

/// Writes a stack file with the service `web`, each of whose answers takes 400 milliseconds.
fn web(house: &House, max: u32) {
    let service = node(house, "VERSION = \"v1\", SLOW = \"1000\"");
    house.stack(&format!(
        "[service.web]\n{service}\nstop.drain = \"5s\"\n\
         [service.web.rollout]\nmin_ready = \"0s\"\nbake = \"1s\"\n\
         [service.web.scale]\nmin = 2\nmax = {max}\nin_flight = 4\nup_after = \"2s\"\n\
         down_after = \"4s\"\n[route.web]\nto = \"web\"\n"
    ));
}

/// How many instances the service is to have, once it has as many.
fn size(status: &Value) -> Option<u64> {
    let web = &status["services"][0];
    (web["ready"] == web["replicas"]).then(|| web["replicas"].as_u64())?
}

#[test]
fn a_service_grows_under_load_and_shrinks_afterwards_and_drops_no_request() {
    let house = House::new();
    web(&house, 6);
    house.up();
    assert_eq!(size(&house.status()), Some(2));
    let few = Clients::come(house.listen, 2);
    let many = Clients::come(house.listen, 16);
    let grown = house.until("it has grown", |status| size(status).filter(|size| *size >= 4));
    let said = house.run(&["status"]).exits(0).says("(2 to 6, by in_flight ");
    println!("{grown} instances; {}", said.out);
    // What the file says of it is where it began: it is released as it is, and stays so large.
    house.run(&["apply", "--yes"]).exits(0).says("nothing changes");
    web(&house, 7);
    house.run(&["plan"]).says("scale.max");
    house.run(&["apply", "--yes"]).exits(0);
    assert!(size(&house.status()).is_none_or(|size| size >= grown));
    let (good, bad) = many.leave();
    assert_eq!(bad, 0, "beside {good} good ones");

    house.until("it has shrunk", |status| size(status).filter(|size| *size == 2));
    house.until_settled();
    house.run(&["scale", "web=9"]).exits(1).says("from 2 to 7 instances");
    let (good, bad) = few.leave();
    assert_eq!(bad, 0, "beside {good} good ones");
    let journal = house.run(&["history", "--json"]).exits(0);
    assert!(journal.out.contains("promoted"));
}
