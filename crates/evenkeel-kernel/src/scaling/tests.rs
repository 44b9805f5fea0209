//! Scaling as stories, and what holds for any load.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::time::Timestamp;

const SECOND: Duration = Duration::from_secs(1);

fn scale(min: u32, max: u32) -> Scale {
    Scale {
        min,
        max,
        in_flight: Some(10),
        cpu: None,
        up_after: 15 * SECOND,
        zero_after: Scale::ZERO_AFTER,
        down_after: 300 * SECOND,
    }
}

/// A pool whose ready instances answer so many requests together.
fn pool(size: u32, ready: u32, load: u64, unmeasured: u32) -> Measured {
    let gauge = Gauge { metric: Metric::InFlight, total: load * 1_000, unmeasured, target: 10_000 };
    Measured { size, ready, gauges: vec![gauge] }
}

fn needs(size: u32, ready: u32, load: u64, unmeasured: u32) -> u32 {
    need(&scale(1, 100), &pool(size, ready, load, unmeasured)).size
}

/// Plays a load, `(seconds, requests in flight)`, looked at every two seconds, and writes down when
/// the size changes.
fn play(scale: &Scale, begins: u32, load: &[(u64, u64)]) -> Vec<(u64, u32)> {
    let (mut size, mut watch, mut told) = (begins, Watch::default(), Vec::new());
    let mut second = 1_000;
    for (span, in_flight) in load {
        for _ in 0..span / 2 {
            second += 2;
            let need = need(scale, &pool(size, size, *in_flight, 0));
            if let Some(step) = watch.step(scale, size, need, true, Timestamp(second * 1_000)) {
                watch = step.watch;
                if let Some(to) = step.size {
                    size = to;
                    told.push((second - 1_000, to));
                }
            }
        }
    }
    told
}

#[test]
fn there_are_as_many_as_bring_each_to_its_target() {
    assert_eq!(needs(4, 4, 57, 0), 6);
    assert_eq!(needs(4, 4, 12, 0), 2);
    assert_eq!(needs(4, 4, 0, 0), 1);
    assert_eq!(need(&scale(2, 5), &pool(4, 4, 0, 0)).size, 2);
    let most = need(&scale(2, 5), &pool(4, 4, 90, 0));
    assert_eq!((most.size, most.asked), (5, 9));
}

#[test]
fn a_tenth_to_either_side_changes_nothing() {
    assert_eq!([36, 40, 44].map(|load| needs(4, 4, load, 0)), [4, 4, 4]);
    assert_eq!(needs(4, 4, 45, 0), 5);
    assert_eq!(needs(10, 10, 90, 0), 10);
    assert_eq!(needs(10, 10, 89, 0), 9);
}

#[test]
fn what_is_not_ready_is_no_idle_capacity() {
    assert_eq!(needs(4, 2, 12, 0), 4);
    assert_eq!(needs(4, 3, 12, 0), 3);
    assert_eq!(needs(4, 0, 0, 0), 4);
    // What is still starting was asked for already.
    assert_eq!(needs(6, 4, 57, 0), 6);
}

#[test]
fn what_is_not_measured_licenses_no_shrinking_and_hides_no_load() {
    assert_eq!(needs(4, 4, 1, 1), 4);
    assert_eq!(needs(4, 4, 80, 1), 8);
}

#[test]
fn the_target_that_asks_for_more_counts() {
    let mut pool = pool(4, 4, 57, 0);
    let cpu = Gauge { metric: Metric::Cpu, total: 4_900, unmeasured: 0, target: 700 };
    pool.gauges.push(cpu);
    let found = need(&scale(1, 100), &pool);
    assert_eq!((found.size, found.by), (7, Some(Metric::Cpu)));
    assert_eq!(cpu_target(Weight(7_000), None), 700);
    assert_eq!(cpu_target(Weight(7_000), Some(250)), 175);
}

