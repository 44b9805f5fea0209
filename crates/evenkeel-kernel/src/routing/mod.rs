//! The routing table: the snapshot that the edge serves.

pub mod directory;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    self, Acme, Certificate, CertificateName, Discovery, Hold, Matches, Mirror, Network, Probe,
    Protocol, RevisionNumber, RouteName, ServiceName, StackName, Sticky, Telemetry, Traffic,
    UpstreamTls, Weight,
};
use crate::world::{Fence, latency_bounds, latency_quantile};

/// Everything the edge needs to serve alone. Immutable; replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingTable {
    /// Which decision it comes from. A table with a lower one is never served after it.
    pub fence: Fence,
    /// The stack's name, which is part of every name that discovery knows.
    #[serde(default)]
    pub stack: Option<StackName>,
    /// Where services are told of.
    #[serde(default, skip_serializing_if = "Discovery::is_default")]
    pub discovery: Discovery,
    /// The services, each with its pools and its split.
    pub services: BTreeMap<ServiceName, Service>,
    /// Requests from outside, most specific first: exact host before any host, then longest path.
    pub routes: Vec<Route>,
    /// Doors for what is not HTTP, by the name of their listener.
    #[serde(default)]
    pub tcp: BTreeMap<String, Tcp>,
    /// What is shown at the other doors.
    #[serde(default)]
    pub shown: Shown,
    /// What is shown of the requests.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// One service as the edge sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The name of the listener on which other services reach it, whatever host they ask for.
    pub listener: Option<String>,
    /// Where that listener is.
    #[serde(default)]
    pub door: Option<SocketAddr>,
    /// Listeners on which only one revision of a caller reaches it, and the revision that answers
    /// there as long as it can; `None` is by the split.
    #[serde(default)]
    pub pinned: BTreeMap<String, Option<RevisionNumber>>,
    /// How requests spread over instances.
    #[serde(default)]
    pub traffic: Traffic,
    /// By what one person's requests are known, so that they stay on one revision.
    #[serde(default)]
    pub sticky: Option<Sticky>,
    /// Requests like these go to this revision as long as it has somebody.
    #[serde(default)]
    pub testers: Option<(Matches, RevisionNumber)>,
    /// This revision gets copies.
    #[serde(default)]
    pub mirror: Option<(Mirror, RevisionNumber)>,
    /// Who gets the traffic. Either empty (nothing can serve yet) or summing up to
    /// [`Weight::ALL`]; every key is in `pools`.
    pub split: BTreeMap<RevisionNumber, Weight>,
    /// The pools, also those without weight: they are probed, and reached by a pinned route.
    pub pools: BTreeMap<RevisionNumber, Pool>,
    /// From when on an answer is slow, once that is known.
    #[serde(default)]
    pub slow: Option<Slow>,
    /// Discovery tells of its door and not of its instances, because it may have none; what is
    /// spoken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_door: Option<Protocol>,
    /// Its requests wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// From when on an answer counts as slow, in microseconds to its first byte. Taken from the stable
/// revision when a release starts, and the same for both revisions from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// Longer than 99 in 100 of its answers.
    pub tail_us: u64,
    /// Noticeably longer than half of its answers.
    pub middle_us: u64,
    /// Answers of an instance that has been healthy for less do not count.
    pub warm_up: Duration,
}

impl Slow {
    /// Fewer answers than this say little of the slowest hundredth.
    const ANSWERS_MIN: u64 = 1_000;

    /// What is slow by a histogram of answers ([`crate::world::latency_bounds`]). `None` while there
    /// are too few.
    #[must_use]
    pub fn by(latency: &[u64], warm_up: Duration) -> Option<Self> {
        if latency.iter().sum::<u64>() < Self::ANSWERS_MIN {
            return None;
        }
        let bound = |quantile| latency_quantile(latency, quantile).map(as_us);
        // One bound more than the median's: a difference that somebody could notice.
        let middle = bound(0.5)?;
        let middle_us = latency_bounds().into_iter().find(|it| *it > middle).unwrap_or(middle);
        Some(Self { tail_us: bound(0.99)?.max(middle_us), middle_us, warm_up })
    }
}

