//! Control over releases: when nothing is released, and whose word a step waits for. The freeze is
//! one that is on now, by the real clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::house::{House, Said};
use crate::load::{ALL, Load};
use crate::programs::node;

/// One gated step, judged by nothing but its time.
const GATED: &str =
    "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"0s\"";

/// A stack of one service in a version, whose one step has this gate, with more below it.
fn stack(house: &House, version: &str, gate: &str, more: &str) {
    let service = node(house, &format!("VERSION = \"{version}\""));
    house.stack(&format!(
        "[service.web]\n{service}\nreplicas = 2\n[service.web.rollout]\n{GATED}\n\
         steps = [{{ weight = \"50%\", bake = \"200ms\", gate = {gate} }}]\n\
         [route.web]\nto = \"web\"\n{more}"
    ));
}

/// A freeze in UTC from an hour ago until in two hours, and when it ends.
fn freeze_now(keys: &str) -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let moment = |at: Duration| {
        // Another program than the one under test says what day that is.
        let output = std::process::Command::new("date")
            .args(["-u", "-d", &format!("@{}", at.as_secs()), "+%Y-%m-%d %H:%M"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let hour = Duration::from_secs(3600);
    let (from, to) = (moment(now - hour), moment(now + 2 * hour));
    let text =
        format!("[freeze.sale]\nfrom = \"{from}\"\nto = \"{to}\"\nreason = \"the sale\"\n{keys}\n");
    (text, to)
}

fn until_gate(house: &House) {
    house.until("it waits at its gate", |status| {
        status["release"]["waits_at_gate"].as_bool().filter(|waits| *waits)
    });
}

#[test]
fn a_freeze_lets_only_a_hotfix_and_the_way_back_pass() {
    let house = House::new();
    stack(&house, "v1", "false", "");
    house.up();
    house.until_settled();
    let load = Load::start(house.listen, ALL);
    stack(&house, "v2", "false", "");
    house.run(&["apply", "--yes", "--wait", "complete"]).exits(0);

    // A freeze alone changes nothing that serves, and may come in while it is on.
    let (freeze, ends) = freeze_now("");
    stack(&house, "v2", "false", &freeze);
    house.run(&["plan"]).exits(2).says("create freeze.sale");
    house.apply().exits(0);
    house.until_settled();

    stack(&house, "v3", "false", &freeze);
    let told = |said: Said| said.says(&ends).says("the sale").says("--hotfix REASON");
    told(house.run(&["plan"])).exits(2).says("refused without --hotfix");
    told(house.apply()).exits(1);
    told(house.run(&["status"])).exits(0);
    told(house.run(&["why"])).exits(0).says("changes may be released again");
    // It does not lift itself.
    stack(&house, "v3", "false", "");
    told(house.apply()).exits(1);
    house.run(&["restart", "web"]).exits(1).says("the sale");

    house.run(&["rollback"]).exits(1).says("replaced no revision").says("rollback web");
    house.run(&["rollback", "web", "--reason", "it is slow"]).exits(0);
    load.until_answered("v1", 20);
    house.until_settled();
    house.run(&["history", "--journal"]).exits(0).says("says: it is slow");
    house.run(&["rollback"]).exits(1).says("from r1 to r2").says("rollback web r2");

    stack(&house, "v4", "false", &freeze);
    house.run(&["apply", "--yes", "--hotfix", "the till is closed"]).exits(0);
    load.until_answered("v4", 20);
    load.stop_unharmed();
}

#[test]
fn a_gate_opens_for_those_it_names_or_loudly() {
    let house = House::new();
    stack(&house, "v1", "false", "");
    house.up();
    house.until_settled();
    let me = house.last_release()["by"].as_str().unwrap().to_owned();
    let load = Load::start(house.listen, ALL);

    stack(&house, "v2", "{ approvers = [\"no-one-here\"] }", "");
    house.run(&["plan"]).exits(2).says("until it is approved by no-one-here");
    let release = house.start(&["apply", "--yes"]);
    until_gate(&house);
    house.run(&["status"]).exits(0).says("waits at its gate for no-one-here");
    house.run(&["approve"]).exits(1).says(&format!("{me} may not")).says("no-one-here may");
    house.run(&["promote", "--full"]).exits(1).says("has a gate");
    house.run(&["approve", "--force", "all approvers are ill"]).exits(0).says("FORCED");
    release.wait().exits(0);
    house.until_settled();
    house.run(&["history", "--journal"]).exits(0).says(&format!("FORCED by {me}"));

    stack(&house, "v3", &format!("{{ approvers = [\"{me}\"], own = false }}"), "");
    let release = house.start(&["apply", "--yes"]);
    until_gate(&house);
    house.run(&["approve"]).exits(1).says("somebody else must");
    house.run(&["abort", "--reason", "nobody else is there"]).exits(0);
    release.wait().exits(3).says("nobody else is there");
    house.until_settled();

    stack(&house, "v4", &format!("{{ approvers = [\"{me}\"] }}"), "");
    let release = house.start(&["apply", "--yes", "--wait", "complete"]);
    until_gate(&house);
    house.run(&["approve"]).exits(0).says(&format!("approved by {me}"));
    release.wait().exits(0);
    let last = house.last_release();
    assert_eq!(last["approvals"][0]["by"], me.as_str());
    assert_eq!(last["approvals"][0]["step"], 1);
    let id = last["id"].to_string();
    house.run(&["explain", &id]).exits(0).says("approved by");
    load.stop_unharmed();
}

#[test]
fn a_plan_writes_nothing_and_tells_what_is_missing_or_unknown() {
    let house = House::new();
    house.write("web", "#!/bin/sh\n");
    std::process::Command::new("chmod")
        .args(["+x", "web"])
        .current_dir(house.folder())
        .status()
        .unwrap();
    house.write("key", "hunter2");
    let service = "[service.web]\nrun = [\"./web\", \"worker.py\"]\nconfig = [\"web\"]\n\
                   secrets = { KEY = \"file:key\" }\n";
    house.stack(service);
    house.run(&["plan"]).exits(2).says("hazard missing-file").says("worker.py");
    assert!(!house.file("").exists(), "plan made a home");
    house.write("worker.py", "");
    let said = house.run(&["plan"]).exits(2);
    assert!(!said.out.contains("missing-file"), "{}", said.out);

    house.stack(&format!(
        "{service}[freeze.night]\nfrom = \"Fri 16:00\"\nto = \"Mon 08:00\"\nzone = \"Europe/Berlinn\"\n"
    ));
    house.run(&["plan"]).exits(1).says("there is no time zone Europe/Berlinn").says(".toml:11:9");
    // Nothing was started.
    house.run(&["logs", "--times"]).exits(1);
}
