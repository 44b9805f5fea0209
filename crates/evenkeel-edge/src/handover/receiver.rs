//! The edge's side: a thread that stays connected to the keeper, offers it what the edge has, and
//! takes what it gives.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::fstat;

use super::packet::{Message, Packets};
use crate::log;
use crate::shared::{Listener, Shared};

/// Between two tries to reach a keeper.
const RETRY: Duration = Duration::from_millis(200);
/// How often it looks whether the edge ends.
const LOOK: Duration = Duration::from_millis(500);

/// Stays connected until the edge ends. Without a keeper the edge goes on with what it has.
pub(crate) fn receive(shared: &Shared) {
    while !shared.closing.load(Ordering::Relaxed) {
        match follow(shared) {
            Ok(()) => {}
            // No keeper is the normal state of an edge that outlives one.
            Err(error) if is_absence(&error) => {}
            Err(error) => log::warn(format_args!("lost the keeper: {error}")),
        }
        std::thread::sleep(RETRY);
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn follow(shared: &Shared) -> io::Result<()> {
    let mut keeper = Packets::connect(&shared.home, LOOK)?;
    let offers = shared.listeners.borrow().clone();
    for (name, listener) in offers {
        let offer = Message::Offer { name, addr: listener.addr };
        keeper.send(&offer, Some(listener.socket.as_fd()))?;
    }
    keeper.send(&Message::Offered, None)?;
    while !shared.closing.load(Ordering::Relaxed) {
        match keeper.receive() {
            Ok(None) => return Ok(()),
            Ok(Some((Message::Listen { name, addr }, Some(socket)))) => {
                listen(shared, name, Listener { addr, socket: Arc::new(socket) });
            }
            Ok(Some((Message::Close { name }, _))) => {
                log::info(format_args!("no longer listens as {name}"));
                shared.listeners.send_modify(|it| drop(it.remove(&name)));
            }
            Ok(Some(_)) => log::warn(format_args!("the keeper said something unexpected")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn listen(shared: &Shared, name: String, listener: Listener) {
    let same = |known: &Listener| {
        let inode = |listener: &Listener| fstat(&listener.socket).map(|it| it.st_ino).ok();
        known.addr == listener.addr && inode(known) == inode(&listener)
    };
    if shared.listeners.borrow().get(&name).is_some_and(same) {
        return;
    }
    log::info(format_args!("listens as {name} on {}", listener.addr));
    shared.listeners.send_modify(|it| {
        // An edge that leaves has given all of them up.
        if !shared.closing.load(Ordering::Relaxed) {
            it.insert(name, listener);
        }
    });
}
