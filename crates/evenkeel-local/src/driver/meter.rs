//! How much processor time instances use, of pools where somebody asks for it.

use std::path::Path;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::InstanceId;

use super::{Shared, State};
use crate::process::Ident;
use crate::{cgroup, process};

/// Time over which a rate is taken.
const SPAN: Duration = Duration::from_secs(3);
/// A rate that is older says nothing of now.
const STALE: Duration = Duration::from_secs(10);

/// The processor time of one instance.
#[derive(Debug)]
pub(super) struct Meter {
    /// Whose descendants were looked at.
    shim: Ident,
    at: Instant,
    used_us: u64,
    /// Thousandths of a core.
    rate: Option<u32>,
}

impl Meter {
    /// Reads it once more.
    fn read(before: Option<Self>, shim: Ident, used_us: u64, now: Instant) -> Self {
        let anew = Self { shim, at: now, used_us, rate: None };
        let Some(before) = before.filter(|it| it.shim == shim) else { return anew };
        let Some(used) = used_us.checked_sub(before.used_us) else { return anew };
        let passed = u64::try_from(now.duration_since(before.at).as_micros()).unwrap_or(u64::MAX);
        let latest = used.saturating_mul(1_000) / passed.max(1);
        let latest = u32::try_from(latest).unwrap_or(u32::MAX);
        // Half of what it was before, so that one busy moment does not count for all.
        let rate = before.rate.map_or(latest, |rate| rate / 2 + latest / 2);
        Self { rate: Some(rate), ..anew }
    }

    /// Thousandths of a core, if that is known of now.
    pub(super) fn rate(&self) -> Option<u32> {
        self.rate.filter(|_| self.at.elapsed() < STALE)
    }
}

impl Shared {
    /// Reads the meters of the pools that are to be measured, when it is time. It costs nothing for
    /// the others.
    pub(super) fn read_meters(&self, state: &mut State) {
        let now = Instant::now();
        if now.duration_since(state.metered_at) < SPAN {
            return;
        }
        let pools = state.wants.values().filter(|wanted| wanted.pool.measured);
        let ids: Vec<InstanceId> =
            pools.flat_map(|wanted| state.book.of_pool(&wanted.pool.id)).collect();
        for id in ids {
            state.metered_at = now;
            let Some(entry) = state.book.running(&id) else { continue };
            let Some(shim) = entry.shim() else { continue };
            let before = entry.meter.take();
            entry.meter = used(&self.config.home, &id, shim)
                .map(|used_us| Meter::read(before, shim, used_us, now));
        }
    }
}

fn used(home: &Path, id: &InstanceId, shim: Ident) -> Option<u64> {
    cgroup::used(home, id).or_else(|| process::used_below(shim.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time_and_begin_anew_with_another_shim() {
        let (shim, other) = (Ident { pid: 1, start: 1 }, Ident { pid: 1, start: 2 });
        let start = Instant::now();
        let first = Meter::read(None, shim, 5_000_000, start);
        assert_eq!(first.rate(), None);
        let at = |seconds| start + Duration::from_secs(seconds);
        let second = Meter::read(Some(first), shim, 6_500_000, at(3));
        assert_eq!(second.rate(), Some(500));
        let third = Meter::read(Some(second), shim, 6_500_000, at(6));
        assert_eq!(third.rate(), Some(250));
        assert_eq!(Meter::read(Some(third), other, 7_000_000, at(9)).rate(), None);
    }
}
