//! Civil time: what a clock on a wall says, zone by zone, and when a window of it is open.
//!
//! The rules of time zones are data of the world; they come in as the [`Offsets`] around now. A
//! civil time may come twice (the clock is put back) or never (it is put forward), so a window is
//! always told in seconds since 1970: it begins as early and ends as late as its words allow.

mod civil;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

pub use civil::{Civil, Weekday};
pub use window::{Moment, Window};

/// How long before now a zone's offsets are told: few windows have been open for longer, and of
/// those only since when would be told wrong by an hour.
pub const OFFSETS_BEFORE: Duration = Duration::from_secs(400 * 86_400);
/// How many changes of its offset are told of one zone: those of ten years where there are two a
/// year. A window that ends later does so as if the last of them stayed.
pub const OFFSETS_MAX: usize = 24;

/// The wall clock, and what the zones that somebody asked for make of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    /// Seconds since 1970 UTC.
    pub utc: i64,
    /// Each zone by its name, or why it is not known.
    pub zones: BTreeMap<String, Result<Offsets, String>>,
}

/// How far a zone's clocks are ahead of UTC, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The offset before the first change, in seconds.
    pub first: i32,
    /// From which second since 1970 UTC on which offset holds; rising.
    pub changes: Vec<(i64, i32)>,
}

impl Offsets {
    /// A zone that never changes.
    #[must_use]
    pub fn fixed(seconds: i32) -> Self {
        Self { first: seconds, changes: Vec::new() }
    }

    /// The offset that holds at `utc`.
    fn at(&self, utc: i64) -> i32 {
        let before = self.changes.iter().rev().find(|(since, _)| *since <= utc);
        before.map_or(self.first, |(_, offset)| *offset)
    }

    /// What the clocks say at `utc`.
    #[must_use]
    pub fn civil(&self, utc: i64) -> Civil {
        Civil::of_seconds(utc + i64::from(self.at(utc)))
    }

    /// When the clocks say `civil`: the first and the last time. For a time that is left out, the
    /// moment at which it is.
    fn instants(&self, civil: Civil) -> (i64, i64) {
        let wanted = civil.seconds();
        let all = std::iter::once(self.first).chain(self.changes.iter().map(|(_, offset)| *offset));
        let read = all.map(|offset| wanted - i64::from(offset));
        let mut times: Vec<i64> =
            read.filter(|utc| utc + i64::from(self.at(*utc)) == wanted).collect();
        if times.is_empty() {
            // The clocks jump over it: it is over when they have jumped.
            let jump = self.changes.iter().find(|(since, offset)| {
                let before = since + i64::from(self.at(since - 1));
                (before..since + i64::from(*offset)).contains(&wanted)
            });
            times.extend(jump.map(|(since, _)| *since));
        }
        let first = times.iter().min().copied().unwrap_or(wanted);
        (first, times.iter().max().copied().unwrap_or(wanted))
    }
}

#[cfg(test)]
mod tests;
