//! WebSockets that the edge has to end: their clients are told that it goes away, between two frames
//! and never within one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use evenkeel_kernel::routing::RoutingTable;
use h2::ext::Protocol;
use http::{Method, Request};

use crate::client::Client;
use crate::h2_peer::H2Client;
use crate::instance::Instance;
use crate::rig::{Rig, fence, pool_of, table, until};

const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// What a client answers, masked with zeros.
const FAREWELL: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// An instance that consents to WebSockets and then does this with them; and what it reads there.
fn instance(
    then: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (Instance, Receiver<Vec<u8>>) {
    let (read, seen): (Sender<Vec<u8>>, _) = mpsc::channel();
    let read = Mutex::new(read);
    let instance = Instance::new(move |_, stream| {
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                  upgrade: WebSocket\r\nsec-websocket-accept: x\r\n\r\n",
            )
            .unwrap();
        let mut reading = stream.try_clone().unwrap();
        let read = read.lock().unwrap().clone();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            let _reset = reading.read_to_end(&mut all);
            // Whoever is not asked for it is gone.
            let _gone = read.send(all);
        });
        then(stream);
        // Nobody else reads there meanwhile.
        reader.join().unwrap();
        false
    });
    (instance, seen)
}

/// The table in which its only instance drains, and its WebSockets have had their time.
fn draining(mut it: RoutingTable) -> RoutingTable {
    it.fence = fence(2);
    it.services.values_mut().for_each(|service| service.split.clear());
    let pool = pool_of(&mut it, 1);
    pool.drain_long_lived = Duration::ZERO;
    pool.instances.values_mut().for_each(|it| it.draining = true);
    it
}

fn connect(rig: &Rig) -> Client {
    let mut client = rig.client();
    client.write(
        "GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101"));
    client
}

fn long_lived(rig: &Rig) -> u32 {
    rig.observe().instances.values().map(|it| it.long_lived).sum()
}

/// The frames of a server that stand in `bytes`, and what is left over.
fn frames(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut frames = Vec::new();
    while let [_, length, ..] = bytes {
        let Some((frame, rest)) = bytes.split_at_checked(2 + usize::from(*length)) else { break };
        frames.push(frame);
        bytes = rest;
    }
    (frames, bytes)
}

/// A server that never rests: frames in pieces, one after the other.
fn talk(stream: &mut TcpStream) {
    let frame: Vec<u8> = [0x82, 100].into_iter().chain([0x88; 100]).collect();
    while frame.chunks(7).all(|piece| {
        thread::yield_now();
        stream.write_all(piece).is_ok()
    }) {}
}

#[test]
fn d13_a_client_is_told_between_two_frames_and_its_answer_reaches_the_instance() {
    let (instance, seen) = instance(talk);
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let mut client = connect(&rig);
    let mut all = vec![0; 1_000];
    client.read.read_exact(&mut all).unwrap();
    rig.door().apply(&draining(it)).unwrap();
    // All that comes until the server has said its last.
    let mut piece = [0; 4_096];
    while frames(&all).0.last().is_none_or(|last| *last != GOING_AWAY) {
        let length = client.read.read(&mut piece).unwrap();
        assert!(length > 0, "it was cut without a word");
        all.extend_from_slice(&piece[..length]);
    }
    client.stream().write_all(&FAREWELL).unwrap();
    client.read.read_to_end(&mut all).unwrap();
    let (frames, rest) = frames(&all);
    assert_eq!(rest, b"", "it ends with a whole frame");
    assert_eq!(frames.iter().filter(|frame| **frame == GOING_AWAY).count(), 1);
    assert_eq!(frames.last().unwrap(), &GOING_AWAY, "nothing comes after it");
    assert_eq!(seen.recv_timeout(Duration::from_secs(10)).unwrap(), FAREWELL);
    until("it is gone", || long_lived(&rig) == 0);
}

#[test]
fn within_a_frame_nothing_is_said() {
    // A frame that never comes to its end.
    let (instance, _seen) = instance(|stream| stream.write_all(&[0x82, 100, 1, 2, 3]).unwrap());
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let mut client = connect(&rig);
    let mut all = vec![0; 5];
    client.read.read_exact(&mut all).unwrap();
    rig.door().apply(&draining(it)).unwrap();
    let _reset = client.read.read_to_end(&mut all);
    assert_eq!(all, [0x82, 100, 1, 2, 3]);
    until("it is gone", || long_lived(&rig) == 0);
}

#[test]
fn who_does_not_answer_is_cut_all_the_same() {
    let (instance, _seen) = instance(|_| {});
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let mut client = connect(&rig);
    until("it is joined", || long_lived(&rig) == 1);
    rig.door().apply(&draining(it)).unwrap();
    let mut all = Vec::new();
    client.read.read_to_end(&mut all).unwrap();
    assert_eq!(all, GOING_AWAY);
    until("it is gone", || long_lived(&rig) == 0);
}

#[test]
fn one_that_leaves_without_a_word_is_spoken_for_and_one_that_breaks_off_is_not() {
    for leaves in [true, false] {
        let (instance, _seen) = instance(|stream| stream.write_all(&[0x81, 1, b'x']).unwrap());
        let rig = Rig::new();
        let it = table(1, &[(10_000, &[&instance])]);
        rig.serve(&it);
        let mut client = connect(&rig);
        let mut all = vec![0; 3];
        client.read.read_exact(&mut all).unwrap();
        if leaves {
            let mut it = draining(it);
            pool_of(&mut it, 1).drain_long_lived = Duration::from_secs(60);
            rig.door().apply(&it).unwrap();
        }
        instance.kill();
        all.clear();
        let _reset = client.read.read_to_end(&mut all);
        assert_eq!(all, if leaves { &GOING_AWAY[..] } else { &[] });
    }
}

#[test]
fn a_client_of_http2_is_told_too() {
    let (instance, seen) = instance(|stream| stream.write_all(&[0x81, 2, b'h', b'i']).unwrap());
    let rig = Rig::new();
    let it = table(1, &[(10_000, &[&instance])]);
    rig.serve(&it);
    let mut client = H2Client::connect(rig.addr);
    let all = client.run(async |send| {
        let mut send = send.ready().await.unwrap();
        while !send.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://test/socket")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        let (response, mut stream) = send.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), [0x81, 2, b'h', b'i'].as_slice());
        rig.door().apply(&draining(it)).unwrap();
        let mut all = body.data().await.unwrap().unwrap().to_vec();
        stream.send_data(Bytes::from_static(&FAREWELL), true).unwrap();
        while let Some(data) = body.data().await {
            all.extend(data.unwrap());
        }
        all
    });
    assert_eq!(all, GOING_AWAY);
    assert_eq!(seen.recv_timeout(Duration::from_secs(10)).unwrap(), FAREWELL);
}
