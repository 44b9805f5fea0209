//! xDS with clients that nobody here wrote: gRPC without a proxy, and Envoy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use evenkeel_kernel::model::Protocol;

use crate::backend::Backend;
use crate::clients::python;
use crate::machine::{Program, free_port, program, until};
use crate::proxies::share;
use crate::rig::{ILL, Rig, WELL};

/// Two servers and a client, which counts who of both answers.
const SCRIPT: &str = r#"
import sys, grpc, collections
from concurrent import futures
ports = []
servers = []
for name in (b'old', b'new'):
    class Handler(grpc.GenericRpcHandler):
        def __init__(self, name): self.name = name
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: self.name)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Handler(name),))
    ports.append(server.add_insecure_port('127.0.0.1:0'))
    server.start()
    servers.append(server)
print(*ports, flush=True)
channel = None
for line in sys.stdin:
    if channel is None:
        channel = grpc.insecure_channel(sys.argv[1], (('grpc.default_authority', 'web'),))
        call = channel.unary_unary('/test.Test/Who')
    count = collections.Counter()
    for _ in range(100):
        try:
            count[call(b'', timeout=20, wait_for_ready=True).decode()] += 1
        except grpc.RpcError as error:
            count['failed'] += 1
            print(error.code(), error.details(), file=sys.stderr)
    print(count['old'], count['new'], count['failed'], flush=True)
"#;

struct Grpc {
    child: Child,
    order: ChildStdin,
    said: BufReader<std::process::ChildStdout>,
}

impl Grpc {
    fn line(&mut self) -> Vec<u16> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.split_whitespace().map(|it| it.parse().unwrap()).collect()
    }

    /// How many of a hundred calls the old one answered, the new one, and nobody.
    fn share(&mut self) -> [u16; 3] {
        self.order.write_all(b"\n").unwrap();
        self.line().try_into().unwrap()
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Grpc {
    /// Starts it towards this target; and where its two servers are.
    fn start(rig: &Rig, target: &str) -> Option<(Self, [SocketAddr; 2])> {
        let python = python("grpc")?;
        let bootstrap = rig.home.path().join("bootstrap.json");
        let text = serde_json::json!({
            "xds_servers": [{
                "server_uri": rig.xds.to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": "test"},
        });
        std::fs::write(&bootstrap, text.to_string()).unwrap();
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, target])
            .env("GRPC_XDS_BOOTSTRAP", &bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let order = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut grpc = Self { child, order, said };
        let addrs: Vec<SocketAddr> =
            grpc.line().into_iter().map(|port| ([127, 0, 0, 1], port).into()).collect();
        Some((grpc, addrs.try_into().unwrap()))
    }
}

#[test]
fn grpc_follows_a_release_with_no_proxy_between() {
    let rig = Rig::new();
    let Some((mut grpc, addrs)) = Grpc::start(&rig, "xds:///web") else { return };
    let split = |old, new| rig.serve_web(&[(old, vec![addrs[0]]), (new, vec![addrs[1]])]);
    split(10_000, 0);
    assert_eq!(grpc.share(), [100, 0, 0]);
    split(8_000, 2_000);
    until("eighty to twenty", || {
        let [old, new, failed] = grpc.share();
        assert_eq!(failed, 0);
        (new > 5 && old > 55).then_some(())
    });
    rig.see("web.r1.1", ILL);
    until("only who is well", || {
        let [_, new, failed] = grpc.share();
        assert_eq!(failed, 0);
        (new == 100).then_some(())
    });
    rig.see("web.r1.1", WELL);
    split(0, 10_000);
    until("all to the new one", || (grpc.share() == [0, 100, 0]).then_some(()));
    until("it is known that all of that was taken", || {
        let readers = rig.readers.borrow().clone()?;
        (readers[&"web".parse().unwrap()].taken? == rig.generation()).then_some(())
    });
    // The old one is forgotten, and nothing breaks.
    rig.serve(
        [("web".parse().unwrap(), {
            let mut service = crate::rig::service(&[(0, vec![]), (10_000, vec![addrs[1]])]);
            service.pools.pop_first();
            service.split.pop_first();
            service
        })]
        .into(),
    );
    for _ in 0..3 {
        assert_eq!(grpc.share(), [0, 100, 0]);
    }
}

/// Starts Envoy, and says where it listens.
fn start_envoy(rig: &Rig, api: &str) -> Option<(Program, SocketAddr)> {
    let envoy = program("envoy")?;
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        r#"
node: {{id: test, cluster: test, metadata: {{listen: "{listen}"}}}}
dynamic_resources:
  ads_config: {{api_type: {api}, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: house}}}}]}}
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
        port = rig.xds.port()
    );
    let path = rig.home.path().join("envoy.yaml");
    std::fs::write(&path, config).unwrap();
    let program = Program::start(Command::new(envoy).arg("-c").arg(&path).args([
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
        "--log-level",
        "warning",
    ]));
    Some((program, listen))
}

fn envoy_follows(api: &str) {
    let (old, new) = (Backend::says("old"), Backend::says("new"));
    let rig = Rig::new();
    let split = |a, b| rig.serve_web(&[(a, vec![old.addr]), (b, vec![new.addr])]);
    split(10_000, 0);
    let Some((_envoy, listen)) = start_envoy(&rig, api) else { return };
    let both = [&old, &new];
    until("all to the old one", || (share(listen, both)? == [100, 0]).then_some(()));
    split(8_000, 2_000);
    until("eighty to twenty", || {
        let [a, b] = share(listen, both).expect("nothing fails");
        assert_eq!(a + b, 100);
        (b > 5 && a > 55).then_some(())
    });
    rig.see("web.r1.1", ILL);
    until("only who is well", || {
        (share(listen, both).expect("nothing fails") == [0, 100]).then_some(())
    });
    rig.see("web.r1.1", WELL);
    split(0, 10_000);
    until("all to the new one", || {
        (share(listen, both).expect("nothing fails") == [0, 100]).then_some(())
    });
    rig.serve_web(&[(10_000, vec![old.addr])]);
    until("back to the old one", || {
        (share(listen, both).expect("nothing fails") == [100, 0]).then_some(())
    });
}

#[test]
fn envoy_follows_by_the_state_of_the_world() {
    envoy_follows("GRPC");
}

#[test]
fn envoy_follows_by_what_has_changed() {
    envoy_follows("DELTA_GRPC");
}

#[test]
fn envoy_carries_grpc_to_instances_that_speak_http_2() {
    let rig = Rig::new();
    let Some((_envoy, listen)) = start_envoy(&rig, "GRPC") else { return };
    let Some((mut grpc, addrs)) = Grpc::start(&rig, &listen.to_string()) else { return };
    let split = |old, new| {
        let mut web = crate::rig::service(&[(old, vec![addrs[0]]), (new, vec![addrs[1]])]);
        web.pools.values_mut().for_each(|it| it.protocol = Protocol::H2c);
        rig.serve([("web".parse().unwrap(), web)].into());
    };
    split(10_000, 0);
    until("all to the old one", || (grpc.share() == [100, 0, 0]).then_some(()));
    split(0, 10_000);
    until("all to the new one", || {
        let [old, new, failed] = grpc.share();
        assert_eq!((old + new, failed), (100, 0));
        (new == 100).then_some(())
    });
}
