//! Instances that give back what they get: by gRPC, and by WebSocket with frames of one size. They
//! serve on `$PORT` until they are ended, and know nothing else.

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What one message over a WebSocket carries.
pub(super) const PAYLOAD: usize = 64;
/// What comes before it: two bytes, and from a client four more that mask it.
pub(super) const HEAD: usize = 2;
pub(super) const MASK: usize = 4;
/// The head of a request or answer that begins a WebSocket is far shorter.
const HEAD_MAX: usize = 4_096;
/// The most that a call of gRPC may carry here.
const CALL_MAX: usize = 64 << 10;

/// Serves one of the two.
pub(crate) fn serve(words: &[&str]) -> anyhow::Result<bool> {
    let port: u16 = std::env::var("PORT").context("PORT is not set")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let [what] = words else { bail!("not meant for people") };
        accept(&TcpListener::bind(("127.0.0.1", port)).await?, what).await
    })
}

/// Takes whoever comes.
pub(super) async fn accept(listener: &TcpListener, what: &str) -> anyhow::Result<bool> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that goes away ends its task; nobody asks why.
        match what {
            "grpc" => drop(tokio::spawn(calls(stream))),
            "websocket" => drop(tokio::spawn(messages(stream))),
            _ => bail!("there is no echo by {what}"),
        }
    }
}

async fn calls(stream: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        tokio::spawn(answer(request, respond));
    }
    Ok(())
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> anyhow::Result<()> {
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        message.extend_from_slice(&part);
        if message.len() > CALL_MAX {
            bail!("the call is too large");
        }
    }
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut answer = respond.send_response(head, false)?;
    answer.send_data(message.freeze(), false)?;
    let trailers = HeaderMap::from_iter([("grpc-status".parse()?, HeaderValue::from_static("0"))]);
    Ok(answer.send_trailers(trailers)?)
}

async fn messages(mut stream: TcpStream) -> anyhow::Result<()> {
    head(&mut stream).await?;
    // The key is not looked at: who asks here does not either.
    let accept = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                  connection: upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(accept.as_bytes()).await?;
    let mut got = [0; HEAD + MASK + PAYLOAD];
    loop {
        stream.read_exact(&mut got).await?;
        // The clients mask with zeros, so that the payload is as it was.
        let (_, payload) = got.split_at(HEAD + MASK);
        stream.write_all(&frame(payload, &[])).await?;
    }
}

/// Reads what begins a WebSocket, to its empty line.
pub(super) async fn head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        if text.len() > HEAD_MAX {
            bail!("what begins the WebSocket is too long");
        }
        text.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A whole binary message, masked if there is a mask.
pub(super) fn frame(payload: &[u8], mask: &[u8]) -> Vec<u8> {
    let masked = if mask.is_empty() { 0 } else { 0x80 };
    let length = u8::try_from(payload.len()).unwrap_or(0);
    [&[0x82, masked | length], mask, payload].concat()
}
