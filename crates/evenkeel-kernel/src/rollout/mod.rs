//! How a new revision takes over: pure functions from what is there to what should be there.
//!
//! A strategy knows counts only. It does not know which instance is which, who asked, or whether
//! the release goes well; `release` does.

mod rolling;

use crate::model::{Exposure, Gate, RevisionNumber, Service, ServiceName, Step, Strategy, Weight};
use crate::time::human;

/// One of the two pools of a rollout, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Instances that are meant to serve.
    pub size: u32,
    /// Those of them that can.
    pub ready: u32,
    /// Those of them that could not for so long that it is no passing trouble.
    pub broken: u32,
    /// Places taken: `size`, and those that are draining or still ending.
    pub occupied: u32,
}

/// A rollout at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// How many instances the service is to have.
    pub replicas: u32,
    /// The revision that is left; all zero when the service is new.
    pub old: Side,
    /// The revision that takes over.
    pub new: Side,
    /// Its part of the traffic now.
    pub weight: Weight,
}

/// What should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Instances of the old revision that are meant to serve.
    pub old: u32,
    /// Instances of the new revision that are meant to serve.
    pub new: u32,
    /// The new revision's part of the traffic.
    pub weight: Weight,
    /// Nothing more is to change within this step.
    pub reached: bool,
}

/// How many steps the strategy has; the last one is all traffic.
#[must_use]
pub fn steps(strategy: &Strategy, is_new: bool) -> usize {
    match strategy {
        _ if is_new => 1,
        Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => 1,
        Strategy::Canary { steps } => steps.len() + 1,
    }
}

/// The step of a canary that is watched before the next; `None` for the last, which is all
/// traffic.
#[must_use]
pub fn watched(strategy: &Strategy, step: usize, is_new: bool) -> Option<&Step> {
    match strategy {
        _ if is_new => None,
        Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => None,
        Strategy::Canary { steps } => steps.get(step),
    }
}

/// How many instances of the new revision start before any traffic moves.
#[must_use]
pub fn first_size(strategy: &Strategy, replicas: u32, from: Option<RevisionNumber>) -> u32 {
    match strategy {
        _ if from.is_none() => replicas,
        Strategy::BlueGreen { .. } => replicas,
        Strategy::Rolling { max_surge, .. } => max_surge.ceil(replicas).min(replicas),
        Strategy::Canary { steps } => {
            steps.first().map_or(replicas, |step| size(step.exposure, replicas))
        }
    }
}

/// What should be there in `step`.
#[must_use]
pub fn target(strategy: &Strategy, step: usize, now: &Situation) -> Target {
    match strategy {
        Strategy::Rolling { max_surge, max_unavailable } if now.old.occupied > 0 => {
            rolling::target(rolling::Bounds::of(*max_surge, *max_unavailable, now.replicas), now)
        }
        Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => stepped(None, now),
        Strategy::Canary { steps } => stepped(steps.get(step).map(|step| step.exposure), now),
    }
}

/// The way back of a rollout of which old instances are gone already: the old revision takes over
/// again, by at least a third of the replicas at a time.
#[must_use]
pub fn back(strategy: &Strategy, now: &Situation) -> Target {
    let third = now.replicas.div_ceil(3);
    let bounds = match strategy {
        Strategy::Rolling { max_surge, max_unavailable } => {
            let own = rolling::Bounds::of(*max_surge, *max_unavailable, now.replicas);
            // Where nothing may run beside (an exclusive resource), going back may not either.
            if own.surge == 0 {
                own
            } else {
                rolling::Bounds { surge: own.surge.max(third), ..own }
            }
        }
        Strategy::BlueGreen { .. } | Strategy::Canary { .. } => {
            rolling::Bounds { surge: now.replicas, unavailable: 0 }
        }
    };
    let mirrored =
        Situation { replicas: now.replicas, old: now.new, new: now.old, weight: now.weight.rest() };
    let target = rolling::target(bounds, &mirrored);
    Target { old: target.new, new: target.old, weight: target.weight.rest(), ..target }
}

/// A strategy that leaves the old pool whole and moves traffic by steps.
fn stepped(exposure: Option<Exposure>, now: &Situation) -> Target {
    let (size, weight) = match exposure {
        Some(exposure) => {
            (size(exposure, now.replicas), weight(exposure, now.replicas, now.old.size))
        }
        None => (now.replicas, Weight::ALL),
    };
    let ready = now.new.ready >= size;
    Target {
        old: now.old.size,
        new: now.new.size.max(size),
        weight: if ready { weight } else { now.weight },
        reached: ready && now.weight == weight,
    }
}

/// How many instances an exposure needs. A part of the traffic goes to at least two where there are
/// as many: of a single one nobody could say whether it is the revision or the instance that is odd.
fn size(exposure: Exposure, replicas: u32) -> u32 {
    match exposure {
        Exposure::Weight(weight) => weight.ceil(replicas).max(2).min(replicas),
        // Of a service that sleeps there are none at all.
        Exposure::Instances(count) => count.max(1).min(replicas),
    }
}

/// The part of the traffic of an exposure; instances get an even share each.
fn weight(exposure: Exposure, replicas: u32, old: u32) -> Weight {
    match exposure {
        Exposure::Weight(weight) => weight,
        Exposure::Instances(_) => {
            let new = size(exposure, replicas);
            Weight::of(new, new + old)
        }
    }
}

/// One sentence for the plan.
#[must_use]
pub fn describe(
    name: &ServiceName,
    from: Option<RevisionNumber>,
    to: RevisionNumber,
    service: &Service,
) -> String {
    let Some(from) = from else {
        return format!("send all traffic of {name} to {to} once it is ready");
    };
    match &service.rollout.strategy {
        Strategy::Rolling { max_surge, max_unavailable } => format!(
            "replace {name} {from} by {to}, at most {} more and {} fewer at a time",
            max_surge.ceil(service.replicas),
            max_unavailable.floor(service.replicas)
        ),
        Strategy::BlueGreen { .. } => {
            format!("switch all traffic of {name} from {from} to {to} at once")
        }
        Strategy::Canary { steps } => {
            let mut parts: Vec<_> = steps
                .iter()
                .map(|step| {
                    let exposure = match step.exposure {
                        Exposure::Weight(weight) => weight.to_string(),
                        Exposure::Instances(1) => "1 instance".to_owned(),
                        Exposure::Instances(n) => format!("{n} instances"),
                    };
                    let gate = step.gate.as_ref().map(gate).unwrap_or_default();
                    format!("{exposure} for {}{gate}", human(step.bake))
                })
                .collect();
            parts.push("100 %".to_owned());
            format!("move traffic of {name} from {from} to {to}: {}", parts.join(", "))
        }
    }
}

/// What a step waits for at its gate, for the plan.
fn gate(gate: &Gate) -> String {
    let by = match gate.approvers.is_empty() {
        true => String::new(),
        false => format!(" by {}", gate.approvers.join(" or ")),
    };
    let own = if gate.own { "" } else { ", but not by who asked for it" };
    let webhook = gate.webhook.as_ref().map(|it| match by.is_empty() {
        true => format!(" by anybody or by the webhook {}", it.to),
        false => format!(" or by the webhook {}", it.to),
    });
    format!(" until it is approved{by}{}{own}", webhook.unwrap_or_default())
}

#[cfg(test)]
mod tests;
