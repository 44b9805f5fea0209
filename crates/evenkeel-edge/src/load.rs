//! How many requests an instance is answering, in the mean of the last seconds: what sizes follow.
//!
//! The count itself jumps with every request, and control looks too rarely to see its mean. It is
//! sampled here, for all instances alike: a few hundred atomic reads a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::demand;
use crate::shared::Shared;

/// Time between two samples.
const SAMPLE: Duration = Duration::from_millis(250);
/// A sample counts half as much as one that is this much younger.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// Samples before the mean says anything: those of one half life.
const SAMPLES_MIN: u32 = 20;

/// The mean of one instance.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// As the bits of an `f32`; only the sampler writes it.
    mean: AtomicU32,
    samples: AtomicU32,
}

impl Load {
    /// Takes a sample in.
    fn sample(&self, in_flight: u32) {
        let samples = self.samples.load(Ordering::Relaxed);
        let mean = f32::from_bits(self.mean.load(Ordering::Relaxed));
        // The first ones count alike, so that it does not begin with the accident of one moment.
        let weight = newest().max(1.0 / (as_f32(samples) + 1.0));
        let next = mean + (as_f32(in_flight) - mean) * weight;
        self.mean.store(next.to_bits(), Ordering::Relaxed);
        self.samples.store(samples.saturating_add(1), Ordering::Relaxed);
    }

    /// The mean in thousandths; `None` while there are too few samples.
    pub(crate) fn milli(&self) -> Option<u32> {
        let mean = f32::from_bits(self.mean.load(Ordering::Relaxed));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to some thousand requests, in thousandths"
        )]
        let milli = (mean * 1_000.0).round() as u32;
        (self.samples.load(Ordering::Relaxed) >= SAMPLES_MIN).then_some(milli)
    }
}

/// What the newest sample counts beside all before it.
fn newest() -> f32 {
    1.0 - 0.5_f32.powf(SAMPLE.as_secs_f32() / HALF_LIFE.as_secs_f32())
}

fn as_f32(count: u32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "seven digits are enough")]
    let count = count as f32;
    count
}

/// Samples every instance and every service, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(SAMPLE).await;
        let table = shared.table.load_full();
        for instance in table.instances.values() {
            instance.load.sample(instance.in_flight());
        }
        for service in table.services.values() {
            demand::sample(service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: impl IntoIterator<Item = u32>) -> Option<u32> {
        let load = Load::default();
        samples.into_iter().for_each(|it| load.sample(it));
        load.milli()
    }

    #[test]
    fn it_says_nothing_before_it_has_seen_enough() {
        assert_eq!(after([10; 19]), None);
        assert_eq!(after([10; 20]), Some(10_000));
    }

    #[test]
    fn it_is_the_mean_and_forgets_by_halves() {
        let mixed = after((0..400).map(|i| 5 + i % 11)).unwrap();
        assert!((9_000..11_000).contains(&mixed), "{mixed}");
        let halved = after([10; 100].into_iter().chain([0; 20])).unwrap();
        assert!((4_900..5_100).contains(&halved), "{halved}");
    }
}
