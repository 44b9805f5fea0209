//! The edge as a process: signals, and an end without a warning.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel_edge::client::Client as Door;
use evenkeel_edge::{Config, run};
use rustix::process::{Pid, Signal, kill_process};

use crate::instance::Instance;
use crate::rig::{Rig, table, until};

const HOME: &str = "EVENKEEL_TEST_EDGE_HOME";

/// Not a test: the body of the processes that the tests below start.
#[test]
fn an_edge_process() {
    if let Some(home) = std::env::var_os(HOME) {
        run(&Config { home: home.into(), threads: 1 }).unwrap();
    }
}

fn start(home: &Path) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::an_edge_process"])
        .env(HOME, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("its door is open", || Door::connect(home).is_ok());
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_signal_ends_it_in_order_and_a_kill_loses_no_connection() {
    let instance = Instance::says("served");
    let rig = Rig::without_edge();
    let mut first = start(&rig.home);
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    until("it serves", || rig.client().get("/").body == "served");
    signal(&first, Signal::KILL);
    first.wait().unwrap();

    // The keeper still holds the socket, so who comes now waits for the next edge.
    let mut waiting = rig.client();
    waiting.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut second = start(&rig.home);
    assert_eq!(waiting.answer(false).unwrap().body, "served");

    let pid = std::fs::read_to_string(rig.home.join("run/edge.pid")).unwrap();
    assert_eq!(pid.trim(), second.id().to_string());
    let asked = Instant::now();
    signal(&second, Signal::TERM);
    assert!(second.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(9), "idle connections do not hold it up");
    assert!(!rig.home.join("run/edge.pid").exists());
}
