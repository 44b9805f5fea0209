//! `evenkeel example web|catalog`: the two services of the example stack, as small HTTP/1.1
//! servers that do what is expected of an instance: listen on `$PORT`, answer `/healthz`, finish
//! what they have begun when they are told to end.
//!
//! Variables make them misbehave: `FAIL_HEALTH`, `CRASH_AFTER`, `DELAY_MS`. `SHAPE` says for which shape
//! of the database the code is that takes orders: after how many of the demo's migrations.

mod catalog;
mod client;
mod feed;
mod orders;
mod web;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use crate::exit::Exit;
pub(super) use catalog::PROTOCOL;
use feed::Reply;
pub(super) use feed::{LINES, line};

/// The header in which every answer says which version gave it.
pub(super) const VERSION: &str = "x-version";

/// What both services have in common.
#[derive(Debug)]
struct Manners {
    version: String,
    fail_health: bool,
    crash_after: Option<u64>,
    delay: Duration,
    /// Requests so far, health checks not counted.
    requests: Cell<u64>,
}

/// One of the services.
#[derive(Debug)]
enum App {
    Web(web::Web),
    Catalog,
}

#[derive(Debug)]
struct Service {
    manners: Manners,
    app: App,
    /// Upgraded connections.
    talks: RefCell<JoinSet<()>>,
}

/// Runs a service until it is told to end.
pub(super) fn run(name: &str) -> anyhow::Result<Exit> {
    let app = match name {
        "web" => App::Web(web::Web::from_env()?),
        "catalog" => App::Catalog,
        _ => bail!("there is no example {name:?}; there are web and catalog"),
    };
    let port: u16 = number("PORT")?.context("PORT is not set")?;
    let service =
        Rc::new(Service { manners: Manners::from_env()?, app, talks: RefCell::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(port, service))?;
    Ok(Exit::Done)
}

impl Manners {
    fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            version: std::env::var("VERSION").unwrap_or_else(|_unset| "1".to_owned()),
            fail_health: std::env::var_os("FAIL_HEALTH").is_some(),
            crash_after: number("CRASH_AFTER")?,
            delay: Duration::from_millis(number("DELAY_MS")?.unwrap_or_default()),
            requests: Cell::new(0),
        })
    }

    /// Counts a request, and dies if it is the one to die of: before anything is answered.
    fn count(&self) {
        self.requests.set(self.requests.get() + 1);
        if self.crash_after.is_some_and(|most| self.requests.get() >= most) {
            // Nobody wants to read the core of a crash on purpose.
            setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
            std::process::abort();
        }
    }
}

/// The number in an environment variable.
fn number<T: std::str::FromStr>(name: &str) -> anyhow::Result<Option<T>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => bail!("{name}={text} is not a number"),
    }
}

async fn serve(port: u16, service: Rc<Service>) -> anyhow::Result<()> {
    let mut told = signal(SignalKind::terminate()).context("could not listen for signals")?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .with_context(|| format!("could not listen on port {port}"))?;
    let (ending, end) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let service = Rc::clone(&service);
                    connections.spawn_local(connection(stream, service, end.clone()));
                }
                // Out of descriptors, most likely: they come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => service.collect(),
            _ = told.recv() => break,
        }
    }
    drop(listener);
    ending.send_replace(true);
    // The stack's grace is the bound.
    while connections.join_next().await.is_some() {}
    let mut talks = service.talks.take();
    while talks.join_next().await.is_some() {}
    Ok(())
}

async fn connection(stream: TcpStream, service: Rc<Service>, mut end: watch::Receiver<bool>) {
    drop(stream.set_nodelay(true));
    let answer = service_fn(move |request| {
        let service = Rc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new().serve_connection(TokioIo::new(stream), answer).with_upgrades()
    );
    tokio::select! {
        // A client that went away is no news.
        _ = connection.as_mut() => return,
        _ = end.wait_for(|ending| *ending) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

impl Service {
    /// Forgets the talks that have ended.
    fn collect(&self) {
        while self.talks.borrow_mut().try_join_next().is_some() {}
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Reply> {
        let mut response = if request.uri().path() == "/healthz" {
            match self.manners.fail_health {
                true => text(StatusCode::SERVICE_UNAVAILABLE, "not well"),
                false => text(StatusCode::OK, "well"),
            }
        } else {
            self.manners.count();
            tokio::time::sleep(self.manners.delay).await;
            match &self.app {
                App::Web(web) => web.answer(&self.manners.version, request).await,
                App::Catalog => {
                    catalog::answer(&self.manners.version, &mut request, &self.talks).await
                }
            }
        };
        if let Ok(version) = self.manners.version.parse() {
            response.headers_mut().insert(VERSION, version);
        }
        response
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Reply> {
    whole(status, Bytes::from_static(text.as_bytes()))
}

fn json(value: &impl Serialize) -> Response<Reply> {
    match serde_json::to_vec(value) {
        Ok(bytes) => whole(StatusCode::OK, Bytes::from(bytes)),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "could not write the answer"),
    }
}

fn whole(status: StatusCode, bytes: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Full::new(bytes)));
    *response.status_mut() = status;
    response
}
