//! Requests that wait try an instance that could not be reached: one at a time, with a pause after
//! each failure; and not all at once when it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::now_ms;
use crate::instance::Instance;
use crate::queue::Queue;

/// Time after a failure in which nobody tries again. A process takes longer to start.
const PAUSE_MS: u64 = 50;
/// Connections that waiting requests open at a time to an instance that is back: below the 128
/// that many listeners can hold before they accept.
const AT_ONCE: u32 = 32;

/// What waiting requests know of one instance.
#[derive(Debug, Default)]
pub(crate) struct Knocks {
    /// From when on it may be tried again. Zero: it is not known to be out of reach.
    next_ms: AtomicU64,
    under_way: AtomicU32,
}

impl Knocks {
    /// Notes that it could not be reached, or broke off.
    pub(crate) fn failed(&self, now_ms: u64) {
        // A pause that lasts is not made longer: others fail all the time while it is away.
        if self.next_ms.load(Ordering::Relaxed) <= now_ms {
            self.next_ms.store(now_ms + PAUSE_MS, Ordering::Relaxed);
        }
    }

    /// Notes that it was reached. Returns whether that is news.
    pub(crate) fn reached(&self) -> bool {
        self.is_out_of_reach() && self.next_ms.swap(0, Ordering::Relaxed) != 0
    }

    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.next_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether a waiting request may try it now.
    pub(crate) fn is_free(&self, now_ms: u64) -> bool {
        let next = self.next_ms.load(Ordering::Relaxed);
        now_ms >= next && self.under_way.load(Ordering::Relaxed) < at_once(next)
    }
}

fn at_once(next_ms: u64) -> u32 {
    if next_ms == 0 { AT_ONCE } else { 1 }
}

/// A waiting request on its way to an instance, until it is connected or has failed.
#[derive(Debug)]
pub(crate) struct Knock {
    instance: Arc<Instance>,
    queue: Arc<Queue>,
}

impl Knock {
    /// Lets a request of `queue` try the instance, unless others are at it.
    pub(crate) fn at(instance: &Arc<Instance>, queue: &Arc<Queue>) -> Option<Self> {
        let knocks = &instance.knocks;
        let next = knocks.next_ms.load(Ordering::Relaxed);
        let more = |n: u32| (n < at_once(next)).then_some(n + 1);
        if now_ms() < next {
            return None;
        }
        knocks.under_way.try_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Self { instance: Arc::clone(instance), queue: Arc::clone(queue) })
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        let knocks = &self.instance.knocks;
        knocks.under_way.fetch_sub(1, Ordering::AcqRel);
        if !knocks.is_out_of_reach() {
            self.queue.wake_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Surroundings;

    fn knocks(instance: &Arc<Instance>, queue: &Arc<Queue>) -> usize {
        let taken: Vec<_> = (0..100).filter_map(|_| Knock::at(instance, queue)).collect();
        assert!(!instance.knocks.is_free(now_ms()));
        taken.len()
    }

    #[test]
    fn one_at_a_time_while_it_is_away_and_some_when_it_is_back() {
        let addr = "127.0.0.1:1".parse().unwrap();
        let id = "web.r1.1".parse().unwrap();
        let instance = Arc::new(Instance::new(id, addr, true, &Surroundings::plain()));
        let queue = Arc::default();
        instance.knocks.failed(now_ms());
        assert_eq!(knocks(&instance, &queue), 0);
        instance.knocks.next_ms.store(1, Ordering::Relaxed);
        assert_eq!(knocks(&instance, &queue), 1);
        assert!(instance.knocks.reached());
        assert!(!instance.knocks.reached());
        assert_eq!(knocks(&instance, &queue), 32);
    }

    #[test]
    fn a_pause_ends_however_many_fail() {
        let it = Knocks::default();
        for now in 1_000..1_050 {
            it.failed(now);
            assert!(!it.is_free(now));
        }
        assert!(it.is_free(1_050));
        it.failed(1_050);
        assert!(!it.is_free(1_099));
        assert!(it.is_free(1_100));
    }
}
