//! A simple request on its way: written to an instance, and its answer's head read.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Sleep, sleep};

use super::head::{self, Extra};
use super::raw::Raw;
use crate::clock::{ms, now_ms};
use crate::http::deliver::{Message, Outcome};
use crate::http::destination::Destination;
use crate::http::exchange::Exchange;
use crate::http::record::Record;
use crate::http::watch::{Order, Watched};
use crate::http::worker::Worker;
use crate::instance::Instance;
use crate::limits::{HEAD_BYTES, RELAY_BUFFER};
use crate::pick::Picked;

/// Shorter times are kept exactly; longer ones by the sweep, a quarter of a second late at most.
const EXACT: Duration = Duration::from_secs(5);

/// A client's connection: what was read of it and not used yet, and what is to be written to it.
pub(super) struct Front<S> {
    pub(super) stream: S,
    pub(super) bytes: BytesMut,
    pub(super) out: Vec<u8>,
    pub(super) watched: Rc<Watched>,
}

/// Makes room for a whole read: what is left over at the end of a buffer would be read into piece by
/// piece. What was used is used again, so this rarely allocates.
fn make_room(bytes: &mut BytesMut, room: usize) {
    if bytes.capacity() - bytes.len() < room / 2 {
        bytes.reserve(room);
    }
}

/// What happened while something was waited for.
#[derive(Debug)]
pub(super) enum Event {
    /// So much was read of the instance; nothing is its end.
    Read(io::Result<usize>),
    /// The client has gone, or is to.
    ClientGone,
    /// The instance's time is up.
    Break,
    /// The time for an answer is up.
    Late,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Front<S> {
    /// Reads more of the client; `false`: it has ended, or is to end.
    pub(super) async fn read(&mut self) -> bool {
        let Self { stream, bytes, watched, .. } = self;
        let idle = bytes.is_empty();
        make_room(bytes, RELAY_BUFFER);
        let mut reading = pin!(stream.read_buf(bytes));
        let read = poll_fn(|cx| {
            match watched.order(cx) {
                Order::Go => {}
                // A request that has begun to come is waited for.
                Order::Finish if !idle => {}
                Order::Finish | Order::Break | Order::Cut => return Poll::Ready(None),
            }
            reading.as_mut().poll(cx).map(Some)
        });
        let more = matches!(read.await, Some(Ok(length)) if length > 0);
        self.watched.signs.active();
        more
    }

    /// Waits for more of the instance, and sees when the client goes meanwhile.
    pub(super) async fn await_instance(
        &mut self,
        raw: &mut Raw,
        room: usize,
        mut until: Option<Pin<&mut Sleep>>,
    ) -> Event {
        loop {
            let Self { stream, bytes, watched, .. } = self;
            // What a client sends ahead is kept; what it sends beyond a head waits in the kernel.
            let watches = bytes.len() < HEAD_BYTES;
            make_room(&mut raw.bytes, room);
            let mut ahead = pin!(stream.read_buf(bytes));
            let mut reading = pin!(raw.stream.read_buf(&mut raw.bytes));
            let event = poll_fn(|cx| {
                match watched.order(cx) {
                    Order::Go | Order::Finish => {}
                    Order::Break => return Poll::Ready(Some(Event::Break)),
                    Order::Cut => return Poll::Ready(Some(Event::ClientGone)),
                }
                if let Poll::Ready(read) = reading.as_mut().poll(cx) {
                    return Poll::Ready(Some(Event::Read(read)));
                }
                if watched.is_late() || is_over(until.as_mut(), cx) {
                    return Poll::Ready(Some(Event::Late));
                }
                if watches && let Poll::Ready(read) = ahead.as_mut().poll(cx) {
                    let gone = !matches!(read, Ok(length) if length > 0);
                    return Poll::Ready(gone.then_some(Event::ClientGone));
                }
                Poll::Pending
            });
            if let Some(event) = event.await {
                self.watched.signs.active();
                return event;
            }
        }
    }

    /// Waits until the client goes, or is to.
    async fn await_end(&mut self) {
        loop {
            let Self { stream, bytes, watched, .. } = self;
            let watches = bytes.len() < HEAD_BYTES;
            let mut ahead = pin!(stream.read_buf(bytes));
            let gone = poll_fn(|cx| match watched.order(cx) {
                Order::Go | Order::Finish if watches => {
                    ahead.as_mut().poll(cx).map(|read| !matches!(read, Ok(length) if length > 0))
                }
                Order::Go | Order::Finish => Poll::Pending,
                Order::Break | Order::Cut => Poll::Ready(true),
            });
            if gone.await {
                return;
            }
        }
    }

    /// Writes everything that is to be written; `false`: the client has gone.
    pub(super) async fn flush(&mut self) -> bool {
        let Self { stream, out, watched, .. } = self;
        let mut writing = pin!(async {
            stream.write_all(out).await?;
            stream.flush().await
        });
        let written = poll_fn(|cx| match watched.order(cx) {
            Order::Go | Order::Finish | Order::Break => writing.as_mut().poll(cx).map(Some),
            Order::Cut => Poll::Ready(None),
        });
        let written = matches!(written.await, Some(Ok(())));
        self.out.clear();
        self.watched.signs.active();
        written
    }
}

fn is_over(until: Option<&mut Pin<&mut Sleep>>, cx: &mut Context<'_>) -> bool {
    until.is_some_and(|until| until.as_mut().poll(cx).is_ready())
}

/// A request on its way.
pub(super) struct Talk<'t, S> {
    pub(super) front: &'t mut Front<S>,
    /// Head and body, as an instance gets them.
    pub(super) letter: &'t [u8],
    pub(super) repeatable: bool,
    pub(super) to_head: bool,
    pub(super) cookie: Option<&'t [u8]>,
    /// No request comes after it.
    pub(super) last: bool,
    pub(super) record: &'t mut Record,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Message for Talk<'_, S> {
    type Link = Raw;
    type Answer = (Raw, head::Answer);

