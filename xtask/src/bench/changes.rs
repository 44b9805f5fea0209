//! What clients see while something changes behind a proxy: its configuration, ten times; and one
//! of two instances, which is killed three times. Each proxy with one worker on processor 0, clients
//! and instances on processor 1, all at the same load without a pause, rounds alternating.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::busy::{Asked, Bad, Connection, Latest, ask_while};
use super::edge::upstreams;
use super::house::{House, free_addr};
use super::median;
use super::nginx::await_listening;
use super::peer::{Certificate, Doors, Peer, Route, Running, Setup, Speaks, say_versions, signal};
use super::process::{find, load_average, pin};

const ROUNDS: usize = 3;
/// Changes of one proxy in one round: an even number, so that it ends where it began.
const CHANGES: usize = 10;
/// How long it goes on as it is after a change.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a change may take to be seen.
const CHANGE_WAIT: Duration = Duration::from_secs(15);
/// How often an instance is killed in one round, how long it is away, and how long all are there.
const KILLS: usize = 3;
const AWAY: Duration = Duration::from_millis(500);
const WHOLE: Duration = Duration::from_millis(1_500);

/// One proxy under test.
#[derive(Debug)]
struct Proxy {
    name: &'static str,
    way: &'static str,
    addr: SocketAddr,
    /// What it is told, and by whom; nothing if it is Evenkeel.
    peer: Option<(Setup, Running)>,
    changed: Outcome,
    killed: Outcome,
    /// Milliseconds from each change to the first answer of the new instance, and to the last one
    /// of the old.
    first_new: Vec<f64>,
    last_old: Vec<f64>,
}

/// What came of the questions of all rounds.
#[derive(Debug, Default)]
struct Outcome {
    kept: Count,
    fresh: Count,
    statuses: usize,
    worst: Duration,
    /// Of the first question that failed.
    why: Option<String>,
}

/// Questions that were answered well, and those that were not.
#[derive(Debug, Default)]
struct Count {
    good: usize,
    failed: usize,
}

impl Outcome {
    fn add(&mut self, asked: &[Asked]) {
        for it in asked {
            let count = match it.by {
                Connection::Kept => &mut self.kept,
                Connection::Fresh => &mut self.fresh,
            };
            self.worst = self.worst.max(it.took);
            match &it.answer {
                Ok(_) => count.good += 1,
                Err(bad) => {
                    count.failed += 1;
                    self.statuses += usize::from(matches!(bad, Bad::Status(_)));
                    self.why.get_or_insert_with(|| match bad {
                        Bad::Broken(why) => why.clone(),
                        Bad::Status(status) => format!("status {status}"),
                    });
                }
            }
        }
    }
}

pub(super) fn run(program: &Path, xtask: &Path) -> anyhow::Result<()> {
    println!(
        "\nchanges: 64 clients on kept connections and 2 that open one each time, {ROUNDS} rounds of \
         {CHANGES} changes and {KILLS} kills"
    );
    if find("openssl").is_none() {
        println!("  not measured: it needs openssl");
        return Ok(());
    }
    say_versions(program);
    let house = House::new(program, &["taskset", "-c", "0"])?;
    let folder = house.folder();
    let own = free_addr()?;
    house.write(&stack(xtask, own, "a"))?;
    house.run(&["up"])?;
    let one = |name| upstreams(&house, name)?.first().copied().context("it has an instance");
    let (ends, pair) = ([one("a")?, one("b")?], upstreams(&house, "pair")?);
    let certificate = Certificate::make(folder)?;
    let mut proxies = Vec::new();
    for peer in Peer::ALL.into_iter().chain([Peer::HaproxySocket]) {
        let route = |name, path, to, or| Route { name, path, speaks: Speaks::Http1, to, or };
        let routes = vec![
            route("pair", "/pair", pair.clone(), Vec::new()),
            route("web", "/", vec![ends[0]], vec![ends[1]]),
        ];
        let (doors, certificate) = (Doors::free()?, certificate.clone());
        let setup = Setup { doors, certificate, routes, retries: true };
        let folder = folder.join(format!("{peer:?}"));
        std::fs::create_dir(&folder)?;
        if let Some(it) = peer.start(&folder, &setup)? {
            let (name, way) = (peer.name(), peer.way_to_change());
            proxies.push(Proxy::new(name, way, doors.plain, Some((setup, it))));
        }
    }
    proxies.push(Proxy::new("evenkeel", "apply, another table", own, None));
    // The clients are threads of this process.
    pin(&[1])?;
    let measured = rounds(&mut proxies, &house, xtask, ends, &pair);
    pin(&[0, 1])?;
    measured?;
    report(&proxies);
    println!("  load {} after", load_average());
    Ok(())
}

fn rounds(
    proxies: &mut [Proxy],
    house: &House,
    xtask: &Path,
    ends: [SocketAddr; 2],
    pair: &[SocketAddr],
) -> anyhow::Result<()> {
    for _ in 0..ROUNDS {
        for proxy in &mut *proxies {
            let named = format!("{} ({})", proxy.name, proxy.way);
            proxy.change(house, xtask, ends).with_context(|| named.clone())?;
        }
        for proxy in &mut *proxies {
            proxy.kill(house, pair).with_context(|| proxy.name)?;
        }
    }
    Ok(())
}

impl Proxy {
    fn new(
        name: &'static str,
        way: &'static str,
        addr: SocketAddr,
        peer: Option<(Setup, Running)>,
    ) -> Self {
        let (changed, killed) = Default::default();
        let (first_new, last_old) = Default::default();
        Self { name, way, addr, peer, changed, killed, first_new, last_old }
    }

