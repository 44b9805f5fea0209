//! The edge's own clock: milliseconds that only grow, small enough for one atomic.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Milliseconds since the first call in this process, plus one: zero means "never".
pub(crate) fn now_ms() -> u64 {
    u64::try_from(origin().elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// Microseconds on the same clock.
pub(crate) fn now_us() -> u64 {
    u64::try_from(origin().elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// A span of time in the clock's unit.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
