//! One request: picked for, sent, tried again where that is safe, answered.
//!
//! Safe is: nothing of it was sent (any method), or it was sent, can be repeated by its method's
//! definition, and no answer has come. A request that may have had an effect is never sent twice.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::Protocol;
use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::answer::{Answer, Cause};
use super::destination::Destination;
use super::exchange::Exchange;
use super::form;
use super::headers;
use super::link::{Link, Manner};
use super::mirror;
use super::outgoing::Progress;
use super::payload::{self, Payload, is_repeatable};
use super::search::{self, Found, Tries};
use super::share;
use super::upgrade::{self, Upgrade};
use super::watch::Turn;
use super::worker::Worker;
use crate::counts::Ending;
use crate::limits::{UPSTREAM_IDLE_EFFECT_MS, UPSTREAM_IDLE_MS};

/// A request as an instance should see it.
pub(crate) struct Forwarded {
    pub(crate) request: Request<Incoming>,
    pub(crate) upgrade: Option<Upgrade>,
    /// It is a call of gRPC.
    pub(crate) grpc: bool,
}

/// How one try ended.
enum Outcome {
    Answered(Response<Incoming>, Duration),
    /// Nothing was sent.
    Unsent(Payload),
    /// It was sent, and no answer came.
    Lost(Option<Payload>),
    ClientBroke,
    /// The route does not take so much.
    TooLarge,
    TimedOut(Option<Payload>),
}

/// Answers one request.
pub(crate) async fn forward(
    worker: &Rc<Worker>,
    destination: &Destination,
    forwarded: Forwarded,
    mut turn: Turn,
) -> Response<Answer> {
    let Forwarded { request, upgrade, grpc } = forwarded;
    let own = |cause, turn| Answer::own(worker, cause, grpc, Some(turn));
    let once = upgrade.is_some() || !is_repeatable(request.method());
    let mut payload = match Payload::of(request, once).await {
        Ok(payload) => payload,
        Err(cause) => return own(cause, turn),
    };
    let policy = destination.policy();
    let mut tries = Tries::at_most(policy.and_then(|policy| policy.retries));
    let body_max = policy.and_then(|policy| policy.body_max);
    if let (Some(most), Payload::Once(_, Some(progress))) = (body_max, &payload) {
        progress.bound(most);
    }
    let mut last: Option<Exchange> = None;
    loop {
        let found = search::find(worker, destination, &mut tries, last.as_mut()).await;
        let failed = last.take();
        let Found { picked, knock } = match (found, failed) {
            (Ok(found), None) => found,
            (Ok(found), Some(exchange)) => {
                exchange.give_up_for_retry();
                found
            }
            (Err(cause), None) => return own(cause, turn),
            (Err(_nobody), Some(exchange)) => {
                exchange.fail(Ending::ConnectFailure);
                return own(Cause::ConnectFailure, turn);
            }
        };
        let instance = Arc::clone(picked.claim.instance());
        if tries.is_first()
            && let Payload::Repeatable(head, body) = &payload
        {
            mirror::copy(worker, destination, &picked.pool.id, head, body.as_ref());
        }
        if let Some(record) = turn.record() {
            record.tries(&picked);
        }
        let mut exchange = Exchange::new(worker, picked);
        // What can be sent only once gets a connection that is surely open.
        let once = matches!(payload, Payload::Once(..));
        let idle_ms_max = match (tries.only_new, once) {
            (true, _) => 0,
            (false, true) => UPSTREAM_IDLE_EFFECT_MS,
            (false, false) => UPSTREAM_IDLE_MS,
        };
        // gRPC is HTTP/2 wherever it goes, and an upgrade is HTTP/1.1.
        let speaks_h2 = exchange.pool().protocol == Protocol::H2c;
        let multiplexed = upgrade.is_none() && (grpc || speaks_h2);
        let manner = Manner { once, idle_ms_max, multiplexed };
        let link = Link::get(worker, exchange.pool(), &instance, manner).await;
        let (outcome, reused) = match link {
            Ok(link) => {
                let reused = link.reused;
                if !reused {
                    worker.shared.reached(exchange.pool(), &instance);
                }
                drop(knock);
                tries.connected();
                {
                    let limit = destination.try_timeout(worker.shared.around.limits.first_byte);
                    (send(&mut exchange, link, payload, limit).await, reused)
                }
            }
            Err(_unreachable) => (Outcome::Unsent(payload), false),
        };
        payload = match outcome {
            Outcome::Answered(response, after) => {
                drop(tries);
                return relay(worker, destination, response, after, exchange, upgrade, turn);
            }
            Outcome::TimedOut(again) => {
                instance.ewma.record(crate::ewma::PENALTY_MS, crate::clock::now_ms());
                // Only where a route bounds one try is there time for another.
                let bounded = policy.is_some_and(|policy| policy.try_timeout.is_some());
                let left = destination.deadline.is_none_or(|it| it > tokio::time::Instant::now());
                match again.filter(|_| bounded && left && tries.sent(instance.key)) {
                    Some(again) => again,
                    None => {
                        exchange.fail(Ending::Timeout);
                        return own(Cause::Timeout, turn);
                    }
                }
            }
            Outcome::TooLarge => {
                exchange.fail(Ending::ClientGone);
                return own(Cause::BodyTooLarge, turn);
            }
            Outcome::ClientBroke => {
                exchange.fail(Ending::ClientGone);
                return own(Cause::BodyIncomplete, turn);
            }
            Outcome::Unsent(again) if reused && !tries.only_new => {
                tries.only_new = true;
                again
            }
            Outcome::Lost(Some(again)) if reused && !tries.only_new => {
                tries.only_new = true;
                again
            }
            Outcome::Unsent(again) => {
                worker.shared.connection_failed(exchange.pool(), &instance);
                tries.unsent(instance.key);
                again
            }
            Outcome::Lost(again) => {
                worker.shared.connection_failed(exchange.pool(), &instance);
                match again.filter(|_| tries.sent(instance.key)) {
                    Some(again) => again,
                    None => {
                        exchange.fail(Ending::Reset);
                        return own(Cause::Reset, turn);
                    }
                }
            }
        };
        last = Some(exchange);
    }
}

