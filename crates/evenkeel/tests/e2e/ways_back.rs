//! Ways back: by a person at any moment, or by itself when the new revision is bad.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::House;
use crate::load::{ALL, FILES, Kind, Load, REPEATABLE};
use crate::programs::web;

/// A canary that stays at half of the traffic until somebody moves it.
const HALF: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"60s\"\n\
                    steps = [{ weight = \"50%\", bake = \"10m\" }]";
/// A switch that can be taken back for a minute.
const SWITCH: &str = "strategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"60s\"";
/// A canary whose failures are found soon.
const WARY: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nstart_deadline = \"2s\"\nbake = \"5s\"\n\
                    steps = [{ weight = \"20%\", bake = \"5s\" }]";
const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";
/// The promise: from the command to the last answer of the revision that was taken back.
const INSTANT: Duration = Duration::from_secs(2);

/// A house in which v1 serves.
fn house(rollout: &str) -> House {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, rollout);
    house.up();
    house.until_settled();
    house
}

#[test]
fn s14_s32_an_abort_at_any_phase_loses_no_request() {
    let house = house(HALF);
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 20);

    web(&house, "VERSION = \"v2\", HEALTH = \"never\"", 2, HALF);
    let apply = house.start(&["apply"]);
    house.until_phase("expanding");
    house.run(&["abort"]).exits(0);
    apply.wait().exits(3).says("aborted");
    house.until_settled();

    for version in ["v3", "v4"] {
        web(&house, &format!("VERSION = \"{version}\""), 2, HALF);
        let apply = house.start(&["apply"]);
        load.until_answered(version, 50);
        if version == "v4" {
            house.run(&["pause"]).exits(0);
            assert_eq!(house.status()["release"]["paused"], Value::from(whoami(&house)));
        }
        house.run(&["abort"]).exits(0);
        apply.wait().exits(3).says("aborted");
        house.until_settled();
    }

    // In the middle of replacing four instances one by one.
    house.run(&["scale", "web=4"]).exits(0);
    let slow = "min_ready = \"1s\"\nbake = \"60s\"\nmax_surge = 1";
    web(&house, "VERSION = \"v5\"", 4, slow);
    let apply = house.start(&["apply"]);
    house.until_weight("web", "r5", 50.0);
    house.run(&["abort"]).exits(0);
    apply.wait().exits(3).says("aborted");

    // Promoted is promoted: an abort says what to do instead.
    web(&house, "VERSION = \"v6\"", 4, SWITCH);
    house.apply().exits(0);
    house.run(&["abort"]).exits(1).says("evenkeel rollback");
    let report = load.stop_unharmed();
    assert_eq!(report.answers("v2"), 0);
}

fn whoami(house: &House) -> String {
    house.last_release()["by"].as_str().unwrap().to_owned()
}

#[test]
fn d15_a_rollback_while_the_old_is_warm_is_instant() {
    let house = house(SWITCH);
    let kinds = [Kind::KeepAlive, Kind::KeepAlive, Kind::Fresh, Kind::Post, Kind::Put];
    let load = Load::start(house.listen, &kinds);
    web(&house, "VERSION = \"v2\"", 2, SWITCH);
    house.apply().exits(0).says("stays warm").says("`evenkeel rollback` is instant until then");
    load.until_answered("v2", 100);
    let commanded = Instant::now();
    house.run(&["rollback"]).exits(0);
    load.until_more(100);
    let report = load.stop_unharmed();
    let (_, last) = report.by["v2"];
    let took = last.saturating_duration_since(commanded);
    println!("from the command to the last answer of what was taken back: {took:?}");
    assert!(took < INSTANT, "{took:?}");
    assert_eq!(house.last_release()["outcome"], "fast_rolled_back");
}

#[test]
fn a_rollback_after_contract_is_a_release_of_its_own() {
    let house = house(QUICK);
    let load = Load::start(house.listen, ALL);
    for version in ["v2", "v3"] {
        web(&house, &format!("VERSION = \"{version}\""), 2, QUICK);
        house.run(&["apply", "--wait", "complete"]).exits(0);
    }
    load.until_answered("v3", 20);
    let answered = load.look(|it| it.answers("v2"));
    house.run(&["rollback"]).exits(0);
    load.until_answered("v2", answered + 20);
    house.until_settled();
    house.run(&["rollback", "web", "r1"]).exits(0);
    let answered = load.look(|it| it.answers("v1"));
    load.until_answered("v1", answered + 20);
    load.stop_unharmed();
    house.run(&["rollback", "web", "r9"]).exits(1);
}

