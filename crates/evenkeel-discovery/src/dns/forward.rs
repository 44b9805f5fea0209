//! Names that are none of ours: other servers are asked, if there are any to ask.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::message::{Code, HEADER, Head, Query};

/// How long one server may take before the next is asked.
const WAIT: Duration = Duration::from_millis(1_500);
/// The largest answer over UDP that is taken.
const ANSWER_MAX: usize = 4_096;

/// Asks others.
#[derive(Debug)]
pub(crate) struct Forwarder {
    places: Semaphore,
}

impl Forwarder {
    /// Asks about so many questions at one time; each holds a socket.
    pub(crate) fn new(most: usize) -> Self {
        Self { places: Semaphore::new(most) }
    }

    /// The answer of the first server that has one.
    pub(crate) async fn ask_udp(&self, question: &[u8], servers: &[SocketAddr]) -> Vec<u8> {
        let Ok(_place) = self.places.try_acquire() else { return failed(question, servers) };
        for server in servers {
            if let Ok(Ok(answer)) = timeout(WAIT, udp(question, *server)).await {
                return answer;
            }
        }
        failed(question, servers)
    }

    /// The same over TCP.
    pub(crate) async fn ask_tcp(&self, question: &[u8], servers: &[SocketAddr]) -> Vec<u8> {
        let Ok(_place) = self.places.try_acquire() else { return failed(question, servers) };
        for server in servers {
            if let Ok(Ok(answer)) = timeout(WAIT, tcp(question, *server)).await {
                return answer;
            }
        }
        failed(question, servers)
    }
}

/// What is said when nobody answered: that we do not do this, or that it did not work.
fn failed(question: &[u8], servers: &[SocketAddr]) -> Vec<u8> {
    let code = if servers.is_empty() { Code::Refused } else { Code::ServFail };
    let query = Query::read(question).ok();
    let edns = query.as_ref().is_some_and(|it| it.edns.is_some());
    let mut out = Vec::new();
    let head = Head { recursive: !servers.is_empty(), ..Head::only(code, edns) };
    head.write(question, query.map(|it| it.end), &mut out);
    head.finish(&mut out);
    out
}

/// The question under a number of our own, so that nobody can guess what an answer must look like.
fn renumbered(question: &[u8]) -> ([u8; 2], Vec<u8>) {
    let number = fastrand::u16(..).to_be_bytes();
    (number, number.iter().chain(question.get(2..).unwrap_or_default()).copied().collect())
}

/// Gives an answer the asker's number, if it is one to this question.
fn fitting(question: &[u8], number: [u8; 2], mut answer: Vec<u8>) -> Option<Vec<u8>> {
    let query = Query::read(question).ok()?;
    let asked = question.get(HEADER..query.end)?;
    let repeated = answer.get(HEADER..query.end)?;
    let is_answer = answer.get(2)? & 0x80 != 0 && answer.get(..2)? == number;
    if !is_answer || !asked.eq_ignore_ascii_case(repeated) {
        return None;
    }
    answer.get_mut(..2)?.copy_from_slice(question.get(..2)?);
    // Their case, as they wrote it.
    answer.get_mut(HEADER..query.end)?.copy_from_slice(asked);
    Some(answer)
}

async fn udp(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    // Only this server's answers reach a socket that is connected to it.
    socket.connect(server).await?;
    let (number, asked) = renumbered(question);
    socket.send(&asked).await?;
    let mut buffer = vec![0; ANSWER_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default().to_vec();
        if let Some(answer) = fitting(question, number, answer) {
            return Ok(answer);
        }
    }
}

async fn tcp(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (number, asked) = renumbered(question);
    let mut framed = u16::try_from(asked.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend_from_slice(&asked);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    let misfit = || io::Error::other("an answer to another question");
    fitting(question, number, answer).ok_or_else(misfit)
}
