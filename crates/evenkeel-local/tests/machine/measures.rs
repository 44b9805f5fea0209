//! What a shim costs.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use evenkeel_kernel::want::Slot;
use evenkeel_kernel::world::InstancePhase;

use crate::house::{House, until};

/// Private memory of one shim, in kibibytes.
fn private_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// Processor time used so far, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

pub(crate) fn shims_are_small_and_quick() {
    // The promise is for the release profile; a debug build has larger pages to touch.
    const LIMIT_KIB: u64 = if cfg!(debug_assertions) { 3 * 1024 } else { 1024 };
    let count = std::env::var("SHIMS").map_or(20, |count| count.parse().unwrap());
    let house = House::new();
    let mut pool = house.pool(&["sleep", "100"]);
    // No port: it is not asked for.
    pool.slots = (1..=count).map(|slot| (slot, Slot { port: 0 })).collect::<BTreeMap<_, _>>();
    let began = Instant::now();
    house.want(&pool);
    until("all run", || {
        let platform = house.platform();
        let running = platform.instances.values().filter(|i| i.phase == InstancePhase::Running);
        (running.count() == usize::try_from(count).unwrap()).then_some(())
    });
    let started = began.elapsed();
    let is_shim = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(6).any(|w| w == b"\0shim\0"))
    };
    let shims: Vec<u32> = house.processes().into_iter().filter(is_shim).collect();
    assert_eq!(shims.len(), usize::try_from(count).unwrap());
    let memory: Vec<u64> = shims.iter().map(|&pid| private_kib(pid)).collect();
    let (least, most) = (memory.iter().min().unwrap(), memory.iter().max().unwrap());
    println!("{count} instances in {started:.1?}; a shim has {least} to {most} KiB of its own");
    assert!(*most <= LIMIT_KIB, "a shim has {most} KiB of its own");
    if let Ok(seconds) = std::env::var("IDLE_SECONDS") {
        let before: u64 = shims.iter().map(|&pid| ticks(pid)).sum();
        std::thread::sleep(Duration::from_secs(seconds.parse().unwrap()));
        let after: u64 = shims.iter().map(|&pid| ticks(pid)).sum();
        println!("{} ticks of processor time in {seconds}s for all of them", after - before);
        let began = Instant::now();
        house.platform();
        println!("one full look at all of them takes {:.1?}", began.elapsed());
    }
    let began = Instant::now();
    house.want_nothing(&pool);
    until("none is left", || house.platform().instances.is_empty().then_some(()));
    println!("{count} instances ended in {:.1?}", began.elapsed());
}

pub(crate) fn processor_time_is_measured_where_it_is_asked_for() {
    let cpu = |line: &str, measured: bool, least: u32| {
        let house = House::new();
        let mut pool = house.shell(line);
        pool.measured = measured;
        house.run(&pool);
        // Others use the machine too, so a busy one may be given little, or nothing for a while.
        until("it is known, or time passes", || {
            let seen = house.instance()?.cpu_milli;
            let enough = seen.is_some_and(|milli| milli >= least);
            (enough || house.age() > Duration::from_secs(15)).then_some(seen)
        })
    };
    // What does the work is a child, as it often is.
    let (busy, idle, unasked) = std::thread::scope(|scope| {
        let busy = scope.spawn(|| cpu("sh -c 'while :; do :; done'; exit", true, 10));
        let idle = scope.spawn(|| cpu("sleep 100", true, 0));
        let unasked = scope.spawn(|| cpu("while :; do :; done", false, 0));
        (busy.join().unwrap(), idle.join().unwrap(), unasked.join().unwrap())
    });
    // How much of a busy machine it gets nobody knows; more than one that sleeps in any case.
    let (busy, idle) = (busy.unwrap(), idle.unwrap());
    assert!((10..1_200).contains(&busy) && idle < 10.max(busy / 4), "{busy} and {idle}");
    assert_eq!(unasked, None);
}
