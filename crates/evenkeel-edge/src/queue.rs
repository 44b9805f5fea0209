//! The requests of one service that wait for an instance: how many there may be, and what makes
//! them look again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The waiting requests of one service.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    changed: Notify,
}

impl Queue {
    /// A place in it, unless `max` are taken.
    pub(crate) fn sit(self: &Arc<Self>, max: usize) -> Option<Seat> {
        let more = |n: usize| (n < max).then_some(n + 1);
        self.waiting.try_update(Ordering::SeqCst, Ordering::Relaxed, more).ok()?;
        Some(Seat(Arc::clone(self)))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Ready when there is reason to look again, counted from this call.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// An instance can be tried: all look again.
    pub(crate) fn wake_all(&self) {
        self.changed.notify_waiters();
    }

    /// There is room for one more: the first looks again.
    pub(crate) fn wake_one(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_one();
        }
    }
}

/// A place in a queue, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Queue>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_so_many_seats() {
        let queue = Arc::new(Queue::default());
        let seats: Vec<_> = (0..5).filter_map(|_| queue.sit(3)).collect();
        assert_eq!(seats.len(), 3);
        drop(seats);
        assert!(queue.sit(3).is_some());
    }
}
