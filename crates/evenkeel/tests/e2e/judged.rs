//! Releases that are judged by their requests (S6 and S8 of the scenarios): each bad revision is
//! taken back on its own, and what it cost is told; a sound one behind a dependency that hiccups is
//! not.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::house::{House, Said};
use crate::http::Client;
use crate::programs::{node, web};

/// Connections that ask all the time.
const CLIENTS: u64 = 4;
/// Requests a second on each.
const PACE: u64 = 100;
/// Requests that the stable revision answers before anything is released: enough to know from when
/// on an answer is slow.
pub(crate) const BEFORE: u64 = 1_500;

/// A canary on two of ten instances, watched long enough for its requests to tell.
pub(crate) const WATCHED: &str = "strategy = \"canary\"\nmin_ready = \"0s\"\nbake = \"2s\"\n\
    analysis = { warm_up = \"500ms\", min_requests = 1500 }\n\
    steps = [{ weight = \"20%\", bake = \"15s\" }]";

/// Many requests, and how many were answered well and badly.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub(crate) fn gathers(addr: SocketAddr, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (good, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..CLIENTS).map(|_| {
            let (stop, good, bad) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            thread::spawn(move || {
                let mut client = Client::new(addr);
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let well = client.get(path).is_ok_and(|answer| answer.status == 200);
                    if well { &good } else { &bad }.fetch_add(1, Ordering::Relaxed);
                    // An open pace, within what one connection can carry.
                    next = (next + Duration::from_micros(1_000_000 / PACE))
                        .max(Instant::now() - Duration::from_secs(1));
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        });
        let threads = threads.collect();
        Self { stop, good, bad, threads }
    }

    pub(crate) fn until_answered(&self, more: u64) {
        let goal = self.good.load(Ordering::Relaxed) + more;
        crate::machine::until("it is answered", || {
            (self.good.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    pub(crate) fn disperses(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (self.good.load(Ordering::Relaxed), self.bad.load(Ordering::Relaxed))
    }
}

/// Releases a revision that does `what` and returns what was said, with how many requests were
/// answered well and badly.
fn released(what: &str) -> (Said, u64, u64) {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 4, WATCHED);
    house.up();
    let crowd = Crowd::gathers(house.listen, "/page");
    crowd.until_answered(BEFORE);
    web(&house, &format!("VERSION = \"v2\", {what}"), 4, WATCHED);
    let said = house.apply();
    // Whatever it came to, everybody is well served afterwards.
    let bad = crowd.bad.load(Ordering::Relaxed);
    crowd.until_answered(200);
    let after = crowd.bad.load(Ordering::Relaxed);
    let (good, all_bad) = crowd.disperses();
    println!("{what}: {bad} of {} requests hurt; {}", good + all_bad, said.out.trim());
    if said.code == 3 {
        assert_eq!(after, bad, "somebody is hurt after it was taken back");
        assert_eq!(house.last_release()["outcome"], "rolled_back");
    }
    (said, good, bad)
}

#[test]
fn s06_a_revision_that_fails_two_requests_in_a_hundred_is_taken_back() {
    let (said, _, hurt) = released("ERRORS = \"20\"");
    let said = said.exits(3).says("of the tries on it fail, beside").says("at 20 % of the traffic");
    assert!(hurt < 60, "{hurt} requests were hurt; {}", said.out);
}

#[test]
fn s06_a_revision_that_is_slow_only_at_its_tail_is_taken_back_and_hurts_nobody() {
    let (said, _, hurt) = released("SLOW = \"150\"");
    said.exits(3).says("of its answers are slower than");
    assert_eq!(hurt, 0);
}

#[test]
fn s06_a_revision_that_keeps_dying_is_taken_back_and_hurts_nobody() {
    let (said, _, hurt) = released("DIES = \"3000\"");
    said.exits(3);
    assert_eq!(hurt, 0);
}

#[test]
fn s06_a_revision_that_fails_only_under_load_is_taken_back_when_the_load_comes() {
    let house = House::new();
    // A small part of the load it can carry, half of it it cannot.
    let growing = "strategy = \"canary\"\nmin_ready = \"0s\"\nbake = \"2s\"\n\
        analysis = { latency = false, min_requests = 100 }\n\
        steps = [{ weight = \"10%\", bake = \"3s\" }, { weight = \"60%\", bake = \"15s\" }]";
    web(&house, "VERSION = \"v1\"", 4, growing);
    house.up();
    let crowd = Crowd::gathers(house.listen, "/page");
    crowd.until_answered(200);
    web(&house, "VERSION = \"v2\", STRAIN = \"80\"", 4, growing);
    let said = house.apply().exits(3).says("step 2 of 3").says("at 60 % of the traffic");
    let (good, bad) = crowd.disperses();
    println!("{bad} of {} requests hurt; {}", good + bad, said.out.trim());
    // What people felt is what the ledger tells, and no more than three seconds of its traffic.
    let ledger = house.last_release()["ledger"]["pools"].clone();
    let account = ledger.as_array().unwrap().iter().find(|it| it["revision"] == "r2").unwrap();
    assert!(account["failed"].as_u64() >= Some(bad), "{bad}, {ledger}");
    assert!(bad <= 3 * CLIENTS * PACE * 6 / 10, "{bad}");
}

#[test]
fn a_sound_revision_behind_a_dependency_that_hiccups_is_promoted() {
    let house = House::new();
    let trouble = house.folder().join("trouble");
    let stack = |version: &str| {
        let front = format!("VERSION = \"{version}\", RELAY_TO = \"BACK_URL\"");
        let back = format!("VERSION = \"b1\", HICCUP = \"{}\"", trouble.display());
        let (front, back) = (node(&house, &front), node(&house, &back));
        house.stack(&format!(
            "[service.front]\n{front}\nuses = [\"back\"]\nreplicas = 4\n\
             [service.front.rollout]\n{WATCHED}\n[route.front]\nto = \"front\"\n\
             [service.back]\n{back}\nreplicas = 2\n[service.back.rollout]\nmin_ready = \"0s\"\n"
        ));
    };
    stack("f1");
    house.up();
    let crowd = Crowd::gathers(house.listen, "/relay");
    crowd.until_answered(BEFORE);
    stack("f2");
    let release = house.start(&["apply", "--yes"]);
    house.until_weight("front", "r2", 20.0);
    fs::write(&trouble, "").unwrap();
    thread::scope(|scope| {
        // The trouble lasts until enough people have felt it.
        scope.spawn(|| {
            let before = crowd.bad.load(Ordering::Relaxed);
            crate::machine::until("people feel it", || {
                (crowd.bad.load(Ordering::Relaxed) >= before + 200).then_some(())
            });
            fs::remove_file(&trouble).unwrap();
        });
    });
    release.wait().exits(0).says("promoted");
    let (good, bad) = crowd.disperses();
    println!(
        "{bad} of {} requests hurt by the dependency, and the release is promoted",
        good + bad
    );
    assert!(bad >= 200);
}
