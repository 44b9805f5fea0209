//! The engine's eyes and hands: it observes the rooms around it and hands them what is wanted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_edge::client::{AskError, Client};
use evenkeel_edge::handover;
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::want::Want;
use evenkeel_kernel::world::{Edge, Fence, Keeper, Observed, World};
use evenkeel_local::Local;
use evenkeel_postgres::execute::Driver;

use crate::checks::Checks;
use crate::orders::Orders;
use crate::schemas::Schemas;
use crate::{calendar, log};

/// The rooms around control.
#[derive(Debug)]
pub(crate) struct Hands {
    home: PathBuf,
    local: Arc<Local>,
    edge: Option<Client>,
    /// What the edge said last that it serves.
    serving: Option<Fence>,
    /// The table that was refused, so that a refusal is logged once.
    refused: Option<Fence>,
    listeners: BTreeMap<String, SocketAddr>,
    keeper: Observed<Keeper>,
    checks: Checks,
    schemas: Schemas,
    routed: Arc<Routed>,
}

/// Asks the edge, at the moment of a stop, whether it routes to an instance. A connection of its
/// own, because the platform's threads ask.
#[derive(Debug)]
struct Routed {
    home: PathBuf,
    client: Mutex<Option<Client>>,
}

impl Routed {
    fn ask(&self, instance: &InstanceId) -> Option<bool> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.is_none() {
            *client = Client::connect(&self.home).ok();
        }
        match client.as_mut()?.routes_to(instance) {
            Ok(routed) => Some(routed),
            Err(_unknown) => {
                *client = None;
                None
            }
        }
    }
}

impl Hands {
    pub(crate) fn new(
        home: &Path,
        local: Arc<Local>,
        holder: Vec<OsString>,
        orders: Orders,
        driver: Driver,
    ) -> Self {
        let home = home.to_owned();
        let routed = Routed { home: home.clone(), client: Mutex::new(None) };
        let schemas = Schemas::new(home.clone(), orders.clone(), driver);
        let checks = Checks::new(home.clone(), holder, orders);
        Self {
            home,
            local,
            edge: None,
            serving: None,
            refused: None,
            listeners: BTreeMap::new(),
            keeper: World::unknown().keeper,
            checks,
            schemas,
            routed: Arc::new(routed),
        }
    }

    /// Looks at everything, and at the clocks of these zones.
    pub(crate) fn observe<'z>(
        &mut self,
        zones: impl IntoIterator<Item = &'z str>,
        now: Timestamp,
    ) -> World {
        World {
            platform: self.local.observe(now),
            edge: self.observe_edge(now),
            keeper: self.keeper.clone(),
            checks: self.checks.answers(),
            schemas: self.schemas.seen(),
            calendar: Observed::Known(calendar::now(zones), now),
        }
    }

    fn observe_edge(&mut self, now: Timestamp) -> Observed<Edge> {
        if self.edge.is_none() {
            match Client::connect(&self.home) {
                Ok(client) => self.edge = Some(client),
                Err(error) => return self.lost_edge(format!("could not reach the edge: {error}")),
            }
        }
        let Some(client) = self.edge.as_mut() else { return World::unknown().edge };
        match client.observe(now) {
            Ok(edge) => {
                self.serving = Some(edge.serving);
                Observed::Known(edge, now)
            }
            Err(error) => self.lost_edge(format!("could not observe the edge: {error}")),
        }
    }

    fn lost_edge(&mut self, why: String) -> Observed<Edge> {
        self.edge = None;
        self.serving = None;
        Observed::Unknown(why)
    }

    /// Hands one want to the room it is for. Starts work and returns; the world shows the result.
    pub(crate) fn make_true(&mut self, want: Want, now: Timestamp) {
        match want {
            Want::Listeners(listeners) => self.open(listeners, now),
            Want::Table(table) => self.serve(&table),
            Want::Checks(checks) => self.checks.make_true(checks),
            Want::Schemas(schemas) => self.schemas.make_true(schemas),
            Want::Pool(pool) => {
                let routed = Arc::clone(&self.routed);
                self.local.make_true(*pool, Arc::new(move |id: &InstanceId| routed.ask(id)));
            }
        }
    }

    /// Hands a pool to the platform that is to be emptied whatever the edge says: everything ends.
    pub(crate) fn empty(&self, mut pool: evenkeel_kernel::want::Pool) {
        pool.slots.clear();
        self.local.make_true(pool, Arc::new(|_: &InstanceId| Some(false)));
    }

    fn open(&mut self, listeners: BTreeMap<String, SocketAddr>, now: Timestamp) {
        let all_open = self
            .keeper
            .known()
            .is_some_and(|keeper| keeper.listeners.values().all(Option::is_none));
        if all_open && listeners == self.listeners {
            return;
        }
        self.keeper = match handover::want(&self.home, &listeners) {
            Ok(answers) => {
                let answers = answers.into_iter();
                let listeners = answers.map(|(name, answer)| (name, answer.err())).collect();
                Observed::Known(Keeper { listeners }, now)
            }
            Err(error) => Observed::Unknown(format!("could not reach the keeper: {error}")),
        };
        self.listeners = listeners;
    }

    fn serve(&mut self, table: &RoutingTable) {
        if self.serving == Some(table.fence) {
            return;
        }
        let Some(client) = self.edge.as_mut() else { return };
        match client.apply(table) {
            Ok(serving) => {
                self.serving = Some(serving);
                self.refused = None;
            }
            Err(AskError::Refused { because, serving }) => {
                self.serving = Some(serving);
                if self.refused.replace(table.fence) != Some(table.fence) {
                    log::line(&format!("the edge refused the routing table: {because}"));
                }
            }
            Err(AskError::Io(error)) => {
                log::line(&format!("could not hand the edge its routing table: {error}"));
                self.edge = None;
                self.serving = None;
            }
        }
    }
}
