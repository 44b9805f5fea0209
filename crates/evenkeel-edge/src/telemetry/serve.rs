//! The door for Prometheus: `GET /metrics`, one answer for each connection. It runs beside the
//! probes, so it answers whoever else is dead.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::layout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::metrics;
use crate::limits::METRICS_CONNECTIONS;
use crate::log;
use crate::shared::Shared;

/// Longest head of a request that is read.
const HEAD_BYTES: usize = 8 * 1024;
/// Longest time for one scrape: Prometheus gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    shared.succession.opened().await;
    let mut listeners = shared.listeners.subscribe();
    let places = Arc::new(Semaphore::new(METRICS_CONNECTIONS));
    let mut open: BTreeMap<String, (Arc<OwnedFd>, AbortHandle)> = BTreeMap::new();
    loop {
        let wanted = listeners.borrow_and_update().clone();
        open.retain(|name, (socket, task)| {
            let keep = wanted.get(name).is_some_and(|it| Arc::ptr_eq(&it.socket, socket));
            if !keep {
                task.abort();
            }
            keep
        });
        for (name, listener) in wanted.iter().filter(|(name, _)| is_metrics(name)) {
            if open.contains_key(name) {
                continue;
            }
            match socket(&listener.socket) {
                Ok(socket) => {
                    let accepting = accept(Arc::clone(&shared), socket, Arc::clone(&places));
                    let task = tokio::task::spawn_local(accepting).abort_handle();
                    open.insert(name.clone(), (Arc::clone(&listener.socket), task));
                }
                Err(error) => {
                    log::error(format_args!("no metrics on {}: {error}", listener.addr));
                }
            }
        }
        if listeners.changed().await.is_err() {
            return;
        }
    }
}

/// Whether the listener of this name is for metrics, so that no request comes in by it.
pub(crate) fn is_metrics(listener: &str) -> bool {
    listener.starts_with(layout::METRICS_LISTENERS)
}

fn socket(shared: &OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(shared.try_clone()?);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, places: Arc<Semaphore>) {
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // Whoever scrapes comes again.
                    let _failed = timeout(PATIENCE, answer(&shared, stream)).await;
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn answer(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", metrics::page(shared)),
        ("GET" | "HEAD", _) => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        (_, _) => ("405 Method Not Allowed", "metrics are only read\n".to_owned()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: \
         close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}
