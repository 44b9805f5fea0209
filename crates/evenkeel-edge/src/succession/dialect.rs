//! What an heir and its elders say to one another at an elder's door: one line each way, on a
//! connection of its own.
//!
//! Small and stable, because the two are of different versions. A later version may add words;
//! those that are here keep their meaning. An edge that knows none of it answers something else,
//! and is replaced as edges were before.

use std::io;
use std::path::Path;

use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::world::{Fence, Health};
use rustix::net::sockopt::socket_peercred;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::elders::{Elder, Sums};
use crate::limits::MESSAGE_BYTES;
use crate::peer;
use crate::protocol::Observation;

/// The version spoken here.
pub(crate) const VERSION: u32 = 1;
/// What each line of it starts with, so that the door need not read a table twice.
pub(crate) const START: &[u8] = b"{\"heir\":";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// First, because of [`START`].
    pub(crate) heir: u32,
    pub(crate) ask: Ask,
}

/// What the heir says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Put what you serve on disk, and say what you see.
    Save,
    /// Leave your place to me.
    Leave,
    /// What do you hold and count?
    Look,
    /// Route what you hold by this table.
    Serve(Box<RoutingTable>),
    /// Would you send a request to this instance?
    RoutesTo(InstanceId),
    /// End as soon as any edge does that is told to end.
    End,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) heir: u32,
    pub(crate) answer: Answer,
}

/// What an elder answers. What it observes is its own alone, without that of its own elders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Saved(Box<Observation>),
    Left(Box<Bequest>),
    Seen(Box<Observation>),
    Serving(Fence),
    RoutesTo(bool),
    Ending,
    Refused { because: String },
}

/// What an edge leaves to its heir.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bequest {
    pub(crate) table: RoutingTable,
    pub(crate) own: Observation,
    pub(crate) opinions: Vec<Opinion>,
    /// Counted by edges that are gone.
    pub(crate) carried: Sums,
    pub(crate) elders: Vec<Elder>,
}

/// What was thought of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opinion {
    pub(crate) id: InstanceId,
    pub(crate) health: Health,
    pub(crate) age_ms: u64,
    pub(crate) once_healthy: bool,
    pub(crate) broke_off: bool,
}

/// Asks one thing at a door. That nobody is there any more is `NotFound` or `ConnectionRefused`;
/// one that does not know the words is `Unsupported`.
pub(crate) async fn ask(door: &Path, pid: Option<u32>, ask: Ask) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(door).await?;
    if !peer::is_trusted(&stream) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let other = pid.is_some_and(|pid| pid_behind(&stream) != Some(pid));
    if other {
        // A name of an earlier time, which somebody else has taken.
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut text = serde_json::to_vec(&Request { heir: VERSION, ask })?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let limit = u64::try_from(MESSAGE_BYTES).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    BufReader::new(stream).take(limit).read_until(b'\n', &mut line).await?;
    if !line.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if !line.starts_with(START) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let response: Response = serde_json::from_slice(&line)?;
    Ok(response.answer)
}

/// The process that opened the door.
pub(crate) fn pid_behind(stream: &UnixStream) -> Option<u32> {
    let peer = socket_peercred(stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}
