//! What goes back to the client: an instance's answer, or a short one of the edge's own.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::grpc;
use super::verdict::Verdict;
use super::watch::Turn;
use super::worker::Worker;

const CAUSE: HeaderName = HeaderName::from_static("x-evenkeel-error");

/// Why the edge answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Malformed,
    AmbiguousLength,
    UriTooLong,
    MethodNotAllowed,
    BodyIncomplete,
    BodyTooLarge,
    NoTable,
    NoRoute,
    NoInstance,
    Overloaded,
    /// Its service is held, and it has waited for as long as it may, or too many do.
    Held,
    ConnectFailure,
    Reset,
    Timeout,
}

impl Cause {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "malformed request\n"),
            Self::AmbiguousLength => {
                (StatusCode::BAD_REQUEST, "ambiguous-length", "ambiguous request length\n")
            }
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri-too-long", "target too long\n"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "method not allowed\n")
            }
            Self::BodyIncomplete => {
                (StatusCode::BAD_REQUEST, "body-incomplete", "request body incomplete\n")
            }
            Self::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "request body too large\n")
            }
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "no such route\n"),
            Self::NoTable => {
                (StatusCode::SERVICE_UNAVAILABLE, "no-table", "nothing to serve yet\n")
            }
            Self::NoInstance => {
                (StatusCode::SERVICE_UNAVAILABLE, "no-instance", "no instance available\n")
            }
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "overloaded\n"),
            Self::Held => (StatusCode::SERVICE_UNAVAILABLE, "held", "held for too long\n"),
            Self::ConnectFailure => (
                StatusCode::SERVICE_UNAVAILABLE,
                "connect-failure",
                "no instance could be reached\n",
            ),
            Self::Reset => (StatusCode::BAD_GATEWAY, "reset", "the instance broke off\n"),
            Self::Timeout => {
                (StatusCode::GATEWAY_TIMEOUT, "timeout", "the instance did not answer in time\n")
            }
        }
    }
}

/// The body of an answer.
pub(crate) struct Answer {
    kind: Kind,
    /// The request ends when this is dropped.
    turn: Option<Turn>,
}

enum Kind {
    Text(Option<Bytes>),
    Relayed(Incoming, Exchange),
}

impl Answer {
    /// The answer of an instance.
    pub(crate) fn relayed(body: Incoming, exchange: Exchange, turn: Turn) -> Self {
        Self { kind: Kind::Relayed(body, exchange), turn: Some(turn) }
    }

    /// The text of an answer of the edge's own.
    pub(crate) fn take_text(&mut self) -> Option<Bytes> {
        match &mut self.kind {
            Kind::Text(text) => text.take(),
            Kind::Relayed(..) => None,
        }
    }

    /// Nothing: the connection has become something else.
    pub(crate) fn upgraded() -> Self {
        Self { kind: Kind::Text(None), turn: None }
    }

    /// Notes how it begins.
    pub(crate) fn note(response: &mut Response<Self>) {
        let (status, cause) = (response.status().as_u16(), response.headers().get(CAUSE).cloned());
        if let Some(record) = response.body_mut().turn.as_mut().and_then(Turn::record) {
            record.answers(status, cause.as_ref());
        }
    }

    /// What a route says itself.
    pub(crate) fn decided(
        worker: &Worker,
        verdict: Verdict,
        grpc: bool,
        turn: Option<Turn>,
    ) -> Response<Self> {
        let (status, headers, text) = match verdict {
            Verdict::Refused(cause) => return Self::own(worker, cause, grpc, turn),
            Verdict::Told(status, headers, text) => (status, headers, text),
        };
        let text = (!text.is_empty() && !grpc).then(|| Bytes::from(text));
        let mut response = Response::new(Self { kind: Kind::Text(text), turn });
        *response.headers_mut() = headers;
        *response.status_mut() = status;
        if grpc && !status.is_redirection() {
            grpc::fail(response.headers_mut(), status, "the route is closed");
            *response.status_mut() = StatusCode::OK;
        }
        response
    }

    /// An answer of the edge's own.
    ///
    /// A call of gRPC is told in its own words.
    pub(crate) fn own(
        worker: &Worker,
        cause: Cause,
        grpc: bool,
        turn: Option<Turn>,
    ) -> Response<Self> {
        let rejections = &worker.shared.rejections;
        let counter = match cause {
            Cause::Malformed
            | Cause::AmbiguousLength
            | Cause::UriTooLong
            | Cause::MethodNotAllowed
            | Cause::BodyIncomplete
            | Cause::BodyTooLarge => Some(&rejections.rejected),
            Cause::NoRoute => Some(&rejections.no_route),
            Cause::NoTable | Cause::NoInstance => Some(&rejections.no_instance),
            Cause::Overloaded | Cause::Held => Some(&rejections.overloaded),
            // Counted with the pool.
            Cause::ConnectFailure | Cause::Reset | Cause::Timeout => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let (status, word, text) = cause.parts();
        let body = (!grpc).then(|| Bytes::from_static(text.as_bytes()));
        let body = Kind::Text(body);
        let mut response = Response::new(Self { kind: body, turn });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CAUSE, HeaderValue::from_static(word));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status.is_client_error() && cause != Cause::NoRoute {
            // Where the next request would begin is not certain.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if grpc {
            grpc::fail(headers, status, text);
            *response.status_mut() = StatusCode::OK;
        }
        response
    }
}

fn trailers<E>(frame: &Result<Frame<Bytes>, E>) -> Option<&HeaderMap> {
    frame.as_ref().ok()?.trailers_ref()
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Text(text) => {
                if let (Some(text), Some(record)) =
                    (&text, this.turn.as_mut().and_then(Turn::record))
                {
                    record.sends(text.len());
                }
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
            Kind::Relayed(body, exchange) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                    && let Some(record) = this.turn.as_mut().and_then(Turn::record)
                {
                    record.sends(data.len());
                }
                if let Some(trailers) = frame.as_ref().and_then(trailers)
                    && let Some(status) = grpc::status(trailers)
                {
                    exchange.call_ended(status);
                }
                match &frame {
                    Some(Ok(_)) if !body.is_end_stream() => {}
                    Some(Ok(_)) | None => exchange.complete(),
                    Some(Err(_)) => exchange.broke(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_none(),
            Kind::Relayed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => {
                let length = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Relayed(body, _) => body.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A body without bytes is never polled, nor is one whose length was known.
        if let Kind::Relayed(body, exchange) = &mut self.kind
            && body.is_end_stream()
        {
            exchange.complete();
        }
    }
}
