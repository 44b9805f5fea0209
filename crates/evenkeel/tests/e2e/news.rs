//! News: signed events of real releases reach who is to be told, in order, whoever dies meanwhile,
//! and nobody who does not listen holds anything up.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use evenkeel_kernel::release::news;
use serde_json::Value;

use crate::house::House;
use crate::machine::{free_port, until};
use crate::programs::{Program, node};
use crate::whole::files;

const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";
/// Many short steps, so that deaths fall between many events.
const LONG: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"300ms\"\nsteps = [\
    { weight = \"5%\", bake = \"200ms\" }, { weight = \"20%\", bake = \"200ms\" }, \
    { weight = \"40%\", bake = \"200ms\" }, { weight = \"60%\", bake = \"200ms\" }, \
    { weight = \"80%\", bake = \"200ms\" }]";
const SOURCE: &str = include_str!("programs/receiver.py");
/// What is written into the book of the receiver.
const BOOK: &str = "book";

/// A receiver that knows the key, as a process of its own. It ends with this.
#[derive(Debug)]
struct Receiver(Child);

impl Receiver {
    fn start(house: &House, port: u16) -> Self {
        house.write("receiver.py", SOURCE);
        let child = Command::new("python3")
            .args(["receiver.py", &port.to_string(), "key", BOOK])
            .current_dir(house.folder())
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Takes everything that is posted to `listener`, and remembers the bodies. Ends with the test.
fn chat(listener: TcpListener) -> Arc<Mutex<Vec<String>>> {
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&said);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let mut reader = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|it| it > 2) {
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_ok() {
                heard.lock().unwrap().push(String::from_utf8(body).unwrap());
                reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok();
            }
        }
    });
    said
}

/// Writes a stack whose news go to these.
fn stack(house: &House, version: &str, rollout: &str, notify: &str) {
    let service = node(house, &format!("VERSION = \"{version}\""));
    house.stack(&format!(
        "[service.web]\n{service}\nreplicas = 2\n[service.web.rollout]\n{rollout}\n\
         [route.web]\nto = \"web\"\n{notify}"
    ));
}

