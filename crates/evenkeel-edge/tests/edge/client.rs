//! A raw HTTP/1.1 client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::instance::read_chunks;

/// An answer as the client got it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A connection to the edge.
pub(crate) struct Client {
    pub(crate) read: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { read: BufReader::new(stream) }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.read.get_mut()
    }

    pub(crate) fn write(&mut self, text: &str) {
        // A server that has refused already may have closed; its answer is what counts.
        let _refused = self.stream().write_all(text.as_bytes());
    }

    /// Sends a request as it stands and reads the answer, if one comes.
    pub(crate) fn try_raw(&mut self, text: &str) -> Option<Answer> {
        self.write(text);
        self.answer(text.starts_with("HEAD "))
    }

    #[track_caller]
    pub(crate) fn raw(&mut self, text: &str) -> Answer {
        self.try_raw(text).expect("an answer")
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    pub(crate) fn try_get(&mut self, path: &str) -> Option<Answer> {
        self.try_raw(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Answer {
        let length = body.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.read.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        Some(head)
    }

    /// Reads one whole answer.
    pub(crate) fn answer(&mut self, bodiless: bool) -> Option<Answer> {
        let head = self.head()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer { status, head, body: String::new() };
        if bodiless || status == 204 || status == 304 || status == 101 {
            return Some(answer);
        }
        let body = if answer.header("transfer-encoding").is_some() {
            read_chunks(&mut self.read)?
        } else if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().ok()?];
            self.read.read_exact(&mut body).ok()?;
            body
        } else {
            let mut body = Vec::new();
            self.read.read_to_end(&mut body).ok()?;
            body
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Some(answer)
    }
}
