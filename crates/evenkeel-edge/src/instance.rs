//! One instance as the edge knows it: where it is, what is believed of it, what it is doing.
//!
//! The same object lives across table versions, so nothing that was learnt is lost by a swap. It
//! knows neither pools nor HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_kernel::health::Hysteresis;
use evenkeel_kernel::model::{InstanceId, Traffic};
use evenkeel_kernel::world::Health;

use crate::clock::{ms, now_ms};
use crate::ewma::{Ewma, PENALTY_MS, SEED_MS};
use crate::knock::Knocks;
use crate::limits::PASSIVE_FAILURES;
use crate::load::Load;
use crate::outlier::Outlier;
use crate::succession::dialect::Opinion;
use crate::table::Surroundings;
use crate::tally::Tallies;
use crate::wake::Wake;

/// How long what it has may take once it drains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) requests_ms: u64,
    pub(crate) long_lived_ms: u64,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) addr: SocketAddr,
    /// Unique in this process; idle connections are kept by it.
    pub(crate) key: u64,
    pub(crate) ewma: Ewma,
    opinion: Mutex<Hysteresis>,
    /// A copy of the opinion that is read without a lock.
    believed: AtomicU8,
    /// The belief was saved by an earlier process and no probe has confirmed it yet.
    assumed: AtomicBool,
    once_healthy: AtomicBool,
    since_ms: AtomicU64,
    admitted_ms: AtomicU64,
    /// Zero: it does not drain.
    draining_since_ms: AtomicU64,
    drain_ms: AtomicU64,
    drain_long_lived_ms: AtomicU64,
    in_flight: AtomicU32,
    long_lived: AtomicU32,
    failures_in_a_row: AtomicU32,
    in_flight_max: AtomicU32,
    slow_start_ms: AtomicU64,
    /// Until when it is left out because its answers fail.
    pub(crate) outlier: Outlier,
    pub(crate) knocks: Knocks,
    pub(crate) load: Load,
    /// It could not be connected to since it was last seen to be well: that it is unwell is no
    /// mistake of its check.
    broke_off: AtomicBool,
    pub(crate) tallies: Tallies,
    wake: Arc<Wake>,
}

impl Instance {
    /// An instance of which nothing is known, or which an earlier process believed in.
    pub(crate) fn new(
        id: InstanceId,
        addr: SocketAddr,
        assumed: bool,
        around: &Surroundings,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let health = if assumed { Health::Healthy } else { Health::Unknown };
        Self {
            id,
            addr,
            key: NEXT.fetch_add(1, Ordering::Relaxed),
            ewma: Ewma::new(SEED_MS, now_ms()),
            opinion: Mutex::new(Hysteresis::new(health)),
            believed: AtomicU8::new(code(health)),
            assumed: AtomicBool::new(assumed),
            once_healthy: AtomicBool::new(assumed),
            since_ms: AtomicU64::new(now_ms()),
            admitted_ms: AtomicU64::new(0),
            draining_since_ms: AtomicU64::new(0),
            drain_ms: AtomicU64::new(0),
            drain_long_lived_ms: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            long_lived: AtomicU32::new(0),
            failures_in_a_row: AtomicU32::new(0),
            knocks: Knocks::default(),
            load: Load::default(),
            broke_off: AtomicBool::new(false),
            tallies: Tallies::new(around.threads, now_ms()),
            in_flight_max: AtomicU32::new(u32::MAX),
            slow_start_ms: AtomicU64::new(0),
            outlier: Outlier::default(),
            wake: Arc::clone(&around.wake),
        }
    }

    /// What routing believes.
    pub(crate) fn believed(&self) -> Health {
        match self.believed.load(Ordering::Relaxed) {
            1 => Health::Healthy,
            2 => Health::Unhealthy,
            _ => Health::Unknown,
        }
    }

    /// What control is told: a belief that no probe has confirmed is none.
    pub(crate) fn reported(&self) -> Health {
        if self.assumed.load(Ordering::Relaxed) { Health::Unknown } else { self.believed() }
    }

