//! The body of a request on its way to an instance.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A request body to send.
pub(crate) enum Outgoing {
    /// None, or one that was kept to be sent again.
    Kept(Option<Bytes>),
    /// As the client sends it.
    Streamed(Incoming, Rc<Progress>),
}

/// How far a streamed body has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Frames passed on so far.
    pub(crate) frames: Cell<u64>,
    pub(crate) finished: Cell<bool>,
    /// The client stopped in the middle.
    pub(crate) broken: Cell<bool>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(body, progress) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                progress.frames.set(progress.frames.get() + 1);
                match &frame {
                    Some(Ok(_)) => progress.finished.set(body.is_end_stream()),
                    Some(Err(_)) => progress.broken.set(true),
                    None => progress.finished.set(true),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(bytes) => bytes.is_none(),
            Self::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Streamed(body, _) => body.size_hint(),
        }
    }
}
