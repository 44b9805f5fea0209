//! How many instances the load asks for: measurements of one pool in, its size out.
//!
//! [`need`] says how many it takes now; [`Watch`] says when that has been so for long enough. Both
//! know one pool at a time, so that two revisions are never averaged, and neither knows which
//! instance is which, or what a release does meanwhile.

mod watch;

pub use watch::{INTERVAL, Step, Watch};

use crate::model::{Scale, Weight};

/// The load may be so much beside the target, in percent, before the size changes: what the
/// Kubernetes autoscaler tolerates.
pub const TOLERANCE_PERCENT: u64 = 10;

/// What is measured of each instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests that it is answering, in thousandths.
    InFlight,
    /// Processor time, in thousandths of a core.
    Cpu,
}

impl Metric {
    /// Its name, as in the stack file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Cpu => "cpu",
        }
    }
}

/// One metric of a pool: what its ready instances have together, and what each is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Which.
    pub metric: Metric,
    /// The sum over the ready instances that were measured, in thousandths.
    pub total: u64,
    /// Ready instances of which it is not known.
    pub unmeasured: u32,
    /// What one instance is to have, in thousandths; more than 0.
    pub target: u64,
}

impl Gauge {
    /// What one of `ready` instances has in the mean.
    #[must_use]
    pub fn mean(&self, ready: u32) -> u64 {
        self.total / u64::from(ready.saturating_sub(self.unmeasured)).max(1)
    }
}

/// A pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Instances that it is to have.
    pub size: u32,
    /// Those of them that can serve.
    pub ready: u32,
    /// One per target of the service.
    pub gauges: Vec<Gauge>,
}

/// How many instances a pool needs by what is measured now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Within the bounds.
    pub size: u32,
    /// The same without bounds.
    pub asked: u32,
    /// What asks for the most; `None` without any target.
    pub by: Option<Metric>,
}

/// The processor time that one instance is to use, in thousandths of a core: a part of its limit,
/// or of one core.
#[must_use]
pub fn cpu_target(part: Weight, limit_milli: Option<u32>) -> u64 {
    let whole = u64::from(limit_milli.unwrap_or(1_000));
    (whole * u64::from(part.0) / u64::from(Weight::ALL.0)).max(1)
}

/// How many instances `measured` needs.
///
/// The largest number that one of the targets asks for: `total / target`, rounded up, as the
/// Kubernetes autoscaler has it. Within [`TOLERANCE_PERCENT`] of its target a pool stays as it is.
/// What is not ready is no idle capacity: its place is never given up for that. What is not
/// measured licenses no shrinking.
#[must_use]
pub fn need(scale: &Scale, measured: &Measured) -> Need {
    let asks = measured.gauges.iter().map(|gauge| (asked(gauge, measured), gauge.metric));
    let most = asks.max_by_key(|(asked, _)| *asked);
    let (asked, by) = most.map_or((measured.size, None), |(asked, metric)| (asked, Some(metric)));
    Need { size: scale.within(asked), asked, by }
}

fn asked(gauge: &Gauge, measured: &Measured) -> u32 {
    let size = measured.size;
    let full = u64::from(size) * gauge.target;
    let by_load = u32::try_from(gauge.total.div_ceil(gauge.target.max(1))).unwrap_or(u32::MAX);
    let (least, most) = (full * (100 - TOLERANCE_PERCENT), full * (100 + TOLERANCE_PERCENT));
    let load = gauge.total.saturating_mul(100);
    if load > most {
        return by_load.max(size);
    }
    if load >= least || gauge.unmeasured > 0 {
        return size;
    }
    let missing = size.saturating_sub(measured.ready);
    by_load.saturating_add(missing).min(size)
}

#[cfg(test)]
mod tests;
