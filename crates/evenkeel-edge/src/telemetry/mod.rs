//! What can be seen of the requests: counters for Prometheus, lines for a log, spans for a
//! collector.
//!
//! A request costs a few cells of its own thread. Lines and spans go into bounded queues that
//! threads of their own empty; what does not fit is dropped and counted, and nobody waits.

mod access;
mod disk;
mod export;
pub(crate) mod metrics;
pub(crate) mod requests;
mod serve;
mod text;
pub(crate) mod trace;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use evenkeel_kernel::model::{self, Weight};

pub(crate) use access::Line;
pub(crate) use serve::{is_metrics, run as serve};
pub(crate) use trace::{Span, Trace};

use crate::log;
use crate::shared::Shared;
use requests::Requests;

/// How long the queues may take to be emptied when the edge ends. A collector that hangs is not
/// waited for.
const EMPTIED_WAIT: Duration = Duration::from_secs(2);
/// Between two looks.
const EMPTIED_LOOK: Duration = Duration::from_millis(10);

/// What there is beside the table.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// Requests that no route and no listener leads anywhere.
    pub(crate) nowhere: Requests,
    sinks: ArcSwap<Sinks>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) lines: Fate,
    pub(crate) spans: Fate,
}

/// What became of what was to be told.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    told: AtomicU64,
    dropped: AtomicU64,
}

impl Fate {
    fn told(&self, count: u64) {
        self.told.fetch_add(count, Ordering::Relaxed);
    }

    fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> (u64, u64) {
        (self.told.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

/// Where lines and spans go now.
#[derive(Debug, Default)]
pub(crate) struct Sinks {
    log: Option<Log>,
    traces: Option<Traces>,
}

#[derive(Debug)]
struct Log {
    sample: Weight,
    query: bool,
    to: SyncSender<String>,
}

#[derive(Debug)]
struct Traces {
    sample: Weight,
    to: SyncSender<Box<Span>>,
}

impl Telemetry {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            nowhere: Requests::new(threads),
            sinks: ArcSwap::default(),
            threads: Mutex::default(),
            lines: Fate::default(),
            spans: Fate::default(),
        }
    }

    pub(crate) fn sinks(&self) -> arc_swap::Guard<Arc<Sinks>> {
        self.sinks.load()
    }

    /// Sees that what is in the queues is told, and ends.
    pub(crate) fn end(&self) {
        self.sinks.store(Arc::default());
        let until = Instant::now() + EMPTIED_WAIT;
        let open = || {
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.iter().any(|it| !it.is_finished())
        };
        while open() && Instant::now() < until {
            thread::sleep(EMPTIED_LOOK);
        }
    }

    fn goes_on(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|it| !it.is_finished());
        threads.push(thread);
    }
}

/// Tells what the table wants told, for ever.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut before = model::Telemetry::default();
    loop {
        let table = shared.table.load_full();
        let wanted = &table.source.telemetry;
        if *wanted != before {
            before = wanted.clone();
            // Whoever emptied the former queues ends with them.
            let log = wanted.access_log.as_ref().and_then(|it| {
                let (to, thread) = started("access log", disk::start(Arc::clone(&shared), it))?;
                shared.telemetry.goes_on(thread);
                Some(Log { sample: it.sample, query: it.query, to })
            });
            let traces = wanted.traces.as_ref().and_then(|it| {
                let (to, thread) = started("traces", export::start(Arc::clone(&shared), it))?;
                shared.telemetry.goes_on(thread);
                Some(Traces { sample: it.sample, to })
            });
            shared.telemetry.sinks.store(Arc::new(Sinks { log, traces }));
        }
        shared.retell.notified().await;
    }
}

fn started<T>(what: &str, sink: std::io::Result<T>) -> Option<T> {
    sink.inspect_err(|error| log::error(format_args!("no {what}: {error}"))).ok()
}

impl Sinks {
    /// Whether anything is told.
    pub(crate) fn are_open(&self) -> bool {
        self.log.is_some() || self.traces.is_some()
    }

    /// The trace of a request that came with these headers, if spans are wanted at all.
    pub(crate) fn trace(&self, headers: &http::HeaderMap) -> Option<Trace> {
        let traces = self.traces.as_ref()?;
        Some(Trace::of(headers, || drawn(traces.sample)))
    }

    /// Whether lines hold the query; `None` where there is no line of a request that ended so.
    pub(crate) fn wants_line(&self, failed: bool) -> Option<bool> {
        let log = self.log.as_ref()?;
        (failed || drawn(log.sample)).then_some(log.query)
    }

    pub(crate) fn tell_line(&self, fate: &Fate, line: String) {
        if let Some(log) = &self.log
            && log.to.try_send(line).is_err()
        {
            fate.dropped(1);
        }
    }

    pub(crate) fn tell_span(&self, fate: &Fate, span: Box<Span>) {
        if let Some(traces) = &self.traces
            && traces.to.try_send(span).is_err()
        {
            fate.dropped(1);
        }
    }
}

fn drawn(part: Weight) -> bool {
    part >= Weight::ALL || fastrand::u16(..Weight::ALL.0) < part.0
}