    pub(crate) fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn was_healthy(&self) -> bool {
        self.once_healthy.load(Ordering::Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining_since_ms.load(Ordering::SeqCst) != 0
    }

    /// Since when it drains, if it does.
    pub(crate) fn draining_since_ms(&self) -> Option<u64> {
        Some(self.draining_since_ms.load(Ordering::SeqCst)).filter(|since| *since != 0)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.in_flight() < self.in_flight_max.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn long_lived(&self) -> u32 {
        self.long_lived.load(Ordering::SeqCst)
    }

    /// Takes the answer of one probe in. Returns whether what is reported changed, and whether it
    /// became healthy for the first time.
    pub(crate) fn probed(&self, well: bool, rise: u32, fall: u32) -> Probed {
        let mut opinion = self.opinion.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = opinion.answered(well, rise, fall);
        let confirmed = (moved || well) && self.assumed.swap(false, Ordering::Relaxed);
        if !moved && !confirmed {
            return Probed::Same;
        }
        let health = opinion.health();
        let first = health == Health::Healthy && !self.was_healthy();
        self.set(health);
        if first { Probed::Admitted } else { Probed::Changed }
    }

    /// What its service bounds it by.
    pub(crate) fn set_bounds(&self, traffic: &Traffic) {
        self.in_flight_max.store(traffic.in_flight_max, Ordering::Relaxed);
        self.slow_start_ms.store(ms(traffic.slow_start), Ordering::Relaxed);
    }

    /// Starts its share small, at the speed the others have.
    pub(crate) fn admit(&self, seed_ms: f32) {
        self.ewma.seed(seed_ms, now_ms());
        self.admitted_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// The part of its full share it has by now, 0.1 to 1.
    pub(crate) fn warmth(&self, now_ms: u64) -> f32 {
        let admitted = self.admitted_ms.load(Ordering::Relaxed);
        let age = now_ms.saturating_sub(admitted);
        let whole = self.slow_start_ms.load(Ordering::Relaxed);
        if admitted == 0 || age >= whole {
            return 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most an hour")]
        let part = age as f32 / whole as f32;
        0.1 + 0.9 * part
    }

    /// Whether it has been healthy for so long that its answers count for slowness.
    pub(crate) fn has_warmed_up(&self, warm_up: Duration) -> bool {
        let healthy = self.believed() == Health::Healthy;
        healthy && now_ms().saturating_sub(self.since_ms()) >= ms(warm_up)
    }

    /// Notes a request that was answered.
    pub(crate) fn answered(&self, took_ms: f32, failed: bool) {
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
        self.ewma.record(if failed { took_ms.max(PENALTY_MS) } else { took_ms }, now_ms());
    }

    /// Notes a connection that failed. Returns whether there were enough in a row to take it for
    /// unhealthy.
    pub(crate) fn failed(&self) -> bool {
        let now = now_ms();
        self.ewma.record(PENALTY_MS, now);
        self.knocks.failed(now);
        self.break_off();
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= PASSIVE_FAILURES
    }

    /// Takes it for unhealthy until probes say otherwise. Returns whether that is news.
    pub(crate) fn eject(&self) -> bool {
        let mut opinion = self.opinion.lock().unwrap_or_else(PoisonError::into_inner);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        if opinion.health() != Health::Healthy {
            return false;
        }
        *opinion = Hysteresis::new(Health::Unhealthy);
        self.break_off();
        self.assumed.store(false, Ordering::Relaxed);
        self.set(Health::Unhealthy);
        true
    }

    /// Notes that it could not be connected to.
    pub(crate) fn break_off(&self) {
        self.broke_off.store(true, Ordering::Relaxed);
    }

    /// Notes that a connection was made.
    pub(crate) fn hold_again(&self) {
        if self.believed() == Health::Healthy {
            self.broke_off.store(false, Ordering::Relaxed);
        }
    }

    /// Whether nothing but its check speaks against it.
    pub(crate) fn is_doubted(&self) -> bool {
        let unwell = self.believed() == Health::Unhealthy && self.was_healthy();
        unwell && !self.broke_off.load(Ordering::Relaxed)
    }

    fn set(&self, health: Health) {
        if health == Health::Healthy {
            self.broke_off.store(false, Ordering::Relaxed);
            self.once_healthy.store(true, Ordering::Relaxed);
        }
        self.believed.store(code(health), Ordering::Relaxed);
        self.since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// What is thought of it, for an heir.
    pub(crate) fn opinion(&self, now_ms: u64) -> Opinion {
        Opinion {
            id: self.id.clone(),
            health: self.reported(),
            age_ms: now_ms.saturating_sub(self.since_ms()),
            once_healthy: self.was_healthy(),
            broke_off: self.broke_off.load(Ordering::Relaxed),
        }
    }

    /// Thinks as the predecessor did, unless it knows better itself.
    pub(crate) fn take_over(&self, theirs: &Opinion) {
        let mut opinion = self.opinion.lock().unwrap_or_else(PoisonError::into_inner);
        if self.reported() == Health::Unknown && theirs.health != Health::Unknown {
            *opinion = Hysteresis::new(theirs.health);
            self.assumed.store(false, Ordering::Relaxed);
            self.set(theirs.health);
        }
        if theirs.once_healthy {
            self.once_healthy.store(true, Ordering::Relaxed);
        }
        if theirs.broke_off && opinion.health() != Health::Healthy {
            self.break_off();
        }
        if opinion.health() == theirs.health {
            // It has been so since then, and is as warm. Zero would be "never".
            let since = now_ms().saturating_sub(theirs.age_ms).max(1);
            self.since_ms.store(since, Ordering::Relaxed);
            if theirs.age_ms < self.slow_start_ms.load(Ordering::Relaxed) {
                self.admitted_ms.store(since, Ordering::Relaxed);
            }
        }
    }

    /// Lets it drain, or serve again. The moment it began is kept.
    pub(crate) fn set_draining(&self, draining: bool, patience: Patience) {
        self.drain_ms.store(patience.requests_ms, Ordering::Relaxed);
        self.drain_long_lived_ms.store(patience.long_lived_ms, Ordering::Relaxed);
        if !draining {
            self.draining_since_ms.store(0, Ordering::SeqCst);
        } else if !self.is_draining() {
            self.draining_since_ms.store(now_ms(), Ordering::SeqCst);
        }
    }

    /// Whether its requests have had their time.
    pub(crate) fn requests_overdue(&self, now_ms: u64) -> bool {
        self.overdue(now_ms, self.drain_ms.load(Ordering::Relaxed))
    }

    /// Whether one of its upgraded connections has had its time. `jitter` (0 to 1) is its own, so
    /// that not all clients come back in the same moment: it ends within the last quarter.
    pub(crate) fn long_lived_overdue(&self, now_ms: u64, jitter: f32) -> bool {
        let patience = self.drain_long_lived_ms.load(Ordering::Relaxed);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quarter of a time budget, times 0 to 1"
        )]
        let early = (patience as f32 / 4.0 * jitter.clamp(0.0, 1.0)) as u64;
        self.overdue(now_ms, patience - early.min(patience))
    }

    fn overdue(&self, now_ms: u64, patience_ms: u64) -> bool {
        let since = self.draining_since_ms.load(Ordering::Relaxed);
        since != 0 && now_ms.saturating_sub(since) >= patience_ms
    }

    /// Takes a place on it, unless it drains.
    ///
    /// The flag is read after the count has risen: a table that makes it drain either sees this
    /// request in the count, or this request sees the flag.
    pub(crate) fn claim(self: &Arc<Self>) -> Option<Claim> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let claim = Claim { instance: Arc::clone(self), long_lived: false };
        if self.is_draining() { None } else { Some(claim) }
    }
}

/// What a probe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    Same,
    Changed,
    /// It is healthy for the first time.
    Admitted,
}

/// A place on an instance, given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    instance: Arc<Instance>,
    long_lived: bool,
}

