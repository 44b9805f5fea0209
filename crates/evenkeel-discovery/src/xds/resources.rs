//! What there is in the words of xDS: for each kind, which names, and what is behind a name.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use evenkeel_kernel::model::{Protocol, RevisionNumber};
use evenkeel_kernel::routing::directory::Listing;

use super::proto::{
    Address, Any, ApiListener, Cluster, ClusterLoadAssignment, ClusterWeight, ConfigSource,
    EdsClusterConfig, Endpoint, ExplicitHttpConfig, Filter, FilterChain, HttpConnectionManager,
    HttpProtocolOptions, LbEndpoint, Listener, Locality, LocalityLbEndpoints, Nothing, Number, Rds,
    RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, SocketAddress, Span,
    VirtualHost, WeightedCluster, any,
};
use crate::catalog::{Catalog, Service, revision};

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.network.\
                    http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
/// Under which name, and with which type, a cluster says what it speaks.
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const OPTIONS_URL: &str =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// The name of the listener of an Envoy that says in its node's metadata where it is to listen.
pub(super) const LISTENER: &str = "evenkeel";
/// The version of all names and numbers.
const V3: i32 = 2;
/// A cluster whose endpoints are told separately.
const EDS: i32 = 3;
const HEALTHY: i32 = 1;
const UNHEALTHY: i32 = 2;
const DRAINING: i32 = 3;

/// The kinds, in the order in which they are told: what is used before who uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    Cluster,
    Endpoints,
    Listener,
    Routes,
}

impl Type {
    pub(super) const ALL: [Self; 4] =
        [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes];

    pub(super) fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub(super) fn of(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.url() == url)
    }

    /// Whether an answer holds all there is, so that what is left out is gone.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// Who asks, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    /// Where it is to listen.
    pub(super) listen: Option<SocketAddr>,
}

/// Every name of a kind that somebody gets who asks for all.
pub(super) fn names(catalog: &Catalog, kind: Type, asker: &Asker) -> BTreeSet<String> {
    match kind {
        Type::Cluster | Type::Endpoints => {
            let services = catalog.services().into_iter();
            services.flat_map(|(name, it)| clusters(name, it)).collect()
        }
        Type::Listener => asker.listen.iter().map(|_| LISTENER.to_owned()).collect(),
        Type::Routes => [catalog.stack().to_owned()].into(),
    }
}

/// The names of a service's clusters: one per revision.
pub(super) fn clusters(name: &str, service: Service<'_>) -> Vec<String> {
    match service {
        Service::Own(listing) => {
            listing.pools.keys().map(|revision| format!("{name}@{revision}")).collect()
        }
        Service::Registered(_) => vec![name.to_owned()],
    }
}

/// The service that a resource of this name is of; none is of all.
pub(super) fn service_of<'n>(catalog: &Catalog, kind: Type, name: &'n str) -> Option<&'n str> {
    match kind {
        Type::Cluster | Type::Endpoints => Some(name.split('@').next().unwrap_or(name)),
        Type::Listener => Some(asked_for(catalog, name)),
        Type::Routes => Some(asked_for(catalog, name)).filter(|it| *it != catalog.stack()),
    }
}

/// The service in `web`, `web:80`, `web.shop.internal:80`.
fn asked_for<'n>(catalog: &Catalog, name: &'n str) -> &'n str {
    let host = name.split_once(':').map_or(name, |(host, _)| host);
    let domain = format!(".{}.{}", catalog.stack(), catalog.settings().domain);
    host.strip_suffix(domain.as_str()).unwrap_or(host)
}

/// What is behind a name.
pub(super) fn resource(catalog: &Catalog, kind: Type, name: &str, asker: &Asker) -> Option<Any> {
    match kind {
        Type::Cluster => {
            let service = service_of(catalog, kind, name)?;
            let there = clusters(service, catalog.service(service)?).iter().any(|it| it == name);
            there.then(|| cluster(catalog, name))
        }
        Type::Endpoints => endpoints(catalog, name).map(|it| any(kind.url(), &it)),
        Type::Listener => listener(catalog, name, asker).map(|it| any(kind.url(), &it)),
        Type::Routes => routes(catalog, name).map(|it| any(kind.url(), &it)),
    }
}

