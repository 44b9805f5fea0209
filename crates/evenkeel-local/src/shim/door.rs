//! The shim's socket and whoever speaks on it.
//!
//! Nothing here can hold the shim up: every stream is non-blocking, and a client that does not
//! read what it asked for is shown out.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};

use crate::folder::{Folder, private_dir, remove_file};
use crate::protocol::LINE_LENGTH_MAX;

/// The edge, control and a person or two; whoever comes next takes the place of who has been
/// silent longest.
const CLIENTS_MAX: usize = 8;
/// Answers a client may leave unread: some forty statuses.
const UNREAD_MAX: usize = 32 * 1024;

/// The open door.
#[derive(Debug)]
pub(super) struct Door {
    path: PathBuf,
    listener: UnixListener,
    /// The longest silent first.
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    heard: Vec<u8>,
    unread: Vec<u8>,
}

impl Door {
    /// Opens the instance's socket. What a former shim left in its place is removed: we hold the
    /// lock.
    pub(super) fn open(folder: &Folder) -> io::Result<Self> {
        let path = folder.socket.clone();
        if let Some(above) = path.parent() {
            private_dir(above)?;
        }
        remove_file(&path)?;
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { path, listener, clients: Vec::new() })
    }

    /// Closes it for good.
    pub(super) fn close(self) {
        // One that is left is stale, and the next shim of the instance removes it.
        let _best_effort = remove_file(&self.path);
    }

    /// What to wait for.
    pub(super) fn poll<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN));
        fds.extend(self.clients.iter().map(|client| {
            let writes = if client.unread.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            PollFd::from_borrowed_fd(client.stream.as_fd(), PollFlags::IN | writes)
        }));
    }

    /// Hears and answers everybody, if anybody has something to say.
    pub(super) fn serve(&mut self, ready: bool, mut answer: impl FnMut(&[u8]) -> Vec<u8>) {
        if !ready {
            return;
        }
        let (mut silent, mut spoke) = (Vec::new(), Vec::new());
        for mut client in self.clients.drain(..) {
            match client.serve(&mut answer) {
                Ok(true) => spoke.push(client),
                Ok(false) => silent.push(client),
                // Gone, or shown out.
                Err(_closed) => {}
            }
        }
        silent.append(&mut spoke);
        self.clients = silent;
        self.accept();
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let allowed = rustix::net::sockopt::socket_peercred(&stream)
                .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::getuid());
            if !allowed || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() == CLIENTS_MAX {
                self.clients.remove(0);
            }
            self.clients.push(Client { stream, heard: Vec::new(), unread: Vec::new() });
        }
    }
}

impl Client {
    /// Reads, answers whole lines, writes. Returns whether it said anything; an error means that
    /// it is to be dropped.
    fn serve(&mut self, answer: &mut impl FnMut(&[u8]) -> Vec<u8>) -> io::Result<bool> {
        let heard = self.hear()?;
        while let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            self.unread.extend(answer(line.trim_ascii()));
            self.unread.push(b'\n');
        }
        if self.heard.len() >= LINE_LENGTH_MAX || self.unread.len() > UNREAD_MAX {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        self.tell()?;
        Ok(heard)
    }

    /// One read per turn, so that one client cannot keep the others waiting.
    fn hear(&mut self) -> io::Result<bool> {
        let mut buffer = [0; LINE_LENGTH_MAX];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.heard.extend(buffer.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn tell(&mut self) -> io::Result<()> {
        while !self.unread.is_empty() {
            match self.stream.write(&self.unread) {
                Ok(length) => drop(self.unread.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
