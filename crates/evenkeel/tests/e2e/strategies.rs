//! Each way in which a new revision takes over, under load, with each program: no request fails.

use crate::house::House;
use crate::http::Client;
use crate::load::{ALL, Load, page_of};
use crate::programs::{Program, web};

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
fn d01_node_that_ends_at_once_when_told_is_replaced_without_a_failed_request() {
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

#[test]
fn a_gate_waits_for_a_person_and_a_lock_lets_only_a_hotfix_pass() {
    let house = House::new();
    let gated = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"0s\"\n\
                 steps = [{ weight = \"50%\", bake = \"200ms\", gate = true }]";
    web(&house, "VERSION = \"v1\"", 2, gated);
    house.up();
    house.until_settled();
    let load = Load::start(house.listen, ALL);
    house.run(&["approve"]).exits(1).says("no release under way");
    web(&house, "VERSION = \"v2\"", 2, gated);
    let release = house.start(&["apply", "--yes"]);
    house.until("it waits at its gate", |status| {
        status["release"]["waits_at_gate"].as_bool().filter(|waits| *waits)
    });
    house.run(&["why"]).exits(0).says("somebody approves").says("evenkeel approve");
    house.run(&["approve"]).exits(0).says("approved by");
    release.wait().exits(0).says("passed step 1");
    house.until_settled();

    house.run(&["lock", "the sale is on"]).exits(0);
    web(&house, "VERSION = \"v3\"", 2, gated);
    house.run(&["plan"]).exits(2).says("refused without --hotfix").says("the sale is on");
    house.apply().exits(1).says("the sale is on").says("evenkeel unlock");
    let fix = house.start(&["apply", "--yes", "--detach", "--hotfix", "the till is closed"]);
    fix.wait().exits(0).says("is started");
    house.run(&["status"]).exits(0).says("HOTFIX: the till is closed");
    house.until_weight("web", "r3", 10.0);
    house.run(&["promote", "--full"]).exits(0);
    house.until_settled();
    let journal = house.run(&["history", "--journal"]).exits(0);
    assert!(journal.out.contains("is a HOTFIX by"), "{}", journal.out);
    house.run(&["unlock"]).exits(0);
    load.stop_unharmed();
}
