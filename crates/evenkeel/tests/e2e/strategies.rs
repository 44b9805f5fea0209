//! Each way in which a new revision takes over, under load, with each program: no request fails.

use crate::house::House;
use crate::http::Client;
use crate::load::{Load, page_of};
use crate::programs::Program;

const ROLLING: &str = "min_ready = \"100ms\"\nbake = \"500ms\"";
const BLUE_GREEN: &str =
    "strategy = \"blue-green\"\npreview = \"next.test\"\nmin_ready = \"100ms\"\nbake = \"500ms\"";
const CANARY: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"100ms\"\nbake = \"500ms\"\n\
                      steps = [{ weight = \"20%\", bake = \"300ms\" }, \
                      { weight = \"50%\", bake = \"300ms\" }]";

/// Releases three versions one after the other, each in another way.
fn releases(program: Program) {
    if !program.is_here() {
        return;
    }
    let house = House::new();
    program.stack(&house, "v1", 2, ROLLING);
    house.up();
    let load = Load::start(house.listen, program.load());
    load.until_answered("v1", 20);
    for (version, rollout) in [("v2", ROLLING), ("v3", BLUE_GREEN), ("v4", CANARY)] {
        program.stack(&house, version, 2, rollout);
        house.run(&["apply", "--yes", "--wait", "complete"]).exits(0);
        load.until_answered(version, 20);
    }
    house.run(&["restart"]).exits(0);
    house.run(&["rollback", "--detach"]).exits(0);
    house.until_settled();
    let report = load.stop_unharmed();
    println!("{program:?}: {report}");
    house.until_settled();
    for instance in ["r1", "r2", "r3"] {
        let still = house.instances("web").keys().any(|id| id.contains(&format!(".{instance}.")));
        assert!(!still, "{instance} is still there");
    }
}

#[test]
fn python_is_replaced_without_a_failed_request() {
    releases(Program::Python);
}

#[test]
fn node_is_replaced_without_a_failed_request() {
    releases(Program::Node);
}

#[test]
fn nginx_is_replaced_without_a_failed_request() {
    releases(Program::Nginx);
}

#[test]
fn caddy_is_replaced_without_a_failed_request() {
    releases(Program::Caddy);
}

#[test]
fn a_preview_shows_the_new_revision_before_anyone_else_sees_it() {
    let house = House::new();
    Program::Python.stack(&house, "v1", 1, BLUE_GREEN);
    house.up();
    // A second one that takes two seconds to be ready leaves time to look.
    let slow = BLUE_GREEN.replace("100ms", "2s");
    Program::Python.stack(&house, "v2", 1, &slow);
    let load = Load::start(house.listen, Program::Python.load());
    let apply = house.start(&["apply", "--yes"]);
    let preview = || Client::new(house.listen).host("next.test").get("/page");
    let seen = crate::machine::until("the preview answers", || {
        preview().ok().map(|answer| answer.text()).filter(|text| *text == page_of("v2"))
    });
    let public = load.look(|report| report.answers("v2"));
    assert_eq!((seen, public), (page_of("v2"), 0));
    apply.wait().exits(0);
    load.until_answered("v2", 10);
    load.stop_unharmed();
}
