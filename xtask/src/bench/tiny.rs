//! The tiniest web server: the instance of which there are a thousand. Answers every request on
//! `$PORT` with `$VERSION`, keeps connections alive, and knows nothing else.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::Context as _;

/// Serves until it is ended.
pub(crate) fn serve() -> anyhow::Result<bool> {
    let port: u16 = std::env::var("PORT").context("PORT is not set")?.parse()?;
    let version = std::env::var("VERSION").unwrap_or_default();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{version}", version.len());
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming() {
        let answer = answer.clone();
        let stream = stream?;
        // A client that goes away ends its thread; nobody asks why.
        std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || drop(talk(stream, &answer)))?;
    }
    Ok(true)
}

fn talk(stream: TcpStream, answer: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            writer.write_all(answer.as_bytes())?;
        }
    }
}
