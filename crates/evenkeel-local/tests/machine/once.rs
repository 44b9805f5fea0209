//! What runs once: a job, however it ends and whoever dies meanwhile.

use std::fs;
use std::sync::Arc;

use evenkeel_kernel::want::{Pool, Slot};
use evenkeel_kernel::world::{Instance, InstancePhase};

use crate::house::{House, free_port, kill, runs, until};

/// A pool whose only instance runs a line of shell once, after a line in `starts`.
fn job(house: &House, line: &str) -> Pool {
    let mut pool = house.shell(&format!("echo started >> starts; {line}"));
    Arc::make_mut(&mut pool.workload).once = true;
    pool
}

fn starts(house: &House) -> usize {
    fs::read_to_string(house.work("starts")).unwrap_or_default().lines().count()
}

fn until_ended(house: &House, well: bool) -> Instance {
    house.until_phase(InstancePhase::Ended { well })
}

pub(crate) fn runs_once_and_says_how_it_ended() {
    for (line, well, how) in [("exit 0", true, "exit status 0"), ("exit 3", false, "exit status 3")]
    {
        let house = House::new();
        let pool = job(&house, line);
        house.want(&pool);
        assert_eq!(until_ended(&house, well).last_exit.as_deref(), Some(how));
        // Its shim stays and says so; another one says the same.
        let shim = house.shim();
        kill(shim);
        until("another shim is there", || {
            (house.shim() != shim && runs(house.shim())).then_some(())
        });
        assert_eq!(until_ended(&house, well).last_exit.as_deref(), Some(how));
        house.want_nothing(&pool);
        house.until_absent();
        until("nothing is left", || house.processes().is_empty().then_some(()));
        assert_eq!(starts(&house), 1);
    }
}

pub(crate) fn leaves_nothing_behind() {
    let house = House::new();
    let pool = job(&house, "sleep 100 & echo $! > child; exit 0");
    house.want(&pool);
    until_ended(&house, true);
    let child = fs::read_to_string(house.work("child")).unwrap();
    assert!(!runs(child.trim().parse().unwrap()));
}

pub(crate) fn goes_on_without_its_shim_and_is_not_run_again() {
    let house = House::new();
    let pool = job(&house, "until [ -e go ]; do sleep 0.02; done; echo done >> done");
    let pid = house.run(&pool);
    kill(house.shim());
    house.open();
    house.want(&pool);
    assert_eq!(house.until_running(), pid);
    fs::write(house.work("go"), "").unwrap();
    // Nobody saw its exit status, so it is not taken for well.
    let how = until_ended(&house, false).last_exit;
    assert_eq!(how.as_deref(), Some("ended while its shim was away"));
    assert_eq!(fs::read_to_string(house.work("done")).unwrap(), "done\n");
    assert_eq!(starts(&house), 1);
}

pub(crate) fn lost_with_its_shim_it_has_failed() {
    let house = House::new();
    let pool = job(&house, "exec sleep 100");
    let pid = house.run(&pool);
    house.close();
    kill(house.shim());
    kill(pid);
    house.open();
    house.want(&pool);
    until_ended(&house, false);
    assert_eq!(starts(&house), 1);
}

pub(crate) fn lost_with_the_machine_it_has_failed() {
    let house = House::new();
    let pool = job(&house, "exec sleep 100");
    let pid = house.run(&pool);
    house.close();
    kill(house.shim());
    kill(pid);
    let mut status = house.status();
    status["boot_id"] = "another".into();
    house.write_status(&status);
    house.open();
    assert!(house.instance().is_none(), "of another boot nothing is there");
    house.want(&pool);
    let how = until_ended(&house, false).last_exit;
    assert_eq!(how.as_deref(), Some("the machine went down while it ran"));
    assert_eq!(starts(&house), 1);
}

pub(crate) fn an_attempt_waits_until_the_one_before_is_gone() {
    let house = House::new();
    // The one that cannot make the folder has met the other, and says so.
    let line = "trap 'sleep 0.5; rmdir alone; exit 1' TERM
                mkdir alone && echo alone >> met || echo together >> met
                while :; do sleep 0.02; done";
    let mut pool = job(&house, line);
    house.run(&pool);
    let met = || fs::read_to_string(house.work("met")).unwrap_or_default();
    until("it is alone", || (met() == "alone\n").then_some(()));
    // Nobody who decides asks for this; the platform keeps them apart all the same.
    pool.slots = [(2, Slot { port: free_port() })].into();
    pool.fence.generation = pool.fence.generation.next();
    house.want(&pool);
    until("the second has looked around", || (met().lines().count() == 2).then_some(()));
    assert_eq!(met(), "alone\nalone\n");
    assert!(house.instance().is_none());
}
