//! Randomness from a seed: one independent stream per purpose, so that one more draw for one
//! purpose changes nothing of the others.

/// A stream of numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// The stack and what people do to it.
    Scenario = 1,
    /// Which faults happen, and when.
    Faults,
    /// How long messages take.
    Network,
    /// How long instances take.
    Instances,
    /// When controllers wake.
    Controllers,
    /// Which checks there are.
    Checks,
    /// What they are answered.
    Answers,
    /// What is asked of services, and which of them scale.
    Load,
    /// What is to be run once per release.
    Jobs,
    /// How schemas change, and how long that takes.
    Databases,
}

impl Rng {
    /// The stream of `seed` for `purpose`.
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = Self(seed ^ (purpose as u64).wrapping_mul(0xa076_1d64_78bd_642f));
        rng.next();
        Self(rng.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1. The bias is below 1 in 2^40 for the small
    /// bounds used here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Whether something happens that happens `permille` times of a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of `items`, which has at least one.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(items.len() as u64)).unwrap_or(0);
        &items[at]
    }

    /// A small number from `low` to `high`, both included.
    pub(crate) fn small(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(self.between(u64::from(low), u64::from(high))).unwrap_or(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_differ() {
        let draw = |seed, purpose| {
            let mut rng = Rng::new(seed, purpose);
            (0..4).map(|_| rng.below(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, Purpose::Faults), draw(1, Purpose::Faults));
        assert_ne!(draw(1, Purpose::Faults), draw(1, Purpose::Network));
        assert_ne!(draw(1, Purpose::Faults), draw(2, Purpose::Faults));
    }
}
