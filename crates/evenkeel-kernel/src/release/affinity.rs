//! Affinity: new talks to new, and old to old.
//!
//! Each revision of a caller has a door of its own to every service it uses that asks for affinity:
//! a port of the edge that only its instances are told of. While a release replaces both, the edge
//! sends what comes through a door to the revision of the same side, as long as that can serve;
//! at any other time, and else, by the split.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::state::{Kept, Ports, Release, State};
use crate::model::{RevisionNumber, ServiceName, Stack};
use crate::time::Timestamp;

/// A port of the edge for the calls of one revision to one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// The port, on the loopback address.
    pub port: u16,
    /// When it was chosen.
    pub since: Timestamp,
}

/// The listeners of the doors to one service, and where each of them leads first.
pub(super) type Pins = BTreeMap<String, Option<RevisionNumber>>;

/// Where a door leads.
#[derive(Clone, Debug)]
pub(super) struct Way<'a> {
    pub(super) caller: &'a ServiceName,
    pub(super) revision: RevisionNumber,
    pub(super) used: &'a ServiceName,
    pub(super) door: Door,
}

impl Way<'_> {
    /// The name of its listener. No name of a service has a dot.
    pub(super) fn listener(&self) -> String {
        format!("svc-{}.{}.{}", self.used, self.caller, self.revision)
    }
}

impl Kept {
    /// Gives the revision a door to each service of `stack` that it uses and that asks for
    /// affinity. Without a free port it calls by the split, like everybody.
    pub(super) fn open_doors(
        &mut self,
        stack: &Stack,
        ports: &mut Ports,
        used: &mut BTreeSet<u16>,
        now: Timestamp,
    ) {
        let uses = self.revision.workload.uses.iter();
        let asks = |name: &&ServiceName| {
            stack.services.get(*name).is_some_and(|service| service.rollout.affinity)
        };
        for name in uses.filter(asks) {
            if !self.doors.contains_key(name)
                && let Some(port) = ports.take(used)
            {
                self.doors.insert(name.clone(), Door { port, since: now });
            }
        }
    }
}

impl State {
    /// Every door that somebody may come through: those of revisions that have instances, or are
    /// about to.
    pub(super) fn ways(&self) -> impl Iterator<Item = Way<'_>> {
        self.services.keys().flat_map(|caller| self.ways_of(caller))
    }

    /// Those of one caller.
    pub(super) fn ways_of(&self, caller: &ServiceName) -> impl Iterator<Item = Way<'_>> {
        let rollout = self.release.as_ref().and_then(|it| it.rollouts.get(caller));
        let known = self.services.get_key_value(caller).into_iter();
        known.flat_map(move |(caller, service)| {
            let kept = service.revisions.iter().filter(move |(revision, kept)| {
                !kept.slots.is_empty() || rollout.is_some_and(|it| it.to == **revision)
            });
            kept.flat_map(move |(revision, kept)| {
                kept.doors.iter().map(move |(used, door)| Way {
                    caller,
                    revision: *revision,
                    used,
                    door: *door,
                })
            })
        })
    }

    /// The listeners of all doors.
    pub(super) fn doors(&self) -> impl Iterator<Item = (String, SocketAddr)> {
        let there = self
            .ways()
            .filter(|way| self.services.get(way.used).is_some_and(super::state::Service::is_there));
        there.map(|way| (way.listener(), ([127, 0, 0, 1], way.door.port).into()))
    }

    /// The doors to each service, and the revision that each of them leads to first.
    pub(super) fn pins(&self) -> BTreeMap<&ServiceName, Pins> {
        let mut pins = BTreeMap::<&ServiceName, Pins>::new();
        for way in self.ways() {
            pins.entry(way.used).or_default().insert(way.listener(), self.pin(&way));
        }
        pins
    }

    fn pin(&self, way: &Way<'_>) -> Option<RevisionNumber> {
        let release = self.release.as_ref().filter(|it| !it.has_contracted())?;
        let (caller, used) = (release.rollouts.get(way.caller)?, release.rollouts.get(way.used)?);
        if !used.follows {
            None
        } else if way.revision == caller.to {
            Some(used.to)
        } else if Some(way.revision) == caller.from {
            used.from
        } else {
            None
        }
    }
}

impl Release {
    /// Whether what follows its callers has requests of them already.
    pub(super) fn is_called(&self, state: &State, used: &ServiceName) -> bool {
        self.callers(used).any(|(caller, to)| {
            state.services.get(caller).is_some_and(|service| service.weight(to).0 > 0)
        })
    }

    /// Whether an instance of a new revision that calls the new one of `used` is still there.
    pub(super) fn has_callers(&self, state: &State, used: &ServiceName) -> bool {
        self.callers(used)
            .any(|(caller, to)| state.kept(caller, to).is_some_and(|kept| !kept.slots.is_empty()))
    }

    /// The new revisions that are sent to the new one of `used`.
    fn callers(&self, used: &ServiceName) -> impl Iterator<Item = (&ServiceName, RevisionNumber)> {
        let follows = self.rollouts.get(used).is_some_and(|rollout| rollout.follows);
        let rollouts = follows.then_some(&self.rollouts).into_iter().flatten();
        let calls = move |caller: &ServiceName| {
            let service = self.wanted.services.get(caller);
            service.is_some_and(|service| service.workload.uses.contains(used))
        };
        rollouts.filter(move |(caller, _)| calls(caller)).map(|(caller, it)| (caller, it.to))
    }
}
