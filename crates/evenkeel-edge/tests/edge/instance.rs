//! An instance: a small HTTP/1.1 server that does what a test says.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::rig::until;

/// A request as the instance got it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

type Handler = dyn Fn(&Request, &mut TcpStream) -> bool + Send + Sync;

struct State {
    handler: Box<Handler>,
    requests: AtomicUsize,
    dead: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// A running instance; dies when dropped.
pub(crate) struct Instance {
    pub(crate) addr: SocketAddr,
    listener: TcpListener,
    state: Arc<State>,
}

impl Instance {
    /// Answers every request with 200 and `text`.
    pub(crate) fn says(text: &'static str) -> Self {
        Self::new(move |_, stream| answer(stream, "200 OK", text))
    }

    /// Calls `handler` for every request; it writes the answer and says whether the connection
    /// stays open.
    pub(crate) fn new(
        handler: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), handler)
    }

    pub(crate) fn at(
        addr: SocketAddr,
        handler: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind(addr).unwrap(), handler)
    }

    /// Starts again where one has died.
    pub(crate) fn again(
        addr: SocketAddr,
        handler: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let mut listener = None;
        until("the port is free", || {
            listener = TcpListener::bind(addr).ok();
            listener.is_some()
        });
        Self::on(listener.unwrap(), handler)
    }

    fn on(
        listener: TcpListener,
        handler: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            handler: Box::new(handler),
            requests: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let (accepting, shared) = (listener.try_clone().unwrap(), Arc::clone(&state));
        thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(stream) = stream else { return };
                if shared.dead.load(Ordering::SeqCst) {
                    return;
                }
                shared.streams.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Self { addr, listener, state }
    }

    /// Requests it has read so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Dies: every connection breaks, and nobody can connect any more.
    pub(crate) fn kill(&self) {
        self.state.dead.store(true, Ordering::SeqCst);
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.close_connections();
    }

    /// Closes all connections, as an idle timeout does.
    pub(crate) fn close_connections(&self) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _shutdown = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(state: &State, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut write = stream.try_clone().unwrap();
    let mut read = BufReader::new(stream);
    while let Some(request) = read_request(&mut read) {
        state.requests.fetch_add(1, Ordering::SeqCst);
        if !(state.handler)(&request, &mut write) {
            let _shutdown = write.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn read_request(read: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if read.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut request = Request { head, body: Vec::new() };
    // A body in chunks is left to the handler when it wants to see it come.
    if request.header("x-stream").is_some() {
        request.body = read.buffer().to_vec();
        read.consume(request.body.len());
        return Some(request);
    }
    if request.header("transfer-encoding").is_some() {
        request.body = read_chunks(read)?;
    } else if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().ok()?];
        read.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

/// Reads a body in chunks to its end.
pub(crate) fn read_chunks(read: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let chunk = read_chunk(read)?;
        if chunk.is_empty() {
            return Some(body);
        }
        body.extend(chunk);
    }
}

/// Reads one chunk; the last one is empty.
pub(crate) fn read_chunk(read: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    read.read_line(&mut line).ok()?;
    let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
    let mut chunk = vec![0; size + 2];
    read.read_exact(&mut chunk).ok()?;
    chunk.truncate(size);
    Some(chunk)
}

/// Writes a whole answer and keeps the connection.
pub(crate) fn answer(stream: &mut TcpStream, status: &str, body: &str) -> bool {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).is_ok()
}
