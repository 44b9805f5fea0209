//! The order of services: what is used comes before what uses it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Service, ServiceName};

/// All services, each after everything it uses. Members of a cycle come in the order of their
/// names, because no order is right for them.
#[must_use]
pub fn dependency_order(services: &BTreeMap<ServiceName, Service>) -> Vec<ServiceName> {
    let uses = |service: &Service| service.workload.uses.clone();
    ordered(&services.iter().map(|(name, service)| (name, uses(service))).collect())
}

/// All of these names, each after those of them that it waits for.
pub(super) fn ordered(all: &BTreeMap<&ServiceName, BTreeSet<ServiceName>>) -> Vec<ServiceName> {
    let mut order = Vec::with_capacity(all.len());
    let mut waiting: BTreeMap<&ServiceName, BTreeSet<&ServiceName>> = all
        .iter()
        .map(|(name, others)| (*name, others.iter().filter(|it| all.contains_key(it)).collect()))
        .collect();
    while !waiting.is_empty() {
        let free = waiting.iter().find(|(_, uses)| uses.is_empty()).map(|(name, _)| *name);
        // Nothing is free: a cycle. Its first member by name breaks it.
        let Some(next) = free.or_else(|| waiting.keys().next().copied()) else { break };
        waiting.remove(next);
        for uses in waiting.values_mut() {
            uses.remove(next);
        }
        order.push(next.clone());
    }
    order
}

/// Every group of services that use one another in a circle, each group sorted by name.
#[must_use]
pub fn cycles(services: &BTreeMap<ServiceName, Service>) -> Vec<Vec<ServiceName>> {
    let reach: BTreeMap<&ServiceName, BTreeSet<&ServiceName>> =
        services.keys().map(|name| (name, reachable(services, name))).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for name in services.keys().filter(|name| reach[name].contains(name)) {
        if seen.contains(name) {
            continue;
        }
        let group: Vec<_> = services
            .keys()
            .filter(|other| reach[name].contains(other) && reach[other].contains(name))
            .collect();
        seen.extend(group.iter().copied());
        found.push(group.into_iter().cloned().collect());
    }
    found
}

/// Everything that `from` uses, directly or through others.
fn reachable<'a>(
    services: &'a BTreeMap<ServiceName, Service>,
    from: &ServiceName,
) -> BTreeSet<&'a ServiceName> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&ServiceName> = vec![];
    let uses = |name: &ServiceName| services.get(name).map(|service| &service.workload.uses);
    open.extend(uses(from).into_iter().flatten());
    while let Some(name) = open.pop() {
        if found.insert(name) {
            open.extend(uses(name).into_iter().flatten());
        }
    }
    found
}
