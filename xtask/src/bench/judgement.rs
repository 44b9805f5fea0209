//! What the judgement costs: a batch of a thousand rollouts with three tracks each, beside the ten
//! seconds in which it has to be done.

use std::hint::black_box;
use std::time::{Duration, Instant};

use evenkeel_kernel::analysis::{Batch, Case, Evidence, Tally, Track};
use evenkeel_kernel::model::Tolerance;

/// Rollouts that are judged at once.
const ROLLOUTS: usize = 1_000;
/// Instances of each canary.
const CANARIES: usize = 10;
/// Batches that are measured.
const BATCHES: u32 = 100;
/// How often each of them has to be done.
const EVERY: Duration = Duration::from_secs(10);

pub(super) fn run() {
    println!("\njudgement: {ROLLOUTS} rollouts, {} tracks each", Track::ALL.len());
    let tolerance = Tolerance(2_000);
    let tally = |requests, bad| Tally { requests, bad };
    let mut evidence = vec![[(); Track::ALL.len()].map(|()| Evidence::default()); ROLLOUTS];
    let lately = [tally(1_000, 5); CANARIES];
    let began = Instant::now();
    let mut found = 0_u64;
    for number in 0..u64::from(BATCHES) {
        // A bad event on both sides in every batch: the dearest case.
        let batch = Batch { canary: tally(500, 1 + number % 2), stable: tally(9_500, 10) };
        for rollout in &mut evidence {
            for (track, evidence) in Track::ALL.iter().zip(rollout) {
                evidence.gather(black_box(batch), track.tolerance(tolerance));
                let stable = tally(100_000, 100);
                let case = Case { track: *track, evidence, tolerance, canary: &lately, stable };
                found += u64::from(black_box(case.finding()).is_some());
            }
        }
    }
    let each = began.elapsed() / BATCHES;
    let part = each.as_secs_f64() / EVERY.as_secs_f64() * 100.0;
    println!("  one batch             {:>7.2} ms", each.as_secs_f64() * 1_000.0);
    println!("  every {} s            {part:>7.3} % of a core (aim 1 %)", EVERY.as_secs());
    println!("  findings              {found:>7}");
}
