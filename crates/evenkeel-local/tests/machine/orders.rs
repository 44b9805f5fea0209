//! What is said to a shim, and what it answers.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::Probe;
use evenkeel_kernel::world::InstancePhase;

use crate::house::{House, fence, kill, runs, until};

fn order(house: &House, order: &str, epoch: u64, generation: u64) -> String {
    let incarnation = house.status()["incarnation"].as_str().unwrap().to_owned();
    let line = format!(
        r#"{{"v":1,"do":{{"{order}":{{"fence":{{"epoch":{epoch},"generation":{generation}}},"incarnation":"{incarnation}"}}}}}}"#
    );
    house.ask(&line)
}

pub(crate) fn s02_s03_older_orders_are_refused() {
    let house = House::new();
    let mut pool = house.shell("exec sleep 100");
    pool.fence = fence(2, 5);
    let pid = house.run(&pool);
    // A new decision about the pool reaches the instance before anything relies on it.
    pool.fence = fence(3, 1);
    house.want(&pool);
    until("it is kept", || (house.instance()?.fence == fence(3, 1)).then_some(()));

    // What a former controller says now is too late, said to the driver or to the shim.
    pool.fence = fence(2, 9);
    house.want_nothing(&pool);
    let refused = order(&house, "stop", 2, 9);
    assert!(
        refused.starts_with(r#"{"refused":"the order (epoch 2, generation 9) is older"#),
        "{refused}"
    );
    // Another life of the same instance is not meant.
    let foreign = r#"{"v":1,"do":{"stop":{"fence":{"epoch":9,"generation":9},"incarnation":"x"}}}"#;
    assert!(house.ask(foreign).contains("another life"));
    assert!(house.ask("hello").contains("refused"));
    // The fence outlives the shim.
    let shim = house.shim();
    kill(shim);
    until("another shim has it", || (house.shim() != shim).then_some(()));
    house.until_phase(InstancePhase::Running);
    until("it answers", || UnixStream::connect(house.socket()).ok());
    assert!(order(&house, "stop", 2, 9).contains("refused"));
    assert!(order(&house, "keep", 3, 2).starts_with(r#"{"ok":"#));
    assert!(order(&house, "keep", 3, 1).contains("refused"));
    assert!(runs(pid));
    assert!(order(&house, "stop", 3, 2).starts_with(r#"{"ok":"#));
    until("it has ended", || (!runs(pid)).then_some(()));
}

pub(crate) fn notify_makes_ready() {
    let house = House::new();
    let exe = std::env::current_exe().unwrap();
    let line = format!(
        "while ! [ -e go ]; do sleep 0.02; done; {} role say READY=1; exec sleep 100",
        exe.display()
    );
    let mut pool = house.shell(&line);
    pool.probe = Probe::Notify;
    let pid = house.run(&pool);
    house.until_answer("ready", "no it has not said READY=1 yet");
    fs::write(house.work("go"), "").unwrap();
    house.until_answer("ready", "yes");
    // A new shim still knows.
    let shim = house.shim();
    kill(shim);
    until("another shim has it", || (house.shim() != shim).then_some(()));
    until("it answers", || UnixStream::connect(house.socket()).ok());
    assert_eq!(house.ask("ready"), "yes");
    // A new process has yet to say so.
    fs::remove_file(house.work("go")).unwrap();
    kill(pid);
    until("it runs again", || house.instance()?.pid.filter(|&next| next != pid));
    house.until_answer("ready", "no it has not said READY=1 yet");
}

pub(crate) fn a_command_makes_ready() {
    let house = House::new();
    let mut pool = house.shell("exec sleep 100");
    pool.probe = Probe::Exec { command: vec!["test".into(), "-e".into(), "ok".into()] };
    house.run(&pool);
    house.until_answer("ready", "no its probe ended with exit status 1");
    fs::write(house.work("ok"), "").unwrap();
    house.until_answer("ready", "yes");
    fs::remove_file(house.work("ok")).unwrap();
    house.until_answer("ready", "no its probe ended with exit status 1");

    pool.probe = Probe::Exec { command: vec!["sleep".into(), "50".into()] };
    Arc::make_mut(&mut pool.workload).health.timeout = std::time::Duration::from_millis(200);
    pool.fence = fence(1, 2);
    house.want(&pool);
    house.until_answer("ready", "no its probe took longer than 200ms");
    house.want_nothing(&pool);
    house.until_absent();
    until("nothing is left", || house.processes().is_empty().then_some(()));
}

pub(crate) fn stuck_clients_hold_nobody_up() {
    let house = House::new();
    let pool = house.shell("exec sleep 100");
    let pid = house.run(&pool);
    let mut stuck: Vec<UnixStream> =
        (0..30).map(|_| UnixStream::connect(house.socket()).unwrap()).collect();
    for stream in &mut stuck {
        stream.set_nonblocking(true).unwrap();
        // Asks for far more than it will ever read, until nobody takes any more.
        for _ in 0..2_000 {
            if stream.write_all(b"{\"v\":1,\"do\":\"status\"}\n").is_err() {
                break;
            }
        }
    }
    let mut endless = UnixStream::connect(house.socket()).unwrap();
    let _shown_out = endless.write_all(&[b'x'; 100_000]);
    assert_eq!(house.ask("ready"), "yes");
    kill(pid);
    until("it runs again", || house.instance()?.pid.filter(|&next| next != pid));
    house.want_nothing(&pool);
    house.until_absent();
}

pub(crate) fn control_is_woken_by_name() {
    let house = House::new();
    let control = UnixDatagram::bind(house.home().join(layout::WAKE_SOCKET)).unwrap();
    control.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    house.run(&house.shell("exec sleep 100"));
    let mut news = [0; 64];
    let length = control.recv(&mut news).unwrap();
    assert_eq!(&news[..length], b"shim web.r1.1\n");
}

pub(crate) fn a_new_surrounding_comes_with_the_next_start() {
    let house = House::new();
    let mut pool = house.shell("echo url=$CATALOG_URL; exec sleep 100");
    pool.surroundings.insert("CATALOG_URL".to_owned(), "old".to_owned());
    let pid = house.run(&pool);
    pool.surroundings.insert("CATALOG_URL".to_owned(), "new".to_owned());
    pool.fence = fence(1, 2);
    house.want(&pool);
    until("it is told", || (house.instance()?.fence == fence(1, 2)).then_some(()));
    assert_eq!(house.until_running(), pid);
    kill(pid);
    until("it knows", || (house.log() == "url=old\nurl=new\n").then_some(()));
}
