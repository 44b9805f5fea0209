//! Packets between keeper, edge and control.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_kernel::layout;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, recvmsg, sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};

use crate::limits::PACKET_BYTES;
use crate::peer;

/// What is said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Edge: here is a listener I have. With its socket.
    Offer { name: String, addr: SocketAddr },
    /// Edge: that was all; tell me what there is, now and whenever it changes.
    Offered,
    /// Keeper: accept on this. With its socket.
    Listen { name: String, addr: SocketAddr },
    /// Keeper: no longer accept on this.
    Close { name: String },
    /// Control: exactly these are wanted.
    Want(BTreeMap<String, SocketAddr>),
    /// Keeper: this is what there is.
    Have(BTreeMap<String, Result<SocketAddr, String>>),
    /// Whoever upgrades: do this.
    Do(Errand),
    /// Keeper: this process does it; or why not.
    Did(Result<u32, String>),
}

/// What a keeper can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// Only say that you are there.
    Answer,
    /// Start an edge that takes the place of the one that runs.
    SucceedEdge,
    /// Be this program from now on, in the same process; the other roles are started from it too.
    Become {
        /// Its file.
        program: PathBuf,
    },
}

/// A connected socket of packets.
#[derive(Debug)]
pub(crate) struct Packets {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Packets {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    /// Connects to the keeper of `home`, if it is the same user's.
    pub(crate) fn connect(home: &Path, wait: Duration) -> io::Result<Self> {
        let socket = open()?;
        set_socket_timeout(&socket, Timeout::Recv, Some(wait))?;
        set_socket_timeout(&socket, Timeout::Send, Some(wait))?;
        connect(&socket, &address(home)?)?;
        if !peer::is_trusted(&socket) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Self::new(socket))
    }

    pub(crate) fn send(
        &mut self,
        message: &Message,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > PACKET_BYTES {
            return Err(io::Error::other("too many listeners for one packet"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
        if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("no room for a socket"));
        }
        sendmsg(&self.socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next packet; `None` when the other end has closed.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        self.buffer.resize(PACKET_BYTES, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut self.buffer)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let socket = ancillary.drain().find_map(|message| {
            let RecvAncillaryMessage::ScmRights(mut sockets) = message else { return None };
            sockets.next()
        });
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a packet was cut off"));
        }
        let text = self.buffer.get(..received.bytes).unwrap_or_default();
        Ok(Some((serde_json::from_slice(text)?, socket)))
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket of packets that is neither bound nor connected.
pub(crate) fn open() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The keeper's address.
pub(crate) fn address(home: &Path) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(home.join(layout::KEEPER_SOCKET))?)
}
