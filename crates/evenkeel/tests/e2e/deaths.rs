//! Sudden deaths under load: of instances, shims, control, keeper and edge. `EVENKEEL_KILLS` sets
//! how often control is killed.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::house::House;
use crate::http::{Client, Stage};
use crate::load::{ALL, Failure, Kind, Load, REPEATABLE};
use crate::machine::{kill, parent, runs, signal, until};
use crate::programs::web;

const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";
/// A canary of many short steps, so that deaths fall into each of them.
const LONG: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"300ms\"\nsteps = [\
    { weight = \"5%\", bake = \"200ms\" }, { weight = \"10%\", bake = \"200ms\" }, \
    { weight = \"20%\", bake = \"200ms\" }, { weight = \"30%\", bake = \"200ms\" }, \
    { weight = \"45%\", bake = \"200ms\" }, { weight = \"60%\", bake = \"200ms\" }, \
    { weight = \"75%\", bake = \"200ms\" }, { weight = \"90%\", bake = \"200ms\" }]";

/// Deaths of control in one release: each costs it the step it was watching.
const KILLS_EACH: usize = 15;

/// A house in which v1 serves.
fn house(replicas: u32, rollout: &str) -> House {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", replicas, rollout);
    house.up();
    house.until_settled();
    house
}

/// How often to kill.
fn kills(usual: usize) -> usize {
    let more = std::env::var("EVENKEEL_KILLS").ok().and_then(|text| text.parse().ok());
    more.map_or(usual, |more: usize| more.max(usual))
}

#[test]
fn instances_killed_one_after_the_other_cost_no_request() {
    kill_instances(3, 10);
}

#[test]
fn the_only_instance_killed_again_and_again_costs_no_request() {
    kill_instances(1, 5);
}

/// Kills an instance of a service that has `replicas`, so many times. Requests that may be repeated
/// wait for another, or for the same to come back.
fn kill_instances(replicas: usize, times: usize) {
    let house = house(u32::try_from(replicas).unwrap(), QUICK);
    let load = Load::start(house.listen, REPEATABLE);
    for round in 0..times {
        let instances = house.until("all are ready", |status| {
            let pids = crate::house::instances(status, "web");
            let all = status["services"][0]["ready"] == replicas && pids.len() == replicas;
            all.then_some(pids)
        });
        let (id, pid) = instances.iter().nth(round % replicas).unwrap();
        kill(*pid);
        house.until("another process is there", |status| {
            let now = *crate::house::instances(status, "web").get(id)?;
            (now != *pid && runs(now)).then_some(())
        });
        load.until_more(20);
    }
    let report = load.stop_unharmed();
    println!("{report}");
    let exits = house.status()["services"][0]["pools"][0]["instances"].clone();
    let exits: u64 = exits.as_array().unwrap().iter().map(|it| it["exits"].as_u64().unwrap()).sum();
    assert_eq!(exits, times as u64);
}

#[test]
fn an_order_in_the_hands_of_a_killed_instance_is_refused_and_never_repeated() {
    let house = House::new();
    let orders = house.folder().join("orders");
    web(&house, &format!("VERSION = \"v1\", ORDERS = \"{}\"", orders.display()), 2, QUICK);
    house.up();
    let addr = house.listen;
    for round in 0..3 {
        let order = format!("order {round}");
        let text = order.clone();
        let answer = thread::spawn(move || {
            Client::new(addr).send("POST", "/order?takes=60000", text.as_bytes()).unwrap()
        });
        let taken = || fs::read_to_string(&orders).unwrap_or_default().matches(&order).count();
        until("the order is taken", || (taken() > 0).then_some(()));
        let busy = house.until("it is seen", |status| {
            let pools = status["services"][0]["pools"].as_array()?.clone();
            let mut all = pools.iter().flat_map(|pool| pool["instances"].as_array().unwrap());
            let busy = all.find(|it| it["in_flight"].as_u64() > Some(0))?;
            u32::try_from(busy["pid"].as_u64()?).ok()
        });
        kill(busy);
        assert_eq!(answer.join().unwrap().status, 502);
        house.until("another process takes orders", |status| {
            let pids = crate::house::instances(status, "web");
            let back = pids.len() == 2 && !pids.values().any(|pid| *pid == busy);
            (back && ports(status).iter().all(|port| listens(*port))).then_some(())
        });
        assert_eq!(taken(), 1, "the order was executed again");
    }
    // One that is answered before it is taken out of service is not lost.
    let finished = Client::new(addr).send("POST", "/order?takes=10", b"last").unwrap();
    assert_eq!(finished.status, 200);
}

