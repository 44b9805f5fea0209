//! Evidence that a revision is worse than another by more than is tolerated: an e-process, which
//! may be looked at after every batch, for as long as one likes.
//!
//! Given the bad events of both sides together, `t = x_c + x_s`, those of the canary are binomial
//! with `π_θ = θ n_c / (θ n_c + n_s)`, where θ is its relative risk. For each alternative θ_k above
//! the tolerated θ_0, the likelihood ratio of a batch,
//!
//! ```text
//! (π_k / π_0)^x_c · ((1 - π_k) / (1 - π_0))^x_s
//! ```
//!
//! has an expectation of at most 1 as long as θ ≤ θ_0. So has any product of them, and any mixture
//! of products that begin at different batches, with weights that sum to 1: `E`. By Ville's
//! inequality `E` ever reaches 1/α with a probability of at most α, however often it is looked at
//! and however the traffic moves meanwhile. It conditions on the total, so what hits both sides
//! alike (a database that hiccups) is no evidence.
//!
//! A process that begins at the first batch only would have to win back what an hour of health has
//! told against the alternatives, before it could see a revision that turns bad later. The mixture
//! over beginnings always holds a process that has begun just now. Sources: Ville (1939); Shafer,
//! "Testing by betting" (2021); the mixture over beginnings is a Shiryaev–Roberts sum whose prior is
//! a proper one, so that the bound on false alarms stays.

use serde::{Deserialize, Serialize};

use crate::model::Tolerance;

/// What an alternative is, as a multiple of the tolerated risk.
const ALTERNATIVES: [f64; 4] = [1.75, 3.5, 8.0, 30.0];
/// The part of the weight that begins with the first batch; the rest is spread over later ones.
const FIRST: f64 = 0.75;
/// After so many more batches half of that has begun: about a release's length.
const HALF: u64 = 200;
/// Logarithms are kept in millionths, so that states can be compared and written down exactly.
const MICRO: f64 = 1e6;
/// `E` of nothing: `exp(NOTHING / MICRO)` is zero.
const NOTHING: i64 = i64::MIN / 4;

/// Requests, and those of them that were bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All that were counted.
    pub requests: u64,
    /// The bad ones among them.
    pub bad: u64,
}

/// What both sides counted over the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The new revision.
    pub canary: Tally,
    /// The one it replaces.
    pub stable: Tally,
}

/// What has been gathered against one revision in one track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// For each alternative the logarithm of its processes' sum, in millionths.
    sums: [i64; ALTERNATIVES.len()],
    /// Batches with a bad event; others say nothing.
    batches: u64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { sums: [NOTHING; ALTERNATIVES.len()], batches: 0 }
    }
}

impl Tally {
    /// The part of the requests that were bad; 0 of none.
    #[must_use]
    pub fn rate(self) -> f64 {
        if self.requests == 0 { 0.0 } else { float(self.bad) / float(self.requests) }
    }

    /// What was counted since `earlier`; nothing where a counter has begun anew.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        match self.requests.checked_sub(earlier.requests).zip(self.bad.checked_sub(earlier.bad)) {
            Some((requests, bad)) => Self { requests, bad: bad.min(requests) },
            None => Self::default(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, bad: self.bad + other.bad }
    }
}

impl Evidence {
    /// Takes a batch in. Returns whether it said anything: without traffic on both sides, or
    /// without a bad event, it does not.
    pub fn gather(&mut self, batch: Batch, tolerance: Tolerance) -> bool {
        let Batch { canary, stable } = batch;
        if canary.requests == 0 || stable.requests == 0 || canary.bad + stable.bad == 0 {
            return false;
        }
        let beginning = (self.begun_after(self.batches + 1) - self.begun()) / count();
        self.batches += 1;
        for (sum, multiple) in self.sums.iter_mut().zip(ALTERNATIVES) {
            let risk = multiple * tolerance.factor();
            let ratio = log_ratio(batch, tolerance.factor(), risk);
            let before = log_sum([float_log(*sum), beginning.ln()]);
            *sum = micro(before + ratio);
        }
        true
    }

    /// The logarithm of `E`: what has been gathered, and what has not begun yet.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        let rest = 1.0 - self.begun();
        let sums = self.sums.iter().map(|sum| float_log(*sum));
        log_sum(sums.chain([if rest > 0.0 { rest.ln() } else { f64::NEG_INFINITY }]))
    }

    /// Whether it is enough to say that the canary is worse, with a false alarm in at most
    /// `alpha` of all releases.
    #[must_use]
    pub fn is_enough(&self, alpha: f64) -> bool {
        self.log_e() >= -alpha.ln()
    }

    /// The weight of all processes that have begun.
    fn begun(&self) -> f64 {
        self.begun_after(self.batches)
    }

    /// `FIRST` with the first batch, half of the rest within `HALF` more, and all of it in the end.
    fn begun_after(&self, batches: u64) -> f64 {
        let later = |more: u64| (1.0 - FIRST) * float(HALF) / float(HALF + more);
        batches.checked_sub(1).map_or(0.0, |more| 1.0 - later(more))
    }
}

/// The logarithm of the likelihood ratio of a batch, for relative risk `risk` against `tolerated`.
fn log_ratio(batch: Batch, tolerated: f64, risk: f64) -> f64 {
    let (n_c, n_s) = (float(batch.canary.requests), float(batch.stable.requests));
    let share = |theta: f64| theta * n_c / (theta * n_c + n_s);
    let (null, alternative) = (share(tolerated), share(risk));
    float(batch.canary.bad) * (alternative / null).ln()
        + float(batch.stable.bad) * ((1.0 - alternative) / (1.0 - null)).ln()
}

/// The logarithm of the sum of what these are the logarithms of.
fn log_sum(logs: impl IntoIterator<Item = f64> + Clone) -> f64 {
    let most = logs.clone().into_iter().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + logs.into_iter().map(|log| (log - most).exp()).sum::<f64>().ln()
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests; one in 2^52 is exact enough")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

fn count() -> f64 {
    float(ALTERNATIVES.len() as u64)
}

#[expect(clippy::cast_precision_loss, reason = "a logarithm of millions is beyond any decision")]
fn float_log(micro: i64) -> f64 {
    if micro <= NOTHING { f64::NEG_INFINITY } else { micro as f64 / MICRO }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast saturates, and NOTHING is further away"
)]
fn micro(log: f64) -> i64 {
    ((log * MICRO).round() as i64).max(NOTHING)
}
