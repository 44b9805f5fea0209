//! A service is held under load: its requests wait, reach nobody, and none of them fails.

use crate::house::{House, service};
use crate::load::{ALL, Kind, Load};
use crate::machine::until;
use crate::programs::web;

/// All but what lives on while a service is held.
const SHORT: &[Kind] = &[
    Kind::KeepAlive,
    Kind::KeepAlive,
    Kind::Fresh,
    Kind::Post,
    Kind::Put,
    Kind::Stream,
    Kind::Stream,
];

fn house() -> House {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, "min_ready = \"0s\"\nbake = \"0s\"");
    house.up();
    house.until_settled();
    house
}

#[test]
fn requests_wait_while_their_service_is_held_and_none_of_them_fails() {
    let house = house();
    let load = Load::start(house.listen, SHORT);
    let long = Load::start(house.listen, &[Kind::WebSocket]);
    load.until_answered("v1", 100);
    long.until_more(1);

    // Whoever holds it goes on once nothing is under way.
    let hold = ["hold", "web", "--for", "20s", "--reason", "cut-over"];
    house.run(&hold).exits(0).says("web answers nothing any more");
    let before = load.look(|it| it.answers("v1"));
    house.until("they wait", |status| {
        let web = service(status, "web")?;
        let held = &web["hold"];
        let quiet = held["in_force"] == true && held["in_flight"] == 0;
        // One of each stream, and the WebSocket once it is at its end.
        (quiet && web["waiting"].as_u64()? == SHORT.len() as u64 + 1).then_some(())
    });
    house.run(&["status"]).exits(0).says("HELD by ").says(" requests wait, 0 are still");
    house.run(&["why"]).exits(0).says("(cut-over): its requests wait").says("evenkeel unhold web");
    assert_eq!(load.look(|it| it.answers("v1")), before, "nobody has got past it");

    house.run(&["unhold", "web"]).exits(0).says("web is served again");
    load.until_more(100);
    house.run(&["unhold", "web"]).exits(0).says("web is not held");
    println!("{}", load.stop_unharmed());
    long.stop_unharmed();
    let journal = house.run(&["history", "--journal"]).exits(0);
    let told = ["web is held for 20s at most, by ", "web is served again, by "];
    assert!(told.iter().all(|told| journal.out.contains(told)), "{}", journal.out);
    house.bring_down();
}

#[test]
fn a_hold_ends_by_itself_also_while_control_is_dead() {
    let house = house();
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 100);
    // Shorter than the streams of the load.
    let said = house.run(&["hold", "web", "--for", "500ms"]).exits(1);
    said.says("ended before what was under way was answered");
    house.run(&["hold", "web", "--for", "4s", "--detach"]).exits(0);
    let former = house.kill("control");
    load.until_more(100);
    house.until_back("control", former);
    house.until("it is not held", |status| {
        service(status, "web").is_some_and(|it| it["hold"].is_null()).then_some(())
    });
    until("that is written down", || {
        let journal = house.run(&["history", "--journal"]);
        journal.out.contains("its hold has ended after 4s").then_some(())
    });
    load.until_more(100);
    println!("{}", load.stop_unharmed());

    house.run(&["hold", "web", "--for", "2m"]).exits(1).says("cannot be held for 2m");
    house.run(&["hold", "shop"]).exits(1).says("there is no service shop");
    house.run(&["hold", "web", "--for", "soon"]).exits(1).says("write 10s or 1m");
    house.bring_down();
}
