//! The search for an instance: at once, in its turn for a retry, or in the queue.
//!
//! A request of which nothing was sent, or that may be sent again, waits until an instance can be
//! tried; it is woken when one is seen to be back, and looks for itself now and then. While its
//! service is held it waits whoever could be tried, and then takes its turn as the others that wait.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::answer::Cause;
use super::destination::{Destination, Routed};
use super::exchange::Exchange;
use super::worker::Worker;
use crate::budget::Permit;
use crate::knock::Knock;
use crate::limits::{RETRIES_SENT, RETRIES_UNSENT};
use crate::pick::{Picked, Wish};
use crate::queue::Seat;

/// Between two looks for an instance when nothing said that something changed: at first, and at
/// last, when it seems to take longer.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_LAST: Duration = Duration::from_millis(200);

/// The tries of a request so far.
#[derive(Default)]
pub(crate) struct Tries {
    /// Instances that failed, by key.
    tried: Vec<u64>,
    unsent: u32,
    sent: u32,
    /// How often it may be tried again, where its route says so.
    most: Option<u32>,
    /// An idle connection turned out to be closed: only new ones from now on.
    pub(crate) only_new: bool,
    permit: Option<Permit>,
    /// It has waited: it only tries who lets waiting requests try.
    waits: bool,
    /// Until when it may wait for an instance, and until when because its service is held.
    deadline: Option<Instant>,
    held: Option<Instant>,
    seat: Option<Seat>,
}

impl Tries {
    /// Notes that it has reached an instance. Who does not keeps the place in the queue.
    pub(crate) fn connected(&mut self) {
        self.seat = None;
    }

    /// Notes a try of which nothing was sent.
    pub(crate) fn unsent(&mut self, instance: u64) {
        self.tried.push(instance);
        self.unsent += 1;
    }

    /// Notes a try that was sent. Returns whether it may be sent once more.
    pub(crate) fn sent(&mut self, instance: u64) -> bool {
        self.tried.push(instance);
        self.sent += 1;
        self.sent <= self.most.unwrap_or(RETRIES_SENT)
    }

    /// With another bound than the edge's own.
    pub(crate) fn at_most(most: Option<u32>) -> Self {
        Self { most, ..Self::default() }
    }

    /// Whether nothing was tried yet.
    pub(crate) fn is_first(&self) -> bool {
        self.tried.is_empty()
    }
}

/// An instance to try.
pub(crate) struct Found {
    pub(crate) picked: Picked,
    /// It was waited for; to be dropped when it is connected.
    pub(crate) knock: Option<Knock>,
}

/// Finds an instance for the next try, if there is one at once. `last` is the one that failed.
pub(crate) async fn find(
    worker: &Rc<Worker>,
    destination: &Destination,
    tries: &mut Tries,
    last: Option<&Exchange>,
) -> Result<Option<Picked>, Cause> {
    if tries.waits || tries.unsent > tries.most.unwrap_or(RETRIES_UNSENT) {
        return Ok(None);
    }
    another(worker, destination, tries, last).await
}

/// An instance that was not tried yet; for a retry, once it is its turn.
async fn another(
    worker: &Rc<Worker>,
    destination: &Destination,
    tries: &mut Tries,
    last: Option<&Exchange>,
) -> Result<Option<Picked>, Cause> {
    let prefer = last.map(|exchange| &exchange.pool().id);
    let pick = |routed: &Routed, tried: &[u64]| {
        routed.service.pick(&Wish { prefer, tried, ..routed.wish() })
    };
    let routed = destination.service(&worker.shared.table.load())?;
    let picked = pick(&routed, &tries.tried);
    if picked.is_none() || last.is_none() || tries.permit.is_some() {
        return Ok(picked);
    }
    let service = &routed.service;
    tries.permit = service.budget.take(service.in_flight());
    if tries.permit.is_some() {
        return Ok(picked);
    }
    // Its place is for others until it is its turn.
    drop(picked);
    tries.permit = service.budget.wait(|| service.in_flight()).await;
    if tries.permit.is_none() {
        return Ok(None);
    }
    let routed = destination.service(&worker.shared.table.load())?;
    Ok(pick(&routed, &tries.tried))
}

/// Waits for an instance that can be tried, again or for the first time. `bytes` are what the
/// request keeps meanwhile.
pub(crate) async fn wait(
    worker: &Rc<Worker>,
    destination: &Destination,
    tries: &mut Tries,
    bytes: u64,
) -> Result<Found, Cause> {
    // What it has is for those who can use it.
    tries.permit = None;
    tries.waits = true;
    let limits = &worker.shared.around.limits;
    let service = destination.service(&worker.shared.table.load())?.service;
    if tries.seat.is_none() {
        let (most, full) = match service.held() {
            Some(_) => (limits.held_max, Cause::Held),
            None => (service.traffic.queue_max, Cause::Overloaded),
        };
        tries.seat = Some(service.queue.sit(most, bytes).ok_or(full)?);
        worker.shared.waits_for(&service);
    }
    let latest = |from: Instant, wait: Duration| {
        let latest = from + wait;
        destination.deadline.map_or(latest, |deadline| latest.min(deadline))
    };
    let mut look = LOOK_FIRST;
    loop {
        let changed = service.queue.changed();
        let routed = destination.service(&worker.shared.table.load())?;
        let now = Instant::now();
        if let Some(until) = routed.service.held() {
            let deadline = *tries.held.get_or_insert_with(|| latest(now, limits.held));
            if now >= deadline {
                return Err(Cause::Held);
            }
            // Whoever ends the hold wakes it.
            let _ended = timeout_at(deadline.min(until), changed).await;
            continue;
        }
        let wish = Wish { waited: true, ..routed.wish() };
        if let Some(picked) = routed.service.pick(&wish)
            && let Some(knock) = Knock::at(picked.claim.instance(), &service.queue)
        {
            return Ok(Found { picked, knock: Some(knock) });
        }
        let wait = service.traffic.queue_wait;
        let deadline = *tries.deadline.get_or_insert_with(|| latest(now, wait));
        if now >= deadline {
            let instances = routed.service.pools.iter().flat_map(|pool| &pool.instances);
            let full = instances.clone().any(|it| it.was_healthy() && !it.has_room());
            return Err(if full { Cause::Overloaded } else { Cause::NoInstance });
        }
        if timeout_at(deadline.min(now + look), changed).await.is_err() {
            look = (look * 2).min(LOOK_LAST);
        }
    }
}
