//! Roles whose system calls go wrong: a library that is loaded before all others lies to them about
//! the time, or fails their syncs (S23 and S25).

use std::process::Command;
use std::time::{Duration, Instant};

use crate::house::House;
use crate::load::{ALL, Load};
use crate::machine::{skip, until};
use crate::programs::web;

/// Adds the seconds in one file to the wall clock; fails a sync of control for each other file.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static long off(void) {
    char text[32] = {0};
    const char *path = getenv("TEST_WALL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    long got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += off();
    return result;
}
static int fails(void) {
    char line[4096] = {0};
    const char *path = getenv("TEST_EIO");
    if (!path || access(path, F_OK) != 0) return 0;
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    long got = read(file, line, sizeof line - 1);
    close(file);
    if (got <= 0 || !memmem(line, got, "control", 8)) return 0;
    return unlink(path) == 0;
}
int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}
"#;

/// Failed syncs of control in one release.
const FAILURES: usize = 8;

/// A house whose roles have the library; none where it cannot be built.
fn house() -> Option<House> {
    let mut house = House::new();
    house.write("lies.c", LIBRARY);
    let (source, library) = (house.folder().join("lies.c"), house.folder().join("lies.so"));
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    if !built.is_ok_and(|status| status.success()) {
        skip("roles with a wrong clock or a failing disk: there is no C compiler here");
        return None;
    }
    let file = |name: &str| house.folder().join(name).display().to_string();
    let env =
        [("LD_PRELOAD", file("lies.so")), ("TEST_WALL", file("wall")), ("TEST_EIO", file("eio"))];
    house.env = env.map(|(name, value)| (name.to_owned(), value)).into();
    Some(house)
}

#[test]
fn s23_a_wall_clock_that_jumps_moves_no_bake() {
    const BAKE: u64 = 3;
    const DAY: i64 = 86_400;
    let Some(house) = house() else { return };
    let canary = format!(
        "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"{BAKE}s\"\n\
         progress_deadline = \"30s\"\n\
         steps = [{{ weight = \"20%\", bake = \"{BAKE}s\" }}, {{ weight = \"50%\", bake = \"{BAKE}s\" }}]"
    );
    web(&house, "VERSION = \"v1\"", 2, &canary);
    house.up();
    house.until_settled();
    let load = Load::start(house.listen, ALL);
    web(&house, "VERSION = \"v2\"", 2, &canary);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // 28 February 2028, 23:59:58 UTC, two seconds before the day that not every year has.
    let leap = 1_835_395_198 - i64::try_from(wall.as_secs()).unwrap();
    let began = Instant::now();
    let apply = house.start(&["apply", "--yes", "--wait", "complete"]);
    house.until_weight("web", "r2", 20.0);
    house.write("wall", &DAY.to_string());
    house.until_weight("web", "r2", 50.0);
    house.write("wall", &(-DAY).to_string());
    house.until_weight("web", "r2", 100.0);
    house.write("wall", &leap.to_string());
    // The second that is there twice.
    std::thread::sleep(Duration::from_secs(1));
    house.write("wall", &(leap - 1).to_string());
    apply.wait().exits(0);
    let took = began.elapsed();
    // Two steps and the bake, and whatever the machine needs beside them.
    assert!(took >= Duration::from_secs(3 * BAKE), "its bakes were cut short: {took:?}");
    assert_eq!(house.last_release()["outcome"], "promoted");
    load.stop_unharmed();
    // Only what is shown to people has jumped.
    let journal = house.run(&["history", "--journal", "--json"]).exits(0);
    assert!(journal.out.contains("\"at_ms\":18353"), "it has not: {}", journal.out);
    println!("promoted and contracted in {took:?}");
}

#[test]
fn s25_a_control_whose_syncs_fail_ends_and_the_next_one_goes_on() {
    let Some(house) = house() else { return };
    let canary = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"0s\"\n\
        bake = \"2s\"\nsteps = [{ weight = \"50%\", bake = \"10m\" }]";
    web(&house, "VERSION = \"v1\"", 2, canary);
    house.up();
    house.until_settled();
    let load = Load::start(house.listen, ALL);
    web(&house, "VERSION = \"v2\"", 2, canary);
    let apply = house.start(&["apply", "--yes"]);
    house.until_weight("web", "r2", 50.0);
    let before = house.instances("web");
    let eio = house.folder().join("eio");
    for _ in 0..FAILURES {
        let control = until("a control runs", || house.pid("control"));
        // Its bake is saved once a second, so the next sync is not far.
        house.write("eio", "");
        until("a sync has failed", || (!eio.exists()).then_some(()));
        house.until_back("control", control);
        house.until("it goes on at the same place", |status| {
            (status["release"]["phase"] == "shifting").then_some(())
        });
    }
    assert_eq!(house.instances("web"), before);
    house.run(&["promote", "--full"]).exits(0);
    apply.wait().exits(0);
    house.until_settled();
    load.stop_unharmed();
}
