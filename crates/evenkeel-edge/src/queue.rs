//! The requests of one service that wait for an instance: how many there may be, and what makes
//! them look again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use evenkeel_kernel::model::Hold;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The waiting requests of one service.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    /// What they keep in memory.
    bytes: AtomicU64,
    changed: Notify,
}

impl Queue {
    /// A place in it for a request of so many bytes, unless `max` places are taken, or too many
    /// bytes.
    pub(crate) fn sit(self: &Arc<Self>, max: u32, bytes: u64) -> Option<Seat> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let more = |n: usize| (n < max).then_some(n + 1);
        self.waiting.try_update(Ordering::SeqCst, Ordering::Relaxed, more).ok()?;
        // From here on it is given back whatever happens.
        let mut seat = Seat { queue: Arc::clone(self), bytes: 0 };
        let more = |n: u64| n.checked_add(bytes).filter(|sum| *sum <= Hold::BYTES_MAX);
        self.bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        seat.bytes = bytes;
        Some(seat)
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
pub(crate) struct Seat {
    queue: Arc<Queue>,
    bytes: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.queue.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_so_many_seats() {
        let queue = Arc::new(Queue::default());
        let seats: Vec<_> = (0..5).filter_map(|_| queue.sit(3, 0)).collect();
        assert_eq!(seats.len(), 3);
        drop(seats);
        assert!(queue.sit(3, 0).is_some());
    }

    #[test]
    fn it_has_room_for_so_many_bytes() {
        let queue = Arc::new(Queue::default());
        let quarter = Hold::BYTES_MAX / 4;
        let seats: Vec<_> = (0..5).filter_map(|_| queue.sit(10, quarter)).collect();
        assert_eq!((seats.len(), queue.waiting()), (4, 4));
        assert!(queue.sit(10, 0).is_some(), "what takes no room");
        assert!(queue.sit(10, u64::MAX).is_none());
        drop(seats);
        assert!(queue.sit(10, Hold::BYTES_MAX).is_some());
        assert_eq!(queue.waiting(), 0);
    }
}
