//! The edge beside nginx, haproxy, Envoy, Caddy and Traefik with HTTP/1.1 and HTTP/2, with TLS and
//! without, with gRPC and WebSockets: answers per second, processor time per answer and p99, each
//! proxy alone on processor 0, load and upstreams on processor 1, rounds alternating. What is not
//! installed is left out, and that is said.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::edge::{stack, upstreams};
use super::house::House;
use super::load::{Answered, Load, WEBSOCKETS};
use super::median;
use super::peer::{Certificate, Doors, HOST, Peer, Route, Running, Setup, Speaks, say_versions};
use super::process::{cpu_of_tree, find, load_average};

/// Rounds, each with every proxy once in each way.
const ROUNDS: usize = 3;
/// Connections that are kept open, and requests at a time on each where it is HTTP/2.
const CONNECTIONS: &str = "64";
const STREAMS: &str = "4";
/// Seconds of one proxy in one way and round, after one of warming up.
const SECONDS: &str = "3";

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http1,
    Http2,
    Http1Tls,
    Http2Tls,
    Grpc,
    WebSocket,
}

const WAYS: [Way; 6] =
    [Way::Http1, Way::Http2, Way::Http1Tls, Way::Http2Tls, Way::Grpc, Way::WebSocket];

impl Way {
    fn name(self) -> String {
        match self {
            Self::Http1 => "HTTP/1.1".to_owned(),
            Self::Http2 => "HTTP/2 (h2c)".to_owned(),
            Self::Http1Tls => "HTTP/1.1, TLS".to_owned(),
            Self::Http2Tls => "HTTP/2, TLS".to_owned(),
            Self::Grpc => "gRPC (h2c), unary calls of 128 bytes".to_owned(),
            Self::WebSocket => format!("{WEBSOCKETS} WebSockets, messages of 64 bytes"),
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }

    fn door(self, doors: &Doors) -> SocketAddr {
        match self {
            Self::Http1 | Self::WebSocket => doors.plain,
            Self::Http2 | Self::Grpc => doors.h2c,
            Self::Http1Tls | Self::Http2Tls => doors.tls,
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

pub(super) fn run(program: &Path, xtask: &Path) -> anyhow::Result<()> {
    println!(
        "\nprotocols: {CONNECTIONS} connections, {STREAMS} streams each, two upstreams; \
         {ROUNDS} rounds of {SECONDS} s"
    );
    if !["h2load", "openssl", "nginx"].iter().all(|it| find(it).is_some()) {
        println!("  not measured: it needs nghttp2-client, openssl and nginx (Debian has them)");
        return Ok(());
    }
    say_versions(program);
    let house = House::new(program, &["taskset", "-c", "0"])?;
    let folder = house.folder();
    let certificate = Certificate::make(folder)?;
    let own = Doors::free()?;
    let own = Doors { h2c: own.plain, ..own };
    let text = stack(folder, own.plain)? + &echoes(xtask);
    house.write(&with_tls(&text, own.tls, &certificate))?;
    house.run(&["up"])?;
    let route = |name, path, speaks| {
        Ok::<_, anyhow::Error>(Route {
            name,
            path,
            speaks,
            to: upstreams(&house, name)?,
            or: Vec::new(),
        })
    };
    let routes = vec![
        route("grpc", "/bench.Bench/", Speaks::Grpc)?,
        route("ws", "/ws", Speaks::WebSocket)?,
        route("up", "/", Speaks::Http1)?,
    ];
    let proxy = |name, doors, pid, running| Proxy {
        name,
        doors,
        pid,
        rounds: Default::default(),
        _running: running,
    };
    let mut proxies = Vec::new();
    for peer in Peer::ALL {
        let doors = Doors::free()?;
        let (certificate, routes) = (certificate.clone(), routes.clone());
        let setup = Setup { doors, certificate, routes, retries: false };
        if let Some(it) = peer.start(folder, &setup)? {
            proxies.push(proxy(peer.name(), doors, it.pid(), Some(it)));
        }
    }
    proxies.push(proxy("evenkeel", own, house.pid("edge")?, None));
    for _ in 0..ROUNDS {
        for (place, way) in WAYS.into_iter().enumerate() {
            for proxy in &mut proxies {
                let round = measure(proxy, way, xtask, folder)
                    .with_context(|| format!("{}, {}", proxy.name, way.name()))?;
                if let Some(rounds) = proxy.rounds.get_mut(place) {
                    rounds.push(round);
                }
            }
        }
    }
    report(&proxies);
    println!("  load {} after", load_average());
    Ok(())
}

/// Warms up, loads, and looks at the proxy before and after.
fn measure(proxy: &Proxy, way: Way, xtask: &Path, folder: &Path) -> anyhow::Result<Round> {
    let addr = way.door(&proxy.doors);
    let seconds: f64 = SECONDS.parse()?;
    let echo = |what| {
        let log = folder.join("load.log");
        let mut load = Load::start(xtask, what, addr, SECONDS, &log)?;
        let before = cpu_of_tree(proxy.pid);
        Ok::<_, anyhow::Error>((load.measure(&log)?, cpu_of_tree(proxy.pid) - before))
    };
    let (answered, used) = match way {
        Way::Grpc => echo("grpc")?,
        Way::WebSocket => echo("websocket")?,
        Way::Http1 | Way::Http2 | Way::Http1Tls | Way::Http2Tls => {
            h2load(addr, way, "1", folder)?;
            let before = cpu_of_tree(proxy.pid);
            (h2load(addr, way, SECONDS, folder)?, cpu_of_tree(proxy.pid) - before)
        }
    };
    Ok(Round {
        rate: answered.good / seconds,
        cpu_per_100k: used.as_secs_f64() / answered.good * 100_000.0,
        p99_ms: answered.p99_ms,
    })
}

fn report(proxies: &[Proxy]) {
    for (place, way) in WAYS.into_iter().enumerate() {
        let of = |proxy: &Proxy, field: fn(&Round) -> f64| {
            median(proxy.rounds.get(place).into_iter().flatten().map(field).collect())
        };
        let base = proxies.first().map_or(1.0, |nginx| of(nginx, |round| round.cpu_per_100k));
        println!("  {}", way.name());
        println!("    proxy      CPU s/100k  x nginx  per s    p99 ms   rounds (CPU s/100k)");
        for proxy in proxies {
            let cpu = of(proxy, |round| round.cpu_per_100k);
            let rounds = proxy.rounds.get(place).into_iter().flatten();
            let rounds: Vec<_> = rounds.map(|it| format!("{:.2}", it.cpu_per_100k)).collect();
            println!(
                "    {:<10} {cpu:>10.2}  {:>7.2}  {:>7.0}  {:>7.2}   {}",
                proxy.name,
                cpu / base,
                of(proxy, |round| round.rate),
                of(proxy, |round| round.p99_ms),
                rounds.join(" ")
            );
        }
    }
}

/// Loads `addr` by h2load.
fn h2load(addr: SocketAddr, way: Way, seconds: &str, folder: &Path) -> anyhow::Result<Answered> {
    let log = folder.join("h2load.log");
    drop(std::fs::remove_file(&log));
    let scheme = if way.is_tls() { "https" } else { "http" };
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "h2load", "-t", "1", "-c", CONNECTIONS, "-D", seconds]);
    match way {
        Way::Http2 | Way::Http2Tls => command.args(["-m", STREAMS]),
        Way::Http1 | Way::Http1Tls | Way::Grpc | Way::WebSocket => {
            command.args(["-m", "1", "--h1"])
        }
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
        bail!("requests failed:\n{text}");
    };
    // Each line: when it began, its status, and how long it took in microseconds.
    let log = std::fs::read_to_string(&log).context("h2load has written no log")?;
    let took = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse::<f64>().ok());
    let mut took: Vec<f64> = took.collect();
    took.sort_by(f64::total_cmp);
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or(0.0);
    Ok(Answered { good, p99_ms: p99 / 1_000.0 })
}

/// Services that give back what they get, on processor 1.
fn echoes(xtask: &Path) -> String {
    [("grpc", "grpc", "/bench.Bench"), ("ws", "websocket", "/ws")]
        .map(|(name, what, path)| {
            format!(
                r#"
[service.{name}]
run = ["taskset", "-c", "1", "{}", "echo", "{what}"]
replicas = 2
health = {{ tcp = true }}
stop = {{ signal = "TERM", grace = "2s" }}
[service.{name}.rollout]
min_ready = "0s"
[route.{name}]
path = "{path}"
to = "{name}"
"#,
                xtask.display()
            )
        })
        .concat()
}

fn with_tls(stack: &str, tls: SocketAddr, certificate: &Certificate) -> String {
    let edge = format!("[edge]\ntls = [\"{tls}\"]\nto_https = false\n");
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    let certificate =
        format!("[certificate.c]\nhosts = [\"{HOST}\"]\nchain = \"{chain}\"\nkey = \"{key}\"\n");
    stack.replacen("[edge]\n", &edge, 1) + &certificate
}
