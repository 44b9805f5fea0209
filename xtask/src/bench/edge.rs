//! The edge beside nginx and haproxy: requests per second, processor time per request and p99,
//! each proxy alone on processor 0, load and upstreams on processor 1, rounds alternating.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use super::house::{House, free_addr};
use super::median;
use super::nginx::{self, Nginx, await_listening};
use super::process::{cpu_of_tree, is_installed, on_processor};

/// Rounds, each with every proxy once.
const ROUNDS: usize = 3;
/// Connections that wrk keeps open.
const CONNECTIONS: &str = "64";
/// How long one proxy is loaded in one round, after a second of warming up.
const SECONDS: &str = "4";
/// What the upstreams answer: 128 bytes.
const BODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// One proxy under test.
#[derive(Debug)]
struct Proxy {
    name: &'static str,
    addr: SocketAddr,
    pid: u32,
    rounds: Vec<Round>,
}

/// What one round of one proxy came to.
#[derive(Debug)]
struct Round {
    requests_per_second: f64,
    cpu_per_100k: f64,
    p99_ms: f64,
}

pub(super) fn run(program: &Path) -> anyhow::Result<()> {
    println!("\nedge: wrk, {CONNECTIONS} keep-alive connections, 128 bytes, two upstreams");
    if !is_installed("wrk") || !is_installed("nginx") || !is_installed("haproxy") {
        println!("  not measured: it needs wrk, nginx and haproxy (Debian has them)");
        return Ok(());
    }
    let house = House::new(program, &["taskset", "-c", "0"])?;
    let listen = free_addr()?;
    house.write(&stack(house.folder(), listen)?)?;
    house.run(&["up"])?;
    let upstreams = upstreams(&house, "up")?;

    let nginx_addr = free_addr()?;
    let nginx = Nginx::start(house.folder(), "peer", 0, &nginx::proxy(nginx_addr, &upstreams))?;
    let haproxy_addr = free_addr()?;
    let haproxy = Haproxy::start(house.folder(), haproxy_addr, &upstreams)?;
    for addr in [nginx_addr, haproxy_addr] {
        await_listening(addr)?;
    }
    let proxy = |name, addr, pid| Proxy { name, addr, pid, rounds: Vec::new() };
    let mut proxies = [
        proxy("nginx", nginx_addr, nginx.pid()),
        proxy("haproxy", haproxy_addr, haproxy.0.id()),
        proxy("evenkeel", listen, house.pid("edge")?),
    ];
    for _ in 0..ROUNDS {
        for proxy in &mut proxies {
            wrk(proxy.addr, "1")?;
            let before = cpu_of_tree(proxy.pid);
            let (requests, rate, p99_ms) = wrk(proxy.addr, SECONDS)?;
            let used = (cpu_of_tree(proxy.pid) - before).as_secs_f64();
            proxy.rounds.push(Round {
                requests_per_second: rate,
                cpu_per_100k: used / requests * 100_000.0,
                p99_ms,
            });
        }
    }
    report(&proxies);
    Ok(())
}

fn report(proxies: &[Proxy]) {
    let of =
        |proxy: &Proxy, field: fn(&Round) -> f64| median(proxy.rounds.iter().map(field).collect());
    let base = proxies.first().map_or(1.0, |nginx| of(nginx, |round| round.cpu_per_100k));
    println!("  proxy      CPU s/100k  x nginx   req/s    p99 ms   rounds (CPU s/100k)");
    for proxy in proxies {
        let cpu = of(proxy, |round| round.cpu_per_100k);
        let rounds: Vec<String> =
            proxy.rounds.iter().map(|round| format!("{:.2}", round.cpu_per_100k)).collect();
        println!(
            "  {:<10} {cpu:>10.2}  {:>7.2}  {:>7.0}  {:>7.2}   {}",
            proxy.name,
            cpu / base,
            of(proxy, |round| round.requests_per_second),
            of(proxy, |round| round.p99_ms),
            rounds.join(" ")
        );
    }
}

