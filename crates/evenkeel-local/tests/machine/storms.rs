//! Many instances that die of one cause (S30 of the scenarios).

use std::collections::BTreeMap;
use std::fs;

use evenkeel_kernel::model::Probe;
use evenkeel_kernel::want::Slot;
use rustix::process::Signal;

use crate::house::{House, free_port, signal, until};

/// Instances: a few times as many as may start at the same time.
const COUNT: u32 = 90;
/// As `turn::STARTING_MAX` has it.
const STARTING_MAX: usize = 32;
/// How long each takes to start, in milliseconds.
const STARTS_IN: &str = "400";

/// Waits until all listen. Returns how many were starting at the same time at most.
fn until_all_are_up(house: &House) -> usize {
    let mut most = 0;
    until("all are up", || {
        let names = fs::read_dir(house.path("work")).unwrap().flatten();
        let starting =
            names.filter(|it| it.file_name().to_string_lossy().starts_with("starting.")).count();
        most = most.max(starting);
        let platform = house.platform();
        let is_up = |pid: Option<u32>| {
            pid.is_some_and(|pid| !house.work(&format!("starting.{pid}")).exists())
        };
        let up = platform.instances.values().filter(|it| is_up(it.pid)).count();
        (up == COUNT as usize && starting == 0).then_some(())
    });
    most
}

pub(crate) fn s30_a_few_start_at_a_time_however_many_have_died() {
    let house = House::new();
    let program = std::env::current_exe().unwrap().display().to_string();
    let mut pool = house.pool(&[&program, "role", "late", STARTS_IN]);
    pool.probe = Probe::Tcp;
    let slots = (1..=COUNT).map(|slot| (slot, Slot { port: free_port() }));
    pool.slots = slots.collect::<BTreeMap<_, _>>();
    house.want(&pool);
    let most = until_all_are_up(&house);
    assert!((2..=STARTING_MAX).contains(&most), "{most} were starting at the same time");

    let before: Vec<u32> =
        house.platform().instances.values().filter_map(|instance| instance.pid).collect();
    assert_eq!(before.len(), COUNT as usize);
    for pid in &before {
        signal(*pid, Signal::KILL);
    }
    until("all have died", || {
        let now = house.platform();
        let left =
            now.instances.values().filter(|it| it.pid.is_some_and(|it| before.contains(&it)));
        (left.count() == 0).then_some(())
    });
    let most = until_all_are_up(&house);
    assert!((2..=STARTING_MAX).contains(&most), "{most} were starting again at the same time");
    println!("{COUNT} instances, at most {most} of them starting again at the same time");
}
