//! The aggregated discovery service over gRPC: HTTP/2, messages with a length before them.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::proto::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node,
    Resource,
};
use super::resources::{Asker, Type};
use super::stream::{Asked, Push, Stream};
use crate::http::Counted;
use crate::hub::{Hub, Interest};
use crate::log;
use crate::readers::{Following, Readers};

const WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Streams of one connection at a time; each client has one.
const STREAMS_MAX: u32 = 16;
/// Bytes of a message at most: twenty thousand names.
const MESSAGE_MAX: usize = 4 << 20;
/// Between two looks whether there is room, or whether accepting works again.
const PAUSE: Duration = Duration::from_millis(20);
/// After so long without a word a client is asked whether it is there, and how long it may take.
const ALIVE: Duration = Duration::from_secs(30);
const ALIVE_WAIT: Duration = Duration::from_secs(20);
/// How long a stream rests with nothing to do, at most.
const REST: Duration = Duration::from_secs(60);
/// Codes of gRPC.
const OK: &str = "0";
const INVALID: &str = "3";
const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";

/// What a stream says: its messages, and how it ended.
struct Said(mpsc::Receiver<Frame<Bytes>>);

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|it| it.map(Ok))
    }
}

/// Runs what a connection needs on this thread.
#[derive(Clone, Debug)]
struct Here;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, work: F) {
        tokio::task::spawn_local(work);
    }
}

