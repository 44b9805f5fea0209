//! Delivers a request: picks for it, sends it, tries again where that is safe.
//!
//! Safe is: nothing of it was sent (any method), or it was sent, can be repeated by its method's
//! definition, and no answer has come. A request that may have had an effect is never sent twice.
//! In which form a request is kept and sent is its [`Message`]'s to know.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Cause;
use super::destination::Destination;
use super::exchange::Exchange;
use super::search::{self, Found, Tries};
use super::worker::Worker;
use crate::clock::now_ms;
use crate::counts::Ending;
use crate::ewma::PENALTY_MS;
use crate::instance::Instance;
use crate::limits::{UPSTREAM_IDLE_EFFECT_MS, UPSTREAM_IDLE_MS};
use crate::pick::Picked;

/// A request that can be sent.
pub(crate) trait Message {
    /// A connection that can take it.
    type Link;
    /// What comes back.
    type Answer;

    /// Whether it can be sent only once.
    fn is_once(&self) -> bool;

    /// How many bytes of memory it takes while it waits, about.
    fn bytes(&self) -> u64;

    /// Ready when nobody waits for the answer any more; a message that is dropped then need not
    /// know.
    async fn abandoned(&mut self);

    /// It goes there; first, or again.
    fn picked(
        &mut self,
        worker: &Rc<Worker>,
        destination: &Destination,
        picked: &Picked,
        first: bool,
    );

    /// A connection to an instance that has been idle for at most so long, and whether it was
    /// there before.
    async fn link(
        &mut self,
        exchange: &Exchange,
        instance: &Arc<Instance>,
        idle_ms_max: u64,
    ) -> io::Result<(Self::Link, bool)>;

    /// Sends it, and waits for its answer to begin.
    async fn send(
        &mut self,
        exchange: &mut Exchange,
        link: Self::Link,
        limit: Duration,
    ) -> Outcome<Self::Answer>;
}

/// How one try ended.
pub(crate) enum Outcome<A> {
    Answered(A, Duration),
    /// Nothing was sent.
    Unsent,
    /// It was sent, and no answer came; whether it may be sent again.
    Lost(bool),
    /// The client stopped in the middle.
    ClientBroke,
    /// The client went away.
    ClientGone,
    /// The route does not take so much.
    TooLarge,
    /// No answer came in time; whether it may be sent again.
    TimedOut(bool),
}

/// An answer that has begun.
pub(crate) struct Delivered<A> {
    pub(crate) answer: A,
    pub(crate) after: Duration,
    pub(crate) exchange: Exchange,
}

/// Delivers one request. `None`: nobody waits for its answer any more.
pub(crate) async fn deliver<M: Message>(
    worker: &Rc<Worker>,
    destination: &Destination,
    message: &mut M,
) -> Result<Delivered<M::Answer>, Option<Cause>> {
    let policy = destination.policy();
    let mut tries = Tries::at_most(policy.and_then(|policy| policy.retries));
    let mut last: Option<Exchange> = None;
    loop {
        let found = tokio::select! {
            biased;
            found = search::find(worker, destination, &mut tries, last.as_ref()) => found,
            () = message.abandoned() => return Err(None),
        };
        let found = match found {
            Ok(Some(picked)) => Ok(Found { picked, knock: None }),
            Ok(None) => {
                if let Some(exchange) = &mut last {
                    exchange.let_go();
                }
                let bytes = message.bytes();
                tokio::select! {
                    biased;
                    found = search::wait(worker, destination, &mut tries, bytes) => found,
                    () = message.abandoned() => return Err(None),
                }
            }
            Err(cause) => Err(cause),
        };
        let failed = last.take();
        let Found { picked, knock } = match (found, failed) {
            (Ok(found), None) => found,
            (Ok(found), Some(exchange)) => {
                exchange.give_up_for_retry();
                found
            }
            (Err(cause), None) => return Err(Some(cause)),
            (Err(_nobody), Some(exchange)) => {
                exchange.fail(Ending::ConnectFailure);
                return Err(Some(Cause::ConnectFailure));
            }
        };
        let instance = Arc::clone(picked.claim.instance());
        message.picked(worker, destination, &picked, tries.is_first());
        let mut exchange = Exchange::new(worker, picked);
        // What can be sent only once gets a connection that is surely open.
        let idle_ms_max = match (tries.only_new, message.is_once()) {
            (true, _) => 0,
            (false, true) => UPSTREAM_IDLE_EFFECT_MS,
            (false, false) => UPSTREAM_IDLE_MS,
        };
        let (outcome, reused) = match message.link(&exchange, &instance, idle_ms_max).await {
            Ok((link, reused)) => {
                if !reused {
                    worker.shared.reached(exchange.pool(), &instance);
                }
                drop(knock);
                tries.connected();
                let limit = destination.try_timeout(worker.shared.around.limits.first_byte);
                (message.send(&mut exchange, link, limit).await, reused)
            }
            Err(_unreachable) => (Outcome::Unsent, false),
        };
        match outcome {
            Outcome::Answered(answer, after) => return Ok(Delivered { answer, after, exchange }),
            Outcome::Unsent | Outcome::Lost(true) if reused && !tries.only_new => {
                tries.only_new = true;
            }
            Outcome::Unsent => {
                worker.shared.connection_failed(exchange.pool(), &instance);
                tries.unsent(instance.key);
            }
            Outcome::Lost(again) => {
                worker.shared.connection_failed(exchange.pool(), &instance);
                if !(again && tries.sent(instance.key)) {
                    exchange.fail(Ending::Reset);
                    return Err(Some(Cause::Reset));
                }
            }
            Outcome::TimedOut(again) => {
                instance.ewma.record(PENALTY_MS, now_ms());
                // Only where a route bounds one try is there time for another.
                let bounded = policy.is_some_and(|policy| policy.try_timeout.is_some());
                let left = destination.deadline.is_none_or(|it| it > Instant::now());
                if !(again && bounded && left && tries.sent(instance.key)) {
                    exchange.fail(Ending::Timeout);
                    return Err(Some(Cause::Timeout));
                }
            }
            Outcome::TooLarge => {
                exchange.fail(Ending::ClientGone);
                return Err(Some(Cause::BodyTooLarge));
            }
            Outcome::ClientBroke => {
                exchange.fail(Ending::ClientGone);
                return Err(Some(Cause::BodyIncomplete));
            }
            Outcome::ClientGone => return Err(None),
        }
        last = Some(exchange);
    }
}
