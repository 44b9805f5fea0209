//! Changes beside new revisions: sizes, restarts, removals, services that use one another, ports
//! that others have.

use std::net::{Ipv4Addr, TcpListener};

use crate::house::{House, service};
use crate::http::Client;
use crate::load::{ALL, FILES, Load};
use crate::machine::{program, until};
use crate::programs::{Program, node, web};

const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";

#[test]
fn scaling_and_restarting_lose_no_request() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, QUICK);
    house.up();
    let load = Load::start(house.listen, ALL);
    let before = house.instances("web");
    house.run(&["scale", "web=5"]).exits(0);
    let now = house.instances("web");
    assert_eq!(now.len(), 5);
    assert!(before.iter().all(|(id, pid)| now.get(id) == Some(pid)), "{before:?} {now:?}");

    house.run(&["scale", "web=1"]).exits(1).says("--yes");
    house.run(&["scale", "web=1", "--yes"]).exits(0);
    house.until_settled();
    assert_eq!(house.instances("web").len(), 1);
    house.run(&["scale", "web=0", "--yes"]).exits(1);
    house.run(&["scale", "shop=2"]).exits(1).says("no service shop");

    // The file is the truth again as soon as it is applied.
    house.apply().exits(0);
    house.until_settled();
    let before = house.instances("web");
    assert_eq!(before.len(), 2);
    house.run(&["restart", "web"]).exits(0);
    house.until_settled();
    let now = house.instances("web");
    assert!(now.len() == 2 && now.values().all(|pid| !before.values().any(|it| it == pid)));
    let report = load.stop_unharmed();
    assert_eq!(report.by.keys().collect::<Vec<_>>(), ["v1"]);
}

#[test]
fn a_service_is_removed_only_when_somebody_names_how_much_goes() {
    let house = House::new();
    let (web, more) = (node(&house, "VERSION = \"web\""), node(&house, "VERSION = \"more\""));
    let both = format!(
        "[service.web]\n{web}\n[service.web.rollout]\n{QUICK}\n[route.web]\nto = \"web\"\n\
         [service.more]\n{more}\n[service.more.rollout]\n{QUICK}\n\
         [route.more]\nto = \"more\"\npath = \"/more\"\n"
    );
    house.stack(&both);
    house.up();
    let more = || Client::new(house.listen).get("/more").unwrap();
    assert_eq!(more().header("x-version"), Some("more"));
    let load = Load::start(house.listen, ALL);

    house.stack(&both[..both.find("[service.more]").unwrap()]);
    house.run(&["plan"]).exits(2).says("refused without --expect-destroy 1");
    house.run(&["apply", "--yes"]).exits(1).says("more serves traffic and is removed");
    house.run(&["apply", "--expect-destroy", "2"]).exits(1).says("--expect-destroy 1");
    assert_eq!(house.instances("more").len(), 1);
    house.run(&["apply", "--expect-destroy", "1", "--wait", "complete"]).exits(0);
    assert!(service(&house.status(), "more").is_none());
    assert_eq!(house.processes().values().filter(|it| it.contains("node")).count(), 1);
    // Its path belongs to the other route now.
    assert_eq!(more().header("x-version"), Some("web"));
    load.stop_unharmed();
}

#[test]
fn what_a_service_uses_is_replaced_beneath_it_without_a_failed_request() {
    let house = House::new();
    let stack = |front: &str, back: &str| {
        let front = format!("VERSION = \"{front}\", RELAY_TO = \"BACK_URL\"");
        let (front, back) = (node(&house, &front), node(&house, &format!("VERSION = \"{back}\"")));
        let canary = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"0s\"\n\
                      steps = [{ weight = \"50%\", bake = \"500ms\" }]";
        house.stack(&format!(
            "[service.front]\n{front}\nuses = [\"back\"]\nreplicas = 2\n\
             [service.front.rollout]\n{QUICK}\n[route.front]\nto = \"front\"\n\
             [service.back]\n{back}\nreplicas = 2\n[service.back.rollout]\n{canary}\n"
        ));
    };
    stack("f1", "b1");
    house.up();
    let load = Load::on(house.listen, "/relay", FILES);
    load.until_answered("b1", 50);
    stack("f1", "b2");
    house.apply().exits(0);
    load.until_answered("b2", 50);
    // Both at once: what is used goes first.
    stack("f2", "b3");
    let said = house.apply().exits(0);
    let (back, front) = (said.out.find("shifting back"), said.out.find("shifting front"));
    assert!(back.is_some() && back < front, "{}", said.out);
    load.until_answered("b3", 50);
    let report = load.stop_unharmed();
    println!("{report}");
}

#[test]
fn s38_a_port_that_somebody_else_has_is_passed_over() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 1, QUICK);
    house.up();
    let status = house.status();
    let instance = &status["services"][0]["pools"][0]["instances"][0];
    let port = u16::try_from(instance["port"].as_u64().unwrap()).unwrap();
    // The ports that are next in turn.
    let strangers: Vec<TcpListener> =
        (1..4).filter_map(|i| TcpListener::bind((Ipv4Addr::LOCALHOST, port + i)).ok()).collect();
    assert!(!strangers.is_empty());
    let load = Load::start(house.listen, ALL);
    web(&house, "VERSION = \"v2\"", 1, QUICK);
    house.apply().exits(0);
    load.until_answered("v2", 20);
    load.stop_unharmed();
    // Each is noticed once, and nothing is said of ports that are free.
    let journal = house.run(&["history", "--journal"]).exits(0);
    assert_eq!(journal.out.matches("is taken").count(), strangers.len(), "{}", journal.out);
}

#[test]
fn s36_a_service_whose_daemons_flee_is_stopped_whole() {
    if program("python3").is_none() {
        return assert!(!Program::Python.is_here());
    }
    let house = House::new();
    house.write("page", "hello");
    // Twice forked, in a session, a folder and an environment of its own; only its last argument
    // says to which house it belongs.
    house.write(
        "flee.py",
        "import os, sys\n\
         if os.fork() == 0:\n\
         \x20   os.setsid()\n\
         \x20   if os.fork() == 0:\n\
         \x20       os.chdir('/')\n\
         \x20       os.execve(sys.executable, [sys.executable, '-c', \
         'import time; time.sleep(1000)', sys.argv[2]], {})\n\
         \x20   os._exit(0)\n\
         os.execvp('python3', ['python3', '-m', 'http.server', sys.argv[1], '--bind', '127.0.0.1'])\n",
    );
    let folder = house.folder();
    house.stack(&format!(
        "[service.web]\nrun = [\"python3\", \"flee.py\", \"$PORT\", \"{}\"]\n\
         health = \"/page\"\n[service.web.rollout]\n{QUICK}\n[route.web]\nto = \"web\"\n",
        folder.display()
    ));
    house.up();
    let fled = || house.processes().values().any(|command| command.contains("time.sleep"));
    until("it has fled", || fled().then_some(()));
    house.bring_down();
}
