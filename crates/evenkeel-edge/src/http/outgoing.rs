//! The body of a request on its way to an instance.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::limits::REPLAY_BYTES;

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
    /// How much may still come.
    left: Cell<Option<u64>>,
    too_large: Cell<bool>,
    /// What was passed on so far, as long as that is little.
    kept: RefCell<Kept>,
}

/// A body that was passed on, for the case that it was sent to somebody who did not begin with it.
#[derive(Debug, Default)]
enum Kept {
    #[default]
    Not,
    Pieces(Vec<Bytes>, u64),
}

impl Progress {
    fn keep<E>(&self, frame: &Result<Frame<Bytes>, E>) {
        let mut kept = self.kept.borrow_mut();
        let Kept::Pieces(pieces, length) = &mut *kept else { return };
        match frame.as_ref().ok().and_then(Frame::data_ref) {
            Some(data) if *length + len(data) <= REPLAY_BYTES => {
                *length += len(data);
                pieces.push(data.clone());
            }
            // Too much, or not only data.
            Some(_) | None => *kept = Kept::Not,
        }
    }

    /// Lets so many bytes through.
    pub(crate) fn bound(&self, most: u64) {
        self.left.set(Some(most));
    }

    /// Whether more came than may.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.get()
    }

    /// Takes a piece off what may still come. Returns whether it may.
    fn admits<E>(&self, frame: &Result<Frame<Bytes>, E>) -> bool {
        let data = frame.as_ref().ok().and_then(Frame::data_ref);
        let (Some(left), Some(data)) = (self.left.get(), data) else { return true };
        self.left.set(Some(left.saturating_sub(len(data))));
        self.too_large.set(self.too_large.get() || len(data) > left);
        !self.too_large.get()
    }

    /// Keeps what is passed on from now on, as long as that is little.
    pub(crate) fn start_keeping(&self) {
        *self.kept.borrow_mut() = Kept::Pieces(Vec::new(), 0);
    }

    /// The whole body, if it has been passed on to its end and is little.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        match &*self.kept.borrow() {
            Kept::Pieces(pieces, _) if self.finished.get() => Some(pieces.concat().into()),
            Kept::Pieces(..) | Kept::Not => None,
        }
    }
}

fn len(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// Why a body does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client broke off")]
    Client(#[source] hyper::Error),
    #[error("it is larger than its route allows")]
    TooLarge,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(body, progress) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                progress.frames.set(progress.frames.get() + 1);
                if let Some(frame) = &frame {
                    if !progress.admits(frame) {
                        return Poll::Ready(Some(Err(Broken::TooLarge)));
                    }
                    progress.keep(frame);
                }
                match &frame {
                    Some(Ok(_)) => progress.finished.set(body.is_end_stream()),
                    Some(Err(_)) => progress.broken.set(true),
                    None => progress.finished.set(true),
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Broken::Client)))
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
