//! How one edge process takes another's place without anybody noticing.
//!
//! The successor gets ready while its predecessor serves: it has the table, the health and the
//! sockets, and accepts nothing ([`heir`]). Then the predecessor leaves ([`leave`]): it accepts
//! nothing more, keeps its door under another name, and ends what it holds. Until it has ended, it
//! is one of the successor's elders ([`elders`]): it is told every table, asked whatever control
//! asks, and what it counts is part of what the successor reports ([`company`]). An edge that
//! starts after a crash finds the elders by their doors.
//!
//! What both say to one another ([`dialect`]) is small and has a version of its own, because they
//! are of different versions by their nature.

pub(crate) mod company;
pub(crate) mod dialect;
pub(crate) mod elders;
pub(crate) mod heir;
pub(crate) mod leave;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_kernel::layout;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::clock::{ms, now_ms};
use crate::limits::Limits;
use elders::Elders;

/// Between two looks whether the time of what an ending edge holds is up.
const LOOK: Duration = Duration::from_millis(100);

/// Where an edge stands between its predecessor and its successor.
#[derive(Debug)]
pub(crate) struct Succession {
    /// Handed on with the counters, so that control sees one and the same count.
    incarnation: AtomicU64,
    /// It may accept connections.
    open: watch::Sender<bool>,
    /// It has left its place to a successor.
    left: watch::Sender<bool>,
    /// When it stopped accepting; zero: it has not.
    closing_since_ms: AtomicU64,
    /// It was told to end within the time that an end takes, and from when on that counts.
    hurried_ms: AtomicU64,
    /// Being the edge of this home.
    lock: Mutex<Option<File>>,
    elders: Mutex<Elders>,
    /// There are other elders than before.
    pub(crate) company: Notify,
    /// All that it held has ended.
    done: AtomicBool,
    /// Somebody has looked at the counts since.
    pub(crate) read_out: Notify,
}

impl Succession {
    pub(crate) fn new() -> Self {
        Self {
            incarnation: AtomicU64::new(fastrand::u64(1..)),
            open: watch::Sender::new(false),
            left: watch::Sender::new(false),
            closing_since_ms: AtomicU64::new(0),
            hurried_ms: AtomicU64::new(0),
            lock: Mutex::new(None),
            elders: Mutex::default(),
            company: Notify::new(),
            done: AtomicBool::new(false),
            read_out: Notify::new(),
        }
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// Lets connections in.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until connections may be let in.
    pub(crate) async fn opened(&self) {
        let mut open = self.open.subscribe();
        // Whoever sends lives as long as this.
        drop(open.wait_for(|open| *open).await);
    }

    pub(crate) fn elders(&self) -> MutexGuard<'_, Elders> {
        self.elders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes the edge of this home for as long as it holds the lock.
    pub(crate) fn reigns(&self, lock: File) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
    }

    /// Whether it is the edge of this home.
    pub(crate) fn is_the_edge(&self) -> bool {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_some() && !self.has_left()
    }

    /// Is no longer the edge of this home.
    pub(crate) fn abdicates(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn has_left(&self) -> bool {
        *self.left.borrow()
    }

    pub(crate) fn leaving(&self) -> watch::Receiver<bool> {
        self.left.subscribe()
    }

    /// Waits until it has left its place.
    pub(crate) async fn left(&self) {
        let mut left = self.leaving();
        // Whoever sends lives as long as this.
        drop(left.wait_for(|left| *left).await);
    }

    /// It accepts nothing more from now on.
    pub(crate) fn closes(&self) {
        self.closing_since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// It was told to end: what it holds gets no more time than any end leaves.
    pub(crate) fn hurry(&self) {
        // The first word counts.
        let _earlier =
            self.hurried_ms.compare_exchange(0, now_ms(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether what it holds has the time that a leaving edge has.
    pub(crate) fn has_time(&self) -> bool {
        self.has_left() && self.hurried_ms.load(Ordering::Relaxed) == 0
    }

    /// Whether one connection of a leaving edge has had its time. `jitter` (0 to 1) is its own, so
    /// that not all clients come back in the same moment: it ends within the last quarter.
    pub(crate) fn is_over(&self, limits: &Limits, jitter: f32, now_ms: u64) -> bool {
        let since = self.closing_since_ms.load(Ordering::Relaxed);
        let budget = limits.leave.mul_f32(1.0 - jitter.clamp(0.0, 1.0) / 4.0);
        since != 0 && self.has_left() && now_ms.saturating_sub(since) >= ms(budget)
    }

    /// Returns when nothing may be waited for any more.
    pub(crate) async fn time_is_up(&self, limits: &Limits) {
        loop {
            let (since, budget) = match self.hurried_ms.load(Ordering::Relaxed) {
                0 if self.has_left() => {
                    (self.closing_since_ms.load(Ordering::Relaxed), limits.leave + LOOK)
                }
                0 => (self.closing_since_ms.load(Ordering::Relaxed), limits.shutdown),
                hurried => (hurried, limits.shutdown),
            };
            if now_ms().saturating_sub(since) >= ms(budget) {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// All that it held has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn finishes(&self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// The edges of `home` that have left their place and still hold requests, by process number.
#[must_use]
pub fn leaving(home: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(home.join(layout::RUN)) else { return Vec::new() };
    let pid = |entry: std::fs::DirEntry| layout::leaving_edge(entry.file_name().to_str()?);
    let mut pids: Vec<u32> = entries.flatten().filter_map(pid).collect();
    pids.sort_unstable();
    pids
}
