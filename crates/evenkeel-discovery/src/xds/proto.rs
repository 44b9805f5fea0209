//! The messages of xDS, as far as they are used here; numbers and names are Envoy's.

use prost::Message;

/// Something with its type.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// A message as [`Any`].
pub(super) fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// Who asks.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) fields: std::collections::BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, optional, tag = "3")]
    pub(super) string_value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    pub(super) version_info: String,
    #[prost(message, optional, tag = "2")]
    pub(super) node: Option<Node>,
    #[prost(string, repeated, tag = "3")]
    pub(super) resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) response_nonce: String,
    #[prost(message, optional, tag = "6")]
    pub(super) error_detail: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    pub(super) version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Any>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeltaDiscoveryRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) node: Option<Node>,
    #[prost(string, tag = "2")]
    pub(super) type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) resource_names_subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(super) resource_names_unsubscribe: Vec<String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) initial_resource_versions: std::collections::BTreeMap<String, String>,
    #[prost(string, tag = "6")]
    pub(super) response_nonce: String,
    #[prost(message, optional, tag = "7")]
    pub(super) error_detail: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeltaDiscoveryResponse {
    #[prost(string, tag = "1")]
    pub(super) system_version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) removed_resources: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Span {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Number {
    #[prost(uint32, tag = "1")]
    pub(super) value: u32,
}

/// Where more of it is asked for: on the same stream.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigSource {
    #[prost(message, optional, tag = "3")]
    pub(super) ads: Option<Nothing>,
    #[prost(int32, tag = "6")]
    pub(super) resource_api_version: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(super) socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SocketAddress {
    #[prost(string, tag = "2")]
    pub(super) address: String,
    #[prost(uint32, tag = "3")]
    pub(super) port_value: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Listener {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) address: Option<Address>,
    #[prost(message, repeated, tag = "3")]
    pub(super) filter_chains: Vec<FilterChain>,
    #[prost(message, optional, tag = "19")]
    pub(super) api_listener: Option<ApiListener>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ApiListener {
    #[prost(message, optional, tag = "1")]
    pub(super) api_listener: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FilterChain {
    #[prost(message, repeated, tag = "3")]
    pub(super) filters: Vec<Filter>,
}

/// A filter of a listener or of HTTP: both have the same numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Filter {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "4")]
    pub(super) typed_config: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpConnectionManager {
    #[prost(string, tag = "2")]
    pub(super) stat_prefix: String,
    #[prost(message, optional, tag = "3")]
    pub(super) rds: Option<Rds>,
    #[prost(message, repeated, tag = "5")]
    pub(super) http_filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Rds {
    #[prost(message, optional, tag = "1")]
    pub(super) config_source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub(super) route_config_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RouteConfiguration {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) virtual_hosts: Vec<VirtualHost>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VirtualHost {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(super) routes: Vec<Route>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Route {
    #[prost(message, optional, tag = "1")]
    pub(super) matches: Option<RouteMatch>,
    #[prost(message, optional, tag = "2")]
    pub(super) route: Option<RouteAction>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RouteMatch {
    // One of several, so it is written even when it is empty.
    #[prost(string, optional, tag = "1")]
    pub(super) prefix: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RouteAction {
    #[prost(message, optional, tag = "3")]
    pub(super) weighted_clusters: Option<WeightedCluster>,
    #[prost(message, optional, tag = "8")]
    pub(super) timeout: Option<Span>,
    #[prost(message, optional, tag = "9")]
    pub(super) retry_policy: Option<RetryPolicy>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryPolicy {
    #[prost(string, tag = "1")]
    pub(super) retry_on: String,
    #[prost(message, optional, tag = "2")]
    pub(super) num_retries: Option<Number>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WeightedCluster {
    #[prost(message, repeated, tag = "1")]
    pub(super) clusters: Vec<ClusterWeight>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClusterWeight {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) weight: Option<Number>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Cluster {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) eds_cluster_config: Option<EdsClusterConfig>,
    #[prost(message, optional, tag = "4")]
    pub(super) connect_timeout: Option<Span>,
    #[prost(btree_map = "string, message", tag = "36")]
    pub(super) typed_extension_protocol_options: std::collections::BTreeMap<String, Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpProtocolOptions {
    #[prost(message, optional, tag = "3")]
    pub(super) explicit_http_config: Option<ExplicitHttpConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExplicitHttpConfig {
    #[prost(message, optional, tag = "2")]
    pub(super) http2_protocol_options: Option<Nothing>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EdsClusterConfig {
    #[prost(message, optional, tag = "1")]
    pub(super) eds_config: Option<ConfigSource>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    pub(super) cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) endpoints: Vec<LocalityLbEndpoints>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LocalityLbEndpoints {
    #[prost(message, optional, tag = "1")]
    pub(super) locality: Option<Locality>,
    #[prost(message, repeated, tag = "2")]
    pub(super) lb_endpoints: Vec<LbEndpoint>,
    #[prost(message, optional, tag = "3")]
    pub(super) load_balancing_weight: Option<Number>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Locality {
    #[prost(string, tag = "1")]
    pub(super) region: String,
    #[prost(string, tag = "2")]
    pub(super) zone: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    pub(super) endpoint: Option<Endpoint>,
    #[prost(int32, tag = "2")]
    pub(super) health_status: i32,
    #[prost(message, optional, tag = "4")]
    pub(super) load_balancing_weight: Option<Number>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Endpoint {
    #[prost(message, optional, tag = "1")]
    pub(super) address: Option<Address>,
}
