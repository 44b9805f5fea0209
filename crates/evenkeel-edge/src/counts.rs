//! What is counted of a pool: one block of cells per thread, written by that thread alone and
//! added up when somebody asks.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use evenkeel_kernel::routing::Slow;
use evenkeel_kernel::world::{Counts, latency_bounds};

use crate::limits::STREAK;

static BOUNDS: LazyLock<Vec<u64>> = LazyLock::new(latency_bounds);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Answered to its last byte, with this status.
    Status(u16),
    /// No connection to the instance.
    ConnectFailure,
    /// The instance closed the connection before or within its answer.
    Reset,
    /// The answer did not begin in time.
    Timeout,
    /// The client went away first.
    ClientGone,
}

impl Ending {
    /// Whether the pool is to blame.
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Self::Status(status) => status >= 500,
            Self::ConnectFailure | Self::Reset | Self::Timeout => true,
            Self::ClientGone => false,
        }
    }
}

/// How fast an answer was, beside those of the stable revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    /// As most.
    Usual,
    /// Slower than its middle.
    Slower,
    /// Slower than almost all.
    Slow,
}

impl Pace {
    pub(crate) fn of(took: Duration, slow: &Slow) -> Self {
        match u64::try_from(took.as_micros()).unwrap_or(u64::MAX) {
            us if us > slow.tail_us => Self::Slow,
            us if us > slow.middle_us => Self::Slower,
            _ => Self::Usual,
        }
    }
}

/// The cells of one thread, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Cells {
    requests: AtomicU64,
    statuses: [AtomicU64; 5],
    connect_failures: AtomicU64,
    resets: AtomicU64,
    timeouts: AtomicU64,
    retries: AtomicU64,
    retries_unsent: AtomicU64,
    client_gone: AtomicU64,
    mirrored: AtomicU64,
    mirrored_failed: AtomicU64,
    warm: AtomicU64,
    slow_tail: AtomicU64,
    slow_middle: AtomicU64,
    latency: Box<[AtomicU64]>,
}