/// Loads `addr` and gives requests, requests per second and the p99 in milliseconds.
fn wrk(addr: SocketAddr, seconds: &str) -> anyhow::Result<(f64, f64, f64)> {
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "-t1", "-c", CONNECTIONS, "-d", seconds, "--latency"])
        .arg(format!("http://{addr}/"))
        .output()
        .context("could not run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("requests failed at {addr}:\n{text}");
    }
    let word = |line: &str, n: usize| line.split_whitespace().nth(n).map(str::to_owned);
    let find =
        |key: &str, n| text.lines().find(|line| line.contains(key)).and_then(|it| word(it, n));
    let requests = find("requests in", 0).and_then(|it| it.parse().ok());
    let rate = find("Requests/sec:", 1).and_then(|it| it.parse().ok());
    let p99 = find("99%", 1).and_then(|it| milliseconds(&it));
    match (requests, rate, p99) {
        (Some(requests), Some(rate), Some(p99)) => Ok((requests, rate, p99)),
        _ => bail!("could not read what wrk says:\n{text}"),
    }
}

/// `1.23ms`, `890.00us`, `1.02s`
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = if let Some(number) = text.strip_suffix("us") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else {
        (text.strip_suffix('s')?, 1000.0)
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// nginx as the upstream, as a service of Evenkeel, on processor 1.
pub(super) fn stack(folder: &Path, listen: SocketAddr) -> anyhow::Result<String> {
    let server =
        format!("  server {{ listen 127.0.0.1:PORT; location / {{ return 200 '{BODY}'; }} }}");
    let template = folder.join("upstream.in");
    std::fs::write(&template, nginx::config(folder, "upstream-PORT", &server))?;
    let run = format!(
        "sed s/PORT/$PORT/g upstream.in > upstream-$PORT.conf; \
         exec taskset -c 1 {} -c {}/upstream-$PORT.conf -g 'daemon off;'",
        nginx::PROGRAM,
        folder.display()
    );
    Ok(format!(
        r#"
stack = "bench"
[edge]
listen = ["{listen}"]
[service.up]
run = ["sh", "-c", "{run}"]
replicas = 2
health = "/"
stop = {{ signal = "TERM", grace = "2s" }}
[service.up.rollout]
min_ready = "0s"
[route.up]
to = "up"
"#
    ))
}

/// Where the instances of a service listen.
pub(super) fn upstreams(house: &House, service: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let status = house.status()?;
    let services = status["services"].as_array().into_iter().flatten();
    let pools = services.filter(|it| it["name"] == service).map(|it| &it["pools"][0]);
    let instances = pools.filter_map(|pool| pool["instances"].as_array()).flatten();
    let ports = instances.filter_map(|it| it["port"].as_u64());
    let addrs: Vec<SocketAddr> =
        ports.filter_map(|port| Some(([127, 0, 0, 1], u16::try_from(port).ok()?).into())).collect();
    if addrs.is_empty() {
        bail!("{service} has no instances in {status}");
    }
    Ok(addrs)
}

/// A running haproxy, ended when it is dropped.
#[derive(Debug)]
struct Haproxy(Child);

impl Haproxy {
    fn start(folder: &Path, listen: SocketAddr, upstreams: &[SocketAddr]) -> anyhow::Result<Self> {
        let servers: Vec<String> =
            upstreams.iter().enumerate().map(|(i, addr)| format!("  server s{i} {addr}")).collect();
        let path = folder.join("haproxy.cfg");
        let config = format!(
            "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout client 60s\n  \
             timeout server 60s\n  timeout connect 1s\n  option forwardfor\n  \
             http-reuse always\nlisten l\n  bind {listen}\n  balance roundrobin\n{}\n",
            servers.join("\n")
        );
        std::fs::write(&path, config)?;
        let child = on_processor(0, "haproxy")
            .args(["-db", "-q", "-f"])
            .arg(&path)
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .spawn()
            .context("could not start haproxy")?;
        Ok(Self(child))
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
