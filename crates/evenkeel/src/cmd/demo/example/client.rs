//! The way of one service to another: kept connections, and one more try on a new one when a kept
//! one turns out to be closed.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Connections kept for the next request.
const KEPT_MAX: usize = 32;

type Sender = SendRequest<Empty<Bytes>>;

#[derive(Debug)]
pub(super) struct Client {
    authority: String,
    kept: RefCell<Vec<Sender>>,
}

impl Client {
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is not an address"))?;
        let authority = uri.authority().with_context(|| format!("{url} names no host"))?;
        Ok(Self { authority: authority.to_string(), kept: RefCell::default() })
    }

    /// Asks for `path`.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        timeout(ANSWER_MAX, self.ask(path)).await.context("it took too long")?
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Bytes> {
        let kept = self.kept.borrow_mut().pop();
        if let Some(sender) = kept
            && let Ok(bytes) = self.exchange(sender, path).await
        {
            return Ok(bytes);
        }
        let stream = TcpStream::connect(&self.authority).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its error reaches the exchange as well.
        tokio::task::spawn_local(async move { drop(connection.await) });
        self.exchange(sender, path).await
    }

    async fn exchange(&self, mut sender: Sender, path: &str) -> anyhow::Result<Bytes> {
        sender.ready().await?;
        let request =
            Request::get(path).header(http::header::HOST, &self.authority).body(Empty::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let Ok(body) = body else { bail!("the answer was cut off") };
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(sender);
        }
        if status != StatusCode::OK {
            bail!("it answered {status}");
        }
        Ok(body.to_bytes())
    }
}