    /// Changes where it leads, again and again, while clients ask.
    fn change(&mut self, house: &House, xtask: &Path, ends: [SocketAddr; 2]) -> anyhow::Result<()> {
        let mut changes: Vec<(Instant, u8)> = Vec::new();
        let (addr, peer) = (self.addr, &mut self.peer);
        let asked = ask_while(addr, "/", "POST", |latest| {
            await_answer(latest, b'a')?;
            for n in 0..CHANGES {
                std::thread::sleep(PAUSE);
                let (name, to) = [("b", ends[1]), ("a", ends[0])][n % 2];
                let letter = name.as_bytes()[0];
                if peer.is_none() {
                    house.write(&stack(xtask, addr, name))?;
                }
                changes.push((Instant::now(), letter));
                match peer {
                    Some((setup, running)) => {
                        setup.lead("web", to);
                        running.change(setup)?;
                    }
                    None => drop(house.run(&["apply", "--yes"])?),
                }
                await_answer(latest, letter)?;
            }
            std::thread::sleep(PAUSE);
            Ok(())
        })?;
        self.changed.add(&asked);
        for (n, (began, letter)) in changes.iter().enumerate() {
            let next = changes.get(n + 1).map(|it| it.0);
            let answers = asked.iter().filter_map(|it| {
                let within = it.at > *began && next.is_none_or(|next| it.at < next);
                Some((it.answer.as_ref().ok().filter(|_| within)?, it.at))
            });
            let (new, old): (Vec<_>, Vec<_>) = answers.partition(|it| it.0 == letter);
            let after = |at: Option<Instant>| at.map_or(0.0, |at| milliseconds(at - *began));
            self.first_new.push(after(new.into_iter().map(|it| it.1).min()));
            self.last_old.push(after(old.into_iter().map(|it| it.1).max()));
        }
        Ok(())
    }

    /// Kills one of two instances, again and again, while clients ask.
    fn kill(&mut self, house: &House, pair: &[SocketAddr]) -> anyhow::Result<()> {
        let victim = *pair.first().context("there are two instances")?;
        let asked = ask_while(self.addr, "/pair", "GET", |latest| {
            await_answer(latest, b'p')?;
            for _ in 0..KILLS {
                std::thread::sleep(WHOLE);
                let file = house.folder().join(format!("tiny-{}.pid", victim.port()));
                signal(std::fs::read_to_string(file)?.trim().parse()?, "-KILL")?;
                std::thread::sleep(AWAY);
                await_listening(victim)?;
            }
            std::thread::sleep(WHOLE);
            Ok(())
        })?;
        self.killed.add(&asked);
        Ok(())
    }
}

/// Waits until this one answers.
fn await_answer(latest: &Latest, letter: u8) -> anyhow::Result<()> {
    let by = Instant::now() + CHANGE_WAIT;
    while !latest.is(letter) {
        if Instant::now() > by {
            bail!("`{}` does not answer", char::from(letter));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn milliseconds(it: Duration) -> f64 {
    it.as_secs_f64() * 1_000.0
}

fn report(proxies: &[Proxy]) {
    println!(
        "  the configuration changes\n    proxy      way                    kept conn.  failed   \
         new conn.  failed   worst ms   new serves ms (max)   old ends ms (max)"
    );
    for proxy in proxies {
        let it = &proxy.changed;
        println!(
            "    {:<10} {:<20} {:>12} {:>7} {:>11} {:>7} {:>10.0} {:>21} {:>19}   {}",
            proxy.name,
            proxy.way,
            it.kept.good + it.kept.failed,
            it.kept.failed,
            it.fresh.good + it.fresh.failed,
            it.fresh.failed,
            milliseconds(it.worst),
            median_and_most(&proxy.first_new),
            median_and_most(&proxy.last_old),
            it.why.as_deref().unwrap_or_default()
        );
    }
    println!(
        "  one of two instances is killed\n    proxy        requests  broken  not 200   worst ms"
    );
    // Once for each program: how its configuration changes does not matter here.
    for proxy in proxies.iter().filter(|it| it.way != Peer::HaproxySocket.way_to_change()) {
        let it = &proxy.killed;
        let failed = it.kept.failed + it.fresh.failed;
        println!(
            "    {:<10} {:>10} {:>7} {:>8} {:>10.0}   {}",
            proxy.name,
            it.kept.good + it.fresh.good + failed,
            failed - it.statuses,
            it.statuses,
            milliseconds(it.worst),
            it.why.as_deref().unwrap_or_default()
        );
    }
}

fn median_and_most(values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.1} ({most:.1})", median(values.to_owned()))
}

/// Two services, of which the route leads to one; and a pair whose instances come back when they
/// are killed, at the same port, so that every proxy has the same ones.
fn stack(xtask: &Path, listen: SocketAddr, to: &str) -> String {
    let tiny = format!("taskset -c 1 {} tiny", xtask.display());
    let again = format!(
        "trap 'kill $!; exit' TERM; while :; do {tiny} & echo $! > tiny-$PORT.pid; wait $!; \
         sleep {}; done",
        AWAY.as_secs_f64()
    );
    let service = |name: &str, replicas: u8, run: &str| {
        format!(
            r#"
[service.{name}]
run = ["sh", "-c", "{run}"]
replicas = {replicas}
env = {{ VERSION = "{name}" }}
health = "/"
stop = {{ signal = "TERM", grace = "2s" }}
[service.{name}.rollout]
min_ready = "0s"
"#
        )
    };
    let [a, b] = ["a", "b"].map(|name| service(name, 1, &format!("exec {tiny}")));
    let pair = service("pair", 2, &again);
    format!(
        "stack = \"bench\"\n[edge]\nlisten = [\"{listen}\"]\n{a}{b}{pair}\
         [route.pair]\npath = \"/pair\"\nto = \"pair\"\n[route.web]\nto = \"{to}\"\n"
    )
}
