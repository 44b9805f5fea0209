//! One client's connection, from request to request.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use http::Response;
use http::header::CONNECTION;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::frame::Chunks;
use super::head::{self, Client, Framing, Request, Seen};
use super::raw::Raw;
use super::talk::{Event, Front, Talk};
use crate::http::answer::Answer;
use crate::http::connection;
use crate::http::deliver::{Delivered, deliver};
use crate::http::destination::{self, Destination};
use crate::http::exchange::Exchange;
use crate::http::headers::host_of;
use crate::http::payload::is_repeatable;
use crate::http::record::Record;
use crate::http::rewound::Rewound;
use crate::http::verdict::Verdict;
use crate::http::watch::Watched;
use crate::http::worker::{Kind, Place, Worker};
use crate::limits::{CLOSE_WAIT, RELAY_BUFFER, RELAY_BUFFER_LARGE, RELAY_LARGE};
use crate::route::Asked;

/// What begins a connection of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Serves a client's connection to its end, or hands it to hyper.
pub(crate) async fn serve<S>(
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    place: Rc<Place>,
    stream: S,
    peer: IpAddr,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bytes = BytesMut::with_capacity(RELAY_BUFFER);
    let front = Front { stream, bytes, out: Vec::new(), watched };
    let addr = peer.to_canonical().to_string();
    let mut line = Line { worker, place, peer, addr, front, letter: Vec::new() };
    loop {
        match line.step().await {
            Step::Next => {}
            Step::Over => {
                // Whoever reads still gets what was written; there is nobody to tell if not.
                let _closed = timeout(CLOSE_WAIT, line.front.stream.shutdown()).await;
                return;
            }
            Step::ForHyper => break,
        }
    }
    let Line { worker, place, front, .. } = line;
    let multiplexed = front.bytes.starts_with(PREFACE);
    let stream = Rewound::new(front.bytes.freeze(), front.stream);
    connection::serve(worker, front.watched, place, stream, peer, multiplexed).await;
}

/// A client's connection.
struct Line<S> {
    worker: Rc<Worker>,
    place: Rc<Place>,
    peer: IpAddr,
    addr: String,
    front: Front<S>,
    /// The request as an instance gets it.
    letter: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Another request, or more of one.
    Next,
    /// Something that is not plainly simple.
    ForHyper,
    Over,
}

/// What a request comes to before anybody is asked.
enum Way {
    To(Destination),
    Told(Verdict),
    ForHyper,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    async fn step(&mut self) -> Step {
        match head::read(&self.front.bytes) {
            Seen::Other => Step::ForHyper,
            Seen::Unfinished => {
                if !self.front.bytes.is_empty() {
                    self.front.watched.signs.has_begun();
                }
                if self.front.read().await { Step::Next } else { Step::Over }
            }
            Seen::Simple(request) => self.request(&request).await,
        }
    }

