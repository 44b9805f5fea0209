//! The keeper's side: holds the sockets, gives copies to the edge, does what control wants.
//!
//! Synchronous and small, because the keeper must not fail.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel_kernel::layout;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SocketFlags, accept_with, bind, listen};

use super::held::{Held, text};
use super::packet::{self, Errand, Message, Packets};
use super::{EDGE_LOCK, LISTENERS};
use crate::limits::{BACKLOG, LISTENERS_MAX};
use crate::log;
use crate::peer;
use crate::saved::replace;

/// How long a keeper that starts waits for the sockets of an edge that lives: the edge tries to
/// reach it five times a second.
const ADOPTION: Duration = Duration::from_secs(1);
/// Between two tries to bind what could not be bound.
const REBIND: Duration = Duration::from_secs(1);
/// Connections to the holder at a time.
const PEERS_MAX: usize = 16;
/// Longest wait for a peer to take a packet.
const SEND_WAIT: Duration = Duration::from_secs(1);

/// Holds the listening sockets of a home.
#[derive(Debug)]
pub struct Holder {
    home: PathBuf,
    door: OwnedFd,
    /// What is wanted; kept on disk. `None`: nothing is known, so what the edge offers is.
    wanted: Option<BTreeMap<String, SocketAddr>>,
    held: BTreeMap<String, Held>,
    peers: Vec<Peer>,
    /// Waiting for the offers of an edge that lives; until when.
    adopting: Option<Instant>,
    last_bind: Instant,
}

#[derive(Debug)]
struct Peer {
    packets: Packets,
    /// An edge that has made its offers and is told of every change.
    follows: bool,
    /// Names it offered.
    offered: Vec<String>,
    /// What it wants, once adoption is over.
    waiting: Option<BTreeMap<String, SocketAddr>>,
    /// What it asks for, to be done once adoption is over.
    errand: Option<Errand>,
    gone: bool,
}

impl Holder {
    /// Opens the door and takes over what is wanted: from an edge that lives and offers it, else
    /// by binding anew. What cannot be bound is tried again later.
    pub fn bind(home: &Path) -> io::Result<Self> {
        fs::create_dir_all(home.join(layout::RUN))?;
        let mut holder = Self {
            home: home.to_owned(),
            door: open_door(home)?,
            wanted: read_wanted(home),
            held: BTreeMap::new(),
            peers: Vec::new(),
            adopting: None,
            last_bind: Instant::now(),
        };
        if edge_lives(home) {
            let until = Instant::now() + ADOPTION;
            holder.adopting = Some(until);
            while holder.adopting.is_some() && Instant::now() < until {
                holder.turn(until.saturating_duration_since(Instant::now()))?;
            }
            holder.adopting = None;
        }
        holder.rebind();
        holder.answer_waiting();
        Ok(holder)
    }

    /// Names and addresses of the sockets held.
    pub fn listeners(&self) -> BTreeMap<String, SocketAddr> {
        self.held.iter().map(|(name, held)| (name.clone(), held.bound)).collect()
    }

    /// Does what is to be done now; waits for something for at most `timeout`. Returns early when
    /// a signal came. `errand` is called with what somebody asks of the keeper, and says which
    /// process does it.
    pub fn serve(
        &mut self,
        timeout: Duration,
        errand: &mut dyn FnMut(&Errand) -> Result<u32, String>,
    ) -> io::Result<()> {
        self.turn(timeout)?;
        for peer in &mut self.peers {
            if let Some(asked) = peer.errand.take() {
                let done = Message::Did(errand(&asked));
                peer.gone = peer.packets.send(&done, None).is_err();
            }
        }
        Ok(())
    }

