//! Everything an instance starts, and that nothing of it is left.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_kernel::world::InstancePhase;
use rustix::process::Signal;

use crate::house::{House, kill, pid_in, runs, signal, until};

pub(crate) fn s36_daemons_do_not_survive() {
    let house = House::new();
    let line = r#"
        (setsid sh -c 'echo $$ > one; exec sleep 100' &)
        (env -i /usr/bin/env setsid sh -c 'echo $$ > two; trap "" TERM; sleep 100; sleep 100' &)
        (env -i setsid sh -c '(setsid sh -c "echo \$\$ > three; exec sleep 100" &)' &)
        exec sleep 100"#;
    let pool = house.shell(line);
    let leader = house.run(&pool);
    let mut pids = ["one", "two", "three"].map(|name| pid_in(&house.work(name))).to_vec();
    pids.push(leader);
    assert!(pids.iter().all(|&pid| runs(pid)));
    house.want_nothing(&pool);
    house.until_absent();
    assert!(!pids.iter().any(|&pid| runs(pid)), "{pids:?}");
}

pub(crate) fn s36_what_strays_started_does_not_survive_a_new_shim() {
    let house = House::new();
    // After the shim was replaced only the marker tells the stray, and only the stray its child.
    let line = r#"
        (setsid sh -c 'echo $$ > stray; env -i setsid sh -c "echo \$\$ > child; exec sleep 100"; :' &)
        exec sleep 100"#;
    let pool = house.shell(line);
    let pid = house.run(&pool);
    let pids = [pid, pid_in(&house.work("stray")), pid_in(&house.work("child"))];
    let shim = house.shim();
    kill(shim);
    until("another shim has it", || (house.shim() != shim).then_some(()));
    house.until_running();
    assert!(pids.iter().all(|&pid| runs(pid)));
    house.want_nothing(&pool);
    house.until_absent();
    assert!(!pids.iter().any(|&pid| runs(pid)), "{pids:?}");
}

pub(crate) fn s36_fifty_processes_do_not_survive() {
    let house = House::new();
    // Each replaces itself with others all the time, but there are never more than some fifty.
    let line = r#"
        trap '' TERM
        i=0
        while [ $i -lt 25 ]; do
            setsid sh -c 'trap "" TERM; while :; do sleep 0.05; done' &
            i=$((i+1))
        done
        echo all > all
        while :; do sleep 1; done"#;
    let mut pool = house.shell(line);
    Arc::make_mut(&mut pool.workload).stop.grace = Duration::from_millis(100);
    house.run(&pool);
    until("all have started", || house.work("all").exists().then_some(()));
    house.want_nothing(&pool);
    house.until_absent();
    until("nothing is left", || house.processes().is_empty().then_some(()));
}

pub(crate) fn whoever_ignores_the_signal_is_killed() {
    let house = House::new();
    let mut pool =
        house.shell("trap 'echo heard >> heard' TERM; echo up; while :; do sleep 0.05; done");
    Arc::make_mut(&mut pool.workload).stop.grace = Duration::from_millis(500);
    let pid = house.run(&pool);
    until("it listens", || house.log().contains("up").then_some(()));
    house.want_nothing(&pool);
    house.until_phase(InstancePhase::Stopping);
    let began = Instant::now();
    house.until_absent();
    assert!(!runs(pid));
    assert!(began.elapsed() >= Duration::from_millis(300), "its grace was cut short");
    assert_eq!(fs::read_to_string(house.work("heard")).unwrap(), "heard\n");
}

pub(crate) fn the_group_of_a_quick_shell_keeps_its_grace() {
    let house = House::new();
    // The shell ends at once; the server needs a moment for the requests it has.
    let pool = house.shell("sh -c \"trap 'sleep 0.5; echo done > done; exit' TERM; echo up; while :; do sleep 0.05; done\" & wait");
    house.run(&pool);
    until("it listens", || house.log().contains("up").then_some(()));
    house.want_nothing(&pool);
    house.until_absent();
    assert!(house.work("done").exists());
}

pub(crate) fn strays_are_cleared_before_a_restart() {
    let house = House::new();
    let pool = house.shell("(setsid sh -c 'echo $$ > stray; exec sleep 100' &); exec sleep 99");
    let pid = house.run(&pool);
    let stray = pid_in(&house.work("stray"));
    kill(pid);
    until("it runs again", || house.instance()?.pid.filter(|&next| next != pid));
    assert!(!runs(stray));
    let instance = house.instance().unwrap();
    assert_eq!(instance.last_exit.as_deref(), Some("signal 9 (KILL)"));
}