    fn client(&self) -> Client<'_> {
        let kind = self.place.kind;
        Client { addr: &self.addr, internal: kind == Kind::Internal, secure: kind == Kind::Tls }
    }

    async fn request(&mut self, request: &Request) -> Step {
        if request.is_special(&self.front.bytes, self.client()) {
            return Step::ForHyper;
        }
        let mut record = Record::plain(&self.worker);
        let destination = match self.way(request, &mut record) {
            Way::ForHyper => {
                record.forget();
                return Step::ForHyper;
            }
            Way::Told(verdict) => {
                let _turn = self.front.watched.begin(None);
                let length = request.length + request.body;
                let whole = self.front.bytes.len() >= length;
                if whole {
                    self.front.bytes.advance(length);
                }
                return self.say(request, verdict, whole, &mut record).await;
            }
            Way::To(destination) => destination,
        };
        let _turn = self.front.watched.begin(None);
        let whole = request.length + request.body;
        while self.front.bytes.len() < whole {
            if !self.front.read().await {
                return Step::Over;
            }
        }
        let mut letter = std::mem::take(&mut self.letter);
        letter.clear();
        request.write(&self.front.bytes, self.client(), &mut letter);
        letter.extend_from_slice(self.front.bytes.get(request.length..whole).unwrap_or_default());
        self.front.bytes.advance(whole);
        let step = self.exchange(request, &destination, &letter, &mut record).await;
        self.letter = letter;
        step
    }

    /// Finds where a request goes.
    fn way(&self, request: &Request, record: &mut Record) -> Way {
        let bytes = &self.front.bytes;
        let shared = &self.worker.shared;
        // Lines and spans want to know more of a request than is kept here.
        if shared.telemetry.sinks().are_open() {
            return Way::ForHyper;
        }
        let header = |name: &str| request.header(bytes, name);
        let host = host_of(request.host(bytes));
        let target = request.target(bytes);
        let asked = Asked { host: &host, target, method: request.method, header: &header };
        let destination = match destination::find(shared, &self.place, &asked, &self.addr) {
            Ok(destination) => destination,
            Err(verdict) => return Way::Told(verdict),
        };
        if destination.needs_a_message(&shared.table.load()) {
            return Way::ForHyper;
        }
        if let Some(target) = destination.route() {
            record.goes_by(target);
        }
        match destination.verdict(&asked, self.peer) {
            Some(verdict) => Way::Told(verdict),
            None => Way::To(destination),
        }
    }

    /// Brings one request to an instance, and its answer back.
    async fn exchange(
        &mut self,
        request: &Request,
        destination: &Destination,
        letter: &[u8],
        record: &mut Record,
    ) -> Step {
        let worker = Rc::clone(&self.worker);
        let mut talk = Talk {
            front: &mut self.front,
            letter,
            repeatable: is_repeatable(request.method),
            to_head: request.method == "HEAD",
            cookie: destination.cookie().map(http::HeaderValue::as_bytes),
            last: request.last,
            record,
        };
        match deliver(&worker, destination, &mut talk).await {
            Ok(Delivered { answer: (raw, answer), after, mut exchange }) => {
                exchange.answered(answer.status, after);
                record.answers(answer.status, None);
                let last = request.last || worker.is_closing();
                match self.relay(raw, &answer, exchange, record).await {
                    true if !last => Step::Next,
                    true | false => Step::Over,
                }
            }
            Err(Some(cause)) => self.say(request, Verdict::Refused(cause), true, record).await,
            Err(None) => Step::Over,
        }
    }

    /// Passes an answer on, whose head stands in what is to be written. Returns whether the client
    /// has got all of it.
    async fn relay(
        &mut self,
        mut raw: Raw,
        answer: &head::Answer,
        mut exchange: Exchange,
        record: &mut Record,
    ) -> bool {
        raw.bytes.advance(answer.length);
        let instance = Arc::clone(exchange.instance());
        let _serving = self.front.watched.serves(&instance, None);
        let mut body = Body::new(answer.framing);
        let large = matches!(answer.framing, Framing::Length(length) if length > RELAY_LARGE);
        let room = if large { RELAY_BUFFER_LARGE } else { RELAY_BUFFER };
        loop {
            let (head, taken) =
                (self.front.out.len(), body.take(&mut raw.bytes, &mut self.front.out));
            record.sends(self.front.out.len() - head);
            let Ok(over) = taken else {
                exchange.broke();
                return false;
            };
            if over {
                // Before the last byte is written: whoever has it may ask again at once.
                exchange.complete();
                if answer.keeps {
                    raw.keep(&self.worker, &instance);
                }
                return self.front.flush().await;
            }
            if !self.front.out.is_empty() && !self.front.flush().await {
                return false;
            }
            match self.front.await_instance(&mut raw, room, None).await {
                Event::Read(Ok(length)) if length > 0 => {}
                Event::Read(Ok(_)) if body.ends_with_the_connection() => body.end(),
                Event::Read(_) | Event::Break | Event::Late => {
                    exchange.broke();
                    return false;
                }
                Event::ClientGone => return false,
            }
        }
    }

    /// Answers a request itself. `whole`: all of it has been read.
    async fn say(
        &mut self,
        request: &Request,
        verdict: Verdict,
        whole: bool,
        record: &mut Record,
    ) -> Step {
        let mut response = Answer::decided(&self.worker, verdict, false, None);
        let text = response.body_mut().take_text().unwrap_or_default();
        record.answers(response.status().as_u16(), None);
        record.sends(text.len());
        let closes = response.headers().contains_key(CONNECTION);
        // The rest of it would be taken for the next one.
        let ends = self.front.watched.is_to_end() || self.worker.is_closing();
        let last = !whole || closes || request.last || ends;
        self.write_own(&response, &text, request.method == "HEAD", last);
        match self.front.flush().await {
            true if !last => Step::Next,
            true | false => Step::Over,
        }
    }

    fn write_own(&mut self, response: &Response<Answer>, text: &[u8], to_head: bool, last: bool) {
        let out = &mut self.front.out;
        out.clear();
        let status = response.status();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        let length = text.len().to_string();
        let date = self.worker.date();
        let headers = response.headers().iter().filter(|(name, _)| *name != CONNECTION);
        let mut lines: Vec<(&str, &[u8])> =
            headers.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        lines.push(("content-length", length.as_bytes()));
        lines.push(("date", date.as_bytes()));
        if last {
            lines.push(("connection", b"close"));
        }
        for (name, value) in lines {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
        }
        out.extend_from_slice(b"\r\n\r\n");
        if !to_head {
            out.extend_from_slice(text);
        }
    }
}

/// The body of an answer, and how far it has come.
enum Body {
    Empty,
    Length(u64),
    Chunked(Chunks),
    /// Until the instance closes; passed on in chunks.
    Close {
        ended: bool,
    },
}

/// The instance's bytes are no body.
struct Broken;

impl Body {
    fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Empty,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks::new()),
            Framing::Close => Self::Close { ended: false },
        }
    }

    fn ends_with_the_connection(&self) -> bool {
        matches!(self, Self::Close { .. })
    }

    fn end(&mut self) {
        if let Self::Close { ended } = self {
            *ended = true;
        }
    }

    /// Takes what there is of it. Returns whether that was the end.
    fn take(&mut self, bytes: &mut BytesMut, out: &mut Vec<u8>) -> Result<bool, Broken> {
        match self {
            Self::Empty => Ok(true),
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = bytes.split_to(bytes.len().min(most));
                *left -= u64::try_from(piece.len()).unwrap_or(0);
                out.extend_from_slice(&piece);
                Ok(*left == 0)
            }
            Self::Chunked(chunks) => {
                let length = chunks.follow(bytes).map_err(|_no_chunk| Broken)?;
                out.extend_from_slice(&bytes.split_to(length));
                Ok(chunks.is_over())
            }
            Self::Close { ended } => {
                let piece = bytes.split();
                if !piece.is_empty() {
                    out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    out.extend_from_slice(&piece);
                    out.extend_from_slice(b"\r\n");
                }
                if *ended {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                Ok(*ended)
            }
        }
    }
}