/// What the receiver has written down.
fn book(house: &House) -> Vec<Value> {
    let text = fs::read_to_string(house.folder().join(BOOK)).unwrap_or_default();
    // Its last line may be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The journal's rows that somebody with these filters is told, by their places.
fn told(house: &House, events: &[&str]) -> BTreeMap<u64, String> {
    let events: Vec<String> = events.iter().map(|it| (*it).to_owned()).collect();
    let journal = house.run(&["history", "--journal", "--json"]).exits(0);
    let rows = journal.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let wanted = rows.filter(|row| news::wanted(&events, row["kind"].as_str().unwrap()));
    wanted
        .map(|row| (row["seq"].as_u64().unwrap(), row["kind"].as_str().unwrap().to_owned()))
        .collect()
}

/// Waits until the receiver has taken the newest event that it is to be told, and sees that it has
/// taken all of them in order.
#[track_caller]
fn until_all_taken(house: &House, events: &[&str]) {
    let told = told(house, events);
    let last = told.keys().next_back().unwrap().to_string();
    until("the last event is taken", || {
        book(house).iter().any(|line| line["delivery"] == last.as_str()).then_some(())
    });
    let mut taken = BTreeMap::new();
    let mut newest = 0;
    for line in book(house).iter().filter(|line| line["event"] != "notify.test") {
        assert_eq!(line["known"], true, "{line}");
        let body = &line["body"];
        assert_eq!((&line["delivery"], &line["event"]), (&body["id"], &body["event"]), "{line}");
        let id: u64 = body["id"].as_str().unwrap().parse().unwrap();
        // What was under way when control died comes once more, and nothing between is left out.
        assert!(id >= newest, "{id} came after {newest}");
        newest = id;
        taken.insert(id, body["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(taken, told);
}

fn receivers(house: &House) -> BTreeMap<String, Value> {
    let all = house.run(&["notify", "--json"]).exits(0).json();
    let all = all.as_array().unwrap().iter();
    all.map(|it| (it["name"].as_str().unwrap().to_owned(), it.clone())).collect()
}

#[test]
fn signed_events_arrive_in_order_and_their_secrets_stay_where_they_belong() {
    if !Program::Python.is_here() {
        return;
    }
    let house = House::new();
    let port = free_port();
    house.write("url", &format!("http://127.0.0.1:{port}/hook/hunter-path\n"));
    house.write("key", "hunter-key\n");
    let ops = "[notify.ops]\nwebhook = \"file:url\"\nsecret = \"file:key\"\n";
    stack(&house, "v1", QUICK, ops);
    let receiver = Receiver::start(&house, port);
    let mut said = vec![house.up()];
    house.until_settled();
    until_all_taken(&house, &[]);
    let first = &book(&house)[0];
    assert_eq!(first["event"], "release.started", "it hears of the release that brings it");
    assert_eq!((&first["body"]["stack"], &first["body"]["release"]), (&"house".into(), &1.into()));
    assert_eq!(first["path"], "/hook/hunter-path");

    stack(&house, "v2", QUICK, ops);
    said.push(house.apply().exits(0));
    house.until_settled();
    until_all_taken(&house, &[]);

    // It can be tried, and a change of who is told is a release that touches no instance.
    said.push(house.run(&["notify", "test", "ops"]).exits(0).says("ops has taken it"));
    assert_eq!(book(&house).last().unwrap()["event"], "notify.test");
    said.push(house.run(&["notify", "test", "nobody"]).exits(1).says("there is ops"));
    let before = house.instances("web");
    house.write("key", "hunter-two\n");
    said.push(house.run(&["plan"]).exits(2).says("notify.ops").says("secret"));
    drop(receiver);
    let receiver = Receiver::start(&house, port);
    said.push(house.apply().exits(0));
    house.until_settled();
    until_all_taken_but_unknown(&house);
    assert_eq!(house.instances("web"), before);

    said.push(house.run(&["notify"]).exits(0).says("webhook, signed").says("ops"));
    said.push(house.run(&["status", "--json"]).exits(0));
    said.push(house.run(&["history", "--journal", "--json"]).exits(0));
    for told in &said {
        assert!(!format!("{told:?}").contains("hunter-"), "{told:?}");
    }
    assert!(!house.logs().contains("hunter-"));
    assert!(!house.processes().values().any(|command| command.contains("hunter-")));
    let mut kept = 0;
    for file in files(&house.file("")) {
        let Ok(content) = fs::read(&file) else { continue };
        if content.windows(7).any(|part| part == b"hunter-") {
            let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert!(file.parent().unwrap().ends_with("h/secrets"), "{}", file.display());
            assert_eq!(mode, 0o400);
            kept += 1;
        }
    }
    assert_eq!(kept, 3, "the URL and two keys, the old one of which is young");

    // Who is gone from the stack has heard how that ended, and is forgotten.
    stack(&house, "v2", QUICK, "");
    house.apply().exits(0);
    house.until_settled();
    until("it is forgotten", || receivers(&house).is_empty().then_some(()));
    until_all_taken_but_unknown(&house);
    assert!(!house.file("notify/ops").exists());
    drop(receiver);
}

/// The same once the key was changed: what was told while it was, under whichever key, is told
/// again until it is taken.
#[track_caller]
fn until_all_taken_but_unknown(house: &House) {
    let path = house.folder().join(BOOK);
    let last = told(house, &[]).into_keys().next_back().unwrap().to_string();
    until("the last event is taken", || {
        let book = book(house);
        book.iter().any(|it| it["delivery"] == last.as_str() && it["known"] == true).then_some(())
    });
    let known = book(house).into_iter().filter(|line| line["known"] == true);
    let lines: Vec<String> = known.map(|line| line.to_string()).collect();
    fs::write(path, lines.join("\n") + "\n").unwrap();
    until_all_taken(house, &[]);
}

#[test]
fn receivers_that_are_dead_or_hang_hold_up_nobody() {
    let house = House::new();
    // It takes every connection and never says anything.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent_at = silent.local_addr().unwrap();
    let dead = free_port();
    let room = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let room_at = room.local_addr().unwrap();
    let said = chat(room);
    house.write("tell", "#!/bin/sh\necho $EVENKEEL_ID $EVENKEEL_EVENT >> heard\n");
    let tell = house.folder().join("tell");
    fs::set_permissions(&tell, fs::Permissions::from_mode(0o755)).unwrap();
    let notify = format!(
        "[notify.silent]\nwebhook = \"http://{silent_at}/\"\n\
         [notify.dead]\nslack = \"http://127.0.0.1:{dead}/hunter\"\n\
         [notify.room]\nslack = \"http://{room_at}/\"\nevents = \"release.started\"\n\
         [notify.endless]\ncommand = [\"sleep\", \"1000\"]\n\
         [notify.well]\ncommand = \"./tell\"\nevents = \"*\"\n"
    );
    stack(&house, "v1", QUICK, &notify);
    house.up();
    stack(&house, "v2", QUICK, &notify);
    house.apply().exits(0);
    house.until_settled();
    let told = told(&house, &["*"]);
    assert!(told.values().filter(|kind| *kind == "release.ended").count() == 2, "{told:?}");
    let told: Vec<String> = told.iter().map(|(seq, kind)| format!("{seq} {kind}")).collect();
    until("the one that is well has heard it all", || {
        let heard = fs::read_to_string(house.folder().join("heard")).unwrap_or_default();
        heard.lines().eq(told.iter().map(String::as_str)).then_some(())
    });
    until("the room has heard of both", || (said.lock().unwrap().len() == 2).then_some(()));
    house.run(&["notify", "test", "room"]).exits(0);
    let said = said.lock().unwrap().clone();
    assert!(said[1].starts_with(r#"{"text":"house #2: release #2 started by "#), "{said:?}");
    assert!(said[2].starts_with(r#"{"text":"house: "#), "{said:?}");
    // Both releases are over, and the others have not taken the first event of the first.
    let all = receivers(&house);
    for name in ["silent", "dead", "endless"] {
        let it = &all[name];
        assert!(it["taken_ms"].is_null() && it["behind"].as_u64() > Some(5), "{it}");
    }
    assert_eq!(all["well"]["behind"], 0, "{all:?}");
    let error = until("the dead one is known to be", || {
        receivers(&house)["dead"]["last_error"].as_str().map(str::to_owned)
    });
    assert!(error.starts_with(&format!("could not ask 127.0.0.1:{dead}: ")), "{error}");
    house.run(&["notify", "test", "dead"]).exits(1).says("dead has not taken it: could not ask");
    house.run(&["notify"]).exits(0).says("tries: could not ask").says("/…");
}

#[test]
fn control_killed_again_and_again_loses_no_event() {
    if !Program::Python.is_here() {
        return;
    }
    let house = House::new();
    let port = free_port();
    house.write("key", "k");
    let ops = format!(
        "[notify.ops]\nwebhook = \"http://127.0.0.1:{port}/\"\nsecret = \"file:key\"\nevents = \"*\"\n"
    );
    stack(&house, "v1", QUICK, &ops);
    let receiver = Receiver::start(&house, port);
    house.up();
    house.until_settled();
    stack(&house, "v2", LONG, &ops);
    house.run(&["apply", "--yes", "--detach"]).exits(0);
    let mut control = house.kill("control");
    for _ in 0..4 {
        control = house.until_back("control", control);
        let before = book(&house).len();
        until("it is told more", || (book(&house).len() > before).then_some(()));
        assert_eq!(house.kill("control"), control);
    }
    house.until_back("control", control);
    // Now it dies with an event that nobody has taken, and the rest is told after the end only.
    drop(receiver);
    house.run(&["lock", "nobody listens"]).exits(0);
    until("it was tried in vain", || {
        let ops = receivers(&house)["ops"].clone();
        (ops["behind"].as_u64() > Some(0) && ops["last_error"].is_string()).then_some(())
    });
    let control = house.kill("control");
    house.until_back("control", control);
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "promoted");
    let receiver = Receiver::start(&house, port);
    until_all_taken(&house, &["*"]);
    drop(receiver);
}
