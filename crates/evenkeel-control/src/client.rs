//! The API's client: what the command line speaks to control with.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use evenkeel_kernel::layout;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::types::{Event, Failure};

/// The largest answer: a status of ten thousand instances.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Time between two tries to reach a control that is restarting.
const RETRY: Duration = Duration::from_millis(20);

/// Why control did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Control does not run, or is just restarting.
    #[error("could not reach control at {}", .socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It refused.
    #[error("{}", .0.error)]
    Refused(Failure),
    /// The answer was cut off, or is not an answer.
    #[error("could not understand control's answer")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A way to control. Every request is a connection of its own, so a control that was restarted in
/// between does no harm.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
    answer_max: Duration,
}

/// How long an answer may take. A control that is alive answers in milliseconds; one that was
/// stopped, or whose disk hangs, does not answer at all.
const ANSWER_MAX: Duration = Duration::from_secs(20);

impl Client {
    /// The control of `home`.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        let socket = home.join(layout::CONTROL_SOCKET);
        Self { socket, patience: Duration::ZERO, answer_max: ANSWER_MAX }
    }

    /// Waits so long for a control that cannot be reached: somebody is about to restart it.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Waits so long for an answer, where what is asked for takes its time.
    #[must_use]
    pub fn unhurried(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    /// Asks for `path`.
    ///
    /// # Errors
    ///
    /// When control cannot be reached, refuses, or its answer cannot be understood.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.send(Method::GET, path, Bytes::new()).await {
                // A question that died with its control is asked again.
                Err(CallError::Broken(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CallError> {
        let text = serde_json::to_vec(body).map_err(broken)?;
        self.send(Method::POST, path, Bytes::from(text)).await
    }

    /// Follows the journal from after `after`; calls `each` with every entry until it says that it
    /// has had enough, or control ends.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub async fn follow(
        &self,
        after: u64,
        mut each: impl FnMut(Event) -> bool,
    ) -> Result<(), CallError> {
        let path = format!("/v1/events?after={after}");
        let response = self.respond(Method::GET, &path, Bytes::new()).await?;
        let mut body = response.into_body();
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            text.push_str(&String::from_utf8_lossy(&data));
            while let Some(end) = text.find('\n') {
                let line: String = text.drain(..=end).collect();
                let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
                if !each(serde_json::from_str(data).map_err(broken)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let exchange = self.exchange(method, path, body);
        tokio::time::timeout(self.answer_max, exchange).await.unwrap_or_else(|_late| {
            let waited = self.answer_max.as_secs();
            Err(broken(format!("it did not come within {waited} s; is the process stopped?")))
        })
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let response = self.respond(method, path, body).await?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(CallError::Broken)?
            .to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes).map_err(broken);
        }
        let failure = serde_json::from_slice(&bytes).unwrap_or_else(|_error| Failure {
            error: format!("control answered {status}: {}", String::from_utf8_lossy(&bytes)),
            hint: None,
            problems: Vec::new(),
        });
        Err(CallError::Refused(failure))
    }

    async fn respond(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<hyper::body::Incoming>, CallError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with the exchange; its error reaches the exchange as well.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "evenkeel")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn connect(&self) -> Result<UnixStream, CallError> {
        let deadline = Instant::now() + self.patience;
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(_away) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Err(source) => {
                    return Err(CallError::Unreachable { socket: self.socket.clone(), source });
                }
            }
        }
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
    CallError::Broken(error.into())
}
