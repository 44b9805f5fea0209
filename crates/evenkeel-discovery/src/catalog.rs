//! The catalogue: every service by name, the stack's own and those that others registered.
//!
//! Like the directory it is a snapshot that shares what did not change. It knows no protocol. A
//! name that the stack has is the stack's, whoever else registers it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_kernel::model::{Discovery, RevisionNumber, ServiceName};
use evenkeel_kernel::routing::directory::{Directory, Listing, Offer};

use crate::registry::{Group, Registered};

/// Every service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    /// The stack's own part.
    pub(crate) directory: Arc<Directory>,
    /// What others registered.
    pub(crate) registered: Arc<Registered>,
    /// Rises when there are other names or tags.
    pub(crate) names_index: u64,
}

/// One service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service<'a> {
    Own(&'a Arc<Listing>),
    Registered(&'a Arc<Group>),
}

/// Where one instance is, for a client that asked for the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) weight: u16,
    /// The labels below the service's own name, if it has a name of its own.
    pub(crate) place: Option<(RevisionNumber, u32)>,
}

impl Catalog {
    pub(crate) fn settings(&self) -> &Discovery {
        &self.directory.settings
    }

    /// The stack's name; a label that no name has while it is not known.
    pub(crate) fn stack(&self) -> &str {
        self.directory.stack.as_ref().map_or("", |name| name.as_str())
    }

    /// The service of this name.
    pub(crate) fn service(&self, name: &str) -> Option<Service<'_>> {
        match self.own(name) {
            Some(own) => Some(Service::Own(own)),
            None => self.registered.group(name).map(Service::Registered),
        }
    }

    /// The stack's own service of this name.
    pub(crate) fn own(&self, name: &str) -> Option<&Arc<Listing>> {
        let name: ServiceName = name.parse().ok()?;
        self.directory.services.get(&name)
    }

    /// Every service by name.
    pub(crate) fn services(&self) -> BTreeMap<&str, Service<'_>> {
        let registered = self.registered.groups().map(|(name, it)| (name, Service::Registered(it)));
        let own = self.directory.services.iter();
        registered.chain(own.map(|(name, it)| (name.as_str(), Service::Own(it)))).collect()
    }

    /// The tags of a service; `None` when there is no such service.
    pub(crate) fn tags(&self, name: &str) -> Option<BTreeSet<String>> {
        self.service(name).map(|it| it.tags())
    }

    /// The index of the last change.
    pub(crate) fn index(&self) -> u64 {
        self.directory.index + self.registered.index
    }

    /// The index of the last change of one service.
    pub(crate) fn index_of(&self, name: &str) -> u64 {
        match self.service(name) {
            Some(Service::Own(listing)) => listing.index,
            Some(Service::Registered(group)) => group.index,
            None => self.directory.names_index.max(self.registered.names_index),
        }
    }
}

impl Service<'_> {
    /// Whom clients may use.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        match self {
            Self::Own(listing) => listing.offers().iter().map(own).collect(),
            Self::Registered(group) => group.endpoints(|_| true),
        }
    }

    /// The same of those with a tag. Revisions are tags: `r12`.
    pub(crate) fn tagged(&self, tag: &str) -> Option<Vec<Endpoint>> {
        match self {
            Self::Own(listing) => {
                let revision = revision(tag)?;
                listing.pools.get(&revision)?;
                Some(listing.offers_of(revision).iter().map(own).collect())
            }
            Self::Registered(group) => {
                let has = |it: &crate::registry::Entry| {
                    it.service.tags.iter().any(|own| own.eq_ignore_ascii_case(tag))
                };
                group.entries.iter().any(|it| has(it)).then(|| group.endpoints(has))
            }
        }
    }

    /// One instance, however it is.
    pub(crate) fn instance(&self, revision: RevisionNumber, slot: u32) -> Option<Endpoint> {
        match self {
            Self::Own(listing) => {
                let it = listing.pools.get(&revision)?.instance(slot)?;
                let (addr, weight) = (it.addr, Offer::WEIGHT_MAX);
                Some(own(&Offer { revision, slot, addr, weight }))
            }
            Self::Registered(_) => None,
        }
    }

    /// Its tags.
    pub(crate) fn tags(&self) -> BTreeSet<String> {
        match self {
            Self::Own(listing) => listing.pools.keys().map(ToString::to_string).collect(),
            Self::Registered(group) => {
                group.entries.iter().flat_map(|it| it.service.tags.iter().cloned()).collect()
            }
        }
    }
}

fn own(offer: &Offer) -> Endpoint {
    Endpoint {
        ip: offer.addr.ip(),
        port: offer.addr.port(),
        weight: offer.weight,
        place: Some((offer.revision, offer.slot)),
    }
}

/// The revision that a label names: `r12`.
pub(crate) fn revision(label: &str) -> Option<RevisionNumber> {
    number(label, 'r').map(RevisionNumber)
}

/// The number that a label is, after `prefix`; written in one way only.
pub(crate) fn number(label: &str, prefix: char) -> Option<u32> {
    let digits = label.strip_prefix(prefix)?;
    let plain = digits.bytes().all(|it| it.is_ascii_digit());
    (plain && !digits.starts_with('0')).then(|| digits.parse().ok()).flatten()
}

/// The names in which two catalogues differ.
pub(crate) fn changed(now: &Catalog, before: &Catalog) -> Vec<String> {
    let mut names: Vec<String> =
        now.directory.changed(&before.directory).map(ToString::to_string).collect();
    if !Arc::ptr_eq(&now.registered, &before.registered) {
        names.extend(now.registered.changed(&before.registered));
    }
    names
}

/// Something keyed by names of services.
pub(crate) type ByName<T> = BTreeMap<Box<str>, T>;
