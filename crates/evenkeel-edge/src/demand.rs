//! When a service was asked last: by that its pool may go to nothing, and come back.
//!
//! No request pays for it: a sampler sees by what is counted anyway that there was one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_ms;
use crate::table::Service;

/// When one service was asked last, as far as this process knows.
#[derive(Debug)]
pub(crate) struct Asked {
    last_ms: AtomicU64,
    /// Requests that had ended at the last sample.
    counted: AtomicU64,
}

impl Default for Asked {
    /// Nobody was watched before it began.
    fn default() -> Self {
        Self { last_ms: AtomicU64::new(now_ms()), counted: AtomicU64::new(0) }
    }
}

impl Asked {
    /// Notes a request that waits: it is counted only once it has ended.
    pub(crate) fn now(&self) {
        self.last_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// When that was.
    pub(crate) fn last_ms(&self) -> u64 {
        self.last_ms.load(Ordering::Relaxed)
    }

    fn sample(&self, ended: u64, under_way: bool) {
        if self.counted.swap(ended, Ordering::Relaxed) != ended || under_way {
            self.now();
        }
    }
}

/// Takes a sample of one service.
pub(crate) fn sample(service: &Service) {
    let ended = service.pools.iter().map(|pool| pool.counts.ended_so_far()).sum();
    let mut instances = service.pools.iter().flat_map(|pool| &pool.instances);
    let mut busy = || instances.any(|it| it.in_flight() > 0 || it.long_lived() > 0);
    service.asked.sample(ended, service.queue.waiting() > 0 || busy());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_while_it_is_there_and_once_it_has_ended() {
        let asked = Asked { last_ms: AtomicU64::new(0), counted: AtomicU64::new(0) };
        let seen = |ended, under_way| {
            asked.sample(ended, under_way);
            asked.last_ms.swap(0, Ordering::Relaxed) > 0
        };
        assert!(!seen(0, false));
        assert!(seen(0, true));
        assert!(!seen(0, false));
        assert!(seen(1, false), "it came and went between two samples");
        assert!(!seen(1, false));
    }
}
