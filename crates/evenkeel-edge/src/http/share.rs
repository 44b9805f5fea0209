//! One thread's HTTP/2 connections to instances. Each carries many requests at a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::executor::Local;
use super::link;
use super::outgoing::Outgoing;
use super::worker::Worker;
use crate::clock::now_ms;
use crate::instance::Instance;
use crate::limits::{
    H2_HEADER_LIST, H2_PING_EVERY, H2_PING_TIMEOUT, H2_UPSTREAM_IDLE_MS, H2_UPSTREAM_STREAMS,
    H2_WINDOW_CONNECTION, H2_WINDOW_STREAM,
};
use crate::stream as upstream;
use crate::table::Pool;

/// The shared connections of one thread, by instance.
#[derive(Default)]
pub(crate) struct Shares {
    open: RefCell<BTreeMap<u64, Vec<Rc<Share>>>>,
    opening: RefCell<BTreeMap<u64, Rc<Opening>>>,
}

/// One connection.
struct Share {
    instance: Arc<Instance>,
    sender: SendRequest<Outgoing>,
    streams: Cell<u32>,
    used_ms: Cell<u64>,
}

impl Share {
    fn has_room(&self) -> bool {
        !self.sender.is_closed() && self.streams.get() < H2_UPSTREAM_STREAMS
    }
}

/// A connection that one request opens and others wait for.
#[derive(Default)]
struct Opening {
    done: Notify,
    failed: Cell<Option<io::ErrorKind>>,
}

/// Room for one request on a shared connection; given back when dropped.
pub(crate) struct Stream(Rc<Share>);

impl Stream {
    fn on(share: &Rc<Share>) -> Self {
        share.streams.set(share.streams.get() + 1);
        share.used_ms.set(now_ms());
        Self(Rc::clone(share))
    }

    /// Sends a request on it.
    pub(crate) fn send(
        &self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + use<>
    {
        self.0.sender.clone().try_send_request(request)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.used_ms.set(now_ms());
    }
}

impl Shares {
    /// Room for one request, and whether the connection was there before.
    pub(crate) async fn get(
        &self,
        worker: &Rc<Worker>,
        pool: &Pool,
        instance: &Arc<Instance>,
    ) -> io::Result<(Stream, bool)> {
        loop {
            if let Some(stream) = self.room(instance.key) {
                return Ok((stream, true));
            }
            let under_way = self.opening.borrow().get(&instance.key).cloned();
            let Some(opening) = under_way else { break };
            let done = opening.done.notified();
            // Nothing else runs between the look and this, so the end cannot be missed.
            done.await;
            if let Some(kind) = opening.failed.get() {
                return Err(kind.into());
            }
        }
        let ticket = Ticket::take(self, instance.key);
        let opened = open(worker, pool, instance).await;
        let share = opened.inspect_err(|error| ticket.opening.failed.set(Some(error.kind())))?;
        let stream = Stream::on(&share);
        self.open.borrow_mut().entry(instance.key).or_default().push(share);
        Ok((stream, false))
    }

    fn room(&self, key: u64) -> Option<Stream> {
        let open = self.open.borrow();
        open.get(&key)?.iter().find(|share| share.has_room()).map(Stream::on)
    }

    /// Lets go of those that are closed, idle too long, or whose instance drains. What is under
    /// way on them goes on.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let mut gone = Vec::new();
        self.open.borrow_mut().retain(|_, shares| {
            let over = |share: &Rc<Share>| {
                let idle = now_ms.saturating_sub(share.used_ms.get()) >= H2_UPSTREAM_IDLE_MS;
                let unused = share.streams.get() == 0 && idle;
                unused || share.sender.is_closed() || share.instance.is_draining()
            };
            gone.extend(shares.extract_if(.., |share| over(share)));
            !shares.is_empty()
        });
        // Outside of the borrow.
        drop(gone);
    }
}

/// The right to open a connection; who waits for it looks again when this is dropped.
struct Ticket<'s> {
    shares: &'s Shares,
    key: u64,
    opening: Rc<Opening>,
}

impl<'s> Ticket<'s> {
    fn take(shares: &'s Shares, key: u64) -> Self {
        let opening = Rc::new(Opening::default());
        shares.opening.borrow_mut().insert(key, Rc::clone(&opening));
        Self { shares, key, opening }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shares.opening.borrow_mut().remove(&self.key);
        self.opening.done.notify_waiters();
    }
}

async fn open(worker: &Rc<Worker>, pool: &Pool, instance: &Arc<Instance>) -> io::Result<Rc<Share>> {
    let stream =
        upstream::Stream::open_multiplexed(&worker.shared.certificates, pool, instance).await?;
    let (sender, connection) = Builder::new(Local)
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_WINDOW_STREAM)
        .initial_connection_window_size(H2_WINDOW_CONNECTION)
        .max_header_list_size(H2_HEADER_LIST)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    link::drive(worker, instance, async move {
        // How it ends is seen by whoever waits for an answer on it.
        let _ended = connection.await;
    });
    let (instance, used_ms) = (Arc::clone(instance), Cell::new(now_ms()));
    Ok(Rc::new(Share { instance, sender, streams: Cell::new(0), used_ms }))
}

/// Whether the instance said that it has not begun with a request, so that it may be sent again
/// whatever it does.
pub(crate) fn is_untouched(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let reason = cause.reason();
        let refused = cause.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
        let leaving = cause.is_go_away() && reason == Some(h2::Reason::NO_ERROR);
        cause.is_remote() && (refused || leaving)
    })
}