fn ads() -> Option<ConfigSource> {
    Some(ConfigSource { ads: Some(Nothing {}), resource_api_version: V3 })
}

/// A cluster, also one that is gone: it hangs on its name, and on what the service speaks.
pub(super) fn cluster(catalog: &Catalog, name: &str) -> Any {
    let options = HttpProtocolOptions {
        explicit_http_config: Some(ExplicitHttpConfig { http2_protocol_options: Some(Nothing {}) }),
    };
    let options =
        speaks_h2(catalog, name).then(|| (OPTIONS.to_owned(), any(OPTIONS_URL, &options)));
    let cluster = Cluster {
        typed_extension_protocol_options: options.into_iter().collect(),
        name: name.to_owned(),
        kind: EDS,
        eds_cluster_config: Some(EdsClusterConfig { eds_config: ads() }),
        connect_timeout: Some(Span { seconds: 1 }),
    };
    any(Type::Cluster.url(), &cluster)
}

/// Whether HTTP/2 is spoken to a cluster without asking.
fn speaks_h2(catalog: &Catalog, name: &str) -> bool {
    let (service, number) = name.split_once('@').unwrap_or((name, ""));
    let Some(listing) = catalog.own(service) else { return false };
    let own = revision(number).and_then(|it| listing.pools.get(&it));
    own.or_else(|| listing.pools.values().next()).is_some_and(|it| it.protocol == Protocol::H2c)
}

fn address(addr: &str, port: u16) -> Option<Address> {
    let socket = SocketAddress { address: addr.to_owned(), port_value: port.into() };
    Some(Address { socket_address: Some(socket) })
}

fn endpoints(catalog: &Catalog, name: &str) -> Option<ClusterLoadAssignment> {
    let endpoint = |ip: String, port: u16, health_status: i32, weight: u32| LbEndpoint {
        endpoint: Some(Endpoint { address: address(&ip, port) }),
        health_status,
        load_balancing_weight: Some(Number { value: weight }),
    };
    let service = service_of(catalog, Type::Endpoints, name)?;
    let all: Vec<LbEndpoint> = match catalog.service(service)? {
        Service::Own(listing) => {
            let revision = revision(name.split_once('@')?.1)?;
            let offered = offered(listing, revision);
            let pool = listing.pools.get(&revision)?.instances.iter();
            pool.map(|it| {
                let health = match (offered.contains(&it.slot), it.draining) {
                    (true, _) => HEALTHY,
                    (false, true) => DRAINING,
                    (false, false) => UNHEALTHY,
                };
                endpoint(it.addr.ip().to_string(), it.addr.port(), health, 1)
            })
            .collect()
        }
        Service::Registered(group) => {
            let all = group.endpoints(|_| true).into_iter();
            all.map(|it| endpoint(it.ip.to_string(), it.port, HEALTHY, it.weight.into())).collect()
        }
    };
    // A locality without weight is passed over by gRPC.
    let weight = u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
    let locality = LocalityLbEndpoints {
        locality: Some(Locality { region: catalog.stack().to_owned(), zone: "local".to_owned() }),
        lb_endpoints: all,
        load_balancing_weight: Some(Number { value: weight }),
    };
    Some(ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: vec![locality] })
}

/// The slots of a revision that may be used. Where nobody is well it is all who were, and where all
/// drain it is all of them: routes lead elsewhere then, or will in a moment, and until somebody has
/// taken that, calls should not lose the last they could reach.
fn offered(listing: &Listing, revision: RevisionNumber) -> BTreeSet<u32> {
    let offers: BTreeSet<u32> = listing.offers_of(revision).iter().map(|it| it.slot).collect();
    if !offers.is_empty() {
        return offers;
    }
    let pool = listing.pools.get(&revision).into_iter().flat_map(|it| &it.instances);
    pool.filter(|it| it.seen.once).map(|it| it.slot).collect()
}

