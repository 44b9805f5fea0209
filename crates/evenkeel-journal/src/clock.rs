//! The clock: how the kernel's time goes on across restarts and reboots.
//!
//! Pure: the boot's id and its uptime are handed in. Within one boot the kernel's time is the
//! uptime plus an offset that never changes; a new boot gets a new offset, chosen so that time goes
//! on where the state last saw it. The time the machine was off does not count: nothing was
//! observed then, so nothing may ripen.

use evenkeel_kernel::time::Timestamp;

/// The key under which a store keeps the clock.
pub const KEY: &str = "clock";

/// What turns the machine's uptime into the kernel's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The boot it is valid for: the kernel's `boot_id`.
    pub boot: String,
    /// What is added to the uptime, in milliseconds.
    pub offset_ms: i64,
}

impl Clock {
    /// The clock to go on with: `kept` if this is still its boot, else one that continues from
    /// `latest`, the largest time in the saved state. An empty `boot` is unknown, hence a new one.
    ///
    /// To be kept in the store before the first decision when it differs from `kept`.
    #[must_use]
    pub fn resume(kept: Option<Self>, latest: Timestamp, boot: &str, uptime_ms: u64) -> Self {
        let shift = i128::from(latest.0) - i128::from(uptime_ms);
        let continued = i64::try_from(shift).unwrap_or(if shift < 0 { i64::MIN } else { i64::MAX });
        match kept {
            // A kept clock that is behind the state was restored from an older backup.
            Some(kept) if kept.boot == boot && !boot.is_empty() => {
                Self { offset_ms: kept.offset_ms.max(continued), ..kept }
            }
            Some(_) | None => Self { boot: boot.to_owned(), offset_ms: continued },
        }
    }

    /// The kernel's time when the machine has been up for `uptime_ms`.
    #[must_use]
    pub fn at(&self, uptime_ms: u64) -> Timestamp {
        Timestamp(uptime_ms.saturating_add_signed(self.offset_ms))
    }

    /// The clock as text, for [`crate::Store::set_meta`].
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{} {}", self.offset_ms, self.boot)
    }

    /// Reads the clock back; `None` when the text is not one.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (offset, boot) = text.split_once(' ')?;
        Some(Self { boot: boot.to_owned(), offset_ms: offset.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s23_s39_time_starts_at_zero_and_goes_on_across_restarts_and_reboots() {
        let first = Clock::resume(None, Timestamp(0), "boot-a", 90_000);
        assert_eq!(first.at(90_000), Timestamp(0));
        let kept = Clock::from_text(&first.to_text());
        assert_eq!(kept.as_ref(), Some(&first));

        let restarted = Clock::resume(kept.clone(), Timestamp(4_000), "boot-a", 95_000);
        assert_eq!(restarted, first, "the same boot keeps its offset");
        assert_eq!(restarted.at(95_000), Timestamp(5_000));

        let rebooted = Clock::resume(kept, Timestamp(4_000), "boot-b", 20);
        assert_eq!(rebooted.at(20), Timestamp(4_000));
        assert_eq!(rebooted.at(1_020), Timestamp(5_000));
    }

    #[test]
    fn an_unknown_boot_is_a_new_one() {
        let kept = Clock { boot: String::new(), offset_ms: 1_000 };
        let resumed = Clock::resume(Some(kept), Timestamp(4_000), "", 20);
        assert_eq!(resumed.at(20), Timestamp(4_000));
    }

    #[test]
    fn time_never_runs_backwards_even_when_an_older_clock_was_restored() {
        let stale = Clock { boot: "boot-a".to_owned(), offset_ms: -90_000 };
        let resumed = Clock::resume(Some(stale), Timestamp(60_000), "boot-a", 95_000);
        assert_eq!(resumed.at(95_000), Timestamp(60_000));
    }

    #[test]
    fn a_text_that_is_no_clock_is_none() {
        assert_eq!(["", "12", "x boot"].map(Clock::from_text), [None, None, None]);
    }
}
