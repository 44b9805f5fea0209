//! How instances come, stay and go, whoever dies meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use evenkeel_kernel::want::Slot;
use evenkeel_kernel::world::InstancePhase;
use evenkeel_local::{artifact, log_files};

use crate::house::{House, fence, free_port, instance_id, kill, runs, until};

pub(crate) fn starts_and_stops() {
    let house = House::new();
    let mut pool = house.shell("env; pwd; ls -l /proc/self/fd; exec sleep 100");
    Arc::make_mut(&mut pool.workload).env.insert("LOG".to_owned(), "info".to_owned());
    pool.surroundings.insert("LOG".to_owned(), "weaker".to_owned());
    pool.surroundings.insert("CATALOG_URL".to_owned(), "http://127.0.0.1:1".to_owned());
    let pid = house.run(&pool);
    let port = pool.slots[&1].port;
    let log = until("the environment is in the log", || {
        let log = house.log();
        log.contains("/work").then_some(log)
    });
    for line in [
        &format!("PORT={port}"),
        "LOG=info",
        "CATALOG_URL=http://127.0.0.1:1",
        "EVENKEEL_INSTANCE=web.r1.1",
        "EVENKEEL_REVISION=r1",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} in {log}");
    }
    assert!(!log.contains("CARGO"), "our own environment leaked: {log}");
    assert!(!log.contains("socket:"), "a descriptor leaked: {log}");

    // Routed, or nobody knows: it is not stopped, however often it is looked at.
    for unsure in [1, 2] {
        house.routed.store(unsure, Ordering::SeqCst);
        let before = house.asked.load(Ordering::SeqCst);
        house.want_nothing(&pool);
        until("it was asked", || (house.asked.load(Ordering::SeqCst) > before + 2).then_some(()));
        assert!(runs(pid));
        assert_eq!(house.until_phase(InstancePhase::Running).pid, Some(pid));
    }
    house.routed.store(0, Ordering::SeqCst);
    house.until_absent();
    assert!(!runs(pid));
    until("its shim has ended", || (!house.socket().exists()).then_some(()));
    assert_eq!(log_files(&house.home(), None).unwrap().len(), 1);
    assert_eq!(house.with(|local| local.forget(|_| true)).unwrap(), 0);
    until("it is forgotten", || (house.with(|l| l.forget(|_| false)).unwrap() == 1).then_some(()));
    assert!(!house.folder().exists());
}

pub(crate) fn s13_restarts_without_a_driver() {
    let house = House::new();
    house.want(&house.shell("echo x >> count; exit 3"));
    let count = || fs::read_to_string(house.work("count")).unwrap_or_default().lines().count();
    until("it has started once", || (count() >= 1).then_some(()));
    house.close();
    let before = count();
    until("it has started again", || (count() >= before + 3).then_some(()));
    house.open();
    let instance = house.instance().unwrap();
    assert!(instance.exits >= 3, "{instance:?}");
    assert_eq!(instance.last_exit.as_deref(), Some("exit status 3"));
}

pub(crate) fn is_adopted_by_the_next_driver() {
    let house = House::new();
    let pool = house.shell("exec sleep 100");
    let pid = house.run(&pool);
    let shim = house.shim();
    house.open();
    assert_eq!(house.until_running(), pid);
    // A pool that nobody mentions is left alone.
    house.want(&pool);
    assert_eq!((house.until_running(), house.shim()), (pid, shim));
    house.want_nothing(&pool);
    house.until_absent();
    assert!(!runs(pid));
}

pub(crate) fn outlives_its_shim() {
    let house = House::new();
    let pool = house.shell("echo started >> starts; (setsid sleep 99 &); exec sleep 100");
    let pid = house.run(&pool);
    for _ in 0..3 {
        let shim = house.shim();
        kill(shim);
        until("another shim has it", || (house.shim() != shim).then_some(()));
        assert_eq!(house.until_running(), pid);
    }
    assert_eq!(fs::read_to_string(house.work("starts")).unwrap(), "started\n");
    assert_eq!(house.instance().unwrap().exits, 0);
    // The adopted one is also seen to end, and is started again.
    kill(pid);
    let next = until("it runs again", || {
        house.instance().filter(|i| i.exits == 1)?.pid.filter(|&next| next != pid)
    });
    let instance = house.instance().unwrap();
    assert_eq!(instance.last_exit.as_deref(), Some("ended while its shim was away"));
    kill(house.shim());
    house.want_nothing(&pool);
    house.until_absent();
    assert!(!runs(next));
    until("nothing is left", || house.processes().is_empty().then_some(()));
}

