//! What reaches the engine from outside: orders of people, and the news that something changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use evenkeel_journal::Seq;
use evenkeel_kernel::release::{Accepted, Action, Refusal};
use tokio::sync::oneshot;

use crate::api::types::Event;

/// Orders that may wait at once; more people than that do not ask in the same moment.
const WAITING_MAX: usize = 256;

/// What came of an action, and the journal's last place before it.
pub(crate) type Acted = Result<(Accepted, Seq), Refusal>;

/// One thing for the engine to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Decide what a person asks for.
    Act { action: Box<Action>, by: String, reply: oneshot::Sender<Acted> },
    /// Read the journal.
    Tail { after: u64, limit: usize, reply: oneshot::Sender<Vec<Event>> },
    /// Stop every instance; the roles are about to end.
    StopAll { by: String, reply: oneshot::Sender<Result<(), String>> },
    /// Look again.
    Changed,
}

/// The engine's door.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    sender: SyncSender<Order>,
    /// A `Changed` is waiting already.
    pending: Arc<AtomicBool>,
}

/// The engine's side of it.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: Receiver<Order>,
    pending: Arc<AtomicBool>,
}

/// The engine takes no orders: it has too many, or is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy;

/// Makes the door.
pub(crate) fn door() -> (Orders, Inbox) {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let pending = Arc::new(AtomicBool::new(false));
    (Orders { sender, pending: Arc::clone(&pending) }, Inbox { receiver, pending })
}

impl Orders {
    /// Hands an order in.
    pub(crate) fn give(&self, order: Order) -> Result<(), Busy> {
        self.sender.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })
    }

    /// Says that something changed; any number of times costs one look.
    pub(crate) fn changed(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // A full inbox wakes the engine anyway.
            drop(self.sender.try_send(Order::Changed));
        }
    }
}

impl Inbox {
    /// The next order, if one comes within `timeout`.
    pub(crate) fn next(&self, timeout: Duration) -> Option<Order> {
        let order = match self.receiver.recv_timeout(timeout) {
            Ok(order) => order,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => {
                // Nobody can order anything any more; the timer goes on.
                std::thread::sleep(timeout);
                return None;
            }
        };
        if matches!(order, Order::Changed) {
            self.pending.store(false, Ordering::Release);
        }
        Some(order)
    }
}
