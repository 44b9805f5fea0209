//! Load by gRPC and by WebSocket, in a process of its own: everyone who asks waits for the answer
//! before the next question. What it comes to is one line of JSON.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::echo::{HEAD, MASK, PAYLOAD, frame, head};
use super::peer::HOST;

/// Connections by gRPC, and calls at a time on each.
const CONNECTIONS: usize = 64;
const CALLS: usize = 4;
/// WebSockets that are open.
pub(super) const WEBSOCKETS: usize = 1_000;
/// How long all may take to be there.
const CONNECT_WAIT: Duration = Duration::from_secs(20);
/// How long it warms up.
const WARM_UP: Duration = Duration::from_secs(1);
/// What a call carries: a message of 128 bytes, and before it that it is not compressed and its length.
const CALL: [u8; 133] = {
    let mut call = [b'x'; 133];
    (call[0], call[1], call[2], call[3], call[4]) = (0, 0, 0, 0, 128);
    call
};

/// How long each answer took, in microseconds, and why those failed that did.
#[derive(Debug, Default)]
struct Tally {
    took: Vec<f64>,
    failed: Vec<String>,
}

type Shared = Arc<Mutex<Tally>>;

/// Who asks: one stream of calls, or one WebSocket.
enum Asker {
    Calls(SendRequest<Bytes>),
    Messages(TcpStream),
}

impl Asker {
    async fn ask(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Calls(client) => call(client).await,
            Self::Messages(stream) => message(stream).await,
        }
    }
}

/// Connects and warms up, says so, waits for a line, and asks for so many seconds.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<bool> {
    let [what, addr, seconds] = words else { bail!("not meant for people") };
    let (addr, seconds) = (addr.parse()?, seconds.parse().map(Duration::from_secs)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connections = if *what == "grpc" { CONNECTIONS } else { WEBSOCKETS };
        let mut askers = tokio::time::timeout(CONNECT_WAIT, connect(what, addr, connections))
            .await
            .context("not everyone was let in")??;
        let warm = for_a_while(&mut askers, WARM_UP).await;
        println!("{}", json!({ "failed": warm.failed.len(), "first": warm.failed.first() }));
        let _line = std::io::stdin().lock().read_line(&mut String::new())?;
        let mut tally = for_a_while(&mut askers, seconds).await;
        tally.took.sort_by(f64::total_cmp);
        let p99 = tally.took.get(tally.took.len() * 99 / 100).copied().unwrap_or(0.0);
        println!(
            "{}",
            json!({ "good": tally.took.len(), "p99_ms": p99 / 1_000.0,
                "failed": tally.failed.len(), "first": tally.failed.first() })
        );
        // Whoever measures looks at the proxy before its connections end.
        let _line = std::io::stdin().lock().read_line(&mut String::new())?;
        Ok(true)
    })
}

async fn connect(what: &str, addr: SocketAddr, connections: usize) -> anyhow::Result<Vec<Asker>> {
    let mut askers = Vec::new();
    match what {
        "grpc" => {
            for _ in 0..connections {
                let stream = TcpStream::connect(addr).await?;
                stream.set_nodelay(true)?;
                let (client, connection) = h2::client::handshake(stream).await?;
                // Its end is seen by the calls on it.
                tokio::spawn(connection);
                askers.extend((0..CALLS).map(|_| Asker::Calls(client.clone())));
            }
        }
        "websocket" => {
            for _ in 0..connections {
                askers.push(Asker::Messages(open(addr).await?));
            }
        }
        _ => bail!("there is no load by {what}"),
    }
    Ok(askers)
}

