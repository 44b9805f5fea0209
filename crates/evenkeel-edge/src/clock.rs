//! The edge's own clock: milliseconds that only grow, small enough for one atomic.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Milliseconds since the first call in this process, plus one: zero means "never".
pub(crate) fn now_ms() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// A span of time in the clock's unit.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
