//! Answers, and the bodies they have.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

/// A body: ready, or coming piece by piece.
#[derive(Debug)]
pub(crate) enum Payload {
    Ready(Bytes),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Ready(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Ready(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(pieces) => {
                pieces.poll_recv(context).map(|it| it.map(|it| Ok(Frame::data(it))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Ready(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ready(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(0)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Why a page cannot be had.
pub(crate) type Wrong = (StatusCode, String);

/// An answer.
pub(crate) type Answer = Response<Payload>;

fn with(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Payload::Ready(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Bytes that are JSON.
pub(crate) fn json(body: Bytes) -> Answer {
    with(StatusCode::OK, "application/json", body)
}

/// A value as JSON.
pub(crate) fn value(value: &(impl Serialize + ?Sized), pretty: bool) -> Bytes {
    let text = match pretty {
        true => serde_json::to_vec_pretty(value),
        false => serde_json::to_vec(value),
    };
    text.expect("what we say has text for keys").into()
}

/// Words for people.
pub(crate) fn words(status: StatusCode, words: impl Into<String>) -> Answer {
    with(status, "text/plain; charset=utf-8", words.into().into())
}

/// Done, and nothing to say.
pub(crate) fn done() -> Answer {
    let mut answer = Response::new(Payload::Ready(Bytes::new()));
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    answer
}

/// Pieces, as they come.
pub(crate) fn stream(kind: &'static str, pieces: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = Response::new(Payload::Stream(pieces));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// Adds a number to the headers.
pub(crate) fn index(mut answer: Answer, index: u64) -> Answer {
    let headers = answer.headers_mut();
    headers.insert("x-consul-index", HeaderValue::from(index));
    for (name, value) in [
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "0"),
        ("x-consul-default-acl-policy", "allow"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
