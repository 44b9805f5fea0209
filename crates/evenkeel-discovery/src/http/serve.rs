//! The server: connections, what is done for a path, and who waits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{self, Answer, Wrong};
use super::consul;
use super::query::{Query, accepts_events, segments};
use super::{events, own};
use crate::catalog::Catalog;
use crate::hub::{Hub, Interest};
use crate::readers::{Readers, Watching};
use crate::registry::Desk;

/// Between two looks whether there is room, or whether accepting works again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a request's head may take.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept open for one request more when the end has come.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a request's head, and of its body.
const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 64 << 10;
/// Answers that are kept for others who ask for the same, and their bytes.
const KEPT_MAX: usize = 512;
const KEPT_BYTES_MAX: usize = 32 << 20;

/// How many connections there are, over all listeners, and who waits for none.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    count: Cell<usize>,
    fewer: Notify,
    end: Notify,
}

impl Counted {
    /// Lets every connection end after what it does now.
    pub(crate) fn end(&self) {
        self.end.notify_waiters();
    }

    /// Counts one more, as long as the place lives.
    pub(crate) fn enter(self: &Rc<Self>) -> Place {
        Place::take(self)
    }

    /// Waits until the end has come.
    pub(crate) async fn ended(&self) {
        self.end.notified().await;
    }

    /// Waits until there is none.
    pub(crate) async fn emptied(&self) {
        while self.count.get() > 0 {
            self.fewer.notified().await;
        }
    }
}

/// A connection's place among the counted.
pub(crate) struct Place(Rc<Counted>);

impl Place {
    fn take(counted: &Rc<Counted>) -> Self {
        counted.count.set(counted.count.get() + 1);
        Self(Rc::clone(counted))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get().saturating_sub(1));
        self.0.fewer.notify_one();
    }
}

