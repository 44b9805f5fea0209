//! How long to wait before the next start: longer each time, and never in step with others.

/// No wait is longer: an instance whose cause is gone is back within half a minute.
const WAIT_MAX_MS: u64 = 30_000;
/// The first wait is at most this long.
const WAIT_FIRST_MS: u64 = 100;
/// A process that ran this long was up; the next failure is a new story.
const UP_AFTER_MS: u64 = 30_000;

/// The failures in a row so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure of something that ran for `ran_ms`, and draws the wait before the next
    /// try: anything from nothing to the current cap ("full jitter"), so that instances felled by
    /// one cause do not come back in one wave.
    pub(crate) fn failed(&mut self, ran_ms: u64) -> u64 {
        if ran_ms >= UP_AFTER_MS {
            self.failures = 0;
        }
        let cap = self.cap_ms();
        self.failures = self.failures.saturating_add(1);
        fastrand::u64(0..=cap)
    }

    fn cap_ms(self) -> u64 {
        let factor = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        WAIT_FIRST_MS.saturating_mul(factor).min(WAIT_MAX_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s30_the_cap_doubles_up_to_its_limit_and_starts_over() {
        let mut backoff = Backoff::default();
        let mut caps = Vec::new();
        for _ in 0..100 {
            caps.push(backoff.cap_ms());
            assert!(backoff.failed(0) <= *caps.last().unwrap());
        }
        assert_eq!(caps[..4], [100, 200, 400, 800]);
        assert_eq!(caps[99], WAIT_MAX_MS);
        assert!(backoff.failed(UP_AFTER_MS) <= WAIT_FIRST_MS);
    }
}
