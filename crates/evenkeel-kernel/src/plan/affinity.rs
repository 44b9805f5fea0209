//! Affinity in a plan: which services follow their callers instead of moving on their own.
//!
//! A service follows when it asks for affinity and its revision is replaced in the same release as
//! that of a service that calls it. New callers are then sent to its new revision and old ones to
//! its old one, so it takes over with them. What reaches it otherwise moves by its own steps, once
//! its callers have moved.

use std::collections::BTreeSet;

use super::{Now, dependency_order};
use crate::model::{ServiceName, Stack, Strategy};

/// The services of this release whose new revisions call the new one of `name`, if it follows
/// them; else none.
#[must_use]
pub fn followed(now: &Now<'_>, wanted: &Stack, name: &ServiceName) -> BTreeSet<ServiceName> {
    let asks = wanted.services.get(name).is_some_and(|service| service.rollout.affinity);
    if !asks || !now.services.contains_key(name) || !moves(now, name) {
        return BTreeSet::new();
    }
    let callers = wanted.services.iter().filter(|(_, it)| it.workload.uses.contains(name));
    callers.filter(|(caller, _)| moves(now, caller)).map(|(caller, _)| caller.clone()).collect()
}

/// How a service that follows takes over what its callers do not bring: at once, if there is no
/// such thing, and without replacing any of its old instances before.
#[must_use]
pub fn following(
    strategy: &Strategy,
    wanted: &Stack,
    name: &ServiceName,
    callers: &BTreeSet<ServiceName>,
) -> Strategy {
    let routed = wanted.routes.values().any(|route| route.to() == Some(name));
    let other = |(caller, service): (&ServiceName, &crate::model::Service)| {
        service.workload.uses.contains(name) && !callers.contains(caller)
    };
    let reached_otherwise = routed || wanted.services.iter().any(other);
    match strategy {
        Strategy::Canary { .. } if reached_otherwise => strategy.clone(),
        Strategy::BlueGreen { .. } => strategy.clone(),
        Strategy::Canary { .. } | Strategy::Rolling { .. } => Strategy::BlueGreen { preview: None },
    }
}

/// The services of `wanted` whose revision differs from the deployed one, in the order in which
/// traffic moves: what is used before what uses it, but what follows its callers after them.
#[must_use]
pub fn moving(now: &Now<'_>, wanted: &Stack) -> Vec<ServiceName> {
    let moving = dependency_order(&wanted.services).into_iter().filter(|name| moves(now, name));
    let (mut order, follow): (Vec<_>, Vec<_>) =
        moving.partition(|name| followed(now, wanted, name).is_empty());
    order.extend(follow.into_iter().rev());
    order
}

fn moves(now: &Now<'_>, name: &ServiceName) -> bool {
    match (now.services.get(name), now.next.get(name)) {
        (Some(deployed), Some(next)) => deployed.revision != *next,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}
