//! One request: picked for, sent, tried again where that is safe, answered.
//!
//! Safe is: nothing of it was sent (any method), or it was sent, can be repeated by its method's
//! definition, and no answer has come. A request that may have had an effect is never sent twice.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant as TokioInstant, timeout, timeout_at};

use super::answer::{Answer, Cause, Exchange};
use super::headers;
use super::link::Link;
use super::outgoing::{Outgoing, Progress};
use super::upgrade;
use super::watch::Turn;
use super::worker::{Place, Worker};
use crate::budget::Permit;
use crate::counts::Ending;
use crate::limits::{
    FIRST_BYTE_TIMEOUT, QUEUE_MAX, QUEUE_WAIT, REPLAY_BYTES, RETRIES_SENT, RETRIES_UNSENT,
    UPSTREAM_IDLE_EFFECT_MS, UPSTREAM_IDLE_MS,
};
use crate::pick::{Picked, Wish};
use crate::table::{Service, Table};

/// Between two looks for an instance when nothing said that something changed: an instance at its
/// bound gets room without saying so.
const QUEUE_LOOK: Duration = Duration::from_millis(50);

/// A request as an instance should see it.
pub(crate) struct Forwarded {
    pub(crate) request: Request<Incoming>,
    pub(crate) upgrade: Option<OnUpgrade>,
}

/// Where a request leads, by whichever table is served when it is asked.
pub(crate) enum Destination {
    /// To the service of an internal listener.
    Listener(Rc<Place>),
    /// To the service of the route.
    Route { host: Option<HeaderValue>, uri: Uri },
}

impl Destination {
    fn service(&self, table: &Table) -> Result<Routed, Cause> {
        let found = match self {
            Self::Listener(place) => table.by_listener(&place.name).map(|it| (it, None)),
            Self::Route { host, uri } => {
                let host = headers::host_name(host.as_ref());
                // `OPTIONS *` asks the server as a whole, which is whoever answers for its root.
                let path = if uri.path() == "*" { "/" } else { uri.path() };
                table.by_route(&host, path)
            }
        };
        match found {
            Some((service, revision)) => Ok(Routed { service: Arc::clone(service), revision }),
            None if table.is_empty() => Err(Cause::NoTable),
            None => Err(Cause::NoRoute),
        }
    }
}

struct Routed {
    service: Arc<Service>,
    revision: Option<evenkeel_kernel::model::RevisionNumber>,
}

/// What may be sent again.
enum Payload {
    /// The whole request is here.
    Repeatable(Request<()>, Option<Bytes>),
    /// It can be sent once; it comes back if nothing of it was.
    Once(Request<Outgoing>, Option<Rc<Progress>>),
}

/// The tries so far.
#[derive(Default)]
struct Tries {
    /// Instances that failed, by key.
    tried: Vec<u64>,
    unsent: u32,
    sent: u32,
    /// An idle connection turned out to be closed: only new ones from now on.
    only_new: bool,
    permit: Option<Permit>,
}

/// How one try ended.
enum Outcome {
    Answered(Response<Incoming>, Duration),
    /// Nothing was sent.
    Unsent(Payload),
    /// It was sent, and no answer came.
    Lost(Option<Payload>),
    ClientBroke,
    TimedOut,
}

