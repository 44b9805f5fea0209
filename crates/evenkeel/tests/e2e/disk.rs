//! A disk that fails: full, or with a bit in the journal that is not as it was written. Traffic
//! never notices.

use std::fs;
use std::io::Write as _;

use rustix::process::Signal;

use crate::house::House;
use crate::load::{ALL, Load};
use crate::machine::{runs, signal, skip, until};
use crate::programs::web;

const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";
const HALF: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"0s\"\n\
                    steps = [{ weight = \"50%\", bake = \"10m\" }]";
/// Enough for a ballast to be taken.
const DISK_MIB: u32 = 90;

#[test]
fn s24_on_a_full_disk_nothing_is_decided_and_traffic_goes_on() {
    let Some(house) = House::on_a_small_disk(DISK_MIB) else {
        return skip("releases on a full disk: unshare or tmpfs is not allowed here");
    };
    web(&house, "VERSION = \"v1\"", 2, HALF);
    house.up();
    let load = Load::start(house.listen, ALL);
    web(&house, "VERSION = \"v2\"", 2, HALF);
    let apply = house.start(&["apply"]);
    load.until_answered("v2", 20);
    let before = house.instances("web");

    // Nothing fits any more. What was held back for this moment is given up with the first
    // commit that fails; the second filling takes that as well.
    let ballast = house.file("state/ballast");
    assert!(ballast.exists(), "there is no ballast");
    fill(&house);
    house.run(&["promote", "--full"]);
    until("the ballast is given up", || (!ballast.exists()).then_some(()));
    fill(&house);
    load.until_more(200);
    let processes = house.processes();
    assert!(before.values().all(|pid| processes.contains_key(pid)), "{processes:#?}");

    // With room it goes on where it was.
    free(&house);
    house.until("control is back", |status| status["epoch"].as_u64());
    if house.status()["release"]["promoted"] == false {
        house.run(&["promote", "--full"]).exits(0);
    }
    apply.wait().exits(0);
    load.until_answered("v2", 200);
    house.until_settled();
    load.stop_unharmed();
}

/// Fills the disk to the last byte.
fn fill(house: &House) {
    let file = fs::File::options().create(true).append(true).open(house.file("filler"));
    let mut file = file.unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        let full = file.write_all(&vec![0; size]).is_err();
        size = if full { size / 2 } else { size };
    }
}

fn free(house: &House) {
    fs::remove_file(house.file("filler")).unwrap();
}

#[test]
fn s26_a_changed_bit_in_the_journal_is_found_and_harms_no_request() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, QUICK);
    house.up();
    house.until_settled();
    let load = Load::start(house.listen, ALL);
    let before = house.instances("web");
    // A control that starts writes everything into the one file.
    let first = house.kill("control");
    house.until_back("control", first);
    house.status();

    let keeper = house.pid("keeper").unwrap();
    signal(keeper, Signal::STOP);
    house.kill("control");
    let journal = house.file("state/state.db");
    let whole = fs::read(&journal).unwrap();
    let word = b"release #1 started";
    let place = whole.windows(word.len()).position(|part| part == word).unwrap();
    let mut changed = whole.clone();
    changed[place] ^= 1;
    fs::write(&journal, &changed).unwrap();
    signal(keeper, Signal::CONT);

    until("control says why it does not start", || {
        let log = fs::read_to_string(house.file("logs/control.log")).unwrap();
        (log.matches("journal").count() > 1).then_some(())
    });
    house.run(&["status"]).exits(1);
    let said = house.run(&["doctor"]).exits(1);
    assert!(said.out.contains("the journal"), "{}", said.out);
    println!("{}", said.out);
    println!("{}", house.logs());
    load.until_more(200);
    load.stop_unharmed();

    signal(keeper, Signal::STOP);
    fs::write(&journal, &whole).unwrap();
    signal(keeper, Signal::CONT);
    house.until("control is back", |status| status["epoch"].as_u64());
    house.until_settled();
    assert_eq!(house.instances("web"), before);
}

#[test]
fn s27_a_lost_state_closes_no_door_and_stops_nothing() {
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 2, QUICK);
    house.up();
    let load = Load::start(house.listen, ALL);
    let shims: Vec<u32> =
        house.instances("web").keys().filter_map(|instance| house.shim(instance)).collect();
    assert_eq!(shims.len(), 2);

    let keeper = house.pid("keeper").unwrap();
    signal(keeper, Signal::STOP);
    house.kill("control");
    let kept = house.file("kept");
    fs::rename(house.file("state"), &kept).unwrap();
    signal(keeper, Signal::CONT);
    until("control says why it does not start", || {
        let log = fs::read_to_string(house.file("logs/control.log")).unwrap();
        (log.matches("the state is gone").count() > 2).then_some(())
    });
    load.until_more(200);
    load.stop_unharmed();
    assert!(shims.iter().all(|shim| runs(*shim)));

    signal(keeper, Signal::STOP);
    fs::remove_dir_all(house.file("state")).unwrap();
    fs::rename(&kept, house.file("state")).unwrap();
    signal(keeper, Signal::CONT);
    house.until("control is back", |status| status["epoch"].as_u64());
    house.until_settled();
}