    /// The same, but for errands, which wait.
    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        if self.adopting.is_none() && self.last_bind.elapsed() >= REBIND {
            self.rebind();
        }
        let timeout = if self.is_complete() { timeout } else { timeout.min(REBIND) };
        let wait = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut polled = vec![PollFd::new(&self.door, PollFlags::IN)];
        polled.extend(self.peers.iter().map(|it| PollFd::new(&it.packets, PollFlags::IN)));
        match poll(&mut polled, Some(&wait)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        for place in (0..self.peers.len()).filter(|place| ready.get(place + 1) == Some(&true)) {
            self.hear(place);
        }
        self.peers.retain(|peer| !peer.gone);
        if ready.first() == Some(&true) {
            self.let_in();
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.wanted.iter().flatten().all(|(name, _)| self.held.contains_key(name))
    }

    fn let_in(&mut self) {
        let Ok(socket) = accept_with(&self.door, SocketFlags::CLOEXEC) else { return };
        // One that does not take its packets must not stop the keeper.
        let bounded = set_socket_timeout(&socket, Timeout::Send, Some(SEND_WAIT)).is_ok()
            && set_socket_timeout(&socket, Timeout::Recv, Some(SEND_WAIT)).is_ok();
        if !bounded || !peer::is_trusted(&socket) || self.peers.len() >= PEERS_MAX {
            log::warn(format_args!("the keeper's door was closed to somebody"));
            return;
        }
        self.peers.push(Peer {
            packets: Packets::new(socket),
            follows: false,
            offered: Vec::new(),
            waiting: None,
            errand: None,
            gone: false,
        });
    }

    fn hear(&mut self, place: usize) {
        let Some(peer) = self.peers.get_mut(place) else { return };
        match peer.packets.receive() {
            Ok(Some((Message::Offer { name, addr }, Some(socket)))) => {
                peer.offered.push(name.clone());
                self.adopt(name, addr, socket);
            }
            Ok(Some((Message::Offered, _))) => {
                peer.follows = true;
                self.adopting = None;
                self.tell_all(place);
            }
            Ok(Some((Message::Want(wanted), _))) if self.adopting.is_some() => {
                peer.waiting = Some(wanted);
            }
            Ok(Some((Message::Want(wanted), _))) => {
                // Whoever has been waiting came before; the last word counts.
                self.answer_waiting();
                self.answer(place, wanted);
            }
            Ok(Some((Message::Do(errand), _))) => peer.errand = Some(errand),
            Ok(Some(_)) => log::warn(format_args!("the keeper was told something unexpected")),
            Ok(None) => peer.gone = true,
            Err(error) => {
                log::warn(format_args!("a peer of the keeper broke off: {error}"));
                peer.gone = true;
            }
        }
    }

    /// Takes a socket that an edge has and this keeper should have.
    fn adopt(&mut self, name: String, addr: SocketAddr, socket: OwnedFd) {
        let listener = TcpListener::from(socket);
        let Ok(bound) = listener.local_addr() else { return };
        let fits = |wanted: &SocketAddr| {
            *wanted == bound || (wanted.port() == 0 && wanted.ip() == bound.ip())
        };
        let wanted = match &self.wanted {
            Some(all) => all.get(&name).copied().filter(fits),
            None => Some(addr),
        };
        if let (Some(wanted), false, true) = (wanted, self.held.contains_key(&name), addr == bound)
        {
            log::info(format_args!("the keeper adopts {name} on {bound}"));
            self.held.insert(name, Held { wanted, bound, socket: listener.into() });
        }
    }

    /// Tells a new follower everything, and what of its own it should let go.
    fn tell_all(&mut self, place: usize) {
        let Some(peer) = self.peers.get_mut(place) else { return };
        let stale: Vec<String> =
            peer.offered.drain(..).filter(|name| !self.held.contains_key(name)).collect();
        let closes = stale.into_iter().map(|name| (Message::Close { name }, None));
        let listens = self.held.iter().map(|(name, held)| {
            let listen = Message::Listen { name: name.clone(), addr: held.bound };
            (listen, Some(held.socket.as_fd()))
        });
        for (message, socket) in closes.chain(listens) {
            if peer.packets.send(&message, socket).is_err() {
                peer.gone = true;
                return;
            }
        }
    }

    fn answer_waiting(&mut self) {
        for place in 0..self.peers.len() {
            let waiting = self.peers.get_mut(place).and_then(|peer| peer.waiting.take());
            if let Some(wanted) = waiting {
                self.answer(place, wanted);
            }
        }
    }

    fn answer(&mut self, place: usize, wanted: BTreeMap<String, SocketAddr>) {
        let have = self.make_true(wanted);
        if let Some(peer) = self.peers.get_mut(place)
            && peer.packets.send(&Message::Have(have), None).is_err()
        {
            peer.gone = true;
        }
    }

    fn make_true(
        &mut self,
        wanted: BTreeMap<String, SocketAddr>,
    ) -> BTreeMap<String, Result<SocketAddr, String>> {
        if wanted.len() > LISTENERS_MAX {
            let too_many = format!("more than {LISTENERS_MAX} listeners");
            return wanted.into_keys().map(|name| (name, Err(too_many.clone()))).collect();
        }
        let mut errors = BTreeMap::new();
        let mut before = std::mem::take(&mut self.held);
        // First those that stay as they are, so that a socket moves to another name only when its
        // own no longer needs it.
        for (name, addr) in &wanted {
            if before.get(name).is_some_and(|held| held.is(*addr)) {
                self.held.extend(before.remove_entry(name));
            }
        }
        let leaving: Vec<String> = before.keys().cloned().collect();
        let mut changed = Vec::new();
        for (name, addr) in wanted.iter().filter(|(name, _)| !self.held.contains_key(*name)) {
            let moved =
                before.iter().find(|(_, held)| held.bound == *addr).map(|(it, _)| it.clone());
            match moved.and_then(|it| before.remove(&it)) {
                Some(held) => changed.push((name.clone(), held)),
                None => match Held::bind(*addr) {
                    Ok(held) => changed.push((name.clone(), held)),
                    Err(error) => drop(errors.insert(name.clone(), text(&error))),
                },
            }
        }
        drop(before);
        for name in leaving {
            // One whose new address cannot be had is let go too: what is wanted is exact.
            self.broadcast(&Message::Close { name: name.clone() }, None);
            log::info(format_args!("the keeper lets go of {name}"));
        }
        for (name, held) in changed {
            log::info(format_args!("the keeper holds {name} on {}", held.bound));
            self.announce(&name, &held);
            self.held.insert(name, held);
        }
        let have = wanted.keys().map(|name| match (self.held.get(name), errors.remove(name)) {
            (Some(held), _) => (name.clone(), Ok(held.bound)),
            (None, error) => (name.clone(), Err(error.unwrap_or_else(|| "not held".to_owned()))),
        });
        let have = have.collect();
        self.wanted = Some(wanted);
        if let Err(error) = self.save() {
            log::error(format_args!("could not save the listeners: {error}"));
        }
        have
    }

    /// Binds what is wanted and not held.
    fn rebind(&mut self) {
        self.last_bind = Instant::now();
        let missing: Vec<(String, SocketAddr)> = self
            .wanted
            .iter()
            .flatten()
            .filter(|(name, _)| !self.held.contains_key(*name))
            .map(|(name, addr)| (name.clone(), *addr))
            .collect();
        for (name, addr) in missing {
            match Held::bind(addr) {
                Ok(held) => {
                    log::info(format_args!("the keeper holds {name} on {}", held.bound));
                    self.announce(&name, &held);
                    self.held.insert(name, held);
                }
                Err(error) => {
                    log::warn(format_args!("could not bind {name} to {addr}: {}", text(&error)));
                }
            }
        }
    }

    fn announce(&mut self, name: &str, held: &Held) {
        let listen = Message::Listen { name: name.to_owned(), addr: held.bound };
        self.broadcast(&listen, Some(&held.socket));
    }

    fn broadcast(&mut self, message: &Message, socket: Option<&OwnedFd>) {
        for peer in self.peers.iter_mut().filter(|peer| peer.follows && !peer.gone) {
            // Who cannot be told is closed, and asks again.
            peer.gone = peer.packets.send(message, socket.map(|it| it.as_fd())).is_err();
        }
    }

    fn save(&self) -> io::Result<()> {
        replace(&self.home.join(LISTENERS), &serde_json::to_vec(&self.wanted)?)
    }
}

fn open_door(home: &Path) -> io::Result<OwnedFd> {
    let path = home.join(layout::KEEPER_SOCKET);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let door = packet::open()?;
    bind(&door, &packet::address(home)?)?;
    // Nobody can connect before `listen`, so nobody gets in by the wider mode.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listen(&door, BACKLOG)?;
    Ok(door)
}

fn read_wanted(home: &Path) -> Option<BTreeMap<String, SocketAddr>> {
    let text = match fs::read(home.join(LISTENERS)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::error(format_args!("could not read the listeners: {error}"));
            return None;
        }
    };
    match serde_json::from_slice(&text) {
        Ok(wanted) => wanted,
        Err(error) => {
            log::error(format_args!("could not read the listeners: {error}"));
            None
        }
    }
}

/// Whether an edge holds its lock.
fn edge_lives(home: &Path) -> bool {
    let Ok(lock) = File::open(home.join(EDGE_LOCK)) else { return false };
    matches!(flock(&lock, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
}
