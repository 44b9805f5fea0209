//! Starting and stopping: the first deployment, down and up again, several homes beside one
//! another, files with mistakes.

use std::fs;

use crate::house::House;
use crate::http::Client;
use crate::load::{ALL, Load, page_of};
use crate::programs::web;

const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";

#[test]
fn the_first_deployment_serves_and_down_leaves_nothing_behind() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, QUICK);
    house.up().says("release #1 is promoted");
    assert_eq!(Client::new(house.listen).get("/page").unwrap().text(), page_of("v1"));
    for role in ["control", "edge", "keeper"] {
        assert!(house.pid(role).is_some(), "{role} has no pid file");
    }
    house.run(&["plan"]).exits(0).says("nothing changes");
    house.run(&["up"]).exits(0).says("nothing changes");
    house.run(&["doctor"]).exits(0);

    web(&house, "VERSION = \"v2\"", 3, QUICK);
    house.run(&["plan"]).exits(2).says("env.VERSION").says("v1 -> v2").says("r1 -> r2");
    house.run(&["plan", "--json"]).exits(2);

    house.bring_down();
    assert!(Client::new(house.listen).get("/page").is_err());
    house.run(&["down"]).exits(0).says("nothing runs here");
    house.run(&["status"]).exits(1).says("evenkeel up");

    // What was applied comes back, not what the file says now; then the change is released.
    house.up().says("release #2 is promoted");
    assert_eq!(Client::new(house.listen).get("/page").unwrap().text(), page_of("v2"));
    house.until("all are ready", |it| (it["services"][0]["ready"] == 3).then_some(()));
}

#[test]
fn roles_that_are_stopped_alone_find_the_same_instances_again() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, QUICK);
    house.up();
    let before = house.instances("web");
    assert_eq!(before.len(), 2);
    house.run(&["down", "--keep-instances"]).exits(0);
    assert!(["control", "edge", "keeper"].iter().all(|role| house.pid(role).is_none()));
    house.up();
    house.until("all are ready", |it| (it["services"][0]["ready"] == 2).then_some(()));
    assert_eq!(house.instances("web"), before);
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 50);
    load.stop_unharmed();
}

#[test]
fn two_homes_live_side_by_side() {
    let (one, other) = (House::new(), House::new());
    web(&one, "VERSION = \"one\"", 1, QUICK);
    web(&other, "VERSION = \"other\"", 1, QUICK);
    let (up_one, up_other) = (one.start(&["up"]), other.start(&["up"]));
    up_one.wait().exits(0);
    up_other.wait().exits(0);
    assert_eq!(Client::new(one.listen).get("/page").unwrap().text(), page_of("one"));
    assert_eq!(Client::new(other.listen).get("/page").unwrap().text(), page_of("other"));
    let load = Load::start(other.listen, ALL);
    load.until_answered("other", 10);
    one.bring_down();
    load.until_more(20);
    load.stop_unharmed();
}

#[test]
fn every_mistake_in_a_file_is_listed_and_nothing_happens() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 1, QUICK);
    house.up();
    house.until_settled();
    let before = (house.status()["generation"].clone(), house.instances("web"));
    house.write(
        "evenkeel.toml",
        "stack = \"house\"\n[service.web]\nrn = [\"node\"]\nreplicas = 0\n\
         [route.web]\nto = \"shop\"\n",
    );
    let said = house.apply().exits(1);
    for place in ["evenkeel.toml:3", "evenkeel.toml:4", "evenkeel.toml:6"] {
        assert!(said.err.contains(place), "{place} is not in\n{}", said.err);
    }
    house.run(&["plan"]).exits(1);
    let problems = house.run(&["plan", "--json"]).exits(1).json();
    assert!(problems["problems"].as_array().unwrap().len() >= 3, "{problems}");
    house.write(
        "evenkeel.toml",
        "stack = \"house\"\n[service.web]\nrun = [\"./nothing\"]\nenv_file = \".missing\"\nreplica = 1\n\
         [service.lost]\nrun = [\"sh\"]\ndir = \"nowhere\"\n\
         [service.unknown]\nrun = [\"no-such-program\"]\n",
    );
    let said = house.apply().exits(1);
    for place in ["3:7: error: ", "4:12", "5:1", "8:7", "10:7"] {
        assert!(said.err.contains(&format!("evenkeel.toml:{place}")), "{place}: {}", said.err);
    }
    house.write("evenkeel.toml", "stack = [\n");
    house.apply().exits(1).says("evenkeel.toml:");
    fs::remove_file(house.folder().join("evenkeel.toml")).unwrap();
    house.apply().exits(1).says("there is no evenkeel.toml");
    assert_eq!((house.status()["generation"].clone(), house.instances("web")), before);
}
