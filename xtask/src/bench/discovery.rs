//! How long it takes until a change of health has reached those who watch: ten thousand endpoints,
//! a thousand watchers, a hundred changes a second; half of the watchers by events, half by
//! Consul's blocking queries.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader as Reader};
use tokio::net::TcpStream;

use super::house::{build_xtask, free_addr};
use super::process::{cpu, pin, private_kib};
use super::stand_in::{StandIn, service_name};

const SERVICES: u32 = 100;
const INSTANCES: u32 = 100;
const WATCHERS: u32 = 1_000;
const CHANGES_PER_SECOND: u32 = 100;
/// How long it is measured.
const MEASURED: Duration = Duration::from_secs(10);
/// How long all may take to be there.
const READY_WAIT: Duration = Duration::from_secs(30);

/// What came to whom: the directory's index, and when, in nanoseconds.
type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

pub(super) fn run(root: &Path) -> anyhow::Result<()> {
    println!(
        "\ndiscovery: {} endpoints of {SERVICES} services, {WATCHERS} watchers, \
         {CHANGES_PER_SECOND} changes of health per second",
        SERVICES * INSTANCES
    );
    let program = build_xtask(root)?;
    let (dns, http) = (free_addr()?, free_addr()?);
    let words = [
        SERVICES.to_string(),
        INSTANCES.to_string(),
        dns.to_string(),
        http.to_string(),
        CHANGES_PER_SECOND.to_string(),
    ];
    let mut stand_in = StandIn::start(&program, &words)?;
    let lines = stand_in.output().context("it has an output")?;
    super::nginx::await_listening(http)?;
    let alone = private_kib(stand_in.pid());

    pin(&[1])?;
    let kinds: [Seen; 2] = [Seen::default(), Seen::default()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ready = Arc::new(Mutex::new(0_u32));
    let mut made = BTreeMap::new();
    let used = runtime.block_on(async {
        for number in 0..WATCHERS {
            let service = service_name(number / 2 % SERVICES + 1);
            let (events, queries) = (Arc::clone(&kinds[0]), Arc::clone(&kinds[1]));
            let ready = Arc::clone(&ready);
            tokio::spawn(async move {
                let done = match number % 2 {
                    0 => watch_events(http, &service, &events, &ready).await,
                    _ => watch_queries(http, &service, &queries, &ready).await,
                };
                if let Err(error) = done {
                    println!("  a watcher broke off: {error:#}");
                }
            });
        }
        let all_by = tokio::time::Instant::now() + READY_WAIT;
        while *ready.lock().unwrap_or_else(PoisonError::into_inner) < WATCHERS {
            if tokio::time::Instant::now() > all_by {
                bail!("not all watchers were let in");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stand_in.go()?;
        let before = cpu(stand_in.pid());
        tokio::time::sleep(MEASURED).await;
        Ok(cpu(stand_in.pid()) - before)
    })?;
    let watched = private_kib(stand_in.pid());
    drop(stand_in);
    for line in BufReader::new(lines).lines() {
        let line = line?;
        let Some((index, at)) = line.split_once(' ') else { continue };
        made.insert(index.parse::<u64>()?, at.parse::<u64>()?);
    }
    drop(runtime);
    pin(&[0, 1])?;
    for (what, seen) in [("events", &kinds[0]), ("blocking queries", &kinds[1])] {
        report(what, &made, &seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
    println!(
        "  processor time of discovery: {:.0} % of one; memory: {} MiB before the watchers, \
         {} MiB after",
        used.as_secs_f64() / MEASURED.as_secs_f64() * 100.0,
        alone >> 10,
        watched >> 10
    );
    Ok(())
}

fn report(what: &str, made: &BTreeMap<u64, u64>, seen: &[(u64, u64)]) {
    #[expect(clippy::cast_precision_loss, reason = "some milliseconds")]
    let took = |(index, at): &(u64, u64)| Some(at.saturating_sub(*made.get(index)?) as f64 / 1e6);
    let mut all: Vec<f64> = seen.iter().filter_map(took).collect();
    all.sort_by(f64::total_cmp);
    let at = |part: usize| all.get(all.len() * part / 1_000).copied().unwrap_or(f64::NAN);
    println!(
        "  {what:<17} {:>6} of {} changes seen  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms",
        all.len(),
        made.len(),
        at(500),
        at(990),
        at(999)
    );
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

fn note(seen: &Seen, index: u64) {
    let at = now();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push((index, at));
}

fn is_ready(ready: &Mutex<u32>) {
    *ready.lock().unwrap_or_else(PoisonError::into_inner) += 1;
}

/// The first index that somebody is told is of the directory's first.
fn indexed(first: &mut Option<u64>, told: u64) -> u64 {
    told - *first.get_or_insert(told - 1)
}

async fn watch_events(
    addr: SocketAddr,
    service: &str,
    seen: &Seen,
    ready: &Mutex<u32>,
) -> anyhow::Result<()> {
    let mut stream = Reader::new(TcpStream::connect(addr).await?);
    let request = format!("GET /v1/directory/events?service={service} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut first, mut line) = (None, Vec::new());
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let Some(id) = line.strip_prefix(b"id: ") else { continue };
        let told: u64 = std::str::from_utf8(id)?.trim().parse()?;
        match first {
            None => is_ready(ready),
            Some(_) => note(seen, told - first.unwrap_or(0)),
        }
        indexed(&mut first, told);
    }
}

async fn watch_queries(
    addr: SocketAddr,
    service: &str,
    seen: &Seen,
    ready: &Mutex<u32>,
) -> anyhow::Result<()> {
    let mut stream = Reader::new(TcpStream::connect(addr).await?);
    let (mut first, mut index) = (None, 0);
    let mut body = Vec::new();
    loop {
        let request = format!(
            "GET /v1/health/service/{service}?passing&wait=60s&index={index} HTTP/1.1\r\n\
             Host: x\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let (mut length, mut told) = (0, 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.trim_end().split_once(": ") {
                match name {
                    "content-length" => length = value.parse()?,
                    "x-consul-index" => told = value.parse()?,
                    _ => {}
                }
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        match first {
            None => is_ready(ready),
            Some(first) => note(seen, told - first),
        }
        indexed(&mut first, told);
        index = told;
    }
}
