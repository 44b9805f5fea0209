//! Requests as clients see them, by the route they came by and the pool that answered: one block of
//! cells per thread, written by that thread alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_kernel::model::PoolId;

/// Upper bounds of the durations, in microseconds.
pub(crate) const BOUNDS_US: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// Classes of status codes, and those who got none.
pub(crate) const CODES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The counters of one route and pool.
#[derive(Debug)]
pub(crate) struct Requests {
    threads: Box<[Cells]>,
}

/// The cells of one thread, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cells {
    codes: [AtomicU64; CODES.len()],
    /// The last is everything slower.
    durations: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
    bytes: AtomicU64,
}

/// All threads together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) codes: [u64; CODES.len()],
    pub(crate) durations: [u64; BOUNDS_US.len() + 1],
    pub(crate) sum_us: u64,
    pub(crate) bytes: u64,
}

impl Requests {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: (0..threads.max(1)).map(|_| Cells::default()).collect() }
    }

    /// Counts the end of a request. `status` is 0 where none was sent.
    pub(crate) fn ended(&self, thread: usize, status: u16, took: Duration, bytes: u64) {
        let Some(cells) = self.threads.get(thread) else { return };
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let code = match status {
            0 => CODES.len() - 1,
            1..=199 => 0,
            200..=599 => usize::from(status / 100 - 1),
            600.. => CODES.len() - 2,
        };
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        for (cell, more) in [
            (cells.codes.get(code), 1),
            (cells.durations.get(bucket), 1),
            (Some(&cells.sum_us), us),
            (Some(&cells.bytes), bytes),
        ] {
            if let Some(cell) = cell {
                // Only this thread writes it, so no locked instruction is needed.
                cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn read(&self) -> Sum {
        let mut sum = Sum::default();
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for cells in &self.threads {
            for (sum, cell) in sum.codes.iter_mut().zip(&cells.codes) {
                *sum += get(cell);
            }
            for (sum, cell) in sum.durations.iter_mut().zip(&cells.durations) {
                *sum += get(cell);
            }
            sum.sum_us += get(&cells.sum_us);
            sum.bytes += get(&cells.bytes);
        }
        sum
    }
}

impl Sum {
    pub(crate) fn count(&self) -> u64 {
        self.codes.iter().sum()
    }
}

/// Those of one route: the pools it leads to, and what the edge answers itself.
#[derive(Debug)]
pub(crate) struct OfRoute {
    own: Arc<Requests>,
    pools: Vec<(PoolId, Arc<Requests>)>,
}

impl OfRoute {
    /// Those for these pools, which go on from the ones that were known.
    pub(crate) fn next<'p>(
        known: Option<&Self>,
        pools: impl Iterator<Item = &'p PoolId>,
        threads: usize,
    ) -> Self {
        let fresh = || Arc::new(Requests::new(threads));
        let pool = |id: &PoolId| {
            let known = known.and_then(|it| it.pools.iter().find(|(known, _)| known == id));
            (id.clone(), known.map_or_else(fresh, |(_, requests)| Arc::clone(requests)))
        };
        Self {
            own: known.map_or_else(fresh, |it| Arc::clone(&it.own)),
            pools: pools.map(pool).collect(),
        }
    }

    /// Those of a pool. One that the route did not lead to when the request came counts as the
    /// edge itself.
    pub(crate) fn of(&self, pool: Option<&PoolId>) -> &Requests {
        let found = self.pools.iter().find(|(id, _)| Some(id) == pool);
        found.map_or(&self.own, |(_, requests)| requests)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Option<&PoolId>, &Requests)> {
        let pools = self.pools.iter().map(|(id, it)| (Some(id), &**it));
        std::iter::once((None, &*self.own)).chain(pools)
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::RevisionNumber;

    use super::*;

    #[test]
    fn threads_add_up_by_code_and_duration() {
        let requests = Requests::new(2);
        requests.ended(0, 200, Duration::from_micros(900), 10);
        requests.ended(1, 204, Duration::from_micros(1_000), 5);
        requests.ended(1, 503, Duration::from_secs(70), 0);
        requests.ended(1, 0, Duration::ZERO, 0);
        requests.ended(9, 200, Duration::ZERO, 0);
        let sum = requests.read();
        assert_eq!((sum.codes, sum.bytes, sum.count()), ([0, 2, 0, 0, 1, 1], 15, 4));
        assert_eq!((sum.durations[0], sum.durations[15]), (3, 1));
    }

    #[test]
    fn a_pool_that_stays_is_counted_on() {
        let pool = |revision| PoolId::new(&"web".parse().unwrap(), RevisionNumber(revision));
        let first = OfRoute::next(None, [pool(1), pool(2)].iter(), 1);
        first.of(Some(&pool(2))).ended(0, 200, Duration::ZERO, 0);
        let second = OfRoute::next(Some(&first), [pool(2), pool(3)].iter(), 1);
        let counts: Vec<u64> = second.all().map(|(_, it)| it.read().count()).collect();
        assert_eq!(counts, [0, 1, 0]);
        second.of(Some(&pool(1))).ended(0, 200, Duration::ZERO, 0);
        assert_eq!(second.of(None).read().count(), 1);
    }
}