fn manager(routes: &str) -> Any {
    let router = Filter { name: "router".to_owned(), typed_config: Some(any(ROUTER, &Nothing {})) };
    let manager = HttpConnectionManager {
        stat_prefix: routes.to_owned(),
        rds: Some(Rds { config_source: ads(), route_config_name: routes.to_owned() }),
        http_filters: vec![router],
    };
    any(HTTP, &manager)
}

fn listener(catalog: &Catalog, name: &str, asker: &Asker) -> Option<Listener> {
    if let Some(listen) = asker.listen.filter(|_| name == LISTENER) {
        let typed_config = Some(manager(catalog.stack()));
        let filter = Filter { name: "http".to_owned(), typed_config };
        return Some(Listener {
            name: name.to_owned(),
            address: address(&listen.ip().to_string(), listen.port()),
            filter_chains: vec![FilterChain { filters: vec![filter] }],
            api_listener: None,
        });
    }
    let service = asked_for(catalog, name);
    catalog.service(service)?;
    Some(Listener {
        name: name.to_owned(),
        address: None,
        filter_chains: Vec::new(),
        api_listener: Some(ApiListener { api_listener: Some(manager(service)) }),
    })
}

/// The clusters of a service that get traffic, with their weights.
pub(super) fn weighted(name: &str, service: Service<'_>) -> Vec<(String, u32)> {
    match service {
        Service::Registered(_) => vec![(name.to_owned(), 1)],
        Service::Own(listing) => {
            let offers = listing.offers();
            let some = |revision| offers.iter().any(|it| it.revision == revision);
            // A revision of which nobody is well leaves its part to the others, if there are any.
            let pools = listing.pools.iter().filter(|(_, pool)| pool.weight.0 > 0);
            let pools = pools.filter(|(revision, _)| offers.is_empty() || some(**revision));
            pools
                .map(|(revision, pool)| (format!("{name}@{revision}"), pool.weight.0.into()))
                .collect()
        }
    }
}

fn host(name: &str, domains: Vec<String>, service: Service<'_>) -> VirtualHost {
    let weight =
        |(name, value): (String, u32)| ClusterWeight { name, weight: Some(Number { value }) };
    let clusters: Vec<_> = weighted(name, service).into_iter().map(weight).collect();
    let route = Route {
        matches: Some(RouteMatch { prefix: Some("/".to_owned()) }),
        route: Some(RouteAction {
            weighted_clusters: Some(WeightedCluster { clusters }),
            // Streams may last; what an answer may take is the caller's to say.
            timeout: Some(Span { seconds: 0 }),
            retry_policy: Some(RetryPolicy {
                retry_on: "connect-failure,refused-stream,unavailable".to_owned(),
                num_retries: Some(Number { value: 2 }),
            }),
        }),
    };
    // A service that nobody can serve has no route, which clients take better than an empty one.
    let is_empty = |it: &Route| {
        let clusters = it.route.as_ref().and_then(|it| it.weighted_clusters.as_ref());
        clusters.is_none_or(|it| it.clusters.is_empty())
    };
    let routes = [route].into_iter().filter(|it| !is_empty(it)).collect();
    VirtualHost { name: name.to_owned(), domains, routes }
}

fn routes(catalog: &Catalog, name: &str) -> Option<RouteConfiguration> {
    let Some(service) = service_of(catalog, Type::Routes, name) else {
        let full = |it: &str| format!("{it}.{}.{}", catalog.stack(), catalog.settings().domain);
        let hosts = catalog.services().into_iter().map(|(name, it)| {
            let domains = [name.to_owned(), full(name)].into_iter();
            host(name, domains.flat_map(|it| [format!("{it}:*"), it]).collect(), it)
        });
        return Some(RouteConfiguration { name: name.to_owned(), virtual_hosts: hosts.collect() });
    };
    let found = catalog.service(service)?;
    let host = host(service, vec!["*".to_owned()], found);
    Some(RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host] })
}
