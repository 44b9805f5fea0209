//! The directory: what discovery tells of each service, as one immutable snapshot.
//!
//! It is made from the routing table and from the health that the edge sees, and is replaced as a
//! whole. What did not change is shared with the snapshot before, down to single pools, so that a
//! change costs what changed, and whoever watches sees by the pointers what is new. It knows no
//! protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::{
    Discovery, Generation, InstanceId, PoolId, Protocol, RevisionNumber, ServiceName, StackName,
    Weight,
};
use crate::routing::{self, RoutingTable};
use crate::world::Health;

/// The revision as which the door of a service is told of that may have no instance. No revision
/// has this number.
pub const DOOR: RevisionNumber = RevisionNumber(0);
/// The slot of its only instance.
const DOOR_SLOT: u32 = 1;

/// All services of one stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Rises with every change.
    pub index: u64,
    /// The index of the last change of which services there are.
    pub names_index: u64,
    /// The decision that its table comes from.
    pub generation: Generation,
    /// The stack's name, once a table has said it.
    pub stack: Option<StackName>,
    /// What discovery is asked to be.
    pub settings: Arc<Discovery>,
    /// The services by name.
    pub services: BTreeMap<ServiceName, Arc<Listing>>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The directory's index when this last changed.
    pub index: u64,
    /// Where it is always reached, by way of the edge.
    pub door: Option<SocketAddr>,
    /// Its revisions that have instances.
    pub pools: BTreeMap<RevisionNumber, Arc<Pool>>,
}

/// The instances of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its part of the traffic.
    pub weight: Weight,
    /// What its instances speak.
    pub protocol: Protocol,
    /// Its instances, by rising slot.
    pub instances: Vec<Listed>,
}

/// One instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number in the pool.
    pub slot: u32,
    /// Where it listens.
    pub addr: SocketAddr,
    /// How it is.
    pub seen: Seen,
    /// It gets nothing new.
    pub draining: bool,
}

/// What the edge sees of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How it is now.
    pub health: Health,
    /// It was healthy at some time.
    pub once: bool,
}

impl Seen {
    /// Nothing yet.
    pub const NOTHING: Self = Self { health: Health::Unknown, once: false };
}

impl Listed {
    /// Whether new requests may go to it.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.seen.health == Health::Healthy && !self.draining
    }
}

/// An instance that a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its revision.
    pub revision: RevisionNumber,
    /// Its slot.
    pub slot: u32,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its share against the other offers, 1 to [`Offer::WEIGHT_MAX`].
    pub weight: u16,
}

impl Offer {
    /// The weight of those that get most: all that fits into an SRV record, because clients round.
    pub const WEIGHT_MAX: u16 = u16::MAX;
}

impl Directory {
    /// The directory for `table`, sharing with this one whatever is the same.
    #[must_use]
    pub fn next(&self, table: &RoutingTable, seen: &dyn Fn(&InstanceId) -> Seen) -> Self {
        let index = self.index + 1;
        let mut next = Self {
            index,
            names_index: self.names_index,
            generation: table.fence.generation,
            stack: table.stack.clone(),
            settings: match table.discovery == *self.settings {
                true => Arc::clone(&self.settings),
                false => Arc::new(table.discovery.clone()),
            },
            services: BTreeMap::new(),
        };
        for (name, service) in &table.services {
            let before = self.services.get(name);
            let listing = listing(name, service, before.map(Arc::as_ref), index, seen);
            let kept = before.filter(|before| before.says_as(&listing));
            let listing = kept.map_or_else(|| Arc::new(listing), Arc::clone);
            next.services.insert(name.clone(), listing);
        }
        if !next.services.keys().eq(self.services.keys()) || next.stack != self.stack {
            next.names_index = index;
        }
        next
    }

