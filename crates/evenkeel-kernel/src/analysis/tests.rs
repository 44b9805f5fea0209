//! What the evidence says of plain cases, and that it keeps its promise over all of them.

use super::*;
use crate::model::Tolerance;

const TWICE: Tolerance = Tolerance(2_000);

fn batch(canary: (u64, u64), stable: (u64, u64)) -> Batch {
    let tally = |(requests, bad)| Tally { requests, bad };
    Batch { canary: tally(canary), stable: tally(stable) }
}

/// Batches of one kind until it is enough, at most so many.
fn batches_until_enough(evidence: &mut Evidence, each: Batch, most: u32) -> Option<u32> {
    (1..=most).find(|_| {
        evidence.gather(each, TWICE);
        evidence.is_enough(Track::Errors.alpha())
    })
}

#[test]
fn the_expectation_of_e_never_exceeds_one() {
    // Every outcome of two batches, with its probability at the edge of what is tolerated.
    let (n_c, n_s) = (50, 150);
    let share = 2.0 * 50.0 / (2.0 * 50.0 + 150.0);
    let likely = |bad_canary: u64, total: u64| {
        let choose = (0..bad_canary).fold(1.0, |product, i| {
            product * f64::from(u32::try_from(total - i).unwrap())
                / f64::from(u32::try_from(i + 1).unwrap())
        });
        let power = |base: f64, n: u64| base.powi(i32::try_from(n).unwrap());
        choose * power(share, bad_canary) * power(1.0 - share, total - bad_canary)
    };
    let (mut expected, mut probability) = (0.0, 0.0);
    for first in 0..=3 {
        for second in 0..=4 {
            let mut evidence = Evidence::default();
            evidence.gather(batch((n_c, first), (n_s, 3 - first)), TWICE);
            evidence.gather(batch((n_c, second), (n_s, 4 - second)), TWICE);
            let chance = likely(first, 3) * likely(second, 4);
            probability += chance;
            expected += chance * evidence.log_e().exp();
        }
    }
    assert!((probability - 1.0).abs() < 1e-9, "{probability}");
    assert!((expected - 1.0).abs() < 1e-3, "{expected}");
}

#[test]
fn what_hits_both_sides_is_no_evidence() {
    let mut evidence = Evidence::default();
    assert_eq!(batches_until_enough(&mut evidence, batch((50, 20), (950, 380)), 1_000), None);
}

#[test]
fn silence_is_no_evidence() {
    let mut evidence = Evidence::default();
    assert!(!evidence.gather(batch((0, 0), (1_000, 10)), TWICE));
    assert!(!evidence.gather(batch((10, 5), (0, 0)), TWICE));
    assert!(!evidence.gather(batch((10, 0), (1_000, 0)), TWICE));
    assert_eq!(evidence, Evidence::default());
    assert!(evidence.log_e().abs() < 1e-9);
}

#[test]
fn a_revision_that_turns_bad_late_is_found_as_soon_as_one_that_is_bad_from_the_start() {
    let (well, bad) = (batch((50, 0), (950, 1)), batch((50, 1), (950, 1)));
    let mut fresh = Evidence::default();
    let soon = batches_until_enough(&mut fresh, bad, 100).unwrap();
    let mut late = Evidence::default();
    for _ in 0..400 {
        late.gather(well, TWICE);
    }
    let then = batches_until_enough(&mut late, bad, 100).unwrap();
    assert!(soon <= 7 && then <= soon * 3, "{soon} and {then}");
}

#[test]
fn it_counts_only_what_matters_and_is_shared() {
    let mut evidence = Evidence::default();
    for _ in 0..100 {
        evidence.gather(batch((100, 5), (1_000, 1)), TWICE);
    }
    let tally = |requests, bad| Tally { requests, bad };
    let stable = tally(10_000, 10);
    let finding = |canary: &[Tally]| {
        let (track, tolerance) = (Track::Errors, TWICE);
        Case { track, evidence: &evidence, tolerance, canary, stable }.finding()
    };
    let found = finding(&[tally(500, 25), tally(500, 20)]).unwrap();
    assert_eq!(
        found.to_string(),
        "4.5 % of the tries on it fail, beside 0.10 %; the odds against chance are over a million to 1"
    );
    assert!(finding(&[tally(500, 25)]).is_some(), "a single one is judged by itself");
    assert!(finding(&[tally(500, 25), tally(500, 0)]).is_none(), "one odd instance of two");
    assert!(finding(&[tally(500, 25), tally(500, 25), tally(500, 0)]).is_some());
    assert!(finding(&[tally(100_000, 150), tally(100_000, 150)]).is_none(), "too little to matter");
    assert!(finding(&[tally(500, 0), tally(500, 0)]).is_none(), "it is over");
}

#[test]
fn silence_needs_enough_requests_to_mean_something() {
    let needed = |requests, bad| requests_needed(Tally { requests, bad });
    assert_eq!(
        [needed(0, 0), needed(10_000, 0), needed(10_000, 20), needed(100, 50)],
        [1_000, 1_000, 500, 100]
    );
}

#[test]
fn evidence_survives_being_written_down() {
    let mut evidence = Evidence::default();
    evidence.gather(batch((50, 1), (950, 1)), TWICE);
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
}