/// Serves for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    server: Server,
    counted: Rc<Counted>,
    most: usize,
) {
    let server = Rc::new(server);
    loop {
        while counted.count.get() >= most {
            sleep(PAUSE).await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let place = counted.enter();
        tokio::task::spawn_local(talk(stream, Rc::clone(&server), place));
    }
}

async fn talk(stream: TcpStream, server: Rc<Server>, place: Place) {
    // Small answers should not wait for one another.
    let _set = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD_MAX);
    let service = service_fn(|request| {
        let server = Rc::clone(&server);
        async move {
            let mut answer = server.answer(request).await;
            if server.hub.is_ending() {
                let close = http::HeaderValue::from_static("close");
                answer.headers_mut().insert(http::header::CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut end = std::pin::pin!(place.0.ended());
    tokio::select! {
        // A client that breaks off is no news.
        _done = &mut connection => {}
        () = &mut end => {
            // One that is idle may have a request on its way: it is answered, and with the answer
            // it is told that the connection ends.
            if timeout(LINGER, &mut connection).await.is_err() {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }
}

/// What is asked, of which everybody sees the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Directory,
    Service(String),
    Targets,
    Consul(consul::Page),
}

impl Page {
    fn interest(&self) -> Interest<'_> {
        match self {
            Self::Directory | Self::Targets => Interest::Any,
            Self::Service(name) => Interest::Service(name),
            Self::Consul(page) => page.interest(),
        }
    }

    fn write(&self, catalog: &Catalog, query: &Query, index: u64) -> Result<Bytes, Wrong> {
        let pretty = query.flag("pretty");
        match self {
            Self::Directory => Ok(answer::value(&own::directory(catalog, index), pretty)),
            Self::Service(name) => match own::service(catalog, name) {
                Some(service) => Ok(answer::value(&service, pretty)),
                None => {
                    let words = format!("there is no service `{name}`");
                    Err((StatusCode::NOT_FOUND, words))
                }
            },
            Self::Targets => {
                let only: Vec<&str> = query.all("service").collect();
                Ok(answer::value(&own::targets(catalog, &only), pretty))
            }
            Self::Consul(page) => page.write(catalog, query, index),
        }
    }
}

/// What answers.
pub(crate) struct Server {
    hub: Rc<Hub>,
    desk: Rc<Desk>,
    readers: Rc<Readers>,
    kept: RefCell<Kept>,
}

/// Answers by what was asked, as long as their index holds: a thousand may wait for the same.
#[derive(Default)]
struct Kept {
    answers: HashMap<String, (u64, Bytes)>,
    bytes: usize,
}

impl Kept {
    fn get(&self, asked: &str, index: u64) -> Option<Bytes> {
        let (since, bytes) = self.answers.get(asked)?;
        (*since == index).then(|| bytes.clone())
    }

    fn put(&mut self, asked: String, index: u64, bytes: Bytes) {
        if self.answers.len() >= KEPT_MAX || self.bytes + bytes.len() > KEPT_BYTES_MAX {
            self.answers.clear();
            self.bytes = 0;
        }
        self.bytes += bytes.len();
        if let Some((_, before)) = self.answers.insert(asked, (index, bytes)) {
            self.bytes = self.bytes.saturating_sub(before.len());
        }
    }
}

impl Server {
    pub(crate) fn new(hub: Rc<Hub>, desk: Rc<Desk>, readers: Rc<Readers>) -> Self {
        Self { hub, desk, readers, kept: RefCell::default() }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let query = Query::read(head.uri.query().unwrap_or_default());
        let segments = segments(head.uri.path());
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (&head.method, path.as_slice()) {
            (&Method::GET | &Method::HEAD, ["v1", "directory", "events"]) => {
                let only = query.get("service").map(str::to_owned);
                self.events(only)
            }
            (&Method::GET, ["v1", "directory"]) if accepts_events(&head.headers) => {
                self.events(None)
            }
            (&Method::GET | &Method::HEAD, path) => match page(path) {
                Some(page) => self.page(&page, path, &query).await,
                None => nothing(path),
            },
            (&Method::PUT, ["v1", "agent", path @ ..]) => {
                match Limited::new(body, BODY_MAX).collect().await {
                    Ok(body) => consul::order(&self.desk, path, &query, &body.to_bytes()).await,
                    Err(_) => {
                        let words = format!("a body has at most {BODY_MAX} bytes");
                        answer::words(StatusCode::PAYLOAD_TOO_LARGE, words)
                    }
                }
            }
            // Whatever a browser may send without asking first is not taken.
            (_, ["v1", "agent", ..]) => {
                answer::words(StatusCode::METHOD_NOT_ALLOWED, "there are only GET and PUT here")
            }
            (_, path) if page(path).is_some() => {
                answer::words(StatusCode::METHOD_NOT_ALLOWED, "there is only GET here")
            }
            (_, path) => nothing(path),
        }
    }

    fn events(&self, only: Option<String>) -> Answer {
        let interest = only.as_deref().map_or(Interest::Any, Interest::Service);
        let watching = self.readers.watch(interest);
        events::stream(Rc::clone(&self.hub), only, watching)
    }

    /// Answers with a page, once it is another than the one that is known.
    async fn page(&self, page: &Page, path: &[&str], query: &Query) -> Answer {
        let interest = page.interest();
        let _watching = self.watch(page, query);
        if let Some((known, wait)) = query.blocking() {
            self.hub.wait(interest, known, Instant::now() + wait).await;
        }
        let (catalog, index): (Arc<Catalog>, _) = (self.hub.now(), self.hub.index(interest));
        if query.get("dc").is_some_and(|dc| !dc.is_empty() && dc != catalog.stack()) {
            return answer::words(StatusCode::INTERNAL_SERVER_ERROR, "No path to datacenter");
        }
        let asked = self.key(path, query);
        let kept = self.kept.borrow().get(&asked, index);
        let body = match kept {
            Some(body) => Ok(body),
            None => page.write(&catalog, query, index).inspect(|body| {
                self.kept.borrow_mut().put(asked, index, body.clone());
            }),
        };
        let answer = body.map_or_else(|(status, words)| answer::words(status, words), answer::json);
        answer::index(answer, index)
    }

    /// Notes who reads, as long as it waits.
    fn watch(&self, page: &Page, query: &Query) -> Vec<Watching> {
        let watch = |interest| self.readers.watch(interest);
        match page {
            Page::Targets if query.get("service").is_some() => {
                query.all("service").map(|name| watch(Interest::Service(name))).collect()
            }
            Page::Directory | Page::Service(_) | Page::Targets | Page::Consul(_) => {
                vec![watch(page.interest())]
            }
        }
    }

    /// What an answer hangs on beside the index.
    fn key(&self, path: &[&str], query: &Query) -> String {
        let mut key = path.join("/");
        for name in ["tag", "passing", "filter", "pretty", "service"] {
            for value in query.all(name) {
                key.push('\0');
                key.push_str(name);
                key.push('=');
                key.push_str(value);
            }
        }
        key
    }
}

fn page(path: &[&str]) -> Option<Page> {
    match path {
        ["v1", "directory"] => Some(Page::Directory),
        ["v1", "directory", name] => Some(Page::Service((*name).to_owned())),
        ["v1", "http_sd"] => Some(Page::Targets),
        ["v1", rest @ ..] => consul::Page::of(rest).map(Page::Consul),
        _ => None,
    }
}

fn nothing(path: &[&str]) -> Answer {
    // A key that is not there is nothing, in Consul's words.
    let words = if path.starts_with(&["v1", "kv"]) { "" } else { "there is nothing here\n" };
    answer::words(StatusCode::NOT_FOUND, words)
}
