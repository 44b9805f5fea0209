//! Connections that stop being HTTP: bytes both ways until one side ends, or the instance does.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::answer::Answer;
use super::exchange::Exchange;
use super::headers;
use super::watch::Turn;
use super::web_socket;
use super::worker::Worker;
use crate::lanes::{Driver, Kind};

const WEB_SOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEB_SOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// A request to make its connection something else.
pub(crate) struct Upgrade {
    client: OnUpgrade,
    /// It came as a stream of HTTP/2 (RFC 8441), so the answer is a plain success.
    stream: bool,
}

/// Whether a request asks for a WebSocket on a stream of HTTP/2.
pub(crate) fn is_web_socket_stream<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.method() == Method::CONNECT
        && request.version() == Version::HTTP_2
        && protocol.is_some_and(|it| it.as_str().eq_ignore_ascii_case("websocket"))
}

impl Upgrade {
    /// Takes it from a request, and gives that the form it has in HTTP/1.1.
    pub(crate) fn of<B>(request: &mut Request<B>, stream: bool) -> Self {
        let client = hyper::upgrade::on(&mut *request);
        if stream {
            request.extensions_mut().remove::<Protocol>();
            *request.method_mut() = Method::GET;
            let headers = request.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            // A number that proves that nothing in between remembers answers; no secret.
            let key = BASE64_STANDARD.encode(fastrand::u128(..).to_be_bytes());
            let key = HeaderValue::from_str(&key).expect("base64 is visible ASCII");
            headers.insert(WEB_SOCKET_KEY, key);
        }
        Self { client, stream }
    }
}

/// Whether an instance consents to a WebSocket.
fn is_web_socket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.trim().eq_ignore_ascii_case("websocket"))
}

/// Passes an instance's consent on, and joins the two connections once it is sent.
pub(crate) fn join(
    worker: &Rc<Worker>,
    upgrade: Upgrade,
    mut response: Response<Incoming>,
    exchange: Exchange,
    turn: &Turn,
) -> Response<Answer> {
    let instance = hyper::upgrade::on(&mut response);
    let held = turn.hold();
    let stream = upgrade.stream;
    // Only of a WebSocket it is known how to take leave.
    let tell = is_web_socket(response.headers()).then(|| Rc::new(Notify::new()));
    let told = tell.clone();
    if let Some(claim) = exchange.upgrade() {
        let at = std::sync::Arc::clone(claim.instance());
        let id = worker.next_id();
        let joined = Rc::clone(worker);
        let task = tokio::task::spawn_local(async move {
            let _counted = (held, Ended::new(joined, claim.instance().key, id));
            if let Ok((client, instance)) = tokio::try_join!(upgrade.client, instance) {
                let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
                match told {
                    Some(told) => {
                        let leaves = || claim.instance().is_draining();
                        web_socket::join(client, instance, &told, leaves).await;
                    }
                    // Either side may break off at any time; there is nobody to tell.
                    None => drop(tokio::io::copy_bidirectional(&mut client, &mut instance).await),
                }
            }
        });
        let kind = Kind::LongLived { jitter: fastrand::f32() };
        let driver = match tell {
            Some(tell) => Driver::told(task.abort_handle(), tell),
            None => task.abort_handle().into(),
        };
        worker.lanes.driven(&at, id, driver, kind);
    }
    let (mut parts, _no_body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    if stream {
        parts.status = StatusCode::OK;
        for name in [&CONNECTION, &UPGRADE, &WEB_SOCKET_ACCEPT] {
            parts.headers.remove(name);
        }
    } else {
        headers::keep_upgrade(&mut parts.headers);
    }
    Response::from_parts(parts, Answer::upgraded())
}

/// The joined pair's entry among the lanes.
pub(super) struct Ended {
    worker: Rc<Worker>,
    key: u64,
    id: u64,
}

impl Ended {
    pub(super) fn new(worker: Rc<Worker>, key: u64, id: u64) -> Self {
        Self { worker, key, id }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.worker.lanes.ended(self.key, self.id);
    }
}