/// Answers one request.
pub(crate) async fn forward(
    worker: &Rc<Worker>,
    destination: &Destination,
    forwarded: Forwarded,
    turn: Turn,
) -> Response<Answer> {
    let Forwarded { request, upgrade } = forwarded;
    let once = upgrade.is_some() || !is_repeatable(request.method());
    let mut payload = match payload(request, once).await {
        Ok(payload) => payload,
        Err(cause) => return Answer::own(worker, cause, Some(turn)),
    };
    let mut tries = Tries::default();
    let mut last: Option<Exchange> = None;
    let mut ending = (Ending::ConnectFailure, Cause::ConnectFailure);
    loop {
        let picked = match pick(worker, destination, &tries, last.as_ref()).await {
            Ok(picked) => picked,
            Err(cause) => match last.take() {
                Some(exchange) => {
                    exchange.fail(ending.0);
                    return Answer::own(worker, ending.1, Some(turn));
                }
                None => return Answer::own(worker, cause, Some(turn)),
            },
        };
        if let Some(exchange) = last.take() {
            exchange.give_up_for_retry();
        }
        let instance = Arc::clone(picked.claim.instance());
        let mut exchange = Exchange::new(worker, picked);
        // What can be sent only once gets a connection that is surely open.
        let once = matches!(payload, Payload::Once(..));
        let idle_ms_max = match (tries.only_new, once) {
            (true, _) => 0,
            (false, true) => UPSTREAM_IDLE_EFFECT_MS,
            (false, false) => UPSTREAM_IDLE_MS,
        };
        let link = Link::get(worker, &instance, idle_ms_max, once).await;
        let (outcome, reused) = match link {
            Ok(link) => {
                let reused = link.reused;
                (send(&mut exchange, link, payload).await, reused)
            }
            Err(_unreachable) => (Outcome::Unsent(payload), false),
        };
        match outcome {
            Outcome::Answered(response, after) => {
                drop(tries);
                return relay(worker, response, after, exchange, upgrade, turn);
            }
            Outcome::TimedOut => {
                instance.ewma.record(crate::ewma::PENALTY_MS, crate::clock::now_ms());
                exchange.fail(Ending::Timeout);
                return Answer::own(worker, Cause::Timeout, Some(turn));
            }
            Outcome::ClientBroke => {
                exchange.fail(Ending::ClientGone);
                return Answer::own(worker, Cause::BodyIncomplete, Some(turn));
            }
            Outcome::Lost(None) => {
                worker.shared.connection_failed(exchange.pool(), &instance);
                exchange.fail(Ending::Reset);
                return Answer::own(worker, Cause::Reset, Some(turn));
            }
            Outcome::Unsent(again) if reused => {
                tries.only_new = true;
                payload = again;
            }
            Outcome::Lost(Some(again)) if reused && !tries.only_new => {
                tries.only_new = true;
                payload = again;
            }
            Outcome::Unsent(again) => {
                ending = (Ending::ConnectFailure, Cause::ConnectFailure);
                worker.shared.connection_failed(exchange.pool(), &instance);
                tries.tried.push(instance.key);
                tries.unsent += 1;
                payload = again;
            }
            Outcome::Lost(Some(again)) => {
                ending = (Ending::Reset, Cause::Reset);
                worker.shared.connection_failed(exchange.pool(), &instance);
                tries.tried.push(instance.key);
                tries.sent += 1;
                payload = again;
            }
        }
        let spent = tries.unsent > RETRIES_UNSENT || tries.sent > RETRIES_SENT;
        if spent || !allowed(worker, destination, &mut tries).await {
            exchange.fail(ending.0);
            return Answer::own(worker, ending.1, Some(turn));
        }
        last = Some(exchange);
    }
}

/// Whether the method's definition allows to send a request again.
fn is_repeatable(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE]
        .contains(method)
}

/// Takes the request apart into what can be sent again, if it can.
async fn payload(request: Request<Incoming>, once: bool) -> Result<Payload, Cause> {
    let (parts, mut body) = request.into_parts();
    let empty = body.is_end_stream();
    if !once && empty {
        return Ok(Payload::Repeatable(Request::from_parts(parts, ()), None));
    }
    let small = body.size_hint().exact().is_some_and(|length| length <= REPLAY_BYTES);
    if !once && small {
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_gone| Cause::BodyIncomplete)?;
            if let Ok(data) = frame.into_data() {
                kept.extend_from_slice(&data);
            }
        }
        return Ok(Payload::Repeatable(Request::from_parts(parts, ()), Some(kept.freeze())));
    }
    if empty {
        return Ok(Payload::Once(Request::from_parts(parts, Outgoing::Kept(None)), None));
    }
    let progress = Rc::new(Progress::default());
    let body = Outgoing::Streamed(body, Rc::clone(&progress));
    Ok(Payload::Once(Request::from_parts(parts, body), Some(progress)))
}

/// Picks an instance. The first time a request waits for one; a retry does not.
async fn pick(
    worker: &Rc<Worker>,
    destination: &Destination,
    tries: &Tries,
    last: Option<&Exchange>,
) -> Result<Picked, Cause> {
    let routed = destination.service(&worker.shared.table.load())?;
    let prefer = last.map(|exchange| &exchange.pool().id);
    let wish = Wish { revision: routed.revision, prefer, tried: &tries.tried };
    match routed.service.pick(&wish) {
        Some(picked) => Ok(picked),
        None if last.is_some() => Err(Cause::NoInstance),
        None => wait(worker, destination, &routed.service).await,
    }
}

