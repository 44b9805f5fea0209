//! Instances whose answers fail far more often than those of the others are left out for a while:
//! first for 5 seconds, then for twice as long each time.
//!
//! Judged once a second by the answers of about the last ten. It needs others to compare with: what
//! fails everywhere is nobody's own fault.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_kernel::model::Weight;

use crate::clock::now_ms;
use crate::instance::Instance;
use crate::log;
use crate::shared::Shared;
use crate::table::Pool;

/// Time between two looks.
const LOOK_MS: u64 = 1_000;
/// Looks that count.
const LOOKS: usize = 10;
/// Answers below which an instance is not judged.
const ANSWERS_MIN: u64 = 20;
/// It fails at least this part of its requests (in hundredths), and at least so many times as often
/// as the others.
const FAILED_MIN: u64 = 20;
const TIMES_MIN: u64 = 2;
/// How long it is left out the first time, and at most.
const FIRST_MS: u64 = 5_000;
const MOST_MS: u64 = 300_000;

/// What is known of one instance.
#[derive(Debug, Default)]
pub(crate) struct Outlier {
    until_ms: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Answers and failures up to each of the last looks, oldest first.
    looks: Vec<(u64, u64)>,
    /// How often it was left out in a row.
    times: u32,
}

impl Outlier {
    /// Whether it is left out at this time.
    fn is_out(&self, now_ms: u64) -> bool {
        self.until_ms.load(Ordering::Relaxed) > now_ms
    }

    /// Whether it is left out now. Most never were, and need no clock.
    pub(crate) fn is_out_now(&self) -> bool {
        self.until_ms.load(Ordering::Relaxed) != 0 && self.is_out(now_ms())
    }

    /// Takes a look. Answers and failures of the last ones.
    fn look(&self, answers: u64, failures: u64) -> (u64, u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.looks.first().copied().unwrap_or_default();
        seen.looks.push((answers, failures));
        if seen.looks.len() > LOOKS {
            seen.looks.remove(0);
        }
        (answers - before.0, failures - before.1)
    }

    fn leave_out(&self, now_ms: u64) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let span = FIRST_MS.saturating_mul(1 << seen.times.min(10)).min(MOST_MS);
        seen.times = seen.times.saturating_add(1);
        // What it did before says nothing of how it comes back.
        let last = seen.looks.last().copied();
        seen.looks.clear();
        seen.looks.extend(last);
        self.until_ms.store(now_ms + span, Ordering::Relaxed);
        span
    }

    fn forgive(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.times = seen.times.saturating_sub(1);
    }
}

/// Looks again and again, for ever.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(LOOK_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let table = shared.table.load_full();
        for service in table.services.values().filter(|it| it.traffic.eject_max > Weight(0)) {
            for pool in &service.pools {
                look(pool, service.traffic.eject_max, now_ms());
            }
        }
    }
}

/// Looks at all instances of a pool. Returns whether somebody was left out.
pub(crate) fn look(pool: &Pool, most: Weight, now_ms: u64) -> bool {
    let judged: Vec<(&Instance, u64, u64)> = pool
        .instances
        .iter()
        .map(|it| {
            let (answers, failures) = it.tallies.answers();
            let (answers, failures) = it.outlier.look(answers, failures);
            (&**it, answers, failures)
        })
        .collect();
    let total = |of: fn(&(&Instance, u64, u64)) -> u64| judged.iter().map(of).sum::<u64>();
    let (answers, failures) = (total(|it| it.1), total(|it| it.2));
    let staying = pool.instances.iter().filter(|it| !it.is_draining()).count();
    let mut out = pool.instances.iter().filter(|it| it.outlier.is_out(now_ms)).count();
    // Of one instance nothing is left; of two the better one is.
    let room =
        (staying * usize::from(most.0) / usize::from(Weight::ALL.0)).min(staying.saturating_sub(1));
    let mut any = false;
    for (it, own, failed) in judged {
        if it.outlier.is_out(now_ms) || own < ANSWERS_MIN {
            continue;
        }
        let (others, others_failed) = (answers - own, failures - failed);
        let often = failed * 100 >= own * FAILED_MIN;
        // failed / own >= TIMES_MIN * others_failed / others
        let more = u128::from(failed) * u128::from(others)
            >= u128::from(TIMES_MIN) * u128::from(others_failed) * u128::from(own);
        if !often {
            it.outlier.forgive();
        } else if others >= ANSWERS_MIN && more && out < room {
            let span = it.outlier.leave_out(now_ms);
            pool.counts.ejected();
            log::warn(format_args!(
                "{} is left out for {} s: {failed} of {own} answers failed",
                it.id,
                span / 1_000
            ));
            out += 1;
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{pool, service_table};
    use crate::table::{Surroundings, Table};

    fn table(instances: usize) -> Table {
        let addrs = vec!["127.0.0.1:1".parse().unwrap(); instances];
        let source = service_table(1, vec![(1, Weight::ALL, pool(addrs))]);
        Table::default().next(source, &Surroundings::plain(), &|_| true)
    }

    fn web(table: &Table) -> &Pool {
        table.services.values().next().unwrap().pools.first().unwrap()
    }

    fn answers(pool: &Pool, failed: &[u64]) {
        for (it, failed) in pool.instances.iter().zip(failed) {
            (0..100).for_each(|n| it.tallies.tried(0, n < *failed));
        }
    }

    fn out(pool: &Pool, now_ms: u64) -> Vec<bool> {
        pool.instances.iter().map(|it| it.outlier.is_out(now_ms)).collect()
    }

    #[test]
    fn who_fails_alone_is_left_out_for_longer_each_time() {
        let table = table(4);
        let pool = web(&table);
        let half = Weight(5_000);
        answers(pool, &[0, 50, 0, 1]);
        assert!(look(pool, half, 1_000));
        assert_eq!(out(pool, 5_999), [false, true, false, false]);
        assert_eq!(out(pool, 6_000), [false; 4]);
        answers(pool, &[0, 50, 0, 1]);
        assert!(look(pool, half, 7_000));
        assert!(out(pool, 16_999)[1] && !out(pool, 17_000)[1]);
    }

    #[test]
    fn what_fails_everywhere_leaves_nobody_out_and_half_always_stay() {
        let table = table(4);
        let pool = web(&table);
        answers(pool, &[50, 50, 50, 50]);
        assert!(!look(pool, Weight(5_000), 1_000));
        answers(pool, &[0, 100, 100, 100]);
        look(pool, Weight(5_000), 2_000);
        assert!(out(pool, 2_001).iter().filter(|it| **it).count() <= 2);
        assert!(!look(pool, Weight(0), 900_000));
    }

    #[test]
    fn of_few_answers_nothing_is_said() {
        let table = table(2);
        let pool = web(&table);
        (0..19).for_each(|_| pool.instances[0].tallies.tried(0, true));
        (0..100).for_each(|_| pool.instances[1].tallies.tried(0, false));
        assert!(!look(pool, Weight(5_000), 1_000));
    }
}
