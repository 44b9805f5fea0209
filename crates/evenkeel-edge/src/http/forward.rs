//! One request as hyper read it: delivered, and its answer passed on.

use std::io;
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
use super::deliver::{Delivered, Message, Outcome, deliver};
use super::destination::Destination;
use super::exchange::Exchange;
use super::form;
use super::grpc;
use super::headers;
use super::link::{Link, Manner};
use super::mirror;
use super::outgoing::Progress;
use super::payload::{self, Payload, is_repeatable};
use super::record::Record;
use super::share;
use super::upgrade::{self, Upgrade};
use super::watch::Turn;
use super::worker::Worker;
use crate::instance::Instance;
use crate::pick::Picked;

/// A request as an instance should see it.
pub(crate) struct Forwarded {
    pub(crate) request: Request<Incoming>,
    pub(crate) upgrade: Option<Upgrade>,
    /// It is a call of gRPC.
    pub(crate) grpc: bool,
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
    let once = upgrade.is_some() || !is_repeatable(request.method().as_str());
    let payload = match Payload::of(request, once).await {
        Ok(payload) => payload,
        Err(cause) => return own(cause, turn),
    };
    let body_max = destination.policy().and_then(|policy| policy.body_max);
    if let (Some(most), Payload::Once(_, Some(progress))) = (body_max, &payload) {
        progress.bound(most);
    }
    let manner = match (&upgrade, grpc) {
        (Some(_), _) => Speaks::Http1,
        (None, true) => Speaks::Http2,
        (None, false) => Speaks::AsItsPool,
    };
    let record = turn.record();
    let mut letter = Letter { payload: Some(payload), speaks: manner, record };
    match deliver(worker, destination, &mut letter).await {
        Ok(delivered) => relay(worker, destination, delivered, upgrade, turn),
        Err(cause) => own(cause.unwrap_or(Cause::BodyIncomplete), turn),
    }
}

/// A request on its way.
struct Letter<'r> {
    /// None while it is being sent, and once it cannot be sent again.
    payload: Option<Payload>,
    speaks: Speaks,
    record: Option<&'r mut Record>,
}

/// What it is sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    /// An upgrade.
    Http1,
    /// A call of gRPC.
    Http2,
    AsItsPool,
}

impl Message for Letter<'_> {
    type Link = Link;
    type Answer = Response<Incoming>;

    fn is_once(&self) -> bool {
        !matches!(self.payload, Some(Payload::Repeatable(..)))
    }

    fn bytes(&self) -> u64 {
        self.payload.as_ref().map_or(0, Payload::bytes)
    }

    async fn abandoned(&mut self) {
        std::future::pending::<()>().await;
    }

    fn picked(
        &mut self,
        worker: &Rc<Worker>,
        destination: &Destination,
        picked: &Picked,
        first: bool,
    ) {
        if let Some(record) = &mut self.record {
            record.tries(picked);
        }
        if let (Some(Payload::Repeatable(head, body)), true) = (&self.payload, first) {
            mirror::copy(worker, destination, &picked.pool.id, head, body.as_ref());
        }
    }

    async fn link(
        &mut self,
        exchange: &Exchange,
        instance: &Arc<Instance>,
        idle_ms_max: u64,
    ) -> io::Result<(Link, bool)> {
        let multiplexed = match self.speaks {
            Speaks::Http1 => false,
            Speaks::Http2 => true,
            Speaks::AsItsPool => exchange.pool().protocol == Protocol::H2c,
        };
        let manner = Manner { once: self.is_once(), idle_ms_max, multiplexed };
        let link = Link::get(exchange.worker(), exchange.pool(), instance, manner).await?;
        let reused = link.reused;
        Ok((link, reused))
    }

    async fn send(
        &mut self,
        exchange: &mut Exchange,
        mut link: Link,
        limit: Duration,
    ) -> Outcome<Response<Incoming>> {
        let multiplexed = link.is_multiplexed();
        let (mut request, kept, progress) = match self.payload.take() {
            Some(Payload::Repeatable(head, body)) => {
                let request = payload::copy(&head, body.clone());
                (request, Some((head, body)), None)
            }
            Some(Payload::Once(request, progress)) => (request, None, progress),
            None => return Outcome::Lost(false),
        };
        // What an instance did not begin with may be sent again, whatever it does.
        let head = (multiplexed && kept.is_none()).then(|| payload::copy(&request, None));
        if multiplexed {
            form::to_absolute(&mut request);
            progress.iter().for_each(|it| it.start_keeping());
        } else {
            form::to_origin(&mut request);
        }
        self.payload = kept.map(|(head, body)| Payload::Repeatable(head, body));
        let again = self.payload.is_some();
        let started = Instant::now();
        let answer = link.send(request);
        exchange.uses(link, progress.clone());
        let Some(answer) = in_time(answer, progress.as_deref(), limit).await else {
            return Outcome::TimedOut(again);
        };
        let mut error = match answer {
            Ok(response) => return Outcome::Answered(response, started.elapsed()),
            Err(error) => error,
        };
        if let Some(request) = error.take_message() {
            self.payload.get_or_insert(Payload::Once(request, progress));
            return Outcome::Unsent;
        }
        if multiplexed && share::is_untouched(error.error()) {
            if again {
                return Outcome::Unsent;
            }
            let body = progress.as_ref().map(|it| it.whole());
            if let (Some(head), None | Some(Some(_))) = (head, &body) {
                let body = body.flatten().filter(|it| !it.is_empty());
                self.payload = Some(Payload::Once(payload::copy(&head, body), None));
                return Outcome::Unsent;
            }
        }
        match progress {
            Some(progress) if progress.is_too_large() => Outcome::TooLarge,
            Some(progress) if progress.broken.get() => Outcome::ClientBroke,
            Some(_) | None => Outcome::Lost(again),
        }
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
    delivered: Delivered<Response<Incoming>>,
    upgrade: Option<Upgrade>,
    mut turn: Turn,
) -> Response<Answer> {
    let Delivered { answer, after, mut exchange } = delivered;
    // A call that fails at once says so in its headers.
    let status = grpc::status(answer.headers()).unwrap_or(answer.status().as_u16());
    exchange.answered(status, after);
    if let Some(record) = turn.record() {
        record.answers(answer.status().as_u16(), None);
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some(client) => upgrade::join(worker, client, answer, exchange, &turn),
            // Nobody asked for it.
            None => {
                exchange.fail(crate::counts::Ending::Reset);
                Answer::own(worker, Cause::Reset, false, Some(turn))
            }
        };
    }
    let (mut parts, body) = answer.into_parts();
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
