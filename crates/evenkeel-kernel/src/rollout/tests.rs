//! Strategies as tables: a situation in, a target out.

use std::time::Duration;

use super::*;
use crate::model::Share;

fn rolling(surge: u32, unavailable: u32) -> Strategy {
    Strategy::Rolling { max_surge: Share::Count(surge), max_unavailable: Share::Count(unavailable) }
}

/// Plays a rollout of `replicas` to its end in a world where everything works at once, and writes
/// one line per decision: old/new sizes and the weight of the new revision.
fn play(strategy: &Strategy, replicas: u32) -> String {
    let full = Side { size: replicas, ready: replicas, broken: 0, occupied: replicas };
    let mut now = Situation { replicas, old: full, new: Side::default(), weight: Weight::NONE };
    let mut lines = Vec::new();
    for step in 0..steps(strategy, false) {
        for _ in 0..100 {
            let to = target(strategy, step, &now);
            let side = |size| Side { size, ready: size, broken: 0, occupied: size };
            lines.push(format!("{}+{} {}", to.old, to.new, to.weight));
            now = Situation { replicas, old: side(to.old), new: side(to.new), weight: to.weight };
            if target(strategy, step, &now).reached {
                break;
            }
        }
    }
    lines.dedup();
    lines.join(", ")
}

#[test]
fn rolling_never_leaves_its_bounds() {
    assert_eq!(
        play(&rolling(1, 0), 3),
        "3+1 0 %, 2+1 33.33 %, 2+2 33.33 %, 1+2 66.66 %, 1+3 66.66 %, 1+3 100 %"
    );
    assert_eq!(play(&rolling(3, 0), 3), "3+3 0 %, 3+3 100 %");
    assert_eq!(play(&rolling(0, 1), 2), "1+0 0 %, 1+1 0 %, 0+1 100 %, 0+2 100 %");
}

#[test]
fn d09_rolling_waits_for_readiness_before_it_takes_anything_away() {
    let now = Situation {
        replicas: 4,
        old: Side { size: 4, ready: 4, broken: 0, occupied: 4 },
        new: Side { size: 1, ready: 0, broken: 0, occupied: 1 },
        weight: Weight::NONE,
    };
    let to = target(&rolling(1, 0), 0, &now);
    assert_eq!((to.old, to.new, to.weight, to.reached), (4, 1, Weight::NONE, false));
}

#[test]
fn rolling_replaces_broken_old_instances_first() {
    let now = Situation {
        replicas: 4,
        old: Side { size: 4, ready: 2, broken: 2, occupied: 4 },
        new: Side { size: 1, ready: 0, broken: 0, occupied: 1 },
        weight: Weight::NONE,
    };
    assert_eq!(target(&rolling(1, 0), 0, &now).old, 2);
}

#[test]
fn rolling_stands_still_while_an_edge_that_has_just_started_knows_nobody() {
    let unknown = |size| Side { size, ready: 0, broken: 0, occupied: size };
    let now = Situation { replicas: 4, old: unknown(3), new: unknown(2), weight: Weight(4_000) };
    let to = target(&rolling(1, 0), 0, &now);
    assert_eq!((to.old, to.new, to.weight), (3, 2, Weight(4_000)));
}

#[test]
fn a_rollout_repairs_a_service_that_is_broken_altogether() {
    let broken = Side { size: 4, ready: 0, broken: 4, occupied: 4 };
    let new = Side { size: 1, ready: 1, broken: 0, occupied: 1 };
    let now = Situation { replicas: 4, old: broken, new, weight: Weight::NONE };
    let to = target(&rolling(1, 0), 0, &now);
    assert_eq!((to.old, to.weight), (1, Weight::ALL));
}

#[test]
fn a_canary_grows_with_its_steps_and_leaves_the_old_pool_whole() {
    let step = |exposure| Step { exposure, bake: Duration::from_secs(1), gate: None };
    let strategy = Strategy::Canary {
        steps: vec![
            step(Exposure::Weight(Weight(100))),
            step(Exposure::Weight(Weight(2_500))),
            step(Exposure::Instances(3)),
        ],
    };
    assert_eq!(
        play(&strategy, 8),
        "8+2 0 %, 8+2 1 %, 8+2 25 %, 8+3 25 %, 8+3 27.27 %, 8+8 27.27 %, 8+8 100 %"
    );
}

#[test]
fn a_canary_of_a_service_that_sleeps_has_no_instances() {
    for exposure in [Exposure::Instances(3), Exposure::Weight(Weight(2_500))] {
        assert_eq!(size(exposure, 0), 0);
        assert_eq!(size(exposure, 1), 1);
    }
}

#[test]
fn blue_green_switches_once() {
    assert_eq!(play(&Strategy::BlueGreen { preview: None }, 4), "4+4 0 %, 4+4 100 %");
}

#[test]
fn d15_going_back_rebuilds_by_a_third_at_least() {
    let mut now = Situation {
        replicas: 9,
        old: Side::default(),
        new: Side { size: 9, ready: 9, broken: 0, occupied: 9 },
        weight: Weight::ALL,
    };
    let mut lines = Vec::new();
    for _ in 0..10 {
        let to = back(&rolling(1, 0), &now);
        let side = |size| Side { size, ready: size, broken: 0, occupied: size };
        lines.push(format!("{}+{} {}", to.old, to.new, to.weight));
        now = Situation { replicas: 9, old: side(to.old), new: side(to.new), weight: to.weight };
    }
    lines.dedup();
    assert_eq!(
        lines.join(", "),
        "3+9 100 %, 3+6 66.67 %, 6+6 66.67 %, 6+3 33.34 %, 9+3 33.34 %, 9+3 0 %"
    );
}
