//! Questions over UDP. Answers are sent several at a time: most of what a question costs is paid
//! to the system.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use rustix::net::addr::SocketAddrArg as _;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseport};
use rustix::net::{
    AddressFamily, MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags,
    SocketType, bind as bind_socket, recvfrom, sendmmsg, sendto, socket_with,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::yield_now;

use super::answers::{Answers, Reply};
use super::forward::Forwarder;

/// Questions taken in a row, and their answers sent at once, before others of this thread get their
/// turn.
const ROW: usize = 64;
/// Bytes of a question that are read; what is longer is cut off and then malformed.
const QUESTION_MAX: usize = 4_096;
/// Bytes of questions that the kernel keeps while this thread is busy.
const WAITING_BYTES: usize = 1 << 20;

/// Binds beside any other process of this home that answers there too.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    set_socket_reuseport(&socket, true)?;
    if addr.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    // Less is as the system allows.
    let _asked = set_socket_recv_buffer_size(&socket, WAITING_BYTES);
    bind_socket(&socket, &addr)?;
    UdpSocket::from_std(socket.into())
}

/// Answers that wait to be sent together.
struct Outgoing {
    answers: Vec<Vec<u8>>,
    peers: Vec<SocketAddrAny>,
}

impl Outgoing {
    fn new() -> Self {
        let answers = (0..ROW).map(|_| Vec::with_capacity(super::message::UDP_MAX)).collect();
        Self { answers, peers: Vec::with_capacity(ROW) }
    }

    /// Sends them. A queue that is full loses answers, as any network does.
    fn flush(&mut self, socket: &UdpSocket) {
        match self.peers.as_slice() {
            [] => return,
            [peer] => {
                let answer = self.answers.first().map(Vec::as_slice).unwrap_or_default();
                let _sent = sendto(socket, answer, SendFlags::DONTWAIT, peer);
            }
            peers => {
                let slices: Vec<_> = self.answers.iter().map(|it| [IoSlice::new(it)]).collect();
                let mut nothing: [_; ROW] = std::array::from_fn(|_| SendAncillaryBuffer::default());
                let mut messages = Vec::with_capacity(ROW);
                for ((peer, slice), nothing) in peers.iter().zip(&slices).zip(&mut nothing) {
                    messages.push(MMsgHdr::new_with_addr(peer, slice, nothing));
                }
                let mut rest = messages.as_mut_slice();
                // One that cannot be sent ends a row; the others are sent all the same.
                while !rest.is_empty() {
                    let sent = sendmmsg(socket, rest, SendFlags::DONTWAIT).unwrap_or(0).max(1);
                    rest = rest.get_mut(sent..).unwrap_or_default();
                }
            }
        }
        self.peers.clear();
    }
}

/// Answers for ever.
pub(crate) async fn serve(socket: UdpSocket, answers: Rc<Answers>, forwarder: Rc<Forwarder>) {
    let socket = Rc::new(socket);
    let mut message = vec![0; QUESTION_MAX];
    let mut outgoing = Outgoing::new();
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        for _ in 0..ROW {
            let took = socket.try_io(Interest::READABLE, || {
                Ok(recvfrom(&*socket, &mut message[..], RecvFlags::DONTWAIT)?)
            });
            let (length, peer) = match took {
                Ok((length, _, Some(peer))) => (length, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An error that belongs to an answer we sent is read, and then gone.
                Ok(_) | Err(_) => continue,
            };
            let question = message.get(..length).unwrap_or_default();
            let Some(out) = outgoing.answers.get_mut(outgoing.peers.len()) else { break };
            match answers.answer(question, None, out) {
                Reply::Silence => {}
                Reply::Answer => outgoing.peers.push(peer),
                Reply::Forward => {
                    let (socket, forwarder) = (Rc::clone(&socket), Rc::clone(&forwarder));
                    let question = question.to_vec();
                    let servers = answers.hub().now().settings().forward.clone();
                    tokio::task::spawn_local(async move {
                        let answer = forwarder.ask_udp(&question, &servers).await;
                        let _sent = sendto(&*socket, &answer, SendFlags::DONTWAIT, &peer.as_any());
                    });
                }
            }
        }
        outgoing.flush(&socket);
        yield_now().await;
    }
}