impl Cells {
    fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            statuses: [const { AtomicU64::new(0) }; 5],
            connect_failures: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            retries_unsent: AtomicU64::new(0),
            client_gone: AtomicU64::new(0),
            mirrored: AtomicU64::new(0),
            mirrored_failed: AtomicU64::new(0),
            warm: AtomicU64::new(0),
            slow_tail: AtomicU64::new(0),
            slow_middle: AtomicU64::new(0),
            latency: (0..=BOUNDS.len()).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// Everything counted of one pool.
#[derive(Debug)]
pub(crate) struct PoolCounts {
    threads: Box<[Cells]>,
    turn: AtomicUsize,
    failed_in_a_row: AtomicU32,
    failed_streaks: AtomicU64,
    ejections: AtomicU64,
}

impl PoolCounts {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads.max(1)).map(|_| Cells::new()).collect(),
            turn: AtomicUsize::new(0),
            failed_in_a_row: AtomicU32::new(0),
            failed_streaks: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
        }
    }

    /// Counts that an instance was taken out.
    pub(crate) fn ejected(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Tries that were made again, by why they failed.
    pub(crate) fn retries(&self) -> [(&'static str, u64); 2] {
        let sum = |of: fn(&Cells) -> &AtomicU64| {
            self.threads.iter().map(|cells| of(cells).load(Ordering::Relaxed)).sum::<u64>()
        };
        let (all, unsent) = (sum(|it| &it.retries), sum(|it| &it.retries_unsent));
        [("unsent", unsent), ("lost", all.saturating_sub(unsent))]
    }

    /// Requests that have ended.
    pub(crate) fn ended_so_far(&self) -> u64 {
        self.threads.iter().map(|cells| cells.requests.load(Ordering::Relaxed)).sum()
    }

    /// Counts the end of one request. Returns whether it completed a streak of failures.
    pub(crate) fn ended(&self, thread: usize, ending: Ending) -> bool {
        let Some(cells) = self.threads.get(thread) else { return false };
        add(&cells.requests);
        match ending {
            Ending::Status(status) => add(&cells.statuses[class(status)]),
            Ending::ConnectFailure => add(&cells.connect_failures),
            Ending::Reset => add(&cells.resets),
            Ending::Timeout => add(&cells.timeouts),
            Ending::ClientGone => add(&cells.client_gone),
        }
        if ending != Ending::ClientGone { self.streak(ending.is_failure()) } else { false }
    }

    /// Counts a copy of a request, which is no request.
    pub(crate) fn mirrored(&self, thread: usize, well: bool) {
        let Some(cells) = self.threads.get(thread) else { return };
        add(&cells.mirrored);
        if !well {
            add(&cells.mirrored_failed);
        }
    }

    /// Copies so far, and how many of them failed.
    #[expect(dead_code, reason = "the metrics read it")]
    pub(crate) fn mirrors(&self) -> (u64, u64) {
        let sum = |of: fn(&Cells) -> &AtomicU64| {
            self.threads.iter().map(|cells| of(cells).load(Ordering::Relaxed)).sum()
        };
        (sum(|cells| &cells.mirrored), sum(|cells| &cells.mirrored_failed))
    }

    /// Whose turn it is, where instances take turns.
    pub(crate) fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a try that failed and is made again.
    pub(crate) fn retried(&self, thread: usize, sent: bool) {
        if let Some(cells) = self.threads.get(thread) {
            add(&cells.retries);
            if !sent {
                add(&cells.retries_unsent);
            }
        }
    }

    /// Counts how long the first byte of an answer took.
    pub(crate) fn answered_after(&self, thread: usize, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound <= us);
        if let Some(cell) = self.threads.get(thread).and_then(|cells| cells.latency.get(bucket)) {
            add(cell);
        }
    }

    /// Counts how slow an answer was that counts for slowness.
    pub(crate) fn warm(&self, thread: usize, pace: Pace) {
        let Some(cells) = self.threads.get(thread) else { return };
        add(&cells.warm);
        if pace >= Pace::Slower {
            add(&cells.slow_middle);
        }
        if pace >= Pace::Slow {
            add(&cells.slow_tail);
        }
    }

    fn streak(&self, failed: bool) -> bool {
        if !failed {
            // Read first: a shared line that nobody writes costs nothing.
            if self.failed_in_a_row.load(Ordering::Relaxed) != 0 {
                self.failed_in_a_row.store(0, Ordering::Relaxed);
            }
            return false;
        }
        if self.failed_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 < STREAK {
            return false;
        }
        self.failed_in_a_row.store(0, Ordering::Relaxed);
        self.failed_streaks.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// All threads together.
    pub(crate) fn read(&self, in_flight: u64) -> Counts {
        let mut sum = Counts {
            in_flight,
            failed_streaks: self.failed_streaks.load(Ordering::Relaxed),
            latency: vec![0; BOUNDS.len() + 1],
            ..Counts::default()
        };
        for cells in &self.threads {
            let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
            sum.requests += get(&cells.requests);
            sum.status_1xx += get(&cells.statuses[0]);
            sum.status_2xx += get(&cells.statuses[1]);
            sum.status_3xx += get(&cells.statuses[2]);
            sum.status_4xx += get(&cells.statuses[3]);
            sum.status_5xx += get(&cells.statuses[4]);
            sum.connect_failures += get(&cells.connect_failures);
            sum.resets += get(&cells.resets);
            sum.timeouts += get(&cells.timeouts);
            sum.retries += get(&cells.retries);
            sum.client_gone += get(&cells.client_gone);
            sum.warm += get(&cells.warm);
            sum.slow_tail += get(&cells.slow_tail);
            sum.slow_middle += get(&cells.slow_middle);
            for (total, cell) in sum.latency.iter_mut().zip(&cells.latency) {
                *total += get(cell);
            }
        }
        sum
    }
}

/// One more, by the only thread that writes this cell: no locked instruction is needed.
fn add(cell: &AtomicU64) {
    cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// The place of a status in `statuses`. What is outside 100–599 is nobody's success.
fn class(status: u16) -> usize {
    match status {
        0..200 => 0,
        200..300 => 1,
        300..400 => 2,
        400..500 => 3,
        500.. => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let counts = PoolCounts::new(2);
        counts.ended(0, Ending::Status(200));
        counts.ended(1, Ending::Status(204));
        counts.ended(1, Ending::Reset);
        counts.answered_after(1, Duration::from_micros(99));
        counts.answered_after(1, Duration::from_secs(1_000));
        let sum = counts.read(7);
        assert_eq!((sum.requests, sum.status_2xx, sum.resets, sum.in_flight), (3, 2, 1, 7));
        assert_eq!((sum.latency[0], sum.latency.last()), (1, Some(&1)));
    }

    #[test]
    fn ten_failures_in_a_row_are_one_streak() {
        let counts = PoolCounts::new(1);
        let fail = |n| (0..n).filter(|_| counts.ended(0, Ending::Status(503))).count();
        assert_eq!(fail(9), 0);
        counts.ended(0, Ending::ClientGone);
        assert_eq!(fail(1), 1);
        assert_eq!(fail(9), 0);
        counts.ended(0, Ending::Status(200));
        assert_eq!(fail(9), 0);
        assert_eq!(counts.read(0).failed_streaks, 1);
    }
}