/// All ask until the time is over, and come back.
async fn for_a_while(askers: &mut Vec<Asker>, time: Duration) -> Tally {
    let tally = Shared::default();
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for mut asker in askers.drain(..) {
        let tally = Arc::clone(&tally);
        running.spawn(async move {
            while Instant::now() < until {
                let began = Instant::now();
                let asked = asker.ask().await;
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                match asked {
                    Ok(()) => tally.took.push(began.elapsed().as_secs_f64() * 1e6),
                    Err(error) => {
                        tally.failed.push(format!("{error:#}"));
                        return None;
                    }
                }
            }
            Some(asker)
        });
    }
    askers.extend(running.join_all().await.into_iter().flatten());
    std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One call; good if it gives back what it got and says that it is well.
async fn call(client: &mut SendRequest<Bytes>) -> anyhow::Result<()> {
    std::future::poll_fn(|context| client.poll_ready(context)).await?;
    let request = Request::post(format!("http://{HOST}/bench.Bench/Echo"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut sends) = client.send_request(request, false)?;
    sends.send_data(Bytes::from_static(&CALL), true)?;
    let answer = answer.await?;
    let status = answer.status();
    let mut body = answer.into_body();
    let mut length = 0;
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        length += part.len();
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let grpc = trailers.get("grpc-status").map(|it| it.as_bytes().to_vec());
    ensure!(grpc.as_deref() == Some(b"0"), "HTTP status {status}, gRPC status {grpc:?}");
    ensure!(length == CALL.len(), "{length} bytes came back");
    Ok(())
}

/// Opens a WebSocket.
async fn open(addr: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let asks = format!(
        "GET /ws HTTP/1.1\r\nhost: {HOST}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(asks.as_bytes()).await?;
    let answer = head(&mut stream).await?;
    ensure!(answer.starts_with("HTTP/1.1 101"), "there is no WebSocket: {answer}");
    Ok(stream)
}

/// One message there and back.
async fn message(stream: &mut TcpStream) -> anyhow::Result<()> {
    let payload = [b'x'; PAYLOAD];
    stream.write_all(&frame(&payload, &[0; MASK])).await?;
    let mut got = [0; HEAD + PAYLOAD];
    stream.read_exact(&mut got).await?;
    ensure!(got.as_slice() == frame(&payload, &[]), "another message came back");
    Ok(())
}

/// The load as a process on processor 1, ended when it is dropped.
#[derive(Debug)]
pub(super) struct Load {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a run of it came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) good: f64,
    pub(super) p99_ms: f64,
}

impl Load {
    /// Starts it, and waits until it is warm.
    pub(super) fn start(
        xtask: &Path,
        what: &str,
        addr: SocketAddr,
        seconds: &str,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", "1"])
            .arg(xtask)
            .args(["load", what, &addr.to_string(), seconds])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .context("could not start the load")?;
        let input = child.stdin.take().context("it has an input")?;
        let output = BufReader::new(child.stdout.take().context("it has an output")?);
        let mut load = Self { child, input, output };
        load.says(log)?;
        Ok(load)
    }

    /// Lets it ask, and gives what came of it. It goes on holding its connections.
    pub(super) fn measure(&mut self, log: &Path) -> anyhow::Result<Answered> {
        self.input.write_all(b"\n")?;
        let said = self.says(log)?;
        let number = |key: &str| said[key].as_f64().context("it says a number");
        Ok(Answered { good: number("good")?, p99_ms: number("p99_ms")? })
    }

    fn says(&mut self, log: &Path) -> anyhow::Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the load ended: {}", std::fs::read_to_string(log).unwrap_or_default());
        }
        let said: Value = serde_json::from_str(&line)?;
        if said["failed"] != 0 {
            bail!("{} failed, the first one: {}", said["failed"], said["first"]);
        }
        Ok(said)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::echo;
    use super::*;

    /// Asks those who answer as `answers` for a moment by `asks`; gives who asked, what was good and
    /// what was not.
    fn asked(asks: &str, answers: &'static str) -> (usize, Tally) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            tokio::spawn(async move { echo::accept(&listener, answers).await });
            let mut askers = connect(asks, addr, 3).await.unwrap();
            let count = askers.len();
            (count, for_a_while(&mut askers, Duration::from_millis(20)).await)
        })
    }

    #[test]
    fn what_is_asked_comes_back_and_is_counted() {
        for (what, askers) in [("grpc", 3 * CALLS), ("websocket", 3)] {
            let (count, tally) = asked(what, what);
            assert_eq!(count, askers);
            assert_eq!(tally.failed, [""; 0], "{what}");
            assert!(tally.took.len() >= askers, "{what}: {} answers", tally.took.len());
        }
    }

    #[test]
    fn calls_that_nobody_understands_have_failed() {
        let (count, tally) = asked("grpc", "websocket");
        assert_eq!((tally.took.len(), tally.failed.len()), (0, count));
    }
}
