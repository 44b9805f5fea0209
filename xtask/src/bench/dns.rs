//! DNS beside knot and nsd: the same names, processor time per answer, each server alone on
//! processor 0, the load on processor 1, rounds alternating.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::house::{build_xtask, free_addr};
use super::median;
use super::process::{cpu_of_tree, is_installed};
use super::stand_in::{StandIn, address, service_name};

/// Names, each with three addresses.
const NAMES: u32 = 1_000;
const ADDRESSES: u32 = 3;
/// Rounds, each with every server once.
const ROUNDS: usize = 5;
/// How long one server is loaded in one round, after a second of warming up.
const SECONDS: &str = "3";

/// One server under test.
struct Server {
    name: &'static str,
    addr: SocketAddr,
    pid: u32,
    micros: Vec<f64>,
    rates: Vec<f64>,
}

pub(super) fn run(root: &Path) -> anyhow::Result<()> {
    println!("\ndns: dnsperf, {NAMES} names of {ADDRESSES} addresses, UDP");
    if !is_installed("dnsperf") || !is_installed("knotd") {
        println!("  not measured: it needs dnsperf and knot (Debian has them)");
        return Ok(());
    }
    let program = build_xtask(root)?;
    let folder = tempfile::Builder::new().prefix("ekb-").tempdir()?;
    let folder = folder.path();
    let queries: String =
        (1..=NAMES).map(|it| format!("{}.bench.internal A\n", service_name(it))).collect();
    std::fs::write(folder.join("queries"), queries)?;
    std::fs::write(folder.join("zone"), zone())?;

    let [own_addr, http, knot_addr, nsd_addr] =
        [free_addr()?, free_addr()?, free_addr()?, free_addr()?];
    let numbers = [NAMES, ADDRESSES].map(|it| it.to_string());
    let words = [&numbers[..], &[own_addr.to_string(), http.to_string()]].concat();
    let own = StandIn::start(&program, &words)?;
    let knot = Peer::knot(folder, knot_addr)?;
    let nsd = is_installed("nsd").then(|| Peer::nsd(folder, nsd_addr)).transpose()?;
    let server = |name, addr, pid| Server { name, addr, pid, micros: vec![], rates: vec![] };
    let mut servers = vec![server("knot", knot_addr, knot.0.id())];
    servers.extend(nsd.as_ref().map(|nsd| server("nsd", nsd_addr, nsd.0.id())));
    servers.push(server("evenkeel", own_addr, own.pid()));
    for server in &servers {
        await_answer(server.name, server.addr)?;
    }
    for _ in 0..ROUNDS {
        for server in &mut servers {
            load(server.addr, folder, "1")?;
            let before = cpu_of_tree(server.pid);
            let (answers, rate) = load(server.addr, folder, SECONDS)?;
            let used = (cpu_of_tree(server.pid) - before).as_secs_f64();
            server.micros.push(used / answers * 1e6);
            server.rates.push(rate);
        }
    }
    let base = servers.first().map_or(1.0, |knot| median(knot.micros.clone()));
    println!("  server     CPU µs/answer  x knot   answers/s   rounds (CPU µs)");
    for server in &servers {
        let cpu = median(server.micros.clone());
        let rounds: Vec<String> = server.micros.iter().map(|it| format!("{it:.2}")).collect();
        println!(
            "  {:<10} {cpu:>13.2}  {:>6.2}  {:>10.0}   {}",
            server.name,
            cpu / base,
            median(server.rates.clone()),
            rounds.join(" ")
        );
    }
    Ok(())
}

/// Loads a server; answers, and answers per second.
fn load(addr: SocketAddr, folder: &Path, seconds: &str) -> anyhow::Result<(f64, f64)> {
    let output = Command::new("taskset")
        .args(["-c", "1", "dnsperf", "-s", &addr.ip().to_string()])
        .args(["-p", &addr.port().to_string(), "-l", seconds, "-c", "4", "-q", "100", "-d"])
        .arg(folder.join("queries"))
        .output()
        .context("could not run dnsperf")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    if !text.contains("NOERROR") || text.contains("NXDOMAIN") || text.contains("REFUSED") {
        bail!("wrong answers at {addr}:\n{text}");
    }
    match (number("Queries completed:"), number("Queries per second:")) {
        (Some(answers), Some(rate)) if answers > 0.0 => Ok((answers, rate)),
        _ => bail!("could not read what dnsperf says:\n{text}"),
    }
}

/// The same names as a zone.
fn zone() -> String {
    let mut text = "$ORIGIN internal.\n$TTL 1\n@ SOA ns hostmaster 1 3600 600 86400 1\n\
                    @ NS ns\nns A 127.0.0.1\n"
        .to_owned();
    for service in 1..=NAMES {
        for slot in 1..=ADDRESSES {
            let ip = address(service, slot).ip();
            writeln!(text, "{}.bench A {ip}", service_name(service))
                .expect("writing to a String cannot fail");
        }
    }
    text
}

/// Another server with one thread, on processor 0; ended when it is dropped.
struct Peer(Child);

impl Peer {
    fn knot(folder: &Path, addr: SocketAddr) -> anyhow::Result<Self> {
        let path = folder.join("knot.conf");
        let at = folder.display();
        std::fs::write(
            &path,
            format!(
                "server:\n  rundir: {at}/knot\n  listen: {}@{}\n  udp-workers: 1\n  \
                 tcp-workers: 1\n  background-workers: 1\ndatabase:\n  storage: {at}/knot\n\
                 zone:\n  - domain: internal\n    storage: {at}\n    file: zone\n",
                addr.ip(),
                addr.port()
            ),
        )?;
        std::fs::create_dir(folder.join("knot"))?;
        Self::start("/usr/sbin/knotd", &["-c"], &path)
    }

    fn nsd(folder: &Path, addr: SocketAddr) -> anyhow::Result<Self> {
        let path = folder.join("nsd.conf");
        let at = folder.display();
        std::fs::write(
            &path,
            format!(
                "server:\n  ip-address: {}@{}\n  server-count: 1\n  username: \"\"\n  \
                 zonesdir: \"{at}\"\n  pidfile: \"{at}/nsd.pid\"\n  database: \"\"\n  \
                 xfrdfile: \"{at}/xfrd\"\n  xfrdir: \"{at}\"\n  zonelistfile: \"{at}/list\"\n\
                 remote-control:\n  control-enable: no\n\
                 zone:\n  name: internal\n  zonefile: zone\n",
                addr.ip(),
                addr.port()
            ),
        )?;
        Self::start("/usr/sbin/nsd", &["-d", "-c"], &path)
    }

    fn start(program: &str, args: &[&str], config: &Path) -> anyhow::Result<Self> {
        let child = Command::new("taskset")
            .args(["-c", "0", program])
            .args(args)
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("could not start {program}"))?;
        Ok(Self(child))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // TERM lets it end its children; KILL would leave them.
        let pid = self.0.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.0.wait());
    }
}

/// Waits until a server answers.
fn await_answer(name: &str, addr: SocketAddr) -> anyhow::Result<()> {
    let question = [
        &[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
        b"\x02s1\x05bench\x08internal\x00",
        &[0, 1, 0, 1],
    ]
    .concat();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.connect(addr)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut answer = [0; 512];
    while Instant::now() < deadline {
        let sent = socket.send(&question).is_ok();
        // Three answers.
        if sent && socket.recv(&mut answer).is_ok() && answer.get(6..8) == Some(&[0, 3]) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("{name} does not answer at {addr}")
}
