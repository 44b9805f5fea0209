//! The edge beside nginx, haproxy, Envoy, Caddy and Traefik with HTTP/1.1 and HTTP/2, with TLS and
//! without: requests per second, processor time per request and p99, each proxy alone on processor
//! 0, load and upstreams on processor 1, rounds alternating. What is not installed is left out, and
//! that is said.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use super::edge::{stack, upstreams};
use super::house::{House, free_addr};
use super::median;
use super::nginx::{self, Nginx, await_listening};
use super::process::{cpu_of_tree, is_installed};

/// Rounds, each with every proxy once in each way.
const ROUNDS: usize = 3;
/// Connections that are kept open, and requests at a time on each where it is HTTP/2.
const CONNECTIONS: &str = "64";
const STREAMS: &str = "4";
/// Seconds of one proxy in one way and round, after one of warming up.
const SECONDS: &str = "3";
/// The host of the certificate.
const HOST: &str = "bench.test";

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http1,
    Http2,
    Http1Tls,
    Http2Tls,
}

const WAYS: [Way; 4] = [Way::Http1, Way::Http2, Way::Http1Tls, Way::Http2Tls];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2 (h2c)",
            Self::Http1Tls => "HTTP/1.1, TLS",
            Self::Http2Tls => "HTTP/2, TLS",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Tls)
    }
}

/// Where a proxy listens.
#[derive(Clone, Copy, Debug)]
struct Doors {
    plain: SocketAddr,
    h2c: SocketAddr,
    tls: SocketAddr,
}

impl Doors {
    fn free() -> anyhow::Result<Self> {
        Ok(Self { plain: free_addr()?, h2c: free_addr()?, tls: free_addr()? })
    }

    fn of(&self, way: Way) -> SocketAddr {
        match way {
            Way::Http1 => self.plain,
            Way::Http2 => self.h2c,
            Way::Http1Tls | Way::Http2Tls => self.tls,
        }
    }
}

/// One proxy under test.
#[derive(Debug)]
struct Proxy {
    name: &'static str,
    doors: Doors,
    pid: u32,
    /// By way: what each round came to.
    rounds: [Vec<Round>; WAYS.len()],
    _running: Option<Running>,
}

/// What one round of one proxy in one way came to.
#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    cpu_per_100k: f64,
    p99_ms: f64,
}

pub(super) fn run(program: &Path) -> anyhow::Result<()> {
    println!(
        "\nprotocols: h2load, {CONNECTIONS} connections, {STREAMS} streams each, two upstreams"
    );
    if !["h2load", "openssl", "nginx", "haproxy"].iter().all(|it| is_installed(it)) {
        println!("  not measured: it needs nghttp2-client, openssl, nginx and haproxy (Debian)");
        return Ok(());
    }
    let house = House::new(program, &["taskset", "-c", "0"])?;
    let folder = house.folder().to_owned();
    let files = certificate(&folder)?;
    let own = Doors::free()?;
    let own = Doors { h2c: own.plain, ..own };
    house.write(&with_tls(&stack(&folder, own.plain)?, own.tls, &files))?;
    house.run(&["up"])?;
    let upstreams = upstreams(&house)?;
    let text = nginx_servers(Doors::free()?, &upstreams, &files);
    let nginx = Nginx::start(&folder, "peer", 0, &text.1)?;
    let proxy = |name, doors, pid, running| Proxy {
        name,
        doors,
        pid,
        rounds: Default::default(),
        _running: running,
    };
    let mut proxies = vec![proxy("nginx", text.0, nginx.pid(), None)];
    for peer in [haproxy, envoy, caddy, traefik] {
        let (name, doors, started) = peer(&folder, &upstreams, &files)?;
        match started {
            Some(running) => proxies.push(proxy(name, doors, running.0.id(), Some(running))),
            None => println!("  {name} is not installed and left out"),
        }
    }
    proxies.push(proxy("evenkeel", own, house.pid("edge")?, None));
    for proxy in &proxies {
        let log = folder.join(format!("{}.log", proxy.name));
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        for addr in [proxy.doors.plain, proxy.doors.h2c, proxy.doors.tls] {
            await_listening(addr).with_context(|| format!("{} says: {}", proxy.name, said()))?;
        }
    }
    for _ in 0..ROUNDS {
        for (place, way) in WAYS.into_iter().enumerate() {
            for proxy in &mut proxies {
                load(proxy.doors.of(way), way, "1", &folder)?;
                let before = cpu_of_tree(proxy.pid);
                let (requests, rate, p99_ms) = load(proxy.doors.of(way), way, SECONDS, &folder)?;
                let used = (cpu_of_tree(proxy.pid) - before).as_secs_f64();
                let cpu_per_100k = used / requests * 100_000.0;
                if let Some(rounds) = proxy.rounds.get_mut(place) {
                    rounds.push(Round { rate, cpu_per_100k, p99_ms });
                }
            }
        }
    }
    report(&proxies);
    Ok(())
}

