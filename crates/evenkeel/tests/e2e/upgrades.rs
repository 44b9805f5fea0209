//! Evenkeel itself is replaced while it works (S35): no request is lost, no instance notices, and
//! what was going on goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use evenkeel_journal::{Journal, Row, Store as _};
use rustix::process::Signal;
use serde_json::Value;

use crate::house::{House, pool};
use crate::http::Client;
use crate::judged::{BEFORE, Crowd, WATCHED};
use crate::load::{ALL, Load};
use crate::machine::{kill, runs, signal, until};
use crate::programs::web;

const BLUE_GREEN: &str = "strategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"0s\"";
const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";

fn house(replicas: u32, rollout: &str) -> House {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", replicas, rollout);
    house.up();
    house.until_settled();
    house
}

/// The program that a process runs.
fn program_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

/// Every role, and the shims of the service, with their processes.
fn roles(house: &House) -> BTreeMap<String, u32> {
    let roles = ["keeper", "control", "edge"];
    let named = roles.map(|role| (role.to_owned(), house.pid(role).unwrap()));
    let instances = house.instances("web").into_keys();
    let shims = instances.map(|id| (format!("shim of {id}"), house.shim(&id).unwrap()));
    named.into_iter().chain(shims).collect()
}

/// The former edges that have not ended yet.
fn leaving(house: &House) -> Vec<u32> {
    let names = fs::read_dir(house.file("run")).unwrap().flatten();
    let names = names.filter_map(|it| it.file_name().into_string().ok());
    names.filter_map(|it| evenkeel_kernel::layout::leaving_edge(&it)).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn s35_d11_twenty_upgrades_under_load_lose_no_request() {
    let house = house(3, QUICK);
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 200);
    let instances = house.instances("web");
    let mut edges = vec![house.pid("edge").unwrap()];
    for _ in 0..20 {
        let said = house.run(&["upgrade", "--again"]).exits(0);
        let said = said.says("3 of 3 instances are the processes they were");
        assert!(said.out.contains(", 0 failed"), "{}", said.out);
        edges.push(house.pid("edge").unwrap());
        load.until_more(100);
    }
    edges.dedup();
    assert_eq!(edges.len(), 21, "each time another process: {edges:?}");
    let report = load.stop_unharmed();
    println!("{report}");
    assert_eq!(house.instances("web"), instances);
    // What the load held has ended, and those who held it.
    until("nobody leaves any more", || leaving(&house).is_empty().then_some(()));
    house.bring_down();
}

#[test]
fn s35_another_program_at_another_place_takes_every_role() {
    let mut house = house(2, QUICK);
    let first = house.program.clone();
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 100);
    let (before, instances) = (roles(&house), house.instances("web"));
    assert!(before.values().all(|pid| program_of(*pid) == first), "{before:?}");

    house.program = house.folder().join("evenkeel-next");
    fs::copy(&first, &house.program).unwrap();
    house.run(&["doctor"]).says("runs another program than this");
    house.run(&["upgrade", "--check"]).exits(0).says("it can read what is saved");
    assert_eq!(roles(&house), before, "looking changes nothing");

    let said = house.run(&["upgrade", "--json"]).exits(0);
    let said = lines(&said.out);
    let all: Vec<&str> = said.iter().filter_map(|step| step["role"].as_str()).collect();
    assert_eq!(all, ["check", "keeper", "control", "edge", "shim", "shim", "shims"]);
    let last = said.last().unwrap();
    assert_eq!(
        (&last["done"], &last["same"], &last["failed"]),
        (&true.into(), &2.into(), &0.into())
    );
    let now = roles(&house);
    for (name, pid) in &now {
        assert_eq!(program_of(*pid), house.program, "{name}");
        // Keeper and shims are the same processes: neither who supervises the one nor what the
        // others keep notices anything.
        let same = !["control", "edge"].contains(&name.as_str());
        assert_eq!(before[name] == *pid, same, "{name}");
    }
    assert_eq!(house.instances("web"), instances);
    load.until_more(100);
    load.stop_unharmed();

    // Also what is started again later runs from there, whoever starts it.
    for role in ["control", "edge", "keeper"] {
        let former = house.kill(role);
        let next = house.until_back(role, former);
        until("it is that program", || (program_of(next) == house.program).then_some(()));
    }
    house.until("control answers", |status| status["services"].as_array().map(drop));
    let told = house.run(&["upgrade"]).exits(0).says("runs this program already");
    assert!(told.out.contains("2 run this program already"), "{}", told.out);
    house.run(&["doctor"]).exits(0);
    house.bring_down();
}

