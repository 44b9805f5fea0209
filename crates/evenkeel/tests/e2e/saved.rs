//! The saved state is of another version, or gone, in the middle of a release (S27 and S28).

use std::fs;

use evenkeel_journal::{Journal, Row, Store as _};
use rustix::process::Signal;

use crate::house::{House, Running};
use crate::load::{ALL, Load};
use crate::machine::{runs, signal, until};
use crate::programs::web;

const HALF: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\n\
                    bake = \"0s\"\nsteps = [{ weight = \"50%\", bake = \"10m\" }]";
/// The format that control writes, and those around it.
const FORMAT: u32 = 4;

fn halfway() -> (House, Running) {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, HALF);
    house.up();
    house.until_settled();
    web(&house, "VERSION = \"v2\"", 2, HALF);
    let apply = house.start(&["apply", "--yes"]);
    house.until_weight("web", "r2", 50.0);
    (house, apply)
}

/// Does something to the state while no control is there.
fn without_control(house: &House, so: impl FnOnce()) {
    let keeper = house.pid("keeper").unwrap();
    signal(keeper, Signal::STOP);
    house.kill("control");
    so();
    signal(keeper, Signal::CONT);
}

/// Saves the same state as another version would have.
fn save_as(house: &House, format: u32) {
    // A process that was killed holds its lock for a moment more.
    let open = || Journal::open(&house.file("state"), 99).ok();
    let mut journal = until("the journal is free", open);
    let epoch = journal.claim().unwrap();
    let found = journal.load().unwrap().unwrap();
    let row = Row {
        release: None,
        at: 1,
        actor: "test".to_owned(),
        kind: "control.replaced".to_owned(),
        body: format!("{{\"text\":\"saved as format {format}\"}}"),
    };
    journal.commit(found.version, epoch, &[row], format, &found.body).unwrap();
}

fn until_logged(house: &House, words: &str) {
    until("control says why it does not start", || {
        let log = fs::read_to_string(house.file("logs/control.log")).unwrap();
        log.contains(words).then_some(())
    });
}

#[test]
fn s28_a_release_goes_on_under_a_newer_control_and_not_under_an_older() {
    let (house, apply) = halfway();
    let load = Load::start(house.listen, ALL);
    let before = house.instances("web");
    // This control is a newer one than the one that saved.
    without_control(&house, || save_as(&house, FORMAT - 1));
    house.until("it goes on at the same place", |status| {
        (status["release"]["phase"] == "shifting").then_some(())
    });
    assert_eq!(house.instances("web"), before);
    // This control is an older one than the one that saved.
    without_control(&house, || save_as(&house, FORMAT + 1));
    let words = format!("it has format {}, and this program reads formats up to", FORMAT + 1);
    until_logged(&house, &words);
    house.run(&["status"]).exits(1);
    load.until_more(200);
    let keeper = house.pid("keeper").unwrap();
    signal(keeper, Signal::STOP);
    until("no control tries", || house.pid("control").is_none().then_some(()));
    save_as(&house, FORMAT);
    signal(keeper, Signal::CONT);
    house.until("the right one goes on", |status| {
        (status["release"]["phase"] == "shifting").then_some(())
    });
    assert_eq!(house.instances("web"), before);
    house.run(&["promote", "--full"]).exits(0);
    apply.wait().exits(0);
    house.until_settled();
    load.stop_unharmed();
}

#[test]
fn s27_a_state_that_is_lost_in_the_middle_of_a_release_harms_nothing_and_is_restored() {
    let (house, apply) = halfway();
    let load = Load::start(house.listen, ALL);
    let before = house.instances("web");
    without_control(&house, || {
        for file in ["state.db", "state.db-wal"] {
            let _may_be_merged = fs::remove_file(house.file("state").join(file));
        }
    });
    until_logged(&house, "the state is gone");
    load.until_answered("v1", 50);
    load.until_answered("v2", 50);
    assert!(before.values().all(|pid| runs(*pid)));
    assert_ne!(apply.wait().code, 0);

    // The backup is of the moment before the release began: it begins again, whatever is there.
    house.run(&["down", "--keep-instances"]).exits(0);
    house.run(&["restore"]).exits(0).says("restored");
    web(&house, "VERSION = \"v3\"", 2, HALF);
    let load_ended = load.stop();
    let apply = house.start(&["up", "--yes"]);
    // The second revision was in the state that was lost; its instances still run.
    house.until_weight("web", "r3", 50.0);
    let load = Load::start(house.listen, ALL);
    load.until_answered("v3", 50);
    house.run(&["promote", "--full"]).exits(0);
    apply.wait().exits(0);
    house.until_settled();
    let report = load.stop_unharmed();
    assert_eq!(report.answers("v2"), 0, "an instance of the lost release was taken for another");
    println!("{load_ended}");
}
