//! The call by which a server of gRPC says how it is: `grpc.health.v1.Health/Check`. It knows just as
//! much of protocol buffers as that takes.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use http::header::{CONTENT_TYPE, TE};
use tokio::io::{AsyncRead, AsyncWrite};

/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Bytes of an answer that are looked at: a prefix, and a message of one small number.
const ANSWER_BYTES: usize = 256;

/// Asks on a fresh connection about a service, or with an empty name about the server.
pub(crate) async fn is_serving(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    addr: SocketAddr,
    service: &str,
) -> io::Result<bool> {
    let (send, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    tokio::select! {
        answer = ask(send, addr, service) => answer.map_err(io::Error::other),
        ended = connection => Err(ended.err().map_or_else(
            || io::ErrorKind::UnexpectedEof.into(),
            io::Error::other,
        )),
    }
}

async fn ask(send: SendRequest<Bytes>, addr: SocketAddr, service: &str) -> Result<bool, h2::Error> {
    let request = Request::post(format!("http://{addr}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header("user-agent", "evenkeel-probe")
        .body(())
        .expect("its parts are fixed, but for an address");
    let (answer, mut body) = send.ready().await?.send_request(request, false)?;
    body.send_data(question(service), true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut message = Vec::new();
    while message.len() < ANSWER_BYTES
        && let Some(data) = body.data().await
    {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    if message.len() >= ANSWER_BYTES {
        return Ok(false);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let went_well = trailers.get("grpc-status").is_some_and(|status| status == "0");
    Ok(head.status == 200 && went_well && status(&message) == Some(SERVING))
}

/// `HealthCheckRequest`, with its prefix.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, bytes of a length.
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(lowest(length) | 0x80);
            length >>= 7;
        }
        message.push(lowest(length));
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).expect("texts of a stack file are short");
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The lowest seven bits.
fn lowest(number: usize) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// The status in a `HealthCheckResponse` with its prefix; none if it is not one.
fn status(framed: &[u8]) -> Option<u64> {
    let (prefix, mut message) = framed.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix.get(1..)?.try_into().ok()?);
    if prefix.first() != Some(&0) || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    // `UNKNOWN` need not be said.
    let mut status = 0;
    while !message.is_empty() {
        let key = number(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = number(&mut message)?,
            // Fields of the future.
            (_, 0) => drop(number(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(number(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            (_, _) => return None,
        }
    }
    Some(status)
}

/// Takes a number off the front: seven bits a byte, the lowest first.
fn number(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_service_if_there_is_one() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 2]);
    }

    #[test]
    fn an_answer_is_read_with_what_it_may_say_one_day() {
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 2]), Some(2));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        let more = [0, 0, 0, 0, 8, 0x12, 1, b'x', 8, 1, 0x18, 0x80, 1];
        assert_eq!(status(&more), Some(SERVING));
        for wrong in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 1, 0x0b],
        ] {
            assert_eq!(status(wrong), None, "{wrong:?}");
        }
    }
}
