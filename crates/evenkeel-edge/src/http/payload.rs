//! What of a request can be sent, and what of it can be sent again.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::answer::Cause;
use super::outgoing::{Outgoing, Progress};
use crate::limits::{H2_WINDOW_STREAM, REPLAY_BYTES};

/// What may be sent again.
pub(crate) enum Payload {
    /// The whole request is here.
    Repeatable(Request<()>, Option<Bytes>),
    /// It can be sent once; it comes back if nothing of it was.
    Once(Request<Outgoing>, Option<Rc<Progress>>),
}

impl Payload {
    /// Takes the request apart into what can be sent again, if it can.
    pub(crate) async fn of(request: Request<Incoming>, once: bool) -> Result<Self, Cause> {
        let (parts, mut body) = request.into_parts();
        let empty = body.is_end_stream();
        if !once && empty {
            return Ok(Self::Repeatable(Request::from_parts(parts, ()), None));
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
            return Ok(Self::Repeatable(Request::from_parts(parts, ()), Some(kept.freeze())));
        }
        if empty {
            return Ok(Self::Once(Request::from_parts(parts, Outgoing::Kept(None)), None));
        }
        let progress = Rc::new(Progress::default());
        let body = Outgoing::Streamed(body, Rc::clone(&progress));
        Ok(Self::Once(Request::from_parts(parts, body), Some(progress)))
    }

    /// How many bytes of memory it takes, about: its head, and of its body what is here or what a
    /// client may have sent ahead.
    pub(crate) fn bytes(&self) -> u64 {
        let (head, body) = match self {
            Self::Repeatable(request, body) => (head(request), body.as_ref().map_or(0, Bytes::len)),
            Self::Once(request, _) => {
                let ahead = u64::from(H2_WINDOW_STREAM);
                let body = request.body().size_hint().upper().map_or(ahead, |it| it.min(ahead));
                (head(request), usize::try_from(body).unwrap_or(usize::MAX))
            }
        };
        u64::try_from(head.saturating_add(body)).unwrap_or(u64::MAX)
    }
}

/// How long the head of a request is, about.
fn head<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    target + lines.sum::<usize>()
}

/// Whether the method's definition allows to send a request again.
pub(crate) fn is_repeatable(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE")
}

/// The same request once more.
pub(crate) fn copy<B>(head: &Request<B>, body: Option<Bytes>) -> Request<Outgoing> {
    let mut request = Request::new(Outgoing::Kept(body));
    *request.method_mut() = head.method().clone();
    *request.uri_mut() = head.uri().clone();
    *request.headers_mut() = head.headers().clone();
    *request.extensions_mut() = head.extensions().clone();
    request
}