impl Claim {
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The request has become an upgraded connection.
    pub(crate) fn into_long_lived(mut self) -> Self {
        self.instance.long_lived.fetch_add(1, Ordering::SeqCst);
        self.instance.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.long_lived = true;
        self
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let it = &self.instance;
        let count = if self.long_lived { &it.long_lived } else { &it.in_flight };
        if count.fetch_sub(1, Ordering::SeqCst) == 1 && it.is_draining() {
            it.wake.call();
        }
    }
}

fn code(health: Health) -> u8 {
    match health {
        Health::Unknown => 0,
        Health::Healthy => 1,
        Health::Unhealthy => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(assumed: bool) -> Arc<Instance> {
        let addr = "127.0.0.1:1".parse().unwrap();
        Arc::new(Instance::new("web.r1.1".parse().unwrap(), addr, assumed, &Surroundings::plain()))
    }

    const PATIENCE: Patience = Patience { requests_ms: 100, long_lived_ms: 1_000 };

    #[test]
    fn a_draining_instance_cannot_be_claimed() {
        let it = instance(true);
        let held = it.claim().unwrap();
        it.set_draining(true, PATIENCE);
        assert!(it.claim().is_none());
        assert_eq!(it.in_flight(), 1);
        drop(held);
        assert_eq!(it.in_flight(), 0);
        it.set_draining(false, PATIENCE);
        assert!(it.claim().is_some());
    }

    #[test]
    fn an_upgrade_moves_from_one_count_to_the_other() {
        let it = instance(true);
        let claim = it.claim().unwrap().into_long_lived();
        assert_eq!((it.in_flight(), it.long_lived()), (0, 1));
        drop(claim);
        assert_eq!((it.in_flight(), it.long_lived()), (0, 0));
    }

    #[test]
    fn what_was_saved_is_believed_but_not_reported() {
        let it = instance(true);
        assert_eq!((it.believed(), it.reported()), (Health::Healthy, Health::Unknown));
        assert_eq!(it.probed(true, 2, 3), Probed::Changed);
        assert_eq!(it.reported(), Health::Healthy);
    }

    #[test]
    fn an_heir_thinks_as_its_predecessor_did_and_no_better_of_what_it_has_seen_itself() {
        let elder = instance(false);
        elder.probed(true, 1, 3);
        let age = |ms| Opinion { age_ms: ms, ..elder.opinion(now_ms()) };
        let heir = instance(true);
        heir.take_over(&age(60_000));
        assert_eq!((heir.reported(), heir.since_ms()), (Health::Healthy, 1));
        assert!(heir.warmth(now_ms()) >= 1.0);
        let other = instance(true);
        other.eject();
        other.take_over(&age(60_000));
        assert_eq!(other.reported(), Health::Unhealthy);
        elder.eject();
        let third = instance(false);
        third.take_over(&age(10));
        assert_eq!((third.reported(), third.was_healthy()), (Health::Unhealthy, true));
        assert!(!third.is_doubted(), "it could not be connected to");
    }

    #[test]
    fn ejection_holds_until_probes_pass_again() {
        let it = instance(false);
        assert_eq!(it.probed(true, 1, 3), Probed::Admitted);
        assert!(!it.failed());
        assert!(!it.failed());
        assert!(it.failed());
        assert!(it.eject());
        assert!(!it.eject());
        assert_eq!(it.probed(true, 2, 3), Probed::Same);
        assert_eq!(it.probed(true, 2, 3), Probed::Changed);
        assert_eq!(it.believed(), Health::Healthy);
    }

    #[test]
    fn d13_drains_end_requests_first_and_upgrades_with_jitter() {
        let it = instance(true);
        it.set_draining(true, PATIENCE);
        let now = now_ms();
        assert!(!it.requests_overdue(now) && it.requests_overdue(now + 101));
        assert!(!it.long_lived_overdue(now + 800, 0.0) && it.long_lived_overdue(now + 800, 1.0));
    }
}
