//! Who gets the requests: splits, swaps, health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use evenkeel_kernel::model::RevisionNumber;
use evenkeel_kernel::world::Health;

use crate::client::Client;
use crate::instance::Instance;
use crate::rig::{Rig, pool_of, table, table_at, until};

#[test]
fn pools_get_their_weights() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    rig.serve(&table(1, &[(9_000, &[&old]), (1_000, &[&new])]));
    let mut shares = BTreeMap::<String, u32>::new();
    let mut client = rig.client();
    for _ in 0..3_000 {
        *shares.entry(client.get("/").body).or_default() += 1;
    }
    // Five standard deviations are 82.
    assert!(shares["new"].abs_diff(300) < 82, "{shares:?}");
    let (old, new) = (rig.counts(1), rig.counts(2));
    assert_eq!(old.status_2xx + new.status_2xx, 3_000);
    assert_eq!(new.status_2xx, u64::from(shares["new"]));
    assert_eq!(old.latency.iter().sum::<u64>(), old.requests);
}

#[test]
fn d10_a_table_is_swapped_two_hundred_times_under_load() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&old]), (0, &[&new])]));
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (stop, mut client) = (Arc::clone(&stop), rig.client());
            thread::spawn(move || {
                let mut served = 0_u32;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").status, 200);
                    assert_eq!(client.post("/", "x").status, 200);
                    served += 2;
                }
                served
            })
        })
        .collect();
    let mut door = rig.door();
    for generation in 2..202 {
        let weight = u16::try_from(generation * 37 % 10_001).unwrap();
        let next = table(generation, &[(10_000 - weight, &[&old]), (weight, &[&new])]);
        assert_eq!(door.apply(&next).unwrap(), next.fence);
    }
    stop.store(true, Ordering::SeqCst);
    let served: u32 = load.into_iter().map(|it| it.join().unwrap()).sum();
    until("every answer is counted", || {
        rig.counts(1).status_2xx + rig.counts(2).status_2xx == u64::from(served)
    });
    assert_eq!(rig.counts(1).failed() + rig.counts(2).failed(), 0);
    assert!(rig.counts(1).status_2xx > 0 && rig.counts(2).status_2xx > 0);
}

#[test]
fn d05_the_acknowledged_table_is_the_one_that_is_used() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&old]), (0, &[&new])]));
    let mut clients: Vec<Client> = (0..8).map(|_| rig.client()).collect();
    let mut door = rig.door();
    for generation in 2..52 {
        let (weight, expected) = if generation % 2 == 0 { (0, "new") } else { (10_000, "old") };
        let next = table(generation, &[(weight, &[&old]), (10_000 - weight, &[&new])]);
        door.apply(&next).unwrap();
        for client in &mut clients {
            assert_eq!(client.get("/").body, expected);
        }
    }
}

#[test]
fn d04_a_pool_that_dies_passes_its_share_on() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    rig.serve(&table(1, &[(5_000, &[&old]), (5_000, &[&new])]));
    new.kill();
    let mut client = rig.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").body, "old");
    }
    until("it is seen", || rig.health("web.r2.1") == Health::Unhealthy);
    assert_eq!(client.post("/", "x").body, "old");
}

#[test]
fn d06_a_new_instance_gets_nothing_before_it_is_healthy() {
    let old = Instance::says("old");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&old])]));
    // A port nobody listens on.
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = reserved.local_addr().unwrap();
    drop(reserved);
    rig.door().apply(&table_at(2, &[(10_000, vec![old.addr, addr])])).unwrap();
    let mut client = rig.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").body, "old");
    }
    assert_eq!((rig.health("web.r1.2"), rig.counts(1).retries), (Health::Unknown, 0));
    let _late = Instance::at(addr, |_, stream| crate::instance::answer(stream, "200 OK", "late"));
    until("it gets its share", || client.get("/").body == "late");
}

#[test]
fn a_request_waits_for_the_first_instance() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = reserved.local_addr().unwrap();
    drop(reserved);
    let rig = Rig::new();
    rig.door().apply(&table_at(1, &[(10_000, vec![addr])])).unwrap();
    let mut client = rig.client();
    let asking = thread::spawn(move || client.get("/"));
    until("it waits", || rig.observe().demand[&"web".parse().unwrap()].waiting == 1);
    let _late = Instance::at(addr, |_, stream| crate::instance::answer(stream, "200 OK", "late"));
    assert_eq!(asking.join().unwrap().body, "late");
}