#[test]
fn it_grows_after_a_moment_and_to_the_double_at_most() {
    assert_eq!(play(&scale(1, 100), 4, &[(14, 200), (20, 30)]), []);
    assert_eq!(
        play(&scale(1, 100), 4, &[(100, 200)]),
        [(18, 8), (36, 16), (54, 20)],
        "each step is waited for again"
    );
    assert_eq!(play(&scale(1, 3), 1, &[(100, 200)]), [(18, 3)]);
}

#[test]
fn it_shrinks_to_what_was_needed_at_most() {
    // A slow decline: what was needed in the last five minutes, not what is needed now.
    let told = play(&scale(1, 100), 10, &[(60, 100), (20, 70), (800, 20)]);
    assert_eq!(told, [(362, 7), (400, 2)]);
    // One that needs all of them now and then stays as it is.
    let now_and_then = [(100, 20), (20, 100)].repeat(20);
    assert_eq!(play(&scale(1, 100), 10, &now_and_then), []);
}

#[test]
fn a_watch_that_nobody_kept_up_begins_anew() {
    let scale = scale(1, 100);
    let less = need(&scale, &pool(4, 4, 0, 0));
    let at = |second: u64| Timestamp(second * 1_000);
    let begun = Watch::default().step(&scale, 4, less, true, at(1_000)).unwrap().watch;
    let later = begun.step(&scale, 4, less, true, at(1_310)).unwrap();
    assert_eq!(later.size, None);
    assert_eq!(later.watch.less(), Some((at(1_310), 1)));
}

#[test]
fn what_may_not_shrink_does_not_even_wait_for_it() {
    let scale = scale(1, 100);
    let less = need(&scale, &pool(4, 4, 0, 0));
    assert_eq!(Watch::default().step(&scale, 4, less, false, Timestamp(1_000_000)), None);
}

proptest! {
    #[test]
    fn more_load_never_needs_fewer(
        size in 1_u32..200, ready in 0_u32..200, load in 0_u64..5_000, more in 0_u64..5_000,
        unmeasured in 0_u32..3,
    ) {
        let ready = ready.min(size);
        let (one, other) =
            (needs(size, ready, load, unmeasured), needs(size, ready, load + more, unmeasured));
        prop_assert!(one <= other);
    }

    #[test]
    fn any_load_keeps_it_within_its_bounds_and_its_steps(
        min in 1_u32..20, more in 0_u32..50, begins in 0_u32..50,
        load in vec((2_u64..400, 0_u64..2_000), 1..20),
    ) {
        let scale = scale(min, min + more);
        let mut before = scale.within(begins);
        for (_, size) in play(&scale, before, &load) {
            prop_assert!(scale.allows(size));
            prop_assert!(size <= (before * 2).max(before + 4));
            before = size;
        }
    }

    #[test]
    fn noise_inside_the_band_changes_nothing_and_commits_nothing(
        size in 1_u32..50, noise in vec(-100_i64..=100, 50),
    ) {
        let scale = scale(1, 100);
        for (i, permille) in noise.iter().enumerate() {
            let full = i64::from(size) * 10_000;
            let total = u64::try_from(full + full * permille / 1_000).unwrap();
            let gauge = Gauge { metric: Metric::InFlight, total, unmeasured: 0, target: 10_000 };
            let need = need(&scale, &Measured { size, ready: size, gauges: vec![gauge] });
            let now = Timestamp(1_000_000 + i as u64 * 2_000);
            prop_assert_eq!(Watch::default().step(&scale, size, need, true, now), None);
        }
    }

    #[test]
    fn what_is_remembered_is_little_and_changes_rarely(load in vec(0_u64..120, 1..600)) {
        let scale = scale(1, 100);
        let mut watch = Watch::default();
        let mut changes = Vec::new();
        for (i, load) in load.iter().enumerate() {
            // A look every tenth of a second.
            let now = Timestamp(1_000_000 + i as u64 * 100);
            let need = need(&scale, &pool(10, 10, *load, 0));
            if let Some(step) = watch.step(&scale, 10, need, true, now) {
                watch = step.watch;
                changes.push(now);
            }
        }
        prop_assert!(changes.windows(2).all(|pair| pair[1].since(pair[0]) >= INTERVAL));
        prop_assert!(serde_json::to_string(&watch).unwrap().len() < 300);
    }
}
