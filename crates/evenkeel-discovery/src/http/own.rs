//! The interface of our own, and the targets that Prometheus asks for.

use std::collections::BTreeMap;

use evenkeel_kernel::routing::directory::{DOOR, Listed, Listing};
use evenkeel_kernel::world::Health;
use serde::Serialize;

use crate::catalog::{Catalog, Service};
use crate::registry::Group;

/// The whole directory.
#[derive(Debug, Serialize)]
pub(super) struct Directory<'a> {
    stack: &'a str,
    index: u64,
    services: BTreeMap<&'a str, Entry>,
}

/// One service.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    service: String,
    /// Whether others registered it.
    registered: bool,
    /// Where it is always reached, by way of the edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    door: Option<String>,
    /// The revisions with their parts of the traffic, in percent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    split: BTreeMap<String, f64>,
    instances: Vec<Instance>,
}

#[derive(Debug, Serialize)]
struct Instance {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    address: String,
    health: &'static str,
    draining: bool,
    /// Its share against the others of the service; 0 is not to be used.
    weight: u16,
}

pub(super) fn directory(catalog: &Catalog, index: u64) -> Directory<'_> {
    let services = catalog.services();
    let entry = |(name, it): (&'_ str, Service<'_>)| entry(name, it);
    Directory {
        stack: catalog.stack(),
        index,
        services: services.into_iter().map(|(name, it)| (name, entry((name, it)))).collect(),
    }
}

pub(super) fn service(catalog: &Catalog, name: &str) -> Option<Entry> {
    catalog.service(name).map(|it| entry(name, it))
}

fn entry(name: &str, service: Service<'_>) -> Entry {
    match service {
        Service::Own(listing) => of_the_stack(name, listing),
        Service::Registered(group) => of_others(name, group),
    }
}

/// How an instance is, in one word.
pub(super) fn health(it: &Listed) -> &'static str {
    match it.seen.health {
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
        Health::Unknown => "unknown",
    }
}

fn of_the_stack(name: &str, listing: &Listing) -> Entry {
    let offers = listing.offers();
    let weights: BTreeMap<_, _> =
        offers.iter().map(|it| ((it.revision, it.slot), it.weight)).collect();
    let mut instances = Vec::new();
    for (revision, pool) in &listing.pools {
        for it in &pool.instances {
            instances.push(Instance {
                id: format!("{name}.{revision}.{}", it.slot),
                revision: Some(revision.to_string()),
                address: it.addr.to_string(),
                health: health(it),
                draining: it.draining,
                weight: weights.get(&(*revision, it.slot)).copied().unwrap_or(0),
            });
        }
    }
    let part = |weight: u16| f64::from(weight) / 100.0;
    let split = listing.pools.iter().map(|(it, pool)| (it.to_string(), part(pool.weight.0)));
    Entry {
        service: name.to_owned(),
        registered: false,
        door: listing.door.map(|it| it.to_string()),
        split: split.collect(),
        instances,
    }
}

fn of_others(name: &str, group: &Group) -> Entry {
    let instance = |it: &std::sync::Arc<crate::registry::Entry>| Instance {
        id: it.service.id.clone(),
        revision: None,
        address: target(&it.service.address, it.service.port),
        health: match it.weight() {
            0 => "unhealthy",
            _ => "healthy",
        },
        draining: false,
        weight: it.weight(),
    };
    Entry {
        service: name.to_owned(),
        registered: true,
        door: None,
        split: BTreeMap::new(),
        instances: group.entries.iter().map(instance).collect(),
    }
}

/// An address with its port; none is this machine.
fn target(address: &str, port: u16) -> String {
    match address {
        "" => format!("127.0.0.1:{port}"),
        it if it.contains(':') => format!("[{it}]:{port}"),
        it => format!("{it}:{port}"),
    }
}

/// A group of targets, as Prometheus wants it.
#[derive(Debug, Serialize)]
pub(super) struct Targets {
    targets: Vec<String>,
    labels: BTreeMap<&'static str, String>,
}

/// Every instance, also those that are ill: they are watched all the same. A door is none; to ask
/// there would wake its service again and again.
pub(super) fn targets(catalog: &Catalog, only: &[&str]) -> Vec<Targets> {
    let mut all = Vec::new();
    for (name, service) in catalog.services() {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let door = DOOR.to_string();
        let instances = entry(name, service).instances.into_iter();
        for it in instances.filter(|it| it.revision.as_ref() != Some(&door)) {
            let labels = [
                ("__meta_evenkeel_stack", catalog.stack().to_owned()),
                ("__meta_evenkeel_service", name.to_owned()),
                ("__meta_evenkeel_instance", it.id),
                ("__meta_evenkeel_revision", it.revision.unwrap_or_default()),
                ("__meta_evenkeel_health", it.health.to_owned()),
                ("__meta_evenkeel_draining", it.draining.to_string()),
                ("__meta_evenkeel_weight", it.weight.to_string()),
            ];
            all.push(Targets { targets: vec![it.address], labels: labels.into() });
        }
    }
    all
}
