//! How long to wait before the next try: longer each time, and never in step with others.

/// No wait is longer: an instance whose cause is gone is back within half a minute.
const WAIT_MAX_MS: u64 = 30_000;
/// The first wait is at most this long.
const WAIT_FIRST_MS: u64 = 100;
/// A process that ran this long was up; the next failure is a new story.
const UP_AFTER_MS: u64 = 30_000;

/// The failures in a row so far, and how long is waited after them.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first_ms: u64,
    max_ms: u64,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet. The first wait is at most `first_ms` milliseconds, and none is longer
    /// than `max_ms`.
    #[must_use]
    pub const fn new(first_ms: u64, max_ms: u64) -> Self {
        Self { first_ms, max_ms, failures: 0 }
    }

    /// Before the starts of an instance.
    pub(crate) const fn of_starts() -> Self {
        Self::new(WAIT_FIRST_MS, WAIT_MAX_MS)
    }

    /// Counts a failure, and draws the wait before the next try, in milliseconds: anything from
    /// nothing to the current cap ("full jitter"), so that those felled by one cause do not come
    /// back in one wave.
    pub fn failed(&mut self) -> u64 {
        let cap = self.cap_ms();
        self.failures = self.failures.saturating_add(1);
        fastrand::u64(0..=cap)
    }

    /// The same of something that ran for `ran_ms`.
    pub(crate) fn ended(&mut self, ran_ms: u64) -> u64 {
        if ran_ms >= UP_AFTER_MS {
            self.succeeded();
        }
        self.failed()
    }

    /// The next failure is the first of its story.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The longest that the next wait can be, in milliseconds: it doubles with each failure.
    #[must_use]
    pub fn cap_ms(self) -> u64 {
        let factor = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        self.first_ms.saturating_mul(factor).min(self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s30_the_cap_doubles_up_to_its_limit_and_starts_over() {
        let mut backoff = Backoff::of_starts();
        let mut caps = Vec::new();
        for _ in 0..100 {
            caps.push(backoff.cap_ms());
            assert!(backoff.ended(0) <= *caps.last().unwrap());
        }
        assert_eq!(caps[..4], [100, 200, 400, 800]);
        assert_eq!(caps[99], WAIT_MAX_MS);
        assert!(backoff.ended(UP_AFTER_MS) <= WAIT_FIRST_MS);
    }
}
