//! The rolling strategy: instances are replaced a few at a time, inside two bounds.

use super::{Situation, Target};
use crate::model::{Share, Weight};

/// How far the number of instances may leave the number wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Instances beyond `replicas`.
    pub(super) surge: u32,
    /// Instances missing of `replicas`.
    pub(super) unavailable: u32,
}

impl Bounds {
    /// The bounds for `replicas`. A surge is rounded up, an absence down, as Kubernetes does; if
    /// both come to nothing one instance may be missing, because otherwise nothing could move.
    pub(super) fn of(max_surge: Share, max_unavailable: Share, replicas: u32) -> Self {
        let surge = max_surge.ceil(replicas);
        let unavailable = max_unavailable.floor(replicas).min(replicas);
        Self { surge, unavailable: if surge == 0 { unavailable.max(1) } else { unavailable } }
    }
}

/// What should be there. An old instance goes only when its place is needed, so as many of them
/// as the surge allows stay warm.
pub(super) fn target(bounds: Bounds, now: &Situation) -> Target {
    let places = now.replicas.saturating_add(bounds.surge);
    let free = places.saturating_sub(now.old.occupied + now.new.occupied);
    let new = now.replicas.min(now.new.size + free).max(now.new.size);

    let missing = now.replicas.saturating_sub(new);
    let leaving = now.old.occupied - now.old.size;
    let needed = missing.saturating_sub(leaving);
    let available = now.old.ready + now.new.ready.min(now.replicas);
    let required = now.replicas.saturating_sub(bounds.unavailable);
    let spare = available.saturating_sub(required).min(now.old.ready);
    let going = needed.min(useless(bounds, now) + spare).min(now.old.size);
    let old = now.old.size - going;

    let staying = now.old.ready.min(old);
    let all = now.new.ready >= now.replicas;
    // With fewer ready than there must be, something else is wrong, or an edge that has just
    // started knows nobody yet. Traffic does not move because of that.
    let enough = available + now.old.broken >= required;
    let weight = if all || old == 0 && now.new.ready > 0 {
        Weight::ALL
    } else if enough && now.new.ready + staying > 0 {
        Weight::of(now.new.ready, now.new.ready + staying)
    } else {
        now.weight
    };
    Target { old, new, weight, reached: all && now.weight == Weight::ALL }
}

/// Old instances that nobody misses. That more than half of them are broken is believed only once
/// a new one is well, because it may be the checking that is broken.
fn useless(bounds: Bounds, now: &Situation) -> u32 {
    let believed = match now.new.ready > 0 {
        true => now.old.size,
        false => {
            let missing = bounds.unavailable.max(now.replicas / 2);
            now.old.size.saturating_sub(now.replicas.saturating_sub(missing))
        }
    };
    now.old.broken.min(believed)
}
