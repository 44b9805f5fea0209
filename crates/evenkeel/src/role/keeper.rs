//! The keeper: holds the listening sockets, starts control and edge, and restarts what dies.
//!
//! It is small and synchronous on purpose. It knows neither releases nor requests.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use evenkeel_edge::handover::Holder;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use super::claim;
use super::start::spawn;

/// The first pause before a role is started again; it doubles with every quick death.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause. Who waits in the sockets' queues waits for it, and a start a second costs
/// next to nothing.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A role that has lived this long did not die quickly.
const STEADY: Duration = Duration::from_secs(30);
/// How long the holder may wait for messages before the roles are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a role may take to end when it is told to; the edge drains meanwhile.
const END_MAX: Duration = Duration::from_secs(15);

/// Keeps control and edge alive until it is told to end.
pub(super) fn run(home: &Path) -> anyhow::Result<()> {
    let claim = claim::take(home, "keeper")?;
    let ending = Arc::new(AtomicBool::new(false));
    // A child's death interrupts the holder's wait, so it is seen at once.
    let child_died = Arc::new(AtomicBool::new(false));
    for (signal, flag) in [(SIGTERM, &ending), (SIGINT, &ending), (SIGCHLD, &child_died)] {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .context("could not listen for signals")?;
    }
    let mut holder = Holder::bind(home).context("could not open the keeper's socket")?;
    let mut roles = [Kept::new(home, "edge"), Kept::new(home, "control")];
    while !ending.load(Ordering::Acquire) {
        for role in &mut roles {
            role.look();
        }
        holder.serve(LOOK).context("could not serve the listening sockets")?;
    }
    // Control first: it would see the edge go and wonder.
    for role in roles.iter_mut().rev() {
        role.end();
    }
    drop(claim);
    Ok(())
}

/// A role that is kept running.
#[derive(Debug)]
struct Kept {
    home: PathBuf,
    name: &'static str,
    /// The process, if this keeper started it. Another keeper's child is known by its lock only.
    child: Option<Child>,
    started: Instant,
    quick_deaths: u32,
    /// When it may be started next.
    not_before: Instant,
    seen_alive: bool,
}

impl Kept {
    fn new(home: &Path, name: &'static str) -> Self {
        let now = Instant::now();
        let seen_alive = claim::is_running(home, name);
        Self {
            home: home.to_owned(),
            name,
            child: None,
            started: now,
            quick_deaths: 0,
            not_before: now,
            seen_alive,
        }
    }

    /// Starts it, if it does not live and its pause is over.
    fn look(&mut self) {
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) => {
                    say(&format!("{} ended with {status}", self.name));
                    self.child = None;
                    self.died();
                }
                Err(error) => {
                    say(&format!("could not look after {}: {error}", self.name));
                    return;
                }
            }
        } else if self.seen_alive {
            if claim::is_running(&self.home, self.name) {
                return;
            }
            say(&format!("{} is gone", self.name));
            self.seen_alive = false;
            self.died();
        }
        if Instant::now() < self.not_before {
            return;
        }
        match spawn(&self.home, self.name, &[]) {
            Ok(child) => {
                self.child = Some(child);
                self.started = Instant::now();
            }
            Err(error) => {
                say(&format!("{error:#}"));
                self.died();
            }
        }
    }

    /// Decides when it may be started again: at once after a steady life, else ever later.
    fn died(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.started) >= STEADY {
            self.quick_deaths = 0;
        }
        // The first death in a row costs no pause: the sockets' queues are waiting.
        let pause = match self.quick_deaths {
            0 => Duration::ZERO,
            deaths => PAUSE_FIRST.saturating_mul(1 << (deaths - 1).min(16)).min(PAUSE_MAX),
        };
        self.quick_deaths = self.quick_deaths.saturating_add(1);
        self.not_before = now + pause;
    }

    /// Tells it to end and waits until it has.
    fn end(&mut self) {
        let pid = claim::pid_of(&self.home, self.name).and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).ok();
        }
        let deadline = Instant::now() + END_MAX;
        while claim::is_running(&self.home, self.name) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(child) = &mut self.child {
            if claim::is_running(&self.home, self.name) {
                say(&format!("{} does not end and is killed", self.name));
                drop(child.kill());
            }
            drop(child.wait());
        }
    }
}

/// Writes one line into the keeper's log.
fn say(text: &str) {
    crate::term::note(&format!("keeper: {text}"));
}