fn report(proxies: &[Proxy]) {
    for (place, way) in WAYS.into_iter().enumerate() {
        let of = |proxy: &Proxy, field: fn(&Round) -> f64| {
            median(proxy.rounds.get(place).into_iter().flatten().map(field).collect())
        };
        let base = proxies.first().map_or(1.0, |nginx| of(nginx, |round| round.cpu_per_100k));
        println!("  {}", way.name());
        println!("    proxy      CPU s/100k  x nginx   req/s    p99 ms");
        for proxy in proxies {
            let cpu = of(proxy, |round| round.cpu_per_100k);
            println!(
                "    {:<10} {cpu:>10.2}  {:>7.2}  {:>7.0}  {:>7.2}",
                proxy.name,
                cpu / base,
                of(proxy, |round| round.rate),
                of(proxy, |round| round.p99_ms),
            );
        }
    }
}

/// Loads `addr`; gives requests, requests per second and the p99 in milliseconds.
fn load(
    addr: SocketAddr,
    way: Way,
    seconds: &str,
    folder: &Path,
) -> anyhow::Result<(f64, f64, f64)> {
    let log = folder.join("h2load.log");
    drop(std::fs::remove_file(&log));
    let scheme = if way.is_tls() { "https" } else { "http" };
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "h2load", "-t", "1", "-c", CONNECTIONS, "-D", seconds]);
    match way.is_http2() {
        true => command.args(["-m", STREAMS]),
        false => command.args(["-m", "1", "--h1"]),
    };
    let log_file = format!("--log-file={}", log.display());
    let output = command
        .args([format!("--connect-to={addr}"), log_file, format!("{scheme}://{HOST}/")])
        .output()
        .context("could not run h2load")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let counts = text.lines().find(|line| line.starts_with("requests:")).unwrap_or_default();
    let count = |what: &str| -> Option<f64> {
        let part = counts.split(',').find(|part| part.trim_end().ends_with(what))?;
        part.split_whitespace().find_map(|word| word.parse().ok())
    };
    let (Some(good), Some(0.0)) = (count("succeeded"), count("failed")) else {
        bail!("requests failed at {addr}, {}:\n{text}", way.name());
    };
    let wanted: f64 = seconds.parse().unwrap_or(1.0);
    // Each line: when it began, its status, and how long it took in microseconds.
    let log = std::fs::read_to_string(&log).context("h2load has written no log")?;
    let took = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse::<f64>().ok());
    let mut took: Vec<f64> = took.collect();
    took.sort_by(f64::total_cmp);
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or(0.0);
    Ok((good, good / wanted, p99 / 1_000.0))
}

