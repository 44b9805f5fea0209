//! Tests that are done for somebody who registered: a page, or a connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::entry::{Checked, Kind, Status};

/// Bytes of a page that are kept as what a test said.
const OUTPUT_MAX: usize = 4_096;
/// Bytes of a page that are read at most.
const PAGE_MAX: usize = 64 << 10;

/// How often a test is done; `None` when it is not for us to do.
pub(super) fn interval(kind: &Kind) -> Option<Duration> {
    match kind {
        Kind::Ttl(_) => None,
        Kind::Http { interval, .. } | Kind::Tcp { interval, .. } => Some(*interval),
    }
}

/// Does it once.
pub(super) async fn once(kind: &Kind) -> Checked {
    match kind {
        Kind::Ttl(_) => Checked::default(),
        Kind::Tcp { addr, timeout, .. } => {
            let connected = within(*timeout, TcpStream::connect(addr)).await;
            match connected {
                Ok(_stream) => passing(format!("TCP connect {addr}: Success")),
                Err(error) => critical(format!("TCP connect {addr}: {error}")),
            }
        }
        Kind::Http { url, method, timeout, .. } => {
            match within(*timeout, page(url, method)).await {
                Ok((code, text)) => {
                    let output = format!("HTTP {method} {url}: {code} Output: {text}");
                    match code {
                        200..=299 => passing(output),
                        429 => Checked { status: Status::Warning, output },
                        _ => critical(output),
                    }
                }
                Err(error) => critical(format!("HTTP {method} {url}: {error}")),
            }
        }
    }
}

fn passing(output: String) -> Checked {
    Checked { status: Status::Passing, output }
}

fn critical(output: String) -> Checked {
    Checked { status: Status::Critical, output }
}

async fn within<T>(most: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(most, work).await {
        Ok(done) => done,
        Err(_late) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn page(url: &str, method: &str) -> io::Result<(u16, String)> {
    let uri: http::Uri = url.parse().map_err(io::Error::other)?;
    let host = uri.host().ok_or_else(|| io::Error::other("it has no host"))?.to_owned();
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream.await?))
            .await
            .map_err(io::Error::other)?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, uri.authority().map_or(host.as_str(), |it| it.as_str()))
        .header(http::header::USER_AGENT, "evenkeel-discovery")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let driving = Driving(tokio::task::spawn_local(connection).abort_handle());
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let code = answer.status().as_u16();
    // What is too long is a page all the same.
    let body = Limited::new(answer.into_body(), PAGE_MAX).collect().await;
    let bytes = body.map(|it| it.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(..OUTPUT_MAX).unwrap_or(&bytes)).into_owned();
    drop(driving);
    Ok((code, text))
}

/// A connection that is driven as long as this lives.
struct Driving(tokio::task::AbortHandle);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}
