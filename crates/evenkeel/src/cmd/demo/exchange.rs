//! One request of the load: sent as any client does, and its answer looked at closely.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::example;
use super::order::Order;

/// How long an answer may take, to its last byte.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Connections kept for the next request.
const KEPT_MAX: usize = 256;
/// Time between two things said in a talk: it outlives a change of the routing table.
const TALK_PAUSE: Duration = Duration::from_millis(200);
/// Every so many requests come from somebody who was never here before.
const NEWCOMER: u64 = 5;
/// Sizes of what is written vary below this; all of it can be sent again by the edge.
const WRITE_BYTES: u64 = 8 * 1024;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `GET /`: web asks the catalog.
    Read,
    /// `PUT /echo`: the body comes back.
    Write,
    /// `GET /feed`: two seconds of lines.
    Feed,
    /// `GET /feed/wait`: a second of nothing, then an answer.
    Wait,
    /// `GET /feed/talk`, upgraded: what is said comes back, for two seconds.
    Talk,
    /// `PUT /orders/N`: the order comes back as the table has it.
    Order(u64),
    /// `GET /orders/N`: an order that was taken before.
    Recall(u64),
}

impl Kind {
    /// As it is sent.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "GET /",
            Self::Write => "PUT /echo",
            Self::Feed => "GET /feed",
            Self::Wait => "GET /feed/wait",
            Self::Talk => "upgrade /feed/talk",
            Self::Order(_) => "PUT /orders",
            Self::Recall(_) => "GET /orders",
        }
    }

    /// Whether the answer comes as fast as it can.
    pub(super) fn is_short(self) -> bool {
        !matches!(self, Self::Feed | Self::Wait | Self::Talk)
    }

    fn target(self) -> (Method, String) {
        let (method, path) = match self {
            Self::Read => (Method::GET, "/"),
            Self::Write => (Method::PUT, "/echo"),
            Self::Feed => (Method::GET, "/feed"),
            Self::Wait => (Method::GET, "/feed/wait"),
            Self::Talk => (Method::GET, "/feed/talk"),
            Self::Order(id) => return (Method::PUT, format!("/orders/{id}")),
            Self::Recall(id) => return (Method::GET, format!("/orders/{id}")),
        };
        (method, path.to_owned())
    }
}

/// A right answer.
#[derive(Debug)]
pub(super) struct Answered {
    /// The version that gave it.
    pub(super) version: String,
    /// A kept connection was closed before anything was sent on it, and another one was used.
    pub(super) reconnected: bool,
}

type Sender = SendRequest<Full<Bytes>>;

/// Somebody with a pool of connections.
#[derive(Debug)]
pub(super) struct Caller {
    port: u16,
    kept: RefCell<Vec<Sender>>,
}

impl Caller {
    pub(super) fn new(port: u16) -> Self {
        Self { port, kept: RefCell::default() }
    }

    /// Sends the request with this number, and checks its answer. The error is the cause of a
    /// failure.
    pub(super) async fn call(&self, kind: Kind, number: u64) -> Result<Answered, String> {
        match timeout(ANSWER_MAX, self.exchange(kind, number)).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
        }
    }

    async fn exchange(&self, kind: Kind, number: u64) -> Result<Answered, String> {
        let sent = match kind {
            Kind::Write => body(number),
            Kind::Order(id) => written(id),
            Kind::Read | Kind::Feed | Kind::Wait | Kind::Recall(_) => Bytes::new(),
            Kind::Talk => return self.talk().await,
        };
        let newcomer = number.is_multiple_of(NEWCOMER);
        let (response, sender, reconnected) = self.send(kind, sent.clone(), newcomer).await?;
        let status = response.status();
        let version = version(&response);
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        if !newcomer && self.kept.borrow().len() < KEPT_MAX {
            self.kept.borrow_mut().push(sender);
        }
        check(kind, status, &version, &sent, &body)?;
        Ok(Answered { version, reconnected })
    }

    /// Upgrades a connection, and talks over it.
    async fn talk(&self) -> Result<Answered, String> {
        let mut request = self.request(Kind::Talk, Bytes::new())?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static(example::PROTOCOL));
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("{} instead of an upgrade", response.status()));
        }
        let version = version(&response);
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| chain(&error))?;
        let mut stream = TokioIo::new(upgraded);
        for number in 1..=example::LINES {
            let said = example::line(number);
            let mut heard = vec![0; said.len()];
            stream.write_all(said.as_bytes()).await.map_err(|error| error.to_string())?;
            let heard = stream.read_exact(&mut heard).await.map(|_length| heard);
            let heard = heard.map_err(|error| format!("the talk broke off: {error}"))?;
            if heard != said.as_bytes() {
                return Err("something else came back than was said".to_owned());
            }
            tokio::time::sleep(TALK_PAUSE).await;
        }
        Ok(Answered { version, reconnected: false })
    }

    /// Sends the request on a kept connection, or on a new one.
    async fn send(
        &self,
        kind: Kind,
        body: Bytes,
        newcomer: bool,
    ) -> Result<(Response<Incoming>, Sender, bool), String> {
        let mut request = self.request(kind, body)?;
        let kept = if newcomer { None } else { self.kept.borrow_mut().pop() };
        let mut reconnected = false;
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender, false)),
                // Nothing of it was sent: every client then takes another connection.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        reconnected = true;
                        request = unsent;
                    }
                    None => return Err(chain(&error.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        match sender.send_request(request).await {
            Ok(response) => Ok((response, sender, reconnected)),
            Err(error) => Err(chain(&error)),
        }
    }

    fn request(&self, kind: Kind, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let (method, path) = kind.target();
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("127.0.0.1:{}", self.port))
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    }

    async fn connect(&self) -> Result<Sender, String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| chain(&error))?;
        // Its error reaches the exchange as well.
        tokio::task::spawn_local(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }
}

fn version(response: &Response<Incoming>) -> String {
    let version = response.headers().get(example::VERSION);
    version.and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned()
}

/// What is written: of every size, and never the same.
fn body(number: u64) -> Bytes {
    let length = number.wrapping_mul(7_919) % WRITE_BYTES;
    let length = usize::try_from(length).unwrap_or(0);
    format!("{number} ").into_bytes().into_iter().cycle().take(length).collect()
}

/// An order as it is sent.
fn written(id: u64) -> Bytes {
    serde_json::to_vec(&Order::of(id)).unwrap_or_default().into()
}

/// Says what is wrong with an answer.
fn check(
    kind: Kind,
    status: StatusCode,
    version: &str,
    sent: &Bytes,
    body: &Bytes,
) -> Result<(), String> {
    if !status.is_success() {
        let text = String::from_utf8_lossy(body);
        let text: String = text.chars().take(80).collect();
        return Err(format!("{status}: {}", text.trim()));
    }
    let right = match kind {
        Kind::Read => is_page(version, body),
        Kind::Write => body == sent,
        Kind::Feed => *body == *(1..=example::LINES).map(example::line).collect::<String>(),
        Kind::Wait => *body == *"no news",
        Kind::Order(id) | Kind::Recall(id) => {
            serde_json::from_slice(body).is_ok_and(|it: Order| it == Order::of(id))
        }
        Kind::Talk => false,
    };
    match right && !version.is_empty() {
        true => Ok(()),
        false => Err(format!("the answer of {} bytes is not the right one", body.len())),
    }
}

fn is_page(version: &str, body: &Bytes) -> bool {
    let Ok(page) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    page["service"] == "web"
        && page["version"] == version
        && page["catalog"].is_string()
        && page["items"].as_array().is_some_and(|items| !items.is_empty())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
