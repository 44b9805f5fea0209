//! How many requests of a route come through: one number per address, or one for all.
//!
//! The number is the time at which the bucket would be full again (the generic cell rate algorithm,
//! ITU-T I.371): a request moves it on by one interval, and is refused where it would lie more than
//! the burst ahead.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use evenkeel_kernel::model::{Rate, traffic};

use crate::limits::RATE_CLIENTS_MAX;

/// Parts of the addresses, each with a lock of its own.
const SHARDS: usize = 16;
/// Time between two looks for addresses that need not be known.
const SWEEP_US: u64 = 1_000_000;

/// The buckets of one route.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) rate: Rate,
    all: Mutex<u64>,
    clients: [Mutex<Shard>; SHARDS],
}

/// Some of the addresses.
#[derive(Debug, Default)]
struct Shard {
    buckets: BTreeMap<IpAddr, u64>,
    /// When it is next looked for those that need not be known.
    sweep_us: u64,
}

impl Shard {
    /// Makes room for one more.
    fn make_room(&mut self, now_us: u64) {
        if self.buckets.len() < RATE_CLIENTS_MAX / SHARDS {
            return;
        }
        // Whose bucket is full again need not be known. Not looked for with every request: a flood
        // of addresses must cost no more than itself.
        if now_us >= self.sweep_us {
            self.buckets.retain(|_, full| *full > now_us);
            self.sweep_us = now_us + SWEEP_US;
        }
        if self.buckets.len() >= RATE_CLIENTS_MAX / SHARDS {
            self.buckets.pop_first();
        }
    }
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, all: Mutex::default(), clients: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Lets one request through, or says how long to stay away.
    pub(crate) fn pass(&self, client: IpAddr, now_us: u64) -> Result<(), Duration> {
        if !self.rate.by_client {
            let mut full = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            return self.step(&mut full, now_us);
        }
        let place = traffic::hash(client.to_string().as_bytes()) % 16;
        let shard = usize::try_from(place).ok().and_then(|place| self.clients.get(place));
        let Some(shard) = shard else { return Ok(()) };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if !shard.buckets.contains_key(&client) {
            shard.make_room(now_us);
        }
        self.step(shard.buckets.entry(client).or_default(), now_us)
    }

    fn step(&self, full: &mut u64, now_us: u64) -> Result<(), Duration> {
        let per_us = u64::try_from(self.rate.per.as_micros()).unwrap_or(u64::MAX);
        let interval = per_us / u64::from(self.rate.requests.max(1));
        let burst = interval.saturating_mul(u64::from(self.rate.burst.max(1)));
        let next = (*full).max(now_us).saturating_add(interval);
        let ahead = next - now_us;
        if ahead > burst {
            return Err(Duration::from_micros(ahead - burst));
        }
        *full = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(by_client: bool) -> Meter {
        let per = Duration::from_secs(1);
        Meter::new(Rate { requests: 10, per, burst: 3, by_client })
    }

    fn passed(meter: &Meter, client: &str, now_us: u64) -> usize {
        (0..100).filter(|_| meter.pass(client.parse().unwrap(), now_us).is_ok()).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let it = meter(false);
        assert_eq!(passed(&it, "::1", 1_000_000), 3);
        assert_eq!(it.pass("::1".parse().unwrap(), 1_000_000), Err(Duration::from_millis(100)));
        assert_eq!(passed(&it, "::2", 1_100_000), 1);
        assert_eq!(passed(&it, "::1", 9_000_000), 3);
    }

    #[test]
    fn each_address_has_its_own() {
        let it = meter(true);
        assert_eq!(passed(&it, "10.0.0.1", 1_000_000), 3);
        assert_eq!(passed(&it, "10.0.0.2", 1_000_000), 3);
        for n in 0..2 * RATE_CLIENTS_MAX {
            let client = std::net::Ipv4Addr::from(u32::try_from(n).unwrap());
            let _full = it.pass(client.into(), 2_000_000);
        }
        let known =
            it.clients.iter().map(|shard| shard.lock().unwrap().buckets.len()).sum::<usize>();
        assert!(known <= RATE_CLIENTS_MAX, "{known}");
    }
}
