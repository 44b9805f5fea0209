//! How many retries a service may have under way: a fifth of its requests, at least three.
//!
//! A retry beyond that is not refused at once but waits for its turn: an instance that dies gives
//! back all its requests in one moment, and each of them can still be answered.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use crate::limits::RETRY_WAIT;

/// Retries under way that are always allowed.
const ALWAYS: u32 = 3;
/// One retry per this many requests in flight.
const PER: u32 = 5;

/// The retries of one service.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    under_way: AtomicU32,
    returned: Notify,
}

/// The right to one retry; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(std::sync::Arc<Budget>);

impl Budget {
    /// A permit, if there is one left beside `in_flight` requests.
    pub(crate) fn take(self: &std::sync::Arc<Self>, in_flight: u32) -> Option<Permit> {
        let limit = (in_flight / PER).max(ALWAYS);
        let more = |n: u32| (n < limit).then_some(n + 1);
        self.under_way.try_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Permit(std::sync::Arc::clone(self)))
    }

    /// A permit, as soon as there is one; `None` when that takes too long.
    pub(crate) async fn wait(
        self: &std::sync::Arc<Self>,
        in_flight: impl Fn() -> u32,
    ) -> Option<Permit> {
        let turn = async {
            loop {
                let returned = self.returned.notified();
                if let Some(permit) = self.take(in_flight()) {
                    return permit;
                }
                returned.await;
            }
        };
        tokio::time::timeout(RETRY_WAIT, turn).await.ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_fifth_of_the_requests_at_least_three() {
        let budget = Arc::new(Budget::default());
        let few: Vec<_> = (0..5).filter_map(|_| budget.take(4)).collect();
        assert_eq!(few.len(), 3);
        let many: Vec<_> = (0..50).filter_map(|_| budget.take(100)).collect();
        assert_eq!(many.len(), 17, "20 of 100, three are taken");
        drop((few, many));
        assert!(budget.take(0).is_some());
    }
}
