//! What one instance counted: all of it, and lately.
//!
//! Lately is the last window and the one that is being filled. A window lasts a minute, and longer
//! where that is few requests, so that it always holds enough to say something of one instance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use evenkeel_kernel::analysis::Tally;
use evenkeel_kernel::world::Lately;

use crate::counts::Pace;

/// How long a window lasts at least.
const WINDOW_MS: u64 = 60_000;
/// And how many requests it holds at least.
const WINDOW_REQUESTS: u64 = 1_000;

/// The counters of one instance.
#[derive(Debug)]
pub(crate) struct Tallies {
    threads: Box<[Cells]>,
    windows: Mutex<Windows>,
}

/// The cells of one thread, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cells {
    requests: AtomicU64,
    failed: AtomicU64,
    warm: AtomicU64,
    slow_tail: AtomicU64,
    slow_middle: AtomicU64,
}

#[derive(Debug, Default)]
struct Windows {
    /// When the window that is being filled began, and what had been counted by then.
    since_ms: u64,
    mark: Lately,
    last: Lately,
}

impl Tallies {
    pub(crate) fn new(threads: usize, now_ms: u64) -> Self {
        Self {
            threads: (0..threads.max(1)).map(|_| Cells::default()).collect(),
            windows: Mutex::new(Windows { since_ms: now_ms, ..Windows::default() }),
        }
    }

    /// Counts a try.
    pub(crate) fn tried(&self, thread: usize, failed: bool) {
        let Some(cells) = self.threads.get(thread) else { return };
        cells.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            cells.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tries so far, and how many of them failed.
    pub(crate) fn answers(&self) -> (u64, u64) {
        let sum = |of: fn(&Cells) -> &AtomicU64| {
            self.threads.iter().map(|cells| of(cells).load(Ordering::Relaxed)).sum()
        };
        (sum(|cells| &cells.requests), sum(|cells| &cells.failed))
    }

    /// Counts how slow an answer was that counts for slowness.
    pub(crate) fn warm(&self, thread: usize, pace: Pace) {
        let Some(cells) = self.threads.get(thread) else { return };
        cells.warm.fetch_add(1, Ordering::Relaxed);
        if pace >= Pace::Slower {
            cells.slow_middle.fetch_add(1, Ordering::Relaxed);
        }
        if pace >= Pace::Slow {
            cells.slow_tail.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted lately.
    pub(crate) fn lately(&self, now_ms: u64) -> Lately {
        let all = self.all();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = since(all, windows.mark);
        let old = now_ms.saturating_sub(windows.since_ms) >= WINDOW_MS;
        if old && filled.errors.requests >= WINDOW_REQUESTS {
            *windows = Windows { since_ms: now_ms, mark: all, last: filled };
            return filled;
        }
        together(windows.last, filled)
    }

    fn all(&self) -> Lately {
        let mut all = Lately::default();
        for cells in &self.threads {
            let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
            let warm = get(&cells.warm);
            let tally = |requests, bad| Tally { requests, bad };
            let errors = tally(get(&cells.requests), get(&cells.failed));
            let slow_tail = tally(warm, get(&cells.slow_tail));
            let slow_middle = tally(warm, get(&cells.slow_middle));
            all = together(all, Lately { errors, slow_tail, slow_middle });
        }
        all
    }
}

fn together(one: Lately, other: Lately) -> Lately {
    Lately {
        errors: one.errors.plus(other.errors),
        slow_tail: one.slow_tail.plus(other.slow_tail),
        slow_middle: one.slow_middle.plus(other.slow_middle),
    }
}

fn since(now: Lately, before: Lately) -> Lately {
    Lately {
        errors: now.errors.since(before.errors),
        slow_tail: now.slow_tail.since(before.slow_tail),
        slow_middle: now.slow_middle.since(before.slow_middle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lately_is_a_minute_or_two_and_longer_where_little_happens() {
        let tallies = Tallies::new(2, 0);
        let ask = |count: u32, failed: bool| (0..count).for_each(|_| tallies.tried(1, failed));
        let lately = |now_ms| {
            let Tally { requests, bad } = tallies.lately(now_ms).errors;
            (requests, bad)
        };
        ask(900, true);
        assert_eq!(lately(10 * WINDOW_MS), (900, 900), "too few to begin another window");
        ask(200, false);
        assert_eq!(lately(10 * WINDOW_MS), (1_100, 900));
        ask(2_000, false);
        assert_eq!(lately(10 * WINDOW_MS + 1), (3_100, 900), "the last window still counts");
        assert_eq!(lately(11 * WINDOW_MS), (2_000, 0));
        assert_eq!(lately(30 * WINDOW_MS), (2_000, 0));
    }

    #[test]
    fn slow_answers_count_in_both_tracks() {
        let tallies = Tallies::new(1, 0);
        for pace in [Pace::Usual, Pace::Slower, Pace::Slow] {
            tallies.warm(0, pace);
        }
        let lately = tallies.lately(1);
        assert_eq!(lately.slow_tail, Tally { requests: 3, bad: 1 });
        assert_eq!(lately.slow_middle, Tally { requests: 3, bad: 2 });
    }
}
