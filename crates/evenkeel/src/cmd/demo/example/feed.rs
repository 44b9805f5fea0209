//! Bodies of answers: all at once, or piece by piece over a while.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame};
use tokio::time::{Interval, interval};

/// The lines of a feed.
pub(in crate::cmd::demo) const LINES: u32 = 10;
/// Time between two of them: a feed outlives a change of the routing table.
const PAUSE: Duration = Duration::from_millis(200);

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Reply {
    Whole(Full<Bytes>),
    Feed(Feed),
}

/// Lines, one after the other.
#[derive(Debug)]
pub(super) struct Feed {
    next: u32,
    pause: Interval,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self { next: 1, pause: interval(PAUSE) }
    }
}

/// One line of a feed.
pub(in crate::cmd::demo) fn line(number: u32) -> String {
    format!("line {number} of {LINES}\n")
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let feed = match &mut *self {
            Self::Whole(whole) => return Pin::new(whole).poll_frame(cx),
            Self::Feed(feed) => feed,
        };
        if feed.next > LINES {
            return Poll::Ready(None);
        }
        ready!(feed.pause.poll_tick(cx));
        feed.next += 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(line(feed.next - 1))))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Feed(feed) => feed.next > LINES,
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Feed(_) => hyper::body::SizeHint::default(),
        }
    }
}
