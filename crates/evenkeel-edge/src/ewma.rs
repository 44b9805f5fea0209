//! How long an instance takes: a moving average that jumps up at once and comes down slowly.
//!
//! "Peak EWMA": a sample above the average replaces it, one below pulls it down with the weight
//! `1 - exp(-dt / TAU)`. Between samples the average fades in the same way, so an instance that
//! was penalised is tried again.

use std::sync::atomic::{AtomicU64, Ordering};

/// The time constant, in milliseconds (linkerd's default).
const TAU_MS: f32 = 10_000.0;
/// What a failed request counts as: without it an instance that fails at once looks fast and
/// draws more traffic.
pub(crate) const PENALTY_MS: f32 = 5_000.0;
/// What is assumed when nothing is known of any instance of a pool (linkerd's default).
pub(crate) const SEED_MS: f32 = 30.0;
/// Below this, differences are noise and the requests in flight decide.
const FLOOR_MS: f32 = 0.5;

/// The average (as `f32` bits) and the moment of the last sample, in one word. Writers may lose
/// one another's sample; that only costs one sample.
#[derive(Debug)]
pub(crate) struct Ewma(AtomicU64);

impl Ewma {
    pub(crate) fn new(seed_ms: f32, now_ms: u64) -> Self {
        Self(AtomicU64::new(pack(seed_ms, now_ms)))
    }

    pub(crate) fn seed(&self, seed_ms: f32, now_ms: u64) {
        self.0.store(pack(seed_ms, now_ms), Ordering::Relaxed);
    }

    /// Takes one sample in.
    pub(crate) fn record(&self, sample_ms: f32, now_ms: u64) {
        let (average, at) = unpack(self.0.load(Ordering::Relaxed));
        let next = if sample_ms >= average {
            sample_ms
        } else {
            let keep = fade(at, now_ms);
            average * keep + sample_ms * (1.0 - keep)
        };
        self.0.store(pack(next, now_ms), Ordering::Relaxed);
    }

    /// The average now, in milliseconds.
    pub(crate) fn value(&self, now_ms: u64) -> f32 {
        let (average, at) = unpack(self.0.load(Ordering::Relaxed));
        (average * fade(at, now_ms)).max(FLOOR_MS)
    }
}

fn fade(at: u32, now_ms: u64) -> f32 {
    let elapsed = low(now_ms).wrapping_sub(at);
    if elapsed == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "milliseconds; seven digits are enough")]
    let elapsed = elapsed as f32;
    (-elapsed / TAU_MS).exp()
}

fn low(now_ms: u64) -> u32 {
    u32::try_from(now_ms & u64::from(u32::MAX)).expect("masked to 32 bits")
}

fn pack(average: f32, now_ms: u64) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(low(now_ms))
}

fn unpack(word: u64) -> (f32, u32) {
    let high = u32::try_from(word >> 32).expect("shifted to 32 bits");
    (f32::from_bits(high), low(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_jumps_up_and_comes_down_slowly() {
        let it = Ewma::new(10.0, 0);
        it.record(100.0, 0);
        assert_eq!(it.value(0), 100.0);
        it.record(10.0, 1_000);
        assert!((91.0..92.0).contains(&it.value(1_000)), "{}", it.value(1_000));
    }

    #[test]
    fn a_penalty_fades_without_samples() {
        let it = Ewma::new(1.0, 0);
        it.record(PENALTY_MS, 0);
        assert!(it.value(10_000) > 1_800.0);
        assert!(it.value(60_000) < 13.0);
        assert_eq!(it.value(1_000_000), FLOOR_MS);
    }
}
