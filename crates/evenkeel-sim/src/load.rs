//! What is asked of services: requests in flight, now more, now fewer. Which services scale, and
//! within which bounds.

use std::time::Duration;

use evenkeel_kernel::model::{Scale, ServiceName, Stack};

use crate::rng::{Purpose, Rng};
use crate::scenario::{Scenario, What};

/// For how long the same is asked of a service.
const SPELL_MS: u64 = 10_000;
/// For how long nobody asks, where that happens.
const PAUSE_MS: u64 = 4_000;
/// Requests in flight that an instance is to have.
const TARGET: u32 = 10;
/// What makes the stream by which services may sleep another one than that of their bounds.
const SLEEP: u64 = 0x51EE9;
/// The most that is asked of a service: beyond the largest size that any may have.
const MOST: u64 = 100;

/// What is asked of every service, by a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    seed: u64,
    /// It stays as it was then.
    since: Option<u64>,
}

impl Demand {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, since: None }
    }

    /// Lets the same be asked from now on.
    pub(crate) fn stay(&mut self, now: u64) {
        self.since.get_or_insert(now);
    }

    /// Thousandths of requests that a service has in flight.
    pub(crate) fn of(&self, name: &ServiceName, now: u64) -> u64 {
        let spell = self.since.unwrap_or(now) / SPELL_MS;
        let mut rng = Rng::new(self.seed ^ number(name) ^ (spell << 20), Purpose::Load);
        // Whom nobody needs all the time is asked now and then.
        let pause = self.since.unwrap_or(now) / PAUSE_MS;
        let mut paused = Rng::new(self.seed ^ number(name) ^ (pause << 24), Purpose::Load);
        if sleepers(self.seed).0[place(name)] && paused.chance(600) {
            return 0;
        }
        // Half of the time hardly anybody asks, or as many as ever will.
        let asked = match rng.below(6) {
            0 | 1 => rng.below(5),
            2 => MOST,
            _ => rng.between(1, MOST / 2),
        };
        asked * 1_000
    }
}

fn number(name: &ServiceName) -> u64 {
    name.as_str().bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte))
}

/// Lets some services of a scenario scale; draws from a stream of its own, so that the rest of it
/// stays as it is.
pub(crate) fn scale_some(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::new(seed, Purpose::Load);
    let scales: Vec<bool> = (0..3).map(|_| rng.chance(500)).collect();
    let (sleeps, mut sleep) = sleepers(seed);
    for act in &mut scenario.acts {
        if let What::Apply { stack, .. } = &mut act.what {
            scale_stack(stack, &scales, &mut rng);
            let all = stack.services.iter_mut();
            let scales = all.filter_map(|(name, it)| Some((name, it.scale.as_mut()?)));
            for (_, scale) in scales.filter(|(name, _)| sleeps[place(name)]) {
                scale.min = 0;
                scale.zero_after = Duration::from_millis(sleep.between(1_000, 4_000));
            }
        }
    }
}

/// Which lots of services may have no instance, and the stream that goes on from there.
fn sleepers(seed: u64) -> ([bool; 3], Rng) {
    let mut rng = Rng::new(seed ^ SLEEP, Purpose::Load);
    ([(); 3].map(|()| rng.chance(400)), rng)
}

/// Which of three lots a service has drawn.
fn place(name: &ServiceName) -> usize {
    usize::try_from(number(name) % 3).unwrap_or(0)
}

fn scale_stack(stack: &mut Stack, scales: &[bool], rng: &mut Rng) {
    for (name, service) in &mut stack.services {
        let bounds = (rng.small(1, 3), rng.small(0, 5));
        let spans = (rng.between(0, 3_000), rng.between(1_000, 6_000));
        if !scales[place(name)] || service.workload.exclusive {
            continue;
        }
        let scale = Scale {
            min: bounds.0,
            max: bounds.0 + bounds.1,
            in_flight: Some(TARGET),
            cpu: None,
            up_after: Duration::from_millis(spans.0),
            down_after: Duration::from_millis(spans.1),
            zero_after: Scale::ZERO_AFTER,
        };
        service.replicas = scale.within(service.replicas);
        service.scale = Some(scale);
    }
}
