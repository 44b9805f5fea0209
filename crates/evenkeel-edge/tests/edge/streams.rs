//! Bodies that take their time.

use std::io::{BufReader, Cursor, Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::instance::{Instance, read_chunk};
use crate::rig::{Rig, table, until};

#[test]
fn a_request_body_arrives_before_it_ends() {
    let (arrived, arrivals) = mpsc::channel();
    let arrived = Mutex::new(arrived);
    let instance = Instance::new(move |request, stream| {
        assert_eq!(request.header("transfer-encoding"), Some("chunked"));
        let rest = stream.try_clone().unwrap();
        let mut read = BufReader::new(Cursor::new(request.body.clone()).chain(rest));
        while let Some(chunk) = read_chunk(&mut read).filter(|chunk| !chunk.is_empty()) {
            arrived.lock().unwrap().send(String::from_utf8(chunk).unwrap()).unwrap();
        }
        crate::instance::answer(stream, "200 OK", "all")
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    client.write(
        "POST / HTTP/1.1\r\nHost: test\r\nX-Stream: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    for n in 0..5 {
        client.write(&format!("6\r\npiece{n}\r\n"));
        let piece = arrivals.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(piece, format!("piece{n}"));
    }
    client.write("0\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().body, "all");
}

#[test]
fn an_answer_arrives_before_it_ends() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let instance = Instance::new(move |_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .unwrap();
        for n in 0..5 {
            gone.lock().unwrap().recv().unwrap();
            let event = format!("data: {n}\n\n");
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(client.head().unwrap().contains("text/event-stream"));
    for n in 0..5 {
        go.send(()).unwrap();
        let chunk = read_chunk(&mut client.read).unwrap();
        assert_eq!(chunk, format!("data: {n}\n\n").into_bytes());
    }
    assert_eq!(read_chunk(&mut client.read).unwrap(), b"");
}

#[test]
fn a_slow_reader_slows_the_instance_and_not_the_memory() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 2_000;
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let instance = Instance::new(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES);
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..PIECES {
            if stream.write_all(&vec![b'x'; PIECE]).is_err() {
                return false;
            }
            counted.fetch_add(PIECE, Ordering::SeqCst);
        }
        true
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head().unwrap();
    let mut seen = (0, Instant::now());
    until("the instance has to wait", || {
        let now = written.load(Ordering::SeqCst);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        now > 0 && seen.1.elapsed() > Duration::from_millis(300)
    });
    // What fits into the kernel's buffers of two connections, and little more.
    assert!(seen.0 < 32 * 1024 * 1024, "{} bytes were taken", seen.0);
    let reading = thread::spawn(move || {
        let mut body = vec![0; PIECE * PIECES];
        client.read.read_exact(&mut body).map(|()| body.len())
    });
    assert_eq!(reading.join().unwrap().unwrap(), PIECE * PIECES);
    until("it is counted once", || rig.counts(1).status_2xx == 1);
}

#[test]
fn a_large_upload_arrives_whole() {
    let instance = Instance::new(|request, stream| {
        crate::instance::answer(stream, "200 OK", &request.body.len().to_string())
    });
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    let body = "x".repeat(5 * 1024 * 1024);
    assert_eq!(client.post("/", &body).body, body.len().to_string());
    // The connection is good for another.
    assert_eq!(client.post("/", "xy").body, "2");
}
