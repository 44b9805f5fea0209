//! A campaign: one service is released in every way, taken back in both, and Evenkeel is upgraded,
//! while clients are watched.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::clients::Client;
use crate::house::House;

pub(crate) const ROLLING: &str = "min_ready = \"100ms\"\nbake = \"300ms\"";
const BLUE_GREEN: &str = "strategy = \"blue-green\"\nmin_ready = \"100ms\"\nbake = \"300ms\"";
const CANARY: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"100ms\"\nbake = \"300ms\"\n\
                      steps = [{ weight = \"20%\", bake = \"300ms\" }, \
                      { weight = \"50%\", bake = \"300ms\" }]";
/// It stays at half of the traffic until somebody moves it.
const HALF: &str = "strategy = \"canary\"\nanalysis.min_requests = 0\nmin_ready = \"100ms\"\nbake = \"60s\"\n\
                    steps = [{ weight = \"50%\", bake = \"10m\" }]";
/// It can be taken back for a minute.
const SWITCH: &str = "strategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"60s\"";

/// The time that what lives long has to drain; the edge spreads the ends over the last quarter.
const LONG_LIVED: &str = "4s";
const LONG_LIVED_LEAST: Duration = Duration::from_secs(3);
/// How often each client meets a version in each of its ways before it goes on.
const MEETINGS: u64 = 1;

/// What a service is in a version: its table, but for replicas, stop and rollout.
pub(crate) type Service<'a> = &'a dyn Fn(&str) -> String;

/// A house whose service is released in every way.
pub(crate) struct Campaign<'a> {
    house: &'a House,
    service: Service<'a>,
    pub(crate) replicas: u32,
    /// What belongs to the edge's table and what comes after the service's.
    around: [String; 2],
    pub(crate) clients: Vec<Client>,
    /// When connections that live long may be cut, by their version.
    cuts_from: BTreeMap<String, SystemTime>,
}

impl<'a> Campaign<'a> {
    pub(crate) fn new(house: &'a House, around: [String; 2], service: Service<'a>) -> Self {
        let (clients, cuts_from) = (Vec::new(), BTreeMap::new());
        Self { house, service, replicas: 2, around, clients, cuts_from }
    }

    pub(crate) fn stack(&self, version: &str, rollout: &str) {
        let [edge, after] = &self.around;
        let service = (self.service)(version);
        self.house.stack(&format!(
            "{edge}[service.web]\n{service}\nreplicas = {}\n\
             stop = {{ drain_long_lived = \"{LONG_LIVED}\" }}\n\
             [service.web.rollout]\n{rollout}\n{after}",
            self.replicas
        ));
    }

    /// From now on connections to this version that live long may have their time; it ends when
    /// they have had it.
    fn leaves(&mut self, version: &str) {
        self.cuts_from.insert(version.to_owned(), SystemTime::now() + LONG_LIVED_LEAST);
    }

    #[track_caller]
    fn meets(&self, version: &str) {
        for client in &self.clients {
            client.until_more(version, MEETINGS);
        }
    }

    /// Says how far the clients are.
    fn after(&self, what: &str) {
        for client in &self.clients {
            println!("after {what}: {}", client.summary());
        }
    }

    /// Goes through everything, and ends the clients.
    #[track_caller]
    pub(crate) fn run(mut self) {
        self.releases();
        self.goes_back();
        self.ends();
    }

    /// The same without a way back after everything met the next one, for clients that are slow.
    #[track_caller]
    pub(crate) fn run_to_the_abort(mut self) {
        self.releases();
        self.ends();
    }

    #[track_caller]
    fn releases(&mut self) {
        self.meets("v1");
        self.after("the start");
        for (before, version, rollout, name) in [
            ("v1", "v2", ROLLING, "rolling"),
            ("v2", "v3", BLUE_GREEN, "blue-green"),
            ("v3", "v4", CANARY, "canary"),
        ] {
            self.stack(version, rollout);
            self.leaves(before);
            self.house.run(&["apply", "--yes", "--wait", "complete"]).exits(0);
            self.meets(version);
            self.after(name);
        }

        // Half of everything meets the next one, another edge takes over, and it goes back.
        self.stack("v5", HALF);
        let apply = self.house.start(&["apply", "--yes"]);
        self.meets("v5");
        self.house.run(&["upgrade", "--again"]).exits(0);
        self.meets("v4");
        self.meets("v5");
        self.after("an upgrade in the middle of a canary");
        self.leaves("v5");
        self.house.run(&["abort"]).exits(0);
        apply.wait().exits(3).says("aborted");
        self.meets("v4");
        self.after("its abort");
    }

    /// A way back after everything met the next one.
    #[track_caller]
    fn goes_back(&mut self) {
        self.stack("v6", SWITCH);
        self.leaves("v4");
        self.house.run(&["apply", "--yes"]).exits(0);
        self.meets("v6");
        self.leaves("v6");
        self.house.run(&["rollback"]).exits(0);
        self.meets("v4");

        // Its instances are on their way out when the next edge comes.
        self.house.run(&["upgrade", "--again"]).exits(0);
    }

    /// Waits until all that was to end has ended, and ends the clients.
    #[track_caller]
    fn ends(self) {
        self.house.until_settled();
        self.meets("v4");
        self.after("everything");
        let Self { clients, cuts_from, .. } = self;
        for client in clients {
            client.ends_unharmed(&cuts_from);
        }
    }
}
