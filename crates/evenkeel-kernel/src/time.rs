//! Time as the kernel sees it: a number that only grows, handed in by the caller.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since an origin that the control plane persists.
///
/// It never jumps: it follows the machine's boot-time clock and continues where it stopped after a
/// reboot. It is for deciding; the wall clock is for showing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from `earlier` to `self`; zero when `earlier` is in fact later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` after this one.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Writes a span the way people do: `500ms`, `2s`, `1m30s`, `2h`.
#[must_use]
pub fn human(span: Duration) -> String {
    let ms = span.as_millis();
    if ms < 1000 {
        return format!("{ms}ms");
    }
    if ms < 60_000 && !ms.is_multiple_of(1000) {
        let tenths = ms.div_euclid(100);
        return match tenths % 10 {
            0 => format!("{}s", tenths / 10),
            rest => format!("{}.{rest}s", tenths / 10),
        };
    }
    let seconds = ms / 1000;
    let parts = [(seconds / 3600, "h"), (seconds % 3600 / 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        let texts = [0, 500, 1_000, 1_500, 2_040, 60_000, 90_000, 7_200_000]
            .map(|ms| human(Duration::from_millis(ms)));
        assert_eq!(texts, ["0ms", "500ms", "1s", "1.5s", "2s", "1m", "1m30s", "2h"]);
    }
}
