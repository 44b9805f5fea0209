//! Discovery as part of a house: it follows a release, and answers whoever of the house is dead.

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;

use crate::house::House;
use crate::http::Client;
use crate::machine::{free_port, program, signal, skip, until};
use crate::programs::Program;

/// The house with discovery, and `web` in this version.
fn stack(house: &House, version: &str, discovery: &str) {
    let rollout = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\n\
                   bake = \"0s\"\nsteps = [{ weight = \"10%\", bake = \"10m\" }]";
    Program::Python.stack(house, version, 2, rollout);
    let path = house.folder().join("evenkeel.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n[discovery]\n{discovery}\n")).unwrap();
}

/// The weights and revisions that the records of `web` have, in order.
fn records(dns: SocketAddr) -> Vec<String> {
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &dns.port().to_string(), "+short", "+tries=3", "+time=1"])
        .args(["web.house.internal", "SRV"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let record = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, weight, _, name] = words[..] else { return line.to_owned() };
        let revision = name.split('.').nth(1).unwrap_or("?");
        format!("{revision}={weight}")
    };
    let mut records: Vec<String> = text.lines().map(record).collect();
    records.sort();
    records
}

#[test]
fn dns_follows_a_canary_and_answers_with_control_dead() {
    if program("dig").is_none() {
        skip("what discovery says to dig: it is not installed (dnsutils)");
        return;
    }
    if !Program::Python.is_here() {
        return;
    }
    let house = House::new();
    let dns = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let discovery = format!("dns = \"{dns}\"");
    stack(&house, "v1", &discovery);
    house.up();
    let one = ["r1=65535", "r1=65535"];
    until("both are told of", || (records(dns) == one).then_some(()));
    // A canary that waits in its step.
    stack(&house, "v2", &discovery);
    let apply = house.start(&["apply", "--yes"]);
    until("ten in a hundred", || {
        let records = records(dns);
        let new = records.iter().filter_map(|it| it.strip_prefix("r2=")).count();
        let old: Vec<&str> = records.iter().filter_map(|it| it.strip_prefix("r1=")).collect();
        (new > 0 && old.contains(&"65535")).then_some(())
    });
    let canary = records(dns);

    let victim = (house.instances("web")["web.r1.1"], house.shim("web.r1.1").unwrap());

    // With control dead, and nobody there to start another.
    let keeper = house.pid("keeper").unwrap();
    signal(keeper, Signal::STOP);
    house.kill("control");
    assert_eq!(records(dns), canary);
    // An instance dies: that is seen by the edge itself.
    signal(victim.1, Signal::KILL);
    signal(victim.0, Signal::KILL);
    until("one less", || (records(dns).len() == canary.len() - 1).then_some(()));
    signal(keeper, Signal::CONT);
    let edge = house.kill("edge");
    house.until_back("edge", edge);
    until("the next edge answers", || (records(dns).len() == canary.len()).then_some(()));

    house.run(&["abort"]).exits(0);
    drop(apply.wait());
    until("the release is taken back", || (records(dns) == one).then_some(()));
    let mut client = Client::new(house.listen);
    assert_eq!(client.get("/page").unwrap().status, 200);
    // Without the table it is off.
    Program::Python.stack(&house, "v1", 2, "min_ready = \"0s\"");
    house.apply().exits(0);
    until("nobody answers", || {
        records(dns)
            .iter()
            .all(|line| line.starts_with(';') || line.contains("timed out"))
            .then_some(())
    });
}

#[test]
fn an_address_that_is_taken_takes_the_release_back() {
    if !Program::Python.is_here() {
        return;
    }
    let house = House::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stack(&house, "v1", "");
    house.up();
    stack(&house, "v1", &format!("http = \"{}\"", taken.local_addr().unwrap()));
    let said = house.apply();
    assert_ne!(said.code, 0);
    said.says("address already in use");
}

/// Asks without end until it is stopped; how often, and what went wrong.
struct Asking {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<(u32, Vec<String>)>,
}

impl Asking {
    fn start(mut ask: impl FnMut() -> Result<(), String> + Send + 'static) -> Self {
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let stopped = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut asked, mut wrong) = (0, Vec::new());
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                asked += 1;
                wrong.extend(ask().err());
            }
            (asked, wrong)
        });
        Self { stop, thread }
    }

    fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A question over UDP, with one try more as every resolver has.
fn question(dns: SocketAddr) -> Result<(), String> {
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x05house\x08internal\0\0\x21\0\x01";
    let mut last = String::new();
    for _ in 0..2 {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let sent = socket.send_to(question, dns);
        let mut answer = [0; 1_500];
        match sent.and_then(|_| socket.recv(&mut answer)) {
            Ok(_) if answer[3] & 0xF == 0 && answer[7] == 2 => return Ok(()),
            Ok(_) => last = format!("code {}, {} answers", answer[3] & 0xF, answer[7]),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

#[test]
fn discovery_answers_while_one_edge_takes_anothers_place() {
    if !Program::Python.is_here() {
        return;
    }
    let house = House::new();
    let [dns, http] =
        [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    stack(&house, "v1", &format!("dns = \"{dns}\"\nhttp = \"{http}\""));
    house.up();
    until("it answers", || question(dns).ok());
    let said = house.run(&["resolve", "web", "--json"]).exits(0).json();
    assert_eq!(said["instances"].as_array().unwrap().len(), 2);
    assert_eq!(said["instances"][0]["weight"], 65_535);
    house.run(&["resolve", "i1.r1.web.house.internal"]).exits(0).says("web.r1.1");
    house.run(&["resolve", "nobody"]).exits(1).says("there is no service");

    let questions = Asking::start(move || question(dns));
    // A connection for each, and one that is kept.
    let fresh = Asking::start(move || {
        let answer = Client::new(http).get("/v1/health/service/web?passing");
        answer.map_err(|it| it.1).map(drop)
    });
    let mut client = Client::new(http);
    let kept = Asking::start(move || {
        let answer = client.get("/v1/catalog/services").map_err(|it| it.1)?;
        if answer.status == 200 { Ok(()) } else { Err(format!("status {}", answer.status)) }
    });
    for _ in 0..5 {
        let edge = house.pid("edge").unwrap();
        house.run(&["upgrade", "--again"]).exits(0);
        house.until_back("edge", edge);
    }
    for (what, asking) in [("questions", questions), ("fresh", fresh), ("kept", kept)] {
        let (asked, wrong) = asking.end();
        assert!(asked > 50 && wrong.is_empty(), "of {asked} {what}: {wrong:?}");
    }
}
