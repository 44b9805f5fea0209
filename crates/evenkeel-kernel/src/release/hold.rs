//! Services whose requests wait for a moment: since when, until when, and what is seen of it.
//!
//! The edge ends a hold at its time by itself; that it has ended is written down here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{Service, State};
use super::why::Wait;
use crate::model::{Hold, ServiceName};
use crate::time::{Timestamp, human};
use crate::world::World;

/// A service is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// By whom, and why if they said so.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// How long at most.
    pub lasts: Duration,
}

/// What is seen of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Every edge keeps to it: nothing new reaches the service.
    pub in_force: bool,
    /// Requests that wait.
    pub waiting: u32,
    /// Requests that were there before, and are still being answered.
    pub in_flight: u64,
}

impl Held {
    /// When it ends.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.since.after(self.lasts)
    }

    /// The same as it is ordered.
    pub(super) fn order(&self) -> Hold {
        // A moment is given to one hold only.
        Hold { number: self.since.0, lasts: self.lasts }
    }
}

impl State {
    /// Ends the holds whose time is over, and those of services that are not there any more.
    /// Returns what was done.
    pub(super) fn end_holds(&mut self, now: Timestamp) -> Vec<String> {
        let services = &self.services;
        let is_there = |name: &ServiceName| services.get(name).is_some_and(Service::is_there);
        let over = |name: &ServiceName, held: &mut Held| !is_there(name) || now >= held.until();
        let ended = self.holds.extract_if(.., over);
        let text = |(name, held): (ServiceName, Held)| match is_there(&name) {
            true => {
                format!("{name} is served again: its hold has ended after {}", human(held.lasts))
            }
            false => format!("{name} is gone, and its hold with it"),
        };
        ended.map(text).collect()
    }

    /// What is seen of the hold of a service; `None` while the edge cannot be seen.
    #[must_use]
    pub fn held_now(&self, name: &ServiceName, world: &World) -> Option<Holding> {
        let edge = world.edge.known()?;
        let pools = edge.pools.iter().filter(|(pool, _)| pool.service == *name);
        Some(Holding {
            in_force: edge.serving.generation >= self.generation,
            waiting: edge.demand.get(name).map_or(0, |it| it.waiting),
            in_flight: pools.map(|(_, counts)| counts.in_flight).sum(),
        })
    }

    /// Holds, as what is waited for.
    pub(super) fn hold_waits(&self, world: &World) -> Vec<Wait> {
        let wait = |(name, held): (&ServiceName, &Held)| {
            let seen = self.held_now(name, world).map(|it| {
                let (waiting, answered) = (it.waiting, it.in_flight);
                format!("; {waiting} wait now, {answered} are still being answered")
            });
            Wait {
                what: format!(
                    "{name} is held by {}: its requests wait{}",
                    held.by,
                    seen.unwrap_or_default()
                ),
                since: held.since,
                until: Some((held.until(), "they are served again".to_owned())),
                last_error: None,
                unblock: format!("`evenkeel unhold {name}` serves them at once"),
            }
        };
        self.holds.iter().map(wait).collect()
    }
}
