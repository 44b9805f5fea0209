//! The catalogue: every service by name, the stack's own and those that others registered.
//!
//! Like the directory it is a snapshot that shares what did not change. It knows no protocol.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_kernel::model::{Discovery, RevisionNumber, ServiceName};
use evenkeel_kernel::routing::directory::{Directory, Listing, Offer};

/// Every service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    /// The stack's own part.
    pub(crate) directory: Arc<Directory>,
}

/// One service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service<'a> {
    Own(&'a Arc<Listing>),
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

    /// The service of this name, in lower case.
    pub(crate) fn service(&self, name: &str) -> Option<Service<'_>> {
        let name: ServiceName = name.parse().ok()?;
        self.directory.services.get(&name).map(Service::Own)
    }
}

impl Service<'_> {
    /// Whom clients may use.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        match self {
            Self::Own(listing) => listing.offers().iter().map(own).collect(),
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
    now.directory.changed(&before.directory).map(ToString::to_string).collect()
}

/// Something keyed by names of services.
pub(crate) type ByName<T> = BTreeMap<Box<str>, T>;
