//! Clients that ask without a pause and remember what came of it: each answer, when, how long it
//! took and whose it was; and each question that was not answered well.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::peer::HOST;

/// Clients that each keep a connection.
const KEPT: usize = 64;
/// Clients that open a connection for each question.
const FRESH: usize = 2;
/// A question that is not answered by then has failed.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long a client waits after it could not connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(1);
/// The most that an answer may carry here.
const BODY_MAX: usize = 64 << 10;

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Kept,
    Fresh,
}

/// One question, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) by: Connection,
    pub(super) at: Instant,
    pub(super) took: Duration,
    /// Who answered, by the first letter of the answer; or why there is no good one.
    pub(super) answer: Result<u8, Bad>,
}

/// Why an answer is none.
#[derive(Clone, Debug)]
pub(super) enum Bad {
    /// The connection broke, or could not be had.
    Broken(String),
    /// The proxy answered, but not with success.
    Status(u16),
}

/// Who has answered last, by the first letter of the answer.
#[derive(Debug, Default)]
pub(super) struct Latest(AtomicU8);

impl Latest {
    pub(super) fn is(&self, letter: u8) -> bool {
        self.0.load(Ordering::Acquire) == letter
    }
}

/// Asks for `path` while `act` runs; those who open connections do so with `fresh_method`.
pub(super) fn ask_while(
    addr: SocketAddr,
    path: &str,
    fresh_method: &str,
    act: impl FnOnce(&Latest) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Asked>> {
    let (latest, stop) = (Latest::default(), AtomicBool::new(false));
    let question = |method: &str, connection: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{connection}content-length: 0\r\n\r\n")
    };
    let kept = question("GET", "").replace("content-length: 0\r\n", "");
    let fresh = question(fresh_method, "connection: close\r\n");
    std::thread::scope(|scope| {
        let client = |by, question| {
            let (latest, stop) = (&latest, &stop);
            scope.spawn(move || ask(addr, by, question, latest, stop))
        };
        let clients: Vec<_> = (0..KEPT)
            .map(|_| client(Connection::Kept, &kept))
            .chain((0..FRESH).map(|_| client(Connection::Fresh, &fresh)))
            .collect();
        let acted = act(&latest);
        stop.store(true, Ordering::Release);
        let asked = clients.into_iter().filter_map(|it| it.join().ok()).flatten().collect();
        acted.map(|()| asked)
    })
}

/// One client.
fn ask(
    addr: SocketAddr,
    by: Connection,
    question: &str,
    latest: &Latest,
    stop: &AtomicBool,
) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::Acquire) {
        // Who closes before the next question is sent loses none; every client looks.
        if connection.as_mut().is_some_and(is_over) {
            connection = None;
        }
        let began = Instant::now();
        let answer = exchange(&mut connection, addr, question);
        if by == Connection::Fresh {
            connection = None;
        }
        if let Ok(letter) = answer {
            latest.0.store(letter, Ordering::Release);
        } else {
            std::thread::sleep(CONNECT_PAUSE);
        }
        let at = Instant::now();
        asked.push(Asked { by, at, took: at - began, answer });
    }
    asked
}

/// Whether the other side has ended the connection.
fn is_over(connection: &mut BufReader<TcpStream>) -> bool {
    let stream = connection.get_ref();
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let back = stream.set_nonblocking(false);
    let open = matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    !open || back.is_err()
}

/// Sends the question over the connection, or a new one, and takes the answer.
fn exchange(
    connection: &mut Option<BufReader<TcpStream>>,
    addr: SocketAddr,
    question: &str,
) -> Result<u8, Bad> {
    let broken = |error: io::Error| Bad::Broken(error.to_string());
    let mut reader = match connection.take() {
        Some(reader) => reader,
        None => BufReader::new(connect(addr).map_err(broken)?),
    };
    reader.get_mut().write_all(question.as_bytes()).map_err(broken)?;
    let answer = read(&mut reader).map_err(broken)?;
    if answer.goes_on {
        *connection = Some(reader);
    }
    match answer.status {
        200 => Ok(answer.letter),
        status => Err(Bad::Status(status)),
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, ANSWER_WAIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    Ok(stream)
}

/// An answer that was read to its end.
struct Answer {
    status: u16,
    letter: u8,
    /// Whether the connection takes another question.
    goes_on: bool,
}

fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let (mut status, mut length, mut goes_on) = (None, None, true);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        }
        goes_on &= line != "connection: close";
        if line.is_empty() {
            break;
        }
        status = status.or_else(|| line.split(' ').nth(1)?.parse().ok());
    }
    // An answer whose end is not told is not read; the connection is given up.
    let mut body = vec![0; length.unwrap_or(0).min(BODY_MAX)];
    reader.read_exact(&mut body)?;
    Ok(Answer {
        status: status.unwrap_or(0),
        letter: body.first().copied().unwrap_or(0),
        goes_on: goes_on && length.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab";

    /// Asks twice of a server that answers each connection so and then ends it, once it was asked.
    fn asked(answers: [&'static str; 2]) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for answer in answers {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                }
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut connection = None;
        let mut said = Vec::new();
        for _ in answers {
            let by = Instant::now() + ANSWER_WAIT;
            while connection.as_mut().is_some_and(|it| !is_over(it)) {
                assert!(Instant::now() < by, "the end of the connection is not seen");
                thread::yield_now();
            }
            connection = None;
            said.push(match exchange(&mut connection, addr, "GET / HTTP/1.1\r\n\r\n") {
                Ok(letter) => char::from(letter).to_string(),
                Err(Bad::Broken(_)) => "broken".to_owned(),
                Err(Bad::Status(status)) => status.to_string(),
            });
        }
        server.join().unwrap();
        said
    }

    #[test]
    fn a_connection_that_ends_between_two_questions_loses_none() {
        assert_eq!(asked([GOOD, GOOD]), ["a", "a"]);
    }

    #[test]
    fn half_an_answer_and_a_refusal_are_told_apart() {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab";
        let refused = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(asked([half, refused]), ["broken", "502"]);
    }
}
