//! Datagrams by which edge and shims say that something changed.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::InstanceId;
use evenkeel_local::Local;

use crate::orders::Orders;

/// Longer than any datagram of ours: `shim` and the longest name of an instance.
const DATAGRAM_MAX: usize = 256;

/// Listens in a thread of its own, as long as the process lives.
pub(crate) fn listen(home: &Path, local: Arc<Local>, orders: Orders) -> io::Result<()> {
    let path = home.join(layout::WAKE_SOCKET);
    // Control's lock is held, so a socket that is there belongs to a process that is gone.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = UnixDatagram::bind(&path)?;
    std::thread::Builder::new().name("wake".to_owned()).spawn(move || {
        let mut buffer = [0; DATAGRAM_MAX];
        while let Ok(length) = socket.recv(&mut buffer) {
            if let Some(instance) = buffer.get(..length).and_then(instance_of) {
                local.dirty(&instance);
            }
            orders.changed();
        }
    })?;
    Ok(())
}

/// The instance that `shim web.r1.3` is about.
fn instance_of(datagram: &[u8]) -> Option<InstanceId> {
    let text = std::str::from_utf8(datagram).ok()?;
    text.trim().strip_prefix("shim ")?.parse().ok()
}
