//! What is said at the edge's door: one JSON value per line, each way, with a version in it.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_kernel::model::{CertificateName, InstanceId, PoolId, ServiceName};
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{self, Counts, Fence, Health, Readers, Unrouted};
use serde::{Deserialize, Serialize};

/// The version spoken here. An unknown one is refused, never guessed.
pub(crate) const VERSION: u32 = 1;

/// What the client says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    pub(crate) ask: Ask,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Serve(Box<RoutingTable>),
    Observe,
    RoutesTo(InstanceId),
}

/// What the edge answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) version: u32,
    pub(crate) answer: Answer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Serving(Fence),
    Observed(Box<Observation>),
    RoutesTo(bool),
    Refused { because: String, serving: Fence },
}

/// [`world::Edge`] as it is sent: with ages, because the two processes have clocks of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Observation {
    pub(crate) incarnation: u64,
    pub(crate) serving: Fence,
    /// Names only: on which addresses is between control and the keeper.
    pub(crate) listeners: Vec<String>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) pools: Vec<(PoolId, Counts)>,
    pub(crate) unrouted: Unrouted,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<Certificate>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) readers: BTreeMap<ServiceName, Readers>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) demand: Vec<Demand>,
}

/// [`world::Demand`] as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Demand {
    pub(crate) service: ServiceName,
    pub(crate) waiting: u32,
    /// Since it was asked last.
    pub(crate) age_ms: u64,
}

/// [`world::Certificate`] as it is sent. Times are in seconds; `from` and `until` since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) name: CertificateName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) good: Option<Good>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<Failed>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Good {
    pub(crate) from: i64,
    pub(crate) until: i64,
    /// By the edge's clock; control's may be another.
    pub(crate) left: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) why: String,
    pub(crate) again: Option<u64>,
}

impl Certificate {
    fn into_world(self) -> (CertificateName, world::Certificate) {
        let good = self.good.map(|it| world::Good {
            until: it.until,
            left: Duration::from_secs(it.left),
            life: Duration::from_secs(it.until.saturating_sub(it.from).max(0).unsigned_abs()),
        });
        let failed = self
            .failed
            .map(|it| world::Failed { why: it.why, again: it.again.map(Duration::from_secs) });
        (self.name, world::Certificate { good, failed })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) health: Health,
    pub(crate) age_ms: u64,
    pub(crate) in_flight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) load_milli: Option<u32>,
    pub(crate) long_lived: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) draining_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "is_silent")]
    pub(crate) lately: world::Lately,
}

/// A thousand instances of which most are not asked anything should be few words.
fn is_silent(lately: &world::Lately) -> bool {
    *lately == world::Lately::default()
}

impl Observation {
    pub(crate) fn into_edge(self, now: Timestamp) -> world::Edge {
        let instance = |it: Instance| {
            let age = Duration::from_millis(it.age_ms);
            let ago = |ms: u64| Timestamp(now.0.saturating_sub(ms));
            let since = ago(it.age_ms);
            debug_assert!(now.since(since) <= age, "an age is only ever cut short");
            let backend = world::Backend {
                health: it.health,
                since,
                in_flight: it.in_flight,
                load_milli: it.load_milli,
                long_lived: it.long_lived,
                draining: it.draining_ms.map(ago),
                lately: it.lately,
            };
            (it.id, backend)
        };
        let demand = |it: Demand| {
            let asked = Timestamp(now.0.saturating_sub(it.age_ms));
            (it.service, world::Demand { waiting: it.waiting, asked })
        };
        world::Edge {
            incarnation: self.incarnation,
            serving: self.serving,
            listeners: self.listeners,
            instances: self.instances.into_iter().map(instance).collect(),
            pools: self.pools.into_iter().collect(),
            unrouted: self.unrouted,
            certificates: self.certificates.into_iter().map(Certificate::into_world).collect(),
            readers: self.readers,
            demand: self.demand.into_iter().map(demand).collect(),
        }
    }
}
