//! A small HTTP/1.1 client that forgives nothing: whatever is not a whole, right answer is an
//! error with its cause.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may stay away: longer than everything the edge waits for by itself.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Where an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No connection came about: nobody listened, or nobody took it.
    Connect,
    /// The request was under way.
    UnderWay,
    /// There was an answer, but not the right one.
    Answer,
}

/// A failed exchange.
pub(crate) type Failed = (Stage, String);

/// A connection, open or to be opened.
#[derive(Debug)]
pub(crate) struct Client {
    addr: SocketAddr,
    host: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, host: "house.test".to_owned(), stream: None }
    }

    /// Asks for another host.
    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// A connection to write to. One that the other side has closed meanwhile is replaced, as
    /// every client does that keeps connections.
    pub(crate) fn open(&mut self) -> Result<&mut BufReader<TcpStream>, Failed> {
        if self.stream.as_ref().is_some_and(|stream| !is_alive(stream.get_ref())) {
            self.stream = None;
        }
        if self.stream.is_none() {
            let connect = |error| (Stage::Connect, format!("connect: {error}"));
            let stream = TcpStream::connect_timeout(&self.addr, SILENCE_MAX).map_err(connect)?;
            stream.set_nodelay(true).map_err(connect)?;
            stream.set_read_timeout(Some(SILENCE_MAX)).map_err(connect)?;
            stream.set_write_timeout(Some(SILENCE_MAX)).map_err(connect)?;
            self.stream = Some(BufReader::new(stream));
        }
        Ok(self.stream.as_mut().expect("it was opened just now"))
    }

    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, Failed> {
        self.send("GET", path, &[])
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer, Failed> {
        self.ask(method, path, "", body)?;
        let result = self.answer();
        let keeps = result.as_ref().is_ok_and(|it| it.header("connection") != Some("close"));
        if !keeps {
            self.close();
        }
        result
    }

    /// Sends a request; `more` are further header lines.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        more: &str,
        body: &[u8],
    ) -> Result<(), Failed> {
        let length = match (method, body.len()) {
            ("GET", 0) => String::new(),
            (_, length) => format!("content-length: {length}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{more}{length}\r\n", self.host);
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        let sent = self.open()?.get_mut().write_all(&bytes);
        if sent.is_err() {
            self.close();
        }
        sent.map_err(|error| (Stage::UnderWay, format!("send: {error}")))
    }

    /// Reads an answer's head.
    pub(crate) fn head(&mut self) -> Result<Answer, Failed> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let Some(status) = status.filter(|_| first.starts_with("HTTP/1.")) else {
            return Err((Stage::Answer, format!("not HTTP: {first:?}")));
        };
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Answer { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn answer(&mut self) -> Result<Answer, Failed> {
        let mut answer = self.head()?;
        if answer.header("transfer-encoding").is_some_and(|it| it.contains("chunked")) {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(|_not| (Stage::Answer, "length".to_owned()))?;
            answer.body = self.bytes(length)?;
        } else {
            let stream = self.stream.as_mut().expect("a head was read from it");
            let all = stream.read_to_end(&mut answer.body);
            all.map_err(|error| (Stage::UnderWay, format!("receive: {error}")))?;
            self.close();
        }
        Ok(answer)
    }

    /// The next chunk; none is the end.
    pub(crate) fn chunk(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
            .map_err(|_not| (Stage::Answer, format!("not a chunk: {line:?}")))?;
        let chunk = self.bytes(length)?;
        match (self.line()?.as_str(), length) {
            ("", 0) => Ok(None),
            ("", _) => Ok(Some(chunk)),
            (more, _) => Err((Stage::Answer, format!("chunk goes on: {more:?}"))),
        }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Failed> {
        let mut bytes = vec![0; count];
        let read = self.open_stream()?.read_exact(&mut bytes);
        read.map_err(|error| (Stage::UnderWay, format!("receive: {error}")))?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        match self.open_stream()?.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => Ok(line.trim_end().to_owned()),
            Ok(_) => Err((Stage::UnderWay, "receive: closed".to_owned())),
            Err(error) => Err((Stage::UnderWay, format!("receive: {error}"))),
        }
    }

    /// The connection that is open; none is opened.
    pub(crate) fn open_stream(&mut self) -> Result<&mut BufReader<TcpStream>, Failed> {
        self.stream.as_mut().ok_or_else(|| (Stage::UnderWay, "closed".to_owned()))
    }
}

/// Whether nothing has been said on an idle connection, not even its end.
fn is_alive(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let quiet = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte));
    let alive = matches!(quiet, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    alive && stream.set_nonblocking(false).is_ok()
}
