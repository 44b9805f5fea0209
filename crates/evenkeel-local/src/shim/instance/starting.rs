//! Whether an instance may start now, and from when on it counts as started.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use evenkeel_kernel::model::Probe;

use super::Instance;
use crate::turn::{self, STARTING_FOR_MAX_MS, Turn, WAIT_MAX_MS};

/// The first look whether it is up, and the longest time between two: each is twice as long as the
/// one before.
const LOOKS_MS: [u64; 2] = [5, 200];
/// A connection on this machine is made at once, or is not made.
const CONNECT_MAX: Duration = Duration::from_millis(20);

/// A start from the first try to take a turn until the instance is up.
#[derive(Debug, Default)]
pub(super) struct Starting {
    /// Since when a turn is waited for.
    waits_since_ms: Option<u64>,
    /// Held while the instance starts.
    turn: Option<Turn>,
    began_ms: u64,
    look_at_ms: u64,
}

impl Starting {
    /// How long to wait before the next try to start; `None`: it may start.
    pub(super) fn wait_ms(&mut self, home: &Path, now_ms: u64) -> Option<u64> {
        let since_ms = *self.waits_since_ms.get_or_insert(now_ms);
        match Turn::take(home) {
            Ok(Some(turn)) => self.turn = Some(turn),
            Ok(None) if now_ms.saturating_sub(since_ms) < WAIT_MAX_MS => {
                return Some(turn::pause_ms());
            }
            // Without turns everything starts as soon as it can.
            Ok(None) | Err(_) => {}
        }
        self.waits_since_ms = None;
        None
    }

    /// The process has been started.
    pub(super) fn began(&mut self, now_ms: u64) {
        self.began_ms = now_ms;
        self.look_at_ms = now_ms + LOOKS_MS[0];
    }

    /// When to look whether it is up.
    pub(super) fn look_at_ms(&self) -> u64 {
        if self.turn.is_some() { self.look_at_ms } else { u64::MAX }
    }
}

impl Instance {
    /// Gives the turn back once the instance is up, or has taken too long.
    pub(super) fn see_whether_it_is_up(&mut self, now_ms: u64) {
        if now_ms < self.starting.look_at_ms() {
            return;
        }
        let passed_ms = now_ms.saturating_sub(self.starting.began_ms);
        if passed_ms >= STARTING_FOR_MAX_MS || self.is_up(now_ms) {
            self.starting = Starting::default();
            return;
        }
        self.starting.look_at_ms = now_ms + passed_ms.clamp(LOOKS_MS[0], LOOKS_MS[1]);
    }

    fn is_up(&self, now_ms: u64) -> bool {
        match self.spec.probe {
            Probe::Http { .. } | Probe::Grpc { .. } | Probe::Tcp => {
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.spec.port));
                TcpStream::connect_timeout(&addr, CONNECT_MAX).is_ok()
            }
            Probe::Exec { .. } | Probe::Notify => self.is_ready(now_ms).is_ok(),
            // It lives, and more is not known of it.
            Probe::Process => true,
        }
    }
}
