//! Failure scenarios of `docs/scenarios.md` that are played by real processes, each by its number.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::house::{House, instances, pool};
use crate::load::{ALL, Load, REPEATABLE};
use crate::machine::{kill, runs, signal, until};
use crate::programs::{node, web};

const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";
/// A canary that stays at half of the traffic until somebody moves it.
const HALF: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\n\
                    bake = \"0s\"\nprogress_deadline = \"4s\"\n\
                    steps = [{ weight = \"50%\", bake = \"10m\" }]";
/// Longer than the progress deadline of `HALF`, and than any time between two looks.
const ASLEEP: Duration = Duration::from_secs(8);

/// A house in which v1 serves half of the traffic, and v2 the other; and the command that waits.
fn halfway(env: &str) -> (House, crate::house::Running) {
    let house = House::new();
    web(&house, &format!("VERSION = \"v1\"{env}"), 2, HALF);
    house.up();
    house.until_settled();
    web(&house, &format!("VERSION = \"v2\"{env}"), 2, HALF);
    let apply = house.start(&["apply", "--yes"]);
    house.until_weight("web", "r2", 50.0);
    (house, apply)
}

/// Moves all traffic, and sees the release end well.
#[track_caller]
fn finish(house: &House, apply: crate::house::Running) {
    house.run(&["promote", "--full"]).exits(0);
    apply.wait().exits(0);
    house.until_settled();
}

#[test]
fn s03_a_second_control_is_turned_away_and_one_that_was_stopped_goes_on() {
    let (house, apply) = halfway("");
    let load = Load::start(house.listen, ALL);
    let before = house.instances("web");
    let control = house.pid("control").unwrap();
    signal(control, Signal::STOP);
    house.run(&["role", "control"]).exits(1).says("control runs already for");
    load.until_more(200);
    // Time is what this is about: nobody watches for longer than anything may stand still.
    thread::sleep(ASLEEP);
    signal(control, Signal::CONT);
    house.until("it is back, and has not lost its place", |status| {
        assert_eq!(status["release"]["phase"], "shifting", "{status}");
        status["release"]["paused"].is_null().then_some(())
    });
    thread::sleep(Duration::from_secs(1));
    assert_eq!(house.status()["release"]["phase"], "shifting");
    assert_eq!((house.pid("control"), house.instances("web")), (Some(control), before));
    finish(&house, apply);
    load.stop_unharmed();
}

#[test]
fn s05_what_operators_do_in_the_middle_of_a_release_is_put_right() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, HALF);
    house.up();
    house.until_settled();
    let table = house.file("edge/table.json");
    let old = fs::read(&table).unwrap();
    web(&house, "VERSION = \"v2\"", 2, HALF);
    let apply = house.start(&["apply", "--yes"]);
    house.until_weight("web", "r2", 50.0);
    let load = Load::start(house.listen, REPEATABLE);
    load.until_answered("v2", 20);

    // One instance is killed; of another everything is removed.
    let pids = house.instances("web");
    let (killed, pid) = pids.iter().find(|(id, _)| id.starts_with("web.r2.")).unwrap();
    kill(*pid);
    house.until("the killed one is back", |status| {
        let now = *instances(status, "web").get(killed)?;
        (now != *pid && runs(now)).then_some(())
    });
    let (removed, pid) = pids.iter().find(|(id, _)| id.starts_with("web.r1.")).unwrap();
    let shim = house.shim(removed).unwrap();
    signal(shim, Signal::KILL);
    kill(*pid);
    fs::remove_dir_all(house.file(&format!("instances/{removed}"))).unwrap();
    house.until("the removed one is back", |status| {
        let now = *instances(status, "web").get(removed)?;
        (now != *pid && runs(now)).then_some(())
    });
    load.until_more(50);
    load.stop_unharmed();

    // The edge is made to serve the table of before; control hands it the newest again.
    fs::write(&table, &old).unwrap();
    let edge = house.kill("edge");
    house.until_back("edge", edge);
    let load = Load::start(house.listen, REPEATABLE);
    load.until_answered("v2", 20);
    assert_eq!(house.status()["release"]["phase"], "shifting");
    finish(&house, apply);
    load.stop_unharmed();
}

#[test]
fn s07_one_of_eight_that_runs_the_old_version_keeps_everything_old_in_place() {
    let house = House::new();
    house.write("worker.js", include_str!("programs/worker.js"));
    let stack = |version: &str, one: &str| {
        house.stack(&format!(
            "[service.worker]\nrun = [\"sh\", \"-c\", \"[ $EVENKEEL_INSTANCE != {one} ] || VERSION=v1; \
             export VERSION; exec node worker.js\"]\n\
             env = {{ VERSION = \"{version}\" }}\nreplicas = 8\n\
             [service.worker.rollout]\nstrategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"1s\"\n\
             [service.worker.rollout.check.version]\nhttp = \"/state\"\njson = \"/version\"\n\
             equals = \"{version}\"\nwhen = \"before\"\nevery = \"1s\"\n"
        ));
    };
    stack("v1", "nobody");
    house.up();
    house.until_settled();
    let before = house.instances("worker");
    assert_eq!(before.len(), 8);
    stack("v2", "worker.r2.8");
    house.apply().exits(3).says("check version failed: it is v1 at 127.0.0.1:");
    house.until_settled();
    assert_eq!(house.instances("worker"), before);
    stack("v2", "worker.r3.9");
    house.run(&["apply", "--yes", "--wait", "complete"]).exits(0);
    assert!(house.instances("worker").keys().all(|id| id.starts_with("worker.r3.")));
}