    fn is_once(&self) -> bool {
        !self.repeatable
    }

    fn bytes(&self) -> u64 {
        u64::try_from(self.letter.len()).unwrap_or(u64::MAX)
    }

    async fn abandoned(&mut self) {
        self.front.await_end().await;
    }

    fn picked(&mut self, _: &Rc<Worker>, _: &Destination, picked: &Picked, _: bool) {
        self.record.tries(picked);
    }

    async fn link(
        &mut self,
        exchange: &Exchange,
        instance: &Arc<Instance>,
        idle_ms_max: u64,
    ) -> io::Result<(Raw, bool)> {
        let worker = exchange.worker();
        Raw::get(worker, exchange.pool(), instance, self.is_once(), idle_ms_max).await
    }

    async fn send(
        &mut self,
        exchange: &mut Exchange,
        mut raw: Raw,
        limit: Duration,
    ) -> Outcome<Self::Answer> {
        let watched = Rc::clone(&self.front.watched);
        let instance = exchange.instance();
        let _serving = watched.serves(instance, (limit >= EXACT).then(|| now_ms() + ms(limit)));
        let started = Instant::now();
        exchange.goes_out();
        if let Some(failed) = self.write(&mut raw).await {
            return failed;
        }
        let mut until = pin!((limit < EXACT).then(|| sleep(limit)));
        loop {
            match self
                .front
                .await_instance(&mut raw, RELAY_BUFFER, until.as_mut().as_pin_mut())
                .await
            {
                Event::Read(Ok(0) | Err(_)) => return Outcome::Lost(self.repeatable),
                Event::Read(Ok(_)) => {}
                Event::ClientGone => return Outcome::ClientGone,
                Event::Break => return Outcome::Lost(false),
                Event::Late => return Outcome::TimedOut(self.repeatable),
            }
            let date = exchange.worker().date();
            let extra = Extra { date: &date, cookie: self.cookie, close: self.closes(exchange) };
            self.front.out.clear();
            let read = head::read_answer(&raw.bytes, self.to_head, extra, &mut self.front.out);
            match read {
                Ok(Some(answer)) => return Outcome::Answered((raw, answer), started.elapsed()),
                Ok(None) => {}
                Err(head::Malformed) => {
                    self.front.out.clear();
                    return Outcome::Lost(false);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    fn closes(&self, exchange: &Exchange) -> bool {
        self.last || exchange.worker().is_closing()
    }

    /// Writes the letter. Returns how that failed, if it did.
    async fn write(&self, raw: &mut Raw) -> Option<Outcome<(Raw, head::Answer)>> {
        let mut sent = 0;
        while let Some(rest) = self.letter.get(sent..).filter(|rest| !rest.is_empty()) {
            let mut writing = pin!(raw.stream.write(rest));
            let wrote = poll_fn(|cx| match self.front.watched.order(cx) {
                Order::Go | Order::Finish => writing.as_mut().poll(cx).map(Some),
                Order::Break | Order::Cut => Poll::Ready(None),
            });
            match wrote.await {
                Some(Ok(length)) if length > 0 => sent += length,
                Some(Ok(_) | Err(_)) if sent == 0 => return Some(Outcome::Unsent),
                Some(Ok(_) | Err(_)) => return Some(Outcome::Lost(self.repeatable)),
                None => return Some(Outcome::Lost(false)),
            }
        }
        raw.stream.flush().await.is_err().then_some(Outcome::Lost(self.repeatable))
    }
}
