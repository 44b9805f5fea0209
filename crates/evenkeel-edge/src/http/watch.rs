//! Watches over one client connection: what it is doing, and whether it has been doing it for too
//! long.
//!
//! The connection only sets flags; the sweep, a few times a second, looks at the clock. So a
//! request costs no timer.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::Tap;
use super::record::Record;
use crate::clock::ms;
use crate::instance::Instance;
use crate::limits::{CLIENT_IDLE_CROWDED_MS, CLIENT_IDLE_MS, SILENCE_MS};
use crate::shared::Shared;

/// What a client connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for a request.
    Idle = 0,
    /// Part of a request head has come.
    Head = 1,
    /// A request is being answered.
    Request = 2,
}

/// What is seen of a connection from inside its socket.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    phase: AtomicU8,
    /// Rises with every change of phase.
    turn: AtomicU32,
    active: AtomicBool,
    /// Requests come side by side, and between them things that are no request.
    multiplexed: AtomicBool,
    /// What comes is nobody's head any more, so none of it is kept.
    upgraded: AtomicBool,
    tap: Mutex<Tap>,
}

impl Signs {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Request,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.turn.store(self.turn.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// From now on HTTP/2 is spoken.
    pub(crate) fn multiplex(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// A part of a request has come.
    pub(crate) fn has_begun(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    pub(crate) fn active(&self) {
        self.active.store(true, Ordering::Relaxed);
    }

    fn read(&self, bytes: &[u8]) {
        self.active();
        if self.is_multiplexed() || self.upgraded.load(Ordering::Relaxed) {
            return;
        }
        match self.phase() {
            Phase::Request => return,
            Phase::Idle if !bytes.is_empty() => self.enter(Phase::Head),
            Phase::Idle | Phase::Head => {}
        }
        self.tap.lock().unwrap_or_else(PoisonError::into_inner).record(bytes);
    }
}

/// What the connection's task is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    Go,
    /// End after the request under way, now if there is none.
    Finish,
    /// End the request: its instance has had its time.
    Break,
    /// End now.
    Cut,
}

/// One watched connection.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) signs: Arc<Signs>,
    shared: Arc<Shared>,
    order: Cell<Order>,
    /// Requests that are being answered.
    open: Cell<u32>,
    /// Streams that have become WebSockets, and last as long as they like.
    held: Cell<u32>,
    /// Who answers, where nothing else can be cut, and until when the answer has to begin.
    serving: RefCell<Option<(Arc<Instance>, Option<u64>)>>,
    late: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The sweep's memory: the turn it saw last, and since when nothing has changed.
    seen_turn: Cell<u32>,
    since_ms: Cell<u64>,
    /// Its own part of the last quarter of a leaving edge's time.
    jitter: f32,
}

impl Watched {
    pub(crate) fn new(shared: &Arc<Shared>, now_ms: u64) -> Rc<Self> {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Rc::new(Self {
            signs: Arc::default(),
            shared: Arc::clone(shared),
            order: Cell::new(Order::Go),
            open: Cell::new(0),
            held: Cell::new(0),
            serving: RefCell::new(None),
            late: Cell::new(false),
            waker: RefCell::new(None),
            seen_turn: Cell::new(0),
            since_ms: Cell::new(now_ms),
            jitter: fastrand::f32(),
        })
    }

    /// What to do now; the task is woken when that changes.
    pub(crate) fn order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.order.get()
    }

    fn give(&self, order: Order) {
        if self.order.get() < order {
            self.order.set(order);
            self.wake();
        }
    }

    /// Looks whether its time is up.
    pub(crate) fn sweep(&self, now_ms: u64, crowded: bool) {
        let turn = self.signs.turn.load(Ordering::Relaxed);
        let phase = self.signs.phase();
        let moved = turn != self.seen_turn.replace(turn);
        let active = self.signs.active.swap(false, Ordering::Relaxed);
        // A head that comes byte by byte is not the better for it, nor is a connection that is
        // only pinged.
        if moved || (active && phase == Phase::Request) {
            self.since_ms.set(now_ms);
        }
        let closing = self.shared.closing.load(Ordering::Relaxed);
        let limits = &self.shared.around.limits;
        let succession = &self.shared.succession;
        if closing && succession.is_over(limits, self.jitter, now_ms) {
            self.give(Order::Cut);
            return;
        }
        // One that leaves its place has the time to let idle connections end as they always do.
        let idle_max = match (closing && !succession.has_time(), crowded) {
            (true, _) => ms(limits.linger),
            (false, true) => CLIENT_IDLE_CROWDED_MS,
            (false, false) => CLIENT_IDLE_MS,
        };
        self.look_at_the_instance(now_ms);
        let age = now_ms.saturating_sub(self.since_ms.get());
        if closing && self.signs.is_multiplexed() {
            // It is said at once, and what comes meanwhile is answered.
            self.give(Order::Finish);
        }
        match phase {
            // They may be silent, as on a connection of their own.
            Phase::Idle | Phase::Request if self.held.get() > 0 => {}
            // Who does not go when told has had the time of one more request.
            Phase::Idle if age >= idle_max + ms(limits.head) => self.give(Order::Cut),
            Phase::Idle if age >= idle_max => self.give(Order::Finish),
            Phase::Head if age >= ms(limits.head) => self.give(Order::Cut),
            Phase::Request if age >= SILENCE_MS => self.give(Order::Cut),
            Phase::Idle | Phase::Head | Phase::Request => {}
        }
    }