pub(crate) fn memory_is_limited() {
    let house = House::new();
    let exe = std::env::current_exe().unwrap();
    let line = format!("{} role hog 100 & {} role hog 1 & wait", exe.display(), exe.display());
    let mut pool = house.shell(&line);
    Arc::make_mut(&mut pool.workload).limits.memory = Some(64 << 20);
    house.want(&pool);
    let instance = until("it was ended", || house.instance().filter(|i| i.exits > 0));
    assert_eq!(instance.last_exit.as_deref(), Some("over its memory limit of 64MiB"));
}

pub(crate) fn s37_a_flood_of_output_is_cut() {
    const MEBIBYTE: u64 = 1 << 20;
    let house = House::new();
    let pool = house.shell(
        "head -c 52428800 /dev/zero; echo done > done; while :; do echo tick; sleep 0.05; done",
    );
    house.run(&pool);
    // It is never blocked, so it is done whatever the shim does.
    until("it has written everything", || house.work("done").exists().then_some(()));
    let size = |name: &str| fs::metadata(house.folder().join(name)).map_or(0, |meta| meta.len());
    until("the log was cut", || {
        (size("out.log.1") > 0 && size("out.log") < MEBIBYTE).then_some(())
    });
    assert!(size("out.log.1") <= 20 * MEBIBYTE);
    until("it goes on writing", || house.log().contains("tick").then_some(()));
}

pub(crate) fn the_shim_ends_its_instance_on_sigterm() {
    let house = House::new();
    let pool = house.shell("(setsid sleep 99 &); exec sleep 100");
    let pid = house.run(&pool);
    house.close();
    signal(house.shim(), Signal::TERM);
    until("nothing is left", || house.processes().is_empty().then_some(()));
    assert!(!runs(pid));
    assert_eq!(house.status()["phase"], "Stopped");
    house.open();
    assert_eq!(house.instance(), None);
    // It is still wanted, so it comes back.
    assert_ne!(house.run(&pool), pid);
}

pub(crate) fn s36_a_fork_bomb_is_stopped_while_it_grows() {
    let house = House::new();
    // Each process puts two more into sessions of their own, every other one without a trace in
    // its environment, and stays deaf to the signal. After five generations it is exhausted, so
    // that a test that fails leaves no more than some hundred processes that end by themselves.
    let bomb = r#"
        trap '' TERM
        echo $$ >> grown
        if [ $1 -gt 0 ]; then
            sleep 0.1
            setsid sh bomb $(($1 - 1)) &
            (env -i /usr/bin/env PATH=$PATH setsid sh bomb $(($1 - 1)) &)
        fi
        sleep 60"#;
    fs::write(house.work("bomb"), bomb).unwrap();
    let mut pool = house.shell("exec sh bomb 5");
    Arc::make_mut(&mut pool.workload).stop.grace = Duration::from_millis(100);
    house.run(&pool);
    let grown = || fs::read_to_string(house.work("grown")).unwrap_or_default().lines().count();
    until("it grows", || (grown() >= 7).then_some(()));
    house.want_nothing(&pool);
    house.until_absent();
    until("nothing is left", || house.processes().is_empty().then_some(()));
    let after = grown();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(grown(), after, "something still grows");
    println!("stopped after {after} of 63 processes");
}

pub(crate) fn s37_a_flood_of_output_without_control_neither_blocks_nor_kills() {
    const MEBIBYTE: u64 = 1 << 20;
    let house = House::new();
    let pool = house.shell(
        "until [ -e go ]; do sleep 0.02; done; head -c 104857600 /dev/zero; echo done > done; \
         while :; do echo tick; sleep 0.05; done",
    );
    let pid = house.run(&pool);
    // Control is dead, and with it the driver.
    house.close();
    fs::write(house.work("go"), "").unwrap();
    until("it has written everything", || house.work("done").exists().then_some(()));
    let size = |name: &str| fs::metadata(house.folder().join(name)).map_or(0, |meta| meta.len());
    until("the log was cut", || {
        (size("out.log.1") > 0 && size("out.log") < MEBIBYTE).then_some(())
    });
    assert!(size("out.log.1") <= 20 * MEBIBYTE);
    assert!(runs(pid), "it was killed");
    house.open();
    assert_eq!(house.until_running(), pid);
    assert_eq!(house.instance().unwrap().exits, 0);
}