pub(crate) fn outlives_its_shim_and_its_driver() {
    let house = House::new();
    let pool = house.shell("exec sleep 100");
    let pid = house.run(&pool);
    house.close();
    kill(house.shim());
    house.open();
    assert_eq!(house.until_phase(InstancePhase::Lost).pid, Some(pid));
    house.want(&pool);
    assert_eq!(house.until_running(), pid);
    // And when the process goes too, before anybody looks again.
    house.close();
    kill(house.shim());
    kill(pid);
    house.open();
    house.want(&pool);
    let next = house.until_running();
    assert_ne!(next, pid);
    assert_eq!(house.instance().unwrap().exits, 1);
}

pub(crate) fn a_lost_instance_is_ended() {
    let house = House::new();
    let pool = house.shell("exec sleep 100");
    let pid = house.run(&pool);
    house.close();
    kill(house.shim());
    house.open();
    house.routed.store(2, Ordering::SeqCst);
    house.want_nothing(&pool);
    until("it was asked", || (house.asked.load(Ordering::SeqCst) > 2).then_some(()));
    assert!(runs(pid));
    house.routed.store(0, Ordering::SeqCst);
    house.until_absent();
    assert!(!runs(pid));
}

pub(crate) fn a_nursery_may_die() {
    let house = House::new();
    let mut pool = house.shell("exec sleep 100");
    house.run(&pool);
    let nursery = house.nursery().unwrap();
    kill(nursery);
    until("it is gone", || house.nursery().is_none().then_some(()));
    let pid = house.instance().unwrap().pid;
    // The next one comes to life all the same, and the first goes on.
    pool.slots.insert(2, Slot { port: 0 });
    pool.fence = fence(1, 2);
    house.want(&pool);
    until("the second runs", || {
        let running = house.platform();
        let running = running.instances.values().filter(|i| i.phase == InstancePhase::Running);
        (running.count() == 2).then_some(())
    });
    assert_eq!(house.instance().unwrap().pid, pid);
    house.want_nothing(&pool);
    until("none is left", || house.platform().instances.is_empty().then_some(()));
    house.close();
    until("the driver's nursery went with it", || house.nursery().is_none().then_some(()));
}

