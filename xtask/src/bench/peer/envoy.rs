//! Envoy: listeners and clusters that stand, endpoints in files that it watches.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{Files, Route, Setup, Speaks};

/// What it may have under way at a time, in place of its own 1,024 and, of retries, 3.
const AT_A_TIME: u32 = 4_096;
/// Streams of one connection of HTTP/2, in both directions; its own bound is as many.
const STREAMS: u32 = 1_024;

pub(super) fn files(setup: &Setup, folder: &Path) -> Files {
    let listeners = [("a", setup.doors.plain), ("b", setup.doors.h2c), ("c", setup.doors.tls)]
        .map(|(name, addr)| listener(name, addr, setup));
    let clusters: Vec<_> =
        setup.routes.iter().map(|route| cluster(route, setup.retries, folder)).collect();
    let config = json!({
        "node": { "id": "bench", "cluster": "bench" },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    let endpoints = setup.routes.iter().map(|it| (file(it.name), endpoints(it).to_string()));
    [("envoy.json".to_owned(), config.to_string())].into_iter().chain(endpoints).collect()
}

pub(super) fn arguments() -> Vec<String> {
    ["-c", "envoy.json", "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
        .map(str::to_owned)
        .into()
}

/// The name of the file with the endpoints of a route.
fn file(route: &str) -> String {
    format!("envoy-{route}.json")
}

fn typed(message: &str) -> String {
    format!("type.googleapis.com/envoy.{message}")
}

fn listener(name: &str, addr: SocketAddr, setup: &Setup) -> Value {
    let routes: Vec<_> = setup.routes.iter().map(|route| routed(route, setup.retries)).collect();
    let manager = json!({
        "@type": typed("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "b", "codec_type": "AUTO",
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "route_config": {
            "virtual_hosts": [{ "name": "v", "domains": ["*"], "routes": routes }]
        },
        "http_filters": [{ "name": "r", "typed_config": {
            "@type": typed("extensions.filters.http.router.v3.Router") } }],
    });
    let mut chain = json!({ "filters": [{ "name": "m", "typed_config": manager }] });
    if addr == setup.doors.tls {
        chain["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": { "filename": setup.certificate.chain },
                    "private_key": { "filename": setup.certificate.key },
                }],
            },
        } });
    }
    json!({ "name": name, "address": socket_address(addr), "filter_chains": [chain] })
}

fn routed(route: &Route, retries: bool) -> Value {
    let mut action = json!({ "cluster": route.name });
    if retries {
        // Its documentation's way to try again on another host.
        action["retry_policy"] = json!({
            "retry_on": "connect-failure,refused-stream,reset,gateway-error",
            "num_retries": 3,
            "retry_host_predicate": [{ "name": "previous", "typed_config": {
                "@type": typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
            } }],
            "host_selection_retry_max_attempts": 5,
        });
    }
    json!({ "match": { "prefix": route.path }, "route": action })
}

fn cluster(route: &Route, retries: bool, folder: &Path) -> Value {
    let endpoints = folder.join(file(route.name));
    let mut cluster = json!({
        "name": route.name, "type": "EDS", "lb_policy": "ROUND_ROBIN", "connect_timeout": "1s",
        "eds_cluster_config": { "eds_config": {
            "resource_api_version": "V3", "path_config_source": { "path": endpoints } } },
        "circuit_breakers": { "thresholds": [{ "max_connections": AT_A_TIME,
            "max_pending_requests": AT_A_TIME, "max_requests": AT_A_TIME,
            "max_retries": AT_A_TIME }] },
    });
    if route.speaks == Speaks::Grpc {
        let options = "extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({ format!("envoy.{options}"): {
            "@type": typed(options),
            "explicit_http_config": {
                "http2_protocol_options": { "max_concurrent_streams": STREAMS } },
        } });
    }
    if retries {
        cluster["health_checks"] = json!([{ "timeout": "1s", "interval": "1s",
            "unhealthy_threshold": 2, "healthy_threshold": 1,
            "http_health_check": { "path": "/" } }]);
        // Else one that is taken out goes on until its probes fail.
        cluster["ignore_health_on_host_removal"] = json!(true);
    }
    cluster
}

/// What the file says that Envoy watches.
fn endpoints(route: &Route) -> Value {
    let endpoint = |addr: &SocketAddr| json!({ "endpoint": { "address": socket_address(*addr) } });
    let all: Vec<_> = route.to.iter().map(endpoint).collect();
    json!({ "resources": [{
        "@type": typed("config.endpoint.v3.ClusterLoadAssignment"),
        "cluster_name": route.name,
        "endpoints": [{ "lb_endpoints": all }],
    }] })
}

fn socket_address(addr: SocketAddr) -> Value {
    let (ip, port) = (addr.ip().to_string(), addr.port());
    json!({ "socket_address": { "address": ip, "port_value": port } })
}