    /// An instance answers a request of this connection until what is returned is dropped; its
    /// answer has to begin before `until_ms`.
    pub(crate) fn serves(self: &Rc<Self>, by: &Arc<Instance>, until_ms: Option<u64>) -> Serving {
        self.late.set(false);
        *self.serving.borrow_mut() = Some((Arc::clone(by), until_ms));
        Serving(Rc::clone(self))
    }

    /// Whether no request comes after this one.
    pub(crate) fn is_to_end(&self) -> bool {
        self.order.get() >= Order::Break
    }

    /// Whether the time for an answer is up.
    pub(crate) fn is_late(&self) -> bool {
        self.late.get()
    }

    fn look_at_the_instance(&self, now_ms: u64) {
        let Some((by, until_ms)) = self.serving.borrow().clone() else { return };
        if by.requests_overdue(now_ms) {
            self.give(Order::Break);
        }
        if until_ms.is_some_and(|until| now_ms >= until) && !self.late.replace(true) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// A request begins; it has ended when what is returned is dropped.
    pub(crate) fn begin(self: &Rc<Self>, record: Option<Record>) -> Turn {
        self.open.set(self.open.get() + 1);
        self.signs.enter(Phase::Request);
        Turn(Rc::clone(self), record)
    }

    /// Whether the head that was read last names its length twice; see [`Tap`].
    pub(crate) fn is_ambiguous(&self, method: &str) -> bool {
        self.signs.tap.lock().unwrap_or_else(PoisonError::into_inner).is_ambiguous(method)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An instance being at work for a connection.
#[derive(Debug)]
pub(crate) struct Serving(Rc<Watched>);

impl Drop for Serving {
    fn drop(&mut self) {
        *self.0.serving.borrow_mut() = None;
    }
}

/// A request being answered.
pub(crate) struct Turn(Rc<Watched>, Option<Record>);

impl Turn {
    /// What is remembered of it.
    pub(crate) fn record(&mut self) -> Option<&mut Record> {
        self.1.as_mut()
    }

    /// Keeps the connection beyond the request: it, or a stream of it, was upgraded.
    pub(crate) fn hold(&self) -> Held {
        self.0.held.set(self.0.held.get() + 1);
        self.0.signs.upgraded.store(true, Ordering::Relaxed);
        Held(Rc::clone(&self.0))
    }
}

/// Something that lives long on a connection.
#[derive(Debug)]
pub(crate) struct Held(Rc<Watched>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.signs.tap.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.0.signs.enter(Phase::Idle);
        }
    }
}

/// A client's socket that leaves signs.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    pub(crate) stream: S,
    pub(crate) signs: Arc<Signs>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.signs.read(buf.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.signs.active();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.signs.active();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::table::Surroundings;

    fn watched() -> Rc<Watched> {
        let shared = Shared::new(Path::new("/nowhere"), Surroundings::plain(), 1);
        Watched::new(&Arc::new(shared), 1)
    }

    #[test]
    fn a_head_has_its_time_however_it_trickles() {
        let it = watched();
        for now in (1..12_000).step_by(250) {
            it.signs.read(b"G");
            it.sweep(now, false);
        }
        assert_eq!(it.order.get(), Order::Cut);
    }

    #[test]
    fn idle_connections_finish_sooner_in_a_crowd() {
        let it = watched();
        it.sweep(CLIENT_IDLE_CROWDED_MS + 1, false);
        assert_eq!(it.order.get(), Order::Go);
        it.sweep(CLIENT_IDLE_CROWDED_MS + 1, true);
        assert_eq!(it.order.get(), Order::Finish);
    }

    #[test]
    fn a_connection_with_a_web_socket_may_be_silent() {
        let it = watched();
        let turn = it.begin(None);
        let held = turn.hold();
        drop(turn);
        it.sweep(10 * SILENCE_MS, false);
        assert_eq!(it.order.get(), Order::Go);
        drop(held);
        it.sweep(20 * SILENCE_MS, false);
        assert_eq!(it.order.get(), Order::Cut);
    }

    #[test]
    fn nothing_is_kept_of_what_a_web_socket_says() {
        let it = watched();
        let turn = it.begin(None);
        let _held = turn.hold();
        drop(turn);
        it.signs.read(b"a message");
        assert!(it.signs.tap.lock().unwrap().is_empty());
        assert_eq!(it.signs.phase(), Phase::Idle);
    }

    #[test]
    fn a_long_answer_is_left_alone_while_it_moves() {
        let it = watched();
        let turn = it.begin(None);
        for now in (1..1_000_000).step_by(250_000) {
            it.signs.active();
            it.sweep(now, false);
        }
        assert_eq!(it.order.get(), Order::Go);
        it.sweep(1_000_000 + SILENCE_MS, false);
        assert_eq!(it.order.get(), Order::Cut);
        drop(turn);
        assert_eq!(it.signs.phase(), Phase::Idle);
    }
}