pub(crate) fn a_stranger_with_its_pid_is_left_alone() {
    let house = House::new();
    let pool = house.shell("exec sleep 100");
    let pid = house.run(&pool);
    house.close();
    kill(house.shim());
    kill(pid);
    let mut stranger = Command::new("sleep").arg("100").process_group(0).spawn().unwrap();
    let mut status = house.status();
    // The number is in use again, for the process as for the shim, but it started another time.
    status["process"]["pid"] = stranger.id().into();
    status["shim"]["pid"] = stranger.id().into();
    house.write_status(&status);
    house.open();
    house.want(&pool);
    let next = until("it runs again", || house.instance()?.pid.filter(|&p| p != stranger.id()));
    house.want_nothing(&pool);
    house.until_absent();
    assert!(!runs(next));
    assert!(runs(stranger.id()), "the stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

pub(crate) fn s39_a_reboot_leaves_nothing() {
    let house = House::new();
    let pool = house.shell("exec sleep 100");
    let pid = house.run(&pool);
    let before = house.status();
    house.close();
    kill(house.shim());
    kill(pid);
    let mut stranger = Command::new("sleep").arg("100").process_group(0).spawn().unwrap();
    let mut status = before.clone();
    status["boot_id"] = "an earlier one".into();
    status["process"]["pid"] = stranger.id().into();
    house.write_status(&status);
    house.open();
    assert_eq!(house.instance(), None);
    house.want(&pool);
    house.until_running();
    assert_ne!(house.status()["incarnation"], before["incarnation"]);
    assert_eq!(house.instance().unwrap().exits, 0);
    assert!(runs(stranger.id()), "the stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

pub(crate) fn says_why_it_cannot_start() {
    let house = House::new();
    let program = house.work("web");
    house.want(&house.pool(&["./web"]));
    let instance = house.until_phase(InstancePhase::Unstartable);
    let reason = instance.last_exit.unwrap();
    assert!(reason.contains("work/./web does not exist"), "{reason}");
    fs::write(&program, "#!/bin/sh\nexec sleep 100\n").unwrap();
    until("the reason is another", || {
        house.instance()?.last_exit.filter(|reason| reason.contains("chmod +x"))
    });
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    house.until_running();
}

pub(crate) fn s38_waits_for_its_port() {
    let house = House::new();
    let mut pool = house.shell("exec sleep 100");
    let stranger = TcpListener::bind(("127.0.0.1", pool.slots[&1].port)).unwrap();
    house.want(&pool);
    let reason = house.until_phase(InstancePhase::PortTaken).last_exit.unwrap();
    assert!(reason.contains("is taken by another program"), "{reason}");
    // Another port, by a new decision.
    pool.slots = BTreeMap::from([(1, Slot { port: free_port() })]);
    pool.fence = fence(1, 2);
    let pid = house.run(&pool);
    assert_eq!(house.instance().unwrap().port, pool.slots[&1].port);
    drop(stranger);
    // A running one gets another port only by ending, and ends only when it is not routed to.
    house.routed.store(1, Ordering::SeqCst);
    pool.slots = BTreeMap::from([(1, Slot { port: free_port() })]);
    pool.fence = fence(1, 3);
    house.want(&pool);
    until("it was asked", || (house.asked.load(Ordering::SeqCst) > 2).then_some(()));
    assert_eq!(house.until_running(), pid);
    house.routed.store(0, Ordering::SeqCst);
    until("it has the new port", || {
        house.instance().filter(|i| i.port == pool.slots[&1].port && i.pid.is_some())
    });
    assert!(!runs(pid));
}

pub(crate) fn s15_runs_the_content_it_was_made_of() {
    let house = House::new();
    let program = house.work("web");
    let write = |word: &str| {
        fs::write(&program, format!("#!/bin/sh\necho {word} >> said\nexec sleep 100\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("one");
    let digest = artifact::pin(&house.home(), &program).unwrap();
    let mut pool = house.pool(&["./web"]);
    Arc::make_mut(&mut pool.workload).files.insert(program.display().to_string(), digest);
    let pid = house.run(&pool);
    write("two-and-longer");
    kill(pid);
    let said = until("it spoke again", || {
        fs::read_to_string(house.work("said")).ok().filter(|said| said.lines().count() == 2)
    });
    assert_eq!(said, "one\none\n");
}

pub(crate) fn a_normal_user_can_do_it_all() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::getuid().is_root() {
        // Then every other test shows it.
        return;
    }
    // Somewhere that user can read.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let exe = dir.path().join("machine");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let tests = [
        "lives::starts_and_stops",
        "lives::outlives_its_shim",
        "trees::s36_daemons_do_not_survive",
        "trees::s36_what_strays_started_does_not_survive_a_new_shim",
        "trees::s36_fifty_processes_do_not_survive",
        "trees::memory_is_limited",
        "trees::strays_are_cleared_before_a_restart",
    ];
    let output = Command::new(exe)
        .args(["--exact"])
        .args(tests)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("... ok").count(), tests.len());
    assert_eq!(instance_id().to_string(), "web.r1.1");
}

/// As far as S29 applies here: there is one state and one release, but many instances, each with
/// files of its own.
pub(crate) fn s29_an_instance_whose_files_are_garbage_keeps_nobody_else_from_anything() {
    let house = House::new();
    let mut pool = house.shell("exec sleep 100");
    pool.slots.insert(2, Slot { port: 0 });
    house.want(&pool);
    let second = pool.id.instance(2);
    let running = |id| house.platform().instances.get(&id).and_then(|it| it.pid);
    until("both run", || running(instance_id()).zip(running(second.clone())));
    house.close();
    for name in ["status", "spec.json"] {
        fs::write(house.folder().join(name), "\0garbage").unwrap();
    }
    house.open();
    let before = until("the other is seen", || running(second.clone()));
    house.want(&pool);
    kill(before);
    until("the other is started again", || running(second.clone()).filter(|pid| *pid != before));
    pool.slots.remove(&2);
    pool.fence = fence(1, 2);
    house.want(&pool);
    until("the other is stopped", || {
        (!house.platform().instances.contains_key(&second)).then_some(())
    });
}

pub(crate) fn s33_instances_that_take_long_to_stop_delay_no_other_pool() {
    let house = House::new();
    // More of them than there are workers, and none of them will end before its long grace.
    let mut slow = house.shell("trap '' TERM; echo up; while :; do sleep 0.05; done");
    Arc::make_mut(&mut slow.workload).stop.grace = std::time::Duration::from_secs(60);
    slow.slots = (1..=12).map(|slot| (slot, Slot { port: 0 })).collect();
    house.want(&slow);
    let phase = |phase| {
        let all = house.platform();
        all.instances.values().filter(|it| it.phase == phase).count()
    };
    until("the slow ones run", || (phase(InstancePhase::Running) == 12).then_some(()));
    let pids: Vec<u32> = house.platform().instances.values().filter_map(|it| it.pid).collect();
    house.want_nothing(&slow);
    until("they are all stopping", || (phase(InstancePhase::Stopping) == 12).then_some(()));
    // The way back of another service: its old revision starts, its new one is stopped.
    let mut other = house.shell("exec sleep 100");
    other.id = evenkeel_kernel::model::PoolId::new(&"api".parse().unwrap(), other.id.revision);
    let id = other.id.instance(1);
    let began = std::time::Instant::now();
    house.want(&other);
    let pid = until("it starts", || house.platform().instances.get(&id)?.pid);
    house.want_nothing(&other);
    until("it is stopped", || (!house.platform().instances.contains_key(&id)).then_some(()));
    println!("up and down in {:.1?} beside them", began.elapsed());
    assert!(!runs(pid));
    assert_eq!(phase(InstancePhase::Stopping), 12, "they were not in the way");
    pids.into_iter().for_each(kill);
    until("they are gone", || house.platform().instances.is_empty().then_some(()));
}
