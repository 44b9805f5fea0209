//! The clocks: the kernel's time, which never jumps, and the wall's, which is only for showing.

use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_journal::clock::{Clock as Kept, KEY};
use evenkeel_journal::{Store, StoreError};
use evenkeel_kernel::model::Epoch;
use evenkeel_kernel::time::Timestamp;

/// Reads the kernel's time off the machine's boot-time clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    kept: Kept,
}

impl Clock {
    /// Goes on with the clock that `store` keeps, from `latest` after a reboot.
    pub(crate) fn resume(
        store: &mut impl Store,
        epoch: Epoch,
        latest: Timestamp,
    ) -> Result<Self, StoreError> {
        let before = store.meta(KEY)?.and_then(|text| Kept::from_text(&text));
        let kept = Kept::resume(before.clone(), latest, &boot_id(), uptime_ms());
        if before.as_ref() != Some(&kept) {
            store.set_meta(epoch, KEY, &kept.to_text())?;
        }
        Ok(Self { kept })
    }

    /// The kernel's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.kept.at(uptime_ms())
    }
}

/// Milliseconds since 1970 UTC, by the wall clock.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the machine booted, sleep included.
fn uptime_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The boot's own name. Where there is none every start is taken for a new boot.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use evenkeel_journal::Journal;

    use super::*;

    /// Milliseconds that no machine is up for; the wall's clock shows many more.
    const TEN_YEARS_MS: u64 = 10 * 365 * 86_400_000;

    #[test]
    fn s23_the_kernels_time_is_the_boots_and_not_the_walls() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(home.path(), 1).unwrap();
        let epoch = journal.claim().unwrap();
        let before = uptime_ms();
        assert!(before < TEN_YEARS_MS && wall_ms() > TEN_YEARS_MS, "{before} is the wall's time");
        let first = Clock::resume(&mut journal, epoch, Timestamp(0)).unwrap();
        let shown = first.now().0;
        assert!(shown <= uptime_ms() - before, "a new state starts at zero: {shown}");
        thread::sleep(Duration::from_millis(30));
        // The next process goes on where this one is, with nothing but what the store keeps.
        let next = Clock::resume(&mut journal, epoch, Timestamp(0)).unwrap();
        assert_eq!(next.kept, first.kept);
        let (earlier, later) = (first.now(), next.now());
        assert!(later >= earlier && later.since(earlier) < Duration::from_secs(10));
        assert!(later.0 >= shown + 30);
    }
}
