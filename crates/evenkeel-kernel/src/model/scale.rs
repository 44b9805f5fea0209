//! How the number of instances of a service follows its load.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::service::Weight;

/// The bounds of a service's size, and the load that one instance is to have.
///
/// With both targets the one that asks for more instances counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Never fewer instances than this. With 0 it has none while nobody asks for it.
    pub min: u32,
    /// Never more than this, at least `min`.
    pub max: u32,
    /// Requests that one instance is to be answering.
    pub in_flight: Option<u32>,
    /// The part of its processor time that one instance is to use: of its limit, or of one core.
    pub cpu: Option<Weight>,
    /// How long more instances must have been needed before it grows.
    pub up_after: Duration,
    /// How long fewer instances must have been enough before it shrinks.
    pub down_after: Duration,
    /// How long nobody must have asked for it before it has none, where `min` is 0.
    #[serde(default = "zero_after")]
    pub zero_after: Duration,
}

fn zero_after() -> Duration {
    Scale::ZERO_AFTER
}

impl Scale {
    /// Requests in flight that an instance is to have, where no target is named at all.
    pub const IN_FLIGHT: u32 = 10;
    /// [`Scale::up_after`] where it is not said.
    pub const UP_AFTER: Duration = Duration::from_secs(15);
    /// [`Scale::down_after`] where it is not said: as long as Kubernetes waits.
    pub const DOWN_AFTER: Duration = Duration::from_secs(300);
    /// [`Scale::zero_after`] where it is not said: starting again costs somebody a wait.
    pub const ZERO_AFTER: Duration = Duration::from_secs(300);

    /// Whether it may have no instance at all.
    #[must_use]
    pub fn sleeps(&self) -> bool {
        self.min == 0
    }

    /// `size` within the bounds.
    #[must_use]
    pub fn within(&self, size: u32) -> u32 {
        // Bounds that cross are refused where they are read; `clamp` would panic.
        size.min(self.max).max(self.min)
    }

    /// Whether people may ask for so many instances.
    #[must_use]
    pub fn allows(&self, size: u32) -> bool {
        self.within(size) == size
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}
