//! Fresh seeds, the seeds that once failed, and the planted design errors.

use super::*;

mod scenarios;

/// Fresh seeds that run with every test; `evenkeel-sim run` takes as many as one likes.
const SEEDS: u64 = 400;

/// A seed by which each planted error is found.
const PLANTED: [(Bug, u64); 10] = [
    (Bug::NoFencing, 1),
    (Bug::SlotsReused, 19),
    (Bug::TrustJournal, 0),
    (Bug::ActBeforeCommit, 0),
    (Bug::RandomNames, 0),
    (Bug::UnknownIsEmpty, 4),
    (Bug::RollbackInContract, 21),
    (Bug::CachedWorld, 0),
    (Bug::NoStopPrecondition, 454),
    (Bug::NoStoreFence, 1),
];

fn check(seed: u64) {
    let report = run(seed, None, false);
    if let Some(violation) = report.violation {
        panic!("seed {seed}: {violation}\n  evenkeel-sim replay {seed} -v");
    }
}

#[test]
fn s01_s02_fresh_seeds_hold() {
    (0..SEEDS).for_each(check);
}

#[test]
fn seeds_that_once_failed_hold() {
    let corpus = include_str!("../seeds.txt");
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let seed = line.split_whitespace().next().and_then(|text| text.parse().ok());
        check(seed.expect("a line begins with its seed"));
    }
}

#[test]
fn every_planted_error_is_found_by_its_seed() {
    for (bug, seed) in PLANTED {
        assert!(run(seed, Some(bug), false).violation.is_some(), "{bug} by seed {seed}");
        check(seed);
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in [3, 11, 19] {
        let (one, two) = (run(seed, None, true), run(seed, None, true));
        assert_eq!(one.story, two.story);
        assert!(!one.story.is_empty());
    }
}
