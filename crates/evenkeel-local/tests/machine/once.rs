//! What runs once: a job, however it ends and whoever dies meanwhile.

use std::fs;
use std::sync::Arc;

use evenkeel_kernel::want::{Pool, Slot};
use evenkeel_kernel::world::{Instance, InstancePhase};

use crate::house::{House, free_port, instance_id, kill, runs, until};

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

/// Makes the shim of the house another program, which happens to be the same, in a file of its own.
fn becomes(house: &House, times: usize) {
    let copy = house.work("copy");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for _ in 0..times {
        let shim = evenkeel_local::shims::of(&house.home(), &instance_id()).unwrap();
        let command = [copy.to_str().unwrap().to_owned(), "shim".to_owned()];
        shim.be(&command).unwrap().unwrap();
        until("it answers as that", || {
            let program = fs::read_link(format!("/proc/{}/exe", shim.pid)).unwrap_or_default();
            (program == copy && shim.answers()).then_some(())
        });
    }
}

pub(crate) fn s35_a_shim_becomes_another_program_again_and_again_and_nothing_is_missed() {
    for (code, well) in [(0, true), (7, false)] {
        let house = House::new();
        let line = format!("until [ -e go ]; do sleep 0.02; done; exit {code}");
        let pool = job(&house, &line);
        let pid = house.run(&pool);
        let shim = house.shim();
        becomes(&house, 5);
        assert_eq!((house.until_running(), house.shim()), (pid, shim));
        assert_eq!(house.instance().unwrap().phase, InstancePhase::Running);
        fs::write(house.work("go"), "").unwrap();
        // It is still its child, so how it ended is known.
        let how = until_ended(&house, well).last_exit;
        assert_eq!(how, Some(format!("exit status {code}")));
        assert_eq!(starts(&house), 1);
    }
    // One that ends at that very moment is not missed either.
    for round in 0..40_u64 {
        let house = House::new();
        let pool = job(&house, "until [ -e go ]; do :; done; exit 0");
        house.run(&pool);
        let go = house.work("go");
        let soon = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(500 * round));
            fs::write(go, "").unwrap();
        });
        let shim = evenkeel_local::shims::of(&house.home(), &instance_id()).unwrap();
        let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        // It may have ended before it could be asked.
        let _asked = shim.be(&[program, "shim".to_owned()]);
        soon.join().unwrap();
        assert_eq!(until_ended(&house, true).last_exit.as_deref(), Some("exit status 0"));
    }
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