/// Serves for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    hub: Rc<Hub>,
    readers: Rc<Readers>,
    counted: Rc<Counted>,
    most: usize,
) {
    let connections = Rc::new(Cell::new(0_usize));
    loop {
        while connections.get() >= most {
            sleep(PAUSE).await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let _set = stream.set_nodelay(true);
        connections.set(connections.get() + 1);
        let (hub, counted) = (Rc::clone(&hub), Rc::clone(&counted));
        let readers = Rc::clone(&readers);
        let left = Left(Rc::clone(&connections));
        tokio::task::spawn_local(async move {
            let place = counted.enter();
            let mut builder = http2::Builder::new(Here);
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .keep_alive_interval(ALIVE)
                .keep_alive_timeout(ALIVE_WAIT);
            let service = service_fn(|request| {
                let answer = answer(request, Rc::clone(&hub), Rc::clone(&readers));
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                // A client that breaks off is no news.
                _done = &mut connection => {}
                () = counted.ended() => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
            drop((place, left));
        });
    }
}

struct Left(Rc<Cell<usize>>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn answer(request: Request<Incoming>, hub: Rc<Hub>, readers: Rc<Readers>) -> Response<Said> {
    let delta = match request.uri().path() {
        WORLD => Some(false),
        DELTA => Some(true),
        _ => None,
    };
    // What is being sent is the only thing that is queued.
    let (send, said) = mpsc::channel(1);
    let body = request.into_body();
    tokio::task::spawn_local(async move {
        let code = match delta {
            Some(delta) => talk(body, &hub, &readers, delta, &send).await,
            None => UNIMPLEMENTED,
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        // Who is gone needs no farewell.
        drop(send.send(Frame::trailers(trailers)).await);
    });
    let mut response = Response::new(Said(said));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Messages as they come.
struct Messages {
    body: Incoming,
    bytes: BytesMut,
}

impl Messages {
    /// The next; `Ok(None)` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, &'static str> {
        loop {
            if let Some(message) = self.cut()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.bytes.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    fn cut(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some((flag, length)) = self.bytes.get(..5).and_then(|it| it.split_first()) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(length.try_into().map_err(|_short| INVALID)?);
        let length = usize::try_from(length).map_err(|_large| INVALID)?;
        if *flag != 0 || length > MESSAGE_MAX {
            return Err(if *flag == 0 { INVALID } else { UNIMPLEMENTED });
        }
        if self.bytes.len() < 5 + length {
            return Ok(None);
        }
        self.bytes.advance(5);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

/// One stream, to its end; the code it ends with.
async fn talk(
    body: Incoming,
    hub: &Hub,
    readers: &Rc<Readers>,
    delta: bool,
    send: &mpsc::Sender<Frame<Bytes>>,
) -> &'static str {
    let mut messages = Messages { body, bytes: BytesMut::new() };
    let mut stream: Option<Stream> = None;
    let mut following: Option<Following> = None;
    loop {
        if hub.is_ending() {
            return UNAVAILABLE;
        }
        let now = hub.now();
        let index = hub.index(Interest::Any);
        let rest = Instant::now() + REST;
        let due = stream.as_ref().and_then(Stream::due).unwrap_or(rest).min(rest);
        let pushes = match &mut stream {
            // It may have changed while something was being sent.
            Some(stream) if !stream.has_seen(&now) => stream.follow(now, Instant::now()),
            _ => tokio::select! {
                message = messages.next() => match message {
                    Err(code) => return code,
                    Ok(None) => return OK,
                    Ok(Some(message)) => {
                        let Some((node, kind, asked)) = read(&message, delta) else {
                            return INVALID;
                        };
                        let stream = stream.get_or_insert_with(|| {
                            Stream::new(delta, asker(node.as_ref()), now)
                        });
                        if asked.refused {
                            log::warn(format_args!("somebody refused what xDS says of {kind:?}"));
                        }
                        let Some(kind) = kind else { continue };
                        stream.ask(kind, asked, Instant::now())
                    }
                },
                () = hub.wait(Interest::Any, index, due.into()) => {
                    stream.as_mut().map(|it| it.follow_on(Instant::now())).unwrap_or_default()
                }
            },
        };
        if let Some(stream) = &mut stream {
            // Before it is told, so that nobody has heard of an instance who is not known here.
            let following = following.get_or_insert_with(|| readers.follow(stream.taken()));
            following.is(stream.services(), stream.taken());
        }
        for push in pushes {
            if send.send(Frame::data(framed(push, delta))).await.is_err() {
                return OK;
            }
        }
    }
}

fn asker(node: Option<&Node>) -> Asker {
    let listen = node
        .and_then(|it| it.metadata.as_ref()?.fields.get("listen")?.string_value.as_ref())
        .and_then(|it| it.parse::<SocketAddr>().ok());
    Asker { listen }
}

fn read(message: &[u8], delta: bool) -> Option<(Option<Node>, Option<Type>, Asked)> {
    if delta {
        let it = DeltaDiscoveryRequest::decode(message).ok()?;
        let asked = Asked {
            nonce: it.response_nonce,
            refused: it.error_detail.is_some(),
            names: None,
            more: it.resource_names_subscribe,
            fewer: it.resource_names_unsubscribe,
            has: it.initial_resource_versions,
        };
        return Some((it.node, Type::of(&it.type_url), asked));
    }
    let it = DiscoveryRequest::decode(message).ok()?;
    let asked = Asked {
        nonce: it.response_nonce,
        refused: it.error_detail.is_some(),
        names: Some(it.resource_names),
        ..Asked::default()
    };
    Some((it.node, Type::of(&it.type_url), asked))
}

fn framed(push: Push, delta: bool) -> Bytes {
    let (version, nonce) = (push.version, push.nonce);
    let type_url = push.kind.url().to_owned();
    let message = if delta {
        let resource = |(name, version, any)| Resource { version, resource: Some(any), name };
        DeltaDiscoveryResponse {
            system_version_info: version,
            resources: push.resources.into_iter().map(resource).collect(),
            type_url,
            nonce,
            removed_resources: push.removed,
        }
        .encode_to_vec()
    } else {
        let resources = push.resources.into_iter().map(|(_, _, any)| any).collect();
        DiscoveryResponse { version_info: version, resources, type_url, nonce }.encode_to_vec()
    };
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.freeze()
}
