//! Listening sockets and who holds them.
//!
//! The keeper holds all of them ([`Holder`]), so that the kernel queues connections while no edge
//! runs. The edge gets copies and offers them back to a keeper that starts anew. Control says
//! which there should be ([`want`]). All three speak over one unix socket of packets, each a JSON
//! value, with at most one file descriptor.

mod held;
mod holder;
mod packet;
mod receiver;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use holder::Holder;
pub use packet::Errand;
use packet::{Message, Packets};
pub(crate) use receiver::receive;

/// Longest wait for the keeper. Binding takes microseconds; a keeper that adopts takes a second.
const WAIT: Duration = Duration::from_secs(3);

/// Where the holder keeps which listeners are wanted, below the home folder.
const LISTENERS: &str = "edge/listeners.json";
/// The lock that a running edge holds, below the home folder.
pub(crate) const EDGE_LOCK: &str = "run/edge.lock";

/// Makes the keeper hold exactly the listeners `wanted`, by name. The answer says for each where
/// it listens, or why it cannot.
pub fn want(
    home: &Path,
    wanted: &BTreeMap<String, SocketAddr>,
) -> io::Result<BTreeMap<String, Result<SocketAddr, String>>> {
    let mut keeper = Packets::connect(home, WAIT)?;
    keeper.send(&Message::Want(wanted.clone()), None)?;
    match keeper.receive()? {
        Some((Message::Have(have), _)) => Ok(have),
        Some(_) => Err(io::Error::other("the keeper answered another question")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Sends the keeper on an errand. The answer names the process that does it, or says why nobody
/// does. One that knows no errands hangs up, which is `UnexpectedEof`.
pub fn send(home: &Path, errand: Errand) -> io::Result<Result<u32, String>> {
    let mut keeper = Packets::connect(home, WAIT)?;
    keeper.send(&Message::Do(errand), None)?;
    match keeper.receive()? {
        Some((Message::Did(done), _)) => Ok(done),
        Some(_) => Err(io::Error::other("the keeper answered another question")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
