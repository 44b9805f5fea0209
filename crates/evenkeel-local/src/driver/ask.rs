//! Orders to a shim.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::folder::Folder;
use crate::process::Ident;
use crate::protocol::{Order, Reply, Request, VERSION};

/// A shim answers at once, or is stuck and asked again later.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer that is read; a status has about a kilobyte.
const ANSWER_LENGTH_MAX: u64 = 64 * 1024;

/// Sends `order` to exactly the shim `shim` and returns what it says.
pub(crate) fn ask(folder: &Folder, shim: Ident, order: Order) -> io::Result<Reply> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Before connecting: that, too, waits when the shim does not accept.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(&folder.socket)?)?;
    let listener = sockopt::socket_peercred(&socket)?;
    if u32::try_from(listener.pid.as_raw_nonzero().get()).ok() != Some(shim.pid) {
        return Err(io::Error::other("somebody else listens on the shim's socket"));
    }
    let mut stream = UnixStream::from(socket);
    let mut line =
        serde_json::to_vec(&Request { version: VERSION, order }).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_LENGTH_MAX)).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}