#[test]
fn s08_a_configuration_that_the_program_cannot_bear_ends_at_one_percent() {
    let house = House::new();
    let service = node(&house, "");
    let canary = "strategy = \"canary\"\nmin_ready = \"0s\"\nbake = \"2s\"\n\
        analysis = { min_requests = 100 }\n\
        steps = [{ weight = \"1%\", bake = \"30s\" }, { weight = \"50%\", bake = \"30s\" }]";
    house.write("version", "v1");
    house.stack(&format!(
        "[service.web]\n{service}\nreplicas = 4\nconfig = [\"version\"]\n\
         [service.web.rollout]\n{canary}\n[route.web]\nto = \"web\"\n"
    ));
    house.up();
    house.until_settled();
    let before = house.instances("web");
    let load = Load::start(house.listen, REPEATABLE);
    load.until_answered("v1", 50);
    // Nothing but a file of configuration changes.
    house.write("version", "panics");
    let said = house.apply().exits(3).says("shifting web to r2: step 1 of 3");
    assert!(!said.out.contains("step 2 of 3"), "{}", said.out);
    println!("{}", said.out.trim());
    house.until_settled();
    let hurt = load.look(|report| report.failures.len());
    load.until_more(50);
    let report = load.stop();
    println!("{report}");
    // A request ends a canary, and the other one when it is asked again: then somebody is hurt.
    assert!(hurt <= 4 && report.failures.len() == hurt, "{report}");
    assert!(report.failures.iter().all(|it| it.cause.starts_with("502")), "{report}");
    assert_eq!(report.by.keys().collect::<Vec<_>>(), ["v1"]);
    assert_eq!(house.instances("web"), before);
    assert_eq!(house.last_release()["outcome"], "rolled_back");
}

#[test]
fn s10_checks_that_fail_everywhere_at_once_stop_nobody_and_hold_the_release() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    let (house, apply) = halfway(&format!(", SICK_WHILE = \"{}\"", broken.display()));
    let load = Load::start(house.listen, ALL);
    load.until_answered("v2", 20);
    let before = house.instances("web");
    fs::write(&broken, "").unwrap();
    let reason = house.until("the release is held", |status| {
        status["release"]["paused_because"].as_str().map(str::to_owned).or_else(|| {
            (!status["release"]["paused"].is_null())
                .then(|| status["release"]["paused"].to_string())
        })
    });
    println!("held: {reason}");
    house.run(&["why"]).exits(0).says("fail their health checks, the old as the new");
    load.until_more(300);
    assert_eq!(house.instances("web"), before);
    fs::remove_file(&broken).unwrap();
    house.until("they are well again", |status| {
        let both = ["r1", "r2"].map(|it| pool(status, "web", it).map(|it| it["ready"].clone()));
        (both[0].is_some() && status["services"][0]["ready"].as_u64() >= Some(2)).then_some(())
    });
    house.run(&["resume"]).exits(0);
    finish(&house, apply);
    load.stop_unharmed();
}

#[test]
fn s15_a_way_back_to_a_program_that_is_gone_is_refused_before_anything_moves() {
    let house = House::new();
    let release = |version: &str| {
        node(&house, "");
        house.write("run.sh", &format!("#!/bin/sh\n# {version}\nexec node server.js\n"));
        let program = house.folder().join("run.sh");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        house.stack(&format!(
            "[service.web]\nrun = [\"./run.sh\"]\nenv = {{ VERSION = \"{version}\" }}\n\
             health = \"/healthz\"\n[service.web.rollout]\n{QUICK}\n[route.web]\nto = \"web\"\n"
        ));
        house.run(&["up", "--yes", "--wait", "complete"]).exits(0);
    };
    release("v1");
    release("v2");
    house.until_settled();
    let load = Load::start(house.listen, ALL);
    load.until_answered("v2", 20);
    // The copy is there for as long as the revision is, whatever lies where it came from.
    house.run(&["rollback"]).exits(0);
    load.until_answered("v1", 20);
    house.until_settled();
    house.run(&["rollback", "web", "r2"]).exits(0);
    house.until_settled();
    // Somebody tidies up.
    for entry in fs::read_dir(house.file("artifacts")).unwrap().flatten() {
        let copy = entry.path().join("run.sh");
        if fs::read_to_string(&copy).is_ok_and(|text| text.contains("# v1")) {
            fs::remove_file(copy).unwrap();
        }
    }
    let before = house.instances("web");
    let said = house.run(&["rollback", "web", "r1"]).exits(1);
    said.says("web could not be started as it was").says("run.sh is not what this revision");
    assert!(house.status()["release"].is_null());
    assert_eq!(house.instances("web"), before);
    load.until_more(50);
    load.stop_unharmed();
    until("nothing came of it", || (house.last_release()["id"] == 4).then_some(()));
}