/// A certificate and its key, and both in one file.
fn certificate(folder: &Path) -> anyhow::Result<[PathBuf; 3]> {
    let files = ["bench.pem", "bench.key", "both.pem"].map(|name| folder.join(name));
    let [chain, key, both] = &files;
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "30", "-subj", &format!("/CN={HOST}")])
        .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
        .arg("-out")
        .arg(chain)
        .arg("-keyout")
        .arg(key)
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("openssl made no certificate");
    }
    let text = std::fs::read_to_string(chain)? + &std::fs::read_to_string(key)?;
    std::fs::write(both, text)?;
    Ok(files)
}

fn with_tls(stack: &str, tls: SocketAddr, [chain, key, _]: &[PathBuf; 3]) -> String {
    let edge = format!("[edge]\ntls = [\"{tls}\"]\nto_https = false\n");
    let (chain, key) = (chain.display(), key.display());
    let certificate =
        format!("[certificate.c]\nhosts = [\"{HOST}\"]\nchain = \"{chain}\"\nkey = \"{key}\"\n");
    stack.replacen("[edge]\n", &edge, 1) + &certificate
}

fn nginx_servers(
    doors: Doors,
    upstreams: &[SocketAddr],
    [chain, key, _]: &[PathBuf; 3],
) -> (Doors, String) {
    let plain = nginx::proxy(doors.plain, upstreams);
    let more = format!(
        "listen {}; listen {} http2; listen {} ssl http2; ssl_certificate {}; \
         ssl_certificate_key {};",
        doors.plain,
        doors.h2c,
        doors.tls,
        chain.display(),
        key.display()
    );
    (doors, plain.replacen(&format!("listen {};", doors.plain), &more, 1))
}

/// A process that is ended when it is dropped.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a peer on processor 0, if it is there.
fn start(folder: &Path, program: &str, args: &[&str]) -> anyhow::Result<Option<Running>> {
    let cache = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let venv = cache.map(|cache| cache.join("evenkeel-ci/venv/bin").join(program));
    let venv = venv.filter(|path| path.is_file());
    if venv.is_none() && !is_installed(program) {
        return Ok(None);
    }
    let program = venv.map_or_else(|| program.to_owned(), |path| path.display().to_string());
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
    let more = log.try_clone()?;
    let child = Command::new("taskset")
        .args(["-c", "0", &program])
        .args(args)
        .current_dir(folder)
        .env("GOMAXPROCS", "1")
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(more)
        .stderr(log)
        .spawn()
        .with_context(|| format!("could not start {program}"))?;
    Ok(Some(Running(child)))
}

type Started = anyhow::Result<(&'static str, Doors, Option<Running>)>;

fn haproxy(folder: &Path, upstreams: &[SocketAddr], [_, _, both]: &[PathBuf; 3]) -> Started {
    let doors = Doors::free()?;
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout client 60s\n  \
         timeout server 60s\n  timeout connect 1s\n  option forwardfor\n  http-reuse always\n\
         listen l\n  bind {}\n  bind {} proto h2\n  bind {} ssl crt {} alpn h2,http/1.1\n  \
         balance roundrobin\n",
        doors.plain,
        doors.h2c,
        doors.tls,
        both.display()
    );
    for (n, addr) in upstreams.iter().enumerate() {
        writeln!(text, "  server s{n} {addr}")?;
    }
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, text)?;
    let path = path.display().to_string();
    Ok(("haproxy", doors, start(folder, "haproxy", &["-db", "-q", "-f", &path])?))
}

fn caddy(folder: &Path, upstreams: &[SocketAddr], [chain, key, _]: &[PathBuf; 3]) -> Started {
    let doors = Doors::free()?;
    let to: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
    let to = to.join(" ");
    let proxy = format!("reverse_proxy {to} {{\n    lb_policy round_robin\n  }}");
    let text = format!(
        "{{\n  auto_https off\n  admin off\n  servers {{\n    protocols h1 h2 h2c\n  }}\n}}\n\
         http://{HOST}:{}, http://{HOST}:{} {{\n  bind 127.0.0.1\n  {proxy}\n}}\n\
         https://{HOST}:{} {{\n  bind 127.0.0.1\n  tls {} {}\n  {proxy}\n}}\n",
        doors.plain.port(),
        doors.h2c.port(),
        doors.tls.port(),
        chain.display(),
        key.display()
    );
    std::fs::write(folder.join("Caddyfile"), text)?;
    let args = ["run", "--adapter", "caddyfile", "--config", "Caddyfile"];
    Ok(("caddy", doors, start(folder, "caddy", &args)?))
}