/// Where the instances listen.
fn ports(status: &Value) -> Vec<u16> {
    let pools = status["services"][0]["pools"].as_array().unwrap().iter();
    let instances = pools.flat_map(|pool| pool["instances"].as_array().unwrap());
    instances.map(|it| u16::try_from(it["port"].as_u64().unwrap()).unwrap()).collect()
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[test]
fn s01_control_killed_again_and_again_during_releases_costs_no_request() {
    let house = house(2, LONG);
    let load = Load::start(house.listen, ALL);
    let wanted = kills(30);
    let (mut killed, mut version) = (0, 1);
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    while killed < wanted {
        version += 1;
        web(&house, &format!("VERSION = \"v{version}\""), 2, LONG);
        let apply = house.start(&["apply", "--wait", "complete"]);
        house.until("it has begun", |it| it["release"].is_object().then_some(()));
        let most = killed + KILLS_EACH;
        while let Some(phase) = phase(&house.status()).filter(|_| killed < most) {
            let pid = house.kill("control");
            killed += 1;
            *phases.entry(phase).or_default() += 1;
            house.until_back("control", pid);
            // Ever later in its life: while it starts, observes, decides, acts.
            let life = Duration::from_millis(u64::try_from(killed * 37 % 400).unwrap());
            thread::sleep(life);
        }
        apply.wait().exits(0);
        load.until_answered(&format!("v{version}"), 20);
        house.until_settled();
    }
    let report = load.stop_unharmed();
    println!("{killed} deaths of control in {} releases, {phases:?}: {report}", version - 1);
}

/// The phase and step of the release under way.
fn phase(status: &Value) -> Option<String> {
    let release = &status["release"];
    let step = release["step"]["step"].as_u64().map(|step| format!(" {step}")).unwrap_or_default();
    Some(format!("{}{step}", release["phase"].as_str()?))
}

#[test]
fn shims_killed_one_after_the_other_cost_no_request() {
    let house = house(2, QUICK);
    let load = Load::start(house.listen, ALL);
    for round in 0..kills(5).min(20) {
        let instances = house.until("all are there", |status| {
            let pids = crate::house::instances(status, "web");
            (status["services"][0]["ready"] == 2 && pids.len() == 2).then_some(pids)
        });
        let (id, pid) = instances.iter().nth(round % 2).unwrap();
        let shim = until("it has a shim", || shim_of(&house, id));
        kill(shim);
        assert!(runs(*pid), "the instance died with its shim");
        until("it has another shim", || shim_of(&house, id).filter(|now| *now != shim));
    }
    house.until_settled();
    let report = load.stop_unharmed();
    println!("{report}");
}

/// The shim of an instance, as it has written down itself.
fn shim_of(house: &House, id: &str) -> Option<u32> {
    house.shim(id).filter(|pid| runs(*pid))
}

#[test]
fn keepers_killed_one_after_the_other_cost_no_connection() {
    let house = house(2, QUICK);
    let load = Load::start(house.listen, ALL);
    for _ in 0..kills(5).min(20) {
        let (control, edge) = (house.pid("control"), house.pid("edge"));
        let pid = house.kill("keeper");
        house.until_back("keeper", pid);
        load.until_more(20);
        assert_eq!((house.pid("control"), house.pid("edge")), (control, edge));
    }
    // The newest keeper holds the sockets: a release with a death of the edge shows it.
    let report = load.stop_unharmed();
    println!("{report}");
    let edge = house.kill("edge");
    assert_eq!(Client::new(house.listen).get("/page").unwrap().status, 200);
    house.until_back("edge", edge);
}

#[test]
fn edges_killed_one_after_the_other_cost_only_what_they_had_in_hand() {
    let house = house(2, QUICK);
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 50);
    let mut gaps = Vec::new();
    let mut deaths: Vec<Instant> = Vec::new();
    for _ in 0..kills(5).min(20) {
        let pid = house.pid("edge").unwrap();
        deaths.push(Instant::now());
        signal(pid, Signal::KILL);
        // Asked while nobody is there to accept.
        let began = Instant::now();
        let answer = Client::new(house.listen).get("/page").unwrap();
        assert_eq!(answer.status, 200);
        gaps.push(began.elapsed());
        house.until_back("edge", pid);
        load.until_more(50);
    }
    let report = load.stop();
    for failure in &report.failures {
        // It had been sent to the edge that died.
        let in_hand = deaths.iter().any(|death| {
            failure.began <= *death + Duration::from_millis(50) && failure.ended >= *death
        });
        assert!(failure.stage == Stage::UnderWay && in_hand, "{report}");
    }
    println!("{} deaths of the edge; gaps of {gaps:?}; {report}", deaths.len());
    let lost = |kind: Kind| report.failures.iter().filter(move |it: &&Failure| it.kind == kind);
    for kind in ALL {
        println!("  {kind:?}: {} lost", lost(*kind).count());
    }
    // At most what each stream of requests can have in hand at a time.
    assert!(report.failures.len() <= deaths.len() * ALL.len(), "{report}");
}

#[test]
fn s12_s13_without_control_shims_restart_what_dies_and_the_edge_serves_what_it_last_knew() {
    let house = house(2, QUICK);
    let load = Load::start(house.listen, REPEATABLE);
    let instances = house.instances("web");
    let control = house.pid("control").unwrap();
    signal(control, Signal::STOP);

    let ports: Vec<(String, u32)> = instances.into_iter().collect();
    for (id, pid) in &ports {
        kill(*pid);
        until("the shim starts another", || {
            let shim = shim_of(&house, id)?;
            let mut all = house.processes().into_keys();
            all.find(|child| parent_of(*child) == Some(shim) && child != pid)
        });
        load.until_more(50);
    }
    load.stop_unharmed();

    // An edge that starts without anybody to ask serves the table on its disk.
    let edge = house.kill("edge");
    let mut client = Client::new(house.listen);
    assert_eq!(client.get("/page").unwrap().status, 200);
    house.until_back("edge", edge);
    let load = Load::start(house.listen, ALL);
    load.until_more(50);
    load.stop_unharmed();
    signal(control, Signal::CONT);
    house.until_settled();
}

fn parent_of(pid: u32) -> Option<u32> {
    runs(pid).then(|| parent(pid))
}
