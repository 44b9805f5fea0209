//! One listening socket of the keeper.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::listen;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_nodelay};

use crate::limits::BACKLOG;

/// After this a client's connection that says nothing is tested; what is dead is closed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// A socket that is held.
#[derive(Debug)]
pub(super) struct Held {
    /// What was asked for; the port may be 0.
    pub(super) wanted: SocketAddr,
    pub(super) bound: SocketAddr,
    pub(super) socket: OwnedFd,
}

impl Held {
    /// Whether this is what is asked for with `addr`.
    pub(super) fn is(&self, addr: SocketAddr) -> bool {
        self.wanted == addr || self.bound == addr
    }

    /// Binds a new one.
    pub(super) fn bind(wanted: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(wanted)?;
        // Once more, with a longer queue.
        listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        // What is accepted inherits these.
        set_tcp_nodelay(&listener, true)?;
        set_socket_keepalive(&listener, true)?;
        set_tcp_keepidle(&listener, KEEPALIVE_IDLE)?;
        Ok(Self { wanted, bound: listener.local_addr()?, socket: listener.into() })
    }
}

/// Why it could not be bound, for people.
pub(super) fn text(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "address already in use"),
        (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
        (io::ErrorKind::PermissionDenied, "not permitted to use this port"),
    ];
    let found = known.iter().find(|(kind, _)| *kind == error.kind());
    found.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
}
