//! The edge as a process: signals, and an end without a warning.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_edge::client::Client as Door;
use evenkeel_edge::{Config, run};
use evenkeel_kernel::model::Probe;
use evenkeel_kernel::world::Health;
use rustix::process::{Pid, Signal, kill_process};

use crate::instance::Instance;
use crate::rig::{Rig, pool_of, table, table_at, until};

const HOME: &str = "EVENKEEL_TEST_EDGE_HOME";
const SUCCEED: &str = "EVENKEEL_TEST_EDGE_SUCCEED";

/// Not a test: the body of the processes that the tests below start.
#[test]
fn an_edge_process() {
    if let Some(home) = std::env::var_os(HOME) {
        let succeed = std::env::var_os(SUCCEED).is_some();
        let config = Config { home: home.into(), threads: 1, succeed, about: String::new() };
        run(&config, |_outlook| ()).unwrap();
    }
}

/// Starts an edge, and does not wait.
pub(crate) fn spawn(home: &Path, succeed: bool) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::an_edge_process"])
        .env(HOME, home)
        .envs(succeed.then_some((SUCCEED, "1")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn start(home: &Path) -> Child {
    let child = spawn(home, false);
    until("its door is open", || reigns(home, &child) && Door::connect(home).is_ok());
    child
}

/// Whether this process is the edge of the home.
pub(crate) fn reigns(home: &Path, child: &Child) -> bool {
    let pid = std::fs::read_to_string(home.join("run/edge.pid")).unwrap_or_default();
    pid.trim() == child.id().to_string()
}

/// Counts connections that nobody has answered yet, until it is told to answer.
struct Crowd {
    addrs: Vec<SocketAddr>,
    waiting_max: Arc<AtomicUsize>,
    /// Connections so far.
    accepted: Arc<AtomicUsize>,
    /// How many are still to be answered.
    answers: Arc<AtomicUsize>,
}

impl Crowd {
    /// So many instances: one listener, at as many addresses. Ends with the test's process.
    fn of(count: u32) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let first = u32::from(Ipv4Addr::new(127, 0, 1, 0));
        let addr = |n| SocketAddr::from((Ipv4Addr::from(first + n), port));
        let crowd = Self {
            addrs: (0..count).map(addr).collect(),
            waiting_max: Arc::default(),
            accepted: Arc::default(),
            answers: Arc::default(),
        };
        let (waiting_max, accepted) = (Arc::clone(&crowd.waiting_max), Arc::clone(&crowd.accepted));
        let answers = Arc::clone(&crowd.answers);
        thread::spawn(move || {
            listener.set_nonblocking(true).unwrap();
            let mut waiting = Vec::new();
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        waiting.push(stream);
                        accepted.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(_none) => thread::sleep(Duration::from_millis(1)),
                }
                waiting_max.fetch_max(waiting.len(), Ordering::SeqCst);
                let answered = waiting.len().min(answers.load(Ordering::SeqCst));
                for mut stream in waiting.drain(..answered) {
                    // A probe that has given up is gone.
                    let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                }
                answers.fetch_sub(answered, Ordering::SeqCst);
            }
        });
        crowd
    }
}

/// The time that a thread of a process has had a processor for.
fn cpu_of(process: u32, thread: &str) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let ns = tasks.flatten().map(|task| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap();
        match read("comm").trim() == thread {
            true => read("schedstat").split(' ').next().unwrap().parse().unwrap(),
            false => 0,
        }
    });
    Duration::from_nanos(ns.sum())
}

#[test]
fn a_thousand_instances_are_probed_and_not_all_at_a_time() {
    let crowd = Crowd::of(1_000);
    let rig = Rig::without_edge();
    let mut edge = start(&rig.home);
    let mut it = table_at(1, &[(10_000, crowd.addrs.clone())]);
    let health = &mut pool_of(&mut it, 1).health;
    health.probe = Probe::Http { path: "/up".to_owned() };
    health.interval = Duration::from_secs(1);
    health.timeout = Duration::from_secs(60);
    rig.door().apply(&it).unwrap();
    until("as many as may be are asked", || crowd.waiting_max.load(Ordering::SeqCst) >= 256);
    assert!(rig.observe().instances.values().all(|it| it.health == Health::Unknown));
    // For each that is answered another one is asked.
    crowd.answers.store(300, Ordering::SeqCst);
    until("others are asked", || crowd.accepted.load(Ordering::SeqCst) >= 256 + 300);
    assert_eq!(crowd.waiting_max.load(Ordering::SeqCst), 256);
    crowd.answers.store(usize::MAX, Ordering::SeqCst);
    until("all are well", || {
        rig.observe().instances.values().all(|it| it.health == Health::Healthy)
    });
    let (began, before) = (Instant::now(), cpu_of(edge.id(), "edge-manager"));
    let asked = crowd.accepted.load(Ordering::SeqCst);
    until("all were asked twice", || crowd.accepted.load(Ordering::SeqCst) >= asked + 2_000);
    let used = cpu_of(edge.id(), "edge-manager") - before;
    println!(
        "1,000 probes each second: {:.1?} of a second",
        used.div_f64(began.elapsed().as_secs_f64())
    );
    signal(&edge, Signal::KILL);
    edge.wait().unwrap();
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn d11_a_signal_ends_it_in_order_and_a_kill_loses_no_connection() {
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
