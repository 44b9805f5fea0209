//! From the command to abort until the last answer of the bad revision, beside nginx: from the
//! command to reload until the last answer of the upstream that was taken out.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::house::{House, free_addr};
use super::median;
use super::nginx::{self, Nginx, await_listening};
use super::process::is_installed;

/// How often each side is measured.
const ROUNDS: usize = 5;
/// Clients that ask all the time, each on a connection of its own.
const CLIENTS: usize = 8;
/// How long answers are watched after the command has ended.
const WATCH: Duration = Duration::from_secs(2);

pub(super) fn run(program: &Path) -> anyhow::Result<()> {
    println!("\nabort: command to the last answer of the bad revision, {CLIENTS} busy clients");
    let tiny = std::env::current_exe()?;
    let mut ours = Vec::new();
    let house = House::new(program, &[])?;
    let listen = free_addr()?;
    house.write(&stack(&tiny, listen, "good"))?;
    house.run(&["up"])?;
    for round in 0..ROUNDS {
        let bad = format!("bad{round}");
        house.write(&stack(&tiny, listen, &bad))?;
        house.run(&["apply", "--yes", "--detach"])?;
        let measured = last_answer(listen, &bad, || {
            house.run(&["abort", "--detach"])?;
            Ok(())
        })?;
        ours.push(measured);
        await_settled(&house)?;
    }
    println!("  evenkeel abort        {:>7.1} ms   {}", median(ours.clone()), list(&ours));
    if !is_installed("nginx") {
        println!("  nginx reload          not measured: nginx is not installed");
        return Ok(());
    }
    let theirs = reloads(&tiny)?;
    println!("  nginx reload          {:>7.1} ms   {}", median(theirs.clone()), list(&theirs));
    println!("  ratio {:.2}", median(ours) / median(theirs));
    Ok(())
}

fn list(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" ")
}

/// The same with nginx in front of two upstreams, of which one is taken out.
fn reloads(tiny: &Path) -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let (good, good_addr) = Tiny::start(tiny, "good")?;
    let (bad, bad_addr) = Tiny::start(tiny, "bad")?;
    let listen = free_addr()?;
    let both = nginx::proxy(listen, &[good_addr, bad_addr]);
    let one = nginx::proxy(listen, &[good_addr]);
    let nginx = Nginx::start(folder.path(), "peer", 0, &both)?;
    await_listening(listen)?;
    let mut measured = Vec::new();
    for _ in 0..ROUNDS {
        nginx.reload(folder.path(), "peer", &both)?;
        measured.push(last_answer(listen, "bad", || nginx.reload(folder.path(), "peer", &one))?);
    }
    drop((good, bad));
    Ok(measured)
}

/// Asks all the time; once `bad` answers, runs `command`; gives the milliseconds from its start to
/// the last answer of `bad`.
fn last_answer(
    addr: SocketAddr,
    bad: &str,
    command: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let stop = AtomicBool::new(false);
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| ask(addr, bad, &seen, &stop))).collect();
        let commanded = command_once_seen(&seen, command);
        if commanded.is_ok() {
            std::thread::sleep(WATCH);
        }
        stop.store(true, Ordering::Release);
        let last = clients
            .into_iter()
            .filter_map(|client| client.join().ok().flatten())
            .max()
            .context("the bad revision never answered")?;
        Ok(last.saturating_duration_since(commanded?).as_secs_f64() * 1000.0)
    })
}

fn command_once_seen(
    seen: &AtomicBool,
    command: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !seen.load(Ordering::Acquire) {
        if Instant::now() > deadline {
            bail!("the bad revision does not answer");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let began = Instant::now();
    command()?;
    Ok(began)
}

/// One client. Gives the moment of the last answer by `bad`.
fn ask(addr: SocketAddr, bad: &str, seen: &AtomicBool, stop: &AtomicBool) -> Option<Instant> {
    let mut last = None;
    while !stop.load(Ordering::Acquire) {
        let Ok(stream) = TcpStream::connect(addr) else { continue };
        let mut reader = BufReader::new(stream);
        while !stop.load(Ordering::Acquire) {
            let Ok(body) = exchange(&mut reader) else { break };
            if body == bad {
                last = Some(Instant::now());
                seen.store(true, Ordering::Release);
            }
        }
    }
    last
}

fn exchange(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    reader.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn await_settled(house: &House) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !house.status()?["release"].is_null() {
        if Instant::now() > deadline {
            bail!("the release does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn stack(tiny: &Path, listen: SocketAddr, version: &str) -> String {
    format!(
        r#"
stack = "bench"
[edge]
listen = ["{listen}"]
[service.tiny]
run = ["{}", "tiny"]
replicas = 2
env = {{ VERSION = "{version}" }}
health = "/"
[service.tiny.rollout]
strategy = "canary"
steps = [{{ weight = "50%", bake = "10m" }}]
min_ready = "0s"
bake = "10m"
[route.tiny]
to = "tiny"
"#,
        tiny.display()
    )
}

/// A bare tiny server, ended when it is dropped.
#[derive(Debug)]
struct Tiny(Child);

impl Tiny {
    fn start(program: &Path, version: &str) -> anyhow::Result<(Self, SocketAddr)> {
        let addr = free_addr()?;
        let child = Command::new(program)
            .arg("tiny")
            .env("PORT", addr.port().to_string())
            .env("VERSION", version)
            .stdin(Stdio::null())
            .spawn()
            .context("could not start an instance")?;
        await_listening(addr)?;
        Ok((Self(child), addr))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
