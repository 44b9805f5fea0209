//! What the evidence of one track comes to: a finding for people, or nothing yet.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Tally};
use crate::model::Tolerance;

/// The part of all releases of a sound revision that may be taken back by the analysis, over all
/// tracks together.
const ALPHA: f64 = 0.01;

/// What counts as bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Track {
    /// A request that failed.
    Errors,
    /// An answer that took longer than 99 in 100 of the stable revision's did.
    SlowTail,
    /// An answer that took noticeably longer than half of the stable revision's did.
    SlowMiddle,
}

/// Everything known of one track at one moment.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Which track.
    pub track: Track,
    /// What has been gathered.
    pub evidence: &'a Evidence,
    /// What is tolerated in [`Track::Errors`] and [`Track::SlowTail`].
    pub tolerance: Tolerance,
    /// What each instance of the canary counted lately.
    pub canary: &'a [Tally],
    /// What the stable revision counted lately.
    pub stable: Tally,
}

/// The new revision is worse, and by how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// In which way.
    pub track: Track,
    /// Its rate of bad events lately.
    pub canary: f64,
    /// The stable revision's.
    pub stable: f64,
    /// The odds against a chance: `E`, as its logarithm.
    pub log_e: f64,
}

impl Track {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Errors, Self::SlowTail, Self::SlowMiddle];

    /// The false alarms that this track may raise: errors, which hurt most, get most of them. Of
    /// slow answers there are so many that stricter bounds cost nothing.
    #[must_use]
    pub fn alpha(self) -> f64 {
        match self {
            Self::Errors => ALPHA * 0.8,
            Self::SlowTail | Self::SlowMiddle => ALPHA * 0.1,
        }
    }

    /// The relative risk that is tolerated here. Of the stable revision's answers up to a half are
    /// slower than its middle, so that twice as many cannot be asked for.
    #[must_use]
    pub fn tolerance(self, given: Tolerance) -> Tolerance {
        match self {
            Self::Errors | Self::SlowTail => given,
            Self::SlowMiddle => given.min(Tolerance(1_500)),
        }
    }

    /// A smaller difference of rates hurts too few to go back for, however certain it is.
    fn difference_min(self) -> f64 {
        match self {
            Self::Errors => 0.001,
            Self::SlowTail => 0.01,
            Self::SlowMiddle => 0.1,
        }
    }
}

impl Case<'_> {
    /// Says that the new revision is worse, if it is certain, if it matters, and if it is not one
    /// odd instance among several.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        if !self.evidence.is_enough(self.track.alpha()) {
            return None;
        }
        let canary = self.canary.iter().fold(Tally::default(), |sum, it| sum.plus(*it));
        let (canary, stable) = (canary.rate(), self.stable.rate());
        let matters = canary - stable >= self.track.difference_min();
        (matters && self.is_shared()).then(|| Finding {
            track: self.track,
            canary,
            stable,
            log_e: self.evidence.log_e(),
        })
    }

    /// Whether at least half of the canary's instances, and at least two if there are as many, are
    /// worse than tolerated each by itself.
    fn is_shared(&self) -> bool {
        let bound = self.track.tolerance(self.tolerance).factor() * self.stable.rate();
        let asked = self.canary.iter().filter(|it| it.requests > 0).count();
        let worse = self.canary.iter().filter(|it| it.bad > 0 && it.rate() > bound).count();
        worse > 0 && worse * 2 >= asked && worse >= asked.min(2)
    }
}

/// How many requests a canary must have answered before its silence means anything: enough for the
/// stable revision to have failed once, within 100 and 1,000.
#[must_use]
pub fn requests_needed(stable: Tally) -> u64 {
    stable.requests.checked_div(stable.bad).unwrap_or(u64::MAX).clamp(100, 1_000)
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Errors => "errors",
            Self::SlowTail => "slow answers",
            Self::SlowMiddle => "slower answers",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.track {
            Track::Errors => "of the tries on it fail",
            Track::SlowTail => "of its answers are slower than 99 % of the stable revision's were",
            Track::SlowMiddle => "of its answers are slower than the middle of the stable revision",
        };
        let (canary, stable) = (percent(self.canary), percent(self.stable));
        write!(f, "{canary} {what}, beside {stable}; the odds against chance are ")?;
        // Beyond this nobody cares, and a number would only look exact.
        match self.log_e.exp() {
            odds if odds < 1e6 => write!(f, "{odds:.0} to 1"),
            _ => f.write_str("over a million to 1"),
        }
    }
}

/// A rate with two digits that matter: `0.12 %`, `1.2 %`, `12 %`.
#[must_use]
pub fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    match percent {
        it if it >= 10.0 => format!("{it:.0} %"),
        it if it >= 1.0 => format!("{it:.1} %"),
        it => format!("{it:.2} %"),
    }
}