#[test]
fn a_request_does_not_wait_for_ever() {
    let rig = Rig::new();
    rig.door().apply(&table(1, &[])).unwrap();
    let asked = Instant::now();
    let answer = rig.client().get("/");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.header("x-evenkeel-error"), Some("no-instance"));
    assert!((2..6).contains(&asked.elapsed().as_secs()));
    assert_eq!(rig.observe().unrouted.no_instance, 1);
}

#[test]
fn routes_choose_by_host_and_path_and_listeners_by_service() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&old]), (0, &[&new])]);
    let mut preview = it.routes[0].clone();
    preview.route.host = Some("preview.test".to_owned());
    preview.route.path = "/api".to_owned();
    preview.revision = Some(RevisionNumber(2));
    it.routes = vec![preview];
    rig.serve(&it);
    let get = |host: &str, path: &str| {
        rig.client().raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    assert_eq!(get("Preview.Test:80", "/api/x?y=z").body, "new");
    assert_eq!(get("preview.test", "/apis").header("x-evenkeel-error"), Some("no-route"));
    assert_eq!(get("other.test", "/api").status, 404);
    assert_eq!(Client::connect(rig.internal).get("/").body, "old");
    assert_eq!(rig.observe().unrouted.no_route, 2);
}

#[test]
fn an_unwell_instance_is_found_by_its_probe_and_comes_back() {
    let well = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&well);
    let first = Instance::new(move |request, stream| {
        let status = match request.path() == "/up" && !says.load(Ordering::SeqCst) {
            true => "503 Service Unavailable",
            false => "200 OK",
        };
        crate::instance::answer(stream, status, "first")
    });
    let second = Instance::says("second");
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&first, &second])]);
    pool_of(&mut it, 1).health.probe =
        evenkeel_kernel::model::Probe::Http { path: "/up".to_owned() };
    rig.serve(&it);
    well.store(false, Ordering::SeqCst);
    until("it is out", || rig.health("web.r1.1") == Health::Unhealthy);
    let mut client = rig.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").body, "second");
    }
    well.store(true, Ordering::SeqCst);
    until("it is back", || client.get("/").body == "first");
}

#[test]
fn a_shim_is_asked_for_what_only_it_knows() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;

    let instance = Instance::says("x");
    let rig = Rig::new();
    let id = "web.r1.1".parse().unwrap();
    let socket = rig.home.join(evenkeel_kernel::layout::shim_socket(&id));
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let shim = UnixListener::bind(socket).unwrap();
    let ready = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&ready);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    // Ends with the test's process.
    thread::spawn(move || {
        for mut stream in shim.incoming().flatten() {
            let mut line = String::new();
            let read = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            let answer = match (read.is_ok() && line == "ready\n", says.load(Ordering::SeqCst)) {
                (true, true) => "yes\n",
                (true, false) => "no still loading\n",
                (false, _) => "what\n",
            };
            let _gone = stream.write_all(answer.as_bytes());
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut it = table(1, &[(10_000, &[&instance])]);
    pool_of(&mut it, 1).health.probe = evenkeel_kernel::model::Probe::Notify;
    rig.door().apply(&it).unwrap();
    // One after the other, so what the first were answered is taken in.
    until("the shim was asked", || asked.load(Ordering::SeqCst) >= 3);
    assert_eq!(rig.health("web.r1.1"), Health::Unknown);
    ready.store(true, Ordering::SeqCst);
    until("the shim is believed", || rig.health("web.r1.1") == Health::Healthy);
    ready.store(false, Ordering::SeqCst);
    until("also in this", || rig.health("web.r1.1") == Health::Unhealthy);
}

#[test]
fn s10_d12_a_check_that_breaks_for_most_of_them_takes_nobody_out() {
    let well = Arc::new(AtomicBool::new(true));
    let named = |name: &'static str| {
        let says = Arc::clone(&well);
        Instance::new(move |request, stream| {
            let status = match request.path() == "/up" && !says.load(Ordering::SeqCst) {
                true => "503 Service Unavailable",
                false => "200 OK",
            };
            crate::instance::answer(stream, status, name)
        })
    };
    let (one, two, three) = (named("one"), named("two"), named("three"));
    let four = Instance::says("four");
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&one, &two, &three, &four])]);
    pool_of(&mut it, 1).health.probe =
        evenkeel_kernel::model::Probe::Http { path: "/up".to_owned() };
    rig.serve(&it);
    well.store(false, Ordering::SeqCst);
    for id in ["web.r1.1", "web.r1.2", "web.r1.3"] {
        until("its check breaks", || rig.health(id) == Health::Unhealthy);
    }
    let mut client = rig.client();
    let mut answered = std::collections::BTreeSet::new();
    until("all of them answer", || {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        answered.insert(answer.body);
        answered.len() == 4
    });
}
