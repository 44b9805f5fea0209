//! What is remembered of one request, to be counted and told when it has ended.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use super::headers;
use super::worker::Worker;
use crate::instance::Instance;
use crate::pick::Picked;
use crate::route::Target;
use crate::table::Pool;
use crate::telemetry::{Line, Span, Trace};

/// One request, from its head to the last byte of its answer. What it came to is told when this is
/// dropped.
pub(crate) struct Record {
    worker: Rc<Worker>,
    began: Instant,
    /// What it asked for; kept only where lines or spans are wanted.
    asked: Option<Box<Asked>>,
    target: Option<Arc<Target>>,
    pool: Option<Arc<Pool>>,
    instance: Option<Arc<Instance>>,
    tries: u32,
    first_byte: Option<Duration>,
    status: u16,
    cause: Option<HeaderValue>,
    bytes: u64,
    forgotten: bool,
}

/// What a request asked for, and for whom.
struct Asked {
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
    client: HeaderValue,
    trace: Option<Trace>,
}

impl Record {
    /// A request has come, of which only numbers are wanted.
    pub(crate) fn plain(worker: &Rc<Worker>) -> Self {
        Self {
            worker: Rc::clone(worker),
            began: Instant::now(),
            asked: None,
            target: None,
            pool: None,
            instance: None,
            tries: 0,
            first_byte: None,
            status: 0,
            cause: None,
            bytes: 0,
            forgotten: false,
        }
    }

    /// A request has come.
    pub(crate) fn begin<B>(
        worker: &Rc<Worker>,
        request: &Request<B>,
        client: &HeaderValue,
    ) -> Self {
        let sinks = worker.shared.telemetry.sinks();
        let asked = sinks.are_open().then(|| {
            let host = request.headers().get(HOST).cloned().or_else(|| {
                // HTTP/2 says it elsewhere.
                HeaderValue::from_str(request.uri().authority()?.as_str()).ok()
            });
            Box::new(Asked {
                method: request.method().clone(),
                uri: request.uri().clone(),
                host,
                version: request.version(),
                client: client.clone(),
                trace: sinks.trace(request.headers()),
            })
        });
        let mut record = Self::plain(worker);
        record.asked = asked;
        record
    }

    /// It is not to be counted: somebody else does that.
    pub(crate) fn forget(mut self) {
        self.forgotten = true;
    }

    /// This is its route.
    pub(crate) fn goes_by(&mut self, target: &Arc<Target>) {
        self.target = Some(Arc::clone(target));
    }

    /// Tells the instance whose trace it is.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if let Some(trace) = self.asked.as_ref().and_then(|asked| asked.trace.as_ref()) {
            trace.put(headers);
        }
    }

    /// An instance is asked.
    pub(crate) fn tries(&mut self, picked: &Picked) {
        self.pool = Some(Arc::clone(&picked.pool));
        self.instance = Some(Arc::clone(picked.claim.instance()));
        self.tries += 1;
    }

    /// The answer begins with this status; the edge's own say why.
    pub(crate) fn answers(&mut self, status: u16, cause: Option<&HeaderValue>) {
        self.status = status;
        self.cause = cause.cloned();
        self.first_byte.get_or_insert_with(|| self.began.elapsed());
    }

    /// So many bytes of a body went out.
    pub(crate) fn sends(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn tell(&self, asked: &Asked, took: Duration) {
        let telemetry = &self.worker.shared.telemetry;
        let sinks = telemetry.sinks();
        let failed = self.status >= 500 || self.status == 0;
        let began = SystemTime::now() - took;
        let text = |value: &Option<HeaderValue>| -> String {
            let value = value.as_ref().and_then(|it| it.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let host = headers::host_name(asked.host.as_ref());
        let pool = self.pool.as_ref().map(|pool| &pool.id);
        let route = self.target.as_ref().map(|it| it.source.name.to_string());
        let service = pool.map(|it| it.service.to_string());
        let revision = pool.map(|it| it.revision.to_string());
        let instance = self.instance.as_ref().map(|it| it.id.to_string());
        let cause = self.cause.as_ref().map(|_| text(&self.cause));
        let retries = self.tries.saturating_sub(1);
        if let Some(query) = sinks.wants_line(failed) {
            let line = Line {
                began,
                took,
                first_byte: self.first_byte,
                client: asked.client.to_str().unwrap_or_default(),
                protocol: asked.protocol(),
                method: asked.method.as_str(),
                host: &host,
                path: asked.uri.path(),
                query: asked.uri.query().filter(|_| query),
                status: self.status,
                bytes: self.bytes,
                route: route.as_deref(),
                service: service.as_deref(),
                revision: revision.as_deref(),
                instance: instance.as_deref(),
                retries,
                cause: cause.as_deref(),
                trace: asked.trace,
            };
            sinks.tell_line(&telemetry.lines, line.write());
        }
        if let Some(trace) = asked.trace.filter(|trace| trace.sampled) {
            let span = Span {
                trace,
                began,
                took,
                method: asked.method.as_str().to_owned(),
                path: asked.uri.path().to_owned(),
                host: host.into_owned(),
                protocol: asked.protocol(),
                status: self.status,
                failed,
                route,
                service,
                revision,
                instance,
                retries,
                cause,
            };
            sinks.tell_span(&telemetry.spans, Box::new(span));
        }
    }
}

impl Asked {
    fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.forgotten {
            return;
        }
        let took = self.began.elapsed();
        let shared = &self.worker.shared;
        let requests = match (&self.target, &self.pool) {
            (Some(target), pool) => target.requests.of(pool.as_ref().map(|it| &it.id)),
            (None, Some(pool)) => &pool.inside,
            (None, None) => &shared.telemetry.nowhere,
        };
        requests.ended(self.worker.index, self.status, took, self.bytes);
        if let Some(asked) = &self.asked {
            self.tell(asked, took);
        }
    }
}