/// Sends the request once.
async fn send(
    exchange: &mut Exchange,
    mut link: Link,
    payload: Payload,
    limit: Duration,
) -> Outcome {
    let multiplexed = link.is_multiplexed();
    let (mut request, kept, progress) = match payload {
        Payload::Repeatable(head, body) => {
            let request = payload::copy(&head, body.clone());
            (request, Some((head, body)), None)
        }
        Payload::Once(request, progress) => (request, None, progress),
    };
    // What an instance did not begin with may be sent again, whatever it does.
    let head = (multiplexed && kept.is_none()).then(|| payload::copy(&request, None));
    if multiplexed {
        form::to_absolute(&mut request);
        progress.iter().for_each(|it| it.start_keeping());
    } else {
        form::to_origin(&mut request);
    }
    let started = Instant::now();
    let answer = link.send(request);
    exchange.uses(link, progress.clone());
    let Some(answer) = in_time(answer, progress.as_deref(), limit).await else {
        return Outcome::TimedOut(kept.map(|(head, body)| Payload::Repeatable(head, body)));
    };
    let mut error = match answer {
        Ok(response) => return Outcome::Answered(response, started.elapsed()),
        Err(error) => error,
    };
    let unsent = error.take_message();
    let untouched = multiplexed && share::is_untouched(error.error());
    match (unsent, kept) {
        (None, Some((head, body))) if untouched => Outcome::Unsent(Payload::Repeatable(head, body)),
        (None, None) if untouched && progress.as_ref().is_none_or(|it| it.whole().is_some()) => {
            let body = progress.and_then(|it| it.whole()).filter(|it| !it.is_empty());
            match head {
                Some(head) => Outcome::Unsent(Payload::Once(payload::copy(&head, body), None)),
                None => Outcome::Lost(None),
            }
        }
        (Some(_), Some((head, body))) => Outcome::Unsent(Payload::Repeatable(head, body)),
        (Some(request), None) => Outcome::Unsent(Payload::Once(request, progress)),
        (None, Some((head, body))) => Outcome::Lost(Some(Payload::Repeatable(head, body))),
        (None, None) if progress.as_ref().is_some_and(|it| it.is_too_large()) => Outcome::TooLarge,
        (None, None) if progress.is_some_and(|it| it.broken.get()) => Outcome::ClientBroke,
        (None, None) => Outcome::Lost(None),
    }
}

/// Waits for an answer to begin, counted from the last piece of the request body that went out.
async fn in_time<T>(
    answer: impl Future<Output = T>,
    body: Option<&Progress>,
    limit: Duration,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let before = body.map_or(0, |body| body.frames.get());
        if let Ok(answer) = timeout(limit, &mut answer).await {
            return Some(answer);
        }
        // A client that has stopped sending is the sweep's to find.
        let waits_for_client = body.is_some_and(|body| !body.finished.get());
        if !waits_for_client && body.map_or(0, |body| body.frames.get()) == before {
            return None;
        }
    }
}

/// Passes an answer on.
fn relay(
    worker: &Rc<Worker>,
    destination: &Destination,
    response: Response<Incoming>,
    after: Duration,
    mut exchange: Exchange,
    upgrade: Option<Upgrade>,
    mut turn: Turn,
) -> Response<Answer> {
    exchange.answered(&response, after);
    if let Some(record) = turn.record() {
        record.answers(response.status().as_u16(), None);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some(client) => upgrade::join(worker, client, response, exchange, &turn),
            // Nobody asked for it.
            None => {
                exchange.fail(Ending::Reset);
                Answer::own(worker, Cause::Reset, false, Some(turn))
            }
        };
    }
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    if let Some(cookie) = destination.cookie() {
        parts.headers.append(SET_COOKIE, cookie.clone());
    }
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Response::from_parts(parts, Answer::relayed(body, exchange, turn))
}
