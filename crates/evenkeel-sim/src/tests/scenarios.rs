//! The failure scenarios of `docs/scenarios.md` that seeds play: that they really occur in them, and
//! often enough, while every invariant holds.

use std::sync::OnceLock;

use super::*;

/// Seeds whose stories are told; others than those that run without.
const TOLD: std::ops::Range<u64> = 5_000..5_200;

/// The stories of all seeds. Each holds, or the test ends here.
fn stories() -> &'static [Vec<String>] {
    static STORIES: OnceLock<Vec<Vec<String>>> = OnceLock::new();
    STORIES.get_or_init(|| {
        let told = TOLD.map(|seed| {
            let report = run(seed, None, true);
            assert_eq!(report.violation, None, "evenkeel-sim replay {seed} -v");
            report.story
        });
        told.collect()
    })
}

/// In so many seeds at least something is told that says all of `words`, in one line.
#[track_caller]
fn occurs(words: &[&str], least: usize) {
    let says = |line: &String| words.iter().all(|word| line.contains(word));
    let seeds = stories().iter().filter(|story| story.iter().any(says)).count();
    assert!(seeds >= least, "{words:?} in {seeds} of {} seeds only", stories().len());
}

#[test]
fn s01_control_dies_at_its_boundaries_and_the_end_is_the_same() {
    occurs(&["control dies"], 40);
}

#[test]
fn s02_orders_are_lost_late_and_double_and_the_old_ones_are_refused() {
    occurs(&["an order is lost"], 40);
    occurs(&["an order is on its way twice"], 40);
    occurs(&["an order takes"], 40);
    occurs(&["the platform refuses an order for its age"], 8);
    occurs(&["the edge refuses a table for its age"], 8);
}

#[test]
fn s03_a_controller_that_slept_finds_the_store_taken_and_ends() {
    occurs(&["control is stopped by SIGSTOP"], 8);
    occurs(&["a controller that was replaced ends"], 4);
}

#[test]
fn s04_platform_and_edge_are_out_of_sight_in_the_middle_of_releases() {
    occurs(&["the platform cannot be seen"], 8);
    occurs(&["the edge cannot be seen"], 8);
}

#[test]
fn s05_operators_kill_remove_and_add_instances_and_put_old_tables_back() {
    for act in [" is killed", "an operator removes", "an operator starts", "an operator installs"] {
        occurs(&[act], 4);
    }
}

#[test]
fn services_sleep_while_nobody_asks_and_wake_for_who_waits() {
    occurs(&["to 0 instances: nobody asked"], 8);
    occurs(&["wakes: 1 request waits for it"], 8);
}

#[test]
fn s14_ways_back_are_asked_for_in_every_phase() {
    occurs(&["someone: rollback: release", "is taken back"], 4);
    occurs(&["someone: abort: release", "is taken back"], 4);
    occurs(&["is turning back already"], 1);
}

#[test]
fn s24_disks_are_full_and_commits_fail_and_nothing_is_ordered_then() {
    occurs(&["the disk is full"], 8);
    occurs(&["the commit failed"], 8);
}

#[test]
fn s31_a_newer_change_comes_while_another_is_on_its_way() {
    occurs(&["superseded by release"], 8);
}

#[test]
fn s39_the_machine_reboots_in_the_middle_of_releases() {
    occurs(&["the machine reboots"], 8);
}
