//! A service that is held: its requests wait, until somebody says otherwise or its time is over.
//!
//! It lives beside the tables and not in them, so that a request that was routed by the table before
//! still sees it when it has claimed its instance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_kernel::model::Hold;
use tokio::time::Instant;

use crate::clock::{ms, now_ms};

/// Whether one service is held.
///
/// Whoever ordered it may be gone, so it ends by the edge's own clock. An edge that has just started
/// counts from its start.
#[derive(Debug, Default)]
pub(crate) struct Held {
    number: AtomicU64,
    /// Until then; zero: not at all.
    until_ms: AtomicU64,
}

impl Held {
    /// Does as a table orders that is about to be served. The same hold goes on, another begins
    /// anew.
    pub(crate) fn follow(&self, order: Option<Hold>) {
        let Some(order) = order else { return self.until_ms.store(0, Ordering::SeqCst) };
        let is_there = self.until_ms.load(Ordering::SeqCst) > 0;
        if !is_there || self.number.load(Ordering::Relaxed) != order.number {
            self.number.store(order.number, Ordering::Relaxed);
            let until = now_ms() + ms(order.lasts.min(Hold::LASTS_MAX));
            self.until_ms.store(until, Ordering::SeqCst);
        }
    }

    /// Until when requests wait; `None`: they need not.
    pub(crate) fn until(&self) -> Option<Instant> {
        let until = self.until_ms.load(Ordering::SeqCst);
        if until == 0 {
            return None;
        }
        let left = until.checked_sub(now_ms()).filter(|left| *left > 0)?;
        Some(Instant::now() + Duration::from_millis(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64, seconds: u64) -> Option<Hold> {
        Some(Hold { number, lasts: Duration::from_secs(seconds) })
    }

    #[test]
    fn the_same_hold_goes_on_and_another_begins_anew() {
        let held = Held::default();
        assert_eq!(held.until(), None);
        let until_after = |it| {
            held.follow(it);
            held.until_ms.load(Ordering::SeqCst)
        };
        let first = until_after(order(1, 1));
        assert_eq!(until_after(order(1, 50)), first);
        assert!(until_after(order(2, 50)) > first + 40_000);
        assert_eq!((until_after(None), held.until()), (0, None));
        assert!(until_after(order(2, 50)) > 0);
    }

    #[test]
    fn it_ends_by_itself_and_never_lasts_longer_than_a_hold_may() {
        let held = Held::default();
        held.follow(order(1, 0));
        assert_eq!(held.until(), None);
        held.follow(order(2, 10_000));
        assert!(held.until().unwrap() <= Instant::now() + Hold::LASTS_MAX);
    }
}