#[test]
fn s06_a_revision_that_never_gets_healthy_or_keeps_ending_reaches_nobody() {
    let house = house(WARY);
    let load = Load::start(house.listen, ALL);
    for bad in ["HEALTH = \"never\"", "CRASH = \"start\""] {
        web(&house, &format!("VERSION = \"bad\", {bad}"), 2, WARY);
        house.apply().exits(3).says("rolled_back");
        house.until_settled();
    }
    load.until_more(50);
    let report = load.stop_unharmed();
    assert_eq!(report.answers("bad"), 0);
}

#[test]
fn s06_a_revision_that_ends_under_load_is_taken_back_without_a_failed_request() {
    let house = house(WARY);
    let load = Load::start(house.listen, REPEATABLE);
    web(&house, "VERSION = \"bad\", CRASH = \"later\"", 2, WARY);
    house.apply().exits(3).says("rolled_back");
    house.until_settled();
    let report = load.stop_unharmed();
    assert!(report.answers("bad") > 0);
}

#[test]
fn s06_a_revision_that_answers_errors_is_taken_back_held_back_and_forced() {
    let house = house(WARY);
    let load = Load::start(house.listen, FILES);
    load.until_answered("v1", 50);
    let bad = || web(&house, "VERSION = \"bad\", FAIL = \"all\"", 2, WARY);
    bad();
    house.apply().exits(3).says("ten requests in a row failed");
    house.until_settled();
    load.until_more(50);
    let report = load.stop();
    let broken = |it: &&crate::load::Failure| it.cause.starts_with("500: \"broken\"");
    let harmed = report.failures.iter().filter(broken).count();
    assert_eq!(harmed, report.failures.len(), "others failed too: {report}");
    // What clients saw is what the ledger says, and no more than the exposure allows: a fifth of
    // 125 requests a second, until ten in a row have failed on one instance.
    let ledger = house.last_release()["ledger"]["pools"].clone();
    let account = ledger.as_array().unwrap().iter().find(|it| it["revision"] == "r2").unwrap();
    assert_eq!(account["failed"], harmed, "{ledger}");
    println!("{harmed} requests were answered by the bad revision");
    assert!((10..=40).contains(&harmed), "{report}");

    house.run(&["plan"]).exits(2).says("refused without --force").says("was taken back before");
    house.apply().exits(1).says("was taken back before").says("--force");
    web(&house, "VERSION = \"v1\"", 2, WARY);
    house.apply().exits(0).says("nothing changes");
    bad();
    let load = Load::start(house.listen, FILES);
    house.run(&["apply", "--force"]).exits(3);
    drop(load);
}

#[test]
fn s31_d16_a_newer_release_supersedes_the_one_under_way() {
    let house = house(HALF);
    let load = Load::start(house.listen, ALL);
    web(&house, "VERSION = \"v2\"", 2, HALF);
    let first = house.start(&["apply"]);
    load.until_answered("v2", 50);
    web(&house, "VERSION = \"v3\"", 2, SWITCH);
    house.run(&["plan"]).exits(2).says("superseded");
    house.apply().exits(0);
    first.wait().exits(3).says("superseded");
    load.until_answered("v3", 50);

    // A change during the bake contracts what is promoted first, and the plan says so.
    web(&house, "VERSION = \"v4\"", 2, HALF);
    house.run(&["plan"]).exits(2).says("contracted first");
    let fourth = house.start(&["apply"]);
    load.until_answered("v4", 50);
    let revisions: Vec<String> = house.instances("web").into_keys().collect();
    assert!(!revisions.iter().any(|id| id.starts_with("web.r1.")), "{revisions:?}");
    house.run(&["promote", "--full"]).exits(0);
    fourth.wait().exits(0);
    house.run(&["promote"]).exits(0);
    house.until_settled();
    load.stop_unharmed();
}