/// Waits for an instance that can be tried.
async fn wait(
    worker: &Rc<Worker>,
    destination: &Destination,
    service: &Service,
) -> Result<Picked, Cause> {
    let _seat = Seat::take(&service.waiting).ok_or(Cause::Overloaded)?;
    let deadline = TokioInstant::now() + QUEUE_WAIT;
    loop {
        let changed = worker.shared.changed.notified();
        let routed = destination.service(&worker.shared.table.load())?;
        let wish = Wish { revision: routed.revision, ..Wish::default() };
        if let Some(picked) = routed.service.pick(&wish) {
            return Ok(picked);
        }
        let now = TokioInstant::now();
        if now >= deadline {
            let instances = routed.service.pools.iter().flat_map(|pool| &pool.instances);
            let full = instances.clone().any(|it| it.was_healthy() && !it.has_room());
            return Err(if full { Cause::Overloaded } else { Cause::NoInstance });
        }
        let _look_again = timeout_at(deadline.min(now + QUEUE_LOOK), changed).await;
    }
}

/// A place in the queue of a service.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(waiting: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |n: usize| (n < QUEUE_MAX).then_some(n + 1);
        waiting.try_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(waiting)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the budget allows one more try; waits for its turn.
async fn allowed(worker: &Rc<Worker>, destination: &Destination, tries: &mut Tries) -> bool {
    if tries.permit.is_none() {
        let Ok(routed) = destination.service(&worker.shared.table.load()) else { return false };
        let service = routed.service;
        tries.permit = service.budget.wait(|| service.in_flight()).await;
    }
    tries.permit.is_some()
}

/// Sends the request once.
async fn send(exchange: &mut Exchange, mut link: Link, payload: Payload) -> Outcome {
    let (request, kept, progress) = match payload {
        Payload::Repeatable(head, body) => {
            let request = copy(&head, body.clone());
            (request, Some((head, body)), None)
        }
        Payload::Once(request, progress) => (request, None, progress),
    };
    let started = Instant::now();
    let answer = link.sender.try_send_request(request);
    exchange.uses(link, progress.clone());
    let Some(answer) = in_time(answer, progress.as_deref()).await else {
        return Outcome::TimedOut;
    };
    let mut error = match answer {
        Ok(response) => return Outcome::Answered(response, started.elapsed()),
        Err(error) => error,
    };
    let unsent = error.take_message();
    match (unsent, kept) {
        (Some(_), Some((head, body))) => Outcome::Unsent(Payload::Repeatable(head, body)),
        (Some(request), None) => Outcome::Unsent(Payload::Once(request, progress)),
        (None, Some((head, body))) => Outcome::Lost(Some(Payload::Repeatable(head, body))),
        (None, None) if progress.is_some_and(|it| it.broken.get()) => Outcome::ClientBroke,
        (None, None) => Outcome::Lost(None),
    }
}

fn copy(head: &Request<()>, body: Option<Bytes>) -> Request<Outgoing> {
    let mut request = Request::new(Outgoing::Kept(body));
    *request.method_mut() = head.method().clone();
    *request.uri_mut() = head.uri().clone();
    *request.headers_mut() = head.headers().clone();
    *request.extensions_mut() = head.extensions().clone();
    request
}

/// Waits for an answer to begin, counted from the last piece of the request body that went out.
async fn in_time<T>(answer: impl Future<Output = T>, body: Option<&Progress>) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let before = body.map_or(0, |body| body.frames.get());
        if let Ok(answer) = timeout(FIRST_BYTE_TIMEOUT, &mut answer).await {
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
    response: Response<Incoming>,
    after: Duration,
    mut exchange: Exchange,
    upgrade: Option<OnUpgrade>,
    turn: Turn,
) -> Response<Answer> {
    exchange.answered(response.status(), after);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some(client) => upgrade::join(worker, client, response, exchange, &turn),
            // Nobody asked for it.
            None => {
                exchange.fail(Ending::Reset);
                Answer::own(worker, Cause::Reset, Some(turn))
            }
        };
    }
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Response::from_parts(parts, Answer::relayed(body, exchange, turn))
}