    /// The directory with what is now seen of some instances; `None` when that is nothing new.
    #[must_use]
    pub fn with(&self, seen: impl IntoIterator<Item = (InstanceId, Seen)>) -> Option<Self> {
        let index = self.index + 1;
        let mut next: Option<Self> = None;
        for (id, seen) in seen {
            let now = next.as_ref().unwrap_or(self);
            let listing = now.services.get(&id.pool.service);
            let pool = listing.and_then(|it| it.pools.get(&id.pool.revision));
            let (Some(listing), Some(pool)) = (listing, pool) else { continue };
            let Some(place) = pool.place(id.slot) else { continue };
            if pool.instances.get(place).is_none_or(|it| it.seen == seen) {
                continue;
            }
            let mut pool = Pool::clone(pool);
            if let Some(it) = pool.instances.get_mut(place) {
                it.seen = seen;
            }
            let mut listing = Listing::clone(listing);
            listing.index = index;
            listing.pools.insert(id.pool.revision, Arc::new(pool));
            let next = next.get_or_insert_with(|| Self { index, ..self.clone() });
            next.services.insert(id.pool.service, Arc::new(listing));
        }
        next
    }

    /// The services that are not as they were in `before`, and those that are no longer there.
    pub fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a ServiceName> {
        let now = self.services.iter().filter(|(name, listing)| {
            before.services.get(*name).is_none_or(|it| !Arc::ptr_eq(it, listing))
        });
        let gone = before.services.keys().filter(|name| !self.services.contains_key(*name));
        now.map(|(name, _)| name).chain(gone)
    }
}

fn listing(
    name: &ServiceName,
    service: &routing::Service,
    before: Option<&Listing>,
    index: u64,
    seen: &dyn Fn(&InstanceId) -> Seen,
) -> Listing {
    let by_door = service.by_door.zip(service.door);
    let pools = service.pools.iter().map(|(revision, source)| {
        let id = PoolId::new(name, *revision);
        let instances = source.instances.iter().map(|(slot, it)| {
            let seen = seen(&id.instance(*slot));
            Listed { slot: *slot, addr: it.addr, seen, draining: it.draining }
        });
        let split = service.split.get(revision).filter(|_| by_door.is_none());
        let weight = split.copied().unwrap_or_default();
        let protocol = source.protocol;
        let pool = Pool { weight, protocol, instances: instances.collect() };
        (*revision, pool)
    });
    let door = by_door.map(|(protocol, addr)| {
        let seen = Seen { health: Health::Healthy, once: true };
        let instances = vec![Listed { slot: DOOR_SLOT, addr, seen, draining: false }];
        (DOOR, Pool { weight: Weight::ALL, protocol, instances })
    });
    let kept = |(revision, pool)| {
        let kept = before.and_then(|it| it.pools.get(&revision)).filter(|it| ***it == pool);
        (revision, kept.map_or_else(|| Arc::new(pool), Arc::clone))
    };
    let pools = door.into_iter().chain(pools).map(kept).collect();
    Listing { index, door: service.door, pools }
}

impl Listing {
    /// Whether both say the same, whenever they began to.
    fn says_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<Pool>, &Arc<Pool>)| Arc::ptr_eq(a, b) || a == b;
        self.door == other.door
            && self.pools.keys().eq(other.pools.keys())
            && self.pools.values().zip(other.pools.values()).all(same)
    }

    /// The instances that a client may use, with weights that come to the split. Where nobody of
    /// those with weight is well, all that were are offered: more likely the check is wrong.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        let weighted = || self.pools.iter().filter(|(_, pool)| pool.weight.0 > 0);
        let well = weighted().any(|(_, pool)| pool.instances.iter().any(Listed::serves));
        let chosen: Vec<(RevisionNumber, f64, Vec<&Listed>)> = weighted()
            .map(|(revision, pool)| {
                let chosen: Vec<_> = pool.chosen(well).collect();
                #[expect(clippy::cast_precision_loss, reason = "a count of instances")]
                let each = f64::from(pool.weight.0) / chosen.len().max(1) as f64;
                (*revision, each, chosen)
            })
            .filter(|(_, _, chosen)| !chosen.is_empty())
            .collect();
        let most = chosen.iter().fold(0.0_f64, |most, (_, each, _)| most.max(*each));
        let offer = |(revision, each, chosen): &(RevisionNumber, f64, Vec<&Listed>)| {
            let (revision, weight) = (*revision, scaled(*each, most));
            let offer = |it: &&Listed| Offer { revision, slot: it.slot, addr: it.addr, weight };
            chosen.iter().map(offer).collect::<Vec<_>>()
        };
        chosen.iter().flat_map(offer).collect()
    }

    /// The same of one revision, whatever its weight.
    #[must_use]
    pub fn offers_of(&self, revision: RevisionNumber) -> Vec<Offer> {
        let Some(pool) = self.pools.get(&revision) else { return Vec::new() };
        let well = pool.instances.iter().any(Listed::serves);
        let offer = |it: &Listed| Offer {
            revision,
            slot: it.slot,
            addr: it.addr,
            weight: Offer::WEIGHT_MAX,
        };
        pool.chosen(well).map(offer).collect()
    }
}