#[test]
fn s35_a_canary_is_judged_on_over_an_upgrade() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 4, WATCHED);
    house.up();
    let crowd = Crowd::gathers(house.listen, "/page");
    crowd.until_answered(BEFORE);
    web(&house, "VERSION = \"v2\", ERRORS = \"20\"", 4, WATCHED);
    let apply = house.start(&["apply", "--yes"]);
    let asked = |status: &Value| {
        let pools = status["release"]["ledger"]["pools"].as_array()?;
        pools.iter().find(|it| it["revision"] == "r2")?["requests"].as_u64()
    };
    house.until("the canary is asked", |status| asked(status).filter(|count| *count > 30));
    let before = asked(&house.status());
    house.run(&["upgrade", "--again"]).exits(0);
    let after = asked(&house.status());
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after >= before, "{after} after {before}: the count goes on");
    }
    // Found by requests that were counted by both edges, and told as one number.
    apply.wait().exits(3).says("of the tries on it fail, beside");
    let bad = crowd.disperses().1;
    assert!(bad < 100, "{bad} requests were hurt");
    assert_eq!(house.last_release()["outcome"], "rolled_back");
}

#[test]
fn s35_a_successor_that_cannot_take_the_place_leaves_everything_as_it_is() {
    let house = house(2, QUICK);
    let load = Load::start(house.listen, ALL);
    let before = house.pid("edge").unwrap();
    // As many as may leave at a time leave already, as far as anybody can see.
    let doors: Vec<PathBuf> = (0..32)
        .map(|n| house.file(&evenkeel_kernel::layout::leaving_edge_socket(4_000_000 + n)))
        .collect();
    for door in &doors {
        fs::write(door, "").unwrap();
    }
    let said = house.run(&["upgrade", "--again"]).exits(1);
    said.says("the successor ended before it was ready, and the edge goes on")
        .says("32 edges are leaving already");
    assert_eq!(house.pid("edge"), Some(before));
    load.until_more(100);
    doors.iter().for_each(|door| drop(fs::remove_file(door)));
    // The same once more, and it goes on where it stopped.
    house.run(&["upgrade", "--again"]).exits(0);
    assert_ne!(house.pid("edge"), Some(before));
    load.until_more(100);
    load.stop_unharmed();
}

/// A WebSocket, as a raw connection.
fn web_socket(house: &House) -> Client {
    let mut client = Client::new(house.listen);
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.ask("GET", "/socket", upgrade, &[]).unwrap();
    assert_eq!(client.head().unwrap().status, 101);
    client
}

/// The instance that holds a long-lived connection.
fn holder(status: &Value) -> Option<u32> {
    let pools = status["services"][0]["pools"].as_array()?;
    let mut all = pools.iter().filter_map(|it| it["instances"].as_array()).flatten();
    let held = all.find(|it| it["long_lived"].as_u64() > Some(0))?;
    u32::try_from(held["pid"].as_u64()?).ok()
}

