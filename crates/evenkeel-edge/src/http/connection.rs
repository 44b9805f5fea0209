//! One client connection, and the first look at each of its requests.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{Answer, Cause};
use super::destination::{self, Destination};
use super::executor::Local;
use super::form;
use super::forward;
use super::framing;
use super::grpc;
use super::headers;
use super::record::Record;
use super::upgrade::{self, Upgrade};
use super::verdict::Verdict;
use super::watch::{Metered, Order, Turn, Watched};
use super::worker::{Kind, Place, Worker};
use crate::limits::{
    H2_HEADER_LIST, H2_RESETS, H2_STREAMS, H2_WINDOW_CONNECTION, H2_WINDOW_STREAM, HEAD_BYTES,
    URI_BYTES,
};
use crate::route::Asked;

/// What all requests of one connection have in common.
struct Client {
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    place: Rc<Place>,
    peer: IpAddr,
    addr: HeaderValue,
}

/// Serves one client connection to its end.
pub(crate) async fn serve<S>(
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    place: Rc<Place>,
    stream: S,
    peer: IpAddr,
    multiplexed: bool,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // An address that cannot be written as a header does not exist.
    let addr = HeaderValue::from_str(&peer.to_canonical().to_string());
    let addr = addr.expect("an address is visible ASCII");
    let client = Rc::new(Client { worker, watched, place, peer, addr });
    let io = Metered { stream, signs: Arc::clone(&client.watched.signs) };
    if multiplexed {
        client.watched.signs.multiplex();
        speak_http2(client, TokioIo::new(io)).await;
    } else {
        speak_http1(client, TokioIo::new(io)).await;
    }
}

/// Does `work` unless the connection is told to go meanwhile.
pub(crate) async fn while_wanted<T>(watched: &Watched, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match watched.order(cx) {
        Order::Go => work.as_mut().poll(cx).map(Some),
        Order::Finish | Order::Break | Order::Cut => Poll::Ready(None),
    })
    .await
}

async fn speak_http1<S>(client: Rc<Client>, io: TokioIo<Metered<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .serve_connection(io, service(&client))
        .with_upgrades();
    let finish = |it: Pin<&mut http1::UpgradeableConnection<_, _>>| it.graceful_shutdown();
    run(&client, connection, finish).await;
}

async fn speak_http2<S>(client: Rc<Client>, io: TokioIo<Metered<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(H2_HEADER_LIST)
        .max_pending_accept_reset_streams(H2_RESETS)
        .max_local_error_reset_streams(H2_RESETS)
        .initial_stream_window_size(H2_WINDOW_STREAM)
        .initial_connection_window_size(H2_WINDOW_CONNECTION)
        .max_send_buf_size(HEAD_BYTES)
        .enable_connect_protocol()
        .serve_connection(io, service(&client));
    // First "no new ones, please", and only when the client has seen that, which is the last.
    let finish = |it: Pin<&mut http2::Connection<_, _, _>>| it.graceful_shutdown();
    run(&client, connection, finish).await;
}

fn service(
    client: &Rc<Client>,
) -> impl Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible, Future: 'static>
+ use<> {
    let client = Rc::clone(client);
    service_fn(move |request| {
        let client = Rc::clone(&client);
        async move { Ok::<_, Infallible>(client.answer(request).await) }
    })
}

/// Runs a connection to its end, or until it is told to go.
async fn run<C>(client: &Client, connection: C, finish: impl Fn(Pin<&mut C>))
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut finishing = false;
    let ended = poll_fn(|cx| {
        match client.watched.order(cx) {
            Order::Go => {}
            Order::Finish if finishing => {}
            Order::Finish => {
                finishing = true;
                finish(connection.as_mut());
            }
            Order::Break | Order::Cut => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await
        && is_clients_fault(&error)
    {
        // HTTP/1.1: hyper has answered 400, 414 or 431 itself. HTTP/2: it has said GOAWAY.
        client.worker.shared.rejections.rejected.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a connection ended because its client does not keep to the protocol.
fn is_clients_fault(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref::<h2::Error>());
    let broken = |it: &h2::Error| it.is_go_away() && it.is_library();
    error.is_parse() || cause.is_some_and(broken)
}

impl Client {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let record = Record::begin(&self.worker, &request, &self.addr);
        let mut turn = self.watched.begin(Some(record));
        let multiplexed = request.version() == Version::HTTP_2;
        let grpc = grpc::is_call(request.headers());
        let mut response = match self.admit(request, grpc, &mut turn) {
            Ok((request, destination)) => {
                forward::forward(&self.worker, &destination, request, turn).await
            }
            Err(verdict) => Answer::decided(&self.worker, verdict, grpc, Some(turn)),
        };
        Answer::note(&mut response);
        if multiplexed {
            // It is said once for the connection, and not in an answer.
            response.headers_mut().remove(CONNECTION);
        } else if self.worker.is_closing()
            && response.status() != http::StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Checks a request and makes it what an instance should see.
    fn admit(
        &self,
        mut request: Request<Incoming>,
        grpc: bool,
        turn: &mut Turn,
    ) -> Result<(forward::Forwarded, Destination), Verdict> {
        let target = request.uri();
        let length = target.path_and_query().map_or(0, |it| it.as_str().len());
        if length > URI_BYTES {
            return Err(Cause::UriTooLong.into());
        }
        let tunnel = upgrade::is_web_socket_stream(&request);
        if request.method() == Method::CONNECT && !tunnel {
            return Err(Cause::MethodNotAllowed.into());
        }
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        if chunked {
            let ambiguous = request.headers().contains_key(CONTENT_LENGTH)
                || !framing::is_plainly_chunked(request.headers())
                || self.watched.is_ambiguous(request.method().as_str());
            if ambiguous {
                return Err(Cause::AmbiguousLength.into());
            }
        }
        let host_needed = request.version() == Version::HTTP_11;
        let uri = request.uri().clone();
        headers::settle_host(&uri, request.headers_mut(), host_needed).ok_or(Cause::Malformed)?;
        form::to_origin(&mut request);
        headers::join_cookies(request.headers_mut());
        let destination = self.destination(&mut request, turn)?;
        let asked = headers::strip_hop_by_hop(request.headers_mut());
        let upgrade = (asked || tunnel).then(|| Upgrade::of(&mut request, tunnel));
        headers::strip_request(request.headers_mut(), chunked, upgrade.is_some());
        if upgrade.is_some() {
            headers::keep_upgrade(request.headers_mut());
        }
        let (internal, secure) = (self.place.kind == Kind::Internal, self.place.kind == Kind::Tls);
        if let Some(record) = turn.record() {
            record.mark(request.headers_mut());
        }
        headers::set_forwarded(request.headers_mut(), &self.addr, internal, secure);
        Ok((forward::Forwarded { request, upgrade, grpc }, destination))
    }

    /// Where it goes, unless its route says that it goes nowhere.
    fn destination(
        &self,
        request: &mut Request<Incoming>,
        turn: &mut Turn,
    ) -> Result<Destination, Verdict> {
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let host = headers::host_name(request.headers().get(HOST));
        let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
        let asked =
            Asked { host: &host, target, method: request.method().as_str(), header: &header };
        let client = self.addr.to_str().unwrap_or_default();
        let destination = destination::find(&self.worker.shared, &self.place, &asked, client)?;
        if let (Some(record), Some(target)) = (turn.record(), destination.route()) {
            record.goes_by(target);
        }
        if let Some(verdict) = destination.verdict(&asked, self.peer) {
            return Err(verdict);
        }
        if let Some(path) = destination.strips() {
            form::strip(request, path);
        }
        Ok(destination)
    }
}