fn as_us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// One pool as the edge sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// How its instances are known to be well.
    pub health: Health,
    /// What its instances speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// How TLS is spoken to them, if it is.
    #[serde(default)]
    pub tls: Option<UpstreamTls>,
    /// Its instances, by slot.
    pub instances: BTreeMap<u32, Instance>,
    /// How long requests of a draining instance may take before they are cut.
    pub drain: Duration,
    /// The same for upgraded connections.
    pub drain_long_lived: Duration,
}

/// How the instances of a pool are known to be well; [`crate::model::Health`] with the probe
/// settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked. [`Probe::Exec`], [`Probe::Notify`] and [`Probe::Process`] are asked of the
    /// instance's shim, at [`crate::layout::shim_socket`].
    pub probe: Probe,
    /// Time between two probes of an instance that is known to be well.
    pub interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// Successes in a row that make it healthy.
    pub healthy_after: u32,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_after: u32,
}

/// One instance as the edge sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Where it listens.
    pub addr: SocketAddr,
    /// It gets no new request; those it has may end.
    pub draining: bool,
}

/// Which requests from outside go where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The route's name, for logs and counters.
    pub name: RouteName,
    /// What of a request is looked at, where it leads, and what holds on the way.
    #[serde(flatten)]
    pub route: model::Route,
    /// A revision that gets all of it whatever the split says: the preview of a blue-green
    /// rollout.
    pub revision: Option<RevisionNumber>,
}

impl Route {
    /// Whether a request for `path` is this route's, as far as that shows.
    #[must_use]
    pub fn has_path(&self, path: &str) -> bool {
        match self.route.exact {
            true => path == self.route.path,
            false => has_prefix(path, &self.route.path),
        }
    }

    /// How specific it is; what comes first is tried first.
    fn rank(&self) -> impl Ord + use<> {
        let host = match self.route.host.as_deref() {
            Some(host) if !host.starts_with("*.") => 0,
            Some(_) => 1,
            None => 2,
        };
        let path = self.route.path.trim_end_matches('/').len();
        let fewer = |count: usize| usize::MAX - count;
        (host, !self.route.exact, fewer(path), fewer(self.route.matches.count()))
    }
}

/// A door for what is not HTTP, as the edge sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// The service that answers.
    pub service: ServiceName,
    /// Each connection to an instance begins with the client's address.
    pub proxy_protocol: bool,
}

/// What is shown at the doors to the outside, and who is believed there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Requests without TLS for a host that has a certificate are sent to `https`, at this port.
    pub https_port: Option<u16>,
    /// Who says first for whom a connection is.
    pub proxies: Vec<Network>,
    /// Who issues certificates.
    pub acme: Option<Acme>,
    /// Each certificate, by its name.
    pub certificates: BTreeMap<CertificateName, Certificate>,
}

impl RoutingTable {
    /// Puts `routes` into the order in which they are tried.
    pub fn sort_routes(&mut self) {
        self.routes.sort_by(|a, b| a.rank().cmp(&b.rank()).then_with(|| a.name.cmp(&b.name)));
    }
}

/// Whether `path` lies below `prefix`, on whole segments.
fn has_prefix(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, host: Option<&str>, path: &str) -> Route {
        let host = host.map(str::to_owned);
        let route = model::Route::plain(host, path.to_owned(), "web".parse().unwrap());
        Route { name: name.parse().unwrap(), route, revision: None }
    }

    #[test]
    fn the_most_specific_route_is_tried_first() {
        let mut exact = route("exact", Some("shop.test"), "/api");
        exact.route.exact = true;
        let mut beta = route("beta", Some("shop.test"), "/api");
        beta.route.matches.headers.insert("x-beta".to_owned(), "*".to_owned());
        let mut table = RoutingTable {
            routes: vec![
                route("any", None, "/"),
                route("any-api", None, "/api"),
                route("wild", Some("*.test"), "/api/deep"),
                route("shop", Some("shop.test"), "/"),
                route("shop-api", Some("shop.test"), "/api/"),
                beta,
                exact,
            ],
            ..RoutingTable::default()
        };
        table.sort_routes();
        let order: Vec<_> = table.routes.iter().map(|route| route.name.as_str()).collect();
        assert_eq!(order, ["exact", "beta", "shop-api", "shop", "wild", "any-api", "any"]);
        let below = |path| table.routes[2].has_path(path);
        assert!(below("/api") && below("/api/x") && !below("/apis") && !below("/"));
        assert!(table.routes[0].has_path("/api") && !table.routes[0].has_path("/api/x"));
    }
}