#[test]
fn s35_what_a_former_edge_holds_keeps_its_instance_until_that_edge_is_killed() {
    let house = house(2, BLUE_GREEN);
    let socket = web_socket(&house);
    let held = house.until("it is held", holder);
    house.run(&["upgrade", "--again"]).exits(0).says("1 former edge still holds requests");
    let former = leaving(&house)[0];
    house.until("it is still seen", |status| holder(status).filter(|pid| *pid == held));
    // Everything else goes on: the next revision serves, and the old one is emptied.
    web(&house, "VERSION = \"v2\"", 2, BLUE_GREEN);
    house.run(&["apply", "--yes", "--wait", "promoted"]).exits(0);
    house.until("only what is held is left", |status| {
        let old = pool(status, "web", "r1")?["instances"].as_array()?.len();
        (old == 1 && holder(status) == Some(held)).then_some(())
    });
    assert!(runs(held));
    kill(former);
    until("nobody holds it any more, and it is stopped", || (!runs(held)).then_some(()));
    house.until_settled();
    drop(socket);
    let answer = Client::new(house.listen).get("/page").unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn s35_a_keeper_that_does_not_answer_is_said_and_costs_nothing() {
    let house = house(1, QUICK);
    let load = Load::start(house.listen, ALL);
    let keeper = house.pid("keeper").unwrap();
    signal(keeper, Signal::STOP);
    house.run(&["upgrade", "--again"]).exits(1).says("could not ask the keeper");
    signal(keeper, Signal::CONT);
    house.run(&["upgrade", "--again"]).exits(0);
    load.until_more(50);
    load.stop_unharmed();
    assert!(Path::new(&house.program).exists());
}

fn may_run(program: &Path, may: bool) {
    let mode = if may { 0o755 } else { 0o644 };
    fs::set_permissions(program, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn s35_control_that_does_not_come_up_as_the_next_program_comes_back_as_the_former() {
    let mut house = house(2, QUICK);
    let first = house.program.clone();
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 100);
    let (before, instances) = (roles(&house), house.instances("web"));

    // The next program becomes the keeper, and from then on nobody can start it.
    let next = house.folder().join("evenkeel-next");
    fs::copy(&first, &next).unwrap();
    signal(before["keeper"], Signal::STOP);
    let mut upgrade = Command::new(&next)
        .arg("upgrade")
        .env("EVENKEEL_HOME", house.file(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut checked = String::new();
    let mut said = BufReader::new(upgrade.stdout.take().unwrap());
    said.read_line(&mut checked).unwrap();
    assert!(checked.contains("it can read what is saved"), "{checked}");
    // It cannot have gone further than to the keeper; control does not end before it goes on.
    signal(before["control"], Signal::STOP);
    signal(before["keeper"], Signal::CONT);
    until("it is the next", || (program_of(before["keeper"]) == next).then_some(()));
    may_run(&next, false);
    signal(before["control"], Signal::CONT);

    let ended = upgrade.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    let back = format!("control does not answer as this program; it runs from {}", first.display());
    assert!(told.contains(&back), "{told}");
    let now = roles(&house);
    assert!(now.values().all(|pid| program_of(*pid) == first), "{now:?}");
    let others = |roles: &BTreeMap<String, u32>| {
        let others = roles.iter().filter(|(name, _)| *name != "control");
        others.map(|(name, pid)| (name.clone(), *pid)).collect::<Vec<_>>()
    };
    assert_eq!(others(&now), others(&before), "nobody else was touched");
    load.until_more(100);

    // Put right, the same command goes all the way.
    may_run(&next, true);
    house.program = next;
    house.run(&["upgrade"]).exits(0).says("2 of 2 instances are the processes they were");
    assert_eq!(house.instances("web"), instances);
    load.until_more(100);
    load.stop_unharmed();
    house.bring_down();
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn s28_a_program_that_is_older_than_what_runs_is_refused_before_anything_is_done() {
    let house = house(1, QUICK);
    let load = Load::start(house.listen, ALL);
    // A control that is newer than this program: so it looks from outside.
    let keeper = house.pid("keeper").unwrap();
    signal(keeper, Signal::STOP);
    house.kill("control");
    let lock = fs::File::open(house.file("run/control.lock")).unwrap();
    until("control is gone", || lock.try_lock().is_ok().then_some(()));
    let door = house.file(evenkeel_kernel::layout::CONTROL_SOCKET);
    fs::remove_file(&door).unwrap();
    let listener = UnixListener::bind(&door).unwrap();
    let format = evenkeel_control::FORMAT + 1;
    let newer = thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let asked = BufReader::new(&stream).lines().next().unwrap().unwrap();
            assert!(asked.starts_with("GET /v1/version "), "{asked}");
            let body = format!("{{\"version\":\"9.9.9\",\"api\":1,\"pid\":1,\"format\":{format}}}");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let others = ["keeper", "edge"].map(|role| house.pid(role));
    let refusal = format!("the state is saved in format {format}, and this program reads up to");
    for command in [&["upgrade", "--check"][..], &["upgrade", "--again"]] {
        house.run(command).exits(1).says(&refusal).says("it is older than what runs");
    }
    newer.join().unwrap();
    fs::remove_file(&door).unwrap();
    drop(lock);

    // The same where nobody can be asked, but the state is there.
    let state = house.file("state");
    let kept = house.folder().join("state-kept");
    copy(&state, &kept);
    let mut journal = Journal::open(&state, format).unwrap();
    let (version, epoch) = (journal.load().unwrap().unwrap().version, journal.claim().unwrap());
    let row = Row {
        release: None,
        at: 1,
        actor: "ann".to_owned(),
        kind: "release.started".to_owned(),
        body: "{}".to_owned(),
    };
    journal.commit(version, epoch, &[row], format, "{}").unwrap();
    drop(journal);
    house.run(&["upgrade", "--again"]).exits(1).says(&refusal);
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&kept, &state).unwrap();
    signal(keeper, Signal::CONT);
    house.until("control is back", |status| status["services"].as_array().map(drop));
    assert_eq!(["keeper", "edge"].map(|role| house.pid(role)), others, "nothing was done");
    load.until_more(50);
    load.stop_unharmed();
    house.bring_down();
}
