//! The thread that sends spans to a collector, as OTLP over HTTP in JSON: in batches, on one
//! connection at a time, and what cannot be sent is dropped.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use evenkeel_kernel::model::Traces;

use super::Span;
use super::text::{nanos, put, quote};
use crate::limits::{SPANS_BATCH, SPANS_QUEUE};
use crate::log;
use crate::shared::Shared;

/// How long spans are gathered before they are sent together.
const GATHER: Duration = Duration::from_millis(500);
/// Longest wait for the collector, for each step.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is looked at.
const ANSWER_BYTES: u64 = 64 * 1024;
/// Tries to send one batch. Most failures are a collector that restarts.
const TRIES: u32 = 3;
/// Before the second; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a collector listens.
struct Collector {
    host: String,
    path: String,
}

impl Collector {
    /// The stack file has made sure that it is one.
    fn of(url: &str) -> io::Result<Self> {
        let rest = url.strip_prefix("http://").ok_or_else(|| io::Error::other("no http URL"))?;
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if !path.is_empty() => (host, format!("/{path}")),
            Some((host, _)) => (host, "/v1/traces".to_owned()),
            None => (rest, "/v1/traces".to_owned()),
        };
        Ok(Self { host: host.to_owned(), path })
    }

    /// Sends a batch. Whether it may be sent again is the error's kind: `InvalidData` is for good.
    fn send(&self, body: &str) -> io::Result<()> {
        let host = if self.host.rsplit(']').next().is_some_and(|it| it.contains(':')) {
            self.host.clone()
        } else {
            format!("{}:80", self.host)
        };
        let addr = host.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: evenkeel\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.path,
            self.host,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = BufReader::new(stream).take(ANSWER_BYTES);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        match line.split(' ').nth(1).and_then(|it| it.parse::<u16>().ok()) {
            Some(200..=299) => Ok(()),
            // What OTLP says may be tried again.
            Some(status @ (429 | 502 | 503 | 504)) => {
                Err(io::Error::other(format!("it answers {status}")))
            }
            Some(status) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("it answers {status}")))
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Starts to send spans.
pub(super) fn start(
    shared: Arc<Shared>,
    wanted: &Traces,
) -> io::Result<(SyncSender<Box<Span>>, JoinHandle<()>)> {
    let collector = Collector::of(&wanted.to)?;
    let (to, spans) = sync_channel(SPANS_QUEUE);
    let thread = thread::Builder::new().name("traces".to_owned());
    let thread = thread.spawn(move || keep(&shared, &collector, &spans))?;
    Ok((to, thread))
}

/// Sends until nobody tells spans any more.
fn keep(shared: &Shared, collector: &Collector, spans: &Receiver<Box<Span>>) {
    let fate = &shared.telemetry.spans;
    let stack = shared.table.load().source.stack.as_ref().map(ToString::to_string);
    let mut failed = false;
    while let Ok(first) = spans.recv() {
        thread::sleep(GATHER);
        let mut batch = vec![first];
        while batch.len() < SPANS_BATCH
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        match deliver(collector, &encode(&batch, stack.as_deref())) {
            Ok(()) => {
                fate.told(count);
                failed = false;
            }
            Err(error) => {
                fate.dropped(count);
                if !std::mem::replace(&mut failed, true) {
                    let host = &collector.host;
                    log::warn(format_args!("could not send spans to {host}: {error}"));
                }
            }
        }
    }
}

fn deliver(collector: &Collector, body: &str) -> io::Result<()> {
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        match collector.send(body) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData && tries < TRIES => {
                thread::sleep(pause);
                pause *= 2;
                tries += 1;
            }
            sent => return sent,
        }
    }
}

/// A request of OTLP: `ExportTraceServiceRequest` in the JSON of protocol buffers.
fn encode(spans: &[Box<Span>], stack: Option<&str>) -> String {
    let mut out = String::with_capacity(600 * spans.len() + 400);
    out.push_str("{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    let mut resource = Attributes { out: &mut out, first: true };
    resource.text("service.name", "evenkeel-edge");
    resource.text("service.version", env!("CARGO_PKG_VERSION"));
    if let Some(stack) = stack {
        resource.text("service.namespace", stack);
    }
    out.push_str("]},\"scopeSpans\":[{\"scope\":{\"name\":\"evenkeel\"},\"spans\":[");
    for (place, span) in spans.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        one(&mut out, span);
    }
    out.push_str("]}]}]}");
    out
}

fn one(out: &mut String, span: &Span) {
    put(out, format_args!("{{\"traceId\":\"{:032x}\"", span.trace.trace));
    put(out, format_args!(",\"spanId\":\"{:016x}\"", span.trace.span));
    if let Some(parent) = span.trace.parent {
        put(out, format_args!(",\"parentSpanId\":\"{parent:016x}\""));
    }
    out.push_str(",\"name\":");
    let name = match span.route.as_deref().or(span.service.as_deref()) {
        Some(route) => format!("{} {route}", span.method),
        None => span.method.clone(),
    };
    quote(out, &name);
    // Of a server.
    out.push_str(",\"kind\":2");
    let began = nanos(span.began);
    put(out, format_args!(",\"startTimeUnixNano\":\"{began}\""));
    put(out, format_args!(",\"endTimeUnixNano\":\"{}\"", began + span.took.as_nanos()));
    out.push_str(",\"attributes\":[");
    let mut attributes = Attributes { out, first: true };
    attributes.text("http.request.method", &span.method);
    attributes.text("url.scheme", "http");
    attributes.text("url.path", &span.path);
    attributes.text("server.address", &span.host);
    attributes.text("network.protocol.version", span.protocol);
    attributes.number("http.response.status_code", span.status.into());
    attributes.number("http.request.resend_count", span.retries.into());
    for (name, value) in [
        ("evenkeel.route", &span.route),
        ("evenkeel.service", &span.service),
        ("evenkeel.revision", &span.revision),
        ("evenkeel.instance", &span.instance),
        ("error.type", &span.cause),
    ] {
        if let Some(value) = value {
            attributes.text(name, value);
        }
    }
    out.push(']');
    if span.failed {
        out.push_str(",\"status\":{\"code\":2}");
    }
    out.push('}');
}

struct Attributes<'o> {
    out: &'o mut String,
    first: bool,
}

impl Attributes<'_> {
    fn begin(&mut self, name: &str) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(',');
        }
        self.out.push_str("{\"key\":\"");
        self.out.push_str(name);
        self.out.push_str("\",\"value\":{");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.out.push_str("\"stringValue\":");
        quote(self.out, value);
        self.out.push_str("}}");
    }

    /// 64 bits are texts there.
    fn number(&mut self, name: &str, value: u64) {
        self.begin(name);
        put(self.out, format_args!("\"intValue\":\"{value}\"}}}}"));
    }
}