/// `each` of `most`, in weights of offers.
fn scaled(each: f64, most: f64) -> u16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and WEIGHT_MAX"
    )]
    let weight = (each / most * f64::from(Offer::WEIGHT_MAX)).round() as u16;
    weight.max(1)
}

impl Pool {
    fn place(&self, slot: u32) -> Option<usize> {
        self.instances.binary_search_by_key(&slot, |it| it.slot).ok()
    }

    /// The instance in this slot.
    #[must_use]
    pub fn instance(&self, slot: u32) -> Option<&Listed> {
        self.instances.get(self.place(slot)?)
    }

    /// Those that are well, or where nobody is, those that were.
    fn chosen(&self, well: bool) -> impl Iterator<Item = &Listed> {
        self.instances.iter().filter(move |it| match well {
            true => it.serves(),
            false => it.seen.once && !it.draining,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Probe;

    const WELL: Seen = Seen { health: Health::Healthy, once: true };
    const ILL: Seen = Seen { health: Health::Unhealthy, once: true };

    fn pool(first_port: u16, count: u32) -> routing::Pool {
        let instance = |slot: u32| {
            let port = first_port + u16::try_from(slot).unwrap();
            (slot, routing::Instance { addr: ([127, 0, 0, 1], port).into(), draining: false })
        };
        routing::Pool {
            health: routing::Health {
                probe: Probe::Tcp,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                healthy_after: 1,
                unhealthy_after: 3,
            },
            protocol: Protocol::Http,
            tls: None,
            instances: (1..=count).map(instance).collect(),
            drain: Duration::ZERO,
            drain_long_lived: Duration::ZERO,
        }
    }

    /// `web` with two revisions, 90 : 10, and `api` beside it.
    fn table() -> RoutingTable {
        let (old, new) = (RevisionNumber(1), RevisionNumber(2));
        let web = routing::Service {
            split: [(old, Weight(9_000)), (new, Weight(1_000))].into(),
            pools: [(old, pool(1000, 3)), (new, pool(2000, 1))].into(),
            ..routing::Service::default()
        };
        let api = routing::Service {
            split: [(old, Weight::ALL)].into(),
            pools: [(old, pool(3000, 2))].into(),
            ..routing::Service::default()
        };
        RoutingTable {
            stack: Some("shop".parse().unwrap()),
            services: [("web".parse().unwrap(), web), ("api".parse().unwrap(), api)].into(),
            ..RoutingTable::default()
        }
    }

    fn id(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    fn web(directory: &Directory) -> &Arc<Listing> {
        &directory.services[&"web".parse::<ServiceName>().unwrap()]
    }

    /// Slots with their ports and weights.
    fn offers(listing: &Listing) -> String {
        let offer = |it: &Offer| format!("{}.{}={}", it.revision, it.slot, it.weight);
        listing.offers().iter().map(offer).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn weights_follow_the_split_over_those_who_are_well() {
        let full = Directory::default().next(&table(), &|_| WELL);
        assert_eq!(offers(web(&full)), "r1.1=65535 r1.2=65535 r1.3=65535 r2.1=21845");
        let less = full.with([(id("web.r1.1"), ILL), (id("web.r1.2"), ILL)]).unwrap();
        assert_eq!(offers(web(&less)), "r1.3=65535 r2.1=7282");
        let gone = less.with([(id("web.r1.3"), ILL)]).unwrap();
        assert_eq!(offers(web(&gone)), "r2.1=65535");
    }

    #[test]
    fn where_nobody_is_well_those_who_were_are_offered() {
        let started = Directory::default().next(&table(), &|_| Seen::NOTHING);
        assert_eq!(offers(web(&started)), "");
        let fell = started.with([(id("web.r1.2"), ILL)]).unwrap();
        assert_eq!(offers(web(&fell)), "r1.2=65535");
    }

    #[test]
    fn who_drains_is_not_offered() {
        let mut table = table();
        let web_name: ServiceName = "web".parse().unwrap();
        let pools = &mut table.services.get_mut(&web_name).unwrap().pools;
        let one = pools.get_mut(&RevisionNumber(1)).unwrap().instances.get_mut(&1).unwrap();
        one.draining = true;
        let directory = Directory::default().next(&table, &|_| WELL);
        assert_eq!(offers(web(&directory)), "r1.2=65535 r1.3=65535 r2.1=14563");
        assert_eq!(web(&directory).offers_of(RevisionNumber(1)).len(), 2);
    }

    #[test]
    fn who_may_have_no_instance_is_told_of_by_its_door() {
        let mut table = table();
        let web_name: ServiceName = "web".parse().unwrap();
        let service = table.services.get_mut(&web_name).unwrap();
        service.door = Some(([127, 0, 0, 1], 9).into());
        service.by_door = Some(Protocol::H2c);
        let awake = Directory::default().next(&table, &|_| WELL);
        assert_eq!(offers(web(&awake)), "r0.1=65535");
        let offer = web(&awake).offers()[0];
        assert_eq!(offer.addr, ([127, 0, 0, 1], 9).into());
        // Its instances are there for those who look at each, and change nothing.
        assert_eq!(web(&awake).pools.len(), 3);
        let ill = awake.with([(id("web.r1.1"), ILL)]).unwrap();
        assert_eq!(offers(web(&ill)), "r0.1=65535");
        let service = table.services.get_mut(&web_name).unwrap();
        service.pools.clear();
        service.split.clear();
        let asleep = ill.next(&table, &|_| WELL);
        assert_eq!(offers(web(&asleep)), "r0.1=65535");
        let door = |it: &Directory| Arc::clone(&web(it).pools[&DOOR]);
        assert!(Arc::ptr_eq(&door(&awake), &door(&asleep)));
        assert_eq!(door(&asleep).protocol, Protocol::H2c);
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let first = Directory::default().next(&table(), &|_| WELL);
        let same = first.next(&table(), &|_| WELL);
        assert_eq!(same.changed(&first).count(), 0);
        assert_eq!((same.names_index, same.index), (first.names_index, 2));
        assert!(same.with([(id("web.r1.1"), WELL), (id("web.r9.1"), ILL)]).is_none());

        let ill = same.with([(id("web.r1.1"), ILL)]).unwrap();
        let changed: Vec<_> = ill.changed(&same).map(ToString::to_string).collect();
        assert_eq!(changed, ["web"]);
        assert_eq!(web(&ill).index, 3);
        let pool = |it: &Directory, revision| Arc::clone(&web(it).pools[&RevisionNumber(revision)]);
        assert!(Arc::ptr_eq(&pool(&ill, 2), &pool(&same, 2)));

        let mut fewer = table();
        fewer.services.remove(&"api".parse::<ServiceName>().unwrap());
        let fewer = ill.next(&fewer, &|_| WELL);
        let changed: Vec<_> = fewer.changed(&ill).map(ToString::to_string).collect();
        assert_eq!(changed, ["web", "api"]);
        assert_eq!(fewer.names_index, 4);
    }
}
