//! The bare loop: the least that a roll of instances can cost. It starts, probes and ends the same
//! processes with the same concurrency, with no supervision, no routing and no journal.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long one instance may take to answer.
const START_MAX: Duration = Duration::from_secs(60);

/// A fleet of bare processes, ended when it is dropped.
#[derive(Debug)]
pub(super) struct Fleet {
    children: Mutex<Vec<Option<Child>>>,
}

impl Fleet {
    /// Starts `count` instances, `width` at a time.
    pub(super) fn start(
        program: &Path,
        count: usize,
        width: usize,
        ports: u16,
    ) -> anyhow::Result<Self> {
        let fleet = Self { children: Mutex::new((0..count).map(|_| None).collect()) };
        fleet.roll(program, "1", width, ports)?;
        Ok(fleet)
    }

    /// Replaces every instance: starts one, probes it until it answers, ends the old one.
    pub(super) fn roll(
        &self,
        program: &Path,
        version: &str,
        width: usize,
        ports: u16,
    ) -> anyhow::Result<()> {
        let count = self.slots().len();
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..width {
                scope.spawn(|| {
                    loop {
                        let slot = next.fetch_add(1, Ordering::Relaxed);
                        if slot >= count {
                            return;
                        }
                        if let Err(error) = self.replace(program, version, slot, ports) {
                            let mut failures =
                                failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            failures.push(error);
                            return;
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap_or_default();
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    fn replace(
        &self,
        program: &Path,
        version: &str,
        slot: usize,
        ports: u16,
    ) -> anyhow::Result<()> {
        let port = ports + u16::try_from(slot)?;
        let child = Command::new(program)
            .arg("tiny")
            .env("PORT", port.to_string())
            .env("VERSION", version)
            .stdin(Stdio::null())
            .spawn()
            .context("could not start an instance")?;
        // Owned from here on, so that it is ended whatever happens.
        let old = self.slots().get_mut(slot).context("there is no such slot")?.replace(child);
        let answered = probe(port);
        if let Some(mut old) = old {
            old.kill()?;
            old.wait()?;
        }
        answered
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<Option<Child>>> {
        self.children.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.slots().iter_mut().flatten() {
            // It may have ended already, which is as good.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Asks until there is an answer.
fn probe(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_MAX;
    while Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
            let mut answer = [0; 12];
            if stream.read_exact(&mut answer).is_ok() && answer.ends_with(b"200") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("nothing answers on port {port}")
}