fn traefik(folder: &Path, upstreams: &[SocketAddr], [chain, key, _]: &[PathBuf; 3]) -> Started {
    let doors = Doors::free()?;
    let mut text = format!(
        "tls:\n  certificates:\n    - certFile: {}\n      keyFile: {}\nhttp:\n  routers:\n    \
         plain:\n      entryPoints: [a, b]\n      rule: PathPrefix(`/`)\n      service: up\n    \
         tls:\n      entryPoints: [c]\n      rule: PathPrefix(`/`)\n      service: up\n      \
         tls: {{}}\n  services:\n    up:\n      loadBalancer:\n        servers:\n",
        chain.display(),
        key.display()
    );
    for addr in upstreams {
        writeln!(text, "          - url: http://{addr}")?;
    }
    std::fs::write(folder.join("routes.yaml"), text)?;
    let entries = [("a", doors.plain), ("b", doors.h2c), ("c", doors.tls)]
        .map(|(name, addr)| format!("--entrypoints.{name}.address={addr}"));
    let [a, b, c] = &entries;
    let args = ["--providers.file.filename=routes.yaml", a.as_str(), b, c, "--log.level=ERROR"];
    Ok(("traefik", doors, start(folder, "traefik", &args)?))
}

fn envoy(folder: &Path, upstreams: &[SocketAddr], [chain, key, _]: &[PathBuf; 3]) -> Started {
    let doors = Doors::free()?;
    let endpoint = |addr: &SocketAddr| {
        let socket = socket_address(*addr);
        serde_json::json!({ "endpoint": { "address": socket } })
    };
    let endpoints: Vec<_> = upstreams.iter().map(endpoint).collect();
    let manager = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "b", "codec_type": "AUTO",
        "route_config": { "virtual_hosts": [{ "name": "v", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }] }] },
        "http_filters": [{ "name": "r", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    let filters = serde_json::json!([{ "name": "m", "typed_config": manager }]);
    let tls = serde_json::json!({ "name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": { "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [{
            "certificate_chain": { "filename": chain }, "private_key": { "filename": key } }] } } });
    let listener = |name: &str, addr: SocketAddr, socket: Option<&serde_json::Value>| {
        let mut chain = serde_json::json!({ "filters": filters });
        if let Some(socket) = socket {
            chain["transport_socket"] = socket.clone();
        }
        let address = socket_address(addr);
        serde_json::json!({ "name": name, "address": address, "filter_chains": [chain] })
    };
    let config = serde_json::json!({ "static_resources": {
        "listeners": [
            listener("a", doors.plain, None),
            listener("b", doors.h2c, None),
            listener("c", doors.tls, Some(&tls)),
        ],
        "clusters": [{ "name": "up", "type": "STATIC", "lb_policy": "ROUND_ROBIN",
            "load_assignment": { "cluster_name": "up", "endpoints": [{ "lb_endpoints": endpoints }] } }],
    } });
    std::fs::write(folder.join("envoy.json"), config.to_string())?;
    let args = ["-c", "envoy.json", "--concurrency", "1", "-l", "error", "--disable-hot-restart"];
    Ok(("envoy", doors, start(folder, "envoy", &args)?))
}

fn socket_address(addr: SocketAddr) -> serde_json::Value {
    let (ip, port) = (addr.ip().to_string(), addr.port());
    serde_json::json!({ "socket_address": { "address": ip, "port_value": port } })
}
